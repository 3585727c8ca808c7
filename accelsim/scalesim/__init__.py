"""SCALE-Sim 3.0.0: its files as they are, its exact numbers, its reports.

>>> from accelsim import scalesim
>>> table = scalesim.run([scalesim.Shape(name="g", m=16, n=16, k=16)], scalesim.Machine(rows=8, columns=8))
>>> int(table.loc[0, "total_cycles"])
151

Rules, and what an honest machine does otherwise: docs/systolic.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from accelsim.scalesim.files import Configuration, is_gemm, read_config, read_topology
from accelsim.scalesim.layers import Machine, Placed, Shape
from accelsim.scalesim.reports import write_reports

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Configuration",
    "Machine",
    "Placed",
    "Shape",
    "is_gemm",
    "read_config",
    "read_topology",
    "rows",
    "run",
    "write_reports",
]


def run(
    topology: str | Path | Sequence[Shape],
    config: str | Path | Machine,
    gemm: bool = False,
    *,
    backend: Literal["compiled", "simpy"] = "compiled",
) -> pd.DataFrame:
    """Return what the tool reports of each layer, one row per layer, in words and cycles; utilisations in per cent.

    topology: a file of the tool, of matrices where `gemm` says so, else of convolutions; or layers.
    config: a configuration file of the tool; or a machine. backend: "simpy" is the readable specification, slow.
    Columns: `name`; total_incl_prefetch, total_cycles, stall_cycles; overall_util, mapping_eff, compute_util;
    sram_{ifmap,filter,ofmap}_count and dram_*_count; dram_*_start, dram_ofmap_stop; of a sparse machine orig_storage,
    new_storage, metadata.
    Raises InputError with everything that is wrong with the files.
    """
    import pandas as pd

    layers = read_topology(topology, gemm=gemm) if isinstance(topology, str | Path) else topology
    machine = read_config(config).machine if isinstance(config, str | Path) else config
    return pd.DataFrame(rows(layers, machine, backend=backend))


def rows(
    layers: Sequence[Shape],
    machine: Machine,
    *,
    detailed: bool = False,
    backend: Literal["compiled", "simpy"] = "compiled",
) -> list[dict[str, Any]]:
    """Return the rows of `run`; `detailed`: with all that reports need. Layers of one shape are simulated once."""
    from accelsim.scalesim.model import simulate

    ran: dict[tuple[Any, ...], dict[str, Any]] = {}
    found = []
    for layer in layers:
        shape = layer.m, layer.n, layer.k, layer.kept, layer.image, layer.window, layer.stride
        if shape not in ran:
            ran[shape] = simulate(layer, machine, detailed=detailed, backend=backend)
        found.append({"name": layer.name, **ran[shape]})
    return found
