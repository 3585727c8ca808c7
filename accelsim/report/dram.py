"""A replayed trace as tables, and as one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelsim.report.grid import Grid
from accelsim.report.units import number, percent

if TYPE_CHECKING:
    from accelsim.memory import DramReplay


def unfinished(result: DramReplay) -> int:
    """Return the writes that still wait in buffers at the end: a run ends with its last read."""
    counts = result.counts
    done = ("reads", "writes", "merged_writes", "merged_reads", "forwarded_reads")
    return counts["requests"] - sum(counts[name] for name in done)


def replay_table(result: DramReplay, title: str) -> Grid:
    """Return bandwidth, latency, row hits, energy and power of a replay, a line each."""
    counts = result.counts
    answered = counts["returned_reads"]
    clocks = f"{result.cycles:,} clocks"
    unknown = "the part has no sourced currents"
    lines = [
        ("bandwidth", f"{number(result.bandwidth_gb_per_s)} GB/s", f"{percent(result.bandwidth_fraction)} of peak"),
        ("latency", f"{number(result.mean_latency_ns)} ns" if answered else "-", f"mean of {answered:,} reads"),
        ("row hits", percent(result.row_hit_rate), f"of {counts['reads'] + counts['writes']:,} reads and writes"),
        ("time", f"{number(result.time_ns / 1e3)} µs", clocks),
        ("energy", _known(result.energy_pj_per_bit, "pJ/bit"), unknown if result.power_mw is None else "DRAM core"),
        ("power", _known(result.power_mw, "mW"), unknown if result.power_mw is None else "DRAM core, mean"),
    ]
    if result.energy_pj_per_bit is not None:
        pins = (result.energy_parts_pj_per_bit or {}).get("io")
        whole = None if pins is None else result.energy_pj_per_bit + pins
        said = "the part has no [io]" if pins is None else "as chips are charged"
        lines.append(("with pins", _known(whole, "pJ/bit"), said))
    grid = Grid(title)
    for cells, kind in zip(zip(*lines, strict=True), ("name", "number", "words"), strict=True):
        grid.add("", cells, kind=kind)  # type: ignore[arg-type]
    return grid


def power_table(result: DramReplay) -> Grid:
    """Return what each kind of command and of standby draws; the pins stand apart, and are not in shares."""
    powers, energies = result.power_parts_mw or {}, result.energy_parts_pj_per_bit or {}
    total = result.power_mw or 1.0
    lines = sorted(powers.items(), key=lambda item: (item[0] == "io", -item[1]))
    grid = Grid()
    grid.add("component", (_spelt(name) for name, _ in lines), kind="name")
    grid.add("mW", (number(mw) for _, mw in lines))
    grid.add("pJ/bit", (number(energies[name]) for name, _ in lines))
    grid.add("share", ("extra" if name == "io" else percent(mw / total) for name, mw in lines))
    return grid


def replay_row(result: DramReplay, given: dict[str, Any]) -> dict[str, Any]:
    """Return one row for CSV and JSON: what was asked for, the measures, each component, and the counts."""
    powers, energies = result.power_parts_mw or {}, result.energy_parts_pj_per_bit or {}
    return {
        **given,
        "part": result.part,
        "cycles": result.cycles,
        "time_ns": result.time_ns,
        "bandwidth_gb_per_s": result.bandwidth_gb_per_s,
        "bandwidth_fraction": result.bandwidth_fraction,
        "mean_latency_ns": result.mean_latency_ns,
        "row_hit_rate": result.row_hit_rate,
        "energy_pj_per_bit": result.energy_pj_per_bit,
        "power_mw": result.power_mw,
        **{f"energy_{name}_pj_per_bit": value for name, value in energies.items()},
        **{f"power_{name}_mw": value for name, value in powers.items()},
        **{f"count_{name}": count for name, count in result.counts.items()},
        "unfinished_writes": unfinished(result),
    }


def _known(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{number(value)} {unit}"


def _spelt(name: str) -> str:
    return "pins (io)" if name == "io" else name.replace("_", " ")
