"""Recurrent operations of PyTorch: the products of inputs and of states, layer by layer and direction by direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from accelsim.errors import InputError
from accelsim.network.torch_capture.recorder import Call, Recorder

RUNS = {"lstm": torch.lstm, "gru": torch.gru, "rnn_tanh": torch.rnn_tanh, "rnn_relu": torch.rnn_relu}


class Product(NamedTuple):
    """One product of a recurrent layer: which of its tensors, and vectors (steps, sequences, features)."""

    weight: int
    bias: int | None
    vectors: Tensor
    steps: int = 1

    def call(self, note: Recorder) -> Call:
        """Return it as a call of a layer."""
        by_sample = note.sequences_of_samples if self.steps == 1 else note.steps_of_samples
        return Call(note.taken(by_sample(self.vectors)), self.steps)


def replayed(
    kind: str, signal: Tensor, states: Any, weights: list[Tensor], biased: bool, layers: int, bidirectional: bool
) -> Iterator[Product]:
    """Yield the products of inputs (steps, sequences, features) and of states, in the order of the weights.

    The operation shows only the states of its last layer, so each layer and direction runs once more by itself.
    """
    held = list(states) if isinstance(states, (list, tuple)) else [states]
    sides = 1 + bidirectional
    each = len(weights) // (layers * sides)
    for layer in range(layers):
        outputs = []
        for side in range(sides):
            at = layer * sides + side
            tensors = weights[at * each : (at + 1) * each]
            ordered = signal.flip(0) if side else signal
            start = [state[at : at + 1].contiguous() for state in held]
            inner = None
            if each > 2 + 2 * biased:
                made, inner = _projected(ordered, start, tensors, biased)
            else:
                before = start if kind == "lstm" else start[0]
                made, *_ = RUNS[kind](ordered, before, tensors, biased, 1, 0.0, False, False, False)
            first = at * each
            yield Product(first, first + 2 if biased else None, ordered)
            yield Product(first + 1, first + 3 if biased else None, torch.cat([start[0], made[:-1]]), len(ordered))
            if inner is not None:
                yield Product(first + each - 1, None, inner, len(ordered))
            outputs.append(made.flip(0) if side else made)
        signal = torch.cat(outputs, 2)


def _projected(signal: Tensor, start: list[Tensor], tensors: list[Tensor], biased: bool) -> tuple[Tensor, Tensor]:
    """Return the projected states of an LSTM and what they are projected from, both (steps, sequences, features)."""
    inputs, recurrent, projection = tensors[0], tensors[1], tensors[-1]
    added = tensors[2] + tensors[3] if biased else 0
    state, cell = start[0][0], start[1][0]
    states, inner = [], []
    for vectors in signal:
        i, f, g, o = (vectors @ inputs.T + state @ recurrent.T + added).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        inner.append(o.sigmoid() * cell.tanh())
        state = inner[-1] @ projection.T
        states.append(state)
    return torch.stack(states), torch.stack(inner)


def sequence(kind: str) -> Callable[..., None]:
    """Return what notes a whole sequence."""

    def noted(note: Recorder, output: Any, given: Mapping[str, Any]) -> None:
        data, weights, biased = given.get("input", given.get("data")), list(given["params"]), given["has_biases"]
        if "batch_sizes" in given:
            name = note.named(weights[0], None, data)
            raise InputError(f"layer {name}: a packed sequence cannot be captured; pad the example instead")
        signal = data.transpose(0, 1) if given["batch_first"] else data
        note.event.recurrent = kind
        layers, bidirectional = given["num_layers"], given["bidirectional"]
        for product in replayed(kind, signal, given["hx"], weights, biased, layers, bidirectional):
            bias = None if product.bias is None else weights[product.bias]
            _product(note, weights[product.weight], bias, data, product)

    return noted


def cell(note: Recorder, output: Any, given: Mapping[str, Any]) -> None:
    """One step: the product of the input and that of the state."""
    data, state = given["input"], given["hx"]
    before = state[0] if isinstance(state, (list, tuple)) else state
    note.event.recurrent = "cell"
    for kind, vectors in (("ih", data), ("hh", before)):
        product = Product(0, None, vectors.reshape(1, -1, vectors.shape[-1]))
        _product(note, given[f"w_{kind}"], given[f"b_{kind}"], data, product)


def _product(note: Recorder, weight: Tensor, bias: Tensor | None, data: Tensor, product: Product) -> None:
    name = note.named(weight, bias, data)
    if name is None:
        note.leave("recurrent product", weight.numel() * product.vectors.shape[:-1].numel(), [weight, data])
    else:
        note.call(name, product.call(note))


RECURRENT: dict[str, Callable[..., None]] = {
    **{kind: sequence(kind) for kind in RUNS},
    **{f"{kind}_cell": cell for kind in RUNS},
}
