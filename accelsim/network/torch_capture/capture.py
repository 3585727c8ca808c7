"""Networks from PyTorch models: what one forward pass multiplies, and by what."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accelsim.errors import InputError, raise_if_any
from accelsim.network.activations import Remade
from accelsim.network.graph import Graph
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut
from accelsim.network.torch_capture.assembly import graph_of
from accelsim.network.torch_capture.listener import Listener
from accelsim.network.torch_capture.naming import Names
from accelsim.network.torch_capture.origins import Origins, tensors_in
from accelsim.network.torch_capture.quantized import not_called
from accelsim.network.torch_capture.recorder import Recorder, has_no_values
from accelsim.network.torch_capture.replay import Passed
from accelsim.network.torch_capture.runtime import Argument, TorchExecutor
from accelsim.network.torch_capture.trace import Trace, outputs_in
from accelsim.network.torch_capture.undisturbed import undisturbed

Array = NDArray[Any]


class Captured(NamedTuple):
    """What one forward pass of a model shows: what a network is made of."""

    name: str
    layers: list[Layer]
    not_simulated: list[LeftOut]
    provenance: dict[str, Any]
    assumptions: tuple[str, ...]
    graph: Graph
    executor: TorchExecutor | None
    """None where samples are a list of tensors of their own."""
    samples: Mapping[str, Array] | None
    """The example as inputs of the network, where there is something that runs it."""


def capture(model: Any, example_input: Any, *, batch_dim: int = 0) -> Captured:
    """Return the layers of a model in the order in which one forward pass of the example calls them.

    example_input: a tensor, a tuple of arguments or a dict of keyword arguments; `batch_dim` of its first tensor counts
    samples; a list of tensors is one sample each. Captured is every product of weights and activations, by whichever
    module or function: `linear`, `matmul` and `einsum`, convolutions of one (as of height 1) and two dimensions and
    transposed ones, LSTM, GRU and RNN with their cells, the projections of attentions, quantised modules. A weight is a
    tensor of the model, or what is made of such tensors alone: views, `torch.nn.utils.prune` and parametrizations
    applied. Weights are not copied; a layer says so where the model was changed in place since. What layers see is kept
    up to MOST_KEPT_BYTES of `recorder`; more is made again by running the model (`Remade`) when it is looked at. The
    pass runs in evaluation mode without gradients, and leaves the model and the random numbers as they were.

    Layers are called as in `accelsim.torch_weights.weights_of`, others by the path of their weight; further parts of a
    tensor that is used in parts are `name.part2` and so on, matrices of several heads `name.0` and so on. Vectors that
    wait for one another are `steps`: the recurrent weights of an LSTM, whose inputs are its states, and the calls of a
    linear layer that runs several times on inputs of one shape. Other repeated calls are a layer each, `name.call2` and
    so on. Padding other than zeros, and padding that differs between the sides, is part of the input. In
    `not_simulated` stand the weights of two or more dimensions that are in no layer, by what they are used for, and
    products of activations by activations, as in an attention.
    Raises InputError for a model that cannot be run, and values that are not finite.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    arguments, keywords, batch = _call_of(model, example_input, batch_dim)
    origins = Origins(model, tensors_in([arguments, keywords]))
    recorder = Recorder(origins, Names(model, origins.held), batch, batch_dim)
    named = named_inputs(model, arguments, keywords)
    takes = _takes(arguments, keywords, named, recorder)
    recorder.makes_again = takes is not None
    trace = Trace(named)
    listener, start = Listener(recorder, model, trace), torch.get_rng_state()
    with undisturbed(model), listener.listening():
        try:
            result = model(*arguments, **keywords)
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
    graph = graph_of(trace, recorder, [layer.name for layer in layers], outputs_in(result))
    executor = samples = None
    if takes is not None:
        passed = Passed.of(layers, recorder, trace, listener.plain, start)
        executor = TorchExecutor(model, arguments, keywords, takes, passed, batch_dim)
        samples = executor.samples()
        layers = made_again(executor, layers, samples)
    return Captured(
        type(model).__name__,
        layers,
        [*recorder.left_out(), *not_called(recorder, model)],
        {"torch": torch.__version__},
        tuple(recorder.assumptions),
        graph,
        executor,
        samples,
    )


def _takes(
    arguments: tuple[Any, ...], keywords: Mapping[str, Any], named: Mapping[str, torch.Tensor], recorder: Recorder
) -> dict[str, Argument] | None:
    """Return the arguments that other samples can stand in for; None where samples are a list of tensors."""
    found = {name: Argument(tensor, recorder.dim_of_samples(tensor.shape)) for name, tensor in named.items()}
    first = next(each for each in (*arguments, *keywords.values()) if _has_samples(each))
    if not isinstance(first, torch.Tensor) or all(each.samples is None for each in found.values()):
        return None
    return found


def made_again(executor: TorchExecutor, layers: list[Layer], samples: Mapping[str, Array]) -> list[Layer]:
    """Return layers with activations that the model makes again where they were too many to keep."""
    by_name = {layer.name: layer for layer in layers}

    def runs(names: Sequence[str]) -> Iterator[tuple[str, Array]]:
        for seen in executor.some_seen([by_name[name] for name in by_name if name in names], samples):
            yield seen.layer, seen.inputs

    return [
        replace(layer, activations=Remade(runs, layer.name, given.shape, given.dtype))
        if isinstance(given := layer.activations, np.ndarray) and has_no_values(given)
        else layer
        for layer in layers
    ]


def named_inputs(model: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors of a call by the names of the arguments, those of lists and dicts as `name.0` and so on."""
    said = [
        each.name
        for each in inspect.signature(model.forward).parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    said += [f"input{number}" for number in range(len(said), len(arguments))]
    found: dict[str, torch.Tensor] = {}

    def put(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, (list, tuple)):
            for number, each in enumerate(value):
                put(f"{name}.{number}", each)
        elif isinstance(value, Mapping):
            for key, each in value.items():
                put(f"{name}.{key}", each)

    for name, value in (*zip(said, arguments, strict=False), *keywords.items()):
        put(name, value)
    return found


def _call_of(model: Any, example: Any, batch_dim: int) -> tuple[tuple[Any, ...], Mapping[str, Any], int]:
    """Return the arguments of the call, and how many samples they hold; raises InputError."""
    problems = []
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        problems.append(f"model: must be a torch.nn.Module, not scripted (got {type(model).__name__})")
    elif any(isinstance(each, nn.parameter.UninitializedTensorMixin) for each in model.parameters()):
        problems.append("model: has lazy modules whose weights have no shape yet; run it once first")
    arguments = example if type(example) in (tuple, list) else () if isinstance(example, Mapping) else (example,)
    keywords = example if isinstance(example, Mapping) else {}
    samples = [each for each in (*arguments, *keywords.values()) if _has_samples(each)]
    if not samples:
        problems.append(
            "example_input: must be a tensor, a tuple of arguments or a dict of keyword arguments with a tensor in it "
            f"(got {type(example).__name__})"
        )
    elif isinstance(samples[0], torch.Tensor) and not 0 <= batch_dim < max(samples[0].ndim, 1):
        problems.append(f"batch_dim: must be a dimension of the example, 0 to {samples[0].ndim - 1} (got {batch_dim})")
    raise_if_any(problems)
    if isinstance(samples[0], torch.Tensor):
        batch = samples[0].shape[batch_dim] if samples[0].ndim else 1
    else:
        batch = len(samples[0])
    if not batch:
        raise InputError("example_input: holds no sample; give at least one")
    return tuple(arguments), keywords, batch


def _has_samples(value: Any) -> bool:
    """Return whether an argument is a tensor, or a list of them with one per sample, as images of several sizes are."""
    return isinstance(value, torch.Tensor) or (
        type(value) in (list, tuple) and bool(value) and all(isinstance(each, torch.Tensor) for each in value)
    )
