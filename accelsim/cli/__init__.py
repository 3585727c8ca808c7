"""The command line: parse, call one function, print."""

from accelsim.cli import describing, pruning, reporting, simulating
from accelsim.cli.app import app, main

__all__ = ["app", "describing", "main", "pruning", "reporting", "simulating"]
