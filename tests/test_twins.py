"""Is the compiled engine equal to its specification, integer for integer?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import eie_image, run_both
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import ConvCase, EieCase, conv_cases, eie_cases

import accelsim

MODES = {"NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"}


@given(eie_cases())
def test_counts_and_product_are_equal(case: EieCase) -> None:
    codebook = np.arange(2**case.config.code_bits) * 3 - 7
    codebook[0] = 0
    image = eie_image(case.codes, case.config, bias=case.bias, codebook=codebook)
    specification, twin = run_both(case.config, image, case.activations)
    assert specification.counts == twin.counts
    assert specification.output is not None
    assert twin.output is not None
    assert np.array_equal(specification.output, twin.output)
    assert np.array_equal(twin.output, case.activations @ codebook[case.codes].T)


@given(eie_cases())
def test_every_column_of_the_table_is_equal(case: EieCase) -> None:
    hardware = accelsim.load_hardware(
        "eie-64pe-45nm",
        {
            "engine.pes": case.config.pes,
            "engine.fifo_depth": case.config.fifo_depth,
            "engine.registers_per_pe": case.config.registers_per_pe,
            "engine.capacity": case.config.capacity,
        },
    )
    matrix = case.codes.astype(np.float32)
    weight, bias = (matrix[:, :-1], matrix[:, -1]) if case.bias else (matrix, None)
    assume(weight.any())  # all zeros are legal, and warned about
    layer = accelsim.Layer.linear("layer", weight, bias)
    inputs = {"layer": case.activations[:, : layer.in_features]}
    compiled = accelsim.simulate(layer, hardware, inputs, backend="compiled", verify=True)
    simpy = accelsim.simulate(layer, hardware, inputs, backend="simpy", verify=True)
    assert list(compiled["backend"]) == ["compiled"]
    assert list(simpy["backend"]) == ["simpy"]
    assert compiled.drop(columns="backend").equals(simpy.drop(columns="backend"))


@given(conv_cases(), st.booleans(), st.booleans())
def test_convolutions_and_batches_are_equal_in_every_column(case: ConvCase, biased: bool, roomy: bool) -> None:
    """Some with registers for two outputs a PE, so that there are slices, and memories that hold next to nothing."""
    small = {"engine.registers_per_pe": 2, "engine.activation_bytes": 8, "memory.residency": "stream"}
    chip = accelsim.load_hardware("eie-64pe-45nm", {"engine.pes": 3} | ({} if roomy else small))
    assume(case.weight.any())
    layer = case.layer(np.arange(len(case.weight)) if biased else None)
    tables = [
        accelsim.simulate(layer, chip, {"conv": case.samples}, backend, verify=True)
        for backend in ("compiled", "simpy")
    ]
    compiled, simpy = (table.drop(columns="backend") for table in tables)
    assert compiled.equals(simpy)
    assert compiled["vectors"].iloc[0] == len(case.samples) * layer.products.vectors


@pytest.mark.thorough
@pytest.mark.parametrize("switch", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_kernels_in_other_modes(switch: str, tmp_path: Path) -> None:
    """The same tests, interpreted, where integers do not overflow silently, and with every index checked."""
    if MODES & os.environ.keys():
        pytest.skip("this is such a run already")
    tests = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not other_modes"]
    done = subprocess.run(
        [*command, *(str(tests / f"test_{name}.py") for name in ("twins", "formats", "pruning"))],
        env={**os.environ, switch: "1", "NUMBA_CACHE_DIR": str(tmp_path)},
        cwd=tests.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
