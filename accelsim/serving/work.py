"""What a board works in each step of a language model: products by the engine, all else by its bytes and FLOPs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.network.decoder import LanguageModel
from accelsim.number_formats import bits_of
from accelsim.serving.board import Board
from accelsim.serving.schedule import ServingRun
from accelsim.serving.software import Host, Kernels, Launching

WIDE_BYTES = 2
"""Of activations between products, of keys and values, and of the output head: BF16."""

SUM_BYTES = 4
"""Of the sums that dense products of int8 hand over, and of scores of words."""

Floats = NDArray[np.float64]


class Load(NamedTuple):
    """What the steps of a run have to do, whatever the software's kernels reach; each array (steps,), all blocks."""

    gemm_us: Floats
    attention_flops: Floats
    """Of prompts."""
    cache_bytes: Floats
    """Keys and values that are read again."""
    attention_us: Floats
    """Launches of attention."""
    moved_bytes: Floats
    """Between the products, from and to DRAM."""
    near_bytes: Floats
    """The same of kernels that find in L2 what they take, and leave there what they give."""
    moved_us: float
    """Launches of what moves them."""
    head_us: Floats
    """The output head."""
    score_bytes: Floats
    """Scores of all words, once."""


class Work(NamedTuple):
    """What the board works in each step, in microseconds, each (steps,)."""

    gemm: Floats
    attention: Floats
    other: Floats
    head: Floats


def load_of(model: LanguageModel, board: Board, dtype: str, run: ServingRun) -> Load:
    """Return what a run has to do on a board; products of the blocks are in `dtype`."""
    steps, tokens = run.steps, run.step_tokens
    products = (
        board.products_us(tokens, shape, dtype, model.pattern_of(name)) for name, shape in model.products.items()
    )
    pairs = steps.joining * run.prompt * (run.prompt + 1) / 2
    launched = (steps.joining > 0) * 1 + (steps.going_on > 0)
    scored = steps.going_on + steps.joining
    moved = np.array(list(bytes_between(model, dtype).values()))
    of_kernels = moved * tokens[:, None]
    near = np.where(of_kernels <= board.l2[0], of_kernels, 0).sum(axis=1)
    return Load(
        gemm_us=model.layers * sum(products, start=np.zeros(tokens.size)),
        attention_flops=model.layers * 4.0 * pairs * model.query_features,
        cache_bytes=model.cache_bytes(WIDE_BYTES) * steps.context.astype(np.float64),
        attention_us=np.asarray(model.layers * board.kernel_us * launched, np.float64),
        moved_bytes=np.asarray(model.layers * (of_kernels.sum(axis=1) - near), np.float64),
        near_bytes=np.asarray(model.layers * near, np.float64),
        moved_us=model.layers * moved.size * board.kernel_us,
        head_us=board.products_us(scored, (model.vocabulary, model.hidden), board.wide),
        score_bytes=np.asarray(float(SUM_BYTES * model.vocabulary) * scored, np.float64),
    )


def work_of(load: Load, board: Board, kernels: Kernels, host: Host) -> Work:
    """Return what a board works, by what the software's kernels reach of its rates."""
    of_prompts = load.attention_flops / (board.flops_per_us * kernels.attention_share)
    of_cache = load.cache_bytes / (board.bytes_per_us * kernels.cache_share)
    moved = (load.moved_bytes / board.bytes_per_us + load.near_bytes / board.l2[1]) / host.memory_share
    drawn = kernels.sampling_passes * load.score_bytes / board.bytes_per_us
    return Work(load.gemm_us, load.attention_us + of_prompts + of_cache, load.moved_us + moved, load.head_us + drawn)


def with_host(busy: Floats, model: LanguageModel, run: ServingRun, host: Host, launching: Launching) -> Floats:
    """Return the time of each step: the board works behind launches, and waits for what its host does alone."""
    steps = run.steps
    packed_us = host.packed_us * sum(model.pattern_of(name) != "" for name in model.products)
    one_by_one = model.layers * (host.layer_us + packed_us)
    left = np.where(steps.joining > 0, launching.graph_share, 0.0)
    launches = one_by_one * np.where(run.recorded, left, 1.0)
    p, longest = launching.overlap, np.maximum(launches, busy)
    both = longest * ((launches / longest) ** p + (busy / longest) ** p) ** (1 / p)
    took = host.step_us + host.sequence_us * (steps.going_on + steps.joining) + both
    of_a_prompt = launching.prompt_share * host.layer_us * min(1.0, run.prompt / launching.prompt_tokens)
    return np.asarray(np.maximum(took, of_a_prompt * steps.joining), np.float64)


def bytes_between(model: LanguageModel, dtype: str) -> dict[str, int]:
    """Return the bytes that one token moves in each kernel between the products of a block.

    Norms read and write the residual, too. Narrow types are made before each product, and what comes out of it, of
    dense int8 sums in 32 bits, is scaled behind it.
    """
    wide, found = WIDE_BYTES, dict[str, int]()
    for name in ("attention", "feed-forward"):
        found[f"norm before {name}"] = 4 * model.hidden * wide
    if bits_of(dtype) < 8 * wide:
        narrow = bits_of(dtype) // 8
        for name, (rows, columns) in model.products.items():
            out = SUM_BYTES if dtype == "int8" and not model.pattern_of(name) else wide
            found[f"quantised before {name}"] = columns * (wide + narrow)
            found[f"scaled behind {name}"] = rows * (out + wide)
    turned = model.query_features + model.cache_features
    found["rotary embedding"] = 2 * turned * wide
    found["keys and values kept"] = 4 * model.cache_features * wide
    found["attention in and out"] = 2 * turned * wide
    found["gate x up"] = 3 * model.ffn * wide
    if model.sub_norms:
        found["norm behind attention"] = 2 * model.query_features * wide
        found["norm behind gate x up"] = 2 * model.ffn * wide
    return found
