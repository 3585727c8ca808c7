"""From stored arrays to those that a network uses: masks, weight norm, spectral norm and parametrizations folded in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, listed
from accelsim.network.left_out import LeftOut
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.names import Path, common_prefix, natural, path_of, words
from accelsim.network.roles.packings import unpacked

if TYPE_CHECKING:
    from accelsim.network.files import TensorFile

Array = NDArray[Any]

MASKS = (
    "{}_mask", "{}.mask", "{module}.mask", "mask.{}", "masks.{}", "mask.{module}", "masks.{module}", "mask_{}",
    "masks_{}",
)  # fmt: skip
"""What programs that prune call the mask of `X.weight`, with `X.weight` for {} and `X` for {module}."""

WEIGHTS = ("weight", "weights", "kernel", "W", "w")
"""What the weights of a module are called that a mask beside them belongs to."""

OTHER_MASKS = {"attn", "attention", "causal", "padding", "pad", "src", "tgt", "key", "token", "tokens", "emb", "embed"}
"""Words of masks, or of what is put in place of something masked, that prune nothing."""

_PARAMETRIZED = re.compile(r"((?:.*\.)?)parametrizations\.([^.]+)\.(?:original(\d*)|(\d+)\.(.+))")


_UNWRAPPED = re.compile(r"/prune_low_magnitude_[^/]+$")
"""The wrapper of a module that TensorFlow prunes, where it lies within it."""


@dataclass
class Arrays:
    """The arrays of a file as a network uses them, in order, and what became of the others."""

    file: TensorFile
    logical: dict[str, Logical] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    accounts: dict[str, str] = field(default_factory=dict)
    """Of stored arrays that make no logical one: what became of each."""
    averages: set[str] = field(default_factory=set)
    """Stored arrays that are moving averages of others."""
    assumptions: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    modules: dict[str, list[str]] = field(default_factory=dict)
    """Names of masks by the module in which they stand."""

    def leave_out(self, name: str, kind: str, arrays: list[Logical], main: Logical) -> None:
        """Name what cannot be folded, with the elements of its main array."""
        self.left_out.append(LeftOut(name, kind, main.size if len(main.shape) > 1 else 0, macs=None))
        for each in arrays:
            self.accounts |= dict.fromkeys(each.parts, f"left out: {name} ({kind})")
            self.logical.pop(each.name, None)

    def replace(self, made: Logical, sources: Iterable[Logical]) -> None:
        """Put an array in the place of those that it is made of."""
        for each in sources:
            self.logical.pop(each.name, None)
        self.logical[made.name] = made


def logical_arrays(file: TensorFile) -> Arrays:
    """Return the arrays of a file as a network uses them, without reading one.

    Prefixes that wrappers put before all names are taken off. `Y_orig` and `Y_mask` are `Y`, and so on for what
    `torch.nn.utils` keeps in parts. The order is that of the file where it has one, else that of the names.
    """
    arrays = Arrays(file)
    prefix = common_prefix(name for name, shape in file.shapes.items() if shape)
    packed = unpacked(file)
    arrays.problems += packed.problems
    arrays.assumptions += packed.assumptions
    arrays.accounts = dict.fromkeys(packed.taken, "left out: packed, and not read")
    for name in file.shapes:
        if name not in packed.taken:
            logical = Logical.stored(file, name, name.removeprefix(prefix))
            arrays.logical[logical.name] = logical
    for weight in packed.tensors:
        arrays.logical[weight.name.removeprefix(prefix)] = weight._replace(name=weight.name.removeprefix(prefix))
        for part in weight.parts:
            arrays.accounts.pop(part, None)  # several weights may lie in one array
    _leave_averages(arrays)
    _fold(arrays)
    places = {name: place for place, name in enumerate(file.shapes)}
    if file.order_is_given:
        order = sorted(arrays.logical.values(), key=lambda each: min(places[part] for part in each.parts))
    else:
        order = sorted(arrays.logical.values(), key=lambda each: natural(each.name))
    arrays.logical = {each.name: each for each in order}
    return arrays


def _leave_averages(arrays: Arrays) -> None:
    """Leave out moving averages of weights that stand beside the weights themselves, `model_ema.` and `model.`."""
    groups: dict[str, dict[str, Logical]] = {}
    for name, each in arrays.logical.items():
        first, _, rest = name.partition(".")
        groups.setdefault(first, {})[rest] = each
    for first in [first for first in groups if words(first) & {"ema", "swa"}]:
        shapes = {rest: each.shape for rest, each in groups[first].items() if each.shape}
        for other, held in groups.items():
            if other != first and shapes and all(rest in held and held[rest].shape == shapes[rest] for rest in shapes):
                size = sum(each.size for each in groups[first].values() if len(each.shape) > 1)
                arrays.left_out.append(LeftOut(first, f"moving average of {other}", size, 0))
                arrays.assumptions.append(
                    f"{first}: a moving average of {other}, which is read; save it alone to read it"
                )
                for each in groups[first].values():
                    arrays.accounts |= dict.fromkeys(each.parts, f"left out: moving average of {other}")
                    arrays.averages.update(each.parts)
                    del arrays.logical[each.name]
                break


def _fold(arrays: Arrays) -> None:
    """Fold all that is kept in parts; masks first, since parts may have masks of their own."""
    names = list(arrays.logical)
    if any(".parametrizations." in f".{name}" for name in names):
        _fold_parametrizations(arrays)
    for name in names:
        if name.endswith(("_orig", "_bar")):
            _fold_original(arrays, name)
    for name in [name for name in arrays.logical if name.endswith("_g")]:
        stem = name.removesuffix("_g")
        gain, direction = arrays.logical[name], arrays.logical.get(f"{stem}_v")
        if direction is not None and "weight" in stem and _is_gain(gain, direction):
            arrays.replace(weight_normed(stem, gain, direction), (gain, direction))
    for name in arrays.logical:
        path = path_of(name)
        said = words(path.tail)
        if said & {"mask", "scores"} and not said & OTHER_MASKS:
            arrays.modules.setdefault(_UNWRAPPED.sub("", path.module), []).append(name)
    _fold_loose_masks(arrays)


def _fold_original(arrays: Arrays, name: str) -> None:
    """Fold what `torch.nn.utils.prune` and `spectral_norm` keep of an array beside `Y_orig`."""
    held, stem = arrays.logical, name.rsplit("_", 1)[0]
    original = held[name]
    mask = held.get(f"{stem}_mask")
    left, right = held.get(f"{stem}_u"), held.get(f"{stem}_v")
    plain = held.get(stem)
    if mask is not None and left is None:
        if mask.shape != original.shape:
            arrays.problems.append(
                f"'{stem}_mask' has shape {mask.shape} and '{name}' {original.shape}; save them from one model"
            )
            arrays.leave_out(stem, "weights whose mask does not fit", [original, mask], original)
            return
        made, sources = masked(stem, original, mask), [original, mask]
    elif mask is None and left is not None and right is not None and _is_spectral(original, left, right):
        made, sources = spectral_normed(stem, original, left, right), [original, left, right]
    elif name.endswith("_bar"):
        return
    else:
        parts = [each for each in (original, mask, left, right) if each is not None]
        arrays.leave_out(stem, "weights that something unknown is done to", parts, original)
        return
    if plain is not None:
        arrays.accounts |= dict.fromkeys(plain.parts, f"stands beside {listed(made.parts)}, which are used")
    arrays.replace(made, sources)


def _fold_loose_masks(arrays: Arrays) -> None:
    """Multiply weights by masks that lie beside them, as programs save them that prune by hand."""
    folded: list[str] = []
    others: list[str] = []
    if not any("mask" in name.lower() for name in arrays.logical):
        return
    for name, weight in list(arrays.logical.items()):
        path = path_of(name)
        if path.tail not in WEIGHTS or len(weight.shape) < 2 or name not in arrays.logical:  # it was a mask
            continue
        for mask in _masks_of(arrays, name, path):
            if "scores" not in words(mask.name) and mask.name != name and _covers(mask, weight):
                folded.append(mask.name)
                weight = masked(name, weight, mask, binary=True)
                arrays.replace(weight, (weight, mask))
            else:
                others.append(f"{mask.name} {mask.shape}")
    if folded:
        arrays.assumptions.append(
            f"{listed(folded)}: taken as masks of the weights beside them, which are multiplied by "
            "them; take them out of the file if they are not"
        )
    if others:
        arrays.assumptions.append(
            f"{listed(others)}: named like masks, but not of the shape of the weights beside them, and not applied: "
            "multiply weights by them before saving if they are pruned by them"
        )


def _masks_of(arrays: Arrays, name: str, path: Path) -> list[Logical]:
    """Return what is called a mask of weights: under a name made of theirs, or beside them in their module."""
    known = [pattern.format(name, module=path.module) for pattern in MASKS]
    beside = [each for each in arrays.modules.get(path.module, ()) if each not in known]
    found = [arrays.logical[each] for each in (*known, *beside) if each in arrays.logical]
    return found[:1] if found and found[0].name in known else found


def _covers(mask: Logical, weight: Logical) -> bool:
    """Whether a mask has the shape of weights, or one number for each of their rows, filters, channels and so on."""
    return len(mask.shape) == len(weight.shape) and all(
        one in (1, all_of) for one, all_of in zip(mask.shape, weight.shape, strict=True)
    )


def _fold_parametrizations(arrays: Arrays) -> None:
    """Fold what `torch.nn.utils.parametrize` keeps of each array: originals and buffers, by number."""
    groups: dict[str, dict[str, Logical]] = {}
    for name, each in arrays.logical.items():
        found = _PARAMETRIZED.fullmatch(name)
        if found:
            module, tensor, original, number, buffer = found.groups()
            part = f"original{original}" if number is None else f"{number}.{buffer}"
            groups.setdefault(f"{module}{tensor}", {})[part] = each
    for name, held in groups.items():
        made = _parametrized(name, held)
        if held.keys() == {"original"} and f"masks.{name}" in arrays.logical:  # which a sparsifier keeps apart
            made = held["original"]._replace(name=name)
        if made is None:
            originals = [each for part, each in held.items() if part.startswith("original")]
            main = max(originals or held.values(), key=lambda each: each.size)
            arrays.leave_out(name, "weights that an unknown parametrization makes", list(held.values()), main)
        else:
            arrays.replace(made, held.values())


def _parametrized(name: str, held: dict[str, Logical]) -> Logical | None:
    """Return the array that parametrizations make, or None where the file does not say how."""
    originals = {part: each for part, each in held.items() if part.startswith("original")}
    chain: dict[int, dict[str, Logical]] = {}
    for part, each in held.items():
        if part not in originals:
            number, _, buffer = part.partition(".")
            chain.setdefault(int(number), {})[buffer] = each
    first = 0
    if originals.keys() == {"original0", "original1"} and _is_gain(*(originals[f"original{at}"] for at in (0, 1))):
        made = weight_normed(name, originals["original0"], originals["original1"])
        first = 1
    elif originals.keys() == {"original"} and chain:
        made = originals["original"]._replace(name=name)
    else:
        return None
    # A step without buffers is a function that nothing in the file tells.
    if sorted(chain) != list(range(first, first + len(chain))):
        return None
    for _, buffers in sorted(chain.items()):
        if buffers.keys() == {"_u", "_v"} and _is_spectral(made, buffers["_u"], buffers["_v"]):
            made = spectral_normed(name, made, buffers["_u"], buffers["_v"])
        elif len(buffers) == 1 and next(iter(buffers.values())).shape == made.shape:
            made = masked(name, made, next(iter(buffers.values())), binary=True)
        else:
            return None
    return made


def masked(name: str, weight: Logical, mask: Logical, *, binary: bool = False) -> Logical:
    """Return weights times their mask; `binary`: reading them fails where the mask holds more than 0 and 1."""

    def read() -> Array:
        kept = mask.read()
        if binary and not ((kept == 0) | (kept == 1)).all():
            raise InputError(
                f"'{mask.name}': stands where a mask of '{name}' would, and holds numbers other than 0 and 1; "
                "multiply them before saving, or take it out of the file"
            )
        values = weight.read()
        product: Array = values * kept.astype(values.dtype, copy=False)
        return product

    return Logical(name, weight.shape, weight.parts + mask.parts, read, weight.stored_as)


def weight_normed(name: str, gain: Logical, direction: Logical) -> Logical:
    """Return g v / |v|, with one norm for each g (Salimans and Kingma, arXiv 1602.07868)."""
    whole = gain.size == 1
    axes = tuple(at for at in range(len(direction.shape)) if whole or gain.shape[at] == 1)

    def read() -> Array:
        values, gains = direction.read(), gain.read()
        norms = np.sqrt(np.square(values, dtype=np.float64).sum(axis=axes, keepdims=True))
        factor = (gains.reshape(norms.shape) / norms).astype(values.dtype)
        product: Array = values * factor
        return product

    return Logical(name, direction.shape, gain.parts + direction.parts, _quiet(read))


def spectral_normed(name: str, weight: Logical, left: Logical, right: Logical) -> Logical:
    """Return weights over their largest singular value, u W v by the vectors that the file holds."""
    axis = weight.shape.index(left.shape[0])

    def read() -> Array:
        values = weight.read()
        rows = np.moveaxis(values, axis, 0).reshape(left.shape[0], -1)
        quotient: Array = values / (left.read() @ (rows @ right.read())).astype(values.dtype)
        return quotient

    return Logical(name, weight.shape, weight.parts + left.parts + right.parts, _quiet(read))


def _quiet(read: Callable[[], Array]) -> Callable[[], Array]:
    """Return a reader that divides by zero in silence, as PyTorch does; NaN among weights is refused by who uses it."""

    def quietly() -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return read()

    return quietly


def _is_gain(gain: Logical, direction: Logical) -> bool:
    """Whether one array can be the g of a weight norm whose v is the other."""
    if len(direction.shape) < 2 or gain.size == 1:
        return len(direction.shape) >= 2
    return len(gain.shape) == len(direction.shape) and all(
        one in (1, other) for one, other in zip(gain.shape, direction.shape, strict=True)
    )


def _is_spectral(weight: Logical, left: Logical, right: Logical) -> bool:
    """Whether two arrays can be the singular vectors of a third."""
    return (
        len(left.shape) == len(right.shape) == 1
        and left.shape[0] in weight.shape
        and left.size * right.size == weight.size
    )
