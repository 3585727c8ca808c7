"""Networks from ONNX files: constants folded, all sizes fixed, every product with a constant a layer."""

from accelsim.network.onnx_graph.reader import read

__all__ = ["read"]
