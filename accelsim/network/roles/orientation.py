"""Which way round the weights of linear layers lie: (out, in) as in PyTorch, or (in, out) as in Keras and GPT-2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from accelsim.errors import did_you_mean
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.names import Path, listed


@dataclass
class Found:
    """A layer, before it is known which way round its weights lie."""

    name: str
    path: Path
    weight: Logical
    bias: Logical | None = None
    activations: Logical | None = None
    codebook: Logical | None = None
    is_turned: bool | None = None
    """Whether they are stored (in, out); None: nothing about this layer tells."""
    proof: str = ""
    """What shows it, where the user cannot say otherwise."""
    groups: int | None = None

    @property
    def family(self) -> str:
        """The last part of its name without numbers: layers of one family lie one way."""
        return re.sub(r"\d+", "", self.name if self.path.separator in ("", "_") else self.path.component)


def told_by_bias(found: Found) -> str | None:
    """Note which way the bias says that the weights of a linear layer lie; return what is wrong with it."""
    if found.bias is None or found.is_turned is not None or len(found.weight.shape) != 2:
        return None
    (length,), (rows, columns) = found.bias.shape, found.weight.shape
    if length not in (rows, columns):
        return misfit(found.name, found.bias, found.weight)
    if rows != columns:
        found.is_turned, found.proof = length == columns, f"its bias of {length} shows it"
    return None


def misfit(name: str, bias: Logical, weight: Logical) -> str:
    """Say that a bias is of no side of its weights."""
    return (
        f"layer {name}: '{bias.name}' has shape {bias.shape} and '{weight.name}' {weight.shape}, so one of them is of "
        "another layer; save them again, or name the right ones in a network file"
    )


def declared(found: Sequence[Found], patterns: Sequence[str]) -> list[str]:
    """Turn the layers that the user says are stored (in, out); return what is wrong with that."""
    problems = []
    for pattern in patterns:
        named = [each for each in found if fnmatchcase(each.name, pattern)]
        if not named:
            known = did_you_mean(pattern, [each.name for each in found])
            problems.append(f"transpose: no layer is called '{pattern}'{known}")
        for each in named:
            if each.is_turned is False:
                problems.append(
                    f"transpose: layer {each.name}: '{each.weight.name}' {each.weight.shape} is stored (out, in): "
                    f"{each.proof}; leave it out"
                )
            else:
                each.is_turned = True
    return problems


def settle(found: Sequence[Found], tables: set[tuple[int, ...]]) -> list[str]:
    """Decide for the layers of which nothing tells, by those beside them; return what is taken for granted.

    tables: shapes of look-ups, (rows, features); an output layer of such a shape shares its weights with one.
    """
    linear = [each for each in found if len(each.weight.shape) == 2]
    proven = [each for each in linear if each.proof]
    open_ones = [each for each in linear if each.is_turned is None]
    if not any(each.is_turned for each in proven):
        return []
    taken: dict[bool, list[str]] = {True: [], False: []}
    for each in open_ones:
        if each.weight.shape in tables:
            continue
        each.is_turned = _by_neighbours(each, proven)
        taken[each.is_turned].append(f"{each.name} {each.weight.shape}")
    said = []
    if taken[True]:
        said.append(
            f"{listed(taken[True])}: taken as stored (in, out), as the weights beside are by their biases; name "
            "them in a network file if they are not"
        )
    if taken[False]:
        said.append(
            f"{listed(taken[False])}: taken as stored (out, in), which nothing proves, and other weights of the file "
            "are stored (in, out); turn them with --transpose NAME if they are, too"
        )
    return said


def _by_neighbours(one: Found, proven: Sequence[Found]) -> bool:
    """Whether the proven layers that are nearest by name all lie (in, out)."""
    family = [each for each in proven if each.family == one.family]
    near = {each.name: _shared(each.name, one.name) for each in proven}
    nearest = max(near.values())
    block = [each for each in proven if near[each.name] == nearest] if nearest else []
    told = family or block
    return bool(told) and all(each.is_turned for each in told)


def _shared(one: str, other: str) -> int:
    """Return how many parts two names begin with alike."""
    parts = [re.split(r"[./]", name) for name in (one, other)]
    shared = 0
    for a, b in zip(*parts, strict=False):
        if a != b:
            break
        shared += 1
    return shared
