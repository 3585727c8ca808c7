"""How far steps of whole models are from measured ones: `python -m benchmarks.serving [--images DIR]`.

Prints the tables that `python -m benchmarks.validation` puts into docs/silicon.md. Products are those of the engine, as
`accelsim.model_step` gives them; what the numbers of the software were fitted on has the measured products instead.
"""

from __future__ import annotations

import argparse
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from accelsim.serving import model_step
from benchmarks.serving_runs import MODEL, measured_runs

ASKED_PCT = {"prefill": (8, 20), "decode": (15, 30), "speed-up": (6, 16)}
"""Errors that were asked for: median and 90th percentile; of other models a quarter more."""

KEYS = ["chip", "dtype", "phase", "tokens", "sequences"]


@cache
def steps() -> pd.DataFrame:
    """Return every measured run that counts, with the step that the model gives: time_us beside measured_us."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats that a chip's file has not fitted
        for run in measured_runs():
            if run.left_out:
                continue
            asked = vars(run.asked)
            row = model_step(MODEL, run.chip, run.dtype, run.pattern, **asked).iloc[0].to_dict()
            rows.append({**row, "chip": run.chip, "tokens": run.tokens, "measured_us": run.time_us})
    return pd.DataFrame(rows)


def errors_pct() -> pd.DataFrame:
    """Return relative errors in per cent: a row for each dense or pruned step, and one for each speed-up of two."""
    found = steps()
    each = found.assign(error_pct=100 * (found["time_us"] / found["measured_us"] - 1), what=found["phase"])
    return pd.concat([each[[*KEYS, "what", "pattern", "error_pct"]], speed_ups()], ignore_index=True)


def speed_ups() -> pd.DataFrame:
    """Return dense over 2:4, ours and measured, where both were measured."""
    found = steps().pivot_table(index=KEYS, columns="pattern", values=["time_us", "measured_us"]).dropna()
    ours, theirs = (found[name]["dense"] / found[name]["2:4"] for name in ("time_us", "measured_us"))
    made = pd.DataFrame({"speed_up": ours, "measured": theirs, "error_pct": 100 * (ours / theirs - 1)}).reset_index()
    return made.assign(what="speed-up", pattern="2:4")


def _cell(errors: pd.Series) -> str:
    if not errors.size:
        return "-"
    return f"{np.median(abs(errors)):.1f} %, {np.percentile(abs(errors), 90):.1f} %"


def errors_table() -> str:
    """Return errors of each board, format and stage: median and 90th percentile."""
    found = errors_pct()
    lines = [
        "| board | format | stage | runs | dense | 2:4 | speed-up by 2:4 |",
        "|---|---|---|---|---|---|---|",
    ]
    for (chip, dtype, phase), own in found.groupby(["chip", "dtype", "phase"], sort=False):
        lines.append(f"| {chip} | {dtype} | {phase} | {_count(own)} | {_cells(own)} |")
    for phase in ("prefill", "decode"):
        own = found[found["phase"] == phase]
        lines.append(f"| all | all | {phase} | {_count(own)} | {_cells(own)} |")
    gains = found[found["what"] == "speed-up"]["error_pct"]
    lines.append(f"| all | all | both | {_count(found)} | | | {_cell(gains)} |")
    asked = {what: f"{median} %, {most} %" for what, (median, most) in ASKED_PCT.items()}
    lines.append(f"| asked | | | | prefill {asked['prefill']}; decode {asked['decode']} | | {asked['speed-up']} |")
    return "\n".join(lines)


def _count(own: pd.DataFrame) -> int:
    return int((own["what"] != "speed-up").sum())


def _cells(own: pd.DataFrame) -> str:
    each = own[own["what"] != "speed-up"]
    parts = [each[each["pattern"] == pattern]["error_pct"] for pattern in ("dense", "2:4")]
    parts.append(own[own["what"] == "speed-up"]["error_pct"])
    return " | ".join(_cell(part) for part in parts)


def main() -> None:
    """Print the table, or draw the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--images", type=Path, help="draw the figures into this folder")
    options = parser.parse_args()
    if options.images is None:
        print(errors_table())
        return
    from benchmarks.serving_figures import draw

    for path in draw(options.images):
        print(path)


if __name__ == "__main__":
    main()
