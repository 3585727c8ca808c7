"""Networks from PyTorch models: what one forward pass multiplies, and by what."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accelsim.errors import InputError, collecting, raise_if_any
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut
from accelsim.torch_weights import CONVOLUTIONS, RECURRENT, Weight, as_array, weights_of

Array = NDArray[Any]
RUNS = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}


class Captured(NamedTuple):
    """What one forward pass of a model shows: what a network is made of."""

    name: str
    layers: list[Layer]
    not_simulated: list[LeftOut]
    provenance: dict[str, Any]
    assumptions: tuple[str, ...] = ()


def capture(model: Any, example_input: Any, *, batch_dim: int = 0) -> Captured:
    """Return the layers of a model in the order in which one forward pass of the example calls them.

    example_input: a tensor, a tuple of arguments or a dict of keyword arguments; `batch_dim` of its first tensor counts
    samples. Captured are linear layers, convolutions of one (as of height 1) and two dimensions, LSTM, GRU and RNN with
    their cells, and the projections of attentions, under the names of `accelsim.torch_weights.weights_of`: weights as
    they are used (`torch.nn.utils.prune` and parametrizations applied) and inputs of this pass, both copied. The pass
    runs in evaluation mode without gradients, and leaves the model and the random numbers as they were.

    Vectors that wait for one another are `steps`: the recurrent weights of an LSTM, whose inputs are its states, and
    the calls of a linear layer that runs several times on inputs of one shape. Other repeated calls are a layer each,
    `name.call2` and so on. Padding that differs between the sides is part of the input. Modules with weights of two or
    more dimensions that are not captured, and layers that were not called, stand in `not_simulated`.
    Raises InputError for a model that cannot be run, padding other than zeros, and values that are not finite.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    arguments, keywords, batch = _call_of(model, example_input, batch_dim)
    recorder = _Recorder(weights_of(model), batch, batch_dim)
    with _undisturbed(model), recorder.hooked():
        try:
            model(*arguments, **keywords)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"example_input: the forward pass of {type(model).__name__} failed: {error}") from error
    layers = recorder.layers()
    if not layers:
        raise InputError(
            f"model: {type(model).__name__} called no layer that can be simulated; "
            "it needs modules such as nn.Linear, nn.Conv2d, nn.LSTM or nn.MultiheadAttention"
        )
    return Captured(type(model).__name__, layers, recorder.not_simulated(model), {"torch": torch.__version__})


def _call_of(model: Any, example: Any, batch_dim: int) -> tuple[tuple[Any, ...], Mapping[str, Any], int]:
    """Return the arguments of the call, and how many samples they hold; raises InputError."""
    problems = []
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        problems.append(f"model: must be a torch.nn.Module, not scripted (got {type(model).__name__})")
    elif any(isinstance(each, nn.parameter.UninitializedTensorMixin) for each in model.parameters()):
        problems.append("model: has lazy modules whose weights have no shape yet; run it once first")
    arguments = example if type(example) in (tuple, list) else () if isinstance(example, Mapping) else (example,)
    keywords = example if isinstance(example, Mapping) else {}
    tensors = [each for each in (*arguments, *keywords.values()) if isinstance(each, torch.Tensor)]
    if not tensors:
        problems.append(
            "example_input: must be a tensor, a tuple of arguments or a dict of keyword arguments with a tensor in it "
            f"(got {type(example).__name__})"
        )
    elif not 0 <= batch_dim < max(tensors[0].ndim, 1):
        problems.append(f"batch_dim: must be a dimension of the example, 0 to {tensors[0].ndim - 1} (got {batch_dim})")
    raise_if_any(problems)
    return tuple(arguments), keywords, tensors[0].shape[batch_dim] if tensors[0].ndim else 1


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Run a block in evaluation mode; afterwards attributes, buffers, modes and random numbers are as they were."""
    kept = [(module, dict(module.__dict__), dict(module._buffers)) for module in model.modules()]
    values = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {each.device.index for each in (*model.parameters(), *model.buffers()) if each.device.type == "cuda"}
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    try:
        # The fast path of a transformer's encoder goes past its modules.
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad(), torch.random.fork_rng(devices=sorted(devices)):
            for module, _, _ in kept:
                module.training = False
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
        for module, attributes, buffers in kept:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)
        with torch.no_grad():
            for buffer, value in values:
                if not _equal(buffer, value):
                    buffer.copy_(value)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether tensors are known to be equal; PyTorch compares none of 8 bits and fewer."""
    try:
        return bool(torch.equal(one, other))
    except NotImplementedError:
        return False


class _Call(NamedTuple):
    """One use of a layer's weights: samples (batch, vectors, in_features) or (batch, in_channels, height, width)."""

    samples: Array
    steps: int = 1
    geometry: Mapping[str, Any] | None = None


class _Recorder:
    """Writes down what each call of a module multiplies."""

    def __init__(self, weights: dict[str, Weight], batch: int, batch_dim: int) -> None:
        self._weights = weights
        self._batch = batch
        self._batch_dim = batch_dim
        self._names: dict[Any, list[str]] = {}
        for name, weight in weights.items():
            self._names.setdefault(weight.module, []).append(name)
        self._arrays: dict[str, tuple[Array, Array | None]] = {}
        self._calls: dict[str, list[_Call]] = {}
        self._problems: list[str] = []

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Listen to the calls of all modules with weights."""
        handles = [
            module.register_forward_hook(self._listener(module, names), with_kwargs=True)
            for module, names in self._names.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _listener(self, module: Any, names: list[str]) -> Callable[..., None]:
        hear = (
            self._attention
            if isinstance(module, nn.MultiheadAttention)
            else self._recurrent
            if isinstance(module, RECURRENT)
            else self._cell
            if isinstance(module, nn.RNNCellBase)
            else self._convolution
            if isinstance(module, CONVOLUTIONS)
            else self._linear
        )
        return lambda called, arguments, keywords, output: hear(module, names, *arguments, **keywords)

    def _add(self, name: str, samples: torch.Tensor, steps: int = 1, geometry: Mapping[str, Any] | None = None) -> None:
        if name not in self._arrays:
            weight = self._weights[name]
            self._arrays[name] = _copy(weight.weight), None if weight.bias is None else _copy(weight.bias)
        self._calls.setdefault(name, []).append(_Call(_copy(samples), steps, geometry))

    def _linear(self, module: Any, names: list[str], *inputs: Any, **named: Any) -> None:
        # A class made from nn.Linear may call its input by another name.
        self._add(names[0], self._by_sample(next(iter((*inputs, *named.values())))))

    def _by_sample(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return vectors (..., features) as (batch, vectors of a sample, features)."""
        leading = vectors.shape[:-1]
        for dim in (self._batch_dim, 0):
            if dim < len(leading) and leading[dim] == self._batch:
                return vectors.movedim(dim, 0).reshape(self._batch, -1, vectors.shape[-1])
        batch = 1 if math.prod(leading) % self._batch else self._batch
        return vectors.reshape(batch, -1, vectors.shape[-1])

    def _convolution(self, module: Any, names: list[str], input: torch.Tensor) -> None:
        flat = isinstance(module, nn.Conv1d)
        dims = 1 if flat else 2
        images = input if input.ndim == dims + 2 else input[None]
        if module.padding_mode != "zeros":
            self._problems.append(
                f"layer {names[0]}: padding_mode: is '{module.padding_mode}', and only 'zeros' is simulated; "
                "pad the input in a module of its own"
            )
            return
        padding = module.padding
        if isinstance(padding, str):
            reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
            reach = reach if padding == "same" else [0] * dims
            padding = [each // 2 for each in reach]
            if any(each % 2 for each in reach):
                sides = [side for each in reversed(reach) for side in (each // 2, each - each // 2)]
                images, padding = nn.functional.pad(images, sides), [0] * dims
        given = {"stride": module.stride, "padding": padding, "dilation": module.dilation}
        geometry = {key: (1 - (key == "padding"), *pair) if flat else tuple(pair) for key, pair in given.items()}
        self._add(names[0], images[:, :, None] if flat else images, 1, geometry | {"groups": module.groups})

    def _cell(self, module: Any, names: list[str], input: torch.Tensor, hx: Any = None) -> None:
        state = hx[0] if isinstance(hx, (tuple, list)) else hx
        rows = input.reshape(-1, module.input_size)
        if state is None:
            state = rows.new_zeros(len(rows), module.hidden_size)
        for name, vectors in zip(names, (rows, state.reshape(-1, module.hidden_size)), strict=True):
            self._add(name, vectors[:, None])

    def _recurrent(self, module: Any, names: list[str], input: Any, hx: Any = None) -> None:
        """Run layer by layer and direction by direction, since the module shows only the states of its last layer."""
        if not isinstance(input, torch.Tensor):
            raise InputError(f"layer {names[0]}: a packed sequence cannot be captured; pad the example instead")
        signal = input[:, None] if input.ndim == 2 else input.transpose(0, 1) if module.batch_first else input
        steps, batch, _ = signal.shape
        states = [hx] if isinstance(hx, torch.Tensor) else hx
        if states is None:
            states = [signal.new_zeros(len(names) // 2, batch, module.hidden_size)] * 2
        states = [state.reshape(len(names) // 2, batch, -1) for state in states]
        sides = 1 + module.bidirectional
        for layer in range(module.num_layers):
            outputs = []
            for side in range(sides):
                at = layer * sides + side
                inputs, recurrent = (self._weights[name] for name in names[2 * at : 2 * at + 2])
                tensors = [inputs.weight, recurrent.weight]
                tensors += [inputs.bias, recurrent.bias] if module.bias else []
                start = [state[at : at + 1].contiguous() for state in states]
                ordered = signal.flip(0) if side else signal
                held = start if module.mode == "LSTM" else start[0]
                output, *_ = RUNS[module.mode](ordered, held, tensors, module.bias, 1, 0.0, False, False, False)
                self._add(names[2 * at], ordered.transpose(0, 1))
                self._add(names[2 * at + 1], torch.cat([start[0], output[:-1]]).transpose(0, 1), steps)
                outputs.append(output.flip(0) if side else output)
            signal = torch.cat(outputs, 2)

    def _attention(
        self, module: Any, names: list[str], query: Any, key: Any, value: Any, *rest: Any, **options: Any
    ) -> None:
        for name, vectors in zip(names, (query, key, value), strict=True):
            self._add(name, _batch_first(vectors, module.batch_first))
        # The module multiplies by the weights of its last layer without calling it: with an identity matrix in its
        # place, the module's output is that layer's input.
        probe = copy.copy(module)
        unit = nn.Linear(module.embed_dim, module.embed_dim, bias=False, device=query.device, dtype=query.dtype)
        unit.weight.copy_(torch.eye(module.embed_dim))
        probe.__dict__["_modules"] = {**module._modules, "out_proj": unit}
        attended, _ = probe.forward(query, key, value, *rest, **options)
        self._add(self._names[module.out_proj][0], _batch_first(attended, module.batch_first))

    def layers(self) -> list[Layer]:
        """Return what was called, in order; raises InputError with every problem."""
        layers = []
        for name, calls in self._calls.items():
            weight, bias = self._arrays[name]
            for number, call in enumerate(_merged(calls), 1):
                called = name if number == 1 else f"{name}.call{number}"
                with collecting(self._problems):
                    layers.append(_layer(called, weight, bias, call))
        raise_if_any(dict.fromkeys(self._problems))
        return layers

    def not_simulated(self, model: nn.Module) -> list[LeftOut]:
        """Name the modules with weights of which nothing was captured."""
        missing = [
            LeftOut(name, "not called", weight.weight.numel())
            for name, weight in self._weights.items()
            if name not in self._calls
        ]
        for path, module in model.named_modules():
            if module in self._names or "parametrizations" in path.split("."):
                continue
            held = sum(each.numel() for each in module.parameters(recurse=False) if each.ndim >= 2)
            if held:
                missing.append(LeftOut(path or "model", type(module).__name__, held, macs=None))
        return missing


def _batch_first(sequences: torch.Tensor, is_so: bool) -> torch.Tensor:
    """Return sequences of an attention as (batch, tokens, features)."""
    return sequences[None] if sequences.ndim == 2 else sequences if is_so else sequences.transpose(0, 1)


def _merged(calls: list[_Call]) -> list[_Call]:
    """Return the calls of a linear layer on inputs of one shape as one that takes them step by step; others apart."""
    first = calls[0]
    alike = all((each.samples.shape, each.steps) == (first.samples.shape, first.steps) for each in calls)
    if len(calls) == 1 or first.geometry is not None or not alike:
        return calls
    return [_Call(np.concatenate([each.samples for each in calls], axis=1), sum(each.steps for each in calls))]


def _layer(name: str, weight: Array, bias: Array | None, call: _Call) -> Layer:
    samples = call.samples
    if call.geometry is not None:
        return Layer.conv2d(name, weight, bias, activations=samples, input_hw=samples.shape[2:], **call.geometry)
    vectors = samples.shape[1]
    inputs = samples[:, 0] if vectors == 1 else samples
    return Layer.linear(name, weight, bias, tokens=vectors // call.steps, steps=call.steps, activations=inputs)


def _copy(tensor: torch.Tensor) -> Array:
    """Return a copy, which does not change with the model."""
    return np.array(as_array(tensor), order="C")
