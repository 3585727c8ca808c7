"""Hypothesis strategies: machines, layers and inputs, small enough for the specification."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from accelsim.hardware import EieConfig


class EieCase(NamedTuple):
    """A machine, a matrix of codes (bias as last column where `bias`), and integer activations of its columns."""

    config: EieConfig
    codes: np.ndarray
    activations: np.ndarray
    bias: bool


@st.composite
def eie_configs(draw: st.DrawFn) -> EieConfig:
    """Machines of every shape, not only powers of two."""
    index_bits = draw(st.integers(1, 6))
    code_bits = draw(st.integers(1, 6))
    return EieConfig(
        pes=draw(st.integers(1, 20)),
        fifo_depth=draw(st.integers(2, 12)),
        spmat_width_bits=(index_bits + code_bits) * draw(st.integers(1, 9)) + draw(st.integers(0, 3)),
        index_bits=index_bits,
        code_bits=code_bits,
        registers_per_pe=draw(st.sampled_from([1, 2, 3, 64])),
        capacity=draw(st.sampled_from(["error", "ignore"])),
        # Memories large enough that only the registers cut vectors.
        spmat_bytes=2**24,
        pointer_bytes=2**24,
        activation_bytes=2**24,
        pointer_bits=32,
    )


@st.composite
def eie_cases(draw: st.DrawFn) -> EieCase:
    """A machine with a layer and a vector or a small batch; densities from empty to full."""
    config = draw(eie_configs())
    bias = draw(st.booleans())
    outputs, inputs = draw(st.integers(1, 70)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.7, 1.0]))
    codes = rng.integers(1, 2**config.code_bits, (outputs, inputs + bias)) * (
        rng.random((outputs, inputs + bias)) < density
    )
    batch = draw(st.integers(1, 2))
    activations = rng.integers(-100, 100, (batch, inputs + bias))
    activations *= rng.random(activations.shape) < draw(st.sampled_from([0.0, 0.05, 0.4, 1.0]))
    if bias:
        activations[:, -1] = 1
    return EieCase(config, codes, activations, bias)
