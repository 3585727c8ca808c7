"""Does a space mean what it says, and is each mistake in it told with its place, its value and the remedy?"""

from __future__ import annotations

import json
import math
import pickle
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_sweeps import EIE, NM, SPACE, TENSOR_CORE, grid, tiny

from accelsim import load_hardware
from accelsim.cli.app import collect
from accelsim.errors import InputError
from accelsim.explore import Space, Store
from accelsim.explore.chips import Chips
from accelsim.explore.expressions import Expression
from accelsim.explore.points import Points
from accelsim.explore.ranges import read_knobs
from accelsim.explore.sweeping import Plan, knob_columns, setup_of


def values(given: Any) -> list[Any]:
    problems: list[str] = []
    (knob,) = read_knobs({"engine.pes": given}, {}, "space", problems)
    assert not problems
    return list(knob.values)


def problems_of(**changes: Any) -> list[str]:
    with pytest.raises(InputError) as raised:
        Space({**SPACE, "network": tiny(), **changes})
    return list(raised.value.problems)


def vary(name: str, given: Any) -> list[str]:
    return problems_of(vary={name: given})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"from": 2, "to": 256, "factor": 2}, [2, 4, 8, 16, 32, 64, 128, 256]),
        ({"from": 2, "to": 255, "factor": 2}, [2, 4, 8, 16, 32, 64, 128]),
        ({"from": 3, "to": 3**30, "factor": 3}, [3**n for n in range(1, 31)]),
        ({"from": 1, "to": 10, "step": 3}, [1, 4, 7, 10]),
        ({"from": -4, "to": 4, "step": 4}, [-4, 0, 4]),
        ({"from": 0.1, "to": 0.5, "step": 0.1}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"from": 400, "to": 500.0, "step": 50}, [400.0, 450.0, 500.0]),
        ({"from": 0.0, "to": 1.0, "count": 5}, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ({"from": 1, "to": 1000, "count": 4, "scale": "log"}, [1, 10, 100, 1000]),
        ({"from": 1e-3, "to": 1.0, "count": 4, "scale": "log"}, [1e-3, 1e-2, 1e-1, 1.0]),
        ({"from": 1, "to": 4, "count": 7}, [1, 2, 3, 4]),
        ({"from": 7, "to": 7, "step": 1}, [7]),
        ([3, 1, 2], [3, 1, 2]),
        (("a", "b"), ["a", "b"]),
        (range(3), [0, 1, 2]),
    ],
)
def test_ranges_and_lists(given: Any, wanted: list[Any]) -> None:
    found = values(given)
    assert found == wanted
    assert [type(each) for each in found] == [type(each) for each in wanted]


def test_numpy_lists_become_plain_numbers() -> None:
    import numpy as np

    for found in (values(np.array([4, 8])), values([np.int64(4), np.int32(8)])):
        assert [(each, type(each)) for each in found] == [(4, int), (8, int)]


def test_a_toml_file_and_a_dictionary_with_dots_are_the_same_space(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(
        'hardware = "eie-64pe-45nm"\nconstraints = ["area_mm2 <= 40"]\nobjectives = ["time_us"]\n[set]\nmemory.dram = '
        '"ddr4-2400"\n[vary]\nsparsity.fc1 = [0.5, 0.9]\n[vary.engine]\npes = [4, 8]\n"fifo_depth" = { from = 2, to = 8, '  # noqa: E501
        'factor = 2 }\n[when.engine]\nfifo_depth = "engine.pes > 4"\n[derived]\nengine.registers_per_pe = '
        '"4096 // engine.pes"\n'
    )
    other = {
        "hardware": EIE, "constraints": ["area_mm2 <= 40"], "objectives": ["minimize time_us"],
        "set": {"memory.dram": "ddr4-2400"},
        "vary": {"sparsity.fc1": [0.5, 0.9], "engine.pes": [4, 8], "engine": {"fifo_depth": [2, 4, 8]}},
        "when": {"engine.fifo_depth": "engine.pes > 4"},
        "derived": {"engine.registers_per_pe": "4096 // engine.pes"},
    }  # fmt: skip
    both = [Space(tmp_path / "space.toml"), Space(other)]
    points = [[space.point(index) for index in space.indices()] for space in both]
    assert points[0] == points[1]
    assert len(points[0]) == 2 * (1 + 3)
    assert both[0].objectives == both[1].objectives


def test_points_are_all_combinations_the_last_knob_fastest() -> None:
    space = Space({**SPACE, "network": tiny()})
    assert [space.values(index) for index in space.indices()] == grid(SPACE["vary"])
    assert len(space) == space.combinations == 6


def test_a_condition_makes_one_point_of_those_that_differ_in_nothing_else() -> None:
    space = Space({**SPACE, "network": tiny(), "when": {"engine.fifo_depth": "engine.pes >= 8"}})
    made = [space.values(index) for index in space.indices()]
    assert made == [{"engine.pes": 4}, *({"engine.pes": 8, "engine.fifo_depth": depth} for depth in (2, 4, 8))]


def test_conditions_may_name_keys_of_the_chip() -> None:
    space = Space({**SPACE, "network": tiny(), "when": {"engine.fifo_depth": "engine.index_bits > 4"}})
    assert len(space) == 2


def test_derived_values_see_knobs_keys_and_each_other() -> None:
    space = Space(
        {
            "network": tiny(),
            "vary": {"engine.pes": [4, 16]},
            "derived": {"half": "engine.pes // 2", "engine.fifo_depth": "half * engine.index_bits"},
        }
    )
    points = [space.point(index) for index in space.indices()]
    assert [point.knobs["half"] for point in points] == [2, 8]
    assert [space.chips[EIE].chip(point.changes).engine.fifo_depth for point in points] == [8, 32]


def test_what_is_set_holds_in_every_point() -> None:
    space = Space({**SPACE, "network": tiny(), "set": {"engine": {"clock_mhz": 123.0}}})
    assert {space.chips[EIE].chip(space.point(n).changes).engine.clock_mhz for n in range(6)} == {123.0}


def test_lists_are_values_and_have_names() -> None:
    tiles: list[Any] = [[[16, 16]], [(32, 16), [16, 16]]]
    space = Space(
        {
            "network": tiny(),
            "hardware": NM,
            "vary": {"engine.patterns": [[], ["2:4"], ["2:4", "1:4"]], "engine.dense.tiles": tiles},
            "when": {"engine.dense.tiles": "engine.patterns == 'none' and engine.dense.splits == '1, 2'"},
            "set": {"engine.dense.splits": [1, 2], "engine.l2_bytes": 131072},
        }
    )
    points = [space.point(index) for index in space.indices()]
    assert [list(point.knobs.values()) for point in points] == [
        ["none", "16 x 16"], ["none", "32 x 16, 16 x 16"], ["2:4"], ["2:4, 1:4"]
    ]  # fmt: skip
    chips = [space.chips[NM].chip(point.changes) for point in points]
    wanted: list[dict[str, Any]] = [{"engine.patterns": [], "engine.dense.tiles": each} for each in tiles]
    wanted += [{"engine.patterns": ["2:4"]}, {"engine.patterns": ["2:4", "1:4"]}]
    fixed: dict[str, Any] = {"engine.dense.splits": [1, 2], "engine.l2_bytes": 131072}
    assert [chip.content_hash for chip in chips] == [load_hardware(NM, fixed | each).content_hash for each in wanted]
    assert [space.index_of(space.values(index)) for index in space.indices()] == space.indices()


def test_keys_of_the_chip_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        f'name = "mine"\nbase = "{NM}"\nremove = ["engine.sparse", "engine.patterns", "description"]\n'
        "[engine.dense]\nsplits = [1]\n"
    )
    mine, base = load_hardware(tmp_path / "mine.toml"), load_hardware(NM)
    assert (mine.engine.sparse, mine.engine.patterns, mine.description) == (None, [], "")
    assert base.engine.sparse is not None
    keys = ["engine.sparse", "engine.patterns"]
    fixed = {"engine.dense.splits": [1]}
    for each in (NM, base):  # by name, and as it is in memory
        assert load_hardware(each, fixed, remove=keys).content_hash == mine.content_hash
    space = Space({"network": tiny(), "hardware": NM, "remove": keys, "set": fixed, "vary": {"engine.cores": [1, 2]}})
    chips = [space.chips[NM].chip(space.point(index).changes) for index in space.indices()]
    assert [chip.engine.cores for chip in chips] == [1, 2]
    assert {(chip.engine.sparse, len(chip.engine.patterns)) for chip in chips} == {(None, 0)}


def test_what_is_removed_may_come_anew(tmp_path: Path) -> None:
    """A table of the file takes the place of the base's whole, instead of being put into it."""
    (tmp_path / "mine.toml").write_text(
        f'name = "mine"\nbase = "{TENSOR_CORE}"\nremove = ["engine.fma_per_cycle"]\n'
        "[engine.fma_per_cycle]\nint8 = 2048\n"
    )
    assert dict(load_hardware(tmp_path / "mine.toml").engine.fma_per_cycle) == {"int8": 2048}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f'base = "{NM}"\nremove = ["engine.skip_j"]', r"remove: there is no 'engine.skip_j' to remove.*step_k"),
        (f'base = "{NM}"\nremove = ["technology.name.x"]', "there is no 'technology.name.x' to remove"),
        (f'base = "{NM}"\nremove = "engine.power"', r'remove: must be a list of keys with dots.*got "engine.power"'),
        (f'base = "{NM}"\nremove = ["engine.step_k", "engine"]', "engine: is missing"),
        ('remove = ["engine.power"]\n[engine]\npes = 4', "remove: there is no base to remove from"),
    ],
)
def test_what_cannot_be_removed_is_told(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "mine.toml").write_text(f'name = "mine"\n{text}\n')
    with pytest.raises(InputError, match=problem) as raised:
        load_hardware(tmp_path / "mine.toml")
    assert all("mine.toml: " in each for each in raised.value.problems)


def test_layers_are_those_that_are_named() -> None:
    assert [layer.name for layer in Space({**SPACE, "network": tiny(), "layers": ["fc2"]}).networks["tiny"]] == ["fc2"]
    assert "tiny has no layer 'fc3'; did you mean" in problems_of(layers=["fc3"])[0]


sizes = st.lists(st.integers(1, 7), min_size=1, max_size=5)


@given(sizes, st.data())
def test_numbers_and_values_go_round(counts: list[int], data: st.DataObject) -> None:
    names = ["engine.pes", "engine.fifo_depth", "engine.clock_mhz", "engine.spmat_bytes", "engine.pointer_bytes"]
    knobs = {name: list(range(8, 8 + count)) for name, count in zip(names, counts, strict=False)}
    space = Space({"network": tiny(), "vary": knobs})
    index = data.draw(st.integers(0, space.combinations - 1))
    assert space.index_of(space.values(index)) == space.canonical(index) == index


HUGE = {
    f"engine.{name}": {"from": 1000, "to": 60999, "step": 1}
    for name in ("spmat_bytes", "pointer_bytes", "activation_bytes", "fifo_depth")
}


@pytest.fixture(scope="module")
def huge() -> dict[str, Any]:
    """Return a space of 10^19 points without the seconds that trying 10^5 values one by one take."""
    few = {name: {**given, "step": 101} for name, given in HUGE.items()}
    return {"network": tiny(), "vary": few | {"engine.clock_mhz": {"from": 100, "to": 1099, "step": 1}}}


def test_a_huge_space_is_refused_without_a_sample(huge: dict[str, Any]) -> None:
    space = Space(huge)
    assert space.combinations == 595**4 * 1000 > 10**12
    with pytest.raises(InputError, match=r"has 125,333,700,625,000 points.*draw some: \[sample\] points = 1000"):
        space.indices()
    with pytest.raises(InputError, match="draw some"), Store(":memory:") as store:
        Plan.begin(space, setup_of(space), store).whole()


def test_samples_are_different_points_and_the_same_for_a_seed(huge: dict[str, Any]) -> None:
    drawn = [Space({**huge, "sample": {"points": 500, "seed": seed}}).indices() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 500
    assert drawn[0] == sorted(drawn[0])
    total = Space(huge).combinations
    assert 0 <= min(drawn[0]) < total / 50
    assert total * 49 / 50 < max(drawn[0]) < total


def test_a_sample_of_a_small_space_is_all_of_it() -> None:
    assert Space({**SPACE, "network": tiny(), "sample": {"points": 100}}).indices() == list(range(6))
    assert len(Space({**SPACE, "network": tiny(), "sample": {"points": 5}})) == 5


@pytest.mark.parametrize(
    "asked",
    [
        {"vary": {"memory.dram": ["ddr4-2400", "lpddr3-1600"], "engine.clock_mhz": [400, 500.0], "engine.pes": [2, 4]}},
        {
            "vary": {"engine.pes": [4, 8], "engine.fifo_depth": [2, 4], "sparsity": [0.0, 0.5], "sparsity.fc1": [0.9]},
            "when": {"engine.fifo_depth": "engine.pes > 4", "sparsity.fc1": "sparsity > 0"},
            "derived": {"half": "engine.pes / 2", "engine.registers_per_pe": "4096 // engine.pes"},
        },
        {"vary": {"hardware": [EIE, TENSOR_CORE], "density": [0.5, 1.0], "engine.clock_mhz": [400.0, 700.0]}},
        {
            "hardware": NM, "set": {"engine.dense.splits": [1, 2], "engine.l2_bytes": 131072},
            "vary": {"engine.patterns": [[], ["2:4"]], "engine.dense.tiles": [[[16, 16]], [[32, 16], [16, 16]]]},
            "when": {"engine.dense.tiles": "engine.patterns == 'none'"},
        },
    ],
)  # fmt: skip
def test_points_in_columns_are_points_one_by_one(asked: dict[str, Any]) -> None:
    """Their chips, keys and knobs, in any order, joined, and as another process gets them."""
    space = Space({"network": tiny(), **asked})
    setup = setup_of(space)
    every, problems = space.points(space.indices())
    assert not problems
    every = every.with_keys([str(key) for key in setup.identified(every)])
    alone = [space.point(index) for index in space.indices()]
    parts = [every[2:], every[:2]]
    sent = pickle.loads(pickle.dumps(every[::-2]))  # noqa: S301 - what was dumped just now
    for points, wanted in (
        (every, alone),
        (Points.joined(parts), alone[2:] + alone[:2]),
        (sent, alone[::-2]),
        (every[np.array([2, 0])], [alone[2], alone[0]]),
    ):
        assert [points.point(place) for place in range(len(points))] == wanted
        chips = [load_hardware(space.chips[each.hardware].base, each.changes) for each in wanted]
        assert setup.chips_of(points) == chips
        assert [json.loads(text) for text in points.texts] == [each.knobs for each in wanted]
        keys = [setup.identified(space.points([each.number])[0]) for each in wanted]
        assert [[key] for key in points.keys] == keys
        names = dict.fromkeys(chain.from_iterable(each.knobs for each in wanted))
        plain = pd.DataFrame({name: [each.knobs.get(name) for each in wanted] for name in names})
        pd.testing.assert_frame_equal(pd.DataFrame(knob_columns(points)), plain, check_exact=True)
    assert len({*every.keys}) == len(every)


CHANGES: dict[str, list[tuple[str, Any]]] = {
    EIE: [
        ("engine.pes", 16), ("engine.fifo_depth", 2**20), ("engine.clock_mhz", 100), ("engine.spmat_width_bits", 4),
        ("engine.capacity", "ignore"), ("engine.kind", "tensor-core"), ("engine.nothing", 1), ("engine.pes", 0),
        ("engine.pes", "8"), ("engine.weight_sharing", False), ("technology.register_bit_pj", 0.5), ("technology", 3),
        ("technology.extrapolate", True), ("constants.node_nm", 28), ("memory.dram", "ddr4-2400"), ("memory.channels", 2),  # noqa: E501
        ("memory.residency", "stream"), ("memory.dram.name", "x"), ("memory.timing", "exact"), ("memory.dram", "none"),
    ],
    TENSOR_CORE: [
        ("engine.clock_mhz", 1000.0), ("memory.channels", 2), ("memory.dram", "ddr4-2400"), ("engine.pes", 4),
        ("engine.kind", "eie"), ("memory.residency", "stream"),
    ],
}  # fmt: skip


@given(st.data())
def test_a_chip_by_the_quick_path_is_that_of_load_hardware(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(CHANGES)))
    chips = CHIPS[name]
    changes = dict(data.draw(st.lists(st.sampled_from(CHANGES[name]), max_size=4)))
    problems: list[list[str]] = [[], []]
    wanted: Any = collect(problems[0], load_hardware, chips.base, changes)
    made: Any = collect(problems[1], chips.chip, changes)
    assert made == wanted
    assert problems[0] == problems[1]
    assert made is None or made.content_hash == wanted.content_hash


CHIPS = {name: Chips(name, {}) for name in CHANGES}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "is an empty list; name at least one value"),
        (8, "must be a list, or a range as { from = 2, to = 256, factor = 2 } (got 8)"),
        ("8", "must be a list, or a range as"),
        ([4, 4], "names a value twice (4, 4); leave one out"),
        ([{"a": 4}], "a value must be a number, text, true, false or a list of them (got {'a': 4})"),
        ([[4, None]], "a value must be a number, text, true, false or a list of them (got None)"),
        ([[4, 8], (4, 8)], "names a value twice (4, 8; 4, 8); leave one out"),
        ({"from": 8, "to": 2, "step": 1}, "from 8 lies above to 2; swap them"),
        ({"from": 2, "to": 8}, "needs one of step, factor and count (got none)"),
        ({"from": 2, "to": 8, "step": 1, "count": 3}, "needs one of step, factor and count (got step, count)"),
        ({"from": 2, "step": 1}, "to: is missing; a range needs from and to"),
        ({"to": 2, "step": 1}, "from: is missing; a range needs from and to"),
        ({"from": 2, "to": 8, "step": 0}, "step: must be above 0 (got 0)"),
        ({"from": 2, "to": 8, "step": -1}, "step: must be above 0 (got -1)"),
        ({"from": 2, "to": 8, "factor": 1}, "factor: must be above 1 (got 1)"),
        ({"from": 0, "to": 8, "factor": 2}, "from: a range by factors starts above 0 (got 0)"),
        ({"from": 2, "to": 8, "count": 2.5}, "count: must be a whole number above 0 (got 2.5)"),
        ({"from": 2, "to": math.inf, "step": 1}, "to: must be a finite number (got inf)"),
        ({"from": 2, "to": math.nan, "step": 1}, "to: must be a finite number (got nan)"),
        ({"from": True, "to": 8, "step": 1}, "from: must be a finite number (got True)"),
        ({"from": 2, "to": 8, "stepp": 1}, "stepp: unknown key of a range; did you mean 'step'?"),
        ({"from": 2, "to": 8, "count": 3, "scale": "lin"}, "scale: must be linear or log (got 'lin')"),
        ({"from": 0, "to": 1e12, "step": 1}, "step: makes 1e+12 values; at most 2000000"),
        ({"from": 0, "to": 1, "count": 10**12}, "count: at most 2000000 (got 1000000000000)"),
    ],
)
def test_ranges_that_cannot_be(given: Any, said: str) -> None:
    problems = vary("engine.clock_mhz", given)
    assert any(problem.startswith(f"space: vary.engine.clock_mhz: {said}") for problem in problems), problems


def test_unknown_keys_ranges_and_values_are_told_together(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(
        'colour = "red"\nnetwork = "lenet-300-100-digits"\nobjectives = ["energyy"]\n[vary]\nengine.pess = [1]\n'
        "engine.fifo_depth = { from = 9, to = 3, step = 1 }\nsparsity = [0.5, 2]\nengine.clock_mhz = [800.0, -1.0]\n"
    )
    with pytest.raises(InputError) as raised:
        Space(path)
    wanted = (
        "colour: unknown key", "vary.engine.fifo_depth: from 9 lies above to 3", "objectives: no column 'energyy'",
        "eie-64pe-45nm: engine.pess: unknown key (got 1); did you mean 'pes'?",
        "eie-64pe-45nm: engine.clock_mhz: must be at least 1 (got -1.0)",
        "vary.sparsity: must be at least 0 and below 1",
    )  # fmt: skip
    assert len(raised.value.problems) == len(wanted)
    for problem, each in zip(raised.value.problems, wanted, strict=True):
        assert problem.startswith(f"{path}: {each}")


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(
        'network = "nowhere"\nhardware = "eie-65pe"\nconstraints = ["area <= 4", "time_us", "1 <", 4]\nobjectives = '
        '["minimise cycles", "energy", "maximize score"]\ncriterion = "l3"\nevaluate = "digit"\n[vary]\nengine.pes = []\n'  # noqa: E501
        'sparsitty = [1]\ngranularity = [3]\n[derived]\nhalf = "engine.pess / 2"\n[when]\nengine.fifo = "x > 1"\n'
    )
    with pytest.raises(InputError) as raised:
        Space(path)
    said = "\n".join(raised.value.problems)
    assert all(problem.startswith(f"{path}: ") for problem in raised.value.problems)
    for each in (
        "network: 'nowhere': no network of this name is shipped",
        "hardware: 'eie-65pe': no chip of this name is shipped",
        "constraints: 'area <= 4': no column 'area'; did you mean 'area_mm2'?",
        "constraints: 'time_us': write one comparison by <=, <, >= or >, as in area_mm2 <= 40",
        "constraints: '1 <' is not an expression",
        "constraints: must be an expression in quotes",
        "objectives: 'minimise cycles': write minimize or maximize and a column",
        "objectives: no column 'energy'; did you mean 'energy_pj'?",
        "criterion: 'l3' is not known",
        "evaluate: 'digit' is not known; did you mean 'digits'?",
        "vary.engine.pes: is an empty list",
        "vary.sparsitty: is not known; did you mean 'sparsity'?",
        "vary.granularity: must be text (got 3)",
        "derived.half: 'engine.pess' is neither varied nor a key",
        "when.engine.fifo: is not varied",
    ):
        assert each in said, each


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"varry": {}}, "space: varry: unknown key (got {}); did you mean 'vary'?"),
        ({"vary": {}}, "space: vary: is empty; name what to vary, as in engine.fifo_depth = [4, 8, 16]"),
        ({"vary": 3}, "space: vary: must be "),
        ({"sample": {"points": 0}}, "space: sample.points: must be at least 1 (got 0)"),
        ({"sample": {"points": 10**9}}, "space: sample.points: must be at most 2000000 (got 1000000000)"),
        ({"seed": -1}, "space: seed: must be at least 0 (got -1)"),
        ({"density": 0}, "space: density: must be above 0 (got 0)"),
        ({"objectives": ["score"]}, "space: score: nothing says how it is found; add evaluate"),
        ({"constraints": ["engine.index_bits <= 4"]}, "space: constraints: 'engine.index_bits <= 4': no column"),
        (
            {"when": {"engine.pes": "engine.fifo_depth > 2"}},
            "space: when.engine.pes: 'engine.fifo_depth' is varied later",
        ),
        ({"derived": {"engine.pes": "4"}}, "space: derived.engine.pes: is varied, too; leave one of them out"),
        ({"derived": {"network": "4"}}, "space: derived.network: cannot be derived; vary it"),
        ({"evaluate": "no.py:score"}, "space: evaluate: "),
        ({"set": {"engine": {"pes": 4}, "engine.pes": 8}}, "space: hardware: engine.pes: is given twice"),
        ({"network": "lenet-300-100-digitss"}, "space: network: 'lenet-300-100-digitss': no network of this name"),
    ],
)
def test_wrong_keys(changes: dict[str, Any], said: str) -> None:
    problems = problems_of(**changes)
    assert len(problems) == 1
    assert problems[0].startswith(said), problems


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("engine.fifo_dept", [4], "space: eie-64pe-45nm: engine.fifo_dept: unknown key (got 4); did you mean 'fifo_depth'?"),  # noqa: E501
        ("engine.fifo_depth", [1, 4], "space: eie-64pe-45nm: engine.fifo_depth: must be at least 2 (got 1)"),
        ("engine.fifo_depth", ["4"], "space: eie-64pe-45nm: engine.fifo_depth: must be a whole number"),
        ("engine.spmat_width_bits", [4, 64], "space: eie-64pe-45nm: engine.spmat_width_bits: a row of 4 bits cannot"),
        ("memory.dram", ["ddr4"], "space: eie-64pe-45nm: memory.dram: 'ddr4': no DRAM part of this name is shipped"),
        ("sparsity", [0.5, 1.0], "space: vary.sparsity: must be at least 0 and below 1 (got 1.0)"),
        ("sparsity", ["half"], "space: vary.sparsity: must be a number (got 'half')"),
        ("sparsity.fc3", [0.5], "space: vary.sparsity.fc3: no layer 'fc3'; did you mean"),
        ("granularity", ["finest"], "space: vary.granularity: granularity 'finest' is not known"),
        ("density", [0.0], "space: vary.density: "),
        ("hardware", [3], "space: vary.hardware: must be text (got 3)"),
        ("hardware", ["eie-63"], "space: hardware: 'eie-63': no chip of this name is shipped"),
        ("network", ["lenet"], "space: network: 'lenet': no network of this name is shipped"),
    ],
)  # fmt: skip
def test_values_that_no_point_can_have(name: str, given: Any, said: str) -> None:
    problems = vary(name, given)
    assert problems[0].startswith(said), problems
    assert len(problems) == 1


def test_many_wrong_values_are_told_briefly() -> None:
    problems = vary("engine.pes", {"from": 1000, "to": 1100, "step": 1})
    assert len(problems) == 4
    assert problems[-1] == "space: vary.engine.pes: 73 more values are wrong in the same way"


def test_a_value_that_only_others_make_possible_is_a_value() -> None:
    space = Space(
        {"network": tiny(), "vary": {"engine.spmat_width_bits": [4], "engine.code_bits": [2], "engine.index_bits": [2]}}
    )
    assert len(space) == 1
    assert len(Space({"network": tiny(), "vary": {"memory.channels": [1, 2], "memory.dram": ["ddr4-2400"]}})) == 2


def test_combinations_that_make_no_chip_are_left_out_and_told() -> None:
    space = Space({"network": tiny(), "vary": {"engine.spmat_width_bits": [8, 64], "engine.index_bits": [4, 8]}})
    with Store(":memory:") as store:
        plan = Plan.begin(space, setup_of(space), store).whole()
    assert len(plan.keys) == 3
    (told,) = plan.refused_briefly()
    assert told.startswith(
        "left out: engine.spmat_width_bits = 8, engine.index_bits = 8: eie-64pe-45nm: engine.spmat_width_bits: a row of 8"  # noqa: E501
    )


def test_a_space_of_which_no_combination_makes_a_chip_says_why() -> None:
    space = Space({"network": tiny(), "vary": {"engine.pes": [4]}, "derived": {"engine.fifo_depth": "engine.pes // 4"}})
    with Store(":memory:") as store, pytest.raises(InputError, match="fifo_depth: must be at least 2"):
        Plan.begin(space, setup_of(space), store).whole()


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch hacked')", "().__class__.__bases__[0]", "open('hacked', 'w')", "exec('1')",
        "[1 for _ in range(10**9)]", "lambda: 1", "engine.pes.bit_length()", "'%999999999d' % 1", "(-8) ** 0.5", "9**9**9",  # noqa: E501
        "9**9**9**9**9", "2**1000 * 2**1000", "1 << 10**9", "'a' * 10**10", "max", "f'{engine.pes}'", "engine['pes']", "",  # noqa: E501
        "x := 4", "1 if", "(" * 300 + ")" * 300, "1+" * 5000 + "1", "1/0", "log2(0)", "sqrt(-1)", "None", "b'a'",
        "abs(engine.pes, engine.pes)", "round(engine.pes, ndigits=1)", "engine.pes.__class__", "'a' + 1", "1e400 - 1e400 < 1j",  # noqa: E501
    ],
)  # fmt: skip
def test_code_in_an_expression_is_refused_and_does_nothing(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"derived\.engine\.fifo_depth"):
        Space({"network": tiny(), "vary": {"engine.pes": [4]}, "derived": {"engine.fifo_depth": text}}).point(0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.b * 2", 6), ("max(a.b, 10) // 4", 2), ("2 ** a.b", 8), ("a.b % 2 == 1 and not c", True), ("1 if c else a.b", 3),  # noqa: E501
        ("ceil(a.b / 2)", 2), ("word == 'x'", True), ("-a.b", -3), ("a.b <= 3 < 4", True), ("a.c.d + a.b", 8),
    ],
)  # fmt: skip
def test_expressions(text: str, wanted: Any) -> None:
    assert Expression(text, "x").value({"a.b": 3, "a.c.d": 5, "c": False, "word": "x", "a": "no table"}) == wanted


def test_a_network_may_be_a_folder_of_shards_beside_the_space(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "cases" / "files" / "sharded", tmp_path / "shards")
    space = 'name = "s"\ndescription = "d"\nnetwork = "shards"\nvary = { engine.fifo_depth = [4, 8] }\n'
    (tmp_path / "space.toml").write_text(space, encoding="utf-8")
    (network,) = Space(tmp_path / "space.toml").networks.values()
    assert [layer.name for layer in network] == ["layers.0.fc", "layers.1.fc"]
