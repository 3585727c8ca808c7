"""What is asked of a file of a network."""

from __future__ import annotations

from random import Random

LOOKS = ("check", "check", "check", "inspect")
RUNS = {
    "run": ["--against", "none"],
    "energy": [],
    "divisions": [],
    "prune": ["--sparsity", "0.5"],
    "inspect": ["--graph"],
    "timeline": ["--to", "100"],
    "new": [],
}
"""Commands that do something, and do it in a tenth of a second where the network is small."""
SLOW = {
    "run": ["--hardware", "eie-64pe-45nm,edge-nm-16x16,systolic-32x32-ws", "--density", "0.5"],
    "sensitivity": ["--sparsity", "0.5"],
    "allocate": ["--steps", "1"],
    "report": ["-o", "page.html", "--against", "none", "--hardware", "eie-64pe-45nm"],
    "curve": ["-o", "curve.svg", "--sparsity", "0.5", "--granularity", "fine", "--hardware", "eie-64pe-45nm"],
    "compare": ["--granularity", "fine"],
    "plot": ["storage"],
}


def arguments(draw: Random, name: str) -> list[str]:
    """Return a command that reads the file of a network, mostly one that takes no time."""
    pick = draw.random()
    if pick < 0.87:
        return [draw.choice(LOOKS), name]
    commands = RUNS if pick < 0.99 else SLOW
    command = draw.choice(list(commands))
    if command == "new":
        return ["new", "network", "--base", name, "-o", "made.toml"]
    after = ["-o", f"pruned.{name.rpartition('.')[2]}"] if command == "prune" and draw.random() < 0.8 else []
    return [command, name, *commands[command], *after]
