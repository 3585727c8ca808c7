"""What pruning buys a whole model on one board, why not more, and what to change for more: numbers, and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from accelsim.errors import InputError
from accelsim.hardware import Hardware
from accelsim.network.decoder import LanguageModel
from accelsim.serving.schedule import Request
from accelsim.serving.software import ServingSoftware
from accelsim.serving.step import Step, step_of

LARGEST_TOKENS = 65536
"""Of a step: the largest that is looked at for where pruning begins to pay."""

LARGEST_SEQUENCES = 1024
"""The same in decode."""

PAYS = 1.005
"""Speed-ups below are none: less than what repeated measurements differ by."""

FORMATS = ("bf16", "int8", "fp8")
"""Number formats that are tried instead of the one that was asked for."""

WORDS = {
    "gemm_us": "products",
    "attention_us": "attention",
    "other_us": "kernels between products",
    "head_us": "output head and sampling",
    "host_us": "serving software",
}
"""What the parts of a step are called."""


class Point(NamedTuple):
    """A size of a step, and what pruning buys there."""

    tokens: int
    speed_up: float


@dataclass(frozen=True)
class Answer:
    """A step of a model as dense and as pruned, on one board."""

    model: LanguageModel
    """Pruned."""
    chip: Hardware
    dtype: str
    asked: Request
    software: ServingSoftware | None
    dense: Step
    pruned: Step

    @property
    def speed_up(self) -> float:
        """Of the whole step."""
        return self.dense.time_us / self.pruned.time_us

    @property
    def kernel_speed_up(self) -> float:
        """Of the products of the blocks alone."""
        return self.dense.gemm_us / self.pruned.gemm_us

    def of(self, asked: Request | None = None, dtype: str = "", model: LanguageModel | None = None) -> Answer:
        """Return the answer to another question; raises InputError where the board has none."""
        return answer(model or self.model, self.chip, dtype or self.dtype, asked or self.asked, self.software)

    def sizes(self) -> list[Request]:
        """Return steps of the same prompts from the smallest on, each twice the one before."""
        if self.asked.phase == "decode":
            counts = [2**i for i in range(LARGEST_SEQUENCES.bit_length())]
            return [replace(self.asked, sequences=count) for count in counts]
        tokens = [2**i for i in range(4, LARGEST_TOKENS.bit_length())]
        return [
            replace(self.asked, prompt=min(count, self.asked.prompt), sequences=-(-count // self.asked.prompt))
            for count in tokens
        ]

    def points(self) -> list[Point]:
        """Return what pruning buys by tokens of a step, as far as the board has room."""
        found = []
        for asked in self.sizes():
            try:
                speed_up = self.of(asked).speed_up
            except InputError:  # no room: nor is there for what is larger
                break
            found.append(Point(asked.sequences * (asked.prompt if asked.phase == "prefill" else 1), speed_up))
        return found

    def pays_from(self) -> int | None:
        """Return the tokens of a step from which on pruning pays at every size; None where it never does."""
        pays = None
        for point in reversed(self.points()):
            if point.speed_up < PAYS:
                break
            pays = point.tokens
        return pays

    def left_dense(self) -> tuple[list[str], Answer] | None:
        """Return which products are better left dense, and the answer then; None where none is."""
        best, left = self, list[str]()
        for name in self.model.products:
            if not self.model.pattern_of(name):
                continue
            tried = self.of(model=replace(best.model, dense=(*best.model.dense, name)))
            if tried.pruned.time_us < best.pruned.time_us / PAYS:
                best, left = tried, [*left, name]
        return (left, best) if left else None


def answer(
    model: LanguageModel, chip: Hardware, dtype: str, asked: Request, software: ServingSoftware | None
) -> Answer:
    """Return what a model that is pruned takes, beside the same left dense; raises InputError with every problem."""
    dense, pruned = (step_of(each, chip, dtype, asked, software) for each in (replace(model, pattern=""), model))
    return Answer(model, chip, dtype, asked, software, dense, pruned)


def sentences(found: Answer) -> Iterator[str]:
    """Say what pruning buys, why not more, from how many tokens on, and what to change for more."""
    dense, pruned, pattern = found.dense, found.pruned, found.model.pattern
    yield (
        f"{pattern} {_made('steps', dense.time_us, pruned.time_us)}, and "
        f"{_made('their products', dense.gemm_us, pruned.gemm_us)}"
    )
    share = dense.gemm_us / dense.time_us
    rest = sorted(((getattr(dense, part), word) for part, word in WORDS.items() if part != "gemm_us"), reverse=True)
    most = f"; even if products took no time, it would be {times(1 / (1 - share))} as fast" if share < 1 else ""
    yield (
        f"products are {_percent(share)} of the dense step, {rest[0][1]} {_percent(rest[0][0] / dense.time_us)}, "
        f"{rest[1][1]} {_percent(rest[1][0] / dense.time_us)}{most}"
    )
    grown = pruned.host_us - dense.host_us
    if grown > 0.02 * dense.time_us:
        yield f"the board waits {_ms(grown)} longer for launches of packed products than of dense ones"
    unit = "sequences" if found.asked.phase == "decode" else "tokens of a step"
    points = found.points()
    yield f"{pattern} {_where(points)} {unit}"
    yield from _changes(found, points)


def _where(points: list[Point]) -> str:
    """Say at which sizes pruning pays."""
    pays = [point.tokens for point in points if point.speed_up >= PAYS]
    if not pays:
        return f"does not pay at any size up to {points[-1].tokens:,}"
    if len(pays) == len(points):
        return f"pays at every size from {pays[0]:,} to {pays[-1]:,}"
    if pays == [point.tokens for point in points[-len(pays) :]]:
        return f"begins to pay at {pays[0]:,}"
    places = [i for i, point in enumerate(points) if point.speed_up >= PAYS]
    beyond = f"and at no other size up to {points[-1].tokens:,}"
    if len(pays) > 1 and places == list(range(places[0], places[-1] + 1)):
        return f"pays from {pays[0]:,} to {pays[-1]:,}, {beyond}"
    return f"pays at {', '.join(f'{each:,}' for each in pays)}, {beyond}"


def _changes(found: Answer, points: list[Point]) -> Iterator[str]:
    """Say what makes more of pruning: another batch, format, or products that stay dense."""
    here = found.speed_up
    best = max(points, key=lambda point: point.speed_up)
    if best.speed_up > max(here, 1.0) * PAYS:
        unit = "sequences" if found.asked.phase == "decode" else "tokens of a step"
        yield f"more: {times(best.speed_up)} at {best.tokens:,} {unit}"
    for dtype in FORMATS:
        try:
            other = found.of(dtype=dtype) if dtype != found.dtype else None
        except InputError:  # a format that the board lacks, or for which it has no room
            continue
        if other is not None and other.pruned.time_us < found.pruned.time_us / PAYS:
            gain = times(other.speed_up)
            yield f"faster: in {dtype} a pruned step takes {_ms(other.pruned.time_us)}, {gain} as fast as dense"
    left = found.left_dense()
    if left and left[1].speed_up > PAYS:
        names, then = left
        yield f"more: {times(then.speed_up)} with {', '.join(names)} left dense"


def _made(what: str, before_us: float, after_us: float) -> str:
    """Say what became of a time; what is within half a percent did not change."""
    ratio = before_us / after_us
    if 1 / PAYS < ratio < PAYS:
        return f"does not change the time of {what} ({_ms(before_us)})"
    factor = f"{times(ratio)} as fast" if ratio > 1 else f"slower, {times(ratio)}"
    return f"makes {what} {factor} ({_ms(before_us)} to {_ms(after_us)})"


def times(ratio: float) -> str:
    """Format a ratio."""
    return f"{ratio:.2f}x"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _ms(us: float) -> str:
    return f"{us / 1000:,.0f} ms" if us >= 1e5 else f"{us / 1000:.3g} ms"
