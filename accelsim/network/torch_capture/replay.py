"""A pass of a model with other weights: what each layer sees, handed over as soon as it is seen."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accelsim.errors import InputError
from accelsim.network.executor import Seen
from accelsim.network.layer import Layer
from accelsim.network.torch_capture.naming import Names
from accelsim.network.torch_capture.origins import Origins, storage_key, tensors_in, written
from accelsim.network.torch_capture.recorder import (
    Call,
    Filters,
    Recorder,
    copied,
    merged_calls,
    samples_of,
    version_of,
)
from accelsim.network.torch_capture.trace import Trace
from accelsim.torch_weights import as_array

Array = NDArray[Any]


class Passed(NamedTuple):
    """What the pass showed from which a network comes."""

    layers: Mapping[str, Layer]
    calls: Mapping[str, int]
    """How often the weights of a name were multiplied by."""
    folded: frozenset[int]
    """Products of weights alone that are weights themselves."""
    overwritten: frozenset[str]
    """Names of the weights that multiply what the model writes over later, so that it has to be copied."""
    plain: frozenset[Any]
    """Operations made of others that need not be seen."""
    origins: Origins
    names: Names
    random: Tensor
    """State of the random numbers before the pass."""
    versions: Mapping[str, tuple[Tensor, int]]
    """Parameters of the model that are no weights or biases of layers, and how often each had been changed in place."""

    @classmethod
    def of(
        cls, layers: Iterable[Layer], recorder: Recorder, trace: Trace, plain: frozenset[Any], random: Tensor,
    ) -> Passed:  # fmt: skip
        """Return what a pass has shown."""
        return cls(
            {layer.name: layer for layer in layers},
            recorder.calls_of,
            recorder.folded,
            frozenset(trace.overwritten),
            plain,
            recorder.origins,
            recorder.names,
            random,
            {
                held.paths[0]: (held.tensor, version_of(held.tensor))
                for number, held in enumerate(recorder.origins.held)
                if held.is_parameter and number not in recorder.replaceable
            },
        )


@dataclass(eq=False)
class _Kept:
    """Weights or a bias of a layer, where they lie in the tensors that an operation takes, and what shall be there."""

    layer: str
    place: Tensor
    values: Array | None
    """None: what is there."""
    is_bias: bool = False


@dataclass
class Replay(Recorder):
    """Follows a pass as a Recorder does, keeps nothing, and puts weights of a network in place of the model's own."""

    wanted: Mapping[str, Layer] = field(default_factory=dict)
    """Layers whose weights are multiplied by, in the order in which they are handed over."""
    passed: Passed = field(kw_only=True)
    hand_over: Callable[[Seen], None] | None = None
    outputs: bool = False
    _kept: list[_Kept] = field(default_factory=list)
    _bias_after: list[Array] = field(default_factory=list)
    _bias_behind: _Kept | None = None
    _numbers: dict[str, int] = field(default_factory=dict)
    _pending: dict[str, list[tuple[Call, Array | None]]] = field(default_factory=dict)
    _now: list[tuple[str, Call]] = field(default_factory=list)
    _ready: dict[str, Seen] = field(default_factory=dict)
    _handed: int = 0
    _lent: dict[Any, Any] = field(default_factory=dict)
    """By memory of the model what was handed over of it, as a weak reference."""
    _found_names: list[str | None] = field(default_factory=list)
    _given_names: list[str | None] | None = None
    """Names that were found for the weights of a recurrent operation before others were put in their place."""

    # What a Recorder does otherwise

    def taken(self, tensor: Tensor) -> Array:
        """Return what a layer sees, where somebody wants it: the model's own memory, until `call` knows better."""
        if self.hand_over is None:
            return np.empty((0,) * tensor.ndim)
        array = as_array(tensor)
        if array.ctypes.data == tensor.data_ptr():
            owner = array
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            array.flags.writeable = False
            self._lent[storage_key(tensor)[0]] = weakref.ref(owner)
        return array

    def named(self, weight: Tensor, bias: Tensor | None, data: Tensor) -> str | None:
        """Return the name of a layer; the one found before where its weights are replaced already."""
        if self._given_names is not None:
            return self._given_names.pop(0)
        self._found_names.append(super().named(weight, bias, data))
        return self._found_names[-1]

    def keep(self, name: str, weight: Tensor, bias: Tensor | None, stored: Tensor) -> None:
        """Note where the weights of a layer lie, and which the network has instead."""
        layer = self._layer(name, self._numbers.get(name, 0) + 1)
        values = None if layer is None else layer.weight
        turned = weight.ndim == 4 and weight.shape[2:] == (1, 1) and stored.ndim > 2
        if values is not None and turned and storage_key(weight)[0] != storage_key(stored)[0]:
            weight, values = stored, _as_stored(values, stored)
        self._kept.append(_Kept(name, weight, values))
        if bias is not None and (bias.ndim != 1 or self.origins.of(bias) is None):
            bias = None
        if bias is not None:
            values = None if layer is None else np.zeros(len(bias)) if layer.bias is None else layer.bias
            kept = _Kept(name, bias, values, True)
            if self.event.adds_later:
                self._bias_behind = kept
            else:
                self._kept.append(kept)
        elif layer is not None and layer.bias is not None:
            self._bias_after.append(layer.bias)

    def adds_bias(self, bias: Tensor) -> None:
        """Put the network's bias in place of one that an operation of its own adds."""
        if self._bias_behind is not None:
            self._kept.append(self._bias_behind)
            self._bias_behind = None

    def keep_arrays(self, name: str, weight: Array, bias: Array | None) -> None:
        """Compare packed weights, which cannot be replaced."""
        layer = self._layer(name, 1)
        if layer is not None and not np.array_equal(layer.weight, weight):
            raise InputError(f"layer {name}: {PACKED}")

    def call(self, name: str, call: Call, order: int | None = None) -> None:
        """Note that a layer sees something; it is handed over when its operation has run."""
        self._numbers[name] = number = self._numbers.get(name, 0) + 1
        self.event.calls.append((name, number))
        if self.hand_over is None:
            return
        kept = np.array if name in self.passed.overwritten else np.ascontiguousarray
        self._now.append((name, call._replace(samples=kept(call.samples))))

    def leave(self, kind: str, macs: int | None, operands: Iterable[Tensor], **others: Any) -> None:
        """Pass by what is not a layer."""
        self.product = None

    def use(self, number: int, kind: str, macs: int | None) -> None:
        """Pass by tensors that are no layer's."""

    def _note(self, note: Callable[..., None]) -> None:
        if self.product is None or self.product not in self.passed.folded:
            note()

    # Weights in place of others

    def starts(self, func: Any, arguments: list[Any]) -> None:
        """Forget the operation before; raises InputError where one writes over what somebody still looks at."""
        for tensor in written(func, arguments):
            lent = self._lent.get(storage_key(tensor)[0])
            if lent is not None and lent() is not None:
                raise InputError(f"inputs: what a layer sees is written over where it was not before; {UNLIKE}")
        self._kept.clear()
        self._bias_after.clear()
        self._now.clear()

    def recurrent(self, handler: Callable[..., None], call: dict[str, Any]) -> dict[str, Any]:
        """Note a recurrent operation as it runs by the network's weights, and return its arguments with those.

        Its states follow from the weights, which therefore have to be replaced before.
        """
        handed, self.hand_over, before = self.hand_over, None, dict(self._numbers)
        self._found_names.clear()
        handler(self, None, call)
        instead = self.replaced(call) or call
        self.event.calls.clear()
        self.hand_over, self._numbers, self._given_names = handed, before, list(self._found_names)
        handler(self, None, instead)
        self._given_names = None
        return instead

    def replaced(self, call: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the arguments of an operation with the network's weights among them; None: they are as they shall be.

        Activations are rounded where its layers say so. Raises InputError where the weights do not lie in them.
        """
        changed = [each for each in self._kept if each.values is not None]
        rounds = [layer for name, _ in self.event.calls if (layer := self._layer(name, 1)) and layer.rounded]
        if not changed and not rounds:
            return None
        instead: dict[int, Tensor] = {}
        left = list(changed)
        for tensor in tensors_in(call.values()):
            inside = [each for each in self._kept if _lies_in(each.place, tensor)]
            if any(each in left for each in inside):
                instead[id(tensor)] = _filled(tensor, inside)
                left = [each for each in left if each not in inside]
        if left:
            raise InputError(f"layer {left[0].layer}: {MADE_INSIDE}")
        if rounds:
            if self.event.recurrent:
                raise InputError(f"layer {self.event.calls[0][0]}: states between its steps cannot be rounded here")
            places = {
                id(each) for each in tensors_in(call.values()) if any(_lies_in(k.place, each) for k in self._kept)
            }
            data = next(each for each in tensors_in(call.values()) if id(each) not in places)
            rounded = rounds[0].rounded
            if rounded is not None:
                instead[id(data)] = torch.from_numpy(rounded(as_array(data))).to(data)
        return {name: _with(value, instead) for name, value in call.items()}

    def _layer(self, name: str, number: int) -> Layer | None:
        """Return a layer whose weights are others than those of the model; None: they are the model's."""
        several = f"{name}.call{number}"
        name = several if several in self.wanted else name
        layer, before = self.wanted.get(name), self.passed.layers.get(name)
        if layer is None or before is None:
            return None
        same = layer.weight_source is before.weight_source and layer.bias is before.bias and layer.rounded is None
        return None if same else layer

    # What is handed over

    def ends(self, result: Any) -> Any:
        """Hand over what the layers of an operation saw, and return its result, a bias added that the model lacks."""
        if self._bias_after:
            result = self._with_bias(result)
        outputs = self._made(result) if self.outputs and self._now else [None] * len(self._now)
        for (name, call), made in zip(self._now, outputs, strict=True):
            calls = self._pending.setdefault(name, [])
            calls.append((call, made))
            if len(calls) == self.passed.calls.get(name, 1):
                self._complete(name, self._pending.pop(name))
        return result

    def finish(self) -> None:
        """Hand over what waits; raises InputError for layers that did not run."""
        for name in list(self._pending):
            self._complete(name, self._pending.pop(name))
        missing = [name for name in list(self.wanted)[self._handed :] if name not in self._ready]
        if missing and self.hand_over is not None:
            raise InputError(f"layer {missing[0]}: does not run on these inputs; {UNLIKE}")

    def _complete(self, name: str, calls: list[tuple[Call, Array | None]]) -> None:
        merged = merged_calls([call for call, _ in calls])
        made = [output for _, output in calls]
        if len(merged) < len(calls):
            made = [None if any(each is None for each in made) else np.concatenate(made, 1)]  # type: ignore[arg-type]
        for number, (call, output) in enumerate(zip(merged, made, strict=True), 1):
            layer = name if number == 1 else f"{name}.call{number}"
            if layer not in self.wanted or self.hand_over is None:
                continue
            inputs, expected = samples_of(call), self.wanted[layer].input_shape
            if inputs.shape[1:] != expected:
                raise InputError(f"layer {layer}: sees {inputs.shape[1:]} of a sample, not {expected}; {UNLIKE}")
            self._ready[layer] = Seen(layer, inputs, None if output is None else _of_layer(output, call))
        order = list(self.wanted)
        while self._handed < len(order) and order[self._handed] in self._ready:
            self._handed += 1
            if self.hand_over is not None:
                self.hand_over(self._ready.pop(order[self._handed - 1]))

    def _made(self, result: Any) -> list[Array | None]:
        """Return what the layers of an operation made, (batch, vectors, out) or (batch, images, out, height, width)."""
        nothing: list[Array | None] = [None] * len(self._now)
        if not isinstance(result, Tensor) or result.is_quantized or not self.event.is_layer:
            return nothing
        if self._now[0][1].geometry is None:
            if self._bias_behind is not None:
                behind = self._bias_behind
                added = behind.place if behind.values is None else torch.from_numpy(np.array(behind.values)).to(result)
                result = result + added
            made = self.by_sample(result.mT if self.event.turned else result)
            return [copied(made)]
        if self._now[0][1].kind != "conv2d":
            return nothing
        dims = self.event.weights[0].ndim - 2
        images = result if result.ndim == dims + 2 else result[None]
        return [copied(self.images_of_samples(images[:, :, None] if dims == 1 else images))]

    def _with_bias(self, result: Tensor) -> Tensor:
        """Return a result with biases added to the outputs of layers to which the model adds none."""
        dims = self.event.weights[0].ndim - 2
        dim = result.ndim - 1 - (dims or self.event.turned)
        for bias in self._bias_after:
            shape = [1] * result.ndim
            shape[dim] = -1
            values = torch.from_numpy(np.array(bias)).to(result).reshape(shape)
            result.add_(values)
        return result

    def images(self, filters: Filters, images: Tensor, geometry: Mapping[str, Any], given: Tensor) -> None:
        """Note a convolution, which is a layer as a whole."""
        self.event.is_layer = True
        super().images(filters, images, geometry, given)


PACKED = (
    "its weights are packed in a quantised module, and others cannot be put in their place; prune the model before it "
    "is quantised"
)
MADE_INSIDE = (
    "its weights are made inside of the model, so that others cannot be put in their place; prune the model itself "
    "(torch.nn.utils.prune), and capture it again"
)
UNLIKE = "the model runs otherwise on these samples; capture it with an example like them"


def _of_layer(made: Array, call: Call) -> Array:
    """Return outputs as `accelsim.network.execution.outputs_of` does."""
    return made[:, 0] if made.shape[1] == 1 else made


def _as_stored(values: Array, stored: Tensor) -> Array:
    """Return the filters of a transposed convolution as the model has them; see `filters_of_transposed`."""
    per_group = values.shape[1] if values.ndim > 1 else 1
    groups = len(stored) // max(1, per_group)
    return values.reshape(groups, -1, per_group).swapaxes(1, 2).reshape(tuple(stored.shape))


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return where in its memory a tensor begins and ends."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.storage_offset(), tensor.storage_offset() + reach + 1


def _lies_in(part: Tensor, whole: Tensor) -> bool:
    if whole.layout != torch.strided or part.layout != torch.strided or not whole.numel():
        return False
    if storage_key(part)[0] != storage_key(whole)[0]:
        return False
    (first, last), (start, stop) = _span(part), _span(whole)
    return start <= first and last <= stop


def _filled(tensor: Tensor, kept: list[_Kept]) -> Tensor:
    """Return a copy of a tensor, laid alike, with what layers have in its place; raises InputError where more is in it.

    The same strides let the same kernels run, so that equal weights give equal outputs to the last bit.
    """
    start, stop = _span(tensor)
    unique = int(np.prod([size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]))
    weights = [each for each in kept if not each.is_bias]
    if weights and sum(each.place.numel() for each in weights) != unique:
        raise InputError(f"layer {weights[0].layer}: {MADE_INSIDE}")
    flat = torch.as_strided(tensor, (stop - start,), (1,), start).clone()
    for each in kept:
        if each.values is not None:
            place = each.place
            values = np.require(each.values, requirements=["W", "C"]).reshape(tuple(place.shape))
            into = torch.as_strided(flat, place.shape, place.stride(), place.storage_offset() - start)
            into.copy_(torch.from_numpy(values))
    return torch.as_strided(flat, tensor.shape, tensor.stride(), 0).requires_grad_(tensor.requires_grad)


def _with(value: Any, instead: Mapping[int, Tensor]) -> Any:
    """Return an argument with tensors in place of others, also in lists."""
    if isinstance(value, Tensor):
        return instead.get(id(value), value)
    if isinstance(value, (list, tuple)):
        return type(value)(_with(each, instead) for each in value)
    return value
