"""The command line: parse, call one function, print."""

from accelsim.cli.stopping import at_once

with at_once():
    from accelsim.cli.app import app, main, telling

    with telling():  # commands name the columns of every machine, so a wing that cannot be loaded is found here
        from accelsim.cli import (
            describing,
            exploring,
            making,
            memory,
            plotting,
            pruning,
            reporting,
            scalesim_files,
            simulating,
            timing,
        )

IN_ORDER = (
    "run", "compare", "curve", "prune", "sensitivity", "allocate", "divisions", "energy", "timeline", "report", "plot",
    "sweep", "search", "pareto", "knobs", "dram", "inspect", "check", "list", "new", "convert", "schema",
)  # fmt: skip
"""Commands as one comes to need them: the order of the help."""

app.registered_commands.sort(key=lambda each: IN_ORDER.index(each.name or getattr(each.callback, "__name__", "")))

__all__ = [
    "app",
    "describing",
    "exploring",
    "main",
    "making",
    "memory",
    "plotting",
    "pruning",
    "reporting",
    "scalesim_files",
    "simulating",
    "timing",
]
