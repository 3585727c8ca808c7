"""Files of SCALE-Sim on the command line: run and checked as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.cli.app import collect, console, note, say_wrote
from accelsim.errors import raise_if_any
from accelsim.report.files import check_outputs, write

if TYPE_CHECKING:
    import pandas as pd

    from accelsim.scalesim import Configuration

KINDS = "a topology (.csv) and a configuration (.cfg) of SCALE-Sim"


def run_files(
    topology: str, config: str, reports: Path | None, tables: Mapping[str, Path | None], unused: Mapping[str, object],
    *, quiet: bool,
) -> None:  # fmt: skip
    """Run a topology on the machine of a configuration, print a table, and write tables and reports.

    Raises InputError with everything that is wrong, options of other files among it.
    """
    from accelsim import scalesim

    outputs = {kind: path for kind, path in tables.items() if path is not None}
    problems = [
        f"{option}: is of no use with files of SCALE-Sim; leave it out" for option, value in unused.items() if value
    ]
    if not topology.endswith(".csv"):
        problems.append(f"{topology}: is no .csv; --reports and a .cfg go with {KINDS}")
    if not config.endswith(".cfg"):
        problems.append(f"--hardware {config}: is no .cfg; --reports and a .csv topology go with {KINDS}")
    raise_if_any(problems)
    read: Any = collect(problems, scalesim.read_config, config)
    gemm = collect(problems, scalesim.is_gemm, topology)
    layers: Any = None if gemm is None else collect(problems, lambda: scalesim.read_topology(topology, gemm=gemm))
    collect(problems, check_outputs, outputs)
    raise_if_any(dict.fromkeys(problems))

    import pandas as pd

    rows = scalesim.rows(layers, read.machine, detailed=reports is not None)
    table = pd.DataFrame(rows).drop(columns=list(scalesim.DETAILS), errors="ignore")
    if not quiet:
        note(read.unknown)
        _print_run(Path(topology).stem, table, read)
    for kind, path in outputs.items():
        write(table, kind, path)
    written = [] if reports is None else scalesim.write_reports(rows, read.machine, reports)
    if not quiet:
        for path in [*outputs.values(), *written]:
            say_wrote(path)


def _print_run(name: str, table: pd.DataFrame, read: Configuration) -> None:
    from rich.table import Table
    from rich.text import Text

    machine = read.machine
    title = (
        f"{name} on {read.name}: {machine.rows} x {machine.columns}, {machine.dataflow}, as SCALE-Sim 3.0.0 "
        f"({machine.mode}) has it"
    )
    grid = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("layer")
    names = {
        "total_cycles": "cycles",
        "stall_cycles": "stalls",
        "dram_ifmap_count": "DRAM inputs",
        "dram_filter_count": "DRAM weights",
        "dram_ofmap_count": "DRAM outputs",
    }
    for heading in [*names.values(), "utilisation"]:
        grid.add_column(heading, justify="right")
    for row in table.to_dict("records"):
        grid.add_row(Text(row["name"]), *(f"{row[key]:,}" for key in names), f"{row['overall_util']:.1f} %")
    if len(table) > 1:
        grid.add_row(Text("total", style="bold"), *(f"{table[key].sum():,}" for key in names), "")
    console().print(grid)


def check_file(path: Path) -> None:
    """Check a configuration or a topology, and say what is in it; raises InputError with everything that is wrong."""
    from accelsim import scalesim

    if path.suffix == ".csv":
        gemm = scalesim.is_gemm(path)
        layers = scalesim.read_topology(path, gemm=gemm)
        what = "matrices" if gemm else "convolutions"
        macs = sum(layer.macs for layer in layers)
        console().print(
            f"{path}: a valid topology of {len(layers)} {what}, {macs:,} multiply-accumulates",
            markup=False, soft_wrap=True,
        )  # fmt: skip
        return
    read = scalesim.read_config(path)
    machine = read.machine
    console().print(
        f"{path}: a valid configuration: {read.name}, {machine.rows} x {machine.columns}, {machine.dataflow}, "
        f"{machine.mode}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    for key, what in read.became.items():
        console().print(f"  {key}: {what}", markup=False, soft_wrap=True)
    note(read.unknown)
