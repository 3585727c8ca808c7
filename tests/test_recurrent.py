"""Products that run one after another: a step waits for the one before, so a chip cannot take them together."""

from __future__ import annotations

import numpy as np
import pytest

import accelsim
from accelsim import InputError, Layer, Network
from accelsim.compare import compare
from accelsim.results import SUMMED

HIDDEN, STEPS, BATCH = 96, 7, 3
CHIPS = ["a100-pcie", "edge-nm-16x16"]


def recurrent(steps: int, tokens: int = 1) -> Layer:
    """The recurrent weights of an LSTM, 2:4, with inputs of which none is zero."""
    rng = np.random.default_rng(0)
    weight = rng.random((4 * HIDDEN, HIDDEN)) + 0.1
    weight[:, 0::4] = weight[:, 1::4] = 0
    vectors = steps * tokens
    inputs = rng.random((BATCH, vectors, HIDDEN) if vectors > 1 else (BATCH, HIDDEN)) + 0.1
    return Layer.linear("hh", weight, steps=steps, tokens=tokens, activations=inputs)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("tokens", [1, 2])
def test_steps_on_a_tensor_core_cost_that_many_times_one(chip: str, tokens: int) -> None:
    one = accelsim.simulate(recurrent(1, tokens), chip).iloc[0]
    many = accelsim.simulate(recurrent(STEPS, tokens), chip, verify=True).iloc[0]
    size = [column for column in SUMMED if column.startswith("storage_")]
    size += ["stored_entries", "dense_bits", "world_weight_bytes"]
    for column in set(SUMMED) - set(size):
        assert many[column] == pytest.approx(STEPS * one[column], rel=1e-12), column
    for column in ["tile", "limited_by", "executed_as", "clock_mhz", *size]:
        assert many[column] == one[column], column
    for column in ["utilization", "load_balance", "power_mw", "dram_gb_per_s"]:
        assert many[column] == pytest.approx(one[column], rel=1e-12), column
    assert (one["vectors"], many["vectors"]) == (BATCH * tokens, STEPS * BATCH * tokens)
    assert many["macs"] == STEPS * BATCH * tokens * 4 * HIDDEN * HIDDEN // 2


@pytest.mark.parametrize("chip", CHIPS)
def test_vectors_that_need_not_wait_are_one_product(chip: str) -> None:
    waits, together = (accelsim.simulate(layer, chip).iloc[0] for layer in (recurrent(64), recurrent(1, tokens=64)))
    assert waits["macs"] == together["macs"]
    assert waits["cycles"] > together["cycles"]


def test_eie_takes_vectors_one_after_another_either_way() -> None:
    waits, together = (
        accelsim.simulate(layer, "eie-64pe-45nm", verify=True) for layer in (recurrent(STEPS), recurrent(1, STEPS))
    )
    assert waits.equals(together)


def test_specification_and_twin_agree_on_steps() -> None:
    rows = [accelsim.simulate(recurrent(2), "edge-nm-16x16", backend=each) for each in ("compiled", "simpy")]
    assert rows[0].drop(columns="backend").equals(rows[1].drop(columns="backend"))


def test_steps_must_be_a_count_and_fit_the_activations() -> None:
    with pytest.raises(InputError) as error:
        Layer.linear("hh", np.eye(3), steps=0, tokens="two")
    assert [problem.split(" must")[0] for problem in error.value.problems] == ["layer hh: tokens:", "layer hh: steps:"]
    with pytest.raises(InputError, match=r"activations: must be \(6, 3\)"):
        Layer.linear("hh", np.eye(3), steps=2, tokens=3, activations=np.ones((2, 3)))


def test_steps_survive_pruning_in_compare() -> None:
    table = compare(Network("n", [recurrent(STEPS)]), ["a100-pcie"], ["nm:2:4"], 0.5)
    assert table["vectors"].tolist() == [BATCH * STEPS] * 2
    assert table["cycles"].nunique() == 1
