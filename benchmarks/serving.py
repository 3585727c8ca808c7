"""How far steps of whole models are from measured ones: `python -m benchmarks.serving [--images DIR]`.

Prints the tables that `python -m benchmarks.validation` puts into docs/silicon.md. Products are those of the engine, as
`accelsim.model_step` gives them; what the numbers of the software were fitted on has the measured products instead.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from accelsim.serving import load_serving, model_step
from accelsim.serving.software import Host
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


MLPERF = (21806.0, 28932.0)
"""Tokens/s of Llama-2-70B on 8 x H100 SXM, MLPerf Inference v4.0, Offline: dense (closed), 2:4 (open); both in FP8."""

MLPERF_CHIP, MLPERF_PROMPT, MLPERF_OUTPUT = "h200", 294, 294
"""Cores of an H100 SXM with more and faster memory; mean lengths of questions and answers there, from memory."""


def mlperf_table() -> str:
    """Return what 2:4 buys Llama-2-70B, measured and ours: prompts and their answers, as many at once in both."""
    lines = ["| | sequences at once | dense, tokens/s a chip | 2:4 | speed-up |", "|---|---|---|---|---|"]
    dense, pruned = (each / 8 for each in MLPERF)
    lines.append(f"| MLPerf v4.0, 8 x H100 SXM | not known | {dense:,.0f} | {pruned:,.0f} | {pruned / dense:.2f} |")
    for sequences in (64, 128, 256):
        found = [_tokens_per_s(pattern, sequences) for pattern in ("", "2:4")]
        lines.append(
            f"| ours, {MLPERF_CHIP}, hardware alone | {sequences} | {found[0]:,.0f} | {found[1]:,.0f} | "
            f"{found[1] / found[0]:.2f} |"
        )
    return "\n".join(lines)


def _tokens_per_s(pattern: str, sequences: int) -> float:
    asked = {"sequences": sequences, "prompt": MLPERF_PROMPT, "serving": "none"}
    model = ("llama-2-70b", MLPERF_CHIP, "fp8", pattern)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = model_step(*model, phase="prefill", **asked)["time_us"].iloc[0]
        each = model_step(*model, phase="decode", output=MLPERF_OUTPUT, **asked)["time_us"].iloc[0]
    return float(1e6 * sequences * MLPERF_OUTPUT / (first + MLPERF_OUTPUT * each))


def fitted_table() -> str:
    """Return the fitted numbers of the software's file."""
    software = load_serving("vllm")
    if software is None:
        raise TypeError("vllm")
    names = [field.name for field in fields(Host)]
    lines = [f"| board and host | {' | '.join(f'`{name}`' for name in names)} |", "|---|" + "---|" * len(names)]
    for chip, host in software.host.items():
        lines.append(f"| {chip} | {' | '.join(f'{getattr(host, name):g}' for name in names)} |")
    shared = {**vars(software.kernels), **vars(software.launching)}
    said = ", ".join(f"`{name}` {value:g}" for name, value in shared.items() if not name.startswith("_"))
    return "\n".join([*lines, "", f"Of all boards: {said}."])


def main() -> None:
    """Print the table, or draw the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--images", type=Path, help="draw the figures into this folder")
    options = parser.parse_args()
    if options.images is None:
        print(errors_table(), fitted_table(), mlperf_table(), sep="\n\n")
        return
    from benchmarks.serving_figures import draw

    for path in draw(options.images):
        print(path)


if __name__ == "__main__":
    main()
