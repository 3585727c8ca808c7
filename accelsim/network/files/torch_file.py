"""State dicts of PyTorch: tensors by name, read without PyTorch and without running what a pickle may hold."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from accelsim.errors import InputError, needing, printable, reason_of
from accelsim.network.files.archives import said_of, say
from accelsim.network.files.checkpoints import DEEPEST, chosen_of, placed
from accelsim.network.files.pickles import Global, Instance, read_pickle
from accelsim.network.files.sparse import dense
from accelsim.network.files.tensor_file import TensorFile, Written, mapped, too_large
from accelsim.network.files.torch_pickle import MAKERS, Sparse, Tensor, Unreadable, persistent
from accelsim.network.integers import without_zero
from accelsim.network.reading import Reading
from accelsim.network.sizes import check_fits_memory, check_grown
from accelsim.number_formats import ARRAY_TYPES, unsupported

QUANTISED = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}
"""How quantised numbers are stored."""

PACKED = "._packed_params._packed_params"
"""Where a quantised linear module keeps its weight and bias."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

MOST_REPEATED = 2**16
"""Times that a view repeats what is stored, and elements, at which it is not a tensor that anyone saves as weights."""


class Place(NamedTuple):
    """Where the bytes of a storage lie in the file."""

    start: int
    bytes: int


class StateDict(TensorFile):
    """Tensors of a file of torch.save: those under a key, or those of the one dict of tensors that it has.

    part: of several dicts, whether the tensors of all will do, by names that begin with their keys.
    """

    def __init__(self, path: Path, reading: Reading, *, part: bool = False) -> None:
        super().__init__(path)
        self._order: Literal["<", ">"] = "<"
        self._places: dict[str, Place] = {}
        try:
            with path.open("rb") as file:
                is_archive = file.read(2) == b"PK"
            held = self._of_archive() if is_archive else self._of_pickles()
        except InputError:
            raise
        except Exception as error:
            # zipfile raises a dozen types on damaged files, and more with each version.
            raise InputError(
                f"{path}: not a complete file of torch.save: {reason_of(error)}; save or copy it again"
            ) from None
        chosen = chosen_of(path, held, reading.key, part=part)
        self.prefix = chosen.prefix
        self._under = chosen.under
        self.assumptions += chosen.assumptions
        self._tensors: dict[str, Tensor | Sparse] = {}
        for name, each in chosen.tensors.items():
            self._add(printable(name), each)
        self._leave_outputs_of_quantised()
        first: dict[Any, str] = {}
        for name, tensor in self._tensors.items():
            if isinstance(tensor, Tensor) and 0 not in tensor.shape:
                original = first.setdefault(tensor.place, name)
                if original != name:
                    self.shared[name] = original

    def _of_archive(self) -> Any:
        """Return what a zip archive holds, as torch.save writes since 1.6."""
        with zipfile.ZipFile(self.path) as archive, self.path.open("rb") as file:
            members = {each.filename: each for each in archive.infolist()}
            (pickled,) = [name for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
            prefix = pickled.removesuffix("data.pkl")
            for member in members.values():
                if member.compress_type != zipfile.ZIP_STORED:
                    check_fits_memory(member.file_size, f"{self.path}: '{member.filename}'")
                    raise ValueError(f"'{member.filename}' is compressed")
                if member.filename.startswith(f"{prefix}data/"):
                    key = member.filename.removeprefix(f"{prefix}data/")
                    self._places[key] = Place(_start(file, member), member.file_size)
            if f"{prefix}byteorder" in members and archive.read(f"{prefix}byteorder") == b"big":
                self._order = ">"
            self.metadata = said_of(archive)
            with archive.open(pickled) as stream:
                return read_pickle(stream, MAKERS, persistent)

    def _of_pickles(self) -> Any:
        """Return what a row of pickles holds, with the storages behind it, as torch.save wrote until 1.5."""
        with self.path.open("rb") as file:
            size = self.path.stat().st_size
            read: Callable[[], Any] = lambda: read_pickle(file, MAKERS, storages)  # noqa: E731
            item_bytes: dict[str, int] = {}

            def storages(saved: Any) -> Any:
                storage = persistent(saved)
                if not isinstance(storage, Global):
                    item_bytes.setdefault(storage.key, _itemsize(storage.dtype))
                return storage

            first = read()
            if first != LEGACY_MAGIC:
                return first
            protocol, system = read(), read()
            if protocol != LEGACY_PROTOCOL:
                raise ValueError(f"is of protocol {str(protocol)[:40]}")
            self._order = "<" if system.get("little_endian", True) else ">"
            held, keys = read(), read()
            for key in map(str, keys):
                count = int.from_bytes(file.read(8), "little" if self._order == "<" else "big")
                length = count * item_bytes[key]
                self._places[key] = Place(file.tell(), length)
                if file.tell() + length > size:
                    raise ValueError(f"storage {key} claims {length} bytes, the file has {size - file.tell()}")
                file.seek(length, 1)
            return held

    def _add(self, name: str, each: Any) -> None:
        """Take one item of a state dict: a tensor, a packed pair of them, or what cannot be read."""
        if isinstance(each, tuple) and name.endswith(PACKED) and len(each) == 2 and isinstance(each[0], Tensor):
            module = name.removesuffix(PACKED)
            self._add(f"{module}.weight", each[0])
            if isinstance(each[1], Tensor):
                self._add(f"{module}.bias", each[1])
        elif isinstance(each, Unreadable):
            self.shapes[name], self.types[name], self.unusable[name] = each.shape, "unknown", each.reason
        elif isinstance(each, (Tensor, Sparse)):
            self._tensors[name], self.shapes[name], self.types[name] = each, each.shape, each.dtype
            problem = self._unusable(name, each)
            if problem is not None:
                self.unusable[name] = problem
        elif isinstance(each, Instance):
            self.others[name] = f"object of {each.of}, which is never unpickled"
        elif _holds_tensors(each):
            self.others[name] = f"{type(each).__name__} of tensors without names of their own"

    def _unusable(self, name: str, tensor: Tensor | Sparse) -> str | None:
        """Return what keeps a tensor from being read, or None; raises InputError where memory cannot hold it."""
        parts = (tensor, *(tensor.parts if isinstance(tensor, Sparse) else (tensor.zero_points,)))
        for part in parts:
            if not isinstance(part, (Tensor, Sparse)):
                continue
            form = ARRAY_TYPES.get(QUANTISED.get(part.dtype, part.dtype))
            if form is None:
                return unsupported(part.dtype)
            problem = too_large(part.shape, form.stored_type.itemsize)
            problem = problem or (self._outside(part) if isinstance(part, Tensor) else None)
            if problem is not None:
                return problem
            # A view may claim to be far larger than what it repeats, and a sparse tensor than what it holds.
            size_bytes = math.prod(part.shape) * form.stored_type.itemsize
            check_fits_memory(size_bytes, f"{self.path}: '{name}'")
            if isinstance(part, Sparse):
                stored_bytes = sum(math.prod(each.shape) * _itemsize(each.dtype) for each in part.parts)
                check_grown(size_bytes, stored_bytes, f"{self.path}: '{name}'")
        return None

    def _outside(self, tensor: Tensor) -> str | None:
        """Return what keeps a tensor from being in its storage, or None."""
        if 0 in tensor.shape:
            return None
        place = self._places.get(tensor.storage.key)
        steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
        end = (tensor.offset + steps + 1) * _itemsize(tensor.dtype)
        if place is None or end > place.bytes:
            return f"lies outside of what the file holds of it ({0 if place is None else place.bytes} bytes)"
        count = math.prod(tensor.shape)
        if count > MOST_REPEATED and count > MOST_REPEATED * (steps + 1):
            return f"repeats {steps + 1} stored numbers to {count:,}; save it with .contiguous() if it is meant to"
        return None

    def _leave_outputs_of_quantised(self) -> None:
        """Leave out scale and zero point of the outputs of quantised modules, which are not those of the weights."""
        for name in [name for name, type_name in self.types.items() if type_name in QUANTISED]:
            module = name.removesuffix("weight")
            for key in (f"{module}scale", f"{module}zero_point"):
                if self.shapes.get(key) == () and name != module:
                    del self.shapes[key], self.types[key], self._tensors[key]
                    self.unusable.pop(key, None)

    def _read(self, name: str) -> NDArray[Any]:
        tensor = self._tensors[name]
        if isinstance(tensor, Tensor):
            return self._array(tensor)
        try:
            return dense(tensor.layout, tensor.shape, [self._array(part) for part in tensor.parts])
        except ValueError as error:
            raise InputError(f"{self.path}: '{name}' is not a complete sparse tensor: {error}; save it again") from None

    def write(self, target: Path, arrays: Sequence[Written]) -> None:
        """Write what the file holds with new tensors in the place of the network's, as torch.save does.

        Tensors that share their numbers still do. Raises InputError for a file that torch.load(weights_only=True)
        does not take, and without PyTorch.
        """
        with needing("torch", self.path):
            import torch
        try:
            with torch.sparse.check_sparse_tensor_invariants():  # else indices out of bounds reach other memory
                held = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:
            # torch.load raises several types; each says at length what it will not unpickle.
            raise InputError(
                f"{self.path}: torch.load(weights_only=True) does not take it ({reason_of(error)[:200]}); save its "
                "state dict alone, torch.save(model.state_dict(), path), or write it as .safetensors"
            ) from None
        wanted: dict[str, list[Written]] = {}
        narrowed: dict[Any, Any] = {}
        for each in arrays:
            wanted.setdefault(each.stored, []).append(each)
        for inside, prefix in list(_dicts_of(placed(held, self._under)[0])):
            items: list[tuple[Any, Any]] = []
            for key, each in inside.items():
                name = printable(f"{prefix}{key}")
                if not isinstance(each, torch.Tensor) or name not in self._tensors:
                    items.append((key, each))
                for made in wanted.get(name, ()) if isinstance(each, torch.Tensor) else ():
                    new = _changed(each, made)
                    if made.kept:  # those that share their numbers still do
                        new = narrowed.setdefault((each.data_ptr(), each.shape), _without(new, made.kept))
                    items.append((made.name.removeprefix(prefix), new))
            inside.clear()
            inside.update(items)
        try:
            torch.save(held, target)
        except RuntimeError as error:  # so it says that a disk is full
            raise OSError(reason_of(error)) from None
        say(target, self.metadata)

    def _array(self, tensor: Tensor) -> NDArray[Any]:
        """Return a tensor as an array, the file's own pages where its numbers can be used as they lie."""
        form = ARRAY_TYPES[QUANTISED.get(tensor.dtype, tensor.dtype)]
        dtype = form.stored_type.newbyteorder(self._order)
        if 0 in tensor.shape:
            return form.values(np.zeros(tensor.shape, form.stored_type))
        steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
        start = self._places[tensor.storage.key].start + tensor.offset * dtype.itemsize
        run = mapped(self.path, dtype, start, (steps + 1,))
        if steps + 1 == math.prod(tensor.shape) and tensor.strides == _contiguous(tensor.shape):
            array = run.reshape(tensor.shape)
        else:
            strides = [stride * dtype.itemsize for stride in tensor.strides]
            array = as_strided(run, tensor.shape, strides, subok=True, writeable=False)
        values = form.values(array.astype(form.stored_type, copy=False))
        if tensor.negated:
            values = -values
        return self._shifted(tensor, values) if tensor.dtype in QUANTISED else values

    def _shifted(self, tensor: Tensor, stored: NDArray[Any]) -> NDArray[Any]:
        """Return quantised numbers as integers of which zero is 0: without the scale, which changes no zero."""
        points = tensor.zero_points
        zero = self._array(points) if isinstance(points, Tensor) else np.asarray(points, np.int64)
        if tensor.axis is not None:
            zero = zero.reshape([-1 if at == tensor.axis else 1 for at in range(stored.ndim)])
        return without_zero(stored, np.rint(zero).astype(np.int64))


def _start(file: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Return where the bytes of a member of an archive begin; raises ValueError where they are not all there."""
    file.seek(member.header_offset)
    header = file.read(30)
    start = (
        member.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    )
    if header[:4] != b"PK\x03\x04" or start + member.file_size > file.seek(0, 2):
        raise ValueError(f"'{member.filename}' is not where the archive says")
    return start


def _itemsize(dtype: str) -> int:
    form = ARRAY_TYPES.get(QUANTISED.get(dtype, dtype))
    if form is not None:
        return form.stored_type.itemsize
    return {"complex64": 8, "complex128": 16, "complex32": 4}.get(dtype, 1)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[at + 1 :]) for at in range(len(shape)))


def _holds_tensors(held: Any) -> bool:
    """Return whether a list, tuple or dict has a tensor or an object right in it."""
    items = held.values() if isinstance(held, dict) else held if isinstance(held, (list, tuple)) else ()
    return any(isinstance(each, (Tensor, Sparse, Unreadable, Instance)) for each in items)


def _dicts_of(held: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[Any, str]]:
    """Go through a dict and those within it, each with what stands before the names of its items."""
    if isinstance(held, dict) and depth <= DEEPEST:
        yield held, prefix
        for key, each in held.items():
            yield from _dicts_of(each, f"{prefix}{key}.", depth + 1)


def _changed(tensor: Any, made: Written) -> Any:
    """Return a tensor of PyTorch with new numbers: the same object where it keeps its name, as others may share it."""
    import torch

    if made.numbers is None:
        return tensor
    if tensor.is_neg():  # a view that says of its numbers that they are to be negated
        tensor = tensor.resolve_neg()
    values, new = (torch.from_numpy(np.ascontiguousarray(each)) for each in made.numbers())
    values = values.to(tensor.dtype)
    if tensor.layout != torch.strided:
        whole = torch.where(new, values, tensor.to_dense())
        block = (
            {"blocksize": tensor.values().shape[1:3]} if tensor.layout in (torch.sparse_bsr, torch.sparse_bsc) else {}
        )
        return whole.to_sparse(layout=tensor.layout, **block)
    with torch.no_grad():
        changed = tensor if made.name == made.stored else tensor.detach().clone()
        # As integers: not every type of 8 bits can be indexed.
        bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
        changed.view(bits)[new] = values.view(bits)[new]
    return changed


def _without(tensor: Any, kept: Sequence[NDArray[np.bool_]]) -> Any:
    """Return a tensor of PyTorch with only some indices of each dimension, a parameter where it is one."""
    import torch

    with torch.no_grad():
        less = tensor.to_dense() if tensor.layout != torch.strided else tensor.detach()
        for axis, flags in enumerate(kept):
            less = less.index_select(axis, torch.from_numpy(np.flatnonzero(flags)))
        less = less.contiguous()
    return torch.nn.Parameter(less, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else less
