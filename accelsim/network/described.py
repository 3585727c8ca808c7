"""Layers as a network file describes them: their arrays stay in files until needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import collecting
from accelsim.network.activations import Activations, Density
from accelsim.network.files import TensorFile
from accelsim.network.layer import Layer
from accelsim.network.lowering import Convolution
from accelsim.network.roles import Logical, as_2d, lowered, turned
from accelsim.network.sizes import check_fits_memory
from accelsim.network.specs import GEOMETRY, DensitySpec, LayerSpec, SyntheticSpec


class FileArray(NamedTuple):
    """An array of a file, and how messages call the place that asks for it."""

    file: TensorFile
    array: Logical
    place: str

    def as_used(self, spec: LayerSpec) -> FileArray:
        """Return weights in the shape of their layer: turned where it says so; a 1-D convolution is of height 1."""
        array = turned(self.array) if spec.transpose and len(self.array.shape) > 1 else self.array
        dims, window = len(array.shape), array.shape[2:]
        if spec.kind == "conv2d" and dims == 3:
            array = as_2d(array)
        groups = spec.groups or 1
        # Those that are saved are lowered already, with a window of 1 x 1.
        is_whole = spec.kind == "conv_transpose2d" and dims in (3, 4) and window != (1, 1)
        if is_whole and array.shape[0] % groups == 0:
            array = lowered(array, groups)
        return self._replace(array=array)


def layer_of(spec: LayerSpec, tensors: Mapping[str, FileArray], problems: list[str]) -> Layer | None:
    """Return a layer whose weights stay where they are, or add what is wrong with it to the problems."""
    if "weight" in tensors:
        tensors = {**tensors, "weight": tensors["weight"].as_used(spec)}
    found = [f"{t.place}: {problem}" for t in tensors.values() if (problem := t.array.problem(t.file))]
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
    source = tensors["weight"].array.read if spec.synthetic is None else Drawn(spec.synthetic, shape)
    layer = Layer(
        name=spec.name,
        kind=spec.kind,
        out_features=out_features,
        in_features=in_features,
        weight_source=source,
        bias=tensors["bias"].array.read() if "bias" in tensors else None,
        activations=_activations(spec, tensors),
        codebook=tensors["codebook"].array.read() if "codebook" in tensors else None,
        granularity=spec.granularity or (None if spec.synthetic is None else spec.synthetic.claimed),
        tokens=spec.tokens or 1,
        steps=spec.steps or 1,
        convolution=convolution,
        weights_key=spec.weight or "",
        stored_as=tensors["weight"].array.kept_as(tensors["weight"].file) if "weight" in tensors else "",
    )
    found = layer.problems
    problems += found
    return None if found else layer


def _activations(spec: LayerSpec, tensors: Mapping[str, FileArray]) -> Activations:
    if isinstance(spec.activations, DensitySpec):
        drawn = spec.activations
        return Density(drawn.density, drawn.seed, drawn.batch)
    return tensors["activations"].array.read() if "activations" in tensors else None


@dataclass(frozen=True)
class Drawn:
    """Weights that are drawn whenever they are asked for."""

    synthetic: SyntheticSpec
    shape: tuple[int, ...]

    def __call__(self) -> NDArray[Any]:
        """Return the weights."""
        from accelsim.network.synthetic import draw_pattern, draw_weights  # only now: reading a file needs no compiler

        synthetic, shape = self.synthetic, self.shape
        rows, columns = shape[0], math.prod(shape[1:])
        if synthetic.pattern == "fine":
            return draw_weights(rows, columns, synthetic.density, synthetic.seed).reshape(shape)
        matrix = draw_pattern(rows, columns, *synthetic.n_of_m, synthetic.seed)
        if len(shape) == 2:
            return matrix
        out, channels, height, width = shape
        return np.ascontiguousarray(matrix.reshape(out, height, width, channels).transpose(0, 3, 1, 2))


def _convolution(spec: LayerSpec, shape: tuple[int, ...]) -> Convolution:
    """Return the geometry of a convolution with weights of this shape; raises InputError."""
    out_channels, per_group, *kernel = shape
    options = {key: getattr(spec, key) for key in GEOMETRY if getattr(spec, key) is not None}
    in_channels = spec.in_channels or per_group * (spec.groups or 1)
    return Convolution.of(in_channels, out_channels, kernel, 1 if spec.input_hw is None else spec.input_hw, **options)


def _shape(spec: LayerSpec, tensors: Mapping[str, FileArray], found: list[str]) -> tuple[int, ...] | None:
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
    spec: LayerSpec, weight: FileArray, kernel: tuple[int | None, ...], found: list[str]
) -> tuple[int, ...] | None:
    shape, name = weight.array.shape, weight.array.name
    what, wanted = {
        "linear": ("a linear layer", "(out_features, in_features)"),
        "conv2d": ("a convolution", "(out_channels, in_channels / groups, kh, kw)"),
        "conv_transpose2d": ("a transposed convolution", "(in_channels, out_channels / groups, kh, kw)"),
    }[spec.kind]
    ndim = 2 if spec.kind == "linear" else 4
    if len(shape) != ndim:
        found.append(f"{weight.place}: '{name}' has shape {shape}; {what} needs {ndim} dimensions, {wanted}")
        return None
    if 0 in shape:
        found.append(f"{weight.place}: '{name}' has shape {shape} and is empty; leave the layer out")
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
        f"layer {spec.name}: {key}: is {value}, but '{name}' has shape {shape}; correct it or leave it out"
        for key, value in given.items()
        if value is not None and value != held[key]
    ]
    return shape
