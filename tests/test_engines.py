"""What must hold of every machine, asked of each entry of ENGINES: the shipped ones, and the toy of these tests."""

from __future__ import annotations

import ast
import re
import sys
import typing
from heapq import heappush
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import simpy
from conftest import TOY_CHIP, Run, at_most
from hypothesis import assume, given
from hypothesis import strategies as st

import accelsim
from accelsim.chips import Hardware
from accelsim.config import shipped_names
from accelsim.costs import account, area_mm2, entries, operations, prices
from accelsim.energy import dram
from accelsim.engines import ENGINES, engine_of, union
from accelsim.engines.words import DRAM_ACTIONS, DRAM_COMPONENTS, Bar, Word
from accelsim.errors import InputError
from accelsim.explore.chips import Chips
from accelsim.memory.service import measure
from accelsim.parts.timed import BLOCK_BYTES
from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS, EVENTS
from accelsim.results import COLUMNS, UNIT_NUMBERS
from accelsim.simulation import simulated_rows
from accelsim.timeline import timeline

PACKAGE = Path(accelsim.__file__).parent
CHIPS: dict[str, Hardware] = {}
"""A chip of every machine that its specification runs in no time."""
for name in ("edge-nm-16x16", *shipped_names("hwconfigs"), TOY_CHIP):
    CHIPS.setdefault((chip := accelsim.load_hardware(name)).engine.kind, chip)
CROSS = ("input", "output", "weight")
every_engine = pytest.mark.parametrize("kind", list(ENGINES))


def layer_of(seed: int, *, conv: bool = False, bias: bool = True, density: float = 0.5) -> accelsim.Layer:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 24)), int(rng.integers(1, 40)))
    if conv:
        shape = (int(rng.integers(1, 8)), int(rng.integers(1, 6)), 3, 3)
    weight = rng.standard_normal(shape) * (rng.random(shape) < density)
    weight.flat[0] = 1.0
    offset = rng.standard_normal(shape[0]) if bias else None
    if conv:
        inputs = rng.random((shape[1], 5, 4)) * (rng.random((shape[1], 5, 4)) < 0.6)
        return accelsim.Layer.conv2d("layer", weight, offset, input_hw=(5, 4), activations=inputs)
    return accelsim.Layer.linear(
        "layer", weight, offset, activations=rng.random(shape[1]) * (rng.random(shape[1]) < 0.6)
    )


layers = st.builds(
    layer_of, st.integers(0, 2**20), conv=st.booleans(), bias=st.booleans(), density=st.sampled_from([0.0, 0.3, 1.0])
)


def rows(table: pd.DataFrame, *but: str) -> pd.DataFrame:
    return table.drop(columns=["backend", *but])


@every_engine
@at_most(20)
@given(layer=layers)
def test_the_twin_is_its_specification_in_every_column(kind: str, layer: accelsim.Layer) -> None:
    compiled, simpy_ = (accelsim.simulate(layer, CHIPS[kind], backend=b, verify=True) for b in ("compiled", "simpy"))
    pd.testing.assert_frame_equal(rows(compiled), rows(simpy_), check_exact=True)
    assert compiled["verified"].iloc[0] == "exact"


@every_engine
@at_most(10)
@given(layer=layers, seed=st.integers(0, 2**16))
def test_the_order_of_ties_does_not_matter(kind: str, layer: accelsim.Layer, seed: int) -> None:
    ties = Random(seed)

    def schedule(self: simpy.Environment, event: simpy.Event, priority: Any = 1, delay: Any = 0) -> None:
        heappush(self._queue, (self._now + delay, 0, ties.random(), event))  # type: ignore[misc]

    compiled = accelsim.simulate(layer, CHIPS[kind])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simpy.Environment, "schedule", schedule)
        shuffled = accelsim.simulate(layer, CHIPS[kind], backend="simpy")
    pd.testing.assert_frame_equal(rows(compiled), rows(shuffled), check_exact=True)


@every_engine
@given(layer=layers)
def test_rows_keep_the_laws_of_all_machines(kind: str, layer: accelsim.Layer) -> None:
    table = accelsim.simulate(layer, CHIPS[kind])
    row = table.iloc[0]
    units = accelsim.units(layer, CHIPS[kind])
    stalls = units[[name for name in UNIT_NUMBERS if name.startswith("stall_")]].sum(axis=1)
    assert (units["busy_cycles"] + stalls == row["cycles"]).all()
    assert (units["work_cycles"] + units["padding_cycles"] == units["busy_cycles"]).all()
    for name in UNIT_NUMBERS:
        assert units[name].sum() == row[name]
    assert row["macs"] <= row["stored_entries"] * row["vectors"]
    assert row["cycles"] >= row["compute_cycles"]
    assert row["cycles"] * row["peak_macs_per_cycle"] >= row["macs"]
    assert 0 <= row["utilization"] <= 1
    assert 0 <= row["load_balance"] <= 1
    assert row["dram_gb_per_s"] <= row["dram_max_gb_per_s"] * (1 + 1e-9)
    assert row["sram_gb_per_s"] <= row["sram_max_gb_per_s"] * (1 + 1e-9)
    assert row["time_us"] >= row["cycles"] / row["full_clock_mhz"] * (1 - 1e-12)
    crosses, unpaid = (sum(int(row[f"{which}_{what}_bytes"]) for what in CROSS) for which in ("world", "unpaid"))
    assert all(0 <= row[f"unpaid_{what}_bytes"] <= row[f"world_{what}_bytes"] for what in CROSS)
    assert row["dram_read_bytes"] + row["dram_write_bytes"] >= crosses - unpaid
    assert row["world_weight_bytes"] == -(-row["storage_bits"] // 8)


@every_engine
@given(layer=layers)
def test_the_account_is_every_action_at_its_price(kind: str, layer: accelsim.Layer) -> None:
    chip = CHIPS[kind]
    row = accelsim.simulate(layer, chip).iloc[0]
    words = ENGINES[kind].words
    counted = {word.name: int(row[f"count_{word.name}"]) for word in words.actions if row[f"count_{word.name}"]}
    whole = dict.fromkeys(dram.ACTIONS, 0) | counted if dram.counted(counted) else counted
    asked = whole, int(row["cycles"]), chip, float(row["clock_mhz"]), str(row["dtype"]) if row["dtype"] != "-" else ""
    lines = entries(*asked)
    assert {action for action, _, _ in lines} >= counted.keys()
    assert all(price.source for _, _, price in lines)
    paid = account(*asked)
    assert row["energy_pj"] == pytest.approx(paid.total_pj, rel=1e-12)
    assert row["energy_pj"] == sum(row[f"energy_{word.name}_pj"] for word in words.components)
    assert {price.component for _, _, price in lines} <= {word.name for word in words.components}
    assert area_mm2(chip) >= 0
    assert prices(chip)
    assert (operations(chip)["pj"] > 0).all()


@every_engine
@given(layer=layers)
def test_what_moves_is_what_is_paid_for(kind: str, layer: accelsim.Layer) -> None:
    """DRAM is counted whole or not at all: every block in its direction and over the pins, standby for all the time."""
    chip = CHIPS[kind]
    if chip.memory is not None:
        chip = accelsim.load_hardware(chip, {"memory.residency": "stream"})
    row = accelsim.simulate(layer, chip).iloc[0]
    assert row["dram"] == ("off" if chip.memory is None else chip.memory.dram.name)
    assert row["count_dram_read_io"] == row["count_dram_reads"]
    assert row["count_dram_write_io"] == row["count_dram_writes"]
    assert row["dram_read_bytes"] == BLOCK_BYTES * row["count_dram_reads"]
    assert row["dram_write_bytes"] == BLOCK_BYTES * row["count_dram_writes"]
    if chip.memory is None:
        assert not row["energy_dram_pj"]
        return
    assert row["count_dram_standby"] == round(row["time_us"] * row["clock_mhz"])
    service = measure(chip.memory.dram)
    blocks_pj = row["count_dram_reads"] * service.read_pj + row["count_dram_writes"] * service.write_pj
    standby_pj = chip.memory.all_channels * service.standby_mw * row["time_us"] * 1e3  # mW x ns
    assert row["energy_dram_pj"] == pytest.approx(blocks_pj + standby_pj, rel=1e-2)  # whole clocks: runs are short
    pins_pj = row["count_dram_reads"] * service.read_io_pj + row["count_dram_writes"] * service.write_io_pj
    assert row["energy_dram_io_pj"] == pytest.approx(pins_pj, rel=1e-12)


@every_engine
def test_every_word_is_a_column_with_a_meaning_a_unit_and_a_colour(kind: str) -> None:
    words, columns = ENGINES[kind].words, {column.name: column for column in COLUMNS}
    for group, name in (("stalls", "stall_{}_cycles"), ("actions", "count_{}"), ("components", "energy_{}_pj")):
        for word in getattr(words, group):
            assert name.format(word.name) in columns
            assert word.meaning
            assert word.unit
    for word in (*words.stalls, *words.components):
        assert word.bar is not None
        assert re.fullmatch("#[0-9A-F]{6}", word.bar.colour)
    shown = {column for part in (*CYCLE_PARTS, *ENERGY_PARTS) for column in part.columns}
    assert {f"stall_{word.name}_cycles" for word in words.stalls} <= shown
    assert {f"energy_{word.name}_pj" for word in words.components} <= shown
    assert all(column.name in columns and column.meaning for column in words.columns)
    assert any(kind.name == words.unit and kind.counted for kind in words.kinds)
    assert all(event.column in columns or event.bar is not None for event in words.events)


def test_a_machine_names_all_that_is_priced_of_dram_or_nothing() -> None:
    assert tuple(word.name for word in DRAM_ACTIONS) == dram.ACTIONS
    for engine in ENGINES.values():
        named = [word.name for word in engine.words.actions if word.name in dram.ACTIONS]
        assert named in ([], list(dram.ACTIONS))


def test_words_that_machines_share_mean_the_same() -> None:
    """One colour and label for a column, whoever fills it; the unions have each name once."""
    for group in ("stalls", "actions", "components", "columns", "events"):
        found = union(list(ENGINES.values()), group)
        assert len({word.name for word in found}) == len(found)
    bars: dict[str, set[Any]] = {}
    for engine in ENGINES.values():
        for word in engine.words.stalls:
            bars.setdefault(word.name, set()).add(word.bar)
    assert all(len(each) == 1 for each in bars.values())


@every_engine
def test_a_row_counts_every_stall_that_its_machine_names(kind: str) -> None:
    (row,) = simulated_rows(layer_of(1), CHIPS[kind])
    assert {name for name in row if name.startswith("stall_")} == {
        f"stall_{word.name}_cycles" for word in ENGINES[kind].words.stalls
    }
    assert {"executed_as", "granularity", "residency", "layer_hash", "weight_density"} <= row.keys()


def test_a_word_that_means_another_thing_elsewhere_is_refused() -> None:
    class Other(type(ENGINES["toy"])):  # type: ignore[misc]
        words = ENGINES["toy"].words._replace(stalls=(Word("load", "an arm", "", Bar(1, "x", "#000000", "x")),))

    with pytest.raises(ValueError, match="engine toy: stalls: load: means another thing elsewhere"):
        union([*ENGINES.values(), Other()], "stalls")


@every_engine
def test_a_row_has_no_word_that_its_machine_does_not_name(kind: str) -> None:
    words = ENGINES[kind].words
    row = accelsim.simulate(layer_of(1), CHIPS[kind]).iloc[0]
    own = {
        *(f"stall_{word.name}_cycles" for word in words.stalls),
        *(f"count_{word.name}" for word in words.actions),
        *(f"energy_{word.name}_pj" for word in words.components),
        "energy_pj",
    }
    others = [name for name in row.index if name.startswith(("stall_", "count_", "energy_")) and name not in own]
    assert not row[others].any()


@every_engine
@at_most(15)
@given(layer=layers, data=st.data())
def test_a_timeline_sums_to_the_table(kind: str, layer: accelsim.Layer, data: st.DataObject) -> None:
    chip, words = CHIPS[kind], ENGINES[kind].words
    events = timeline(layer, chip, "layer").events
    pd.testing.assert_frame_equal(events, timeline(layer, chip, "layer", backend="simpy").events)
    units = accelsim.units(layer, chip).set_index("unit")
    for unit, mine in events[events["unit"].str.fullmatch(rf"{words.unit} \d+")].groupby("unit"):
        told = mine.groupby(mine["event"].map(lambda event: EVENTS[event].column))["cycles"].sum()
        number = int(str(unit).split()[-1])
        work = told.reindex(["work_cycles", "padding_cycles"], fill_value=0).sum()
        assert work == units.loc[number, "busy_cycles"]
        for stall in words.stalls:
            column = f"stall_{stall.name}_cycles"
            assert told.get(column, 0) == units.loc[number, column]


# Keys of chips


def other_values(value: Any, annotation: Any) -> list[Any]:
    """Return values near that of a key: some of them may not be allowed."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2, value + 1, value // 2 if isinstance(value, int) else value / 2, 1, 2, 3]
    return [each for each in typing.get_args(annotation) if each != value]


def changed(chip: Hardware, key: str, value: Any) -> list[Hardware]:
    """Return the chip with each value near that of a key that makes a chip."""
    found = []
    hints = typing.get_type_hints(type(chip.engine)) if key.startswith("engine.") else {}
    for other in other_values(value, hints.get(key.partition(".")[2])):
        try:
            found.append(accelsim.load_hardware(chip, {key: other, "name": "changed"}))
        except InputError:
            continue
    return found


def keys_of(chip: Hardware) -> dict[str, Any]:
    apart = ("name", "description", "source", "memory.dram", "engine.kind", "engine.instructions")
    return {key: value for key, value in Chips(chip, {}).keys.items() if not key.startswith(apart)}


def fresh_rows(layer: accelsim.Layer, chips: list[Hardware]) -> list[dict[str, Any]]:
    """Return the rows of chips that run together, and find nothing that others left with their machines."""
    for name, module in list(sys.modules.items()):
        for kept in vars(module).values() if name.startswith("accelsim.engines.") else ():
            if hasattr(kept, "cache_clear"):
                kept.cache_clear()
    return simulated_rows(layer, chips)


OTHER_BASES = {"eie": {"engine.weight_sharing": False, "engine.registers_per_pe": 2, "engine.pes": 16}}
"""Chips in which keys matter that do not in the first of their machine."""


@pytest.mark.thorough(keep=1)
@pytest.mark.parametrize(("kind", "base"), [*((kind, {}) for kind in ENGINES), *OTHER_BASES.items()])
def test_chips_that_differ_in_one_key_run_together_as_alone(kind: str, base: dict[str, Any]) -> None:
    """Every key of every chip: whatever of a run is shared, a key that changes it is noticed."""
    first = accelsim.load_hardware(CHIPS[kind], base)
    rng = np.random.default_rng(7)  # some outputs have many weights, so that queues fill and pieces are uneven
    weight = rng.standard_normal((150, 260)) * (rng.random((150, 260)) < rng.random((150, 1)) ** 3)
    weight[:, 32:48] = 0
    layer = accelsim.Layer.linear("layer", weight, activations=rng.random(260) * (rng.random(260) < 0.8))
    tried, able = set(), set()
    for key, value in keys_of(first).items():
        for chip in changed(first, key, value):
            able.add(key)
            try:
                alone = fresh_rows(layer, [chip])
            except InputError:
                continue  # it does not run at all
            assert fresh_rows(layer, [first, chip])[1:] == alone, key
            tried.add(key)
    assert len(tried) > 0.7 * len(able) > 2


@every_engine
@at_most(20)
@given(data=st.data(), layer=layers)
def test_chips_that_differ_in_drawn_keys_run_together_as_alone(
    kind: str, data: st.DataObject, layer: accelsim.Layer
) -> None:
    base, keys = CHIPS[kind], keys_of(CHIPS[kind])
    chips = [base]
    for key in data.draw(st.lists(st.sampled_from(sorted(keys)), min_size=2, max_size=4, unique=True)):
        found = changed(chips[-1], key, keys[key])
        if found:
            chips.append(accelsim.load_hardware(data.draw(st.sampled_from(found)), {"name": f"chip {len(chips)}"}))
    try:
        alone = [row for chip in chips for row in fresh_rows(layer, [chip])]
    except InputError:
        assume(False)
    assert fresh_rows(layer, chips) == alone


@every_engine
def test_keys_that_are_declared_not_to_matter_are_keys(kind: str) -> None:
    config = type(CHIPS[kind].engine)
    fields = typing.get_type_hints(config)
    assert set(fields) >= config.PRICE_ONLY | config.LAID_OUT_ALIKE | config.UNPRICED
    assert not config.PRICE_ONLY & config.LAID_OUT_ALIKE


# What is larger costs more


def sizes_of(chip: Hardware) -> dict[str, int | float]:
    """Return the keys of a chip that are capacities, widths, numbers of things or rates, and not declared free.

    The clock and what counts in cycles are times. Entries of a table by data type share units: a wing's own tests.
    """
    return {
        key: value
        for key, value in keys_of(chip).items()
        if key.removeprefix("engine.") in set(typing.get_type_hints(type(chip.engine))) - set(type(chip.engine).FREE)
        if type(value) in (int, float) and value > 0 and key != "engine.clock_mhz" and "cycles" not in key
    }


@every_engine
def test_what_is_free_is_a_key_with_a_reason(kind: str) -> None:
    config = type(CHIPS[kind].engine)
    assert set(config.FREE) <= set(typing.get_type_hints(config))
    assert all(config.FREE.values())


@every_engine
@given(data=st.data())
def test_no_capacity_and_no_width_is_free(kind: str, data: st.DataObject) -> None:
    """Raised by a twentieth (banks hold whole bytes), it never takes less area, and area or energy of a run change."""
    base = CHIPS[kind]
    sizes = sizes_of(base)
    key = data.draw(st.sampled_from(sorted(sizes)))
    value, whole = sizes[key], isinstance(sizes[key], int)
    drawn = st.integers if whole else st.floats
    low = data.draw(drawn(max(value // 2, 1) if whole else value / 2, value))
    high = data.draw(drawn(low + low // 20 + 1 if whole else 1.05 * low, 4 * value))
    layer = layer_of(3)

    def bill(setting: int | float) -> tuple[float, float] | None:
        try:
            chip = accelsim.load_hardware(base, {key: setting, "name": "sized"})
            row = accelsim.simulate(layer, chip).iloc[0]
        except InputError:  # no such chip, or its memories do not follow the clock
            return None
        return area_mm2(chip), row["energy_pj"]

    small = bill(low)
    large = bill(high) or bill(value)
    assume(small is not None and large is not None and low < value)
    assert small is not None
    assert large is not None
    assert large[0] >= small[0] * (1 - 1e-12), (key, low, high)
    assert large != pytest.approx(small, rel=1e-12), (key, low, high)


# The whole house, for every machine


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "toy" else pytest.mark.thorough) for kind in ENGINES]
)
def test_every_command_works(kind: str, accelsim: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chip = str(TOY_CHIP) if kind == "toy" else CHIPS[kind].name
    space = f'hardware = "{chip}"\nlayers = ["fc3"]\nobjectives = ["time_us", "energy_pj"]\n[vary]\n'
    Path("space.toml").write_text(space + '"engine.clock_mhz" = [50.0, 100.0, 200.0]\n')
    network = "lenet-300-100-digits"
    for command in (
        f"check {chip}",
        "list",
        f"run {network} --hardware {chip} --csv rows.csv --plot rows.svg --units units.csv --verify",
        f"compare {network} --hardware {chip} --granularity fine,nm:2:4 --csv compare.csv --plot compare.svg",
        f"curve {network}-dense --hardware {chip} --granularity fine --sparsity 0,0.5 -o curve.svg",
        f"energy {network} --hardware {chip} --layer fc3 --plot energy.svg",
        f"timeline {network} --hardware {chip} --layer fc3 --to 50 -o trace.json --plot trace.svg",
        f"divisions {network} --hardware {chip}",
        f"report {network} --hardware {chip} -o report.html",
        "report rows.csv -o again.html",
        "plot rows.csv roofline -o roofline.svg",
        "plot units.csv load-balance -o balance.svg",
        "sweep space.toml --store store.db --jobs 2",
        "search space.toml --store search.db --trials 3 --jobs 1",
        "pareto store.db",
        "knobs store.db",
    ):
        said = accelsim(*command.split())
        assert said.code == 0, (command, said.err)
    assert {"roofline.svg", "balance.svg", "again.html", "trace.svg"} <= {path.name for path in tmp_path.iterdir()}


def test_the_toy_meets_its_closed_form() -> None:
    """Of each vector: the row fills, what is handed out is seen a cycle later, then `lanes` weights a cycle."""
    rng = np.random.default_rng(0)
    chip = accelsim.load_hardware(TOY_CHIP, {"engine.lanes": 6, "engine.fill_cycles": 11})
    layer = accelsim.Layer.linear("l", rng.standard_normal((5, 20)), tokens=3)
    row = accelsim.simulate(layer, chip, 1.0).iloc[0]
    assert row["cycles"] == 3 * (11 + 1 + 5 * 4)
    assert row["energy_pj"] == 3 * 5 * 20 * 1.0 + row["cycles"] * 0.5
    assert row["area_mm2"] == pytest.approx(6 * 1000e-6)
    assert row["stall_edge_cycles"] == 3 * 5 * 4  # 20 weights over 4 slices of 6 lanes leave 4 places
    assert row["rows_done"] == 15


def test_a_wing_is_small() -> None:
    lines = chain.from_iterable(path.read_text().splitlines() for path in TOY_CHIP.parent.glob("*.py"))
    assert sum(bool(line.strip()) for line in lines) < 250


SHIPPED = re.compile("|".join(shipped_names("hwconfigs")))
NAMES = re.compile(r"\beie\b|tensor.?core|\bEie|\btoy\b|systolic", re.IGNORECASE)


def test_nothing_outside_of_a_wing_knows_its_name() -> None:
    """In code: names, attributes, imports and strings but docstrings. Names of shipped files are data."""
    shared = {word.name for word in (*DRAM_ACTIONS, *DRAM_COMPONENTS)} | {"arithmetic"}
    own = {
        name.format(word.name)
        for engine in ENGINES.values()
        for group, name in (("stalls", "stall_{}_cycles"), ("actions", "count_{}"), ("components", "energy_{}_pj"))
        for word in getattr(engine.words, group)
        if word.name not in shared
    }
    found = []
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE)
        in_wing = place.parts[0] == "engines" and (len(place.parts) > 2 or place.name == "__init__.py")
        if in_wing or place.parts[0] == "shipped":  # data, inside of an installed package
            continue
        tree = ast.parse(path.read_text())
        said = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body and isinstance(node.body[0], ast.Expr)
        }  # fmt: skip
        said |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings of attributes
        for node in ast.walk(tree):
            words: list[str] = []
            if isinstance(node, ast.Name):
                words = [node.id]
            elif isinstance(node, ast.Attribute):
                words = [node.attr]
            elif isinstance(node, ast.ImportFrom):
                words = [node.module or "", *(each.name for each in node.names)]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                words = [SHIPPED.sub("", node.value)]
            found += [f"{place}: {word}" for word in words if NAMES.search(word) or word in own]
    assert not found
    assert {engine_of(chip).kind for chip in CHIPS.values()} == set(ENGINES)


def test_the_line_in_engines_is_all_that_names_a_wing() -> None:
    tree = ast.parse((PACKAGE / "engines" / "__init__.py").read_text())
    (table,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "ENGINES"
    )
    assert isinstance(table.value, ast.Dict)
    wings = {path.parent.name for path in (PACKAGE / "engines").glob("*/__init__.py")}
    assert len(table.value.keys) == len(wings) == len(ENGINES) - 1  # the toy adds itself
