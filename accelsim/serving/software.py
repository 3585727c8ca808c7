"""Serving software as parameters: how it admits prompts, what its kernels reach, its own time on each host."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.config import CHECKED, NonNegative, Positive, build, find, label, parsed_toml, shipped_names, toml_text
from accelsim.errors import InputError, did_you_mean

FOLDER = "hwconfigs/serving"

NONE = "none"
"""No serving software: the hardware alone."""

Count = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
CountOrNone = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Schedule:
    """How the software makes steps of requests."""

    tokens_per_step: CountOrNone = 0
    """Tokens that a step may have (max_num_batched_tokens); 0: as many as run at once, or those of one sequence."""
    memory_share: Share = 0.9
    """Share of the board's memory that weights, keys and values may take."""
    graph_tokens: CountOrNone = 512
    """The largest step, in tokens, that is launched as a recorded graph."""
    graph_tokens_per_sequence: Count = 2
    """The same, as a multiple of the sequences that run at once: the smaller of both counts."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Kernels:
    """What the software's own kernels reach of what the hardware could; products are the library's."""

    attention_share: Share = 1.0
    """Share of the peak in BF16 that the attention of prompts reaches."""
    cache_share: Share = 1.0
    """Share of the sustained bandwidth at which keys and values are read in decode."""
    sampling_passes: Positive = 2.0
    """How often the scores of all words, 4 bytes each, are read or written until a token is drawn, as a multiple."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Host:
    """The software's own time with one board: its processor is part of it, so that numbers are of board and host."""

    layer_us: NonNegative
    """Launching the kernels of one layer, one by one."""
    packed_us: NonNegative
    """What a packed product takes longer to launch than a dense one."""
    step_us: NonNegative
    """Of a step, in which the board waits: scheduling, inputs, results."""
    sequence_us: NonNegative
    """The same for each sequence of a step."""
    memory_share: Share
    """Share of the sustained bandwidth, of DRAM or L2, that kernels between the products reach."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Launching:
    """How launches and the board's work overlap, with any board."""

    overlap: Positive = 5.0
    """Exponent p of (launches^p + work^p)^(1/p): the larger, the more the longer one alone counts, as a multiple."""
    graph_share: NonNegative = 0.0
    """Share of the launches that is left of a step with prompts that is a recorded graph; one without has none."""
    prompt_share: NonNegative = 0.0
    """What a prompt takes, before it may run, as a multiple of launching one layer; the next is read meanwhile."""
    prompt_tokens: Count = 1024
    """Of such a prompt; shorter ones take a share of it."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ServingSoftware:
    """A file that describes serving software."""

    name: str
    """What it is called in results."""
    description: str = ""
    """What it is, in a sentence or two; `accelsim list` shows it."""
    source: str = ""
    """Where its numbers are from."""
    schedule: Schedule
    kernels: Kernels
    launching: Launching
    host: dict[str, Host]
    """By the name of the chip."""

    def host_of(self, chip: str) -> Host:
        """Return the host of a board, of a dense twin that of the board; raises InputError where none is known."""
        found = self.host.get(chip) or self.host.get(chip.removesuffix("-dense"))
        if found is None:
            raise InputError(
                f"serving: {self.name} is not known with {chip}{did_you_mean(chip, self.host)}; give serving = "
                f'"none" for the hardware alone, or a file of your own with [host.{chip}]'
            )
        return found


def load_serving(name: str | Path | ServingSoftware | None) -> ServingSoftware | None:
    """Return the serving software of this name or .toml file, or None for the hardware alone.

    "vllm" is the last of its name that is shipped. Raises InputError with every problem.
    """
    if isinstance(name, ServingSoftware):
        return name
    if name is None or name == NONE:
        return None
    names = shipped_names(FOLDER)
    text = str(name)
    of_family = [each for each in names if each.startswith(f"{text}-")]
    if text not in names and of_family:
        text = of_family[-1]
    elif text not in names and not text.endswith(".toml"):
        raise InputError(f"serving: {text!r} is not known{did_you_mean(text, [*names, NONE])}")
    path = find(text, FOLDER)
    return _of_text(toml_text(path), path)


@lru_cache(maxsize=32)
def _of_text(text: str, path: Path) -> ServingSoftware:
    return build(ServingSoftware, parsed_toml(text, path), label(path))
