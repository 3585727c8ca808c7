"""A pruned network written in its original format: same graph, same names, same types of numbers.

Where each weight lies is not told by an inverse of every way of reading it: the file is read once more with numbers of
places instead of its own, and what then stands where a weight stood says from where it came.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.config import find, label
from accelsim.errors import InputError, listed, needing, placing, raise_if_any
from accelsim.files import check_writable, real_path, write_whole
from accelsim.network import bare
from accelsim.network.files import TensorFile, is_tensors, open_tensors
from accelsim.network.files.kinds import SUFFIXES
from accelsim.network.files.safetensors_file import write_safetensors
from accelsim.network.files.shards import Shards
from accelsim.network.files.tensor_file import Written
from accelsim.network.files.torch_file import QUANTISED
from accelsim.network.layer import Layer
from accelsim.network.narrowed import Kept, Used, kept_of
from accelsim.network.network import Network
from accelsim.network.reading import Reading
from accelsim.network.removal import without
from accelsim.network.roles.folding import logical_arrays
from accelsim.network.roles.names import common_prefix
from accelsim.network.slices import Slices
from accelsim.network.specs import METADATA_KEY
from accelsim.network.weights import put_into
from accelsim.network.writer import GRANULARITY_KEY, PARENT_KEY, claims_of, way_to
from accelsim.number_formats import ARRAY_TYPES, SAFETENSORS_TYPES, format_of

Array = NDArray[Any]

MASKS = ("folded", "weight_mask")
"""How a state dict says what is pruned: zeros in the weights, or the weights as `X_orig` beside a mask `X_mask`, as
torch.nn.utils.prune keeps them."""

GRAPH_HELP = (
    "Name the network whose weights it holds: `accelsim prune NETWORK --weights FILE --remove`, where NETWORK is a "
    "shipped one or a network file with what stands between its layers ([[operation]] and inputs, as `accelsim schema "
    "network` describes); in Python, prune accelsim.Network.from_torch(model, example) and call "
    "accelsim.network.handed_back.hand_back(pruned, FILE, TARGET, remove=True)"
)
"""What to do where nothing is known of what stands between the layers of a state dict."""

INSTEAD = "pruned.save(path) in Python, or a network file, keeps it in this package's own form"


def is_handed_back(source: str | Path, target: str | Path) -> bool:
    """Return whether a network of this file goes back into its own form at a place, and not into this package's.

    A state dict does under its own ending or as .safetensors, one in several files as a folder, a graph as .onnx.
    """
    source, target = Path(source), Path(target)
    if source.suffix == ".onnx" or target.suffix == ".onnx":
        return source.suffix == target.suffix
    if not (os.path.exists(source) and is_tensors(source)):
        return False
    if target.suffix == ".safetensors":
        return METADATA_KEY not in open_tensors(source, Reading(), part=True).metadata
    return True


def default_target(source: str | Path) -> Path:
    """Return where a pruned network goes that nobody named a place for: `pruned` with the ending of its source."""
    source = Path(source)
    own = source.suffix == ".onnx" or (os.path.exists(source) and is_tensors(source))
    if own and os.path.isfile(source) and not source.name.endswith(".index.json"):
        return Path("pruned").with_suffix(source.suffix)
    return Path("pruned" if own else "pruned.safetensors")


def hand_back(
    pruned: Network,
    source: str | Path,
    target: str | Path,
    *,
    into: Network | None = None,
    masks: str = "folded",
    remove: bool = False,
    ends: bool = False,
    **reading: Any,
) -> list[str]:
    """Write a pruned network in the form in which it came; return what is to be known of it, a sentence each.

    pruned: as `prune_network` makes it of the network of `source`, its layers of the same names and shapes. source: an
    ONNX file, or a file, index or folder of tensors; `into`: the network into which those were put (`with_weights`).
    reading: as in `load_network`. Of the source nothing changes but weights, biases and, where a state dict keeps
    weights in parts (masks, weight norm), those parts: they are folded into one array, or with masks="weight_mask" all
    pruned weights are kept as `X_orig` and `X_mask`. All other numbers stay bit for bit. The target has the ending of
    the source, or .safetensors of any state dict; of several files it is a folder. What was written is read again and
    compared before it takes its place.
    remove: takes the channels that are zero or that nobody reads out of the file, as `accelsim.pruned.removed` does of
    a network, `ends` as there; what cannot do with fewer channels is refused by name. Of a state dict the graph of the
    pruned network says which arrays those are in: the arrays of an operation, such as a batch norm, are those whose
    names begin with its name.
    Raises InputError with every layer that cannot be written back, such as one whose weights are packed.
    """
    path, target = find(str(source), "workloads", folders=True), Path(target)
    if masks not in MASKS:
        raise InputError(f"masks: is {' or '.join(MASKS)} (got {masks!r})")
    told = Reading.of(**reading)
    if path.suffix == ".onnx":
        return _hand_back_graph(pruned, path, target, told, ends if remove else None)
    if not is_tensors(path):
        raise InputError(f"{label(path)}: is neither a state dict nor an ONNX graph to be handed back; {INSTEAD}")
    told.check_belongs(label(path), "a file of tensors")
    if remove:
        raise_if_any(cannot_remove(pruned, label(path), masks))
    return _Tensors(pruned, path, target, into, told, ends if remove else None).write(masks)


def cannot_remove(pruned: Network, place: str, masks: str) -> Iterable[str]:
    """Say what keeps channels from being taken out of a state dict."""
    if masks != "folded":
        yield f"masks: what is removed needs none (got {masks!r}); leave it out, or do not remove"
    if pruned.graph is None:
        yield (
            f"{place}: channels cannot be taken out: nothing says what stands between its layers, and so which arrays "
            f"have the same channels. {GRAPH_HELP}"
        )


def _hand_back_graph(pruned: Network, path: Path, target: Path, reading: Reading, ends: bool | None) -> list[str]:
    """Write a pruned network as the ONNX file from which it was read; see `hand_back`. ends: None removes nothing."""
    reading.check_belongs(label(path), "an ONNX graph")
    if target.suffix != ".onnx":
        raise InputError(f"{target}: what came as {path.name} is written as .onnx; change the ending")
    check_writable(target)
    with needing("onnx", path):
        from accelsim.network.onnx_graph import read
        from accelsim.network.onnx_graph.rewritten import rewrite
    given = {layer.name: layer for layer in read(path, reading)}
    raise_if_any(_misfits(pruned, given, label(path)))
    with tempfile.TemporaryDirectory(prefix=".accelsim-", dir=real_path(target).parent) as folder:
        made = Path(folder) / target.name
        said = rewrite(pruned, path, made, reading, way_to(path, target))
        again = read(made, reading)
        raise_if_any(f"{target}: {problem}; {INSTEAD}" for problem in differences(again, pruned, given, given))
        if ends is not None:
            made, more = _narrowed(again, made, label(path), reading, ends)
            said += more
        # The data first: a model without it is none.
        for file in sorted(made.parent.iterdir(), key=lambda file: file == made):
            file.replace(target.with_name(file.name))
    return said


def _narrowed(whole: Network, path: Path, source: str, reading: Reading, ends: bool) -> tuple[Path, list[str]]:
    """Write an ONNX file without the channels that go, read it again and compare; return where it is, and what to say.

    source: what messages call it.
    """
    from accelsim.network.onnx_graph import read
    from accelsim.network.onnx_graph.narrower import narrow

    slices = Slices.of(whole, ends=ends)
    small = without(whole, slices, slices.needed(whole))
    target = path.parent / "narrow" / path.name
    target.parent.mkdir()
    with placing(source):
        said = narrow(path, target, reading, ends=ends)
        layers = {layer.name: layer for layer in small}
        raise_if_any(f"{problem}; {INSTEAD}" for problem in differences(read(target, reading), small, layers))
    return target, said


class _Numbered(TensorFile):
    """The arrays of a file as a network uses them, each number of them replaced by that of its place, from 1."""

    def __init__(self, file: TensorFile) -> None:
        super().__init__(file.path)
        self.logical = logical_arrays(file).logical
        called = {each.parts[0]: name for name, each in self.logical.items() if len(each.parts) == 1}
        self.shared = {
            called[one]: called[other] for one, other in file.shared.items() if one in called and other in called
        }
        self.metadata, self.others = file.metadata, file.others
        self.first: dict[str, int] = {}
        self._file = file
        at = 1
        for name, each in self.logical.items():
            self.shapes[name], self.types[name] = each.shape, file.types.get(each.parts[0], "")
            unusable = [file.unusable[part] for part in each.parts if part in file.unusable]
            if unusable:
                self.unusable[name] = unusable[0]
            if name not in self.shared:
                self.first[name] = at
                at += each.size

    def owner(self, name: str) -> str:
        """Return the array that has the numbers of this one: itself, but of tied ones the first."""
        while name in self.shared:
            name = self.shared[name]
        return name

    def owners(self, places: Array) -> list[str]:
        """Return the arrays in which places lie."""
        names, starts = list(self.first), np.fromiter(self.first.values(), np.int64)
        ends = np.searchsorted(starts, (places.min(initial=starts[-1]), places.max(initial=0)), "right") - 1
        # Most layers lie in one array.
        numbers = ends[:1] if ends[0] == ends[1] else np.unique(np.searchsorted(starts, places, "right") - 1)
        return [names[number] for number in numbers if number >= 0]

    def _now(self) -> tuple[int, ...]:
        return ()

    def _read(self, name: str) -> Array:
        if name.rpartition(".")[2] == "codebook":
            return self.logical[name].read()
        first, shape = self.first[self.owner(name)], self.shapes[name]
        return np.arange(first, first + self.logical[name].size).reshape(shape)


class _Tensors:
    """A state dict, and where the weights of a network lie in it."""

    def __init__(
        self, pruned: Network, path: Path, target: Path, into: Network | None, reading: Reading, ends: bool | None
    ) -> None:
        self.file = open_tensors(path, reading)
        self.path, self.target = path, target
        self._pruned, self._into, self._reading = pruned, into, reading
        if METADATA_KEY in self.file.metadata:
            raise InputError(f"{label(path)}: is a network of this package's own form; {INSTEAD}")
        self.numbered = _Numbered(self.file)
        self._places = self._read(self.numbered)
        original = {layer.name: layer for layer in self._read(self.file)}
        raise_if_any(_misfits(pruned, original, label(path)))
        self._users: dict[str, list[tuple[str, str]]] = {}
        """Of each array, the layers that are made of it, and by which key."""
        self.changed: set[str] = set()
        self._given = original
        self._folded: set[str] = set()
        """Layers that are made of parts."""
        self._whole, self._kept = pruned, dict[str, Kept]()
        for layer in pruned:
            for key in ("weight", "bias"):
                wanted, given = getattr(layer, key), getattr(original[layer.name], key)
                if wanted is None or given is None:
                    continue
                places = getattr(self._places[layer.name], key)
                differs = wanted != given
                for name in self.numbered.owners(places):
                    if len(self.numbered.logical[name].parts) > 1:
                        self._folded.add(layer.name)
                    self._users.setdefault(name, []).append((layer.name, key))
                self.changed.update(self.numbered.owners(places[differs]) if differs.any() else ())

        if ends is not None:
            self._remove(ends)

    def _remove(self, ends: bool) -> None:
        """Find what stays of each array, and the network that is left; raises InputError where that is not known."""
        slices = Slices.of(self._pruned, ends=ends)
        stays = slices.needed(self._pruned)
        used = {name: [self._use(name, *user) for user in users] for name, users in self._users.items()}
        shapes = {name: shape for name, shape in self.numbered.shapes.items() if self.numbered.owner(name) == name}
        with placing(label(self.path)):
            self._kept = kept_of(self._pruned, slices, stays, shapes, used)
        self._pruned = without(self._pruned, slices, stays)
        as_given = [
            replace(layer, weight_source=self._given[layer.name].weight_source, bias=self._given[layer.name].bias)
            for layer in self._whole
        ]
        given = without(replace(self._whole, layers=as_given, executor=None, samples=None), slices, stays)
        self._given = {layer.name: layer for layer in given}
        self._folded |= set(self._given)  # numbers that are new are compared as those of their type
        self._into = None if self._into is None else without(self._into, slices, stays)

    def _use(self, name: str, layer: str, key: str) -> Used:
        """Return what a layer has of an array."""
        first, places = self.numbered.first[name], getattr(self._places[layer], key)
        inside = (places >= first) & (places < first + self.numbered.logical[name].size)
        return Used(layer, key, np.where(inside, places - first, -1).astype(np.int64))

    def write(self, masks: str) -> list[str]:
        """Write the file, read it again and compare; see `hand_back`."""
        raise_if_any(self._problems())
        said: list[str] = []
        arrays = self._arrays(masks, said)
        told = {GRANULARITY_KEY: claims_of(self._pruned), PARENT_KEY: way_to(self.path, self.target)}
        self.file.metadata = {key: text for key, text in {**self.file.metadata, **told}.items() if text}
        if isinstance(self.file, Shards) and self.target.suffix != ".safetensors":
            self._write_folder(arrays)
            return said
        endings = {self.path.suffix, ".safetensors"}
        if self.target.suffix not in endings and SUFFIXES.get(self.target.suffix) != SUFFIXES.get(self.path.suffix):
            ways = " or ".join(sorted(endings))
            raise InputError(f"{self.target}: what came as {self.path.name} is written as {ways}; change the ending")
        check_writable(self.target)
        as_safetensors = self.target.suffix == ".safetensors"

        def written(place: Path) -> None:
            if as_safetensors:
                write_safetensors(self.file, place, arrays)
            else:
                self.file.write(place, arrays)
            # Names of a file in another form are those below the key.
            self._check(place, Reading(transpose=self._reading.transpose) if as_safetensors else self._reading)

        write_whole(self.target, written)
        return said

    def _write_folder(self, arrays: Sequence[Written]) -> None:
        """Write several files into a folder that is new or empty."""
        if os.path.exists(self.target) and (not os.path.isdir(self.target) or any(self.target.iterdir())):
            raise InputError(f"{self.target}: already exists; a network in several files is written into a new folder")
        check_writable(self.target.absolute() if not os.path.exists(self.target) else self.target / "model")
        made = Path(tempfile.mkdtemp(prefix=".accelsim-", dir=self.target.absolute().parent))
        try:
            self.file.write(made, arrays)
            self._check(made, self._reading)
            made.chmod(0o755)
            made.replace(self.target)
        except BaseException:
            shutil.rmtree(made)
            raise

    def _read(self, file: TensorFile, reading: Reading | None = None) -> Network:
        """Return the network of a file of tensors, or the one into which it is put."""
        told = reading or self._reading
        if self._into is not None:
            return put_into(self._into, file, told)
        return bare.network_of(self.path, file, told, guess=True)

    def _problems(self) -> list[str]:
        """Say which layers cannot be written back."""
        packed: dict[str, list[str]] = {}
        for name in sorted(self.changed | set(self._kept)):
            logical = self.numbered.logical[name]
            kind = self.file.types.get(logical.parts[0], "")
            how = logical.stored_as or (f"{kind}, with a scale" if kind in QUANTISED else "")
            if how:
                packed.setdefault(how, []).append(name)
        return [
            f"{label(self.path)}: {listed(names)}: packed as {how}, into which pruned weights are not written; prune "
            f"the checkpoint that it was made from, and pack that, or leave these layers as they are; {INSTEAD}"
            for how, names in packed.items()
        ]

    def _arrays(self, masks: str, said: list[str]) -> list[Written]:
        """Return what is written in place of each array of the file, in its order."""
        prefix = common_prefix(name for name, shape in self.file.shapes.items() if shape)
        logical = {part: each for each in self.numbered.logical.values() for part in each.parts}
        arrays: list[Written] = []
        folded: list[str] = []
        kept: list[str] = []
        done: set[str] = set()
        for stored in self.file.shapes:
            each = logical.get(stored)
            if each is None or each.stored_as:
                arrays.append(Written(stored, stored))
                continue
            owner = self.numbered.owner(each.name)
            in_parts = len(each.parts) > 1
            if each.name in done:
                continue
            done.add(each.name)
            main = next(part for part in each.parts if self.file.shapes[part] == each.shape)
            is_weight = any(key == "weight" for _, key in self._users.get(owner, ()))
            name = prefix + each.name if in_parts else stored
            less = self._kept.get(owner, ())
            if masks == "weight_mask" and is_weight and (in_parts or owner in self.changed):
                arrays += self._with_mask(name, main, owner)
                kept.append(name)
            elif in_parts:
                arrays.append(Written(name, main, self._numbers(owner, all_new=True), less))
                folded.append(name)
            else:
                arrays.append(Written(name, main, self._numbers(owner) if owner in self.changed else None, less))
        if folded:
            said.append(
                f"{listed(folded)}: in parts in {self.path.name} (a mask, a norm), and whole in {self.target.name}; "
                "load it into a model from which these are removed"
            )
        if kept:
            said.append(
                f"{listed(kept)}: kept as NAME_orig and NAME_mask, as torch.nn.utils.prune does; load it into a model "
                "that is pruned so"
            )
        return arrays

    def _with_mask(self, name: str, main: str, owner: str) -> list[Written]:
        """Return weights as they were, with new values where they are not pruned, and their mask."""

        def original() -> tuple[Array, Array]:
            lying, whole, wanted = self.file[main], self.numbered.logical[owner].read(), self._settled(owner)[0]
            # Of a weight norm and the like the parts are not the weights.
            base = lying if np.array_equal(lying[whole != 0], whole[whole != 0]) else whole
            values = np.where(wanted != 0, wanted, base)
            return values, values != lying

        def mask() -> tuple[Array, Array]:
            wanted = self._settled(owner)[0]
            return (wanted != 0).astype(wanted.dtype), np.ones(wanted.shape, bool)

        return [Written(f"{name}_orig", main, original), Written(f"{name}_mask", main, mask)]

    def _numbers(self, owner: str, *, all_new: bool = False) -> Callable[[], tuple[Array, Array]]:
        def numbers() -> tuple[Array, Array]:
            values, new = self._settled(owner)
            return values, np.ones(values.shape, bool) if all_new else new

        return numbers

    def _settled(self, name: str) -> tuple[Array, Array]:
        """Return the values of an array with those of the pruned layers in them, and which of them are new.

        Raises InputError for layers that share weights and are pruned otherwise than each other.
        """
        logical, first = self.numbered.logical[name], self.numbered.first[name]
        values = np.array(logical.read())
        flat = values.reshape(-1)
        new, taken = np.zeros(flat.shape, bool), np.zeros(flat.shape, bool)
        users = self._users.get(name, [])
        for number, (layer, key) in enumerate(users):
            places = getattr(self._places[layer], key)
            if np.array_equal(places.reshape(-1), np.arange(first, first + logical.size)):
                at: Any = slice(None)
                wanted = getattr(self._whole[layer], key).reshape(-1)
            else:
                here = (places >= first) & (places < first + logical.size)
                at = places[here].astype(np.int64) - first
                wanted = getattr(self._whole[layer], key)[here]
            differs = flat[at] != wanted
            if (differs & taken[at]).any():
                others = listed(dict.fromkeys(other for other, _ in users[:number]))
                raise InputError(
                    f"layer {layer}: shares '{name}' with {others}, and is pruned otherwise; prune them alike, by one "
                    "sparsity and a criterion that looks at weights alone"
                )
            taken[at] = True
            new[at] |= differs
            flat[at] = np.where(differs, wanted, flat[at])
        return values, new.reshape(values.shape)

    def _check(self, place: Path, reading: Reading) -> None:
        """Raise InputError where the file at a place does not give the pruned layers again."""
        again = self._read(open_tensors(place, reading, part=True), reading)
        raise_if_any(
            f"{self.target}: {problem}; {INSTEAD}"
            for problem in differences(again, self._pruned, self._given, self._folded)
        )


def differences(
    again: Network, pruned: Network, given: Mapping[str, Layer], computed: Container[str] = frozenset()
) -> Iterable[str]:
    """Go through what of a network that was written and read again is not what was pruned, given before that.

    Numbers that are neither zero nor as they were given (`--update`), and those of layers that are `computed` from what
    the file held, are the nearest that the type of the file has.
    """
    read = {layer.name: layer for layer in again}
    for layer in pruned:
        for key in ("weight", "bias"):
            wanted, before = getattr(layer, key), getattr(given[layer.name], key)
            if before is None:
                continue
            found = getattr(read[layer.name], key) if layer.name in read else None
            if found is None or found.shape != wanted.shape:
                yield f"layer {layer.name}: {key}: cannot be read again"
                continue
            differs = found != wanted
            is_new = ((wanted != before) | (layer.name in computed)) & (wanted != 0) & (found != 0)
            form = ARRAY_TYPES.get(layer.stored_as) or SAFETENSORS_TYPES.get(layer.stored_as) or format_of(found.dtype)
            most = 2.0**-form.significand_bits * np.abs(wanted[differs].astype(np.float64))
            near = np.abs(found[differs].astype(np.float64) - wanted[differs]) <= most
            if not (near & is_new[differs]).all():
                yield f"layer {layer.name}: {key}: is not written as it was pruned ({int(differs.sum())} numbers)"


def _misfits(pruned: Network, given: Mapping[str, Layer], place: str) -> Iterable[str]:
    """Go through the layers of a pruned network that are not those of its source."""
    for layer in pruned:
        source = given.get(layer.name)
        if source is None:
            yield f"{place}: has no layer '{layer.name}', which is to be written back into it"
        elif source.weight_shape != layer.weight_shape:
            yield (
                f"layer {layer.name}: has weights of shape {layer.weight_shape}, and {source.weight_shape} in {place}; "
                f"what is removed is not taken out of a file; {INSTEAD}"
            )
