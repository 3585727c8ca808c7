"""The command line: parse, call one function, print."""

from accelsim.cli import describing, exploring, pruning, reporting, simulating
from accelsim.cli.app import app, main

__all__ = ["app", "describing", "exploring", "main", "pruning", "reporting", "simulating"]
