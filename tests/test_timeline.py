"""Does the timeline say what the specification says, and does it add up to the table?"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from conftest import Run, at_most, eie_image
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import EieCase, StreamCase, dram_cases, stream_cases
from test_tensor_core_twins import rounds, schedules

import accelsim
from accelsim.engines import ENGINES, events
from accelsim.engines.eie import events as eie_events
from accelsim.engines.eie import twin
from accelsim.engines.events import EventLog
from accelsim.engines.streaming import Stream
from accelsim.engines.tensor_core import events as tensor_core_events
from accelsim.engines.tensor_core import specification as tensor_core
from accelsim.engines.tensor_core.plan import Schedule
from accelsim.errors import InputError
from accelsim.formats.counting import WeightMatrix
from accelsim.memory import dram, dram_fast
from accelsim.memory.dram_counts import COMMANDS, Offer, Record
from accelsim.network.synthetic import draw_weights
from accelsim.report import gantt, plots
from accelsim.report.trace import read_trace, write_trace
from accelsim.timeline import KINDS, Timeline, causes, timeline

SMALL = {"engine.pes": 4, "engine.registers_per_pe": 16}
STREAMED = SMALL | {
    "memory.dram": "lpddr3-1600", "memory.residency": "stream", "memory.timing": "exact", "engine.spmat_bytes": 512,
}  # fmt: skip


def chip(changes: dict[str, Any] | None = None, name: str = "eie-64pe-45nm") -> accelsim.Hardware:
    return accelsim.load_hardware(name, changes)


def small_layer(tokens: int = 1) -> accelsim.Layer:
    return accelsim.Layer.linear("fc", draw_weights(90, 130, 0.1, 0), np.ones(90), tokens=tokens)


def sums(frame: pd.DataFrame, unit: str) -> dict[str, int]:
    mine = frame[frame["unit"] == unit]
    return mine.groupby("event")["cycles"].sum().to_dict()


def cut(frame: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    """What of the events lies in a window."""
    start = frame["start_cycle"].clip(lower=first)
    cycles = (frame["start_cycle"] + frame["cycles"]).clip(upper=last) - start
    return frame.assign(start_cycle=start, cycles=cycles)[cycles > 0].reset_index(drop=True)


@st.composite
def windows(draw: st.DrawFn, cycles: int) -> tuple[int, int]:
    first = draw(st.integers(0, cycles - 1))
    return first, draw(st.integers(first + 1, cycles))


def eie_frame(backend: str, case: EieCase, stream: Stream | None, window: tuple[int, int]) -> pd.DataFrame:
    bias = np.ascontiguousarray(case.codes[:, -1]) if case.bias else None
    weights = WeightMatrix(np.ascontiguousarray(case.codes[:, :-1] if case.bias else case.codes), bias)
    image = eie_image(case.codes, case.config, bias=case.bias)
    log = EventLog(*window)
    eie_events.events(log, backend, case.config, image, weights, case.activations, stream)
    return log.frame(ENGINES["eie"].words.kinds)


@at_most(25)
@given(stream_cases(), st.booleans(), st.data())
def test_eie_does_what_its_specification_notes_and_what_the_table_counts(
    drawn: StreamCase, streamed: bool, data: st.DataObject
) -> None:
    """Drawn layers, chips, batches, slices and windows, fed from DRAM or not."""
    case, stream = drawn.case, drawn.stream if streamed else None
    image = eie_image(case.codes, case.config, bias=case.bias)
    counts = twin.run(case.config, image, case.activations, stream).counts
    everything = eie_frame("compiled", case, stream, (0, counts.cycles))
    pd.testing.assert_frame_equal(everything, eie_frame("simpy", case, stream, (0, counts.cycles)))
    window = data.draw(windows(counts.cycles))
    pd.testing.assert_frame_equal(eie_frame("compiled", case, stream, window), cut(everything, *window))

    work = padding = 0
    for k in range(case.config.pes):
        found = sums(everything, f"PE {k}")
        work, padding = work + found.get("real weights", 0), padding + found.get("padding", 0)
        assert found.pop("real weights", 0) + found.pop("padding", 0) == counts.busy_cycles[k]
        for cause, cycles in counts.stall_cycles.items():
            assert found.pop(cause.replace("_", " "), 0) == cycles[k]
        assert not found
    assert (work, padding) == (counts.macs, counts.padding_macs)
    pops = counts.actions["act_queue_pops"]
    assert sums(everything, "broadcast").get("broadcast", 0) * case.config.pes == pops
    assert sum(sums(everything, "scan").values()) == counts.cycles
    queues = everything[everything["event"] == "occupancy"]
    assert (queues.groupby("unit")["cycles"].sum() == counts.cycles).all()
    # A queue of B slots is full with B - 1, and a column is in it for a cycle at least.
    assert queues["value"].between(0, case.config.fifo_depth - 1).all()
    assert (queues["value"] * queues["cycles"]).sum() >= pops


@given(schedules(), rounds(), st.integers(2, 6), st.integers(0, 1000), st.integers(1, 3), st.data())
def test_tensor_cores_do_what_their_specification_notes(
    plan: Schedule, kinds: np.ndarray, stages: int, lost: int, runs: int, data: st.DataObject
) -> None:
    once, spent = tensor_core.run_schedule(plan, kinds, stages, lost)
    assume(once)
    window = data.draw(windows(runs * once))

    def frame(backend: str, first: int, last: int) -> pd.DataFrame:
        log = EventLog(first, last)
        named = tuple(map(tuple, kinds.tolist()))
        tensor_core_events.events(log, backend, plan, named, stages, lost, ("core 0", "core 7"), runs)
        return log.frame(ENGINES["tensor-core"].words.kinds)

    everything = frame("compiled", 0, runs * once)
    pd.testing.assert_frame_equal(everything, frame("simpy", 0, runs * once))
    pd.testing.assert_frame_equal(frame("compiled", *window), cut(everything, *window))
    for core, counted in (("core 0", spent.sum(axis=0)), ("core 7", spent[0])):
        found = sums(everything, core)
        assert sum(found.values()) == runs * once
        assert [found.get(cause, 0) for cause in tensor_core.CAUSES] == (runs * counted).tolist()
    stages_of = {unit: mine for unit, mine in everything.groupby("unit") if unit.startswith("stage")}
    for mine in stages_of.values():  # a server takes one step after another
        assert (mine["start_cycle"].to_numpy()[1:] >= (mine["start_cycle"] + mine["cycles"]).to_numpy()[:-1]).all()
    steps = runs * int((kinds[:, 0] * kinds[:, 1]).sum())
    assert sums(everything, "stage load").get("load", 0) == steps * plan.load
    assert sums(everything, "stage mma").get("mma", 0) == steps * plan.tensor


@pytest.mark.parametrize("name", ["a100-pcie", "edge-nm-16x16", "edge-skip-16x16"])
def test_two_cores_stand_for_all(name: str) -> None:
    """The busy one is core 0, in the last round others have no tile; their columns in the table are these sums."""
    layer = accelsim.Layer.linear("fc", draw_weights(700, 512, 1.0, 0), tokens=600)
    seen = timeline(layer, name, "fc", activations=1.0)
    table = accelsim.simulate(layer, name, 1.0)
    by_core = causes(seen.events)
    assert (by_core.sum(axis=1) == seen.cycles).all()
    assert seen.cycles == table["cycles"].iloc[0]
    cores = chip(name=name).engine.cores
    works = round(table["busy_cycles"].iloc[0] / by_core["arithmetic"].iloc[0], 6)
    assert works <= cores
    stalls = {event: table[f"stall_{event}_cycles"].iloc[0] for event in by_core if event != "arithmetic"}
    most, least = by_core.iloc[0], by_core.iloc[-1]
    for event, total in stalls.items():  # between all cores as the one and all as the other
        assert min(most[event], least[event]) * cores <= total <= max(most[event], least[event]) * cores


@pytest.mark.parametrize("backend", ["compiled", "simpy"])
def test_a_layer_from_weights_to_events(backend: Any) -> None:
    """Through networks and chips, with the requests to DRAM replayed; three tokens are three vectors."""
    layer = small_layer(tokens=3)
    seen = timeline(layer, chip(STREAMED), "fc", activations=0.6, backend=backend)
    table = accelsim.simulate(layer, chip(STREAMED), 0.6).iloc[0]
    assert seen.cycles == table["cycles"] == seen.last_cycle
    by_pe = causes(seen.events)
    assert len(by_pe) == 4
    names = {"real weights": "work_cycles", "padding": "padding_cycles"}
    for event in by_pe:
        assert by_pe[event].sum() == table[names.get(event, f"stall_{event.replace(' ', '_')}_cycles")]
    commands = seen.events[seen.events["unit"].str.startswith("DRAM")]
    assert (commands["event"] == "RD").sum() * 64 == table["dram_read_bytes"]
    loader = seen.events[seen.events["unit"] == "weight loader"]
    arrived = loader[loader["event"] == "transfer"]
    assert (arrived["value"].to_numpy() == np.arange(len(arrived))).all()
    assert (loader["start_cycle"].iloc[1:].to_numpy() >= (loader["start_cycle"] + loader["cycles"]).iloc[:-1]).all()


def test_both_backends_tell_the_same_of_a_network_and_a_window() -> None:
    seen = [
        timeline(small_layer(2), chip(STREAMED), "fc", 100, 600, 0.6, backend)  # type: ignore[arg-type]
        for backend in ("compiled", "simpy")
    ]
    pd.testing.assert_frame_equal(seen[0].events, seen[1].events)
    assert seen[0][:-1] == seen[1][:-1]
    ends = seen[0].events["start_cycle"] + seen[0].events["cycles"]
    assert (seen[0].events["start_cycle"].min(), ends.max()) == (100, 600)


def test_a_layer_keeps_the_activations_that_the_table_draws_for_it() -> None:
    """Layer n of a network draws with seed + n."""
    layers = [accelsim.Layer.linear(name, draw_weights(30, 40, 0.3, 0)) for name in "ab"]
    net = accelsim.Network("two", layers)
    table = accelsim.simulate(net, chip(SMALL), 0.5, seed=7)
    for number, name in enumerate("ab"):
        seen = timeline(net, chip(SMALL), name, activations=0.5, seed=7)
        assert seen.cycles == table["cycles"].iloc[number]
        assert causes(seen.events)["real weights"].sum() == table["work_cycles"].iloc[number]


@at_most(20)
@given(dram_cases())
def test_dram_notes_the_commands_that_it_counts(case: Any) -> None:
    fields = case.part.fields(case.address_map)
    given = (case.part, 0, fields, Offer(case.block, case.write))
    counts = dram_fast.run(*given)
    of_banks = [counts.activates, counts.precharges, counts.reads, counts.writes]
    commands = [np.full((sum(map(sum, of_banks)) + sum(counts.refreshes), 3), -1) for _ in range(2)]
    for run, found in zip((dram.run, dram_fast.run), commands, strict=True):
        run(*given, Record(commands=found))
    assert np.array_equal(*commands)
    clock, command, bank = commands[0].T
    assert (np.diff(clock) >= 0).all()
    for number, counted in enumerate(of_banks):
        assert np.bincount(bank[command == number], minlength=len(counted)).tolist() == list(counted)
    assert (command == COMMANDS.index("REF")).sum() == sum(counts.refreshes)


def test_service_timing_has_no_commands() -> None:
    seen = timeline(small_layer(), chip(STREAMED | {"memory.timing": "service"}), "fc", activations=0.6)
    units = set(seen.events["unit"])
    assert "weight loader" in units
    assert not any(unit.startswith("DRAM") for unit in units)


def test_events_are_sorted_as_a_person_would() -> None:
    log = EventLog(0, 10)
    for unit in ("queue 2", "PE 10", "PE 9", "scan", "DRAM channel 0 bank 3"):
        log.note(unit, "x", 0, 1)
        log.note(unit, "x", 1, 1)
    frame = log.frame(KINDS)
    assert frame["unit"].tolist() == ["scan", "DRAM channel 0 bank 3", "PE 9", "PE 10", "queue 2"]
    assert frame["cycles"].tolist() == [2] * 5  # what goes on is one event
    assert frame.dtypes.tolist()[2:] == [np.int64] * 3
    assert list(EventLog(0, 9).frame(KINDS).columns) == ["unit", "event", "start_cycle", "cycles", "value"]


def test_too_many_events_are_refused_with_a_window_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_EVENTS", 500)
    with pytest.raises(InputError, match=r"window: cycles 3 to \d+ hold more than 500 events; end it earlier") as error:
        timeline(small_layer(), chip(SMALL), "fc", 3, activations=0.6)
    fits = int(str(error.value).rpartition("=")[2])
    assert f"--to {fits}," in str(error.value)
    assert fits > 3
    assert len(timeline(small_layer(), chip(SMALL), "fc", 3, fits, 0.6).events) <= 500
    with pytest.raises(InputError, match="hold more than 500 events"):
        timeline(accelsim.Layer.linear("fc", np.ones((700, 5000)), tokens=600), "edge-nm-16x16", "fc", activations=1.0)


BAD = [
    ({"layer": "fd"}, "layer: network fc has no layer 'fd'"),
    ({"first_cycle": -1}, "first_cycle: must be a whole number, 0 or more (got -1)"),
    ({"first_cycle": 1.5}, "first_cycle: must be a whole number, 0 or more (got 1.5)"),
    ({"last_cycle": 0}, "last_cycle: must be a whole number, 1 or more (got 0)"),
    ({"first_cycle": 9, "last_cycle": 9}, "last_cycle: must be after first_cycle 9 (got 9)"),
    ({"first_cycle": 10**6}, "first_cycle: 1000000 is outside the run, which takes"),
    ({"backend": "fast"}, "backend: must be 'compiled' or 'simpy' (got 'fast')"),
    ({"activations": 2.0}, "density must be above 0 and at most 1 (got 2.0)"),
    ({"activations": {"fd": 0.5}}, "network fc has no layer 'fd'"),
    ({"hardware": "eie"}, "eie"),
    ({"hardware": STREAMED | {"engine.spmat_bytes": 2}}, "layer fc on eie-64pe-45nm: engine.spmat_bytes"),
]


@pytest.mark.parametrize(
    ("changes", "said"), BAD, ids=[said.partition(":")[0] + str(n) for n, (_, said) in enumerate(BAD)]
)
def test_bad_input_is_named(changes: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"layer": "fc", "activations": 0.5, "hardware": SMALL} | changes
    hardware = given.pop("hardware")
    with pytest.raises(InputError) as error:
        timeline(small_layer(), chip(hardware) if isinstance(hardware, dict) else hardware, **given)
    assert said in str(error.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InputError) as error:
        timeline(small_layer(), "eje-64pe-45nm", "fd", -1, backend="fast")  # type: ignore[arg-type]
    assert len(error.value.problems) == 4


def event_of(phase: str, needed: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the events of one phase: nothing but what the format knows of it."""
    properties = {"ph": {"const": phase}, "pid": COUNT, "name": TEXT, **needed}
    return {
        "type": "object", "properties": properties | optional, "required": [*properties], "additionalProperties": False,
    }  # fmt: skip


COUNT, TEXT = {"type": "integer", "minimum": 0}, {"type": "string", "minLength": 1}
NUMBERS = {"type": "object", "additionalProperties": COUNT, "minProperties": 1, "maxProperties": 1}
TRACE_EVENT_FORMAT = {
    "type": "object",
    "required": ["traceEvents"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "otherData": {"type": "object"},
        "traceEvents": {
            "type": "array",
            "items": {
                "oneOf": [
                    event_of("X", {"tid": COUNT, "cat": TEXT, "ts": COUNT, "dur": COUNT | {"minimum": 1}},
                             {"args": NUMBERS | {"propertyNames": {"not": {"const": "value"}}}, "cname": TEXT}),
                    event_of("C", {"ts": COUNT, "args": NUMBERS}, {}),
                    event_of("M", {"tid": COUNT, "args": {"type": "object"},
                                   "name": {"enum": ["process_name", "process_sort_index", "thread_name",
                                                     "thread_sort_index"]}}, {}),
                ]
            },
        },
    },
}  # fmt: skip
"""What viewers take, after "Trace Event Format" (Duffy and others, Google): complete events, counters and metadata.

Narrower in one place: a number that an event carries has a name of its own.
"""


@pytest.mark.parametrize("suffix", ["json", "json.gz"])
@pytest.mark.parametrize("of", ["eie", "tensor core", "systolic"])
def test_a_trace_is_what_viewers_take_and_reads_back(of: str, suffix: str, tmp_path: Path) -> None:
    hardware = {
        "eie": chip(STREAMED),
        "tensor core": chip(name="a100-pcie"),
        "systolic": chip(name="systolic-32x32-os"),
    }[of]
    layer = accelsim.Layer.linear('<script>"\u2028', small_layer().weight)
    seen = timeline(layer, hardware, layer.name, 5, 900, 0.6)
    path = tmp_path / f"trace.{suffix}"
    write_trace(seen, path)
    first = path.read_bytes()
    write_trace(seen, path)
    assert path.read_bytes() == first
    trace = json.loads(gzip.decompress(first) if suffix.endswith("gz") else first)
    assert trace["otherData"]["layer"] == layer.name
    jsonschema.validate(trace, TRACE_EVENT_FORMAT)
    words = {key for event in trace["traceEvents"] if event["ph"] == "X" for key in event.get("args", {})}
    assert words == {
        "eie": {"slice", "column", "tile", "command"}, "tensor core": {"round", "step"}, "systolic": {"pass"}
    }[of]  # fmt: skip
    named: dict[tuple[int, int], str] = {}
    counters = set()
    open_until: dict[tuple[int, int], int] = {}
    for event in trace["traceEvents"]:
        key = event["pid"], event.get("tid", 0)
        if event["ph"] == "M":
            if event["name"] == "thread_name":
                named[key] = event["args"]["name"]
            continue
        assert seen.first_cycle <= event["ts"] < seen.last_cycle
        if event["ph"] == "C":
            counters.add(event["name"])
            continue
        # Complete events of a thread may only nest; these follow each other.
        assert event["ts"] >= open_until.get(key, 0)
        open_until[key] = event["ts"] + event["dur"]
        assert key in named
    assert set(named.values()) | counters == set(seen.events["unit"])
    back = read_trace(path)
    pd.testing.assert_frame_equal(back.events, seen.events)
    assert back[:-1] == seen[:-1]


def test_an_empty_timeline_is_a_trace_too(tmp_path: Path) -> None:
    empty = Timeline("n", "l", "h", 800.0, 10, 0, 10, EventLog(0, 10).frame(KINDS))
    write_trace(empty, tmp_path / "t.json")
    assert len(read_trace(tmp_path / "t.json").events) == 0


def meta(pid: int = 1, tid: int = 1, name: str = "PE 0") -> dict[str, Any]:
    return {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}}


GOOD = {"ph": "X", "pid": 1, "tid": 1, "name": "scan", "cat": "PE", "ts": 0, "dur": 1}
ABOUT = {"format": "accelsim timeline 2", "network": "n", "layer": "l", "hardware": "h", "clock_mhz": 8.0, "cycles": 9,
         "first_cycle": 0, "last_cycle": 9}  # fmt: skip
HOSTILE: list[tuple[Any, str]] = [
    (b"", "is not JSON"),
    (b"\xff\xfe{", "is not JSON"),
    (b"[" * 100_000, "is not JSON"),
    (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
    (b"\x1f\x8b\x07garbage", "cannot be read"),
    (b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff\xff\xff", "is not JSON"),
    (gzip.compress(b"{}")[:-9], "is not JSON"),
    ([], "is not a timeline of accelsim"),
    ({"traceEvents": [GOOD]}, "is not a timeline of accelsim"),
    ({"otherData": ABOUT | {"format": "accelsim timeline 1"}, "traceEvents": []}, "is not a timeline of accelsim"),
    ({"otherData": {**ABOUT, "layer": 4}, "traceEvents": []}, "otherData.layer: must be text (got 4)"),
    ({"otherData": {**ABOUT, "cycles": True}, "traceEvents": []}, "otherData.cycles: must be a number (got True)"),
    ({"otherData": {**ABOUT, "last_cycle": 10}, "traceEvents": []}, "the window 0 to 10 does not lie in a run of 9"),
    ({"otherData": {**ABOUT, "clock_mhz": float("nan")}, "traceEvents": []}, "at nan MHz"),
    ([1], "traceEvents[0]: is not an event"),
    ([{"ph": []}], "traceEvents[0]: ph: must be M, X or C (got [])"),
    ([GOOD], "traceEvents[0]: tid: no thread_name"),
    ([meta(), GOOD | {"ts": 9}], "traceEvents[1]: ts: must be a whole number in the window, 0 to 9 (got 9)"),
    ([meta(), GOOD | {"ts": 0.5}], "ts: must be a whole number"),
    ([meta(), GOOD | {"dur": 0}], "dur: must be a whole number that ends in the window (got 0)"),
    ([meta(), GOOD | {"dur": 10**30}], "dur: must be a whole number that ends in the window"),
    ([meta(), GOOD | {"args": {"column": -5}}], "args.column: must be a whole number, 0 or more (got -5)"),
    ([meta(), GOOD | {"args": {"value": 5}}], "args.column: must be a whole number, 0 or more (got None)"),
    ([meta(), GOOD | {"args": [3]}], "args.column: must be a whole number"),
    ([meta(), GOOD | {"name": {}}], "name: must be text"),
    ([meta() | {"args": {"name": 7}}], "args.name: must be the text of a unit"),
    ([{"ph": "C", "pid": 1, "name": "queue 0", "ts": 0, "args": {}}], "args.slots: must be a whole number"),
    ([{"ph": "C", "pid": 1, "name": "queue 0", "ts": t, "args": {"slots": 1}} for t in (3, 2)], "out of order"),
]


@pytest.mark.parametrize(("content", "said"), HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_trace_is_refused(content: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    if isinstance(content, list) and content:
        content = {"otherData": ABOUT, "traceEvents": content}
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(InputError) as error:
        read_trace(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_a_packed_file_that_grows_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelsim.report.trace.MOST_BYTES", 1000)
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(b" " * 10**6))
    with pytest.raises(InputError, match="has more than 1,000 bytes"):
        read_trace(tmp_path / "t.json.gz")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("hardware", "changes", "kind"), [("eie-64pe-45nm", STREAMED, "svg"), ("a100-pcie", {}, "pdf")]
)
def test_a_timeline_is_drawn(hardware: str, changes: dict[str, Any], kind: str, tmp_path: Path) -> None:
    seen = timeline(small_layer(), chip(changes, hardware), "fc", 0, 400, 0.6)
    plots.save(gantt.figure(seen), tmp_path / "a", kind)
    plots.save(gantt.figure(seen), tmp_path / "b", kind)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert {gantt.part_of("PE 0", event).columns for event in causes(seen.events)} != {()}


def test_the_command_writes_a_trace_and_says_what_is_in_it(accelsim: Run, tmp_path: Path) -> None:
    trace, drawing = tmp_path / "t.json.gz", tmp_path / "t.svg"
    said = accelsim("timeline", "--layer", "fc2", "--from", "10", "--to", "60", "-o", trace, "--plot", drawing)
    assert said.code == 0
    seen = read_trace(trace)
    assert (seen.layer, seen.first_cycle, seen.last_cycle) == ("fc2", 10, 60)
    by_pe = causes(seen.events)
    assert by_pe.to_numpy().sum() == 64 * 50
    share = 100 * by_pe["real weights"].sum() / (64 * 50)
    assert f"{share:.1f} %" in said.out
    assert f"{len(seen.events):,} events" in said.out
    assert drawing.read_text(encoding="utf-8").startswith("<?xml")


def test_the_command_tells_every_problem_at_once(accelsim: Run, tmp_path: Path) -> None:
    trace = tmp_path / "no" / "t.jso"
    said = accelsim("timeline", "--layer", "fc9", "--from", "-1", "-o", trace, "--hardware", "a100-pcie,h200")
    assert said.code == 2
    expected = (
        "takes one chip", "--layer fc9: lenet-300-100-digits has no such layer; did you mean 'fc",
        "--from: must be a whole number, 0 or more (got -1)", "choose one of these endings", "does not exist",
    )  # fmt: skip
    for part, error in zip(expected, said.errors, strict=True):
        assert part in error


def test_a_window_outside_the_run_is_refused_and_nothing_written(accelsim: Run, tmp_path: Path) -> None:
    said = accelsim("timeline", "--from", "100000", "-o", tmp_path / "t.json")
    assert said.code == 2
    assert "outside the run, which takes" in said.errors[0]
    assert not list(tmp_path.iterdir())
