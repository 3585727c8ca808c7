"""The study of equal accuracy: `python -m benchmarks.equal_accuracy [--write]`.

Sweeps the shipped space of that name and prints what each pattern costs at best where it keeps 95 % accuracy; with
--write the table goes into docs/exploration.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd

import accelsim
from accelsim.defaults import AS_GIVEN
from accelsim.explore import totals
from benchmarks.documents import fill

LEAST = 0.95
"""Accuracy that a point has to reach."""

NETWORKS = {"lenet-300-100-digits-dense": "LeNet-300-100", "convnet-digits-dense": "convnet"}
CHIPS = {"eie-64pe-45nm": "EIE, {:.0f} PEs", "edge-nm-16x16": "tensor core, {:.0f}"}
PATTERNS = {AS_GIVEN: "as given", "nm:2:4": "2:4", "fine": "fine-grained", "channel": "channel"}


def measure(store: Path) -> pd.DataFrame:
    """Return all points with the size of their chip: PEs or multipliers."""
    points = totals(accelsim.sweep("equal-accuracy", store=store))
    return points.assign(size=points["engine.pes"].fillna(points["engine.fma_per_cycle.fp16"]))


def table(points: pd.DataFrame) -> str:
    """Return the rows of the study as Markdown: of each pattern the sparsity that needs least energy."""
    good = points[points["score"] >= LEAST].sort_values(["energy_pj", "time_us"], kind="stable")
    lines = [
        f"| network | chip | {' | '.join(PATTERNS.values())} |",
        "|---|---|" + "---|" * len(PATTERNS),
    ]
    for network, called in NETWORKS.items():
        before = called
        for chip, text in CHIPS.items():
            mine = (points["network"] == network) & (points["hardware"] == chip)
            for size in sorted(points["size"][mine].unique()):
                here = mine & (points["size"] == size)
                best = good[here[good.index]].drop_duplicates("granularity").set_index("granularity")
                reached = points[here].groupby("granularity")["score"].max()
                cells = [_cell(best, reached, pattern) for pattern in PATTERNS]
                lines.append(f"| {before} | {text.format(size)} | {' | '.join(cells)} |")
                before = ""
    return "\n".join(lines)


def _cell(best: pd.DataFrame, reached: pd.Series[float], pattern: str) -> str:
    """Return energy and time of a pattern, the least of its row in bold, and its sparsity; or why there are none."""
    if pattern not in best.index:
        return f"{reached[pattern]:.1%} accuracy".replace("%", " %")
    row = best.loc[pattern]
    if pattern != AS_GIVEN and row["energy_pj"] >= best.loc[AS_GIVEN, "energy_pj"]:
        return "no gain"
    energy, time = f"{row['energy_pj'] / 1e6:.3g} µJ", f"{row['time_us']:.3g} µs"
    if row["energy_pj"] == best["energy_pj"].min():
        energy = f"**{energy}**"
    if row["time_us"] == best["time_us"].min():
        time = f"**{time}**"
    share = f" ({row['sparsity']:.0%})".replace("%", " %") if pd.notna(row["sparsity"]) else ""
    return f"{energy}, {time}{share}"


def main() -> None:
    """Sweep, print, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.equal_accuracy", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/exploration.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = table(measure(Path(folder) / "equal-accuracy.db"))
    print(text)
    if options.write:
        fill({"equal-accuracy": text}, write=True)


if __name__ == "__main__":
    main()
