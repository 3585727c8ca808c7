"""What a forward pass multiplies, as layers, and what of it is left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from accelsim.errors import InputError, collecting, raise_if_any
from accelsim.network.graph import ActivationProduct
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut, overlaps
from accelsim.network.torch_capture.naming import Names, offset_in
from accelsim.network.torch_capture.origins import Held, Origin, Origins
from accelsim.network.torch_capture.trace import Event, Left, Place
from accelsim.torch_weights import as_array

Array = NDArray[Any]


class Call(NamedTuple):
    """One use of a layer's weights: samples (batch, vectors, in) or (batch, images, channels, height, width)."""

    samples: Array
    steps: int = 1
    geometry: Mapping[str, Any] | None = None
    kind: str = "conv2d"
    """Of a layer with a geometry."""


class Filters(NamedTuple):
    """Weights of a convolution: as the model has them, and as they are multiplied (out, in / groups, kh, kw)."""

    stored: Tensor
    kernels: Tensor
    bias: Tensor | None
    kind: str = "conv2d"


@dataclass
class Use:
    """What becomes of a tensor of the model that no layer multiplies by."""

    kind: str
    macs: int | None = 0


@dataclass
class Recorder:
    """Writes down each product of the forward pass, by the name of its weights."""

    origins: Origins
    names: Names
    batch: int
    batch_dim: int
    place: Place = field(default_factory=Place)
    assumptions: list[str] = field(default_factory=list)
    bias_behind: Tensor | None = None
    """A bias that is added to the next product by an operation of its own."""
    product: int | None = None
    """Number of the product of weights alone that was seen last; None where it was of another kind."""
    makes_again: bool = False
    """Whether what layers see can be made again, so that only so much as MOST_KEPT_BYTES is kept."""
    lets_go: bool = False
    """Whether it is more than that, and nothing is kept."""
    replaceable: set[int] = field(default_factory=set)
    """Numbers of the tensors of the model of which weights and biases of layers are made."""
    _kept_bytes: int = 0
    _arrays: dict[str, tuple[Callable[[], Array], Array | None]] = field(default_factory=dict)
    _calls: dict[str, list[Call]] = field(default_factory=dict)
    _covered: dict[int, int] = field(default_factory=dict)
    _owners: dict[Any, str] = field(default_factory=dict)
    """By the place of weights in the model the first layer that multiplies by them."""
    _owner_of: dict[str, str] = field(default_factory=dict)
    """Of each layer, which one that is."""
    _folded: set[int] = field(default_factory=set)
    _uses: dict[int, Use] = field(default_factory=dict)
    event: Event = field(default_factory=Event)
    """What the operation that runs turns out to be."""
    others: list[Left] = field(default_factory=list)
    """Operations that are no layer and have no weights by which they could be named."""
    _waiting: dict[int, tuple[Event, Callable[[], None]]] = field(default_factory=dict)
    _order: dict[str, int] = field(default_factory=dict)
    packed: set[str] = field(default_factory=set)
    """Paths of the modules with packed weights that ran."""
    _packed: dict[str, LeftOut] = field(default_factory=dict)
    _counted: int = 0

    def linear(self, weight: Tensor, bias: Tensor | None, vectors: Tensor, kind: str) -> None:
        """Note a product of weights (out, in) and vectors (..., in), which may also be no layer."""
        origin = self._as_weight(weight, vectors)
        if origin is None:
            self.leave(kind, weight.numel() * (vectors.numel() // max(1, weight.shape[1])), [weight, vectors])
            return
        samples, module = self.taken(self.by_sample(vectors)), self.place.module
        if self.bias_behind is not None and bias is None:
            bias, self.event.adds_later, self.bias_behind = self.bias_behind, True, None

        def note(product: int | None = None) -> None:
            name = self.names.layer(weight, origin, module)
            self.event.is_layer = True
            self.keep(name, weight, bias, weight)
            self.call(name, Call(samples), product)

        self._note(note)

    def adds_bias(self, bias: Tensor) -> None:
        """Note that a bias is added which its layer has already."""

    def heads(self, stored: Tensor, matrices: list[Tensor], vectors: list[Tensor], given: Tensor) -> None:
        """Note products of several matrices (out, in) of one tensor, each with vectors (..., in) of its own."""
        origin = self._as_weight(stored, given)
        if origin is None:
            raise ValueError(NO_LAYER)
        samples, module = [self.taken(self.by_sample(each)) for each in vectors], self.place.module

        def note(product: int | None = None) -> None:
            name = self.names.layer(stored, origin, module)
            for number, (matrix, each) in enumerate(zip(matrices, samples, strict=True)):
                of_head = name if len(matrices) == 1 else f"{name}.{number}"
                self.keep(of_head, matrix, None, stored)
                self.call(of_head, Call(each), product)

        self._note(note)

    def taken(self, tensor: Tensor) -> Array:
        """Return what a layer sees, which does not change with the model; only its shape where it can be made again."""
        if self.lets_go:
            return without_values(as_array(tensor))
        array = copied(tensor)
        self._kept_bytes += array.nbytes
        if self.makes_again and self._kept_bytes > MOST_KEPT_BYTES:
            self.lets_go = True
            for calls in self._calls.values():
                calls[:] = [each._replace(samples=without_values(each.samples)) for each in calls]
            return without_values(array)
        return array

    @property
    def calls_of(self) -> dict[str, int]:
        """How often the weights of a name were multiplied by."""
        return {name: len(calls) for name, calls in self._calls.items()}

    @property
    def folded(self) -> frozenset[int]:
        """Products of weights alone that turned out to be weights."""
        return frozenset(self._folded)

    def _note(self, note: Callable[..., None]) -> None:
        """Write a call down; one of weights alone only at the end, when it is known whether its result is a weight."""
        if self.product is None:
            note()
        else:
            self._waiting[self.product] = self.event, partial(note, self.product)

    def images(self, filters: Filters, images: Tensor, geometry: Mapping[str, Any], given: Tensor) -> None:
        """Note a convolution of images (count, channels, height, width), made of what is `given` to the operation."""
        origin = self._as_weight(filters.stored, given)
        if origin is None:
            raise ValueError(NO_LAYER)
        samples, module = self.taken(self.images_of_samples(images)), self.place.module

        def note(product: int | None = None) -> None:
            name = self.names.layer(filters.stored, origin, module)
            self.keep(name, filters.kernels, filters.bias, filters.stored)
            self.call(name, Call(samples, 1, geometry, filters.kind), product)

        self._note(note)

    def is_layer(self, weight: Tensor, data: Tensor) -> bool:
        """Return whether a product is of weights of the model."""
        origin, other = self.origins.of(weight), self.origins.of(data)
        if origin is None or not origin.sources:
            return False
        return other is None or self._has_weights(origin)

    def _as_weight(self, weight: Tensor, data: Tensor) -> Origin | None:
        """Return what a weight is made of and note that it is used; None where the product is not a layer."""
        self.product = None
        origin, other = self.origins.of(weight), self.origins.of(data)
        if origin is None or not self.is_layer(weight, data):
            return None
        if other is None:
            self._folded |= origin.products
        else:
            self._counted += 1
            self.product = self._counted
            for number in other.sources:
                self.use(number, "input", 0)
        for number in origin.sources:
            self._covered.setdefault(number, 0)
        self.event.weights.append(weight)
        return origin

    def named(self, weight: Tensor, bias: Tensor | None, data: Tensor) -> str | None:
        """Keep weights (out, in) of one layer and return its name; None where they are not the model's."""
        origin = self._as_weight(weight, data)
        self.product = None
        if origin is None:
            return None
        name = self.names.layer(weight, origin, self.place.module)
        self.keep(name, weight, bias, weight)
        return name

    def keep(self, name: str, weight: Tensor, bias: Tensor | None, stored: Tensor) -> None:
        """Note where the weights of a layer are at its first call, and copy its bias; `stored`: as in the model."""
        if name in self._arrays:
            return
        if bias is not None and (bias.ndim != 1 or self.origins.of(bias) is None):
            bias = None
        origin, owner = self.origins.of(stored), None
        if origin is not None and origin.sources:
            number = origin.sources[0]
            offset = offset_in(self.origins.held[number], weight)
            owner = None if offset is None else self.origins.held[number].tensor
            place = name if offset is None else (number, offset, weight.numel())
            first = self._owners.setdefault(place, name)
            self._owner_of[name] = first
            if first == name:
                self._covered[number] = self._covered.get(number, 0) + weight.numel()
        for each in (stored, bias):
            known = None if each is None else self.origins.of(each)
            self.replaceable |= set(() if known is None else known.sources)
        self._arrays[name] = Stored.of(name, weight, owner), None if bias is None else copied(bias)

    def keep_arrays(self, name: str, weight: Array, bias: Array | None) -> None:
        """Take weights of a layer that are no tensor of the model, such as the integers of a quantised one."""
        self._arrays.setdefault(name, (lambda: weight, bias))

    def call(self, name: str, call: Call, order: int | None = None) -> None:
        """Note a call of a layer whose weights are kept; `order`: what was counted when it ran, now if None."""
        if order is None:
            self._counted += 1
        self._order.setdefault(name, self._counted if order is None else order)
        calls = self._calls.setdefault(name, [])
        calls.append(call)
        self.event.calls.append((name, len(calls)))

    def leave(
        self, kind: str, macs: int | None, operands: Iterable[Tensor], *, by_place: bool = False, role: str = "",
        product: ActivationProduct | None = None,
    ) -> None:  # fmt: skip
        """Note an operation that is not a layer, with all its multiply-accumulates: by its weights, or where it runs.

        role: which of several products of one operation; product: of one sample, where it is of activations alone.
        """
        self.product = None
        origins = [self.origins.of(each) for each in operands]
        for number in {number for each in origins if each is not None for number in each.sources}:
            self.use(number, kind, 0)
        plain = [each for each in origins if each is not None and not each.products and self._has_weights(each)]
        if plain and not by_place and len(plain) < len(origins):
            number = plain[0].sources[0]
            self.use(number, kind, macs)
            self.event.left.append(Left(kind, macs, number))
            return
        constants = sum(each is not None for each in origins)
        said = "of activations" if not constants else "of constants" if constants == len(origins) else "by a constant"
        left = Left(kind if by_place else f"{kind} {said}", macs, None, None if constants else product, role)
        self.event.left.append(left)
        self.others.append(left)

    def activation_product(
        self, groups: int, rows: int, columns: int, vectors: int, *, causal: bool = False, operands: int = 0
    ) -> ActivationProduct | None:
        """Return the share of one sample of a product of activations; None where the groups do not divide."""
        if groups % self.batch == 0:
            return ActivationProduct(groups // self.batch, rows, columns, vectors, causal, operands // self.batch)
        if groups == 1 and vectors % self.batch == 0:
            return ActivationProduct(1, rows, columns, vectors // self.batch, causal)
        return None

    def _has_weights(self, origin: Origin) -> bool:
        return any(self.origins.held[number].is_parameter for number in origin.sources)

    def leave_packed(self, left: LeftOut) -> None:
        """Note an operation on packed weights that is not a layer."""
        self._packed[left.name] = left

    def use(self, number: int, kind: str, macs: int | None) -> None:
        """Note what a tensor of the model is used for other than as a layer's weights: products come first."""
        known = self._uses.get(number)
        self.event.uses.append(number)
        if known is None:
            self._uses[number] = Use(kind, macs)
        else:
            known.kind = kind if known.macs == 0 and macs != 0 else known.kind
            known.macs = added(known.macs, macs)

    def by_sample(self, vectors: Tensor) -> Tensor:
        """Return vectors (..., features) as (batch, vectors of a sample, features)."""
        features, sequences = vectors.shape[-1], self.place.sequences
        if sequences:
            if self.place.is_fused:
                return self.sequences_of_samples(vectors.reshape(sequences, -1, features).transpose(0, 1))
            return self.sequences_of_samples(vectors.reshape(-1, sequences, features))
        leading = vectors.shape[:-1]
        for dim in (self.batch_dim, 0):
            if dim < len(leading) and leading[dim] == self.batch:
                return vectors.movedim(dim, 0).reshape(self.batch, -1, features)
        if self.product is not None or (count := math.prod(leading)) % self.batch:
            if self.product is None:
                self.assumptions.append(
                    f"{self.names.of_module(self.place.module)}: {count} vectors do not divide among {self.batch} "
                    "samples, so each sample has all of them; give an example of one sample if they are of several"
                )
            return vectors.reshape(1, -1, features)
        if self.batch_dim == 1:
            return vectors.reshape(-1, self.batch, features).transpose(0, 1)
        return vectors.reshape(self.batch, -1, features)

    def dim_of_samples(self, shape: Sequence[int]) -> int | None:
        """Return which dimension of a tensor counts samples, one by one; None where none does."""
        return next((at for at in (self.batch_dim, 0, 1) if at < len(shape) and shape[at] == self.batch), None)

    def shape_of_sample(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the share of one sample of a tensor, whose first dimension may also be samples times others."""
        dim = self.dim_of_samples(shape)
        if dim is not None:
            return (*shape[:dim], *shape[dim + 1 :])
        if shape and shape[0] % self.batch == 0:
            return (shape[0] // self.batch, *shape[1:])
        return tuple(shape)

    def sequences_of_samples(self, sequences: Tensor) -> Tensor:
        """Return sequences (steps, sequences, features) as (batch, vectors of a sample, features), one by one."""
        steps, count, features = sequences.shape
        batch = self._samples_of(count, "sequences")
        return sequences.transpose(0, 1).reshape(batch, steps * (count // batch), features)

    def steps_of_samples(self, sequences: Tensor) -> Tensor:
        """Return sequences (steps, sequences, features) as (batch, vectors of a sample, features), step by step."""
        steps, count, features = sequences.shape
        batch = self._samples_of(count, "sequences")
        split = sequences.reshape(steps, batch, count // batch, features)
        return split.transpose(0, 1).reshape(batch, steps * (count // batch), features)

    def images_of_samples(self, images: Tensor) -> Tensor:
        """Return images (count, ...) as (batch, images of a sample, ...)."""
        batch = self._samples_of(len(images), "images")
        if self.batch_dim == 1:
            return images.unflatten(0, (-1, batch)).transpose(0, 1)
        return images.unflatten(0, (batch, -1))

    def _samples_of(self, count: int, what: str) -> int:
        """Return among how many samples so many divide; each counts as one where they do not."""
        if count % self.batch == 0:
            return self.batch
        if self.product is None and count > 1:
            self.assumptions.append(
                f"{self.names.of_module(self.place.module)}: {count} {what} do not divide among {self.batch} samples, "
                "so each counts as a sample; correct batch_dim, or give an example of one sample"
            )
        return count

    def layers(self) -> list[Layer]:
        """Return what was called, in order; raises InputError with every problem."""
        layers = []
        problems: list[str] = []
        for product, (event, note) in self._waiting.items():
            if product not in self._folded:
                self.event = event
                note()
        self._waiting.clear()
        for name in sorted(self._calls, key=lambda name: self._order[name]):
            stored, bias = self._arrays[name]
            for number, call in enumerate(merged_calls(self._calls[name]), 1):
                with collecting(problems):
                    layer = _layer(name if number == 1 else f"{name}.call{number}", stored(), bias, call)
                    layers.append(replace(layer, weight_source=stored, weights_key=self._owner_of.get(name, name)))
        raise_if_any(dict.fromkeys(problems))
        self.assumptions += overlaps(layer.name for layer in layers if layer.kind == "conv_transpose2d")
        return layers

    def left_out(self) -> list[LeftOut]:
        """Name the weights of two or more dimensions that are in no layer, and the products of activations."""
        missing = []
        for number, held in enumerate(self.origins.held):
            use, rest = self._uses.get(number), self._rest(number, held)
            if use is not None and (rest or use.macs != 0 or (held.is_counted and use.kind == LOOK_UP)):
                missing.append(LeftOut(self.names.of(held), use.kind, rest, self.of_one_sample(use.macs)))
            elif rest and number in self._covered:
                missing.append(LeftOut(self.names.of(held), "part not used", rest))
            elif rest:
                missing += self._not_used(number, held)
        return [*missing, *self._packed.values()] + [
            LeftOut(each.node.name if each.node else "operation", each.kind, 0, self.of_one_sample(each.macs))
            for each in self.others
        ]

    def is_named(self, number: int) -> bool:
        """Return whether a tensor of the model is left out by its own name, since an operation reads it."""
        held, use = self.origins.held[number], self._uses.get(number)
        rest = self._rest(number, held)
        return use is not None and bool(rest or use.macs != 0)

    def _rest(self, number: int, held: Held) -> int:
        """Return how many weights of a tensor no layer has; what is folded into another tensor is part of its layer."""
        covered = self._covered.get(number)
        if not held.is_counted or covered == 0:
            return 0
        return max(0, int(held.tensor.numel()) - (covered or 0))

    def of_one_sample(self, macs: int | None) -> int | None:
        """Return the multiply-accumulates of one sample of those of all."""
        return macs if macs is None else -(-macs // self.batch)

    def _not_used(self, number: int, held: Held) -> list[LeftOut]:
        weights, kind = int(held.tensor.numel()), type(held.tensor)
        if kind not in (Tensor, nn.Parameter):
            # What a class of tensors of its own computes inside of itself is not seen.
            return [LeftOut(self.names.of(held), f"weights of class {kind.__name__}", weights, None)]
        if number in self.origins.touched:
            return [LeftOut(self.names.of(held), "constant", weights)]
        known = self.names.known.get(self.names.path(held), [])
        if not known:
            return [LeftOut(self.names.of(held), "not called", weights)]
        return [LeftOut(name, "not called", each.weight.numel()) for name, each in known]


LOOK_UP = "look-up"
MOST_KEPT_BYTES = 2**24
"""Of what the layers of an example see, which is kept; that of larger models is made again when it is looked at."""
NO_LAYER = "a layer needs weights of the model: see is_layer"


def added(one: int | None, other: int | None) -> int | None:
    """Return a sum that is not known where one of the two is not."""
    return None if one is None or other is None else one + other


def merged_calls(calls: list[Call]) -> list[Call]:
    """Return the calls of a linear layer on inputs of one shape as one that takes them step by step; others apart."""
    if len(calls) < 2 or calls[0].geometry is not None:
        return calls
    first = calls[0]
    if not all((each.samples.shape, each.steps) == (first.samples.shape, first.steps) for each in calls):
        return calls
    samples = [each.samples for each in calls]
    if all(has_no_values(each) for each in samples):
        batch, _, *rest = first.samples.shape
        joined = np.broadcast_to(samples[0].flat[0], (batch, sum(each.shape[1] for each in samples), *rest))
    else:
        joined = np.concatenate(samples, axis=1)
    return [Call(joined, sum(each.steps for each in calls))]


def samples_of(call: Call) -> Array:
    """Return what a layer sees, (batch, *Layer.input_shape)."""
    return call.samples[:, 0] if call.samples.shape[1] == 1 else call.samples


def without_values(array: Array) -> Array:
    """Return an array that has only the shape and the type of one, without memory; one that is not finite stays."""
    return np.broadcast_to(array.dtype.type(0), array.shape) if _is_finite(array) else array


def has_no_values(array: Array) -> bool:
    """Whether an array has only a shape and a type."""
    return array.size > 1 and not any(array.strides)


def _is_finite(array: Array) -> bool:
    if array.dtype.kind not in "fc":
        return True
    with np.errstate(all="ignore"):
        # A sum may overflow though no number is infinite.
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


@dataclass(frozen=True)
class Stored:
    """Weights of a layer in the memory of the model, read when they are asked for, and not copied."""

    layer: str
    tensor: Tensor
    owner: Tensor | None
    """The tensor of the model that they are part of; None: they are made from such, and nobody changes them."""
    version: int

    @classmethod
    def of(cls, layer: str, tensor: Tensor, owner: Tensor | None) -> Stored:
        """Return weights as they are now."""
        return cls(layer, tensor.detach(), owner, 0 if owner is None else version_of(owner))

    def __call__(self) -> Array:
        """Return them, not to be written to; raises InputError where the model has been changed."""
        self.check()
        array = np.ascontiguousarray(as_array(self.tensor))
        array.flags.writeable = False
        return array

    def check(self) -> None:
        """Raise InputError where the model has been changed."""
        if self.owner is not None and version_of(self.owner) != self.version:
            raise InputError(f"layer {self.layer}: weight: {CHANGED}")

    def __reduce__(self) -> Any:
        """Go elsewhere as an array of their own."""
        return partial(_itself, np.array(self())).__reduce__()


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place; nobody counts that of one made in inference mode."""
    return 0 if tensor.is_inference() else int(tensor._version)


def _itself(array: Array) -> Array:
    return array


CHANGED = (
    "the model was changed in place since it was captured, as by training or pruning, and its weights are not copied; "
    "capture it again, or capture copy.deepcopy(model) to keep a network as it was"
)


def _layer(name: str, weight: Array, bias: Array | None, call: Call) -> Layer:
    samples, inputs = call.samples, samples_of(call)
    if call.geometry is not None:
        images = None if has_no_values(samples) else samples.reshape(-1, *samples.shape[2:])
        layer = Layer.conv2d(name, weight, bias, activations=images, input_hw=samples.shape[3:], **call.geometry)
        return replace(layer, kind=call.kind, tokens=samples.shape[1], activations=inputs)
    vectors = samples.shape[1]
    given = None if has_no_values(inputs) else inputs
    layer = Layer.linear(name, weight, bias, tokens=vectors // call.steps, steps=call.steps, activations=given)
    return replace(layer, activations=inputs)


def copied(tensor: Tensor) -> Array:
    """Return a copy, which does not change with the model."""
    return np.array(as_array(tensor), order="C")
