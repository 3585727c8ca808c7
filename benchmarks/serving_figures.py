"""The figures of docs/silicon.md: predicted against measured, where 2:4 begins to pay, and steps as stacks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from accelsim.errors import InputError
from accelsim.files import write_whole
from accelsim.hardware import load_hardware
from accelsim.network.decoder import load_model
from accelsim.report.plots.style import COLUMN_INCHES, GRANULARITY_COLOURS, GREY, save, styled
from accelsim.serving import PARTS, Request, load_serving, model_step
from accelsim.serving.answer import WORDS, Answer, answer
from benchmarks.serving import steps
from benchmarks.serving_runs import GPUS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = dict(zip(GPUS, GRANULARITY_COLOURS, strict=False))
"""Of boards."""

FORMATS = {"int8": "-", "fp8": "--"}
"""Line of a number format."""

PHASES = {
    "prefill": Request(phase="prefill", sequences=1, prompt=1024),
    "decode": Request(phase="decode", sequences=1, prompt=16, output=256),
}

CURVES = "llama3.2-3b-2to4"
STACK, STACK_DTYPE, STACK_ASKED = "llama3.2-1b", "int8", Request(phase="prefill", sequences=16, prompt=1024)


def draw(folder: Path) -> Iterator[Path]:
    """Draw every figure into a folder, and go through the files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {"silicon-measured": measured, "silicon-break-even": break_even, "silicon-stack": stacks}
    for name, figure in made.items():
        path = folder / f"{name}.svg"
        drawn = figure()
        write_whole(path, lambda target, drawn=drawn: save(drawn, target, "svg"))
        yield path


def _axes(columns: int, height: float) -> tuple[Figure, list[Axes]]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(2 * COLUMN_INCHES, height), layout="constrained", sharey=False)
    return figure, list(np.atleast_1d(axes))


def measured() -> Figure:
    """Every measured step of Llama3.2-1B, a point, colour by board; and the speed-ups."""
    rows = steps()
    with styled():
        figure, (times, gains) = _axes(2, 3.2)
        for chip, own in rows.groupby("chip", sort=False):
            for pattern, marker in (("dense", "o"), ("2:4", "^")):
                each = own[own["pattern"] == pattern]
                times.scatter(
                    each["measured_us"] / 1000, each["time_us"] / 1000, s=9, marker=marker, color=COLOURS[chip],
                    label=chip if pattern == "dense" else None, linewidths=0, alpha=0.8,
                )  # fmt: skip
        keys = ["chip", "dtype", "phase", "tokens", "sequences"]
        pairs = rows.pivot_table(index=keys, columns="pattern", values=["time_us", "measured_us"]).dropna()
        ratios = {name: pairs[name]["dense"] / pairs[name]["2:4"] for name in ("time_us", "measured_us")}
        for chip in COLOURS:
            if chip in pairs.index.get_level_values("chip"):
                theirs, ours = ratios["measured_us"].loc[chip], ratios["time_us"].loc[chip]
                gains.scatter(theirs, ours, s=9, color=COLOURS[chip], linewidths=0, alpha=0.8)
        for axes, what in ((times, "step, ms"), (gains, "speed-up by 2:4, whole step")):
            low = min(axes.get_xlim()[0], axes.get_ylim()[0])
            high = max(axes.get_xlim()[1], axes.get_ylim()[1])
            if axes is times:
                axes.set_xscale("log")
                axes.set_yscale("log")
                low, high = 2.5, 4000
                for axis in (axes.xaxis, axes.yaxis):
                    axis.set_major_formatter("{x:,.0f}")
            axes.plot([low, high], [low, high], color=GREY, linewidth=0.7, zorder=0)
            axes.set_xlim(low, high)
            axes.set_ylim(low, high)
            axes.set_xlabel(f"measured {what}")
            axes.set_ylabel(f"predicted {what}")
        times.set_title("time of a step (dense: circles, 2:4: triangles)")
        gains.set_title("what 2:4 buys")
        figure.suptitle("Steps of Llama3.2-1B on six boards: predicted against measured")
        times.legend(handletextpad=0.2)
    return figure


def curves() -> pd.DataFrame:
    """Return what 2:4 buys by tokens of a step, for each board, format and stage."""
    rows = []
    file, software = load_model(CURVES), load_serving("vllm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats that a chip's file has not fitted
        for chip in GPUS:
            for dtype in FORMATS:
                if (chip, dtype) == ("b200", "int8"):
                    continue  # no fast dense int8 there
                for phase, asked in PHASES.items():
                    try:
                        found: Answer = answer(file.language_model, load_hardware(chip), dtype, asked, software)
                    except InputError:  # a format that the board lacks
                        continue
                    pays = found.pays_from()
                    rows += [
                        {"chip": chip, "dtype": dtype, "phase": phase, **point._asdict(), "pays_from": pays}
                        for point in found.points()
                    ]
    return pd.DataFrame(rows)


def break_even() -> Figure:
    """Speed-up by 2:4 against tokens of a step for each board and format; a point where it begins to pay."""
    rows = curves()
    with styled():
        figure, both = _axes(2, 3.2)
        figure.suptitle("From how many tokens 2:4 pays (dots), by board and number format")
        for axes, phase in zip(both, PHASES, strict=True):
            for (chip, dtype), own in rows[rows["phase"] == phase].groupby(["chip", "dtype"], sort=False):
                axes.plot(
                    own["tokens"], own["speed_up"], FORMATS[dtype], color=COLOURS[chip], linewidth=1,
                    label=f"{chip}, {dtype}",
                )  # fmt: skip
                begins = own[own["tokens"] == own["pays_from"]]
                axes.scatter(begins["tokens"], begins["speed_up"], s=12, color=COLOURS[chip], zorder=3)
            axes.axhline(1, color=GREY, linewidth=0.7)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.set_xlabel("tokens of a step" if phase == "prefill" else "sequences")
            axes.set_title(phase)
        both[0].set_ylabel("speed-up by 2:4, whole step")
        figure.legend(*both[1].get_legend_handles_labels(), loc="outside lower center", ncols=6, handlelength=1.6)
    return figure


def stacks() -> Figure:
    """The step of one model on each board, dense beside 2:4, as stacks of its parts."""
    with styled(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure, (axes,) = _axes(1, 3.0)
        places, labels = [], []
        for i, chip in enumerate(GPUS):
            dtype = "fp8" if chip == "b200" else STACK_DTYPE
            for j, pattern in enumerate(("", "2:4")):
                row = model_step(STACK, chip, dtype, pattern, **vars(STACK_ASKED)).iloc[0]
                whole = model_step(STACK, chip, dtype, "", **vars(STACK_ASKED)).iloc[0]["time_us"]
                place, bottom = i + 0.38 * (j - 0.5), 0.0
                for part, colour in zip(PARTS, GRANULARITY_COLOURS, strict=False):
                    height = row[part] / whole
                    label = WORDS[part] if not i and not j else None
                    axes.bar(place, height, 0.34, bottom=bottom, color=colour, label=label)
                    bottom += height
                axes.text(place, bottom + 0.01, f"{row['time_us'] / 1000:.0f} ms", ha="center", fontsize=6.5)
            places.append(i)
            labels.append(f"{chip}\n{dtype}")
        axes.set_xticks(places, labels)
        axes.set_ylim(0, 1.35)
        axes.set_ylabel("step, dense = 1")
        axes.set_title("What a step consists of: dense on the left, 2:4 on the right")
        axes.legend(ncols=3, loc="upper right")
    return figure
