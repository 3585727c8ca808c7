"""Sizes of the inputs of an ONNX graph, of which the file may leave some open."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from accelsim.errors import did_you_mean, raise_if_any
from accelsim.network.reading import Reading

BATCH = re.compile(
    r"(?:.*[^a-z])?(?:batch|batches|batch_?size|batch_?dim|n_?batch|mini_?batch|num_?batch(?:es)?|bs|bsz|bsize)(?:[^a-z].*)?|[nb]",
    re.IGNORECASE,
)
"""Names of a dimension that counts samples."""

SAMPLES = re.compile(r"(?:n|num|number)?_?(?:of_)?(?:samples?|examples?)", re.IGNORECASE)
"""Names that do where they are the first of several: of sound, samples are what comes behind."""

NO_NAMES = {"", "?", "-1", "None"}
"""What stands for a dimension without a name; two of them need not be of one size."""

AUTOMATIC = re.compile(
    r"unk_*\d*|s\d+|d(?:im)?_?\d+|.*_d(?:im)?_?\d+|.*dynamic_?(?:dim|axes|dimension)?[._]?\w*|axis_?\d+",
    re.IGNORECASE,
)
"""Names that exporters make up and that say nothing."""

USUAL = {2: 128, 3: 128, 4: 224, 5: 16}
"""Sizes that messages take as examples, by the dimensions of the input."""


class Sized(NamedTuple):
    """Shapes of the inputs of a graph, and which dimension of them counts samples by what the file says."""

    shapes: dict[str, list[int]]
    batch_dims: dict[str, int]
    assumptions: list[str]


class _Open(NamedTuple):
    """An input as the file has it: a size or a name by dimension, None where it has neither; None without any rank."""

    name: str
    dims: list[int | str | None] | None

    @property
    def counts_samples(self) -> list[int]:
        """Dimensions that count samples and are open."""
        dims = self.dims or ()
        return [place for place, dim in enumerate(dims) if _is_batch(dim, place, len(dims))]

    def __str__(self) -> str:
        """Return its name and shape."""
        if self.dims is None:
            return f"input '{self.name}' of any shape"
        return f"input '{self.name}' ({', '.join('?' if dim is None else str(dim) for dim in self.dims)})"


def sized(inputs: Sequence[Any], reading: Reading) -> Sized:
    """Return the shapes of the graph's inputs that are tensors, as the file has them or the reader was told.

    An open dimension that counts samples, by its name or because it is the first and has none, is one sample. Raises
    InputError with every input of which other sizes are open, and everything told that does not fit the file.
    """
    opens = [
        _Open(value.name, _dims(value.type.tensor_type))
        for value in inputs
        if value.type.HasField("tensor_type") and value.name not in reading.input_values
    ]
    problems: list[str] = []
    by_input, by_dim = _told(opens, reading.input_shapes, problems)
    shapes: dict[str, list[int]] = {}
    batch_dims: dict[str, int] = {}
    assumptions: list[str] = []
    lacking = []
    for each in opens:
        counting = each.counts_samples
        told = by_input.get(each.name)
        if each.dims is None and told is None:
            lacking.append(each)
            continue
        shape = told or [
            dim if isinstance(dim, int) else by_dim.get(dim or "", 1 if place in counting else 0)
            for place, dim in enumerate(each.dims or ())
        ]
        if 0 in shape:
            lacking.append(each)
            continue
        shapes[each.name] = shape
        if counting:
            batch_dims[each.name] = counting[0]
        if counting and told is None and each.dims is not None:
            first = each.dims[counting[0]]
            if shape[counting[0]] == 1 and not (isinstance(first, str) and BATCH.fullmatch(first)):
                assumptions.append(
                    f"the open first dimension of {each} is taken to count samples; "
                    f"else say --input-shape {each.name}={_example(each)}"
                )
    problems += _asked(lacking)
    raise_if_any(problems)
    return Sized(shapes, batch_dims, assumptions)


def _dims(tensor: Any) -> list[int | str | None] | None:
    """Return the dimensions of a type; a size below 1 is open."""
    if not tensor.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.dim_value > 0 else None if dim.dim_param in NO_NAMES else dim.dim_param
        for dim in tensor.shape.dim
    ]


def _is_batch(dim: int | str | None, place: int, rank: int) -> bool:
    """Return whether an open dimension counts samples."""
    if isinstance(dim, int):
        return False
    if dim is not None and BATCH.fullmatch(dim):
        return True
    return place == 0 and (
        dim is None or AUTOMATIC.fullmatch(dim) is not None or (rank > 1 and SAMPLES.fullmatch(dim) is not None)
    )


def _told(
    opens: Sequence[_Open], told: Mapping[str, tuple[int, ...] | int], problems: list[str]
) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Return what was told, by input and by the name of a dimension; say what does not fit the file."""
    inputs = {each.name: each for each in opens}
    dims = {dim for each in opens for dim in each.dims or () if isinstance(dim, str)}
    by_input: dict[str, list[int]] = {}
    by_dim: dict[str, int] = {}
    origin: dict[str, str] = {}

    def name(dim: str, size: int, whence: str) -> None:
        if by_dim.setdefault(dim, size) != size:
            problems.append(f"{whence}: makes the dimension '{dim}' {size}, which is {by_dim[dim]} by {origin[dim]}")
        origin.setdefault(dim, whence)

    for key, value in told.items():
        shape = [value] if isinstance(value, int) else list(value)
        said = f"--input-shape {key}={','.join(map(str, shape))}"
        if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape):
            problems.append(f"{said}: sizes must be whole numbers, 1 or above")
        elif key in inputs and (key not in dims or not isinstance(value, int)):
            known = inputs[key].dims
            if known is not None and (
                len(known) != len(shape)
                or any(isinstance(dim, int) and dim != size for dim, size in zip(known, shape, strict=True))
            ):
                problems.append(f"{said}: does not fit {inputs[key]}; sizes that the file gives cannot be changed")
                continue
            by_input[key] = shape
            for dim, size in zip(known or (), shape, strict=False):
                if isinstance(dim, str):
                    name(dim, size, said)
        elif key in dims and len(shape) == 1:
            name(key, shape[0], said)
        elif key in dims:
            problems.append(f"{said}: '{key}' is one dimension; give one size")
        else:
            near = did_you_mean(key, [*inputs, *dims] if len(shape) == 1 else inputs)
            problems.append(f"{said}: is neither an input nor an open dimension{near}")
    return by_input, by_dim


def _asked(lacking: Sequence[_Open]) -> list[str]:
    """Say what is open and what to type, once for all inputs that leave the same dimensions open."""
    alike: dict[tuple[str, ...], list[_Open]] = {}
    for each in lacking:
        names = [dim for place, dim in enumerate(each.dims or ()) if place not in each.counts_samples]
        key = (each.name,) if each.dims is None or None in names else tuple(d for d in names if isinstance(d, str))
        alike.setdefault(key, []).append(each)
    problems = []
    for key, (first, *others) in alike.items():
        also = f" and {len(others)} more" if others else ""
        shape = _example(first)
        said = f"{first}{also} leaves sizes open: give them, such as --input-shape {first.name}={shape}"
        if key != (first.name,):
            sizes = shape.split(",")
            by_name = [f"--input-shape {dim}={sizes[(first.dims or []).index(dim)]}" for dim in dict.fromkeys(key)]
            said += f" or {' '.join(by_name)}"
        problems.append(said)
    return problems


def _example(each: _Open) -> str:
    """Return a shape of an input that might be meant, as it is typed."""
    dims: list[int | str | None] = [1, 3, None, None] if each.dims is None else each.dims
    usual = USUAL.get(len(dims), 16)
    return ",".join(
        str(dim if isinstance(dim, int) else 1 if place in _Open(each.name, dims).counts_samples else usual)
        for place, dim in enumerate(dims)
    )
