"""On what terms chips are compared: node, formats, size and memory of each, made equal where possible."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.chips import Technology
from accelsim.config import build, find, read_toml, shipped_names
from accelsim.costs import area_mm2
from accelsim.engines import Terms, engine_of
from accelsim.errors import InputError, collecting, did_you_mean, raise_if_any, warn
from accelsim.hardware import Hardware, load_hardware
from accelsim.memory.service import measure
from accelsim.number_formats import NUMBER_FORMATS
from accelsim.scaling import SCALING_SOURCE, energy_scale

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["at", "differences", "parse_at", "terms"]

TECHNOLOGIES = "hwconfigs/technology"


def terms(chips: Sequence[Hardware]) -> pd.DataFrame:
    """Return one row per chip: hardware, node_nm (empty: no technology), priced_by, and what it is.

    weights, activations, sums: number formats; stored: how weights are kept where that is another one; multipliers;
    clock_mhz; peak_gmac_per_s, dense; area_mm2 (empty: not known); sram_bytes; dram, the part, with dram_channels and
    dram_pins, how their energy is known.
    Raises InputError for what has no price.
    """
    import pandas as pd

    return pd.DataFrame([_row(chip, engine_of(chip).terms(chip)) for chip in chips])


def _row(chip: Hardware, own: Terms) -> dict[str, Any]:
    memory, technology, precision = chip.memory, chip.technology, engine_of(chip).precision(chip)
    weights, activations = (form.name if form else "unrounded" for form in (precision.weights, precision.activations))
    return {
        "hardware": chip.name,
        "node_nm": float("nan") if technology is None else float(technology.node_nm),
        "priced_by": own.basis if technology is None else technology.name,
        "weights": weights,
        "stored": "" if precision.code_bits is None else f"{precision.code_bits}-bit codes",
        "activations": activations,
        "sums": own.sums,
        "multipliers": own.multipliers,
        "sram_bytes": own.sram_bytes,
        "clock_mhz": chip.engine.clock_mhz,
        "peak_gmac_per_s": own.multipliers * chip.engine.clock_mhz / 1e3,
        "area_mm2": area_mm2(chip) or float("nan"),
        "dram": "none" if memory is None else memory.dram.name,
        "dram_pins": "-" if memory is None else measure(memory.dram).pins,
        "dram_channels": 0 if memory is None else memory.all_channels,
    }


def differences(chips: Sequence[Hardware]) -> list[str]:
    """Say in a line each in what chips differ that makes their energies hard to compare: node, number format."""
    nodes = {
        chip.name: engine_of(chip).terms(chip).basis if chip.technology is None else f"{chip.technology.node_nm} nm"
        for chip in chips
    }
    formats = {chip.name: str(engine_of(chip).precision(chip)) for chip in chips}
    return [
        f"the chips differ in {what}: {'; '.join(f'{name}: {said}' for name, said in told.items())}"
        for what, told in (("node", nodes), ("number format", formats))
        if len(set(told.values())) > 1
    ]


def at(
    hardware: Sequence[Hardware | str | Path], node_nm: int | None = None, number_format: str | None = None
) -> list[Hardware]:
    """Return chips at one node, in one number format, or both: those that have a technology, and can compute in it.

    All get the shipped technology of the node; one between those that are shipped is made of the nearest, its
    registers scaled as arithmetic is. Keys that say how wide numbers are follow the format, and so does how much a
    layer needs of memories. A chip that cannot follow stays as it is, and a warning says why: a measured board, a
    format that it does not compute in, a clock that its memories cannot follow at the node.
    Raises InputError where no chip can, and for an unknown node or format.
    """
    chips = [load_hardware(chip) for chip in hardware]
    technology = None if node_nm is None else _technology(node_nm)
    if number_format is not None and number_format not in NUMBER_FORMATS:
        raise InputError(f"format: '{number_format}' is not known{did_you_mean(number_format, NUMBER_FORMATS)}")
    asked = " ".join(filter(None, (f"{node_nm}nm" if node_nm else "", number_format)))
    found, reasons = list[Hardware](), list[str]()
    for chip in chips:
        problems: list[str] = []
        with collecting(problems):
            found.append(_moved(chip, technology, number_format, asked))
        if problems:
            found.append(chip)
            reasons.append(f"{chip.name} cannot be put at {asked}: {'; '.join(problems)}")
    if len(reasons) == len(chips):
        raise InputError(*reasons)
    for reason in reasons:
        warn(f"{reason}; it stays as it is")
    return found


def _moved(chip: Hardware, technology: Technology | None, number_format: str | None, asked: str) -> Hardware:
    """Return one chip on other terms; raises InputError with the reason where it cannot be."""
    engine = engine_of(chip)
    if chip.technology is None:
        raise InputError(f"no technology prices it: {engine.terms(chip).basis}")
    changes: dict[str, Any] = {"name": f"{chip.name} @ {asked}"}
    if technology is not None:
        changes["technology"] = asdict(technology)
    if number_format is not None:
        changes |= engine.number_format(chip, number_format)
    moved = load_hardware(chip, changes)
    engine.prices(moved)  # memories that cannot follow the clock are told
    return moved


@lru_cache(maxsize=64)
def _technology(node_nm: int) -> Technology:
    """Return the shipped technology of a node, or the nearest one moved to it; raises InputError beyond the tables."""
    shipped = [build(Technology, read_toml(find(name, TECHNOLOGIES)), name) for name in shipped_names(TECHNOLOGIES)]
    nearest = min(shipped, key=lambda each: abs(each.node_nm - node_nm))
    if nearest.node_nm == node_nm:
        return nearest
    scale = energy_scale(nearest.node_nm, node_nm)
    return replace(
        nearest,
        name=f"cmos-{node_nm}nm",
        node_nm=node_nm,
        register_bit_pj=nearest.register_bit_pj * scale,
        source=f"{nearest.source}; {nearest.node_nm} to {node_nm} nm by {SCALING_SOURCE}",
    )


def parse_at(text: str) -> tuple[int | None, str | None]:
    """Return node in nm and number format of "node=28nm,format=int8", each None where it is not named.

    Raises InputError with every problem.
    """
    given: dict[str, str] = {}
    problems = list(_parts(text, given))
    node = re.fullmatch(r"([1-9][0-9]{0,3}) ?(nm)?", given["node"]) if "node" in given else None
    if "node" in given and node is None:
        problems.append(f"--at {text}: node must be a whole number of nm, as in node=28nm (got {given['node']!r})")
    raise_if_any(problems)
    return None if node is None else int(node[1]), given.get("format")


def _parts(text: str, given: dict[str, str]) -> Iterator[str]:
    """Read what is named into `given`, and say what is wrong with it."""
    for part in text.split(","):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not (equals and value) or name not in ("node", "format"):
            yield f"--at {text}: write node=28nm, format=int8, or both with a comma (got {part.strip()!r})"
        elif name in given:
            yield f"--at {text}: names {name} twice"
        given[name] = value
