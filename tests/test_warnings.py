"""A warning points to the line of the user that led to it, from whatever depth of the package it comes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run

import accelsim
from accelsim.compare import compare
from accelsim.curves import curve
from accelsim.divisions import divisions
from accelsim.errors import warn
from accelsim.pruned import prune_network
from accelsim.timeline import timeline

CHIP = "eie-64pe-45nm"
RNG = np.random.default_rng(0)
NET = accelsim.Network(
    "net",
    [
        accelsim.Layer.conv2d("conv", RNG.normal(size=(8, 4, 3, 3)).astype(np.float32), input_hw=6),
        accelsim.Layer.linear("fc", RNG.normal(size=(16, 32)).astype(np.float32)),
    ],
)
"""No activations, and a layer that `kernel` cannot prune."""

PRUNED = prune_network(NET, "fine", 0.5)
ZEROS = accelsim.Layer.linear("zeros", np.zeros((4, 4)))
# A PE of 64 holds an output of `wide`, 128 entries of a byte, or half of the outputs of `fc`.
LARGE = accelsim.Network("large", [NET["fc"], accelsim.Layer.linear("wide", np.ones((64, 128), np.float32))])
FEW = {"memory.residency": "resident", "engine.spmat_bytes": 72}
SMALL = accelsim.load_hardware(CHIP, FEW)


def sweep(tmp_path: Path) -> Any:
    space = {"network": LARGE, "hardware": CHIP, "set": FEW, "vary": {"density": [0.5, 1.0]}}
    return accelsim.sweep(space, tmp_path / "store.db", jobs=1)


CALLS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "simulate, no activations": ("no activations for conv, fc", lambda _: accelsim.simulate(NET, CHIP)),
    "simulate, zeros": ("all weights are zero", lambda _: accelsim.simulate(ZEROS, CHIP, 1.0)),
    "simulate, unsupported": ("layer wide on", lambda _: accelsim.simulate(LARGE, SMALL, 1.0)),
    "units": ("no activations", lambda _: accelsim.units(NET, CHIP)),
    "timeline": ("no activations", lambda _: timeline(NET, CHIP, "fc")),
    "prune_network": ("left unpruned", lambda _: prune_network(NET, "kernel", 0.5)),
    "compare": ("left unpruned", lambda _: compare(NET, [CHIP], ["kernel"], 0.5, activations=1.0)),
    "compare, no activations": ("no activations", lambda _: compare(NET, [CHIP], ["fine"], 0.5)),
    "curve": ("left unpruned", lambda _: curve(NET, [CHIP], ["kernel"], [0.5], activations=1.0)),
    "curve, a point": ("is left out", lambda _: curve(NET, [CHIP], ["filter"], [0.5, 0.99], activations=1.0)),
    "divisions": ("accuracy unknown for", lambda _: divisions(PRUNED, [CHIP], activations=1.0)),
    "sweep": ("layer wide on", sweep),
}


@pytest.mark.parametrize("name", CALLS)
def test_it_points_to_the_caller(name: str, tmp_path: Path) -> None:
    said, call = CALLS[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(tmp_path)
    assert any(said in str(each.message) for each in caught), [str(each.message) for each in caught]
    lines, first = inspect.getsourcelines(call)
    for each in caught:
        assert each.filename == __file__
        assert first <= each.lineno < first + len(lines)


def test_it_points_to_where_it_stands_outside_the_package() -> None:
    with pytest.warns(UserWarning, match="^said$") as caught:
        warn("said")
    assert caught[0].filename == __file__


def test_a_function_of_the_user_is_no_part_of_the_package() -> None:
    def evaluate(_: accelsim.Network) -> float:
        accelsim.simulate(ZEROS, CHIP, 1.0)
        return 1.0

    with pytest.warns(UserWarning, match="all weights are zero") as caught:
        curve(NET, [CHIP], ["fine"], [0.5], activations=1.0, evaluate=evaluate)
    assert inspect.getsourcelines(evaluate)[1] + 1 == caught[0].lineno


def test_the_commands_tell_them_as_notes(accelsim: Run) -> None:
    done = accelsim("compare", "convnet-digits", "--granularity", "kernel", "--sparsity", "0.5")
    assert done.code == 0
    notes = [line for line in done.err.splitlines() if line.startswith("note: ")]
    assert any("left unpruned" in line for line in notes)
    assert "Warning" not in done.err
