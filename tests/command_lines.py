"""A command line for every command of accelsim, and the files that they read: what is asked of all of them."""

from __future__ import annotations

from pathlib import Path

import typer
from test_scalesim import CFG

from accelsim.cli import app

CHIPS = "eie-64pe-45nm,edge-nm-16x16"
MATCHED = "eie-matched-45nm,nm-matched-45nm"

SPACE = """
name = "tiny"
hardware = "eie-64pe-45nm"
network = "lenet-300-100-digits"
objectives = ["energy_pj", "time_us"]
[vary]
"engine.fifo_depth" = [4, 8]
"engine.spmat_width_bits" = [32, 64]
"""

TABLES = [
    ("run", "--hardware", CHIPS),
    ("energy", "--layer", "fc1"),
    ("energy", "eie-64pe-45nm"),
    ("compare", "--hardware", MATCHED, "--granularity", "fine,nm:2:4", "--evaluate", "digits", "--criterion", "l2"),
    ("curve", "--sparsity", "0:0.9:0.3", "--granularity", "fine,nm:2:4", "-o", "curve.svg"),
    ("divisions", "--hardware", CHIPS),
    ("prune", "--sparsity", "0.5", "-o", "pruned.safetensors"),
    ("sensitivity", "--sparsity", "0.5,0.6,0.7,0.8,0.85,0.9,0.95,0.97"),
    ("allocate", "--budget", "energy_pj=70%", "--evaluate", "digits-train", "--steps", "2"),
    ("inspect", "squeezenet"),
    ("inspect", "squeezenet", "--graph"),
    ("check", "squeezenet"),
    ("list",),
    ("timeline", "--layer", "fc1", "--to", "100", "-o", "trace.json"),
    ("dram", "--requests", "400"),
    ("sweep", "space.toml", "--store", "tiny.db", "--jobs", "1"),
    ("pareto", "tiny.db"),
    ("knobs", "tiny.db"),
    ("search", "space.toml", "--trials", "2", "--jobs", "1", "--store", "search.db"),
    ("run", "llama3.2-1b", "--hardware", "h100-pcie,rtx4090", "--phase", "decode", "--batch", "64", "--prompt", "16"),
]
"""A command line for every command that makes a table; sweep goes before what reads its store."""

OTHERS = [
    ("report", "-o", "report.html"),
    ("plot", "results.csv", "energy", "-o", "energy.svg"),
    ("new", "chip", "-o", "new.toml"),
    ("convert", "scale.cfg", "-o", "converted.toml"),
    ("schema", "hardware"),
    ("run", "scale.csv", "--hardware", "scale.cfg", "--reports", "reports"),
]
"""A command line for every other command, and for what runs in a way of its own."""

FIRST = ("run", "--against", "none", "--csv", "results.csv", "-q")
"""Makes the results that others read."""


def commands() -> set[str]:
    """Return the names of all commands."""
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def write_inputs(folder: Path) -> None:
    """Write the files that command lines name, but for those that commands make."""
    (folder / "space.toml").write_text(SPACE, encoding="utf-8")
    (folder / "scale.cfg").write_text(CFG, encoding="utf-8")
    (folder / "scale.csv").write_text("Layer, M, N, K,\nfc, 4, 8, 16,\n", encoding="utf-8")
