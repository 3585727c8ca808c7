"""The command line: parse, call one function, print."""

from accelsim.cli import describing, exploring, plotting, pruning, reporting, simulating
from accelsim.cli.app import app, main

__all__ = ["app", "describing", "exploring", "main", "plotting", "pruning", "reporting", "simulating"]
