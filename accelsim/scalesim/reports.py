"""The reports of SCALE-Sim 3.0.0: the same files with the same columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from accelsim.errors import InputError
from accelsim.files import write_whole
from accelsim.scalesim.layers import Machine

MEMORIES = (("IFMAP", "Reads"), ("Filter", "Reads"), ("OFMAP", "Writes"))


def reports(rows: Sequence[dict[str, Any]], machine: Machine) -> dict[str, str]:
    """Return the text of each report by the name of its file; `rows` as in `simulate(..., detailed=True)`."""
    metadata = " Avg FILTER Metadata SRAM BW," if machine.sparse else ""
    access = "".join(
        f" {place} {name} Start Cycle, {place} {name} Stop Cycle, {place} {name} {what},"
        for place in ("SRAM", "DRAM")
        for name, what in MEMORIES
    )
    found = {
        "COMPUTE_REPORT.csv": [
            "LayerID, Total Cycles (incl. prefetch), Total Cycles, Stall Cycles, Overall Util %,"
            " Mapping Efficiency %, Compute Util %,"
        ],
        "BANDWIDTH_REPORT.csv": [
            f"LayerID, Avg IFMAP SRAM BW, Avg FILTER SRAM BW,{metadata} Avg OFMAP SRAM BW,"
            " Avg IFMAP DRAM BW, Avg FILTER DRAM BW, Avg OFMAP DRAM BW,"
        ],
        "DETAILED_ACCESS_REPORT.csv": [f"LayerID,{access}"],
    }
    if machine.sparse:
        found["SPARSE_REPORT.csv"] = [
            "LayerID, Sparsity Representation, Original Filter Storage, New Storage (Filter+Metadata),"
            " Filter Metadata Storage, Avg FILTER Metadata SRAM BW, "
        ]
    for number, row in enumerate(rows):
        lines = {
            "COMPUTE_REPORT.csv": _compute(row),
            "BANDWIDTH_REPORT.csv": _bandwidth(row, sparse=machine.sparse),
            "DETAILED_ACCESS_REPORT.csv": _access(row, as_float=machine.sparse and not machine.row_wise),
        }
        if machine.sparse:
            lines["SPARSE_REPORT.csv"] = [
                machine.representation, int(row["orig_storage"]), row["new_storage"], row["metadata"],
                row["metadata"] / row["total_cycles"],
            ]  # fmt: skip
        for name, values in lines.items():
            found[name].append(f"{number}, {', '.join(map(str, values))},")
    return {name: "\n".join(lines) + "\n" for name, lines in found.items()}


def write_reports(rows: Sequence[dict[str, Any]], machine: Machine, folder: Path) -> list[Path]:
    """Write all reports into a folder, which is made where it is missing; returns their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--reports {folder}: cannot be made: {error}") from None
    written = []
    for name, text in reports(rows, machine).items():
        write_whole(folder / name, partial(_write, text))
        written.append(folder / name)
    return written


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _compute(row: dict[str, Any]) -> list[Any]:
    names = "total_incl_prefetch", "total_cycles", "stall_cycles", "overall_util", "mapping_eff", "compute_util"
    return [row[name] for name in names]


def _bandwidth(row: dict[str, Any], *, sparse: bool) -> list[float]:
    on_chip = [row[f"sram_{each}_count"] / row["total_cycles"] for each in ("ifmap", "filter", "ofmap")]
    if sparse:
        on_chip.insert(2, row["metadata"] / row["total_cycles"])
    return on_chip + [
        row[f"dram_{each}_count"] / (row[f"dram_{each}_stop"] - row[f"dram_{each}_start"] + 1)
        for each in ("ifmap", "filter", "ofmap")
    ]


def _access(row: dict[str, Any], *, as_float: bool) -> list[Any]:
    found: list[Any] = []
    for place in ("sram", "dram"):
        for name, _ in MEMORIES:
            first, last, count = (row[f"{place}_{name.lower()}_{what}"] for what in ("start", "stop", "count"))
            of_ratio = as_float and place == "sram" and name == "IFMAP"
            found += [float(first), float(last), float(count) if of_ratio else count]
    return found
