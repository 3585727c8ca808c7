"""Networks from files: TOML with tensors beside it, an ONNX graph, or tensors alone."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.config import MAX_TOML_BYTES, build, check_kind, find, label, read_toml
from accelsim.errors import MAX_KNOWN, InputError, collecting, did_you_mean, listed, needing, raise_if_any
from accelsim.network.activations import Activations, Density
from accelsim.network.arrays import activation_problems, bias_problems, codebook_problems
from accelsim.network.files import TENSOR_SUFFIXES, TensorFile, is_tensors, open_tensors
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut
from accelsim.network.lowering import Convolution
from accelsim.network.network import Network, name_problems
from accelsim.network.reading import Reading
from accelsim.network.roles import Logical, Role, Roles, as_2d, lowered, read_roles, turned
from accelsim.network.roles.kinds import UNKNOWN
from accelsim.network.sizes import check_fits_memory
from accelsim.network.specs import GEOMETRY, METADATA_KEY, TENSOR_KEYS, DensitySpec, LayerSpec, NetworkSpec
from accelsim.number_formats import ARRAY_TYPES, SAFETENSORS_TYPES


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
    names, docs/networks.md says (`accelsim.network.roles`). Convolutions need a network file, which their error message
    proposes. Weights stay in the file until they are simulated.
    What a file leaves open is told beside it. key: under which a checkpoint keeps its tensors. transpose: patterns, as
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
    path = find(name, "workloads", folders=True)
    if path.suffix == ".toml":
        reading.check_belongs(label(path), "a network file")
        return _from_toml(path)
    if is_tensors(path):
        reading.check_belongs(label(path), "a file of tensors")
        return _from_tensors(path, reading)
    if path.suffix == ".onnx":
        reading.check_belongs(label(path), "an ONNX graph")
        with needing("onnx"):
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


def _from_toml(path: Path) -> Network:
    data = read_toml(path)
    check_kind(data, "network", label(path))
    files: dict[Path, Roles | None] = {}

    def locate(layer: str, key: str, reference: str, problems: list[str]) -> _Tensor | None:
        place = f"layer {layer}: {key}"
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
        return _Tensor(roles.file, array, f"{place}: {path_of_file}")

    return _network(path, data, locate)


def _from_saved(path: Path, file: TensorFile) -> Network:
    """Return a network whose description is in the metadata of its tensor file."""
    text = file.metadata[METADATA_KEY]
    if len(text) > MAX_TOML_BYTES:
        raise InputError(f"{path}: metadata '{METADATA_KEY}': is larger than {MAX_TOML_BYTES} bytes; save it anew")
    try:
        data = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode()  # JSON can hold halves of characters, which nobody can write
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: metadata '{METADATA_KEY}': is not JSON ({error}); save the network anew") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: metadata '{METADATA_KEY}': must be one JSON object; save the network anew")

    def locate(layer: str, key: str, name: str, problems: list[str]) -> _Tensor:
        return _Tensor(file, Logical.stored(file, name), f"layer {layer}: {key}")

    return _network(path, data, locate)


_REFERENCE = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, (*TENSOR_SUFFIXES, '.index.json', '/')))})):(.+)")

Locate = Callable[[str, str, str, list[str]], "_Tensor | None"]
"""Finds the tensor that a key of a layer names: given layer, key, what it says, and where to add a problem."""


def _network(path: Path, data: Mapping[str, Any], locate: Locate) -> Network:
    """Return the network that the data describes; raises InputError with every problem."""
    spec = build(NetworkSpec, data, label(path))
    problems = name_problems(layer.name for layer in spec.layer)
    layers = []
    for layer in spec.layer:
        references = {key: getattr(layer, key) for key in TENSOR_KEYS}
        tensors = {
            key: locate(layer.name, key, reference, problems)
            for key, reference in references.items()
            if isinstance(reference, str)
        }
        if None not in tensors.values():
            layers.append(_layer(layer, {key: tensor for key, tensor in tensors.items() if tensor}, problems))
    raise_if_any(f"{label(path)}: {problem}" for problem in problems)
    return Network(
        spec.name,
        [layer for layer in layers if layer],
        spec.description,
        spec.source,
        spec.notes,
        not_simulated=[each if isinstance(each, str) else each.left_out for each in spec.not_simulated],
        assumptions=spec.assumptions,
        aliases=spec.aliases,
        provenance=spec.provenance,
    )


class _Tensor(NamedTuple):
    """An array of a file, and how messages call the place that asks for it."""

    file: TensorFile
    array: Logical
    place: str

    @property
    def name(self) -> str:
        return self.array.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def stored_as(self) -> str:
        """What the file calls the numbers, where they are packed or of a type that NumPy lacks."""
        kind = self.file.types.get(self.array.parts[0], "") if self.array.parts else ""
        form = ARRAY_TYPES.get(kind) or SAFETENSORS_TYPES.get(kind)
        return self.array.stored_as or ("" if form is None or form.in_numpy else kind)

    def read(self) -> NDArray[Any]:
        return self.array.read()

    def problem(self) -> str | None:
        return self.array.problem(self.file)

    def as_used(self, spec: LayerSpec) -> _Tensor:
        """Return weights in the shape of their layer: turned where it says so; a 1-D convolution is of height 1."""
        array = turned(self.array) if spec.transpose and len(self.shape) > 1 else self.array
        dims, window = len(array.shape), array.shape[2:]
        if spec.kind == "conv2d" and dims == 3:
            array = as_2d(array)
        groups = spec.groups or 1
        # Those that are saved are lowered already, with a window of 1 x 1.
        is_whole = spec.kind == "conv_transpose2d" and dims in (3, 4) and window != (1, 1)
        if is_whole and array.shape[0] % groups == 0:
            array = lowered(array, groups)
        return self._replace(array=array)


def _tensors_of(file: TensorFile, role: Role) -> dict[str, _Tensor]:
    """Return what a layer has, under the keys of a network file."""
    return {key: _Tensor(file, each, f"layer {role.name}: {key}") for key, each in role.arrays.items()}


def _layer(spec: LayerSpec, tensors: Mapping[str, _Tensor], problems: list[str]) -> Layer | None:
    """Return a layer whose weights stay where they are, or add what is wrong with it to the problems."""
    if "weight" in tensors:
        tensors = {**tensors, "weight": tensors["weight"].as_used(spec)}
    found = [f"{t.place}: {problem}" for t in tensors.values() if (problem := t.problem())]
    if found:
        problems += found
        return None
    shape = _shape(spec, tensors, found)
    convolution = None
    if shape is not None and spec.kind != "linear":
        with collecting(found, f"layer {spec.name}: "):
            convolution = _convolution(spec, shape)
    if found or shape is None:
        problems += found
        return None
    out_features, in_features = shape[0], shape[1] if convolution is None else convolution.in_features
    layer = Layer(
        name=spec.name,
        kind=spec.kind,
        out_features=out_features,
        in_features=in_features,
        weight_source=_source(spec, tensors, shape),
        bias=tensors["bias"].read() if "bias" in tensors else None,
        activations=_activations(spec, tensors),
        codebook=tensors["codebook"].read() if "codebook" in tensors else None,
        granularity=spec.granularity or (None if spec.synthetic is None else spec.synthetic.claimed),
        tokens=spec.tokens or 1,
        steps=spec.steps or 1,
        convolution=convolution,
        stored_as=tensors["weight"].stored_as if "weight" in tensors else "",
    )
    found += bias_problems(spec.name, layer.bias, out_features) + codebook_problems(spec.name, layer.codebook)
    found += activation_problems(spec.name, layer.activations, layer.input_shape)
    problems += found
    return None if found else layer


def _activations(spec: LayerSpec, tensors: Mapping[str, _Tensor]) -> Activations:
    if isinstance(spec.activations, DensitySpec):
        return Density(spec.activations.density, spec.activations.seed)
    return tensors["activations"].read() if "activations" in tensors else None


def _source(spec: LayerSpec, tensors: Mapping[str, _Tensor], shape: tuple[int, ...]) -> Callable[[], NDArray[Any]]:
    """Return what makes the weights when they are asked for."""
    synthetic = spec.synthetic
    if synthetic is None:
        return tensors["weight"].read
    rows, columns = shape[0], math.prod(shape[1:])

    def drawn() -> NDArray[Any]:
        from accelsim.network.synthetic import draw_pattern, draw_weights  # only now: reading a file needs no compiler

        if synthetic.pattern == "fine":
            return draw_weights(rows, columns, synthetic.density, synthetic.seed).reshape(shape)
        matrix = draw_pattern(rows, columns, *synthetic.n_of_m, synthetic.seed)
        if len(shape) == 2:
            return matrix
        out, channels, height, width = shape
        return np.ascontiguousarray(matrix.reshape(out, height, width, channels).transpose(0, 3, 1, 2))

    return drawn


def _convolution(spec: LayerSpec, shape: tuple[int, ...]) -> Convolution:
    """Return the geometry of a convolution with weights of this shape; raises InputError."""
    out_channels, per_group, *kernel = shape
    options = {key: getattr(spec, key) for key in GEOMETRY if getattr(spec, key) is not None}
    in_channels = spec.in_channels or per_group * (spec.groups or 1)
    return Convolution.of(in_channels, out_channels, kernel, 1 if spec.input_hw is None else spec.input_hw, **options)


def _shape(spec: LayerSpec, tensors: Mapping[str, _Tensor], found: list[str]) -> tuple[int, ...] | None:
    """Return the shape of the weights, given by the file's keys or by a tensor, or add what is wrong with it."""
    groups = spec.groups or 1
    kernel = tuple(spec.kernel) if isinstance(spec.kernel, list) else (spec.kernel,) * 2
    if spec.synthetic is None:
        return _shape_of_tensor(spec, tensors["weight"], kernel, found)
    shape: tuple[int, ...] = spec.out_features or 0, spec.in_features or 0
    if spec.kind != "linear":
        # What groups do not divide, the geometry tells.
        shape = spec.out_channels or 0, max((spec.in_channels or 0) // groups, 1), *((k or 0) for k in kernel)
    with collecting(found):
        check_fits_memory(4 * math.prod(shape), f"layer {spec.name}: synthetic weights {shape}")
    return shape


def _shape_of_tensor(
    spec: LayerSpec, weight: _Tensor, kernel: tuple[int | None, ...], found: list[str]
) -> tuple[int, ...] | None:
    shape = weight.shape
    what, wanted = {
        "linear": ("a linear layer", "(out_features, in_features)"),
        "conv2d": ("a convolution", "(out_channels, in_channels / groups, kh, kw)"),
        "conv_transpose2d": ("a transposed convolution", "(in_channels, out_channels / groups, kh, kw)"),
    }[spec.kind]
    ndim = 2 if spec.kind == "linear" else 4
    if len(shape) != ndim:
        found.append(f"{weight.place}: '{weight.name}' has shape {shape}; {what} needs {ndim} dimensions, {wanted}")
        return None
    if 0 in shape:
        found.append(f"{weight.place}: '{weight.name}' has shape {shape} and is empty; leave the layer out")
        return None
    held: dict[str, Any] = {"out_features": shape[0], "in_features": shape[1]}
    given: dict[str, Any] = {"out_features": spec.out_features, "in_features": spec.in_features}
    if spec.kind != "linear":
        held = {"out_channels": shape[0], "in_channels": shape[1] * (spec.groups or 1), "kernel": shape[2:]}
        given = {
            "out_channels": spec.out_channels,
            "in_channels": spec.in_channels,
            "kernel": None if spec.kernel is None else kernel,
        }
    found += [
        f"layer {spec.name}: {key}: is {value}, but '{weight.name}' has shape {shape}; correct it or leave it out"
        for key, value in given.items()
        if value is not None and value != held[key]
    ]
    return shape


def _from_tensors(path: Path, reading: Reading, *, guess: bool = False) -> Network:
    """Return the network of a tensor file; `guess`: convolutions without a geometry get a single window."""
    file = open_tensors(path, reading)
    if METADATA_KEY in file.metadata:
        return _from_saved(path, file)
    roles = read_roles(file, reading)
    raise_if_any(f"{path}: {problem}" for problem in roles.problems)
    if any(role.kind != "linear" for role in roles.layers.values()) and not guess:
        raise InputError(_convolution_help(path, roles))
    problems: list[str] = []
    layers = []
    for role in roles.layers.values():
        tensors = _tensors_of(file, role)
        geometry: dict[str, Any] = {}
        if role.kind != "linear":
            kind = "conv2d" if role.kind == "conv1d" else role.kind
            geometry = {"kind": kind, "input_hw": list(role.weight.shape[2:]), "groups": role.groups}
            tensors.pop("activations", None)  # of an input that is larger than the window
        spec = LayerSpec(name=role.name, weight=f"{path.name}:{role.weight.name}", **geometry)
        layers.append(_layer(spec, tensors, problems))
    raise_if_any(f"{path}: {problem}" for problem in problems)
    if not layers:
        raise InputError(f"{path}: {_no_layers(file, roles)}")
    return Network(
        path.stem,
        [layer for layer in layers if layer],
        source=path.name,
        not_simulated=roles.left_out,
        assumptions=roles.assumptions,
    )


def _no_layers(file: TensorFile, roles: Roles) -> str:
    """Say why a tensor file is no network."""
    if any(re.fullmatch(r"arr_\d+", name) for name in file.shapes):
        return (
            f"its arrays have the names that np.savez makes up ({', '.join(list(file.shapes)[:MAX_KNOWN])}), which do "
            'not say what they are; save them by name: np.savez(path, **{"fc1.weight": weight, "fc1.bias": bias})'
        )
    remedy = "rename the tensors, or name them in a network file, as `accelsim schema network` describes"
    known = [str(each) for each in roles.left_out if each.kind != UNKNOWN]
    if known:
        return f"holds no layer that can be simulated: {listed(known)}; {remedy}"
    held = ", ".join(f"{name} {shape}" for name, shape in list(file.shapes.items())[:MAX_KNOWN])
    return f"has no 2-D tensor whose name ends in '.weight' (it holds {held or 'nothing'}); {remedy}"


def _convolution_help(path: Path, roles: Roles) -> str:
    """Say that a bare file does not give the geometry of convolutions, with a network file to fill in."""
    head = [f"name = {json.dumps(path.stem)}"]
    if roles.left_out:
        tables = ",\n".join(f"  {_table(each)}" for each in roles.left_out)
        head.append(f"not_simulated = [\n{tables},\n]")
    if roles.assumptions:
        head.append("assumptions = [\n" + "".join(f"  {json.dumps(each)},\n" for each in roles.assumptions) + "]")
    place = os.path.relpath(roles.file.path, path.parent) + "/" * roles.file.path.is_dir()
    reference = f"{place}:{roles.file.prefix}"
    blocks = ["\n".join(head), *(_block(reference, role, roles) for role in roles.layers.values())]
    return (
        f"{path}: holds convolutions (weights of 3 or 4 dimensions), and a bare tensor file gives neither stride nor "
        f"padding nor input size. Save this as {path.stem}.toml beside it and fill it in.\n\n"
        + "\n\n".join(blocks)
        + "\n"
    )


def _table(each: LeftOut) -> str:
    """Return what a network file says of something that is left out."""
    macs = "macs_unknown = true" if each.macs is None else f"macs = {each.macs}"
    return f"{{ name = {json.dumps(each.name)}, kind = {json.dumps(each.kind)}, weights = {each.weights}, {macs} }}"


def _block(reference: str, role: Role, roles: Roles) -> str:
    """Return one layer of a network file to fill in."""
    kind = "conv2d" if role.kind == "conv1d" else role.kind
    lines = ["[[layer]]", f"name = {json.dumps(role.name)}", f'kind = "{kind}"']
    lines += [f"{key} = {json.dumps(f'{reference}{role.name}.{key}')}" for key in role.arrays]
    stored = roles.logical.get(f"{role.name}.weight")
    if role.is_turned and stored is not None:
        lines.append("transpose = true")
    shape = role.weight.shape if stored is None else stored.shape
    if role.kind == "conv2d":
        lines += [f"stride = 1  # weight of shape {shape}", "padding = 0"]
    if role.kind == "conv1d":
        lines += [f"stride = [1, 1]  # weight of shape {shape}, 1-D: the first of each pair stays", "padding = [0, 0]"]
    if role.kind != "linear":
        lines.append(f"groups = {role.groups or 1}" + _depthwise(role))
        lines.append("input_hw = [1, 0]  # 1, length" if len(shape) == 3 else "input_hw = [0, 0]  # height, width")
    return "\n".join(lines)


def _depthwise(role: Role) -> str:
    out, per_group = role.weight.shape[:2]
    is_open = role.groups is None and role.kind != "conv_transpose2d"
    return f"  # {out} if it is depthwise" if is_open and per_group == 1 < out else ""
