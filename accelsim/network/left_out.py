"""What of a network is not simulated, with its size, so no total leaves anything out silently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from accelsim.errors import raise_if_any, within

LINE = 80
"""Characters of a line in which what is left out is told, where names are not longer."""

MOST_KINDS = 3
"""Kinds of things that are told one by one before the rest is summed."""

LONGEST_NAME, SHORTEST_NAME = 40, 16


@dataclass(frozen=True)
class LeftOut:
    """An operation or a tensor of a network that is named and not simulated."""

    name: str
    """Where it is: that of its node, module or tensor."""
    kind: str = ""
    """What it is, such as "look-up", "normalisation" or "MatMul of activations"; empty where the name says it."""
    weights: int = 0
    """Elements of its tensors of two or more dimensions."""
    macs: int | None = 0
    """Multiply-accumulates of one sample; None where they are not known."""

    def __post_init__(self) -> None:
        """Check the numbers; raises InputError."""
        raise_if_any(
            f"not_simulated {self.name}: {key}: must be a whole number, 0 or above (got {value!r})"
            for key, value in (("weights", self.weights), ("macs", self.macs))
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0)
        )

    @property
    def has_size(self) -> bool:
        """Whether it has weights or multiplies, as far as is known."""
        return bool(self.weights) or self.macs != 0

    def __str__(self) -> str:
        """Return its name and what it is."""
        return f"{self.name} ({self.kind})" if self.kind else self.name


WITHOUT_WEIGHTS = LeftOut("operations without weights", "not in a file of tensors", macs=None)
"""Products of activations, pooling and the like, of which a bare file of tensors says nothing."""


def left_out(given: Iterable[LeftOut | str]) -> tuple[LeftOut, ...]:
    """Return what is left out, what has no size once; a text is the name of an operation without weights."""
    found: list[LeftOut] = []
    for each in given:
        one = LeftOut(each) if isinstance(each, str) else each
        if one.has_size or one not in found:
            found.append(one)
    return tuple(found)


def overlaps(transposed: Iterable[str]) -> list[str]:
    """Say what of transposed convolutions, by their names, is left to whoever adds up their outputs."""
    names = ", ".join(transposed)
    said = (
        f"transposed convolutions ({names}) are products of every input pixel with all filters: adding up outputs that "
        "overlap, and their bias, is not counted, and outputs that padding cuts off are multiplied all the same"
    )
    return [said] if names else []


@dataclass(frozen=True)
class Scope:
    """How much of a network its layers are: weights of two or more dimensions, multiply-accumulates of one sample."""

    weights: int
    macs: int
    weights_left_out: int
    macs_left_out: int
    unknown: tuple[str, ...]
    """What is left out with an unknown number of multiply-accumulates."""

    def with_billed(self, billed: Iterable[LeftOut]) -> Scope:
        """Return the scope where some of what the layers leave out is simulated all the same."""
        found = list(billed)
        weights, macs = sum(each.weights for each in found), sum(each.macs or 0 for each in found)
        known = {str(each) for each in found}
        return Scope(
            self.weights + weights,
            self.macs + macs,
            self.weights_left_out - weights,
            self.macs_left_out - macs,
            tuple(each for each in self.unknown if each not in known),
        )

    @property
    def weights_share(self) -> float:
        """Share of the weights that is simulated."""
        return self.weights / (self.weights + self.weights_left_out)

    @property
    def macs_share(self) -> float:
        """Share of the multiply-accumulates that is simulated, of those that are known."""
        return self.macs / (self.macs + self.macs_left_out)


def sentence(weights_share: float, macs_share: float, unknown: int = 0) -> str:
    """Say how much is not simulated: shares of weights and of multiply-accumulates, and how many have no known size."""
    said = f"not simulated: {_left(weights_share)} of the weights, {_left(macs_share)} of the "
    if not unknown:
        return f"{said}multiply-accumulates"
    told = f"{unknown} have unknown MACs" if unknown > 1 else "1 has unknown MACs"
    if macs_share == 0:
        return f"not simulated: {_left(weights_share)} of the weights; {told}"
    return f"{said}known MACs; {told}"


def _headline(scope: Scope, left: Sequence[LeftOut]) -> str:
    """Say how much is not simulated; of a bare file of tensors nobody knows the share of multiply-accumulates."""
    if WITHOUT_WEIGHTS not in left:
        return sentence(1 - scope.weights_share, 1 - scope.macs_share, len(scope.unknown))
    if not scope.weights_left_out:
        return f"not simulated: {WITHOUT_WEIGHTS.name}, which a file of tensors does not tell"
    share = _left(1 - scope.weights_share)
    return f"not simulated: {share} of the weights; a file of tensors does not tell {WITHOUT_WEIGHTS.name}"


def told(scope: Scope, left: Sequence[LeftOut]) -> list[str]:
    """Say in a few lines what is not simulated: its share, the largest by kind and name, then what has no size.

    Lines after the first are indented. Nothing is said where nothing is left out.
    """
    bare = [str(each) for each in left if not each.has_size]
    if len(bare) == len(left):
        return [_listed("not simulated: ", bare, " (no weights, no MACs)")] if bare else []
    lines = [_headline(scope, left)]
    kinds = by_kind(scope, [each for each in left if each != WITHOUT_WEIGHTS])
    shown = kinds if len(kinds) == MOST_KINDS + 1 else kinds[:MOST_KINDS]
    for kind, members in shown:
        lines.append(_listed(f"  {size(members)} in {f'{kind}: ' * bool(kind)}", [each.name for each in members]))
    if more := [each for _, members in kinds[len(shown) :] for each in members]:
        lines.append(f"  {size(more)} in {len(more)} more")
    if bare:
        lines.append(_listed("  without weights or multiply-accumulates: ", bare))
    return lines


def by_kind(scope: Scope, left: Iterable[LeftOut]) -> list[tuple[str, list[LeftOut]]]:
    """Return what has a size by its kind: what is not known first, then by share of the weights or the work."""
    kinds: dict[str, list[LeftOut]] = {}
    for each in left:
        if each.has_size:
            kinds.setdefault(each.kind, []).append(each)
    weights, macs = scope.weights + scope.weights_left_out, scope.macs + scope.macs_left_out

    def order(members: Sequence[LeftOut]) -> tuple[bool, float]:
        most = max(sum(each.weights for each in members) / weights, sum(each.macs or 0 for each in members) / macs)
        return all(each.macs is not None for each in members), -most

    return sorted(
        ((kind, sorted(members, key=lambda each: order([each]))) for kind, members in kinds.items()),
        key=lambda each: order(each[1]),
    )


def size(members: Iterable[LeftOut]) -> str:
    """Return what things have together, as in "38.6 M weights, 1.21 G MACs"; what nobody knows is said."""
    listed = list(members)
    unknown = sum(each.macs is None for each in listed)
    sums: Mapping[str, int] = {
        "weights": sum(each.weights for each in listed),
        "MACs": sum(each.macs or 0 for each in listed),
    }
    said = [f"{_short(value)} {name}" for name, value in sums.items() if value]
    if unknown:
        said.append("unknown MACs" if unknown == len(listed) else f"{unknown} with unknown MACs")
    return ", ".join(said)


def _left(share: float) -> str:
    """Return a share with one digit after the point, which reads 0 or 100 only where it is that."""
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %".replace(".0 %", " %") if share in (0, 1) else f"{100 * share:.1f} %"


def _short(count: int) -> str:
    """Return a count with about three digits, exact below ten thousand."""
    for factor, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= factor and count >= 10_000:
            return f"{count / factor:.3g} {unit}"
    return f"{count:,}"


def _listed(before: str, names: Sequence[str], after: str = "") -> str:
    """Return a line with as many names as fit it, one at least, and how many more there are."""
    best = ""
    for shown in range(1, len(names) + 1):
        more = f" and {len(names) - shown} more" if shown < len(names) else ""
        longest = LONGEST_NAME if shown > 1 else max(SHORTEST_NAME, LINE - len(before + more + after))
        listed = ", ".join(within(longest, name) for name in names[:shown])
        line = f"{before}{listed}{more}{after}"
        if not best or len(line) <= LINE:
            best = line
        if len(listed) > LINE:
            break
    return best
