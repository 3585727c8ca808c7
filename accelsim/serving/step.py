"""A step of a language model on one board: its time, what it is made of, and whether there is room for it."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from accelsim.errors import InputError, raise_if_any
from accelsim.hardware import Hardware, load_hardware
from accelsim.network.decoder import LanguageModel, LanguageModelFile, load_model, pruned_by
from accelsim.number_formats import bits_of
from accelsim.serving.board import Board
from accelsim.serving.schedule import Request, run_of
from accelsim.serving.software import NONE, Host, Kernels, Launching, Schedule, ServingSoftware, load_serving
from accelsim.serving.work import WIDE_BYTES, load_of, with_host, work_of

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("gemm_us", "attention_us", "other_us", "head_us", "host_us")
"""What the time of a step is made of, in this order."""

COLUMNS = (
    "model", "hardware", "dtype", "pattern", "phase", "sequences", "prompt", "output", "serving", "time_us", *PARTS,
    "steps", "tokens_per_s", "weight_bytes", "cache_bytes", "capacity_bytes",
)  # fmt: skip

NO_SOFTWARE = ServingSoftware(name=NONE, schedule=Schedule(), kernels=Kernels(), launching=Launching(), host={})
"""The hardware alone: kernels at the rates of the board, launches for nothing, all sequences at once."""

NO_HOST = Host(layer_us=0.0, packed_us=0.0, step_us=0.0, sequence_us=0.0, memory_share=1.0)


class Step(NamedTuple):
    """A step in microseconds: a mean over the tokens that each sequence gets. The parts add up to the time."""

    time_us: float
    gemm_us: float
    attention_us: float
    other_us: float
    head_us: float
    host_us: float
    """What the board is not seen to work: launches that it waits for, scheduling, prompts that come too slowly."""
    steps: float
    """Steps of the software per token: more than one where not all sequences run at once."""


class Sizes(NamedTuple):
    """Bytes in the memory of a board."""

    weight_bytes: int
    cache_bytes: int
    """Of keys and values of one sequence at its end."""
    capacity_bytes: float | None
    usable_bytes: float


def model_step(
    model: str | Path | LanguageModelFile,
    hardware: Hardware | str | Path,
    dtype: str,
    pattern: str | None = None,
    *,
    phase: str,
    sequences: int,
    prompt: int,
    output: int = 1,
    serving: str | Path | ServingSoftware | None = "vllm",
) -> pd.DataFrame:
    """Return one row: the time of a step of a language model on one board, and what it is made of.

    model: a name such as "llama3.2-1b", a .toml of its sizes or a config.json of transformers. dtype: of weights and
    activations of the products in the blocks; attention and output head are in 16 bits. pattern: N:M by which the
    blocks are pruned and packed, "" is dense, None what the model says. phase: "prefill" is a step of `sequences`
    prompts of `prompt` tokens; "decode" one token of each of `sequences` sequences, the mean over the `output` tokens
    that each gets behind its prompt. serving: a name, a .toml, or "none" for the hardware alone.
    Columns: `time_us`, the parts `gemm_us`, `attention_us`, `other_us`, `head_us`, `host_us` that add up to it, all in
    microseconds, `steps` of the software per token, `tokens_per_s`, and bytes of weights, cache and board. No energy.
    Raises InputError with every problem.
    """
    file, chip, software = load_model(model), _chip(hardware), load_serving(serving)
    if pattern is not None and pattern != file.language_model.pattern:
        file = pruned_by(file, pattern)
    asked = Request(phase=phase, sequences=sequences, prompt=prompt, output=output)
    step = step_of(file.language_model, chip, dtype, asked, software)
    sizes = sizes_of(file.language_model, Board(chip), dtype, asked, software)
    tokens = sequences * (prompt if phase == "prefill" else 1)
    row: dict[str, Any] = {
        "model": file.name,
        "hardware": chip.name,
        "dtype": dtype,
        "pattern": file.language_model.pattern or "dense",
        "phase": phase,
        "sequences": sequences,
        "prompt": prompt,
        "output": output,
        "serving": NONE if software is None else software.name,
        **step._asdict(),
        "tokens_per_s": 1e6 * tokens / step.time_us,
        "weight_bytes": sizes.weight_bytes,
        "cache_bytes": sizes.cache_bytes * sequences,
        "capacity_bytes": sizes.capacity_bytes,
    }
    import pandas as pd

    return pd.DataFrame([{name: row[name] for name in COLUMNS}])


def _chip(hardware: Hardware | str | Path) -> Hardware:
    """Return a chip; a shipped one, which no path names, is read once."""
    is_name = isinstance(hardware, str) and re.fullmatch(r"[\w-]+", hardware)
    return _shipped(str(hardware)) if is_name else load_hardware(hardware)


@lru_cache(maxsize=64)
def _shipped(name: str) -> Hardware:
    return load_hardware(name)


def sizes_of(model: LanguageModel, board: Board, dtype: str, asked: Request, software: ServingSoftware | None) -> Sizes:
    """Return what the weights and the cache of one sequence take, and what there is."""
    bits = 0.0
    for name, (rows, columns) in model.products.items():
        kept, of = map(int, (model.pattern_of(name) or "1:1").split(":"))
        each = bits_of(dtype) + (board.config.metadata_bits_per_value if model.pattern_of(name) else 0)
        bits += model.layers * rows * columns * each * kept / of
    weight_bytes = round(bits / 8) + WIDE_BYTES * model.embedding_weights
    share = 1.0 if software is None else software.schedule.memory_share
    capacity = board.capacity_bytes
    usable = float("inf") if capacity is None else share * capacity
    return Sizes(weight_bytes, asked.longest * model.cache_bytes(WIDE_BYTES), capacity, usable)


def step_of(
    model: LanguageModel, chip: Hardware, dtype: str, asked: Request, software: ServingSoftware | None = None
) -> Step:
    """Return a step of a model on a chip; raises InputError with every problem."""
    board = Board(chip)
    board.check(dtype, model.pattern)
    host = NO_HOST if software is None else software.host_of(chip.name)
    problems = [
        f"pattern: {model.pattern} does not divide the {columns} inputs of {name}; prune by another pattern, or leave "
        "it dense"
        for name, (_, columns) in model.products.items()
        if model.pattern_of(name) and columns % int(model.pattern_of(name).split(":")[1])
    ]
    raise_if_any(problems)
    at_once = _at_once(sizes_of(model, board, dtype, asked, software), chip, asked, software)
    used = software or NO_SOFTWARE
    run = run_of(asked, used.schedule, at_once, alone=software is None)
    work = work_of(load_of(model, board, dtype, run), board, used.kernels, host)
    busy = sum(work, start=np.zeros(run.steps.joining.size))
    took = busy if software is None else with_host(busy, model, run, host, used.launching)
    gemm, attention, other, head = (float(each.sum()) / run.tokens for each in work)
    time_us = float(took.sum()) / run.tokens
    waits = max(0.0, time_us - gemm - attention - other - head)
    return Step(time_us, gemm, attention, other, head, waits, run.steps.joining.size / run.tokens)


def _at_once(sizes: Sizes, chip: Hardware, asked: Request, software: ServingSoftware | None) -> int:
    """Return how many sequences find room in the memory at once; raises InputError where not even one does."""
    left = sizes.usable_bytes - sizes.weight_bytes
    gb = 1e9
    if left <= 0:
        raise InputError(
            f"model: its weights are {sizes.weight_bytes / gb:.1f} GB, and {chip.name} has room for "
            f"{sizes.usable_bytes / gb:.1f}; choose a narrower dtype, a pattern or a larger board"
        )
    room = asked.sequences if left == float("inf") else int(left // sizes.cache_bytes)
    needed = sizes.cache_bytes * (1 if software is not None else asked.sequences)
    if needed > left:
        whose = "a sequence" if software is not None else f"{asked.sequences:,} sequences"
        per_token = sizes.cache_bytes // asked.longest
        most = int(left // (needed // asked.longest))
        raise InputError(
            f"prompt: keys and values of {whose} of {asked.longest:,} tokens are {needed / gb:.1f} GB ({per_token:,} "
            f"bytes a token), and beside {sizes.weight_bytes / gb:.1f} GB of weights {chip.name} has room for "
            f"{left / gb:.1f} GB; give at most {most:,} tokens"
            + ("" if software is not None or room == 0 else f", or {room:,} sequences")
        )
    return min(asked.sequences, room)
