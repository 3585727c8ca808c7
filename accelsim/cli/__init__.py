"""The command line: parse, call one function, print."""

from accelsim.cli.app import app, main, telling

with telling():  # commands name the columns of every machine, so a wing that cannot be loaded is found here
    from accelsim.cli import (
        describing,
        exploring,
        memory,
        plotting,
        pruning,
        reporting,
        scalesim_files,
        simulating,
        timing,
    )

__all__ = [
    "app",
    "describing",
    "exploring",
    "main",
    "memory",
    "plotting",
    "pruning",
    "reporting",
    "scalesim_files",
    "simulating",
    "timing",
]
