"""Weights from a file in place of a network's own: the network keeps its geometry."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.config import shipped_names
from accelsim.errors import InputError, did_you_mean, listed, raise_if_any
from accelsim.network.files import TENSOR_SUFFIXES, TensorFile, is_tensors, open_tensors
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut
from accelsim.network.matching import Match, Piece, best_match, spelled
from accelsim.network.network import Network
from accelsim.network.readers import load_network
from accelsim.network.reading import Reading
from accelsim.network.roles import Logical, Role, Roles, read_roles, turned
from accelsim.network.writer import GRANULARITY_KEY, claimed, parent_of

MOST_TOLD = 5
"""Layers that are told one by one; of more, the first few and how many others there are."""


def with_weights(
    network: Network, path: str | Path, *, key: str | None = None, transpose: Sequence[str] = ()
) -> Network:
    """Return a network with the weights of a file, or a folder of shards, in place of its own; its geometry stays.

    A layer X of the network is X in the file, or has one of its names in `Network.aliases`; before them all may stand
    one prefix, such as `model.`. Projections that one of the two keeps joined, such as q, k and v, are split or joined.
    Biases and codebooks come along, none where the file has none; activations where it has them. The last layer may
    have another number of outputs, which is told. What else the file holds is in `not_simulated`, beside the operations
    that the network leaves out. key, transpose: as in `load_network`, transpose by names of the file.
    Raises InputError with every layer that the file lacks or has in another shape.
    """
    path = Path(path)
    if not is_tensors(path):
        raise InputError(f"{path}: weights are in a {', '.join(TENSOR_SUFFIXES)} file, or a folder of shards")
    reading = Reading(key=key, transpose=tuple(transpose))
    return put_into(network, open_tensors(path, reading), reading)


def put_into(network: Network, file: TensorFile, reading: Reading) -> Network:
    """Return a network with the weights of an open file; see `with_weights`."""
    path = file.path
    roles = read_roles(file, reading)
    raise_if_any(f"{path}: {problem}" for problem in roles.problems)
    held = _Held(roles)
    match = held.match(network)
    if len(match.fitting) < len(network):
        raise_if_any(f"{path}: {problem}" for problem in _problems(network, held, match))
    assumptions = [each for each in roles.assumptions if each not in roles.left_open] + held.settle(network, match)
    problems: list[str] = []
    layers = [held.layer(layer, match.fitting[layer.name], problems) for layer in network]
    raise_if_any(f"{path}: {problem}" for problem in problems)
    return replace(
        network,
        layers=claimed(layers, file.metadata.get(GRANULARITY_KEY, "")),
        notes=f"The weights are those of {path.name}, whatever is said of weights here. {network.notes}".strip(),
        not_simulated=held.left_out(network, match),
        assumptions=[*network.assumptions, *assumptions],
        provenance={"weights": path.name, **parent_of(path, file.metadata)},
    )


class _Held:
    """The layers that a file holds, and how they fit those of a network."""

    def __init__(self, roles: Roles) -> None:
        self.roles = roles
        self.layers = {spelled(name): role for name, role in roles.layers.items()}
        in_layers = {part for role in roles.layers.values() for part in role.weight.parts}
        for name, array in roles.logical.items():
            # What nothing proves to be a layer may be one to a network that has a layer of its name.
            if len(array.shape) > 1 and in_layers.isdisjoint(array.parts):
                self.layers.setdefault(spelled(name.removesuffix(".weight")), Role(name, "linear", array))
        self.last = ""
        self.turns_squares = False

    def match(self, network: Network) -> Match:
        """Return which of the layers are those of a network."""
        self.last = network.layers[-1].name
        return best_match(network, list(self.layers), lambda layer, piece: self.weight(layer, piece) is not None)

    def weight(self, layer: Layer, piece: Piece) -> Logical | None:
        """Return the weights of a layer in its shape, or None where the file has them in another."""
        found = [self.layers[name].weight for name in piece.names]
        wanted = layer.weight_shape
        if piece.rows is not None:
            whole = self._shaped(found[0], (piece.of, *wanted[1:]))
            return None if whole is None else whole.rows(*piece.rows)
        if len(found) == 1:
            shaped = self._shaped(found[0], wanted)
            if shaped is None and layer.name == self.last and found[0].shape[1:] == wanted[1:]:
                return found[0]
            return shaped
        rows = [_rows(each, wanted[1:]) for each in found]
        parts = [self._shaped(each, (count, *wanted[1:])) for each, count in zip(found, rows, strict=True)]
        sound = [each for each in parts if each is not None]
        return _joined(sound, wanted) if len(sound) == len(found) and sum(rows) == wanted[0] else None

    def _shaped(self, weight: Logical, wanted: tuple[int, ...]) -> Logical | None:
        """Return weights in a shape that is theirs, theirs if they are turned, or the same matrix."""
        if weight.shape == wanted:
            return turned(weight) if self.turns_squares and _turned_shape(wanted) == wanted else weight
        if _turned_shape(weight.shape) == wanted:
            return turned(weight)
        if weight.shape[0] == wanted[0] and weight.size == math.prod(wanted) and 2 in (len(weight.shape), len(wanted)):
            # A linear layer that a library has as a convolution over its whole input, or the other way round.
            return weight.changed(wanted, lambda array: array.reshape(wanted))
        return None

    def settle(self, network: Network, match: Match) -> list[str]:
        """Turn square weights, too, where all others are stored inputs first; return what is taken for granted."""
        square, straight, other = [], 0, 0
        for layer in network:
            piece = match.fitting[layer.name]
            shape = self.layers[piece.names[0]].weight.shape
            if _turned_shape(shape) == shape == layer.weight_shape:
                square.append(layer.name)
            elif shape[1:] == layer.weight_shape[1:]:
                straight += 1
            else:
                other += _turned_shape(shape)[1:] == layer.weight_shape[1:]
        said = []
        if match.also:
            said.append(
                f"{network.name}: its layers are in the file several times, under '{match.prefix}' and under "
                f"{' and '.join(repr(each) for each in match.also)}; the first are taken: take them out of the file to "
                "run others"
            )
        if square and other and not straight:
            self.turns_squares = True
            said.append(
                f"{listed(square, 3)}: square, and taken as stored (in, out) as all other weights of the "
                "file are by their shapes; store all weights (out, in) if they are not"
            )
        last = network.layers[-1]
        outputs = self._outputs(last, match.fitting[last.name])
        if outputs != last.out_features:
            said.append(
                f"{last.name}: has {outputs} outputs, as the file has, where {network.name} has {last.out_features}"
            )
        return said

    def _outputs(self, layer: Layer, piece: Piece) -> int:
        weight = self.weight(layer, piece)
        return layer.out_features if weight is None else weight.shape[0]

    def layer(self, layer: Layer, piece: Piece, problems: list[str]) -> Layer:
        """Return a layer with what the file has of it, or as it was where something is wrong with that."""
        roles = [self.layers[name] for name in piece.names]
        weight = self.weight(layer, piece)
        found = [
            f"layer {layer.name}: {problem}"
            for role in roles
            for array in role.arrays.values()
            if (problem := array.problem(self.roles.file))
        ]
        if found or weight is None:
            problems += found
            return layer
        outputs, geometry = weight.shape[0], layer.convolution
        if geometry is not None and outputs != geometry.out_channels:
            geometry = replace(geometry, out_channels=outputs)
        first = roles[0]
        stored = " ".join(role.owner or role.name for role in roles)
        made = replace(
            layer,
            out_features=outputs,
            convolution=geometry,
            weight_source=weight.read,
            bias=_bias(roles, piece),
            activations=layer.activations if first.activations is None else first.activations.read(),
            codebook=first.codebook.read() if first.codebook is not None and len(roles) == 1 else None,
            granularity=None,
            stored_as=weight.kept_as(self.roles.file),
            weights_key=stored if piece.rows is None else f"{stored} {piece.rows}",
        )
        problems += made.problems
        return made

    def left_out(self, network: Network, match: Match) -> list[LeftOut]:
        """Return what the network leaves out, with the weights that the file has of it, and what else is there."""
        used: Counter[str] = Counter()
        for layer in network:
            piece = match.fitting[layer.name]
            for name in piece.names:
                role = self.layers[name]
                used[role.name] += role.weight.size if piece.rows is None else layer.weight_count
        others = {
            name: LeftOut(name, f"not in {network.name}", rest, None)
            for name, role in self.roles.layers.items()
            if (rest := role.weight.size - used[name]) > 0
        }
        taken = {self.layers[name].name for piece in match.fitting.values() for name in piece.names}
        others |= {each.name: each for each in self.roles.left_out if not taken & {each.name, f"{each.name}.weight"}}
        kept = []
        for entry in network.left_out:
            own = _of_file(entry, network.aliases.get(entry.name, ()), others)
            if own is not None:
                kept.append(replace(others.pop(own), kind=entry.kind, macs=entry.macs))
            else:
                kept.append(replace(entry, weights=0))
        return [*kept, *others.values()]


def _of_file(entry: LeftOut, aliases: Sequence[str], others: dict[str, LeftOut]) -> str | None:
    """Return what in a file is a tensor that the network leaves out, by its name or an alias, under any one prefix."""
    if not entry.weights and not entry.macs:
        return None
    for wanted in (entry.name, *aliases):
        found = [name for name in others if f".{spelled(name).removesuffix('.weight')}".endswith(f".{spelled(wanted)}")]
        if len(found) == 1:
            return found[0]
    return None


def _turned_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-3:-1], *shape[:-2])


def _rows(weight: Logical, rest: tuple[int, ...]) -> int:
    """Return how many outputs weights have whose other dimensions are given."""
    return weight.shape[0] if weight.shape[1:] == rest else weight.shape[-1]


def _joined(parts: Sequence[Logical], shape: tuple[int, ...]) -> Logical:
    """Return weights whose outputs follow one another."""

    def read() -> NDArray[Any]:
        return np.concatenate([each.read() for each in parts])

    return Logical(parts[0].name, shape, tuple(part for each in parts for part in each.parts), read)


def _bias(roles: Sequence[Role], piece: Piece) -> NDArray[Any] | None:
    """Return the bias of a layer that is made of these; of those without one zeros, where others have one."""
    biases = [None if role.bias is None else role.bias.read() for role in roles]
    if all(bias is None for bias in biases):
        return None
    if piece.rows is not None:
        bias = biases[0]
        return None if bias is None else bias[slice(*piece.rows)]
    if len(roles) == 1:
        return biases[0]
    rows = [_rows(role.weight, role.weight.shape[1:]) for role in roles]
    return np.concatenate([np.zeros(n) if bias is None else bias for bias, n in zip(biases, rows, strict=True)])


def _problems(network: Network, held: _Held, match: Match) -> list[str]:
    """Say which layers a file lacks or has in another shape, in one line each or, of many, all together."""
    lacking = [layer for layer in network if layer.name not in match.fitting]
    others = _fitting_networks(network, held, len(match.fitting)) if len(lacking) > 1 else []
    if others:
        return [f"has the layers of {' and '.join(others)}, not those of {network.name}; use its weights there"]
    shapes = {
        name: " and ".join(str(held.layers[each].weight.shape) for each in piece.names)
        for name, piece in match.misfits.items()
    }
    if len(shapes) > 1 and 2 * len(match.fitting) + 2 * len(shapes) >= len(network):
        name = next(iter(shapes))
        missing = len(lacking) - len(shapes)
        gone = f" and {missing} are not there" if missing else ""
        return [
            f"is of another variant of {network.name}: {len(shapes)} of its {len(network)} layers have other shapes in "
            f"the file{gone}, such as {name}, {shapes[name]} in the file and {network[name].weight_shape} in the "
            "network; to run that variant, export the model to ONNX, or capture it with accelsim.Network.from_torch"
        ]
    known = held.roles.names_like("weight")
    lines = []
    for layer in lacking[:MOST_TOLD]:
        if layer.name in shapes:
            said = f"has shape {shapes[layer.name]} in the file, the network has {layer.weight_shape}"
        else:
            wanted = f"{layer.name}.weight"
            said = f"the file has no tensor '{wanted}'{did_you_mean(wanted, known)}"
        lines.append(f"layer {layer.name}: {said}")
    more = len(lacking) - len(lines)
    if more:
        lines.append(
            f"{more} more of the {len(network)} layers of {network.name} are not in the file or have other shapes; "
            "name the file's tensors in a network file, as `accelsim schema network` describes"
        )
    return lines


def _fitting_networks(network: Network, held: _Held, more_than: int) -> list[str]:
    """Return the shipped networks, of more layers than so many, that are in a file whole."""
    fitting = []
    for name in shipped_names("workloads"):
        other = load_network(name)
        if name != network.name and len(other) > more_than and len(held.match(other).fitting) == len(other):
            fitting.append(name)
    return fitting
