"""A step of a language model for a terminal: its parts, dense beside pruned."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.table import Table

from accelsim.serving import PARTS
from accelsim.serving.answer import WORDS


def step_title(rows: pd.DataFrame) -> str:
    """Return what a step is of, and where."""
    first = rows.iloc[0]
    if first["phase"] == "prefill":
        what = f"{first['sequences']:,} prompts of {first['prompt']:,} tokens"
    else:
        what = f"a token of {first['sequences']:,} sequences, {first['output']:,} behind {first['prompt']:,}"
    served = "the hardware alone" if first["serving"] == "none" else first["serving"]
    return f"{first['model']} on {first['hardware']}, {first['dtype']}, {served}: {what}"


def step_table(rows: pd.DataFrame) -> Table:
    """Return the parts of a step, a column of milliseconds and one of shares for each row of `model_step`."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))

    grid.add_column("part")
    for _, row in rows.iterrows():
        grid.add_column(f"{row['pattern']}\nms", justify="right")
        grid.add_column("\nshare", justify="right")
    for part in PARTS:
        cells = [
            cell
            for _, row in rows.iterrows()
            for cell in (f"{row[part] / 1000:,.3f}", f"{row[part] / row['time_us']:.0%}")
        ]
        grid.add_row(WORDS[part], *cells)
    grid.add_section()
    grid.add_row("a step", *(cell for _, row in rows.iterrows() for cell in (f"{row['time_us'] / 1000:,.3f}", "")))
    grid.add_row("tokens per s", *(cell for _, row in rows.iterrows() for cell in (f"{row['tokens_per_s']:,.0f}", "")))
    return grid


def boards_table(rows: pd.DataFrame) -> Table:
    """Return one line for each board, the fastest first: tokens per second, and what pruning buys."""
    patterns = list(dict.fromkeys(rows["pattern"]))
    found = rows.pivot_table(index="hardware", columns="pattern", values="tokens_per_s", sort=False)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column("board")
    for pattern in patterns:
        grid.add_column(f"{pattern}\ntokens per s", justify="right")
    if len(patterns) == 2:
        grid.add_column("faster", justify="right")
    best = found.max(axis=1).sort_values(ascending=False, kind="stable").index
    for board in best:
        own = [found.loc[board, pattern] for pattern in patterns]
        gain = [f"{own[1] / own[0]:.2f} x"] if len(patterns) == 2 else []
        grid.add_row(str(board), *(f"{each:,.0f}" for each in own), *gain)
    return grid
