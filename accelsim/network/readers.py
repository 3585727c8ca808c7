"""Networks from files: TOML with tensors beside it, or a bare safetensors or npz."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.config import CHECKED, build, find, read_toml
from accelsim.errors import InputError, raise_if_any
from accelsim.network.layer import Density, Layer, Network, activation_problems, bias_problems
from accelsim.network.synthetic import draw_weights
from accelsim.network.tensors import TensorFile, open_tensors

Size = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]


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
    granularity: str | None = None
    stride: Size | list[Size] | None = None
    padding: Annotated[int, Field(strict=True, ge=0)] | list[Annotated[int, Field(strict=True, ge=0)]] | None = None
    input_hw: list[Size] | None = None

    def __post_init__(self) -> None:
        if self.kind == "conv2d":
            raise ValueError(
                f"layer {self.name}: kind: convolutions can be described but this version simulates linear layers only; "
                "leave the layer out"
            )
        if any(value is not None for value in (self.stride, self.padding, self.input_hw)):
            raise ValueError(f"layer {self.name}: stride, padding and input_hw belong to kind = \"conv2d\"")
        if (self.weight is None) == (self.synthetic is None):
            raise ValueError(f"layer {self.name}: give either weight = \"file:tensor\" or synthetic = {{density = ...}}")
        if self.synthetic is not None and (self.out_features is None or self.in_features is None):
            raise ValueError(f"layer {self.name}: synthetic weights need out_features and in_features")


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

    In a bare tensor file every 2-D `X.weight` is a linear layer, `X.bias` its bias and `X.activations` its input.
    Weights stay in the file until they are simulated.
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
    spec = build(NetworkSpec, read_toml(path), path.name)
    files: dict[Path, TensorFile] = {}
    problems: list[str] = []
    layers: list[Layer] = []
    for item in spec.layer:
        try:
            layers.append(_layer(item, path, files))
        except InputError as error:
            problems += [f"{path.name}: {problem}" for problem in error.problems]
    raise_if_any(problems)
    return Network(spec.name, layers, spec.description, spec.source, spec.notes)


def _layer(spec: LayerSpec, path: Path, files: dict[Path, TensorFile]) -> Layer:
    def tensor(reference: str, key: str) -> tuple[TensorFile, str]:
        file_name, colon, tensor_name = reference.rpartition(":")
        if not colon or not file_name:
            raise InputError(f"layer {spec.name}: {key}: write \"file.safetensors:tensor\" (got '{reference}')")
        file = path.parent / file_name
        if file not in files:
            files[file] = open_tensors(file)
        if tensor_name not in files[file]:
            raise InputError(f"layer {spec.name}: {key}: {files[file].missing(tensor_name)}")
        return files[file], tensor_name

    source: Callable[[], NDArray[Any]]
    if spec.synthetic is not None:
        rows, columns = spec.out_features or 0, spec.in_features or 0
        source = partial(draw_weights, rows, columns, spec.synthetic.density, spec.synthetic.seed)
    else:
        file, name = tensor(spec.weight or "", "weight")
        rows, columns = _matrix_shape(file, name, spec)
        source = partial(file.__getitem__, name)
    bias = None if spec.bias is None else np.asarray(_get(*tensor(spec.bias, "bias")))
    activations: NDArray[Any] | Density | None = None
    if isinstance(spec.activations, DensitySpec):
        activations = Density(spec.activations.density, spec.activations.seed)
    elif spec.activations is not None:
        activations = np.asarray(_get(*tensor(spec.activations, "activations")))
    raise_if_any(bias_problems(spec.name, bias, rows) + activation_problems(spec.name, activations, columns))
    return Layer(
        name=spec.name,
        kind=spec.kind,
        out_features=rows,
        in_features=columns,
        weight_source=source,
        bias=bias,
        activations=activations,
        granularity=spec.granularity,
    )


def _get(file: TensorFile, name: str) -> NDArray[Any]:
    return file[name]


def _matrix_shape(file: TensorFile, name: str, spec: LayerSpec) -> tuple[int, int]:
    shape = file.shapes[name]
    if len(shape) != 2:
        raise InputError(
            f"layer {spec.name}: weight: a linear layer needs 2 dimensions (out_features, in_features); "
            f"'{name}' has shape {shape}"
        )
    if 0 in shape:
        raise InputError(f"layer {spec.name}: weight: is empty; '{name}' has shape {shape}")
    for key, given, found in zip(("out_features", "in_features"), (spec.out_features, spec.in_features), shape, strict=True):
        if given is not None and given != found:
            raise InputError(f"layer {spec.name}: {key}: is {given}, but '{name}' has shape {shape}")
    return shape[0], shape[1]


def _from_tensors(path: Path) -> Network:
    file = open_tensors(path)
    names = [name.removesuffix(".weight") for name in file if name.endswith(".weight") and len(file.shapes[name]) >= 2]
    convolutions = [name for name in names if len(file.shapes[f"{name}.weight"]) == 4]
    if convolutions:
        raise InputError(_convolution_help(path, file, names))
    problems: list[str] = []
    layers: list[Layer] = []
    for name in names:
        spec = LayerSpec(
            name=name,
            weight=f"{path.name}:{name}.weight",
            bias=f"{path.name}:{name}.bias" if f"{name}.bias" in file else None,
            activations=f"{path.name}:{name}.activations" if f"{name}.activations" in file else None,
        )
        try:
            layers.append(_layer(spec, path, {path: file}))
        except InputError as error:
            problems += [f"{path.name}: {problem}" for problem in error.problems]
    raise_if_any(problems)
    if not layers:
        raise InputError(
            f"{path}: has no 2-D tensor whose name ends in '.weight'; it holds "
            + (", ".join(f"{name} {shape}" for name, shape in list(file.shapes.items())[:8]) or "nothing")
        )
    return Network(path.stem, layers, source=path.name)


def _convolution_help(path: Path, file: TensorFile, names: list[str]) -> str:
    """Say that convolutions need geometry, with a network file to fill in."""
    blocks = []
    for name in names:
        shape = file.shapes[f"{name}.weight"]
        lines = ["[[layer]]", f'name = "{name}"', f'kind = "{"conv2d" if len(shape) == 4 else "linear"}"']
        lines.append(f'weight = "{path.name}:{name}.weight"  # {shape}')
        if f"{name}.bias" in file:
            lines.append(f'bias = "{path.name}:{name}.bias"')
        if len(shape) == 4:
            lines += ["stride = 1", "padding = 0", "input_hw = [0, 0]  # fill in: height and width of the input"]
        blocks.append("\n".join(lines))
    count = sum(len(file.shapes[f"{name}.weight"]) == 4 for name in names)
    return (
        f"{path}: {count} weights have 4 dimensions (convolutions) and a bare tensor file does not give their stride, "
        f"padding and input size. Save this as {path.stem}.toml beside it and fill it in:\n\n"
        + f'name = "{path.stem}"\n\n'
        + "\n\n".join(blocks)
        + "\n"
    )


