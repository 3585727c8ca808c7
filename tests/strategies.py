"""Hypothesis strategies: machines, layers and inputs, small enough for the specification."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any, NamedTuple

import numpy as np
from conftest import eie_image
from hypothesis import strategies as st

from accelsim.chips import MemoryConfig
from accelsim.engines.eie.config import EieConfig
from accelsim.engines.eie.memory import stream as fed_stream
from accelsim.engines.streaming import Stream
from accelsim.memory import DramPart, load_part
from accelsim.memory.service import DramService
from accelsim.network.layer import Layer
from accelsim.network.lowering import Maps
from accelsim.pruning import Granularity


class EieCase(NamedTuple):
    """A machine, a matrix of codes (bias as last column where `bias`), and integer activations of its columns."""

    config: EieConfig
    codes: np.ndarray
    activations: np.ndarray
    bias: bool


@st.composite
def eie_configs(draw: st.DrawFn) -> EieConfig:
    """Machines of every shape, not only powers of two."""
    index_bits = draw(st.integers(0, 6))
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
    batch = draw(st.integers(1, 4))
    activations = rng.integers(-100, 100, (batch, inputs + bias))
    activations *= rng.random(activations.shape) < draw(st.sampled_from([0.0, 0.05, 0.4, 1.0]))
    if bias:
        activations[:, -1] = 1
    return EieCase(config, codes, activations, bias)


class ConvCase(NamedTuple):
    """Integer samples (batch, in_channels, height, width), weights, and the geometry as `Layer.conv2d` takes it."""

    samples: np.ndarray
    weight: np.ndarray
    geometry: dict[str, Any]

    def layer(self, bias: np.ndarray | None = None) -> Layer:
        """The layer with these weights."""
        return Layer.conv2d("conv", self.weight, bias, input_hw=self.samples.shape[2:], **self.geometry)


@st.composite
def conv_cases(draw: st.DrawFn) -> ConvCase:
    """Convolutions of every geometry, some with groups, some depthwise."""

    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, stride, padding, dilation = pair(1, 3), pair(1, 3), pair(0, 2), pair(1, 2)
    groups, per_group, filters = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    reach = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    height, width = (max(1, least) + draw(st.integers(0, 4)) for least in reach)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = groups * filters, per_group, *kernel
    weight = rng.integers(-9, 10, shape) * (rng.random(shape) < 0.6)
    samples = rng.integers(-9, 10, (draw(st.integers(1, 2)), groups * per_group, height, width))
    samples *= rng.random(samples.shape) < draw(st.sampled_from([0.2, 1.0]))
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return ConvCase(samples, weight, geometry)


class StreamCase(NamedTuple):
    """A layer on a machine with small memories, and how it is fed."""

    case: EieCase
    stream: Stream


@st.composite
def stream_cases(draw: st.DrawFn) -> StreamCase:
    """A machine whose memories hold some rows and pointers, fed by a memory of any speed."""
    case = draw(eie_cases())
    # A column has at most 70 rows of one entry; half a memory must hold it.
    config = replace(
        case.config,
        capacity="error",
        clock_mhz=1000.0,
        spmat_bytes=-(-case.config.spmat_width_bits * draw(st.integers(140, 600)) // 8),
        pointer_bytes=4 * draw(st.integers(4, 200)),
    )
    image = eie_image(case.codes, config, bias=case.bias)
    # A vector on its own, or rows of a feature map.
    row, rows = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    linear = Maps(image.inputs, image.outputs)
    maps = st.sampled_from([linear, Maps(draw(st.integers(1, 500)), row * rows * image.outputs, row * rows, row)])
    stream = fed_stream(
        image,
        config,
        MemoryConfig(dram=load_part("lpddr3-1600"), channels=draw(st.integers(1, 3))),
        service(draw(st.integers(0, 30)), draw(st.integers(0, 20))),
        vectors=len(case.activations),
        weights=draw(st.booleans()),
        activations=draw(st.none() | maps),
    )
    return StreamCase(EieCase(config, case.codes, case.activations, case.bias), stream)


def service(latency_ns: int, block_ns: int) -> DramService:
    """A memory of this latency in which every block takes the same time, to write one ns longer."""
    return DramService(
        latency_ns=Fraction(latency_ns),
        read_ns=Fraction(block_ns),
        write_ns=Fraction(block_ns + 1),
        read_pj=1.0,
        write_pj=1.0,
        read_io_pj=0.0,
        write_io_pj=0.0,
        standby_mw=1.0,
        pins="unknown",
        energy_source="drawn",
        io_source="drawn",
        standby_source="drawn",
    )


class DramCase(NamedTuple):
    """The arguments of a replay."""

    part: DramPart
    block: np.ndarray
    write: np.ndarray
    load: float | str
    address_map: str


@st.composite
def dram_parts(draw: st.DrawFn) -> DramPart:
    """Parts of any shape, refreshes close together, queues of any depth; every timing in whole clocks of 1 ns."""

    def clocks(low: int, high: int) -> float:
        return float(draw(st.integers(low, high)))

    def power(most: int) -> int:
        return 2 ** draw(st.integers(0, most))

    ras, rp, wr, rfc = clocks(1, 20), clocks(1, 8), clocks(1, 9), clocks(1, 40)
    burst, cwl, rcd_wr = clocks(1, 4), clocks(1, 6), clocks(1, 8)
    rrd_s, ccd_s, wtr_s = clocks(1, 5), clocks(1, 4), clocks(0, 4)
    faw = rrd_s + clocks(0, 20)
    cl, rcd_rd, rtp, xp = clocks(1, 9), clocks(1, 8), clocks(1, 5), clocks(1, 9)
    busy = rfc + xp + ras + rp + max(rcd_wr + cwl + burst + wr, rcd_rd + max(cl + burst, rtp)) + rp
    last_access = int(burst + max(cl + 1, cwl + wr))
    return DramPart(
        name="drawn",
        source="drawn",
        address_map="RoRaBaBgCo",
        dual_command_bus=draw(st.booleans()),
        geometry={
            "source": "drawn",
            "channels": power(1),
            "ranks": power(1),
            "bank_groups": power(2),
            "banks_per_group": power(2),
            "rows": 2 ** draw(st.integers(2, 6)),
            "row_bytes": 64 * power(4),
            "devices": 4,
        },
        timing={
            "source": "drawn",
            "clock_ns": 1.0,
            "burst_ns": burst,
            "cl_ns": cl,
            "cwl_ns": cwl,
            "t_rcd_rd_ns": rcd_rd,
            "t_rcd_wr_ns": rcd_wr,
            "t_rp_ns": rp,
            "t_ras_ns": ras,
            "t_rc_ns": ras + rp,
            "t_ccd_s_ns": ccd_s,
            "t_ccd_l_ns": ccd_s + clocks(0, 4),
            "t_rrd_s_ns": rrd_s,
            "t_rrd_l_ns": rrd_s + clocks(0, 4),
            "t_faw_ns": faw,
            "t_32aw_ns": draw(st.sampled_from([0.0, faw * 9])),
            "t_rfc_ns": rfc,
            "t_refi_ns": busy + clocks(0, 200),
            "t_wr_ns": wr,
            "t_wtr_s_ns": wtr_s,
            "t_wtr_l_ns": wtr_s + clocks(0, 4),
            "t_rtp_ns": rtp,
            "t_rtrs_ns": clocks(0, 2),
            "t_ppd_ns": clocks(0, 3),
            "t_xp_ns": xp,
        },
        currents={
            "vdd_v": 1.0, "idd0_ma": 60.0, "idd2n_ma": 10.0, "idd3n_ma": 20.0, "idd4r_ma": 90.0, "idd4w_ma": 80.0,
            "idd5_ma": 100.0, "idd2p_ma": 4.0, "idd3p_ma": 9.0, "source": "drawn",
        },
        controller={
            "read_queue": draw(st.integers(1, 9)),
            "write_buffer": draw(st.integers(1, 9)),
            "write_low": draw(st.integers(0, 9)),
            "bank_queue": draw(st.integers(1, 4)),
            "hits_before_age": draw(st.integers(1, 5)),
            "page_policy": draw(st.sampled_from(["open", "closed"])),
            "power_down_after_cycles": draw(st.sampled_from([0, last_access, last_access + 7])),
        },
    )  # fmt: skip


@st.composite
def dram_cases(draw: st.DrawFn) -> DramCase:
    """A drawn part and a short trace: from a handful of blocks, where requests meet, to all of the memory."""
    part = draw(dram_parts())
    n = draw(st.integers(1, 90))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    footprint = min(part.geometry.capacity_blocks, 2 ** draw(st.integers(0, 16)))
    block = rng.integers(0, footprint, n)
    if draw(st.booleans()):
        block = np.arange(n) * draw(st.integers(1, 9)) % footprint
    write = rng.random(n) < draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    load = draw(st.sampled_from(["saturated", 0.05, 0.3, 0.77, 1.5]))
    address_map = draw(st.sampled_from(["RoRaBaBgCo", "RoCoRaBaBg", "ChRoBaRaCoBg", "BgBaRaRoChCo"]))
    return DramCase(part, block, write, load, address_map)


VALUE_TYPES = [np.float16, np.float32, np.float64, np.int8, np.int32, np.uint8]


@st.composite
def sparse_matrices(draw: st.DrawFn) -> np.ndarray:
    """Matrices (rows, columns) of any value type, without rows or columns too; densities from empty to full."""
    shape = draw(st.tuples(st.integers(0, 40), st.integers(0, 70)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.integers(1, 100, shape) * (rng.random(shape) < draw(st.sampled_from([0.0, 0.05, 0.4, 1.0])))
    return values.astype(draw(st.sampled_from(VALUE_TYPES)))


class NmCase(NamedTuple):
    """A matrix whose groups of m columns, the last of a row perhaps shorter, have at most n non-zeros."""

    weight: np.ndarray
    n: int
    m: int


@st.composite
def nm_cases(draw: st.DrawFn) -> NmCase:
    """Every pattern up to 32:32, groups of every occupancy from empty to n."""
    m = draw(st.integers(1, 32))
    n = draw(st.integers(1, m))
    rows, groups = draw(st.integers(0, 12)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    occupied = rng.integers(0, n + 1, (rows, groups, 1)) if draw(st.booleans()) else n
    order = rng.permuted(np.broadcast_to(np.arange(m), (rows, groups, m)), axis=2)
    weight = (rng.integers(1, 100, order.shape) * (order < occupied)).reshape(rows, groups * m)
    columns = groups * m - draw(st.integers(0, m - 1))
    return NmCase(weight[:, :columns].astype(draw(st.sampled_from(VALUE_TYPES))), n, m)


class PruningCase(NamedTuple):
    """A weight, a granularity that suits its shape, and a sparsity (None for N:M)."""

    weight: np.ndarray
    granularity: Granularity
    sparsity: float | None


@st.composite
def pruning_cases(draw: st.DrawFn) -> PruningCase:
    """Linear and convolution weights of every value type with many ties; groups that divide them or do not."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 40)))
    if draw(st.booleans()):
        shape += draw(st.tuples(st.integers(1, 2), st.integers(1, 3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = rng.integers(-draw(st.sampled_from([1, 5, 100])), 100, shape) * (rng.random(shape) < 0.8)
    kinds = ["fine", "nm", "vector", "block", "filter", "channel", *(["kernel"] if len(shape) == 4 else [])]
    kind, size = draw(st.sampled_from(kinds)), None
    if kind == "nm":
        m = draw(st.integers(1, 32))
        size = (draw(st.integers(1, m)), m)
    elif kind in ("vector", "block"):
        size = draw(st.tuples(st.integers(1, 9), st.integers(1, 40)))
        if kind == "vector":
            size = (1, size[1]) if draw(st.booleans()) else (size[0], 1)
    sides = size or {
        "filter": (1, weight[0].size),
        "channel": (shape[0], prod(shape[2:])),
        "kernel": (1, prod(shape[2:])),
    }.get(kind, (1, 1))
    groups = prod(-(-length // side) for length, side in zip((shape[0], weight[0].size), sides, strict=True))
    sparsity = None if kind == "nm" else draw(st.floats(0, 1 - 1 / groups))  # at least one group stays
    return PruningCase(weight.astype(draw(st.sampled_from(VALUE_TYPES))), Granularity(kind, size), sparsity)
