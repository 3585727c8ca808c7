"""Files of SCALE-Sim on the command line: run and checked as they are."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.cli.app import app, collect, console, note, say_wrote
from accelsim.defaults import HONEST, SCALESIM
from accelsim.errors import InputError, raise_if_any
from accelsim.files import write_whole
from accelsim.report.files import check_outputs, write

if TYPE_CHECKING:
    import pandas as pd

    from accelsim.network import Network
    from accelsim.scalesim import Configuration, Shape

KINDS = "a topology (.csv) and a configuration (.cfg) of SCALE-Sim"


def run_files(
    topology: str, config: str, weights: Path | None, reports: Path | None, outputs: Mapping[str, Path],
    unused: Mapping[str, object], *, quiet: bool,
) -> None:  # fmt: skip
    """Run a topology on the machine of a configuration, print a table, and write tables and reports.

    Below it one line says what an honest machine of that size makes of it: of dense weights, or of those of a file.

    Raises InputError with everything that is wrong, options of other files among it.
    """
    from accelsim import scalesim
    from accelsim.network import with_weights
    from accelsim.scalesim.bridge import network_of

    problems = [
        f"{option}: is of no use with files of SCALE-Sim; leave it out" for option, value in unused.items() if value
    ]
    if not topology.endswith(".csv"):
        problems.append(f"{topology}: is not a .csv; {config} and --reports go with {KINDS}")
    if not config.endswith(".cfg"):
        problems.append(f"--hardware {config}: is not a .cfg; {topology} and --reports go with {KINDS}")
    raise_if_any(problems)
    read: Any = collect(problems, scalesim.read_config, config)
    gemm = collect(problems, scalesim.is_gemm, topology)
    layers: Any = None if gemm is None else collect(problems, lambda: scalesim.read_topology(topology, gemm=gemm))
    network: Any = None if layers is None else collect(problems, network_of, Path(topology).stem, layers)
    if network is not None and weights is not None:
        network = collect(problems, with_weights, network, weights)
    collect(problems, check_outputs, outputs)
    raise_if_any(dict.fromkeys(problems))

    note(_large(layers))
    import pandas as pd

    from accelsim.scalesim.model import DETAILS

    rows = scalesim.rows(layers, read.machine, detailed=reports is not None)
    table = pd.DataFrame(rows).drop(columns=list(DETAILS), errors="ignore")
    for kind, path in outputs.items():
        write(table, kind, path)
    written = [] if reports is None else scalesim.write_reports(rows, read.machine, reports)
    if not quiet:
        note([*read.unknown, *(parts_of_groups(layers) if read.machine.sparse else [])])
        _print_run(Path(topology).stem, table, read)
        _print_honest(network, layers, read, table["total_cycles"].tolist(), packs=weights is not None)
        say_wrote(*outputs.values(), *written)


def _large(layers: list[Shape]) -> list[str]:
    """Say of layers that take more than a GiB of memory how much: the addresses of their operands, as matrices."""
    sizes = {layer.name: 12 * (layer.m * layer.k + layer.k * layer.n + layer.m * layer.n) for layer in layers}
    return [f"layer {name} may take {size / 2**30:.1f} GiB of memory" for name, size in sizes.items() if size >= 2**30]


def parts_of_groups(layers: list[Shape]) -> list[str]:
    """Say which layers end in a part of a group N:M, and what the tool makes of it."""
    return [
        f"layer {layer.name}: {layer.k} reduction rows are not a multiple of {layer.kept[1]}: of the last "
        f"{layer.k % layer.kept[1]} the tool keeps {min(layer.kept[0], layer.k % layer.kept[1])}; an honest machine "
        "packs whole groups of channels only"
        for layer in layers
        if layer.k % layer.kept[1]
    ]


def _print_run(name: str, table: pd.DataFrame, read: Configuration) -> None:
    from accelsim.report.grid import Grid

    machine = read.machine
    grid = Grid(
        f"{name} on {read.name}: {machine.rows} x {machine.columns}, {machine.dataflow}, by the rules of "
        f"SCALE-Sim 3.0.0 ({machine.mode})"
    )
    totals = [table[key].sum() for key in COUNTED] if len(table) > 1 else []
    grid.add("layer", [*table["name"], *(["total"] if totals else [])], kind="name")
    for place, (key, heading) in enumerate(COUNTED.items()):
        total = [f"{totals[place]:,}"] if totals else []
        grid.add(heading, [*(f"{count:,}" for count in table[key]), *total], rank=place)
    shares = (f"{share:.1f} %" for share in table["overall_util"])
    grid.add("utilisation", [*shares, *([""] if totals else [])], rank=1)
    console().print(grid)


COUNTED = {
    "total_cycles": "cycles",
    "stall_cycles": "stalls",
    "dram_ifmap_count": "DRAM inputs",
    "dram_filter_count": "DRAM weights",
    "dram_ofmap_count": "DRAM outputs",
}
"""Columns of SCALE-Sim that the table shows, and what they are called there."""


def _print_honest(
    network: Network, layers: list[Shape], read: Configuration, theirs: Sequence[int], *, packs: bool
) -> None:
    """Print what a machine of the same size takes that counts as this package does, or why it cannot run this.

    `theirs`: the cycles of each layer as the tool has them; those of layers that do not fit are not compared with.
    """
    from accelsim.hardware import load_hardware
    from accelsim.report.units import ENERGY_PJ, SIZE_BITS, say
    from accelsim.results import supported
    from accelsim.scalesim.bridge import chip_keys
    from accelsim.simulation import simulate

    problems: list[str] = []
    keys = chip_keys(read, layers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chip: Any = collect(problems, load_hardware, keys.pop("base"), keys)
        table = None if chip is None else collect(problems, simulate, network, chip, 1.0)
    note(dict.fromkeys(str(item.message) for item in caught))
    if table is None:
        note(f"no honest machine beside it: {problem}" for problem in problems)
        return
    rows = supported(table)
    ran = table.index.isin(rows.index)
    cycles = int(rows["cycles"].sum())
    ratio = cycles / sum(each for each, counts in zip(theirs, ran, strict=True) if counts)
    moved = (say(8 * rows[f"dram_{way}_bytes"].sum(), SIZE_BITS) for way in ("read", "write"))
    what = f"{(rows['executed_as'] != 'dense').sum()} of {len(rows)} packed" if packs else "dense"
    if not ran.all():
        what += f", {(~ran).sum()} of {len(ran)} do not fit"
    energy = say(rows["energy_pj"].sum(), ENERGY_PJ)
    line = f"honest: {cycles:,} cycles ({ratio:.2f}x), DRAM {' + '.join(moved)}, {energy}, {what}"
    console().print(line, soft_wrap=True)
    if not packs:
        note(["honest weights are all ones: --weights net.safetensors puts real, pruned ones in their place"])


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A configuration file of SCALE-Sim (.cfg).", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file of the chip, a .toml.", show_default=False)],
    rules: Annotated[
        str, typer.Option(help=f"How the chip counts: {HONEST}, or {SCALESIM}, as the tool does, defects included.")
    ] = HONEST,
) -> None:
    """Make the file of a chip from a configuration of SCALE-Sim: the same array and memories, counted honestly."""
    from accelsim import scalesim
    from accelsim.hardware import load_hardware
    from accelsim.scalesim.bridge import chip_keys, toml_of

    read = scalesim.read_config(file)
    if output.suffix != ".toml":
        raise InputError(f"{output}: a chip is a .toml file; choose this ending")
    if rules not in (HONEST, SCALESIM):
        raise InputError(f"--rules {rules}: is neither {HONEST} nor {SCALESIM}; choose one of them")
    keys = chip_keys(read, rules=rules)
    load_hardware(keys.pop("base"), keys)  # tells what no chip can be, before anything is written
    text = toml_of(read, file.name, rules=rules)

    def put(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    write_whole(output, put)
    note(read.unknown)
    say_wrote(output)


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
            soft_wrap=True,
        )  # fmt: skip
        note(parts_of_groups(layers))
        return
    read = scalesim.read_config(path)
    machine = read.machine
    console().print(
        f"{path}: a valid configuration: {read.name}, {machine.rows} x {machine.columns}, {machine.dataflow}, "
        f"{machine.mode}",
        soft_wrap=True,
    )  # fmt: skip
    for key, what in read.became.items():
        console().print(f"  {key}: {what}", soft_wrap=True)
    note(read.unknown)
