"""A network as one file, which the readers take back whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim import __version__
from accelsim.errors import InputError
from accelsim.files import check_writable, write_whole
from accelsim.network.activations import Density
from accelsim.network.left_out import LeftOut
from accelsim.network.specs import METADATA_KEY, TENSOR_KEYS

if TYPE_CHECKING:
    from accelsim.network.layer import Layer
    from accelsim.network.network import Network


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
        "provenance": {**network.provenance, "accelsim": __version__},
        "layer": [_entry(layer, tensors, owners) for layer in network],
    }
    try:
        text = json.dumps(data, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"network {network.name}: provenance: cannot be written as JSON ({error}); "
            "use text, finite numbers, true and false, and lists and tables of them"
        ) from None
    from safetensors.numpy import save_file

    write_whole(path, lambda target: save_file(tensors, target, {METADATA_KEY: text}))


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


def geometry_of(layer: Layer) -> dict[str, Any]:
    """Return what a network file says of a layer beside its name and tensors."""
    geometry = layer.convolution
    if geometry is None:
        return {"kind": layer.kind, "tokens": layer.tokens, "steps": layer.steps}
    pairs = {key: list(getattr(geometry, f"{key}_hw")) for key in ("input", "stride", "padding", "dilation")}
    images = {} if layer.tokens == 1 else {"tokens": layer.tokens}
    return {"kind": layer.kind, "groups": geometry.groups, "input_hw": pairs.pop("input"), **pairs, **images}
