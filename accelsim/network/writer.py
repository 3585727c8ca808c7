"""A network as one file, which the readers take back whole."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim import __version__
from accelsim.errors import InputError
from accelsim.files import check_writable, real_path, safetensors_header, write_whole
from accelsim.network.activations import Density, Remade, made_together
from accelsim.network.left_out import LeftOut
from accelsim.network.specs import ARRAY_KEYS, METADATA_KEY, TENSOR_KEYS
from accelsim.network.spoken import spoken
from accelsim.number_formats import ARRAY_TYPES

if TYPE_CHECKING:
    from accelsim.network.graph import Operation
    from accelsim.network.layer import Layer
    from accelsim.network.network import Network


GRANULARITY_KEY = "accelsim.granularity"
"""In the metadata of a file of another form: JSON of how each layer was pruned, by its name."""

PARENT = "pruned_from"
"""Key of a network's provenance: name or file of the network that it was pruned from."""

PARENT_KEY = f"accelsim.{PARENT}"
"""The same in the metadata of a file of another form: a path, from where that file lies."""

_CLAIM = re.compile(r"nm:[1-9]\d{0,3}:[1-9]\d{0,3}|(?!nm)[a-z]{1,20}(:\d{1,9}x\d{1,9})?")


def parent_of(path: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what the provenance of the network in a file says of its parent, as the metadata have it."""
    said = metadata.get(PARENT_KEY)
    return {PARENT: str(path.parent / said)} if said else {}


def lying(said: Any, folder: Path) -> Path | None:
    """Return the file that a provenance names as a network's parent, from a folder; None: a name, or not there."""
    if not isinstance(said, str) or not re.search(r"[/\\.]", said):
        return None
    try:
        return folder / said if os.path.exists(folder / said) else None
    except (OSError, ValueError):  # no text for a name of a file
        return None


def way_to(parent: Path, target: Path) -> str:
    """Return the way from where a file will lie to the one that it is made of; "" of one that takes its place.

    Folders are named where the two share one that is not above the working directory, else the file alone is.
    """
    parent, target = real_path(parent), real_path(target)
    folder = target.parent
    if parent == target:
        return ""
    way = Path(os.path.relpath(parent, folder)).as_posix() if parent.drive == folder.drive else parent.name
    if not way.startswith("../"):
        return way
    shared = Path(os.path.commonpath([parent, folder]))
    return way if shared.is_relative_to(Path.cwd()) else parent.name


def claims_of(network: Network) -> str:
    """Return what the metadata of a file say of how a network's layers were pruned, empty for nothing."""
    claims = {layer.name: layer.granularity for layer in network if layer.granularity}
    return json.dumps(claims, sort_keys=True) if claims else ""


def claimed(layers: Sequence[Layer], text: str) -> list[Layer]:
    """Return layers with how they were pruned, as metadata say it; what is no such text says nothing."""
    try:
        claims = json.loads(text or "{}")
    except (ValueError, RecursionError):
        claims = {}
    claims = claims if isinstance(claims, dict) else {}
    sound = {name: each for name, each in claims.items() if isinstance(each, str) and _CLAIM.fullmatch(each)}
    return [replace(each, granularity=sound[each.name]) if each.name in sound else each for each in layers]


class _Tensors:
    """Arrays on their way into one .safetensors file: each is written as it comes, to a file of its width's.

    Those become one at the end, the widest first, so that each lies at a multiple of its width.
    """

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self.folder, self.files = folder, files
        self.by_width: dict[int, tuple[BinaryIO, dict[str, tuple[str, list[int]]]]] = {}
        """File of each width, and of each array in it its type in the file's words and its shape."""

    def add(self, name: str, given: ArrayLike) -> str:
        """Write an array, and return its name."""
        array = np.ascontiguousarray(given)
        form = ARRAY_TYPES[array.dtype.name]
        if array.itemsize not in self.by_width:
            opened = tempfile.TemporaryFile(prefix=".accelsim-", dir=self.folder)  # noqa: SIM115, `files` closes it
            self.by_width[array.itemsize] = self.files.enter_context(opened), {}
        file, found = self.by_width[array.itemsize]
        found[name] = str(form.safetensors_type), list(array.shape)
        file.write(_bytes_of(array.astype(array.dtype.newbyteorder("<"), copy=False)))
        return name

    def write(self, target: Path, metadata: Mapping[str, str]) -> None:
        """Make them one file."""
        header: dict[str, Any] = {"__metadata__": dict(metadata)}
        at = 0
        widest_first = sorted(self.by_width.items(), reverse=True)
        for width, (_, found) in widest_first:
            for name, (kind, shape) in found.items():
                end = at + width * math.prod(shape)
                header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
                at = end
        with target.open("wb") as out:
            out.write(safetensors_header(header))
            for _, (file, _) in widest_first:
                file.seek(0)
                shutil.copyfileobj(file, out, 2**24)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """Return the bytes of an array in order, of whatever type."""
    return array.reshape(-1).view(np.uint8).data


def save(network: Network, path: Path) -> None:
    """Write a network to one .safetensors file; equal networks give equal files, byte for byte.

    Tensors are called `layer.weight`, `layer.bias`, `layer.activations` and `layer.codebook`; all else is the JSON of a
    network file under one key of the metadata, with this package's version in its provenance. Drawn weights are
    written as they are drawn, drawn activations as their density and seed. Of a network with samples, activations are
    what its layers see of them. The file replaces what was there in one step.
    Memory: the arrays of one layer. Disk: twice the file while it is written.
    Raises InputError for a place that cannot be written, and for provenance that JSON has no words for.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a network is saved as .safetensors; change the ending")
    check_writable(path)

    def write(target: Path) -> None:
        with ExitStack() as files:
            tensors = _Tensors(target.parent, files)
            text = _described_whole(network, path, tensors)
            tensors.write(target, {METADATA_KEY: text})

    write_whole(path, write)


def _described_whole(network: Network, path: Path, tensors: _Tensors) -> str:
    """Return what a file says of a network, and add its arrays to the tensors."""
    if network.samples is not None:
        made = {each.layer: tensors.add(f"{each.layer}.activations", each.inputs) for each in network.seen()}
    else:
        runs = made_together(layer.activations for layer in network if isinstance(layer.activations, Remade))
        made = {layer: tensors.add(f"{layer}.activations", array) for layer, array in runs}
    # Layers may have been taken out since the aliases were given.
    named = {layer.name for layer in network} | {each.name for each in network.left_out}
    owners: dict[str, tuple[str, str]] = {}
    data: dict[str, Any] = {
        "name": network.name,
        "description": network.description,
        "source": network.source,
        "notes": network.notes,
        "not_simulated": [described(each) for each in network.left_out],
        "assumptions": list(network.assumptions),
        "aliases": {name: list(others) for name, others in network.aliases.items() if name in named},
        "provenance": {**network.provenance, **_parent(network, path), "accelsim": __version__},
        "layer": [_entry(layer, made.get(layer.name), tensors, owners) for layer in network],
    }
    graph = None if network.graph is None else spoken(network.graph, network)
    # A network without some of its layers is another one, of which the graph says nothing.
    if graph is not None and set(graph.sources) == {layer.name for layer in network}:
        data["inputs"] = {name: [int(size) for size in shape] for name, shape in graph.inputs.items()}
        data["outputs"], data["order"] = list(graph.outputs), list(graph.order)
        data |= {"runtime": graph.runtime} if graph.runtime else {}
        for entry in data["layer"]:
            entry["inputs"] = list(graph.sources[entry["name"]])
        operations = graph.by_name
        data["operation"] = [_operation(operations[name], tensors) for name in graph.order if name in operations]
    try:
        return json.dumps(data, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"network {network.name}: provenance: cannot be written as JSON ({error}); "
            "use text, finite numbers, true and false, and lists and tables of them"
        ) from None


def _parent(network: Network, path: Path) -> dict[str, Any]:
    """Return what is said of a network's parent where that is a file: the way to it."""
    parent = lying(network.provenance.get(PARENT), Path())
    return {} if parent is None else {PARENT: way_to(parent, path) or parent.name}


def described(each: LeftOut) -> str | dict[str, Any]:
    """Return what a network file says of something that is not simulated."""
    if each == LeftOut(each.name):
        return each.name
    size = {"macs_unknown": True} if each.macs is None else {"macs": each.macs}
    return {"name": each.name, "kind": each.kind, "weights": each.weights, **size}


def _entry(
    layer: Layer, activations: str | None, tensors: _Tensors, owners: dict[str, tuple[str, str]]
) -> dict[str, Any]:
    """Return what a network file says about a layer, and add its arrays to the tensors.

    activations: the tensor that has them already. owners: by `Layer.weights_key` the tensor that has those weights
    already, and a digest of it.
    """
    entry: dict[str, Any] = {"name": layer.name}
    if layer.granularity is not None:
        entry["granularity"] = layer.granularity
    entry |= geometry_of(layer)
    for key in TENSOR_KEYS:
        if key == "activations" and activations is not None:
            entry[key] = activations
            continue
        array = getattr(layer, key)
        if isinstance(array, Density):
            batch = {} if array.batch == 1 else {"batch": int(array.batch)}
            entry[key] = {"density": float(array.density), "seed": int(array.seed), **batch}
        elif array is not None:
            entry[key] = f"{layer.name}.{key}"
            if key == "weight" and layer.weights_key:
                digest = blake2b(_bytes_of(np.ascontiguousarray(array)), person=array.dtype.str.encode()).hexdigest()
                owner, known = owners.setdefault(layer.weights_key, (entry[key], digest))
                if owner != entry[key] and known == digest:
                    entry[key] = owner
                    continue
            tensors.add(entry[key], array)
    return entry


def _operation(operation: Operation, tensors: _Tensors) -> dict[str, Any]:
    """Return what a network file says about an operation, and add its arrays to the tensors."""
    entry: dict[str, Any] = {
        "name": operation.name,
        "kind": operation.kind,
        "does": operation.does,
        "inputs": list(operation.inputs),
        "shape": [int(size) for size in operation.shape],
        "channels": operation.channels,
        "reads": int(operation.reads),
        "weights": int(operation.weights),
        **({"macs_unknown": True} if operation.macs is None else {"macs": int(operation.macs)}),
    }
    if operation.product is not None:
        entry["product"] = operation.product._asdict()
    known: dict[str, Any] = {}
    for key, value in operation.attributes.items():
        if key in ARRAY_KEYS and np.ndim(value):
            entry[key] = tensors.add(f"{operation.name}.{key}", value)
        elif _is_plain(plain := value.item() if isinstance(value, np.generic) else value):
            known[key] = plain
    return {**entry, "attributes": known} if known else entry


def _is_plain(value: Any) -> bool:
    """Return whether JSON has words for an attribute; others are of use to the runtime that it came with alone."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def geometry_of(layer: Layer) -> dict[str, Any]:
    """Return what a network file says of a layer beside its name and tensors."""
    geometry = layer.convolution
    if geometry is None:
        return {"kind": layer.kind, "tokens": layer.tokens, "steps": layer.steps}
    pairs = {key: list(getattr(geometry, f"{key}_hw")) for key in ("input", "stride", "padding", "dilation")}
    images = {} if layer.tokens == 1 else {"tokens": layer.tokens}
    return {"kind": layer.kind, "groups": geometry.groups, "input_hw": pairs.pop("input"), **pairs, **images}
