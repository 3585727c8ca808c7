"""Networks from ONNX files: weights and geometry, the graph around them, and what runs it."""

from __future__ import annotations

from pathlib import Path

from accelsim.errors import InputError, raise_if_any
from accelsim.network.network import Network
from accelsim.network.onnx_graph.between import graph_of
from accelsim.network.onnx_graph.forms import kind_of
from accelsim.network.onnx_graph.prepared import prepared
from accelsim.network.onnx_graph.runtime import OnnxExecutor
from accelsim.network.onnx_graph.walk import Walk
from accelsim.network.reading import Reading
from accelsim.network.writer import GRANULARITY_KEY, claimed, parent_of

NAMED_BY_EXPORTERS = ("", "main", "main_graph", "torch_jit", "torch-jit-export")
"""Names of graphs that say nothing: such a network is called as its file."""


def read(path: Path, reading: Reading) -> Network:
    """Return the layers of an ONNX file in its order: every product of a constant with activations.

    Which operations those are, and how each becomes layers, is a table in docs/files.md. Constants are folded first,
    and sizes follow from the file and from what `reading` says beside it. A layer is called as its weight, if that is
    called `layer.weight`, else as its node; weights are read when they are asked for, quantised ones as their integers
    without zero point. A vector that is added to a MatMul is its bias. Padding that differs between the sides is part
    of the input. Activations are not in the file. All other operations stand in `not_simulated`, those with constants
    of two or more dimensions or with multiply-accumulates by name.
    Raises InputError with every problem: a file that is damaged, sizes that are left open, weights that are not there.
    """
    ready = prepared(path, reading)
    walk = Walk(ready)
    raise_if_any(f"{path}: {problem}" for problem in dict.fromkeys(walk.problems))
    if not walk.layers:
        raise_if_any(f"{path}: {problem}" for problem in walk.open)
        kinds = ", ".join(dict.fromkeys(kind_of(node) for node in ready.nodes)) or "nothing"
        raise InputError(
            f"{path}: has no Conv, Gemm, MatMul, LSTM, GRU or RNN with constant weights, nor any of their kin "
            f"(it has {kinds})"
        )
    return Network(
        path.stem if ready.name in NAMED_BY_EXPORTERS else ready.name,
        claimed(walk.layers, ready.metadata.get(GRANULARITY_KEY, "")),
        source=path.name,
        provenance=parent_of(path, ready.metadata),
        not_simulated=[*walk.others, *ready.left_out],
        assumptions=[*ready.assumptions, *walk.assumptions],
        graph=graph_of(ready, walk.made, walk.taken),
        executor=OnnxExecutor.of(ready, walk, reading),
    )
