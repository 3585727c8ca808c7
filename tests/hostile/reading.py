"""What is asked of a file of a network."""

from __future__ import annotations

from random import Random

QUICKLY = ("check", "check", "check", "inspect")
SLOWLY = {
    "run": ["--against", "none"],
    "prune": ["--sparsity", "0.5"],
    "energy": [],
    "sensitivity": ["--sparsity", "0.5"],
    "allocate": ["--steps", "1"],
    "report": ["-o", "page.html", "--against", "none", "--hardware", "eie-64pe-45nm"],
    "curve": ["-o", "curve.svg", "--sparsity", "0.5", "--granularity", "fine", "--hardware", "eie-64pe-45nm"],
    "compare": ["--granularity", "fine"],
    "divisions": [],
    "timeline": ["--to", "100"],
    "plot": ["storage"],
}


def arguments(draw: Random, name: str) -> list[str]:
    """Return a command that reads the file of a network, mostly one that takes no time."""
    if draw.random() < 0.97:
        return [draw.choice(QUICKLY), name]
    command = draw.choice(list(SLOWLY))
    after = ["-o", f"pruned.{name.rpartition('.')[2]}"] if command == "prune" and draw.random() < 0.8 else []
    return [command, name, *SLOWLY[command], *after]
