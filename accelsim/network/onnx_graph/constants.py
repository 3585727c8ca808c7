"""Constants of an ONNX graph: in the file, in files beside it, sparse, or computed from others."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from accelsim.errors import InputError, did_you_mean

Array = NDArray[Any]

MAX_ELEMENTS = 2**31
"""Of a sparse tensor that is made dense; a file of some bytes can ask for any number."""

MAX_SEEN = 1000
"""Files of a model's folder among which a missing one is looked for."""

_PACKED_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}


@dataclass(frozen=True)
class Constant:
    """A tensor of a graph that does not depend on any input; its elements are read when they are asked for."""

    name: str
    """That of the tensor of the file from which it comes, as its layer is called: `fc.weight` of `fc.weight_orig`."""
    dims: tuple[int, ...]
    elem_type: int
    """Type of the elements, one of `onnx.TensorProto.DataType`."""
    source: Callable[[], Array] = field(repr=False)
    made_of: frozenset[str] = frozenset()
    """Names of the tensors of the file from which it is computed."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements as NumPy has it."""
        dtype: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.elem_type))
        return dtype

    def read(self) -> Array:
        """Return the elements; raises InputError where they are not as many as is said, or not there."""
        try:
            array = self.source()
            if array.shape != self.dims:
                raise ValueError(f"it has the shape {array.shape} instead of {self.dims}")
        except InputError:
            raise
        except Exception as error:
            # NumPy, protobuf and ONNX raise many types on tensors that lie.
            raise InputError(f"'{self.name}': cannot be read: {error}; export the model again") from None
        return array


def of_tensor(tensor: Any, folder: Path, name: str = "") -> Constant:
    """Return a constant of a TensorProto, whose data may lie in a file of `folder`, where the model is."""
    name = name or tensor.name
    dims = tuple(tensor.dims)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return Constant(name, dims, tensor.data_type, lambda: _external(tensor, dims, folder), frozenset((name,)))
    return Constant(name, dims, tensor.data_type, lambda: _inside(tensor, dims), frozenset((name,)))


def of_sparse(sparse: Any, folder: Path, name: str = "") -> Constant:
    """Return a constant of a SparseTensorProto, made dense when it is read."""
    name = name or sparse.values.name
    values, places = of_tensor(sparse.values, folder, name), of_tensor(sparse.indices, folder, name)
    dims = tuple(sparse.dims)
    return Constant(name, dims, values.elem_type, lambda: _dense(values, places, dims), frozenset((name,)))


def of_array(array: Array, name: str, made_of: frozenset[str] = frozenset(), elem_type: int | None = None) -> Constant:
    """Return a constant that was computed."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype) if elem_type is None else elem_type
    return Constant(name, array.shape, kind, lambda: array, made_of)


def name_of_product(inputs: Sequence[Constant], size: int, otherwise: str) -> str:
    """Return what a constant of so many elements is called that is computed from these: as the weight among them.

    That is the largest, and no mask. A part of a weight is called `otherwise`.
    """
    weights = sorted(inputs, key=lambda each: (each.size, not re.search("mask", each.name, re.IGNORECASE)))
    if not weights or weights[-1].size > size:
        return otherwise
    return _module_name(weights[-1].name)


def _module_name(name: str) -> str:
    """Return the name of a weight that PyTorch keeps in parts, such as `fc.weight_orig` or `fc.weight_v`."""
    name = re.sub(r"\.parametrizations\.([^.]+)\.original\d*$", r".\1", name)
    return re.sub(r"(weight|bias|kernel)_(orig|v)$", r"\1", name)


def _inside(tensor: Any, dims: tuple[int, ...]) -> Array:
    """Return the elements of a tensor of the file."""
    if min(dims, default=0) < 0:
        raise ValueError(f"its shape is said to be {dims}")
    return np.asarray(numpy_helper.to_array(tensor))


def _external(tensor: Any, dims: tuple[int, ...], folder: Path) -> Array:
    """Return the elements of a tensor in another file, mapped; raises InputError."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    file = _file_beside(said.get("location", ""), tensor.name, folder)
    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    count, offset = math.prod(dims), int(said.get("offset", 0))
    bits = _PACKED_BITS.get(kind)
    size = -(-count * bits // 8) if bits else count * dtype.itemsize
    length, there = int(said.get("length", size)), file.stat().st_size
    if min(dims, default=1) < 0 or offset < 0 or length < size or offset + size > there:
        raise InputError(
            f"'{tensor.name}': of shape {dims} and type {kind.lower()} needs {size} bytes from {offset} on of "
            f"'{said['location']}', which has {there}; export the model again"
        )
    if not count:
        return np.zeros(dims, dtype)
    if bits is None and dtype.kind != "O":
        return np.memmap(file, dtype, "r", offset=offset, shape=dims)
    whole = onnx.TensorProto(data_type=tensor.data_type, dims=dims)
    whole.raw_data = np.memmap(file, np.uint8, "r", offset=offset, shape=(size,)).tobytes()
    return np.asarray(numpy_helper.to_array(whole))


def _file_beside(location: str, tensor: str, folder: Path) -> Path:
    """Return the file in which a tensor is said to lie; raises InputError where it is not in the model's folder."""
    parts = PurePosixPath(location).parts
    file = folder / location
    if location.startswith("/") or ".." in parts or not file.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"'{tensor}': its data is said to be in '{location}', which is no file beside the model but leads out of "
            "its folder; put it there and save the model again"
        )
    if not parts or not file.is_file():
        seen = [name for name, _ in zip(_names(folder), range(MAX_SEEN), strict=False)]
        near = did_you_mean(location, [name for name in seen if not name.endswith(".onnx")])
        raise InputError(
            f"'{tensor}': its data is said to be in '{location}', which is no file beside the model"
            f"{near if 'mean' in near else ''}; copy that file too, or save the model as one file"
        )
    return file


def _names(folder: Path) -> Iterator[str]:
    """Go through the files of a folder and of the folders in it, as a model would name them."""
    for each in sorted(folder.iterdir()):
        if each.is_file():
            yield each.name
        elif each.is_dir() and not each.is_symlink():
            yield from (f"{each.name}/{inner.name}" for inner in sorted(each.iterdir()) if inner.is_file())


def _dense(values: Constant, places: Constant, dims: tuple[int, ...]) -> Array:
    """Return a tensor whose elements stand at linear places (count,) or coordinates (count, rank)."""
    count = math.prod(dims)
    if min(dims, default=0) < 0 or count > MAX_ELEMENTS:
        raise ValueError(f"its shape is said to be {dims}")
    elements, where = values.read().reshape(-1), places.read()
    if where.ndim == 2 and where.shape[1] == len(dims):
        if np.any(where < 0) or np.any(where >= np.array(dims)):
            raise ValueError(f"an element lies outside its shape {dims}")
        where = np.ravel_multi_index(tuple(where.T), dims)
    if where.shape != elements.shape or np.any(where < 0) or np.any(where >= count):
        raise ValueError(f"its {elements.size} elements and places {where.shape} do not fit its shape {dims}")
    dense = np.zeros(count, elements.dtype)
    dense[where] = elements
    return dense.reshape(dims)
