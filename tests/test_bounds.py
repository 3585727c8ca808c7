"""Is every number bounded where it is declared, every depth and list where it is read, and every message?"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic.fields import FieldInfo

from accelsim.cli.simulating import MOST_SHARES, _range
from accelsim.config import (
    LARGEST,
    LEAST,
    MOST_PARTS,
    parse_override,
    read_toml,
    shipped_names,
    short,
    with_overrides,
)
from accelsim.engines import ENGINES
from accelsim.engines.tensor_core.config import MOST_CORES
from accelsim.errors import LONGEST_LINE, LONGEST_MESSAGE, InputError, told
from accelsim.explore.expressions import Expression
from accelsim.explore.ranges import LARGEST as LARGEST_END
from accelsim.explore.ranges import MOST_KNOBS
from accelsim.explore.space import Space, SpaceSpec
from accelsim.hardware import load_hardware
from accelsim.network import Layer, Network
from accelsim.network.decoder import LanguageModelFile
from accelsim.network.specs import NetworkSpec
from accelsim.number_formats import is_pattern
from accelsim.parts import load_memory
from accelsim.parts.bandwidth import BandwidthPart
from accelsim.parts.timed import DramPart
from accelsim.serving.software import ServingSoftware
from accelsim.simulation import simulate


def number_fields(kind: Any, seen: set[Any] | None = None) -> Iterator[tuple[str, Any]]:
    """Go through the number fields of a dataclass and those inside it: name of the key, what pydantic checks."""
    seen = set() if seen is None else seen
    if kind in seen:
        return
    seen.add(kind)
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if typing.get_origin(hint) is not typing.ClassVar:
            yield from _numbers_of(f"{kind.__name__}.{name}", hint, seen)


def _numbers_of(name: str, hint: Any, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(hint):
        yield from number_fields(hint, seen)
    elif typing.get_origin(hint) is typing.Annotated:
        inner, *said = typing.get_args(hint)
        if {inner, *typing.get_args(inner)} & {int, float}:
            yield name, [each for each in said if isinstance(each, FieldInfo)]
        else:
            yield from _numbers_of(name, inner, seen)
    elif hint in (int, float):
        yield name, []
    else:
        for each in typing.get_args(hint):
            yield from _numbers_of(name, each, seen)


CHIPS = [load_hardware(name) for name in shipped_names("hwconfigs")]
KINDS = [
    *{type(chip): None for chip in CHIPS}, DramPart, BandwidthPart, NetworkSpec, SpaceSpec, LanguageModelFile,
    ServingSoftware,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_number_of_a_configuration_has_a_largest_value(kind: Any) -> None:
    fields = list(number_fields(kind))
    assert len(fields) > 3
    unbounded = [
        name
        for name, said in fields
        if not any(type(bound).__name__ in ("Le", "Lt") for each in said for bound in each.metadata)
    ]
    assert not unbounded


@pytest.mark.parametrize(
    ("chip", "key", "value", "said"),
    [
        ("eie-64pe-45nm", "engine.clock_mhz", 1e308, "engine.clock_mhz: must be at most 1e+06 (got 1e+308)"),
        ("eie-64pe-45nm", "engine.spmat_bytes", 2**63, "engine.spmat_bytes: must be at most"),
        ("a100-pcie", "engine.prologue_cycles", 1e308, "engine.prologue_cycles: must be at most 1e+06"),
        ("a100-pcie", "engine.cores", MOST_CORES + 1, f"engine.cores: must be at most {MOST_CORES}"),
        ("a100-pcie", "engine.dense.efficiency", 0.0, "engine.dense.efficiency: must be at least 1e-06 (got 0.0)"),
        ("a100-pcie", "engine.l2_usable", 0.0, "engine.l2_usable: must be at least 1e-06 (got 0.0)"),
        ("a100-pcie", "engine.l2_bytes_per_cycle", 0.1 * LEAST, "engine.l2_bytes_per_cycle: must be at least 1e-09"),
        ("a100-pcie", "engine.l2_bytes_per_cycle", -1.0, "engine.l2_bytes_per_cycle: must be above 0 (got -1.0)"),
        ("a100-pcie", "engine.power.static_w", 2 * LARGEST, "engine.power.static_w: must be at most 1e+09"),
        ("a100-pcie", "engine.fma_per_cycle", {}, "engine.fma_per_cycle: is empty; give the rate of a data type"),
        ("a100-pcie", "engine.patterns", ["²:4"], "patterns: '²:4' is not a pattern N:M"),
        ("systolic-32x32-ws", "engine.patterns", ["9" * 5000 + ":4"], "is not a pattern N:M"),
        ("eie-64pe-45nm", "memory", {"dram": "ddr4-2400", "channels": 2**70}, "memory.channels: must be at most"),
    ],
)
def test_what_lies_beyond_is_told_by_its_key(chip: str, key: str, value: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_hardware(chip, {key: value})
    assert said in str(caught.value)


def test_energy_that_is_zero_is_legal() -> None:
    free = {"engine.power.fma_pj": 0.0, "engine.power.static_w": 0.0}
    rows = simulate("lenet-300-100-digits", load_hardware("h100-pcie", free))
    assert rows["energy_pj"].gt(0).all()  # DRAM is still paid
    assert rows["energy_arithmetic_pj"].eq(0).all()


@pytest.mark.parametrize("pattern", ["2:4", "1:2", "31:32"])
def test_patterns(pattern: str) -> None:
    assert is_pattern(pattern)


@pytest.mark.parametrize("pattern", ["4:2", "2:2", "0:4", "2:33", "2:4:8", "a:b", "", "²:4", "1" * 5000 + ":4", " 2:4"])
def test_no_patterns(pattern: str) -> None:
    assert not is_pattern(pattern)


def test_a_part_leaves_time_for_a_read_between_refreshes() -> None:
    with pytest.raises(InputError, match="t_refi_ns: must leave time for an access between refreshes"):
        load_memory("ddr4-2400", {"timing.t_rcd_rd_ns": 7800.0})
    with pytest.raises(InputError, match="power_down_after_cycles: must be at most"):
        load_memory("ddr4-2400", {"controller.power_down_after_cycles": 2**63 - 1})


def test_keys_and_tables_have_a_depth(tmp_path: Path) -> None:
    file = tmp_path / "deep.toml"
    for text, said in (
        (".".join(["a"] * 20_000) + " = 1", f"has a key of more than {MOST_PARTS} parts"),
        ("a = " + "[" * 100 + "]" * 100, f"more than {MOST_PARTS} levels deep"),
        ("a = " + "{a = " * 100 + "1" + "}" * 100, f"more than {MOST_PARTS} levels deep"),
        ("a = " + "[" * 9000 + "]" * 9000, "not valid TOML"),
        ("a = " + "9" * 5000, "not valid TOML"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=said):
            read_toml(file)
    with pytest.raises(InputError, match="write key=value"):
        parse_override(".".join(["a"] * 20_000) + "=1")
    with pytest.raises(InputError, match="has 20,000 parts between dots"):
        with_overrides({}, {".".join(["a"] * 20_000): 1})
    assert parse_override("a=" + "[" * 200 + "]" * 200) == ("a", "[" * 200 + "]" * 200)  # text, as what is no TOML


def test_a_line_of_dots_is_no_key(tmp_path: Path) -> None:
    file = tmp_path / "dots.toml"
    file.write_text(f"# {'.' * 200}\ntext = '{'.' * 200} and. {'so. ' * 30}'\n")
    assert list(read_toml(file)) == ["text"]


def test_a_value_of_any_depth_or_size_is_shown_short() -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    for value in (nested, 10**5000, "x" * 10**6, {"a": 10**5000}):
        assert len(short(value)) <= 80
    while nested:  # by itself Python would take it apart level in level
        nested = nested[0]


def test_messages_end_before_2000_characters() -> None:
    error = InputError(*(f"problem {at} {'long text ' * 50}" for at in range(1000)))
    lines = told(error.problems)
    assert sum(len(line) + 1 for line in lines[:-1]) <= LONGEST_MESSAGE
    assert lines[-1] == f"and {1000 - len(lines) + 1:,} more problems"
    (one,) = told(InputError("word " * 10_000).problems)
    assert len(one) < LONGEST_LINE + 10


@pytest.mark.parametrize(
    "text",
    [
        "round(4, -10**9)",
        "round(4, 10**9)",
        "9**9**9**9",
        "1 << 10**9",
        "'a' * 10**9",
        "-" * 490 + "4",
        "(" * 240 + ")",
    ],
)
def test_expressions_without_end_have_no_value(text: str) -> None:
    with pytest.raises(InputError):
        Expression(text, "here").value({})


@pytest.mark.parametrize(("text", "value"), [("round(2.5)", 2), ("round(2.345, 1)", 2.3), ("round(2.5, 0)", 2.0)])
def test_rounding_is_that_of_python(text: str, value: float) -> None:
    found = Expression(text, "here").value({})
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "knob",
    [
        {"from": 1, "to": 10**400, "step": 1},
        {"from": -(10**400), "to": 1, "count": 3},
        {"from": 1, "to": LARGEST_END + 1, "factor": 2},
        {"from": 1.0, "to": 4.0, "step": 1e-300},
        {"from": 1.0, "to": 4.0, "factor": 1.0 + 1e-16},
        {"from": 1.0, "to": float("inf"), "step": 1},
        {"from": 1, "to": 4, "count": 10**400},
    ],
)
def test_ranges_end(knob: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"vary\.engine\.pes: "):
        Space({"vary": {"engine": {"pes": knob}}})


def test_a_space_has_a_hundred_knobs_at_most() -> None:
    with pytest.raises(InputError, match=f"vary: has 5,000 keys; at most {MOST_KNOBS}"):
        Space({"vary": {"engine": {f"key{at}": [1] for at in range(5000)}}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0:inf:1", "write from:to:step"),
        ("nan:1:1", "write from:to:step"),
        ("0:1:nan", "write from:to:step"),
        ("0:0.95:1e-9", f"makes 9.5e\\+08 values; at most {MOST_SHARES:,}"),
    ],
)
def test_sparsities_end(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _range(text)


def test_there_is_a_chip_of_every_machine() -> None:
    assert {chip.engine.kind for chip in CHIPS} >= {*ENGINES} - {"toy"}


@pytest.mark.parametrize("column", ["energy_pj", "error", "point", "score", "layer"])
def test_a_derived_value_takes_no_column_of_results(column: str) -> None:
    with pytest.raises(InputError, match=rf"derived\.{column}: is a column of results; choose another name"):
        Space({"vary": {"engine": {"pes": [4]}}, "derived": {column: "1"}})


def test_a_condition_may_stand_before_the_hardware_that_is_varied() -> None:
    varied = {"granularity": ["fine", "nm:2:4"], "sparsity": [0.5, 0.7], "hardware": ["edge-nm-16x16"]}
    space = Space({"vary": varied, "when": {"sparsity": "granularity == 'fine'"}})
    points = [space.point(index).knobs for index in space.indices()]
    assert [(each["granularity"], each.get("sparsity")) for each in points] == [
        ("fine", 0.5), ("fine", 0.7), ("nm:2:4", None),
    ]  # fmt: skip


def test_hardware_has_no_condition() -> None:
    with pytest.raises(InputError, match=r"when\.hardware: every point has one"):
        Space({"vary": {"density": [0.5], "hardware": ["edge-nm-16x16"]}, "when": {"hardware": "density > 0.1"}})


def test_a_first_layer_without_numbers_is_told_beside_what_others_lack() -> None:
    layers = [
        Layer.linear("bad", np.full((4, 4), np.nan, np.float32)),
        Layer.linear("good", np.eye(4, dtype=np.float32)),
    ]
    for chip in CHIPS:
        with pytest.raises(InputError, match="layer bad") as caught:
            simulate(Network("two", layers), chip, 1.0)
        assert "good" not in str(caught.value)
