"""A board as a step of a language model sees it: rates of its memory and its multipliers, and the time of products."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.engines import Product, engine_of
from accelsim.errors import InputError, listed, raise_if_any
from accelsim.hardware import Hardware
from accelsim.memory.service import measure
from accelsim.number_formats import NUMBER_FORMATS
from accelsim.parts.bandwidth import BandwidthPart
from accelsim.parts.timed import BLOCK_BYTES

WIDE = ("bf16", "fp16")
"""Types of attention, of the output head and of what lies between products, first the one that a chip has."""

TOKENS = np.array([1, *range(16, 129, 16), *range(192, 513, 64)], dtype=np.int64)
"""Tokens of products that are worked out where steps have many sizes, up to 512; in between time is interpolated."""


class Board:
    """One chip and the DRAM beside it."""

    def __init__(self, chip: Hardware) -> None:
        """Raises InputError for a chip that has no rates of products, or no memory beside it."""
        config: Any = chip.engine
        rates: dict[str, int] = getattr(config, "fma_per_cycle", {})
        wide = [name for name in WIDE if name in rates]
        if not wide or chip.memory is None:
            known = "multiplies neither bf16 nor fp16" if not wide else "has no memory beside it"
            raise InputError(f"{chip.name}: {known}, and so runs no language model; choose a GPU, as h100-pcie")
        self.chip, self.config, self.rates = chip, config, rates
        self.wide: str = wide[0]
        self.memory = chip.memory

    def check(self, dtype: str, pattern: str) -> None:
        """Raise InputError with every problem of a number format and a pattern on this board."""
        problems = []
        if dtype not in self.rates:
            have = [name for name in self.rates if name in NUMBER_FORMATS]
            problems.append(f"dtype: {self.chip.name} does not multiply {dtype}; it multiplies {listed(have)}")
        if pattern and pattern not in self.config.patterns:
            has = " or ".join(self.config.patterns) if self.config.patterns else "no pattern at all"
            problems.append(f"pattern: {self.chip.name} does not pack {pattern} (it packs {has}); leave it out")
        raise_if_any(problems)

    @cached_property
    def bytes_per_us(self) -> float:
        """Bytes that a stream from and to DRAM sustains in a microsecond."""
        return BLOCK_BYTES * 1000 * self.memory.all_channels / float(measure(self.memory.dram).read_ns)

    @cached_property
    def l2(self) -> tuple[float, float]:
        """Bytes that stay in L2 from one kernel to the next, and bytes that it moves in a microsecond."""
        config = self.config
        rate = config.l2_bytes_per_cycle * config.clock_mhz if config.l2_bytes else 0.0
        return config.l2_bytes * config.l2_usable, max(rate, self.bytes_per_us)

    @cached_property
    def flops_per_us(self) -> float:
        """Additions and multiplications in 16 bits at the highest clock."""
        return float(2 * self.config.cores * self.rates[self.wide] * self.config.clock_mhz)

    @cached_property
    def kernel_us(self) -> float:
        """What a kernel takes beside its bytes: its launch, and the latency of DRAM."""
        bill = engine_of(self.chip).bill(self.chip)
        launch_us = self.config.dense.overhead_us if bill.launch_us is None else bill.launch_us
        return float(launch_us) + float(measure(self.memory.dram).latency_ns) / 1000

    @cached_property
    def capacity_bytes(self) -> float | None:
        """Bytes of the memory beside the chip, if they are known."""
        part = self.memory.dram
        if isinstance(part, BandwidthPart):
            return None if part.capacity_gb is None else self.memory.channels * part.capacity_gb * 1e9
        return self.memory.channels * part.geometry.capacity_gib * 2**30

    def product_us(self, tokens: int, shape: tuple[int, int], dtype: str, pattern: str = "") -> float:
        """Return the time of one product of (out_features, in_features) weights, as `accelsim.gemm` has it."""
        return _product_us(self.chip, tokens, shape, dtype, pattern)

    def products_us(
        self, tokens: NDArray[np.int64], shape: tuple[int, int], dtype: str, pattern: str = ""
    ) -> NDArray[np.float64]:
        """Return the time of a product for each number of tokens, 0 for none: interpolated where there are many."""
        few = np.unique(tokens)
        if few.size > 8:
            least, most = few[few > 0][0], few[-1]
            few = np.unique([least, *TOKENS[(least < TOKENS) & (most > TOKENS)], most])
        few = few[few > 0]
        times = [_product_us(self.chip, int(each), shape, dtype, pattern) for each in few]
        return np.where(tokens > 0, np.interp(tokens, few, times), 0.0)


@lru_cache(maxsize=1 << 16)
def _product_us(chip: Hardware, tokens: int, shape: tuple[int, int], dtype: str, pattern: str) -> float:
    product = Product(tokens, *shape, dtype, pattern or None)
    return float(engine_of(chip).product(chip, product, "compiled")["time_us"])
