"""A product of which only the size is known, on a systolic array: operands from DRAM, nothing kept from one before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from accelsim.defaults import HONEST
from accelsim.engines.engine import Product, Row
from accelsim.engines.measures import Crossing, world
from accelsim.engines.systolic.choice import best
from accelsim.engines.systolic.config import SystolicChip
from accelsim.engines.systolic.plan import DENSE, Gemm, Pattern
from accelsim.engines.systolic.row import LayerRan, Ready, columns_of, run_ready
from accelsim.errors import collecting, raise_if_any
from accelsim.network.sizes import check_countable


def product_row(chip: SystolicChip, product: Product, backend: str) -> Row:
    """Run a product; raises InputError with every problem, UnsupportedError where a fold does not fit the memories."""
    config = chip.engine
    raise_if_any(_problems(product, chip))
    tokens, outputs, inputs = (int(each) for each in product[:3])
    n, m = (1, 1) if product.pattern is None else map(int, product.pattern.split(":"))
    weights = outputs * inputs * n // m
    ran: LayerRan
    if config.rules == HONEST:
        pattern = DENSE if product.pattern is None else Pattern(m, (n,), product.pattern)
        gemm = Gemm(tokens, outputs, inputs, pattern)
        plan, bus, _ = best(gemm, chip)
        ran = run_ready(Ready(gemm, plan, bus, 1, config.columns), chip, tokens * weights, 1, backend)
    else:
        from accelsim.engines.systolic.as_scalesim import run_product

        ran = run_product(chip, product, tokens * weights, backend)
    return columns_of(chip, ran) | world(
        Crossing(tokens * inputs * config.bits),
        Crossing(tokens * outputs * config.bits),
        Crossing(ran.stored * (config.bits + ran.index_bits)),
    )


def _problems(product: Product, chip: SystolicChip) -> Iterator[str]:
    """Say what keeps a product from running on a chip."""
    config = chip.engine
    sizes: dict[str, Any] = dict(zip(("tokens", "out_features", "in_features"), product[:3], strict=True))
    wrong = False
    for name, size in sizes.items():
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if not whole or size < 1:
            wrong = True
            yield f"{name}: must be {'at least 1' if whole else 'a whole number'} (got {size!r})"
    if not wrong:
        problems = list[str]()
        with collecting(problems):
            check_countable({name: int(size) for name, size in sizes.items()})
        yield from problems
    if product.dtype != config.dtype:
        yield f'dtype: {chip.name} computes in {config.dtype}, not in {product.dtype!r}; use dtype="{config.dtype}"'
    if product.tile is not None:
        yield f"tile: a systolic array has folds of its own sides, {config.rows} x {config.columns}; leave it out"
    if product.pattern is not None and product.pattern not in config.patterns:
        has = f"it has {', '.join(config.patterns)}" if config.patterns else "it has none"
        yield f"pattern: the chip cannot exploit {product.pattern!r}, {has}; run it dense with pattern=None"
    elif product.pattern is not None and not wrong and sizes["in_features"] % int(product.pattern.split(":")[1]):
        size = sizes["in_features"]
        yield f"pattern: {product.pattern} needs in_features in whole groups (got {size}); pad the weights"
    if config.rules != HONEST and product.pattern is None and (config.patterns or config.row_wise_block):
        yield (
            f"pattern: by {config.rules} this chip takes every layer as {(config.patterns or ['row-wise'])[0]}, and "
            "None is dense; name its pattern, or choose its dense twin"
        )
