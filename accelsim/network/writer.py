"""A network as one file, which the readers take back whole."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim import __version__
from accelsim.errors import InputError
from accelsim.files import check_writable, write_whole
from accelsim.network.activations import Density, Remade, read_together
from accelsim.network.left_out import LeftOut
from accelsim.network.specs import ARRAY_KEYS, METADATA_KEY, TENSOR_KEYS
from accelsim.network.spoken import spoken

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
        return folder / said if (folder / said).exists() else None
    except (OSError, ValueError):  # no text for a name of a file
        return None


def way_to(parent: Path, target: Path) -> str:
    """Return the way from where a file will lie to the one that it is made of; "" of one that takes its place.

    Folders are named where the two share one that is not above the working directory, else the file alone is.
    """
    parent, folder = parent.resolve(), target.resolve().parent
    if parent == target.resolve():
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


def save(network: Network, path: Path) -> None:
    """Write a network to one .safetensors file; equal networks give equal files, byte for byte.

    Tensors are called `layer.weight`, `layer.bias`, `layer.activations` and `layer.codebook`; all else is the JSON of a
    network file under one key of the metadata, with this package's version in its provenance. Drawn weights are
    written as they are drawn, drawn activations as their density and seed. The file replaces what was there in one
    step. Memory: one copy of the tensors.
    Raises InputError for a place that cannot be written, and for provenance that JSON has no words for.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a network is saved as .safetensors; change the ending")
    check_writable(path)
    tensors: dict[str, Any] = {}
    owners: dict[str, str] = {}
    made = read_together(layer.activations for layer in network if isinstance(layer.activations, Remade))
    # Layers may have been taken out since the aliases were given.
    named = {layer.name for layer in network} | {each.name for each in network.left_out}
    data: dict[str, Any] = {
        "name": network.name,
        "description": network.description,
        "source": network.source,
        "notes": network.notes,
        "not_simulated": [described(each) for each in network.left_out],
        "assumptions": list(network.assumptions),
        "aliases": {name: list(others) for name, others in network.aliases.items() if name in named},
        "provenance": {**network.provenance, **_parent(network, path), "accelsim": __version__},
        "layer": [
            _entry(replace(layer, activations=made.get(layer.name, layer.activations)), tensors, owners)
            for layer in network
        ],
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
        text = json.dumps(data, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"network {network.name}: provenance: cannot be written as JSON ({error}); "
            "use text, finite numbers, true and false, and lists and tables of them"
        ) from None
    from safetensors.numpy import save_file

    write_whole(path, lambda target: save_file(tensors, target, {METADATA_KEY: text}))


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


def _entry(layer: Layer, tensors: dict[str, Any], owners: dict[str, str]) -> dict[str, Any]:
    """Return what a network file says about a layer, and add its arrays to the tensors.

    owners: by `Layer.weights_key` the tensor that has those weights already.
    """
    entry: dict[str, Any] = {"name": layer.name}
    if layer.granularity is not None:
        entry["granularity"] = layer.granularity
    entry |= geometry_of(layer)
    for key in TENSOR_KEYS:
        array = getattr(layer, key)
        if isinstance(array, Density):
            batch = {} if array.batch == 1 else {"batch": int(array.batch)}
            entry[key] = {"density": float(array.density), "seed": int(array.seed), **batch}
        elif array is not None:
            entry[key] = f"{layer.name}.{key}"
            if key == "weight" and layer.weights_key:
                owner = owners.setdefault(layer.weights_key, entry[key])
                if owner in tensors and array.dtype == tensors[owner].dtype and np.array_equal(array, tensors[owner]):
                    entry[key] = owner
                    continue
            tensors[entry[key]] = np.ascontiguousarray(array)
    return entry


def _operation(operation: Operation, tensors: dict[str, Any]) -> dict[str, Any]:
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
            entry[key] = f"{operation.name}.{key}"
            tensors[entry[key]] = np.ascontiguousarray(value)
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
