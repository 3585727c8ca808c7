"""Networks from files: TOML with tensors beside it, or a bare safetensors or npz."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.config import CHECKED, build, check_kind, find, label, read_toml
from accelsim.errors import MAX_KNOWN, InputError, raise_if_any
from accelsim.network.layer import (
    Activations,
    Density,
    Layer,
    Network,
    activation_problems,
    bias_problems,
    codebook_problems,
    name_problems,
)
from accelsim.network.synthetic import WEIGHT_BYTES, draw_weights
from accelsim.network.tensors import TensorFile, check_fits_memory, open_tensors

Size = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
Seed = Annotated[int, Field(strict=True, ge=0)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]


TENSOR_KEYS = ("weight", "bias", "activations", "codebook")
"""What a layer takes from tensors: keys of a network file, endings of names in a bare one."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SyntheticSpec:
    """Weights drawn from a seed."""

    density: Annotated[float, Field(strict=True, ge=0, le=1)]
    pattern: Literal["fine"] = "fine"
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DensitySpec:
    """Activations drawn from a seed."""

    density: Share
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LayerSpec:
    """One [[layer]] of a network file."""

    name: str
    kind: Literal["linear", "conv2d"] = "linear"
    weight: str | None = None
    """`file.safetensors:tensor`, the file relative to this one."""
    synthetic: SyntheticSpec | None = None
    out_features: Size | None = None
    in_features: Size | None = None
    bias: str | None = None
    activations: str | DensitySpec | None = None
    codebook: str | None = None
    """The weights that a layer shares, `file:tensor`, the first of them 0."""
    granularity: str | None = None
    stride: Size | list[Size] | None = None
    padding: Annotated[int, Field(strict=True, ge=0)] | list[Annotated[int, Field(strict=True, ge=0)]] | None = None
    input_hw: list[Size] | None = None

    def __post_init__(self) -> None:
        """Check what the keys say together; raises ValueError."""
        if self.kind == "conv2d":
            raise ValueError("kind: this version simulates linear layers only; leave the convolution out")
        if any(value is not None for value in (self.stride, self.padding, self.input_hw)):
            raise ValueError('stride, padding and input_hw belong to kind = "conv2d"; leave them out')
        if (self.weight is None) == (self.synthetic is None):
            raise ValueError('give either weight = "file:tensor" or synthetic = { density = ... }')
        if self.synthetic is not None and (self.out_features is None or self.in_features is None):
            raise ValueError("synthetic weights need out_features and in_features; add them")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class NetworkSpec:
    """A network file."""

    name: str
    layer: Annotated[list[LayerSpec], Field(min_length=1)]
    description: str = ""
    source: str = ""
    notes: str = ""


def load_network(name: str | Path | Network) -> Network:
    """Return the network of this name or path: .toml, .safetensors or .npz.

    In a bare tensor file every 2-D `X.weight` is a linear layer, `X.bias` its bias, `X.activations` its input and
    `X.codebook` its shared weights. Weights stay in the file until they are simulated.
    Raises InputError with every problem at once.
    """
    if isinstance(name, Network):
        return name
    path = find(name, "workloads")
    if path.suffix == ".toml":
        return _from_toml(path)
    if path.suffix in (".safetensors", ".npz"):
        return _from_tensors(path)
    raise InputError(f"{path}: a network is a .toml, .safetensors or .npz file")


def _from_toml(path: Path) -> Network:
    data = read_toml(path)
    check_kind(data, "network", label(path))
    spec = build(NetworkSpec, data, label(path))
    problems = name_problems(layer.name for layer in spec.layer)
    files: dict[Path, TensorFile | None] = {}

    def locate(place: str, reference: str) -> _Tensor | None:
        parts = re.fullmatch(r"(.+?\.(?:safetensors|npz)):(.+)", reference)
        if parts is None:
            problems.append(f'{place}: write "file.safetensors:tensor" or "file.npz:tensor" (got "{reference}")')
            return None
        file = path.parent / parts[1]
        if file not in files:
            files[file] = None
            try:
                files[file] = open_tensors(file)
            except InputError as error:
                # Told once, however many layers name this file.
                problems.extend(f"{place}: {problem}" for problem in error.problems)
        tensors = files[file]
        return None if tensors is None else _Tensor(tensors, parts[2], f"{place}: {tensors.path}")

    layers = []
    for layer in spec.layer:
        references = {key: getattr(layer, key) for key in TENSOR_KEYS}
        tensors = {
            key: locate(f"layer {layer.name}: {key}", reference)
            for key, reference in references.items()
            if isinstance(reference, str)
        }
        if None not in tensors.values():
            layers.append(_layer(layer, {key: tensor for key, tensor in tensors.items() if tensor}, problems))
    raise_if_any(f"{label(path)}: {problem}" for problem in problems)
    return Network(spec.name, [layer for layer in layers if layer], spec.description, spec.source, spec.notes)


class _Tensor(NamedTuple):
    """An array in a file, and how messages call the place that asks for it."""

    file: TensorFile
    name: str
    place: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.file.shapes[self.name]

    def read(self) -> NDArray[Any]:
        return self.file[self.name]


def _layer(spec: LayerSpec, tensors: Mapping[str, _Tensor], problems: list[str]) -> Layer | None:
    """Return a layer whose weights stay where they are, or add what is wrong with it to the problems."""
    found = [f"{t.place}: {problem}" for t in tensors.values() if (problem := t.file.problem(t.name))]
    if found:
        problems += found
        return None
    source: Callable[[], NDArray[Any]]
    if spec.synthetic is not None:
        rows, columns = spec.out_features or 0, spec.in_features or 0
        source = partial(draw_weights, rows, columns, spec.synthetic.density, spec.synthetic.seed)
        found += _too_large(spec, rows, columns)
    else:
        weight = tensors["weight"]
        found += _weight_problems(spec, weight)
        rows, columns = weight.shape if len(weight.shape) == 2 else (0, 0)
        source = weight.read
    if not found:
        bias = tensors["bias"].read() if "bias" in tensors else None
        activations: Activations = tensors["activations"].read() if "activations" in tensors else None
        if isinstance(spec.activations, DensitySpec):
            activations = Density(spec.activations.density, spec.activations.seed)
        codebook = tensors["codebook"].read() if "codebook" in tensors else None
        found += bias_problems(spec.name, bias, rows) + codebook_problems(spec.name, codebook)
        found += activation_problems(spec.name, activations, columns)
    if found:
        problems += found
        return None
    return Layer(
        name=spec.name,
        kind=spec.kind,
        out_features=rows,
        in_features=columns,
        weight_source=source,
        bias=bias,
        activations=activations,
        codebook=codebook,
        granularity=spec.granularity,
    )


def _weight_problems(spec: LayerSpec, weight: _Tensor) -> list[str]:
    shape = weight.shape
    if len(shape) != 2:
        return [
            f"{weight.place}: '{weight.name}' has shape {shape}; "
            "a linear layer needs 2 dimensions, (out_features, in_features)"
        ]
    if 0 in shape:
        return [f"{weight.place}: '{weight.name}' has shape {shape} and is empty; leave the layer out"]
    return [
        f"layer {spec.name}: {key}: is {given}, but '{weight.name}' has shape {shape}; correct it or leave it out"
        for key, given, found in (
            ("out_features", spec.out_features, shape[0]),
            ("in_features", spec.in_features, shape[1]),
        )
        if given is not None and given != found
    ]


def _too_large(spec: LayerSpec, rows: int, columns: int) -> list[str]:
    try:
        check_fits_memory(WEIGHT_BYTES * rows * columns, f"layer {spec.name}: synthetic weights ({rows}, {columns})")
    except InputError as error:
        return list(error.problems)
    return []


def _from_tensors(path: Path) -> Network:
    file = open_tensors(path)
    names = [name.removesuffix(".weight") for name in file.shapes if name.endswith(".weight")]
    names = [name for name in names if len(file.shapes[f"{name}.weight"]) >= 2]
    if any(len(file.shapes[f"{name}.weight"]) == 4 for name in names):
        raise InputError(_convolution_help(path, file, names))
    problems: list[str] = []
    layers = []
    for name in names:
        tensors = {
            key: _Tensor(file, f"{name}.{key}", f"layer {name}: {key}")
            for key in TENSOR_KEYS
            if f"{name}.{key}" in file.shapes
        }
        layers.append(_layer(LayerSpec(name=name, weight=f"{path.name}:{name}.weight"), tensors, problems))
    raise_if_any(f"{path}: {problem}" for problem in problems)
    if not layers:
        held = ", ".join(f"{name} {shape}" for name, shape in list(file.shapes.items())[:MAX_KNOWN])
        raise InputError(
            f"{path}: has no 2-D tensor whose name ends in '.weight' (it holds {held or 'nothing'}); "
            "rename the tensors, or name them in a network file, as `accelsim schema network` describes"
        )
    return Network(path.stem, [layer for layer in layers if layer], source=path.name)


def _convolution_help(path: Path, file: TensorFile, names: list[str]) -> str:
    """Say that a bare file does not give the geometry of convolutions, with a network file to fill in."""
    blocks = [f"name = {json.dumps(path.stem)}"]
    for name in names:
        shape = file.shapes[f"{name}.weight"]
        kind = "conv2d" if len(shape) == 4 else "linear"
        keys = [key for key in TENSOR_KEYS if f"{name}.{key}" in file.shapes]
        lines = ["[[layer]]", f"name = {json.dumps(name)}", f'kind = "{kind}"']
        lines += [f"{key} = {json.dumps(f'{path.name}:{name}.{key}')}" for key in keys]
        if kind == "conv2d":
            lines += [f"stride = 1  # weight of shape {shape}", "padding = 0", "input_hw = [0, 0]  # height, width"]
        blocks.append("\n".join(lines))
    return (
        f"{path}: holds convolutions (weights of 4 dimensions), and a bare tensor file gives neither stride nor "
        f"padding nor input size. Save this as {path.stem}.toml beside it and fill it in. This version simulates its "
        "linear layers only: leave the conv2d layers out to run those.\n\n" + "\n\n".join(blocks) + "\n"
    )
