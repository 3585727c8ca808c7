"""The table: columns, units, totals that can be derived, and what several chips share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import accelsim
from accelsim.config import content_hash
from accelsim.results import COLUMNS
from accelsim.simulation import Prepared

CHIP = accelsim.load_hardware("eie-64pe-45nm")


@pytest.fixture(scope="module")
def layer() -> accelsim.Layer:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((200, 300)) * (rng.random((200, 300)) < 0.1)
    return accelsim.Layer.linear("fc", weight.astype(np.float32), rng.standard_normal(200))


def test_columns_come_in_order_with_their_types(layer: accelsim.Layer) -> None:
    result = accelsim.simulate(layer, CHIP, 0.3)
    assert list(result.columns) == [column.name for column in COLUMNS]
    for column in COLUMNS:
        if column.dtype == "str":
            assert all(isinstance(value, str) for value in result[column.name])
        else:
            assert str(result[column.name].dtype) == column.dtype


def test_rates_follow_from_counts(layer: accelsim.Layer) -> None:
    row = accelsim.simulate(layer, CHIP, 0.3).iloc[0]
    assert row["time_us"] == row["cycles"] / 800
    assert row["utilization"] == row["macs"] / (row["cycles"] * 64)
    assert row["load_balance"] == row["busy_cycles"] / (row["cycles"] * 64)
    stalls = row[[name for name in row.index if name.startswith("stall_")]].sum()
    assert row["busy_cycles"] + stalls == 64 * row["cycles"]
    assert row["power_mw"] == pytest.approx(row["energy_pj"] * 1e-12 / (row["time_us"] * 1e-6) * 1e3)
    assert row["edp_pj_s"] == pytest.approx(row["energy_pj"] * row["time_us"] * 1e-6)
    spmat_bytes = row["count_spmat_reads"] * 8  # 64-bit rows
    assert row["sram_spmat_gb_per_s"] == pytest.approx(spmat_bytes / row["time_us"] / 1e3)
    pointer_bytes = row["count_ptr_reads"] * 4  # two of 16 bits
    assert row["sram_pointer_gb_per_s"] == pytest.approx(pointer_bytes / row["time_us"] / 1e3)
    parts = row[["sram_spmat_gb_per_s", "sram_pointer_gb_per_s", "sram_activation_gb_per_s"]].sum()
    assert row["sram_gb_per_s"] == pytest.approx(parts)


def test_storage_is_exact(layer: accelsim.Layer) -> None:
    row = accelsim.simulate(layer, CHIP, 0.3).iloc[0]
    nonzeros = np.count_nonzero(layer.weight) + np.count_nonzero(layer.bias)
    assert row["storage_values_bits"] == row["storage_indices_bits"] == 4 * nonzeros
    assert row["storage_padding_bits"] == 8 * (row["stored_entries"] - nonzeros)
    assert row["storage_pointers_bits"] == 64 * (300 + 1 + 1) * 16  # inputs, bias, and one more
    assert row["storage_codebook_bits"] == 16 * 16
    parts = [name for name in row.index if name.startswith("storage_") and name != "storage_bits"]
    assert row["storage_bits"] == row[parts].sum()
    bits = 8 * layer.weight.itemsize
    assert row["stored_as"] == layer.weight.dtype.name
    assert row["compression_ratio"] == bits * 200 * 300 / row["storage_bits"]  # the weights alone, on every machine


@pytest.mark.parametrize(
    ("kept", "bits"), [("", 32), ("BF16", 16), ("int4 (GPTQ)", 4), ("fp4 (MXFP4)", 4), ("Q4_K", 4), ("F8_E4M3", 8)]
)
def test_sizes_are_compared_in_the_type_of_the_file_on_every_machine(kept: str, bits: int) -> None:
    weight = np.ones((64, 64), np.float32)
    layer = replace(accelsim.Layer.linear("fc", weight, np.ones(64, np.float32)), stored_as=kept)
    rows = accelsim.simulate(layer, [CHIP, "a100-pcie"], 1.0)
    assert rows["stored_as"].tolist() == [kept or "float32"] * 2
    assert rows["dense_bits"].tolist() == [64 * 64 * bits] * 2
    assert rows["compression_ratio"].tolist() == (64 * 64 * bits / rows["storage_bits"]).tolist()


def test_densities_are_those_of_the_data(layer: accelsim.Layer) -> None:
    inputs = np.zeros(300)
    inputs[:75] = -1.0  # a negative input is not skipped
    row = accelsim.simulate(layer, CHIP, {"fc": inputs}).iloc[0]
    assert row["activation_density"] == 0.25
    assert row["weight_density"] == np.count_nonzero(layer.weight) / 60000
    assert row["macs"] == np.count_nonzero(layer.weight[:, :75]) + 200  # and the bias


def test_a_drawn_density_is_exact_and_repeats(layer: accelsim.Layer) -> None:
    first, again, other = (accelsim.simulate(layer, CHIP, 0.37, seed=seed) for seed in (4, 4, 5))
    assert first.equals(again)
    assert first["activation_density"].iloc[0] == 111 / 300
    assert first["seed"].iloc[0] == 4
    assert first["cycles"].iloc[0] != other["cycles"].iloc[0]


def test_a_batch_is_its_vectors_one_after_another(layer: accelsim.Layer) -> None:
    batch = np.random.default_rng(1).random((3, 300)) * (np.random.default_rng(2).random((3, 300)) < 0.4)
    together = accelsim.simulate(layer, CHIP, {"fc": batch}).iloc[0]
    apart = pd.concat([accelsim.simulate(layer, CHIP, {"fc": vector}) for vector in batch])
    assert together["batch"] == 3
    for name in ("cycles", "macs", "busy_cycles", "count_spmat_reads", "stall_scan_cycles"):
        assert together[name] == apart[name].sum()


def test_no_activations_is_a_warning_and_density_one(layer: accelsim.Layer) -> None:
    with pytest.warns(UserWarning, match="no activations for fc: every input counts as non-zero"):
        row = accelsim.simulate(layer, CHIP).iloc[0]
    assert row["activation_density"] == 1.0
    assert row["macs"] == np.count_nonzero(layer.weight) + 200


def test_all_zero_weights_are_legal_and_said() -> None:
    layer = accelsim.Layer.linear("nothing", np.zeros((10, 20)))
    with pytest.warns(UserWarning, match="layer nothing: all weights are zero"):
        row = accelsim.simulate(layer, CHIP, 1.0).iloc[0]
    assert row["macs"] == row["count_spmat_reads"] == 0
    assert row["stall_empty_column_cycles"] == 20 * 64


def test_several_chips_give_the_rows_of_each_alone(layer: accelsim.Layer) -> None:
    chips = [
        accelsim.load_hardware(CHIP, {"engine.fifo_depth": depth, "engine.pes": pes})
        for depth, pes in ((2, 64), (8, 7), (16, 64))
    ]
    together = accelsim.simulate(layer, chips, 0.5)
    apart = pd.concat([accelsim.simulate(layer, chip, 0.5) for chip in chips], ignore_index=True)
    assert together.equals(apart)
    assert together["hardware_hash"].nunique() == 3
    assert together["layer_hash"].nunique() == 1


def test_the_hash_of_a_chip_is_its_content() -> None:
    same = accelsim.load_hardware(CHIP, {"name": "another name", "engine.fifo_depth": 8})
    assert same.content_hash == CHIP.content_hash
    assert accelsim.load_hardware(CHIP, {"engine.fifo_depth": 9}).content_hash != CHIP.content_hash
    assert accelsim.load_hardware(CHIP, {"technology.register_bit_pj": 0.01}).content_hash != CHIP.content_hash


def test_a_hash_is_that_of_the_content_whatever_was_hashed_before() -> None:
    technology = CHIP.technology
    assert technology is not None
    assert technology.content_hash == content_hash(technology) == replace(technology).content_hash
    assert CHIP.content_hash == replace(CHIP).content_hash
    other = replace(technology, register_bit_pj=2 * technology.register_bit_pj)
    assert other.content_hash != technology.content_hash
    assert replace(CHIP, technology=other).content_hash != CHIP.content_hash
    assert replace(CHIP, engine=replace(CHIP.engine, pes=32)).content_hash != CHIP.content_hash


@pytest.mark.parametrize("keep", [False, True])
def test_a_network_that_is_ready_runs_as_often_as_wanted(keep: bool) -> None:
    read: list[str] = []

    def source(name: str) -> Callable[[], np.ndarray]:
        def weight() -> np.ndarray:
            read.append(name)
            return np.eye(8, 16)

        return weight

    plain = accelsim.Layer.linear("a", np.eye(8, 16), activations=accelsim.Density(0.5, 3))
    layers = [replace(plain, name=name, weight_source=source(name)) for name in "ab"]
    ready = Prepared(accelsim.Network("net", layers), keep=keep)
    first, second = ready.rows([CHIP]), ready.rows([CHIP, accelsim.load_hardware(CHIP, {"engine.clock_mhz": 400.0})])
    assert first[0] == second[0]
    assert [row["layer"] for row in second[1]] == ["a", "b"]
    assert first[0] == accelsim.simulate(accelsim.Network("net", layers), CHIP)[[*first[0][0]]].to_dict("records")
    # Kept, each layer is read once; `simulate` at the end reads both again.
    assert read == (list("ab") if keep else list("abab")) + list("ab")


@pytest.mark.parametrize(
    "settings", [{}, {"engine.code_bits": 16, "engine.weight_sharing": False}, {"engine.code_bits": 2}]
)
def test_the_product_is_verified_bit_for_bit(layer: accelsim.Layer, settings: dict[str, object]) -> None:
    row = accelsim.simulate(layer, accelsim.load_hardware(CHIP, settings), 0.5, verify=True).iloc[0]
    assert row["verified"] == "exact"


def test_a_wrong_product_does_not_pass(layer: accelsim.Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelsim.engines.eie import twin

    honest = twin.multiply
    monkeypatch.setattr(twin, "multiply", lambda *args: honest(*args) + 1)
    with pytest.raises(accelsim.VerificationError, match="layer fc"):
        accelsim.simulate(layer, CHIP, 0.5, verify=True)


def test_compressing_fewer_bits_costs_padding(layer: accelsim.Layer) -> None:
    short, long = (
        accelsim.simulate(layer, accelsim.load_hardware(CHIP, {"engine.pes": 4, "engine.index_bits": bits}), 0.5).iloc[
            0
        ]
        for bits in (1, 8)
    )
    assert short["padding_macs"] > long["padding_macs"] == 0
    assert short["macs"] == long["macs"]


def test_memory_of_a_chip_is_in_the_error(layer: accelsim.Layer) -> None:
    tiny = accelsim.load_hardware(
        CHIP,
        {
            "engine.spmat_bytes": 64,
            "engine.pointer_bytes": 100,
            "engine.activation_bytes": 8,
            "memory.residency": "resident",
        },
    )
    with pytest.raises(accelsim.InputError) as caught:
        accelsim.simulate(layer, tiny, 0.5)
    problems = "\n".join(caught.value.problems)
    # 301 columns and one more pointer of 2 bytes; 5 inputs and 4 outputs of 2 bytes in the fullest PE.
    assert "layer fc on eie-64pe-45nm: engine.pointer_bytes: needs 604 bytes per PE, has 100" in problems
    assert "engine.activation_bytes: needs 18 bytes per PE, has 8" in problems
    assert "engine.spmat_bytes: needs" in problems
    lifted = accelsim.load_hardware(tiny, {"engine.capacity": "ignore"})
    assert accelsim.simulate(layer, lifted, 0.5)["capacity"].iloc[0] == "ignore"


def test_pointers_that_cannot_reach_are_named() -> None:
    layer = accelsim.Layer.linear("wide", np.ones((64, 40)))
    chip = accelsim.load_hardware(CHIP, {"engine.pes": 1, "engine.pointer_bits": 8, "memory.residency": "resident"})
    with pytest.raises(accelsim.InputError, match="8-bit pointers reach 255 entries, the fullest PE stores 2560"):
        accelsim.simulate(layer, chip, 1.0)


def test_a_layer_that_the_chip_cannot_run_has_an_empty_row() -> None:
    # 301 columns and one more pointer of 2 bytes do not fit 100 bytes; 5 columns do.
    wide, narrow = (accelsim.Layer.linear(name, np.ones((4, inputs))) for name, inputs in (("w", 301), ("n", 5)))
    chip = accelsim.load_hardware(CHIP, {"engine.pointer_bytes": 100, "memory.residency": "resident"})
    with pytest.warns(UserWarning, match=r"layer w on .*: engine\.pointer_bytes: needs 604 bytes .* it is in no total"):
        table = accelsim.simulate(accelsim.Network("n", [wide, narrow]), chip, 1.0)
    assert table["executed_as"].tolist() == ["unsupported", "sparse"]
    row, ran = (table.iloc[number] for number in (0, 1))
    assert row[["cycles", "time_us", "energy_pj", "macs", "storage_bits"]].isna().all()
    assert row[["in_features", "weight_density", "activation_density", "batch"]].tolist() == [301, 1.0, 1.0, 1]
    assert table["cycles"].sum() == ran["cycles"]
    alone = accelsim.simulate(narrow, chip, 1.0).iloc[0]
    assert alone.drop(["network", "seed"]).equals(ran.drop(["network", "seed"]))
