"""What of a network is not simulated, with its size, so that no total leaves anything out in silence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accelsim.errors import raise_if_any


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

    def __str__(self) -> str:
        """Return its name and what it is."""
        return f"{self.name} ({self.kind})" if self.kind else self.name


def left_out(given: Iterable[LeftOut | str]) -> tuple[LeftOut, ...]:
    """Return what is left out, each once; a text is the name of an operation without weights."""
    return tuple(dict.fromkeys(LeftOut(each) if isinstance(each, str) else each for each in given))


@dataclass(frozen=True)
class Scope:
    """How much of a network its layers are: weights of two or more dimensions, multiply-accumulates of one sample."""

    weights: int
    macs: int
    weights_left_out: int
    macs_left_out: int
    unknown: tuple[str, ...]
    """What is left out with an unknown number of multiply-accumulates."""

    @property
    def weights_share(self) -> float:
        """Share of the weights that is simulated."""
        return self.weights / (self.weights + self.weights_left_out)

    @property
    def macs_share(self) -> float:
        """Share of the multiply-accumulates that is simulated, of those that are known."""
        return self.macs / (self.macs + self.macs_left_out)
