"""Is EIE cycle-exact against an independent register-transfer-level simulation?"""

from __future__ import annotations

import csv
from functools import lru_cache

import numpy as np
import pytest
from conftest import ALEXNET_FC8, EVIDENCE, needs_fc8

import accelsim
from accelsim.engines.eie import twin
from accelsim.engines.eie.image import encode_layer
from accelsim.formats.counting import WeightMatrix

CASES = list(csv.DictReader((EVIDENCE / "eie" / "cases.csv").read_text().splitlines()))
MEASURES = {
    "cycles": "cycles",
    "ptr_reads": "count_ptr_reads",
    "spmat_reads": "count_spmat_reads",
    "macs": "macs",
    "stored_entries": "stored_entries",
}

RUNS = [
    pytest.param(
        row,
        backend,
        marks=[needs_fc8, *slow] if row["case"] == "alexnet_fc8" else [],
        id=f"{row['case']}-{row['pes']}pe-b{row['fifo_depth']}-{backend}",
    )
    for backend, slow in (("compiled", []), ("simpy", [pytest.mark.thorough]))
    for row in CASES
]


@lru_cache(maxsize=1)
def _arrays() -> dict[str, np.ndarray]:
    arrays = dict(np.load(EVIDENCE / "eie" / "random_inputs.npz"))
    if not ALEXNET_FC8.is_file():
        return arrays
    fc8 = np.load(ALEXNET_FC8)
    return arrays | {"alexnet_fc8_codes": fc8["codes"], "alexnet_fc8_act": fc8["act"]}


def _case(row: dict[str, str]) -> tuple[accelsim.Layer, accelsim.Hardware]:
    arrays = _arrays()
    weight = arrays["codebook"][arrays[f"{row['case']}_codes"]]
    layer = accelsim.Layer.linear(row["case"], weight[:, :-1], weight[:, -1], activations=arrays[f"{row['case']}_act"])
    hardware = accelsim.load_hardware(
        "eie-64pe-45nm",
        {
            "engine.pes": int(row["pes"]),
            "engine.fifo_depth": int(row["fifo_depth"]),
            "engine.spmat_width_bits": 8 * int(row["entries_per_line"]),
            "engine.capacity": "ignore",
        },
    )
    return layer, hardware


@pytest.mark.filterwarnings("ignore:layer random_19. all weights are zero")  # its only entry is in the bias
@pytest.mark.parametrize(("row", "backend"), RUNS)
def test_equal_to_register_transfer_level(row: dict[str, str], backend: str) -> None:
    layer, hardware = _case(row)
    result = accelsim.simulate(layer, hardware, backend=backend).iloc[0]
    assert {key: int(result[column]) for key, column in MEASURES.items()} == {key: int(row[key]) for key in MEASURES}


@needs_fc8
def test_fc8_takes_the_time_of_the_paper() -> None:
    row = next(r for r in CASES if (r["case"], r["pes"], r["fifo_depth"]) == ("alexnet_fc8", "64", "8"))
    layer, hardware = _case(row)
    result = accelsim.simulate(layer, hardware, verify=True).iloc[0]
    assert result["cycles"] == 7926
    assert round(result["time_us"], 1) == 9.9  # Table IV, Alex-8
    assert result["verified"] == "exact"


@needs_fc8
def test_fc8_classifies_its_image_and_agrees_with_the_real_product() -> None:
    arrays = _arrays()
    codes = arrays["alexnet_fc8_codes"].astype(np.int64)
    config = accelsim.load_hardware("eie-64pe-45nm", {"engine.capacity": "ignore"}).engine
    # Fixed point by hand: 15 fraction bits for weights below 1/16 in 16 bits would waste range, 18 fit.
    table = np.rint(arrays["codebook"].astype(float) * 2**18).astype(np.int64)
    activations = np.append(np.rint(arrays["alexnet_fc8_act"].astype(float) * 2**10), 2**10).astype(np.int64)
    weights = WeightMatrix(np.ascontiguousarray(codes[:, :-1]), np.ascontiguousarray(codes[:, -1]))
    output = twin.run(config, encode_layer(weights, config, codes, table), activations[None]).output
    assert output is not None
    real = arrays["codebook"].astype(float)[codes] @ np.append(arrays["alexnet_fc8_act"].astype(float), 1.0)
    assert int(output[0].argmax()) == int(real.argmax()) == 708
    # 1759 products, each with a weight off by at most 2^-19 and an activation by at most 2^-11.
    bound = 2**-19 * np.abs(arrays["alexnet_fc8_act"]).sum() + 2**-11 * 1760 * np.abs(real).max()
    assert np.abs(output[0] * 2.0**-28 - real).max() < bound


@pytest.mark.thorough
@needs_fc8
def test_one_pe_works_off_the_entries_one_a_cycle() -> None:
    """facts/eie.md: 461,320 entries of the real fc8 take one PE 461,330 cycles."""
    row = {"case": "alexnet_fc8", "pes": "1", "fifo_depth": "8", "entries_per_line": "8"}
    layer, hardware = _case(row)
    result = accelsim.simulate(layer, hardware).iloc[0]
    assert result["busy_cycles"] == 461_320
    assert result["cycles"] == 461_330
