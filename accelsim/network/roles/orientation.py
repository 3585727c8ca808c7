"""Which way round the weights of linear layers lie: (out, in) as in PyTorch, or (in, out) as in Keras and GPT-2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from accelsim.errors import did_you_mean, listed
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.names import Path


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
    is_transposed: bool = False
    """Whether it is a transposed convolution, (in, out / groups, kh, kw)."""
    owner: str = ""
    """See `Role.owner`."""

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
        return _by_sizes(open_ones) if not proven else []
    neighbours = _Neighbours(proven)
    taken: dict[bool, list[str]] = {True: [], False: []}
    for each in open_ones:
        if each.weight.shape in tables:
            continue
        each.is_turned = neighbours.are_turned(each)
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


def _by_sizes(found: Sequence[Found]) -> list[str]:
    """Decide for weights that a program named W or the like, which no convention orders, by what follows on what."""
    if len(found) < 2 or any(each.path.tail == "weight" for each in found):
        return []
    pairs = list(pairwise(each.weight.shape for each in found))
    is_turned = all(one[1] == after[0] for one, after in pairs) and any(one[0] != after[1] for one, after in pairs)
    for each in found:
        each.is_turned = is_turned
    names = listed(f"{each.name} {each.weight.shape}" for each in found)
    if is_turned:
        return [
            f"{names}: taken as stored (in, out), as each then has as many inputs as the one before has outputs; "
            "name them in a network file if they are not"
        ]
    return [f"{names}: taken as stored (out, in), which nothing proves; --transpose NAME turns those that are not"]


class _Neighbours:
    """Whether proven layers lie (in, out), all of those that are near another by name."""

    def __init__(self, proven: Sequence[Found]) -> None:
        self.families: dict[str, bool] = {}
        self.blocks: dict[tuple[str, ...], bool] = {}
        self.siblings: dict[tuple[str, ...], bool] = {}
        for each in proven:
            parents, so = _parents(each), bool(each.is_turned)
            self.families[each.family] = self.families.get(each.family, True) and so
            self.siblings[parents] = self.siblings.get(parents, True) and so
            for count in range(1, len(parents) + 1):
                self.blocks[parents[:count]] = self.blocks.get(parents[:count], True) and so

    def are_turned(self, one: Found) -> bool:
        """Whether those of its family are, else those beside it, else the nearest of its numbered block."""
        if one.family in self.families:
            return self.families[one.family]
        parents = _parents(one)
        if parents and parents in self.siblings:
            return self.siblings[parents]
        above = (parents[:count] for count in range(len(parents), 0, -1))
        near = next((each for each in above if "#" in each and each in self.blocks), None)
        return near is not None and self.blocks[near]


def _parents(found: Found) -> tuple[str, ...]:
    """Return the parts of a layer's name above its last, with # for numbers: blocks are alike."""
    return tuple(re.sub(r"\d+", "#", part) for part in re.split(r"[./]", found.name)[:-1])
