"""A step of a language model for a terminal: its parts, dense beside pruned."""

from __future__ import annotations

import pandas as pd

from accelsim.report.grid import Grid
from accelsim.report.units import times
from accelsim.serving import PARTS
from accelsim.serving.answer import WORDS


def step_title(rows: pd.DataFrame) -> str:
    """Return what a step is of, and where."""
    first = rows.iloc[0]
    if first["phase"] == "prefill":
        what = f"{first['sequences']:,} prompts of {first['prompt']:,} tokens"
    else:
        what = f"one token for each of {first['sequences']:,} sequences"
        what += f", prompt {first['prompt']:,}, output {first['output']:,}"
    served = "the hardware alone" if first["serving"] == "none" else first["serving"]
    return f"{first['model']} on {first['hardware']}, {first['dtype']}, {served}: {what}"


def step_table(rows: pd.DataFrame) -> Grid:
    """Return the parts of a step, a column of milliseconds and one of shares for each row of `model_step`."""
    grid = Grid()
    grid.add("part", [*(WORDS[part] for part in PARTS), "a step", "tokens per s"], kind="name")
    for _, row in rows.iterrows():
        last = (f"{row['time_us'] / 1000:,.3f}", f"{row['tokens_per_s']:,.0f}")
        grid.add(f"{row['pattern']}\nms", [*(f"{row[part] / 1000:,.3f}" for part in PARTS), *last])
        grid.add("\nshare", [*(f"{100 * row[part] / row['time_us']:.0f} %" for part in PARTS), "", ""], rank=1)
    return grid


def boards_table(rows: pd.DataFrame) -> Grid:
    """Return one line for each board, the fastest first: tokens per second, and what pruning buys."""
    patterns = list(dict.fromkeys(rows["pattern"]))
    found = rows.pivot_table(index="hardware", columns="pattern", values="tokens_per_s", sort=False)
    found = found.loc[found.max(axis=1).sort_values(ascending=False, kind="stable").index]
    grid = Grid()
    grid.add("board", map(str, found.index), kind="name")
    for pattern in patterns:
        grid.add(f"{pattern}\ntokens per s", (f"{each:,.0f}" for each in found[pattern]))
    if len(patterns) == 2:
        grid.add("faster", map(times, found[patterns[1]] / found[patterns[0]]))
    return grid
