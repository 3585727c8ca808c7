"""Networks from files: TOML with tensors next to it, an ONNX graph, or tensors alone."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from accelsim.config import MAX_TOML_BYTES, build, check_kind, find, label, parsed_toml, toml_text
from accelsim.errors import InputError, collecting, did_you_mean, needing, placing, printable, raise_if_any, reason_of
from accelsim.network import bare
from accelsim.network.decoder import LanguageModelFile, described, is_language_model, load_model
from accelsim.network.described import FileArray, layer_of
from accelsim.network.files import TENSOR_SUFFIXES, TensorFile, is_tensors, open_tensors
from accelsim.network.network import Network, name_problems
from accelsim.network.reading import Reading
from accelsim.network.roles import Logical, Roles, read_roles
from accelsim.network.specs import METADATA_KEY, TENSOR_KEYS, NetworkSpec
from accelsim.network.topology import described_graph, left_out_of
from accelsim.network.writer import PARENT, lying


def load_network(
    name: str | Path | Network,
    *,
    key: str | None = None,
    transpose: Sequence[str] = (),
    input_shapes: Mapping[str, Sequence[int] | int] | None = None,
    batch_dims: Mapping[str, int | None] | None = None,
    input_values: Mapping[str, float] | None = None,
) -> Network:
    """Return the network of this name or path: .toml, .onnx, or a file, index or folder of tensors.

    A file that `Network.save` wrote is read back whole. In a bare tensor file every 2-D `X.weight` is a linear layer,
    `X.bias` its bias, `X.activations` its input and `X.codebook` its shared weights; what else there is, by which
    names, docs/files.md says (`accelsim.network.roles`). Convolutions need a network file, which their error message
    proposes. Weights stay in the file until they are simulated.
    Arguments say what a file leaves open. key: under which a checkpoint keeps its tensors. transpose: patterns, as
    in a shell, of layers whose weights are stored (in, out). Of an ONNX graph, by the name of an input, input_shapes:
    its shape, or by that of an open dimension, its size; batch_dims: which of its dimensions counts samples, None where
    none does; input_values: the value that it always has, such as a flag or a sampling rate.
    Raises InputError with every problem at once.
    """
    if isinstance(name, Network):
        return name
    reading = Reading.of(
        key=key,
        transpose=transpose,
        input_shapes=input_shapes,
        batch_dims=batch_dims,
        input_values=input_values,
    )
    if is_language_model(str(name)):
        reading.check_belongs(str(name), "a language model")
        model = load_model(str(name))
        with placing(str(name)):
            return _from_sizes(model)
    path = find(name, "workloads", folders=True)
    if path.suffix == ".toml":
        reading.check_belongs(label(path), "a network file")
        return _from_toml(path)
    if is_tensors(path):
        reading.check_belongs(label(path), "a file of tensors")
        return _from_tensors(path, reading)
    if path.suffix == ".onnx":
        reading.check_belongs(label(path), "an ONNX graph")
        with needing("onnx", path):
            from accelsim.network.onnx_graph import read
        return read(path, reading)
    raise InputError(f"{path}: a network is a .toml, {', '.join(TENSOR_SUFFIXES)} or .onnx file, or a folder of shards")


def load_weights(name: str | Path | Network, **reading: Any) -> Network:
    """Return a network to look at its weights alone: convolutions of a bare tensor file see a single window.

    For the rest, its keywords (`reading`) and errors, see `load_network`.
    """
    if isinstance(name, Network):
        return name
    path = find(name, "workloads", folders=True)
    if not is_tensors(path):
        return load_network(path, **reading)
    told = Reading.of(**reading)
    told.check_belongs(label(path), "a file of tensors")
    return _from_tensors(path, told, guess=True)


@lru_cache(maxsize=32)
def _spec_of(text: str, path: Path) -> NetworkSpec:
    """Return what the text of a network file says; the same text is parsed and checked once."""
    data = parsed_toml(text, path)
    check_kind(data, "network", label(path))
    return build(NetworkSpec, data, label(path))


def _from_toml(path: Path) -> Network:
    spec = _spec_of(toml_text(path), path)
    files: dict[Path, Roles | None] = {}

    def locate(owner: str, key: str, reference: str, problems: list[str]) -> FileArray | None:
        place = f"{owner}: {key}"
        parts = _REFERENCE.fullmatch(reference)
        if parts is None:
            problems.append(f'{place}: write "file.safetensors:tensor" or "file.npz:tensor" (got "{reference}")')
            return None
        path_of_file = path.parent / parts[1]
        if path_of_file not in files:
            files[path_of_file] = None
            try:
                files[path_of_file] = read_roles(open_tensors(path_of_file, part=True))
            except InputError as error:
                # Told once, however many layers name this file.
                problems.extend(f"{place}: {problem}" for problem in error.problems)
        roles = files[path_of_file]
        if roles is None:
            return None
        array = roles.find(parts[2])
        if array is None:
            known = did_you_mean(parts[2], roles.names_like(key))
            told = "".join(f"; {each}" for each in roles.problems if parts[2].removesuffix(f".{key}") in each)
            problems.append(f"{place}: {path_of_file}: no tensor is called '{parts[2]}'{told or known}")
            return None
        return FileArray(roles.file, array, f"{place}: {path_of_file}")

    return _network(path, spec, locate)


def _from_sizes(model: LanguageModelFile) -> Network:
    """Return a language model of which only the sizes are known, with weights that are drawn."""

    def nowhere(owner: str, key: str, reference: str, problems: list[str]) -> FileArray | None:
        problems.append(f"{owner}: {key}: {reference}: has no tensors")
        return None

    return _network(Path(model.name), build(NetworkSpec, described(model), model.name), nowhere)


def _from_saved(path: Path, file: TensorFile) -> Network:
    """Return a network whose description is in the metadata of its tensor file."""
    text = file.metadata[METADATA_KEY]
    if len(text) > MAX_TOML_BYTES:
        raise InputError(f"{path}: metadata '{METADATA_KEY}': is larger than {MAX_TOML_BYTES} bytes; save it anew")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: metadata '{METADATA_KEY}': is not JSON ({reason_of(error)}); save the network anew"
        ) from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: metadata '{METADATA_KEY}': must be one JSON object; save the network anew")

    def locate(owner: str, key: str, name: str, problems: list[str]) -> FileArray:
        return FileArray(file, Logical.stored(file, name), f"{owner}: {key}")

    network = _network(path, build(NetworkSpec, data, label(path)), locate, whole=True)
    parent = lying(network.provenance.get(PARENT), path.parent)
    return network if parent is None else replace(network, provenance={**network.provenance, PARENT: str(parent)})


_REFERENCE = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, (*TENSOR_SUFFIXES, '.index.json', '/')))})):(.+)")

Locate = Callable[[str, str, str, list[str]], "FileArray | None"]
"""Finds the tensor that a key names: given "layer" or "operation" with its name, key, text, where to add a problem."""


def _network(path: Path, spec: NetworkSpec, locate: Locate, *, whole: bool = False) -> Network:
    """Return the network that a file describes, `whole` where it was saved; raises InputError with every problem."""
    names = [spec.name, *(layer.name for layer in spec.layer)]
    problems = name_problems(names[1:])
    if not whole:  # a tensor of a file that was saved may be called `.weight`
        problems += [
            f"layer {number}: name: is empty; give it a name of its own"
            for number, name in enumerate(names[1:], 1)
            if not name
        ]
    # JSON can hold halves of characters, which no file of results can.
    problems += [f"name {name!r}: is not text in UTF-8; rename it" for name in names[:1] if printable(name) != name]
    layers = []
    for layer in spec.layer:
        references = {key: getattr(layer, key) for key in TENSOR_KEYS}
        tensors = {
            key: locate(f"layer {layer.name}", key, reference, problems)
            for key, reference in references.items()
            if isinstance(reference, str)
        }
        if None not in tensors.values():
            layers.append(layer_of(layer, {key: tensor for key, tensor in tensors.items() if tensor}, problems))
    made = [layer for layer in layers if layer]
    graph = None
    if not problems:
        with collecting(problems):
            graph = described_graph(spec, made, lambda *asked: _array(locate, *asked), whole=whole)
    raise_if_any(f"{label(path)}: {problem}" for problem in problems)
    not_simulated = [each if isinstance(each, str) else each.left_out for each in spec.not_simulated]
    return Network(
        spec.name,
        made,
        spec.description,
        spec.source,
        spec.notes,
        not_simulated=[*not_simulated, *(left_out_of(graph, not_simulated) if graph else ())],
        assumptions=spec.assumptions,
        aliases=dict(spec.aliases),
        provenance=copy.deepcopy(spec.provenance),  # whoever changes it changes no other network of this file
        graph=graph,
    )


def _array(locate: Locate, operation: str, key: str, text: str) -> Any:
    """Return an array that an operation names; raises InputError."""
    problems: list[str] = []
    found = locate(f"operation {operation}", key, text, problems)
    if found is not None and (problem := found.array.problem(found.file)):
        problems.append(f"{found.place}: {problem}")
    raise_if_any(problems)
    return None if found is None else found.array.read()


def _from_tensors(path: Path, reading: Reading, *, guess: bool = False) -> Network:
    """Return the network of a tensor file, as its metadata describe it or by its arrays alone."""
    file = open_tensors(path, reading)
    return (
        _from_saved(path, file) if METADATA_KEY in file.metadata else bare.network_of(path, file, reading, guess=guess)
    )
