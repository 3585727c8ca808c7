"""Commands on the memory beside a chip: dram."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from accelsim.cli.app import app, collect, console, reporting, say_wrote, write_all
from accelsim.cli.outputs import Tables, writes_table
from accelsim.cli.simulating import Backend
from accelsim.errors import InputError, did_you_mean, raise_if_any
from accelsim.report.files import check_outputs

if TYPE_CHECKING:
    from accelsim.memory import DramPart, Trace


@app.command("dram")
@writes_table
def dram_command(
    trace: Annotated[
        str,
        typer.Argument(
            help="A named trace, such as seq_read or rand_read64, or a file: a line `address R|W`, perhaps with a time "
            "in ns, or as Ramulator or DRAMsim3 reads it."
        ),
    ] = "seq_read",
    part: Annotated[str, typer.Option(help="The DRAM part: name of a shipped one, or a .toml file.")] = "ddr4-2400",
    load: Annotated[
        float | None,
        typer.Option(help="Requests arrive at this share of the peak bandwidth; by default one is always waiting."),
    ] = None,
    address_map: Annotated[
        str | None,
        typer.Option(
            help="Order of address fields, most significant first, of Ro Ba Bg Co Ra Ch; by default the part's own."
        ),
    ] = None,
    channels: Annotated[int | None, typer.Option(help="Channels, in place of the part's own number.")] = None,
    requests: Annotated[int, typer.Option(help="How many requests a named trace has.")] = 40_000,
    backend: Annotated[Backend, typer.Option(help="simpy is the slow specification.")] = Backend.COMPILED,
    *,
    tables: Tables,
) -> None:
    """Replay a trace through a DRAM part: bandwidth, latency, row hits, and power by component."""
    from accelsim.memory import load_part, replay
    from accelsim.report.dram import power_table, replay_row, replay_table, unfinished

    problems: list[str] = []
    dram: Any = collect(problems, load_part, part, {} if channels is None else {"geometry.channels": channels})
    collect(problems, check_outputs, tables.files)
    with reporting(2, quiet=False) as step:
        step("reading")
        asked: Any = None if dram is None else collect(problems, _requests, trace, requests, dram)
        if dram is not None and address_map is not None:
            collect(problems, dram.fields, address_map)
        if asked is not None and load is not None and asked.time_ns is not None:
            problems.append(f"--load {load:g}: {trace} says when each request arrives; leave the option out")
        raise_if_any(dict.fromkeys(problems))
        step("replaying")
        offered: float | Literal["saturated"] = "saturated" if load is None else load
        result = replay(
            dram, asked.block, asked.write, offered, address_map, time_ns=asked.time_ns, backend=backend.value
        )
    arrive = "at their times" if asked.time_ns is not None else "saturated" if load is None else f"{load:g} of peak"
    name = Path(trace).name
    given = {
        "trace": name,
        "channels": dram.geometry.channels,
        "address_map": address_map or dram.address_map,
        "load": arrive,
        "backend": backend.value,
    }
    if tables.files:
        import pandas as pd

        write_all(pd.DataFrame([replay_row(result, given)]), tables.files)
    out = console()
    out.print(replay_table(result, f"{name} on {dram.name}: {len(asked.block):,} requests, {arrive}"))
    if result.power_mw is not None:
        out.print(power_table(result))
    if left := unfinished(result):
        out.print(f"writes that still wait in buffers at the end, with the last read: {left:,}")
    say_wrote(*tables.files.values())


def _requests(name: str, requests: int, part: DramPart) -> Trace:
    """Return the requests of a named trace or of a file."""
    from accelsim.memory import Trace, read_trace, trace
    from accelsim.memory.traces import NAMED

    if name in NAMED:
        return Trace(*trace(name, requests), None)
    if not any(mark in name for mark in "./\\") and not os.path.isfile(name):
        raise InputError(f"'{name}': no trace of this name, and no such file{did_you_mean(name, NAMED)}")
    return read_trace(name, part)
