"""Constants of an ONNX graph: in the file, in files beside it, sparse, or computed from others."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from accelsim.errors import InputError, did_you_mean
from accelsim.files import real_path
from accelsim.network.files.tensor_file import mapped
from accelsim.network.sizes import check_grown

Array = NDArray[Any]

MAX_ELEMENTS = 2**28
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

    def __post_init__(self) -> None:
        """Check what is said of it; raises InputError."""
        dtype_of(self.elem_type, self.name)
        if min(self.dims, default=0) < 0:
            raise InputError(
                f"'{self.name}': cannot be read: its shape is said to be {self.dims}; export the model again"
            )

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements as NumPy has it."""
        return dtype_of(self.elem_type, self.name)

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


def dtype_of(elem_type: int, name: str) -> np.dtype[Any]:
    """Return the type of elements as NumPy has it; raises InputError where ONNX has no such type."""
    try:
        dtype: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
    except (KeyError, TypeError):
        raise InputError(
            f"'{name}': is of a type {elem_type}, which ONNX does not have; export the model again"
        ) from None
    return dtype


class ModelFile(NamedTuple):
    """The file of a model, as it was when it was opened."""

    path: Path
    version: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> ModelFile:
        """Return a file as it is now."""
        found = path.stat()
        return cls(path, (found.st_ino, found.st_size, found.st_mtime_ns))


def of_tensor(tensor: Any, model: ModelFile, name: str = "") -> Constant:
    """Return a constant of a TensorProto, whose data may lie in the model's file or in its folder."""
    name = name or tensor.name
    dims = tuple(tensor.dims)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return Constant(name, dims, tensor.data_type, lambda: _external(tensor, dims, model), frozenset((name,)))
    return Constant(name, dims, tensor.data_type, lambda: _inside(tensor), frozenset((name,)))


def of_sparse(sparse: Any, model: ModelFile, name: str = "") -> Constant:
    """Return a constant of a SparseTensorProto, made dense when it is read."""
    name = name or sparse.values.name
    values, places = of_tensor(sparse.values, model, name), of_tensor(sparse.indices, model, name)
    dims = tuple(sparse.dims)
    return Constant(name, dims, values.elem_type, lambda: _dense(values, places, dims), frozenset((name,)))


def bytes_stored(path: Path, tensors: Iterable[Any]) -> int:
    """Return the bytes of a model's file and of those beside it in which its tensors are said to lie."""
    beside = {
        entry.value
        for tensor in tensors
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    files = {path, *(path.parent / name for name in beside)}
    return sum(os.path.getsize(file) for file in files if os.path.isfile(file))


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


def _inside(tensor: Any) -> Array:
    """Return the elements of a tensor of the file."""
    return np.asarray(numpy_helper.to_array(tensor))


def _external(tensor: Any, dims: tuple[int, ...], model: ModelFile) -> Array:
    """Return the elements of a tensor in a file, mapped; raises InputError."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    own = location == model.path.name  # see wire.py
    if own and ModelFile.of(model.path) != model:
        raise InputError(f"'{tensor.name}': {model.path} has changed since it was opened; load the network again")
    file = model.path if own else _file_beside(location, tensor.name, model.path.parent)
    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    dtype = dtype_of(tensor.data_type, tensor.name)
    count, offset = math.prod(dims), int(said.get("offset", 0))
    bits = _PACKED_BITS.get(kind)
    size = -(-count * bits // 8) if bits else count * dtype.itemsize
    length, there = int(said.get("length", size)), file.stat().st_size
    if own and length != size:
        raise InputError(
            f"'{tensor.name}': cannot be read: it has {length} bytes, and {size} would be of shape {dims} and type "
            f"{kind.lower()}; export the model again"
        )
    if offset < 0 or length < size or offset + size > there:
        raise InputError(
            f"'{tensor.name}': of shape {dims} and type {kind.lower()} needs {size} bytes from {offset} on of "
            f"'{said['location']}', which has {there}; export the model again"
        )
    if not count:
        return np.zeros(dims, dtype)
    if bits is None and dtype.kind != "O":
        return mapped(file, dtype, offset, dims)
    whole = onnx.TensorProto(data_type=tensor.data_type, dims=dims)
    whole.raw_data = mapped(file, np.dtype(np.uint8), offset, (size,)).tobytes()
    return np.asarray(numpy_helper.to_array(whole))


def _file_beside(location: str, tensor: str, folder: Path) -> Path:
    """Return the file in which a tensor is said to lie; raises InputError where it is not in the model's folder."""
    parts = PurePosixPath(location).parts
    file = folder / location
    if location.startswith("/") or ".." in parts or not real_path(file).is_relative_to(real_path(folder)):
        raise InputError(
            f"'{tensor}': its data is said to be in '{location}', which is not a file beside the model but leads out "
            "of its folder; put it there and save the model again"
        )
    if not parts or not os.path.isfile(file):
        seen = [name for name, _ in zip(_names(folder), range(MAX_SEEN), strict=False)]
        near = did_you_mean(location, [name for name in seen if not name.endswith(".onnx")])
        raise InputError(
            f"'{tensor}': its data is said to be in '{location}', which is not a file beside the model"
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
    if count > MAX_ELEMENTS:
        raise ValueError(f"of shape {dims} it is too large to be made dense")
    elements, where = values.read().reshape(-1), places.read()
    check_grown(count * elements.itemsize, elements.nbytes + where.nbytes, f"'{values.name}' of shape {dims}")
    if where.dtype.kind not in "iu":
        raise ValueError(f"its places are of type {where.dtype}")
    if where.ndim == 2 and where.shape[1] == len(dims):
        if np.any(where < 0) or np.any(where >= np.array(dims)):
            raise ValueError(f"an element lies outside its shape {dims}")
        where = np.ravel_multi_index(tuple(where.T), dims)
    if where.shape != elements.shape or np.any(where < 0) or np.any(where >= count):
        raise ValueError(f"its {elements.size} elements and places {where.shape} do not fit its shape {dims}")
    dense = np.zeros(count, elements.dtype)
    dense[where] = elements
    return dense.reshape(dims)
