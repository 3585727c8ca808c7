"""Is what takes too much memory or time named, and said before or refused, whatever asks for it?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pandas as pd
import pytest
from conftest import Run

from accelsim import Density, InputError, Layer, Network, load_hardware, simulate
from accelsim.cli import stopping
from accelsim.errors import LONGEST_MESSAGE, collecting, placing
from accelsim.explore import search
from accelsim.explore.answers import feasible
from accelsim.formats.counting import WeightMatrix
from accelsim.inspection import inspect

LARGE = (2**30, 2**23)
"""Shape of an array of 64 PiB."""


def test_what_memory_does_not_hold_is_named_with_its_size() -> None:
    said = r"layer a: memory does not hold it \(for 64\.0 PiB more, an array of shape \(1073741824, 8388608\)\); make"
    with pytest.raises(InputError, match=said), placing("layer a"):
        np.empty(LARGE)
    problems: list[str] = []
    with collecting(problems, "layer b: "):
        raise MemoryError
    assert problems == ["layer b: memory does not hold it; make it smaller, or run it where there is more memory"]
    with pytest.raises(MemoryError), collecting(problems):
        raise MemoryError  # of which nothing is known


def test_layers_that_memory_does_not_hold_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network("net", [Layer.linear(name, np.eye(4)) for name in ("a", "b", "c")])

    def lacking(layer: Layer) -> Any:
        if layer.name != "b":
            np.empty(LARGE)
        return layer.weight

    monkeypatch.setattr(Layer, "matrix", property(lacking))
    with pytest.raises(InputError) as caught:
        simulate(net, "eie-64pe-45nm", 1.0)
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == ["layer a", "layer c"]


def test_a_command_that_memory_does_not_hold_says_which(accelsim: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("accelsim.report.terminal.inspection_table", lacking)
    said = accelsim("inspect", "lenet-300-100-digits")
    assert said.code == 2
    assert said.errors[0].startswith("inspect lenet-300-100-digits: memory does not hold it; make it smaller")


def test_thousands_of_mistakes_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def counted(kind: Any) -> dict[str, Any]:
        asked.append(kind)
        return get_type_hints(kind)

    monkeypatch.setattr("accelsim.config.get_type_hints", counted)
    with pytest.raises(InputError) as caught:
        load_hardware("a100-pcie", {"engine.patterns": [0] * 3000})
    assert len(caught.value.problems) == 3000
    assert len(asked) <= 2


@pytest.mark.parametrize("seed", [2**62 + 1, 2**63, 10**30])
def test_a_seed_stays_a_number_of_64_bits(accelsim: Run, tmp_path: Path, seed: int) -> None:
    said = accelsim("run", "lenet-300-100-digits", "--density", "0.5", "--seed", seed)
    assert (said.code, "--seed" in said.err) == (2, True)
    text = (
        f'name = "net"\n[[layer]]\nname = "fc"\nout_features = 2\nin_features = 2\nactivations = {{ seed = {seed} }}\n'
    )
    (tmp_path / "net.toml").write_text(text)
    assert "seed" in accelsim("run", tmp_path / "net.toml").errors[0]
    if seed >= 2**63:
        with pytest.raises(InputError, match=r"seed must be a whole number, at least 0 and below 2\^63"):
            Density(0.5, seed)


def test_the_largest_seed_runs(accelsim: Run) -> None:
    command = ("run", "lenet-300-100-digits", "--density", "0.5", "--against", "none", "--seed", 2**62)
    assert accelsim(*command).code == 0


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random"])
def test_a_search_takes_any_seed(sampler: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    space = {"network": "lenet-300-100-digits", "objectives": ["energy_pj"], "vary": {"engine.fifo_depth": [4, 8]}}
    assert len(search(space, tmp_path / "r.db", trials=2, sampler=sampler, seed=2**62, jobs=1)) > 0


def test_what_a_chip_of_a_file_cannot_do_names_the_file(accelsim: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('base = "eie-64pe-45nm"\nname = "eie"\n[engine]\nactivation_bytes = 2000000000\n')
    for command in (("energy", mine), ("run", "lenet-300-100-digits", "--hardware", mine, "--against", "none")):
        said = accelsim(*command)
        assert said.code == 2
        assert said.errors[0].startswith(f"{mine}: eie: activation memory: ") or f" on eie ({mine}): " in said.errors[0]
    assert str(mine) not in accelsim("energy", "eie-64pe-45nm", "--set", "engine.activation_bytes=2000000000").err


@pytest.mark.parametrize("length", [1, 150, 187, 188, 250, 900])
def test_of_long_problems_those_are_told_that_fit(length: int) -> None:
    text = str(InputError(*[("x y " * length)[:length] for _ in range(12)]))
    assert len("".join(f"error: {line}\n" for line in text.splitlines())) <= LONGEST_MESSAGE
    lines = str(InputError("\n".join("a long line" for _ in range(1000))))
    assert len(lines) < LONGEST_MESSAGE
    assert lines.startswith("a long line\n")


@pytest.mark.parametrize("command", [("list",), ("schema", "hardware"), ("inspect", "lenet-5"), ("check", "lenet-5")])
def test_a_command_ends_at_the_limit(accelsim: Run, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    seen: list[bool] = []

    @contextmanager
    def watched() -> Iterator[None]:
        seen.append(True)
        yield
        seen.append(False)

    monkeypatch.setattr(sys.modules["accelsim.cli.app"], "watched", watched)
    assert accelsim(*command).code == 0
    assert seen == [True, False]


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_large_networks_are_looked_at_within_the_limit(
    accelsim: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    """The clock goes ten seconds a layer of 50 x 100 weights: after two of them it is known what a hundred take."""
    now = [0.0]
    monkeypatch.setattr(stopping, "monotonic", lambda: now[0])
    matrix = WeightMatrix.__init__

    def slow(self: WeightMatrix, *arguments: Any) -> None:
        now[0] += 10.0
        matrix(self, *arguments)

    def detected(weight: Any, detect: Any = sys.modules["accelsim.inspection"].detect) -> Any:
        now[0] += 10.0
        return detect(weight)

    monkeypatch.setattr(WeightMatrix, "__init__", slow)
    monkeypatch.setattr("accelsim.inspection.detect", detected)
    np.savez(tmp_path / "net.npz", **{f"fc{n}.weight": np.ones((50, 100)) for n in range(100)})
    said = accelsim(command, tmp_path / "net.npz", "--limit", "5m")
    assert said.code == 2
    assert "will take about 16.3 minutes more; the limit is 5.0 minutes: raise it with --limit" in said.errors[-1]


def test_a_layer_that_takes_much_memory_is_told_before(accelsim: Run, tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text(
        'name = "net"\n[[layer]]\nname = "fc"\nout_features = 20000\nin_features = 10000\n'
        "synthetic = { density = 0.5, seed = 1 }\n"
    )
    said = accelsim("inspect", tmp_path / "net.toml", "--graph")
    assert "note: layer fc may take 1.5 GiB of memory" in said.err


def test_a_layer_of_more_blocks_than_16_bits_reach_is_looked_at() -> None:
    (row,) = inspect(Network("net", [Layer.linear("fc", np.eye(1, 4 * 2**16 + 4))])).to_dict("records")
    block_bits, column_bits, pointer_bits = 16 * 64, 32, 2 * 32
    assert row["bsr_4x4_bits"] == block_bits + column_bits + pointer_bits


def test_of_no_points_none_is_feasible() -> None:
    table = pd.DataFrame({"energy_pj": np.zeros(0), "error": np.zeros(0, object)})
    assert feasible(table, ["energy_pj <= 1"]).tolist() == []
