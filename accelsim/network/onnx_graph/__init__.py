"""Networks from ONNX files."""

from accelsim.network.onnx_graph.nodes import read

__all__ = ["read"]
