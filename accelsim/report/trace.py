"""Timelines as files in the trace event format, which Perfetto and chrome://tracing open.

Viewers count microseconds: a cycle is one, so that no time is rounded. Units are threads with complete events, of
processes that group them; queues are counters. What the timeline is of stands in `otherData`.
Source: "Trace Event Format" (Duffy and others, Google, 2016 and later).
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim import __version__
from accelsim.config import existing_file
from accelsim.engines.events import MOST_EVENTS, NONE, OCCUPANCY
from accelsim.errors import InputError, raise_if_any, reason_of
from accelsim.files import write_whole
from accelsim.report.palette import EVENTS
from accelsim.timeline import KINDS, Timeline, kind_of, unit_order

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "accelsim timeline 2"
SUFFIXES = (".json", ".json.gz")
MOST_BYTES = 160 * MOST_EVENTS
MOST_TABLES = 2 * MOST_EVENTS + 2**17
"""Of a trace: an event is one, and what it holds another; names and the window are few."""
MUCH_BYTES, MOST_GROWTH = 2**24, 200
"""What a packed trace may have when it is unpacked, and how many times its own size; one that is whole has a tenth."""
MOST_PROBLEMS = 10

PROCESSES = {kind.name: kind.heading for kind in KINDS}
"""Under which heading a kind of unit is shown, in this order."""

VALUES = {kind.name: kind.value for kind in KINDS}
"""What the value of an event is called, by the kind of its unit."""

LEVELS = {kind.name for kind in KINDS if kind.level}
"""Kinds of units that are counters."""

COLOURS = {name: event.colour for name, event in EVENTS.items() if event.colour}
"""Reserved names of chrome://tracing, near the colours of the figures; Perfetto chooses its own."""

FIELDS: dict[str, tuple[type, ...]] = {
    "network": (str,),
    "layer": (str,),
    "hardware": (str,),
    "clock_mhz": (float, int),
    "cycles": (int,),
    "first_cycle": (int,),
    "last_cycle": (int,),
}


def write_trace(timeline: Timeline, path: str | Path) -> None:
    """Write a timeline to a .json or .json.gz file, whole or not at all.

    Raises InputError for another ending and where the file cannot be written.
    """
    path = Path(path)
    check_suffix(path)

    def write(target: Path) -> None:
        if path.suffix == ".gz":
            # No time stamp and no name: the same timeline gives the same bytes.
            with target.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                for line in _lines(timeline):
                    packed.write(line.encode())
        else:
            with target.open("w", encoding="utf-8") as text:
                text.writelines(_lines(timeline))

    write_whole(path, write)


def check_suffix(path: Path) -> None:
    """Raise InputError for a file that is not called as a trace."""
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"{path}: a trace is a .json or .json.gz file; choose one of these endings")


def _lines(timeline: Timeline) -> Iterator[str]:
    """Yield the text of a trace, an event a line."""
    about: dict[str, Any] = {
        "format": FORMAT,
        "accelsim": __version__,
        **{name: getattr(timeline, name) for name in FIELDS},
        "time": "1 us in this trace is 1 clock cycle",
    }
    yield f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(about)}, "traceEvents": [\n'
    events = timeline.events
    units = list(dict.fromkeys(events["unit"]))
    headings = list(dict.fromkeys([*PROCESSES.values(), *map(_heading, units)]))
    places = {unit: (headings.index(_heading(unit)) + 1, number + 1) for number, unit in enumerate(units)}
    yield ",\n".join(_metadata(timeline, headings, places))
    prefixes: dict[tuple[str, str], tuple[str, str]] = {}
    for unit, event, start, cycles, value in zip(*(events[name].tolist() for name in events.columns), strict=True):
        if (unit, event) not in prefixes:
            prefixes[unit, event] = ",\n" + _prefix(unit, event, *places[unit]), value_word(unit)
        prefix, word = prefixes[unit, event]
        if event == OCCUPANCY:
            yield f'{prefix}, "ts": {start}, "args": {{"{word}": {value}}}}}'
        elif value == NONE:
            yield f'{prefix}, "ts": {start}, "dur": {cycles}}}'
        else:
            yield f'{prefix}, "ts": {start}, "dur": {cycles}, "args": {{"{word}": {value}}}}}'
    yield "\n]}\n"


def value_word(unit: str) -> str:
    """Return what the value of a unit's events is called in a trace: a column, a tile, slots."""
    return VALUES.get(kind_of(unit), "value")


def _heading(unit: str) -> str:
    return PROCESSES.get(kind_of(unit), "other units")


def _metadata(timeline: Timeline, headings: list[str], places: dict[str, tuple[int, int]]) -> Iterator[str]:
    """Yield the names of processes and threads, and the order that they are shown in."""
    used = {pid for pid, _ in places.values()}
    for pid, heading in enumerate(headings, 1):
        if pid in used:
            name = f"{heading}: {timeline.layer} on {timeline.hardware} (1 us = 1 cycle)"
            yield _of(pid, 0, "process_name", "name", name)
            yield _of(pid, 0, "process_sort_index", "sort_index", pid)
    for unit, (pid, tid) in places.items():
        if kind_of(unit) not in LEVELS:
            yield _of(pid, tid, "thread_name", "name", unit)
            yield _of(pid, tid, "thread_sort_index", "sort_index", tid)


def _of(pid: int, tid: int, what: str, key: str, value: str | int) -> str:
    return json.dumps({"ph": "M", "pid": pid, "tid": tid, "name": what, "args": {key: value}})


def _prefix(unit: str, event: str, pid: int, tid: int) -> str:
    """Return the beginning of all events of a kind."""
    if event == OCCUPANCY:
        return f'{{"ph": "C", "pid": {pid}, "name": {json.dumps(unit)}'
    colour = f', "cname": "{COLOURS[event]}"' if event in COLOURS else ""
    named = f'"name": {json.dumps(event)}, "cat": {json.dumps(kind_of(unit))}'
    return f'{{"ph": "X", "pid": {pid}, "tid": {tid}, {named}{colour}'


def read_trace(path: str | Path) -> Timeline:
    """Read what `write_trace` wrote.

    Raises InputError, naming places, for any other file.
    """
    path = Path(path)
    data = _parse(path)
    about = data.get("otherData") if isinstance(data, dict) else None
    rows = data.get("traceEvents") if isinstance(data, dict) else None
    if not isinstance(about, dict) or about.get("format") != FORMAT or not isinstance(rows, list):
        raise InputError(
            f"{path}: is not a timeline of accelsim: otherData.format is not {FORMAT!r}; write it with accelsim "
            "timeline"
        )
    problems = [
        f"{path}: otherData.{name}: must be {'text' if types == (str,) else 'a number'} (got {about.get(name)!r:.40})"
        for name, types in FIELDS.items()
        if type(about.get(name)) not in types
    ]
    raise_if_any(problems)
    first, last, cycles = about["first_cycle"], about["last_cycle"], about["cycles"]
    if not 0 <= first < last <= cycles < 2**62 or not 0 < about["clock_mhz"] < 1e9:
        raise InputError(
            f"{path}: otherData: the window {first} to {last} does not lie in a run of {cycles} cycles at "
            f"{about['clock_mhz']} MHz; write the trace again"
        )
    return Timeline(**{name: about[name] for name in FIELDS}, events=_frame(path, rows, first, last))


def _parse(path: Path) -> Any:
    """Return the JSON of a file, an event of the trace as the tuple that `_slim` makes of it."""
    existing_file(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        most = min(MOST_BYTES, max(MUCH_BYTES, MOST_GROWTH * path.stat().st_size)) if packed else MOST_BYTES
        with gzip.open(path) if packed else path.open("rb") as file:
            text = file.read(most + 1)
        if len(text) > most:
            raise InputError(f"{path}: has more than {most:,} bytes, more than any trace; write a shorter window")
        if text.count(b"{") + text.count(b"[") > MOST_TABLES:
            raise InputError(f"{path}: has more than {MOST_EVENTS:,} events; write a shorter window")
        return json.loads(text, object_hook=_slim)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError, EOFError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not JSON: {reason_of(error)}; write it with accelsim timeline") from None


class _Event(tuple[Any, ...]):
    """An event of a trace, as it is found: ph, pid, tid, name, ts, dur, args."""

    __slots__ = ()


def _slim(table: dict[str, Any]) -> Any:
    if "ph" not in table:
        return table
    return _Event(map(table.get, ("ph", "pid", "tid", "name", "ts", "dur", "args")))


def _frame(path: Path, rows: list[Any], first: int, last: int) -> pd.DataFrame:
    """Return the events of a trace as a table; a counter holds its value until the next."""
    import pandas as pd

    problems: list[str] = []
    units: dict[tuple[int, int], str] = {}
    found: list[tuple[str, str, int, int, int]] = []
    counters: dict[str, int] = {}
    """Where in `found` the last value of each stands."""

    def close(place: int, until: int) -> None:
        unit, event, start, _, value = found[place]
        found[place] = (unit, event, start, until - start, value)

    for number, row in enumerate(rows):
        wrong = _problem(row, units, first, last)
        if wrong:
            problems.append(f"{path}: traceEvents[{number}]: {wrong}")
            if len(problems) == MOST_PROBLEMS:
                break
            continue
        ph, pid, tid, name, start, cycles, given = row
        if ph == "M":
            if name == "thread_name":
                units[pid, tid] = given["name"]
        elif ph == "X":
            found.append(
                (units[pid, tid], name, start, cycles, NONE if given is None else given[value_word(units[pid, tid])])
            )
        else:
            if name in counters:
                close(counters[name], start)
            counters[name] = len(found)
            found.append((name, OCCUPANCY, start, 0, given[value_word(name)]))
    for place in counters.values():
        close(place, last)
    problems += [f"{path}: {unit}: values out of order" for unit, _, _, cycles, _ in found if cycles <= 0][:1]
    raise_if_any(problems)
    columns = list(zip(*found, strict=True)) or [()] * 5
    texts = {name: np.array(values, object) for name, values in zip(("unit", "event"), columns, strict=False)}
    numbers = zip(("start_cycle", "cycles", "value"), columns[2:], strict=True)
    frame = pd.DataFrame(texts | {name: np.array(values, np.int64) for name, values in numbers})
    ranks = {unit: rank for rank, unit in enumerate(sorted(set(frame["unit"]), key=unit_order))}
    order = np.lexsort((frame["start_cycle"], frame["unit"].map(ranks).astype(np.int64)))
    return frame.iloc[order].reset_index(drop=True)


def _problem(row: Any, units: dict[tuple[int, int], str], first: int, last: int) -> str:
    """Say what is wrong with an event, or nothing."""
    if type(row) is not _Event:
        return "is not an event: it has no ph"
    ph, pid, tid, name, start, cycles, given = row
    if ph not in ("M", "X", "C"):
        return f"ph: must be M, X or C (got {ph!r:.40})"
    if not isinstance(name, str) or type(pid) is not int:
        return f"name: must be text and pid a whole number (got {name!r:.40} and {pid!r:.40})"
    if ph == "M":
        named = isinstance(given, dict) and isinstance(given.get("name"), str) and type(tid) is int
        return "" if named or name != "thread_name" else "args.name: must be the text of a unit, tid a whole number"
    if type(start) is not int or not first <= start < last:
        return f"ts: must be a whole number in the window, {first} to {last} (got {start!r:.40})"
    if ph == "X" and (type(cycles) is not int or not 0 < cycles <= last - start):
        return f"dur: must be a whole number that ends in the window (got {cycles!r:.40})"
    if ph == "X" and (type(tid) is not int or (pid, tid) not in units):
        return f"tid: no thread_name before it names pid {pid!r:.40}, tid {tid!r:.40}"
    if ph == "X" and given is None:
        return ""
    key = value_word(units[pid, tid] if ph == "X" else name)
    value = given.get(key) if isinstance(given, dict) else None
    if type(value) is not int or not 0 <= value < 2**62:
        return f"args.{key}: must be a whole number, 0 or more (got {value!r:.40})"
    return ""
