"""Which steps serving software makes of requests that come all at once: sequences that go on, prompts that join them.

Sequences that run get a token each; what is left of the tokens of a step goes to prompts that wait, whole ones only. So
a step of as many tokens as sequences never holds all of them: prompts join one by one, and the last ones wait until
others have ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, raise_if_any
from accelsim.serving.software import Schedule

PHASES = ("prefill", "decode")

MOST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a model: so many prompts at once, or a token more of so many sequences, `output` times."""

    phase: str
    sequences: int
    prompt: int
    output: int = 1

    def __post_init__(self) -> None:
        """Raises InputError with every problem."""
        problems = [] if self.phase in PHASES else [f"phase: must be {' or '.join(PHASES)} (got {self.phase!r})"]
        for key in ("sequences", "prompt", "output"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
                problems.append(f"{key}: must be a whole number, at least 1 and at most {MOST:,} (got {value!r})")
        raise_if_any(problems)

    @property
    def longest(self) -> int:
        """Tokens of a sequence when it ends."""
        return self.prompt + (self.output if self.phase == "decode" else 0)


class Steps(NamedTuple):
    """Steps of one run, in order; each array (steps,)."""

    going_on: NDArray[np.int64]
    """Sequences that get one token more."""
    joining: NDArray[np.int64]
    """Prompts that run for the first time."""
    context: NDArray[np.int64]
    """Tokens that the queries of those that go on meet, all together."""


@lru_cache(maxsize=256)
def decode_steps(sequences: int, prompt: int, output: int, tokens_per_step: int, at_once: int) -> Steps:
    """Return the steps in which so many prompts get `output` tokens each; the first comes with the prompt itself.

    A step has at most `tokens_per_step` tokens, of which a prompt must find all of its own, and at most `at_once`
    sequences run.
    """
    waiting, groups = sequences, list[list[int]]()  # groups: how many sequences, and how many tokens each has made
    going_on, joining, context = list[int](), list[int](), list[int]()
    while waiting or groups:
        running = sum(count for count, _ in groups)
        join = min(waiting, max(0, tokens_per_step - running) // prompt, at_once - running)
        going_on.append(running)
        joining.append(join)
        context.append(sum(count * (prompt + made) for count, made in groups))
        waiting -= join
        groups = [[count, made + 1] for count, made in [*groups, [join, 0]] if count and made + 1 < output]
    return Steps(*(np.array(each, dtype=np.int64) for each in (going_on, joining, context)))


def all_at_once(sequences: int, prompt: int, output: int) -> Steps:
    """Return the steps that make `output` tokens of sequences which all run already."""
    tokens = np.arange(1, output + 1, dtype=np.int64)  # a query meets its own key, too
    return Steps(np.full(output, sequences), np.zeros(output, np.int64), sequences * (prompt + tokens))


class ServingRun(NamedTuple):
    """The steps of a run, and for how many tokens of each sequence they are the time."""

    steps: Steps
    prompt: int
    tokens: int
    recorded: NDArray[np.bool_]
    """Steps that are launched as a recorded graph."""

    @property
    def step_tokens(self) -> NDArray[np.int64]:
        """Tokens of each step."""
        return self.steps.going_on + self.prompt * self.steps.joining


def run_of(asked: Request, schedule: Schedule, at_once: int, *, alone: bool = False) -> ServingRun:
    """Return the steps of what is asked; at_once: sequences that find room; alone: without software all run already.

    Raises InputError for a prompt that is longer than a step.
    """
    prompt = asked.prompt
    if asked.phase == "prefill":
        limit = schedule.tokens_per_step or asked.sequences * prompt
    else:
        limit = schedule.tokens_per_step or max(asked.sequences, asked.longest)
    if prompt > limit:
        raise InputError(
            f"prompt: {prompt:,} tokens do not fit into a step of {limit:,}; raise schedule.tokens_per_step"
        )
    if asked.phase == "prefill":
        most = min(at_once, limit // prompt)
        full, rest = divmod(asked.sequences, most)
        joining = np.array([*full * [most], *([rest] if rest else [])], dtype=np.int64)
        nothing = np.zeros_like(joining)
        return ServingRun(Steps(nothing, joining, nothing), prompt, 1, np.zeros(joining.size, bool))
    if alone:
        steps = all_at_once(asked.sequences, prompt, asked.output)
        return ServingRun(steps, prompt, asked.output, np.ones(steps.joining.size, bool))
    steps = decode_steps(asked.sequences, prompt, asked.output, limit, at_once)
    largest = min(schedule.graph_tokens, schedule.graph_tokens_per_sequence * asked.sequences)
    tokens = steps.going_on + prompt * steps.joining
    return ServingRun(steps, prompt, asked.output, tokens <= largest)
