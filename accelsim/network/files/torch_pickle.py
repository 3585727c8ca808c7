"""What PyTorch's pickles say of tensors: where their numbers lie, and how they are laid out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from accelsim.network.files.pickles import Maker

STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "QInt8": "qint8", "QUInt8": "quint8",
    "QInt32": "qint32", "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128", "Untyped": "uint8",
}  # fmt: skip
"""Types of numbers by the class of their storage, less its ending."""

COMPRESSED = {"sparse_csr": (0, False), "sparse_csc": (1, False), "sparse_bsr": (0, True), "sparse_bsc": (1, True)}
"""Sparse layouts: which dimension is compressed, and whether their values are blocks."""


class Storage(NamedTuple):
    """A run of bytes of the file."""

    key: str
    dtype: str
    location: str


@dataclass(frozen=True, eq=False)
class Tensor:
    """Numbers of a storage, by an offset and strides in elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    negated: bool = False
    zero_points: float | list[float] | Tensor = 0
    """Of quantised numbers: what zero is stored as, in all or along an axis."""
    axis: int | None = None

    @property
    def place(self) -> tuple[Any, ...]:
        """What two names of one tensor have in common."""
        return self.storage.key, self.dtype, self.offset, self.shape, self.strides, self.negated


@dataclass(frozen=True, eq=False)
class Sparse:
    """A sparse tensor: indices, values, and for compressed layouts where each row or column begins."""

    layout: str
    shape: tuple[int, ...]
    parts: tuple[Tensor, ...]

    @property
    def dtype(self) -> str:
        """The type of the values."""
        return self.parts[-1].dtype


class Unreadable(NamedTuple):
    """A tensor without numbers that could be read: its shape where it is known, and why."""

    shape: tuple[int, ...]
    reason: str


def persistent(saved: Any) -> Any:
    """Return the storage of a persistent id, or the class of a module that was saved with its source."""
    if not isinstance(saved, tuple) or len(saved) < 2:
        raise ValueError(f"names a thing outside it by a {type(saved).__name__}")
    if saved[0] in ("module", b"module"):
        return saved[1]
    kind, key, location = saved[1:4]
    if not all(isinstance(each, (str, int)) for each in (key, location)):
        raise ValueError("has a storage whose name is not text")
    dtype = STORAGES.get(kind.name.rpartition(".")[2].removesuffix("Storage").lstrip("_"))
    if dtype is None:
        raise ValueError(f"has a storage of {kind.name}")
    view = saved[5] if len(saved) > 5 else None
    if view is not None:
        raise ValueError("has views of storages, as only early versions of PyTorch wrote")
    return Storage(str(key), dtype, str(location))


def _shown(held: Any) -> str:
    """Return what a message shows of something; a pickle can nest it without end."""
    flat = isinstance(held, tuple) and all(isinstance(each, int) for each in held)
    if not flat and not isinstance(held, (int, str)):
        return f"a {type(held).__name__}"
    parts = held[:8] if isinstance(held, tuple) else (held,)
    shown = [str(each)[:40] if isinstance(each, str) or abs(each) < 2**64 else "above 2^64" for each in parts]
    return shown[0] if not isinstance(held, tuple) else f"({', '.join(shown)})"


def _sizes(sizes: Any) -> tuple[int, ...]:
    found = tuple(sizes)
    if not all(type(each) is int and 0 <= each < 2**63 for each in found) or len(found) > 64:
        raise ValueError(f"has a tensor of shape {_shown(found)}")
    return found


def _tensor(
    storage: Storage, offset: int, shape: Any, strides: Any, *_: Any, dtype: str | None = None, **options: Any
) -> Tensor | Unreadable:
    shape, strides = _sizes(shape), _sizes(strides)
    if type(offset) is not int or offset < 0 or len(shape) != len(strides) or not isinstance(storage, Storage):
        raise ValueError(f"has a tensor of shape {shape}, strides {strides} and offset {_shown(offset)}")
    if storage.location == "meta":
        return _meta(None, shape)
    return Tensor(storage, dtype or storage.dtype, offset, shape, strides, **options)


def _tensor_v2(*arguments: Any) -> Tensor | Unreadable:
    return _tensor(*arguments[:4], negated=_is_negated(arguments, 6))


def _tensor_v3(*arguments: Any) -> Tensor | Unreadable:
    return _tensor(*arguments[:4], dtype=arguments[6].name.removeprefix("torch."), negated=_is_negated(arguments, 7))


def _is_negated(arguments: tuple[Any, ...], at: int) -> bool:
    metadata = arguments[at] if len(arguments) > at else None
    return bool(isinstance(metadata, dict) and metadata.get("neg"))


def _quantised(storage: Storage, offset: int, shape: Any, strides: Any, quantiser: Any, *_: Any) -> Tensor | Unreadable:
    scheme, _, zero_points, *axis = quantiser
    if scheme.name == "torch.per_tensor_affine":
        return _tensor(storage, offset, shape, strides, zero_points=_zero_point(zero_points))
    if not isinstance(axis[0], int) or not 0 <= axis[0] < len(shape):
        raise ValueError(f"has a tensor of shape {_sizes(shape)} with scales along dimension {_shown(axis[0])}")
    listed = isinstance(zero_points, list)
    if listed:
        zero_points = [_zero_point(each) for each in zero_points]
    count = zero_points.shape if isinstance(zero_points, Tensor) else (len(zero_points),) if listed else ()
    if count != (shape[axis[0]],):
        raise ValueError(
            f"has a tensor of shape {_sizes(shape)} whose zero points along dimension {axis[0]} do not fit"
        )
    return _tensor(storage, offset, shape, strides, zero_points=zero_points, axis=axis[0])


def _zero_point(found: Any) -> float:
    """Return what zero is stored as; raises ValueError where no type could hold it."""
    if not isinstance(found, int | float) or not abs(found) < 2**31:
        raise ValueError(f"has a tensor whose zero is stored as {_shown(found)}")
    return found


def _sparse(layout: Any, data: Any) -> Sparse | Unreadable:
    name = layout.removeprefix("torch.") if isinstance(layout, str) else layout.name.removeprefix("torch.")
    count = 2 if name == "sparse_coo" else 3
    parts, shape = tuple(data[:count]), _sizes(data[count])
    if name != "sparse_coo" and name not in COMPRESSED:
        return Unreadable(shape, f"has the layout {name}, which is not read; save it dense")
    if not all(isinstance(part, Tensor) for part in parts):
        return Unreadable(shape, "is sparse, and its parts have no values; save it dense")
    return Sparse(name, shape, parts)


def _meta(_: Any, shape: Any, *__: Any) -> Unreadable:
    return Unreadable(_sizes(shape), "was saved from the meta device, without its values; load them first, save again")


def _nested(*_: Any) -> Unreadable:
    return Unreadable((), "is a nested tensor, whose rows differ in length; save each as a tensor of its own")


def _wrapped(wrapper: Any, _: Any, shape: Any, *__: Any) -> Unreadable:
    return Unreadable(
        _sizes(shape), f"is a {wrapper.name}, whose layout is its own; save it dense, weight.dequantize()"
    )


def _retyped(maker: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """Return a tensor of a class of its own as the plain one that it was made of."""
    made = MAKERS.get(maker.name)
    if made is None:
        return Unreadable((), f"is a {kind.name}, whose layout is its own; save it dense")
    return made(*arguments)


def _first(first: Any, *_: Any) -> Any:
    return first


def _ordered(pairs: Any = (), *_: Any) -> dict[Any, Any]:
    return {key if isinstance(key, (str, int)) else object(): value for key, value in pairs}


def _empty(*_: Any) -> dict[Any, Any]:
    return {}


MAKERS: dict[str, Maker] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_nested_tensor": _nested,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._utils._rebuild_wrapper_subclass": _wrapped,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch._tensor._rebuild_from_type": _retyped,
    "torch._tensor._rebuild_from_type_v2": _retyped,
    "torch.tensor._rebuild_from_type": _retyped,
    "torch.serialization._get_layout": _first,
    "torch.Size": _first,
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _empty,
}
"""What PyTorch calls to make tensors again: each as data."""
