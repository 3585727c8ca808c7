"""A network with its layers pruned: the same shapes, with zeros for removed weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim import pruning
from accelsim.errors import InputError, collecting, did_you_mean, listed, placing, raise_if_any, warn
from accelsim.network import Density, Layer, Network
from accelsim.network.execution import outputs_of
from accelsim.network.graph import Operation
from accelsim.network.removal import without
from accelsim.network.samples import with_known_inputs
from accelsim.network.slices import Flags, Numbers, Slices
from accelsim.pruning import Granularity, prune
from accelsim.pruning.criteria import Data
from accelsim.pruning.masks import check_prunable
from accelsim.pruning.spelling import WHOLE_CHANNELS


def update_bytes(network: Network) -> tuple[str, int]:
    """Return the layer of which new values for surviving weights take most memory, and about how many bytes.

    Two matrices (inputs, inputs) and the weights, in double precision.
    """
    needed = {each.name: 8 * (2 * each.products.columns**2 + each.weight_count) for each in network}
    layer = max(needed, key=lambda name: needed[name])
    return layer, needed[layer]


def prune_network(
    network: Network,
    granularity: str | Granularity,
    sparsity: float | Mapping[str, float] | None = None,
    criterion: str = "l1",
    *,
    update: bool = False,
    seed: int = 0,
    ends: bool = False,
) -> Network:
    """Return the network with the weights of every layer pruned; shapes stay, pruned weights are zero.

    sparsity: share of weights to prune in every layer, or by name of layer, where those not named and those at 0 stay
    as they are; N:M patterns set their own. Criteria that look at activations get what the layer sees of the network's
    samples, where these are known, else its own (`Layer.activations`, a batch of real ones), `apoz` by `filter` its
    outputs behind a ReLU; `random` draws with `seed` + n. Samples stay, so that activations of what is returned follow
    from its own weights.
    `channel` and `filter` prune channels of the whole network, each with all that makes it and all that reads it
    (`accelsim.network.slices.Slices`): both are zero then, biases too, and `shrunk` takes them out. One sparsity is the
    share of all weights of the network as given that go, as near as whole channels allow, where every width loses the
    same share; by name of layer it is the share of its inputs (`channel`) or outputs (`filter`), the largest of those
    that share them; one of each width always stays. `channel` ranks by the weights that read, `filter` by those that
    make. Inputs and outputs of the network stay, unless `ends` is set.
    `update` refits the surviving weights to preserve each layer's output on its activations: by least squares where
    channels go, else by the sweep of Optimal Brain Surgeon.
    A layer that the granularity cannot prune, such as `kernel` a linear one, stays as it is, with a warning.
    Raises InputError with every problem where no layer can be pruned so.
    """
    chosen = granularity if isinstance(granularity, Granularity) else Granularity.parse(granularity)
    network, names = with_known_inputs(network), [layer.name for layer in network]
    if isinstance(sparsity, Mapping):
        raise_if_any(
            f"sparsity: network {network.name} has no layer '{name}'" + did_you_mean(name, names)
            for name in sparsity
            if name not in names
        )
    refused: list[str] = []
    if chosen.kind in WHOLE_CHANNELS:
        found = _Channels.of(network, chosen.kind, ends)
        layers = found.pruned(found.shares(sparsity), criterion, update, seed, refused)
    else:
        layers = _layer_by_layer(network, chosen, sparsity, criterion, update, seed, refused)
    refused = _said_once(refused)
    if refused and all(before is after for before, after in zip(network, layers, strict=True)):
        raise InputError(*refused)
    if refused:
        warn("\n".join(f"{problem}; left unpruned" for problem in refused))
    told = {"granularity": str(chosen), "criterion": criterion, "updated": update, "pruned_from": network.name}
    known = {key: value for key, value in network.provenance.items() if key != "accuracy_pruned"}  # of another pruning
    return replace(network, layers=layers, provenance={**known, **told})


def _said_once(problems: Sequence[str]) -> list[str]:
    """Return problems of layers, with the names of all that have the same one before it."""
    by_text: dict[str, list[str]] = {}
    for problem in problems:
        place, _, text = problem.partition(": ")
        by_text.setdefault(text, []).append(place.removeprefix("layer "))
    return [f"layer{'s' * (len(names) > 1)} {listed(names)}: {text}" for text, names in by_text.items()]


def prunable(network: Network, granularity: str | Granularity) -> list[str]:
    """Return the layers of which something can be pruned, by name: not those whose channels all stay."""
    if str(granularity) not in WHOLE_CHANNELS:
        return [layer.name for layer in network]
    slices = Slices.of(network)
    found = {name for width in _widths(network, slices, str(granularity)) for name in width.layers}
    return [layer.name for layer in network if layer.name in found]


def _layer_by_layer(
    network: Network,
    granularity: Granularity,
    sparsity: float | Mapping[str, float] | None,
    criterion: str,
    update: bool,
    seed: int,
    refused: list[str],
) -> list[Layer]:
    """Return the layers, each pruned by itself; adds what cannot be pruned to `refused`."""
    layers: list[Layer] = []
    for number, layer in enumerate(seeing(network, criterion, update=update)):
        share = sparsity.get(layer.name, 0.0) if isinstance(sparsity, Mapping) else sparsity
        layers.append(own := network.layers[number])
        if share != 0:
            with collecting(refused, f"layer {layer.name}: "):
                made = pruned_layer(layer, granularity, share, criterion, update=update, seed=seed + number)
                layers[-1] = replace(made, activations=own.activations)
    return layers


class _Width(NamedTuple):
    """Channels that the same layers make or read, of which a share is pruned."""

    slices: Numbers
    layers: frozenset[str]
    """Names of the layers that rank them: by `channel` those that read, by `filter` those that make them."""

    def gone(self, share: float) -> int:
        """Return how many go; one always stays."""
        return min(round(share * len(self.slices)), len(self.slices) - 1)


@dataclass(frozen=True, eq=False)
class _Channels:
    """A network whose channels are pruned, by the weights of those that read them or of those that make them."""

    network: Network
    kind: str
    slices: Slices
    widths: list[_Width]

    @classmethod
    def of(cls, network: Network, kind: str, ends: bool) -> _Channels:
        """Return what can be pruned of a network; raises InputError where that is nothing."""
        slices = Slices.of(network, ends=ends)
        if slices.alone and len(network) > 1:
            warn(
                f"network {network.name}: it is not known which layer feeds which, so '{kind}' prunes each by itself; "
                "describe how they are connected ([[operation]] and inputs in a network file)"
            )
        widths = [width for width in _widths(network, slices, kind) if len(width.slices) > 1]
        if not widths:
            raise InputError(
                f"network {network.name}: '{kind}' can prune nothing of it: its channels are inputs or outputs of the "
                "network, which go only if that is asked for (--ends, ends=True), or operations mix them; choose "
                "another granularity"
            )
        return cls(network, kind, slices, widths)

    def shares(self, sparsity: float | Mapping[str, float] | None) -> list[float]:
        """Return the share of each width that goes; raises InputError where it cannot be had."""
        if sparsity is None:
            raise InputError(f"sparsity: missing; '{self.kind}' needs the share of weights to prune")
        if not isinstance(sparsity, Mapping):
            return [self._share_of_all(_checked_share(sparsity))] * len(self.widths)
        asked = {name: _checked_share(share) for name, share in sparsity.items() if share}
        found = [max((asked.get(name, 0.0) for name in width.layers), default=0.0) for width in self.widths]
        if asked and not any(found):
            what = "inputs" if self.kind == "channel" else "outputs"
            raise InputError(
                *(
                    f"layer {name}: granularity '{self.kind}': its {what} are those of the network, or go through "
                    "operations that mix channels, and stay"
                    for name in asked
                )
            )
        return found

    def pruned(
        self, shares: Sequence[float], criterion: str, update: bool, seed: int, refused: list[str]
    ) -> list[Layer]:
        """Return the layers, with zeros where channels are gone; adds widths that cannot be ranked to `refused`."""
        scores = np.zeros(len(self.slices))
        barred: set[str] = set()
        by_layer = {name: share for width, share in zip(self.widths, shares, strict=True) for name in width.layers}
        for number, layer in enumerate(seeing(self.network, criterion)):
            numbers = self._ranked(layer)
            if by_layer.get(layer.name) and len(numbers):
                before = len(refused)
                with collecting(refused, f"layer {layer.name}: "):
                    data = criterion_data(layer, criterion, self.kind, seed + number, self.network)
                    found = pruning.scores(layer.weight, self.kind, by_layer[layer.name], criterion, **data)
                    # Norms add up as squares do; which sum is larger does not change.
                    np.add.at(scores, numbers, found.reshape(-1).astype(np.float64) ** (1 + (criterion == "l2")))
                barred |= {layer.name} if len(refused) > before else set()
        stays = np.ones(len(self.slices), bool)
        for width, share in zip(self.widths, shares, strict=True):
            if not barred & width.layers:
                order = np.argsort(-scores[width.slices], kind="stable")
                stays[width.slices[order[len(order) - width.gone(share) :]]] = False
        masked = [self._masked(layer, stays, update, seed) for layer in seeing(self.network, update=update)]
        return [
            replace(each, activations=own.activations) if each is not own else own
            for each, own in zip(masked, self.network, strict=True)
        ]

    def _ranked(self, layer: Layer) -> Numbers:
        return self.slices.readers(layer) if self.kind == "channel" else self.slices.makers(layer)

    def _share_of_all(self, sparsity: float) -> float:
        """Return the share of every width with which the whole network loses so many of its weights, or nearly so."""
        total = sum(layer.weight_count for layer in self.network)

        def gone(share: float) -> float:
            stays = np.ones(len(self.slices), bool)
            for width in self.widths:
                stays[width.slices[len(width.slices) - width.gone(share) :]] = False
            return 1 - self.slices.weights(self.network, stays) / total

        low, high = 0.0, 1.0
        if gone(high) < sparsity:
            raise InputError(
                f"sparsity: {sparsity:g} of the weights of network {self.network.name} cannot be pruned by "
                f"'{self.kind}', which leaves its inputs and outputs and one channel of each width; give at most "
                f"{gone(high):.3g}"
            )
        finest = 1 / (2 * max(len(width.slices) for width in self.widths)) / 4
        while high - low > finest:
            middle = (low + high) / 2
            low, high = (low, middle) if gone(middle) >= sparsity else (middle, high)
        return min(low, high, key=lambda share: abs(gone(share) - sparsity))

    def _masked(self, layer: Layer, stays: Flags, update: bool, seed: int) -> Layer:
        """Return a layer with zeros for the channels that go."""
        rows, columns = self.slices.mask(layer, stays)
        if rows.all() and columns.all():
            return layer
        source, bias = layer.weight_source, layer.bias
        if update and not columns.all():
            updated = _updated(layer, rows, columns, criterion_data(layer, "obs", self.kind, seed)["activations"])
            source = lambda: updated  # noqa: E731

        def zeroed() -> NDArray[Any]:
            weight = np.array(source())
            weight[~rows] = 0
            weight[:, ~columns] = 0
            return weight

        if bias is not None:
            bias = np.where(rows, bias, bias.dtype.type(0))
        return replace(layer, weight_source=zeroed, bias=bias, codebook=None, granularity=self.kind)


def _updated(layer: Layer, rows: Flags, columns: Flags, inputs: Any) -> NDArray[Any]:
    """Return weights whose rows and columns that stay make up for the columns that go."""
    weight = layer.weight
    kept = np.broadcast_to(columns.reshape(-1, *(1,) * (weight.ndim - 2)), weight[rows].shape)
    result = weight.astype(np.result_type(weight.dtype, np.float32))
    result[rows] = pruning.reconstruct(weight[rows], kept, inputs)
    return result


def _widths(network: Network, slices: Slices, kind: str) -> list[_Width]:
    """Return the slices that may go, by the layers that make them, or that read them where none makes them."""
    makers, readers = (np.zeros(len(slices), np.uint64) for _ in range(2))
    # A sum of numbers drawn for its layers stands for each set of them.
    drawn = np.random.default_rng(0).integers(1, 2**63, (2, len(network)), np.uint64)
    for number, layer in enumerate(network):
        makers[np.unique(slices.makers(layer))] += drawn[0, number]
        readers[np.unique(slices.readers(layer))] += drawn[1, number]
    marks = np.where(makers > 0, makers, readers)
    ranked = ((readers if kind == "channel" else makers) > 0) & ~slices.fixed
    names: dict[int, set[str]] = {mark: set() for mark in dict.fromkeys(marks[ranked].tolist())}
    for layer in network:
        numbers = slices.readers(layer) if kind == "channel" else slices.makers(layer)
        for mark in np.unique(marks[numbers[ranked[numbers]]]).tolist():
            names[mark].add(layer.name)
    members = np.flatnonzero(ranked)
    order = members[np.argsort(marks[members], kind="stable")]
    parts = np.split(order, np.flatnonzero(np.diff(marks[order])) + 1)
    return [_Width(part, frozenset(names[int(marks[part[0]])])) for part in parts if len(part)]


def _checked_share(share: object) -> float:
    """Return a share of weights; raises InputError for what is none."""
    if not (isinstance(share, int | float | np.floating) and 0 <= share < 1):
        raise InputError(f"sparsity: must be the share of weights to prune, at least 0 and below 1 (got {share!r})")
    return float(share)


def pruned_layer(
    layer: Layer,
    granularity: Granularity,
    sparsity: float | None,
    criterion: str = "l1",
    *,
    update: bool = False,
    seed: int = 0,
) -> Layer:
    """Return one layer pruned, not by whole channels; for the rest see `prune_network`."""
    data = criterion_data(layer, criterion, granularity, seed)
    inputs = criterion_data(layer, "obs", granularity, seed)["activations"] if update else None
    check_prunable(layer.weight_shape, granularity, sparsity, criterion, data, pad=True)
    source = layer.weight_source

    def made() -> NDArray[Any]:
        with placing(f"layer {layer.name}"):
            weight = source()
            if update and criterion == "obs":
                return pruning.sparsegpt(weight, granularity, sparsity, activations=inputs, pad=True).weight
            kept = prune(weight, granularity, sparsity, criterion, pad=True, **data)
            if update:
                return pruning.reconstruct(weight, kept, inputs, exact=False)
            return np.where(kept, weight, weight.dtype.type(0))

    if update:
        updated = made()
        return replace(layer, weight_source=lambda: updated, codebook=None, granularity=str(granularity))
    if criterion in LOOK_AT_ACTIVATIONS:  # which need not be kept: a bit says what became of a weight
        made = _Kept.of(made(), source)
    return replace(layer, weight_source=made, codebook=None, granularity=str(granularity))


@dataclass(frozen=True, eq=False)
class _Kept:
    """Weights of which a mask of bits says which are left."""

    source: Callable[[], NDArray[Any]]
    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, pruned: NDArray[Any], source: Callable[[], NDArray[Any]]) -> _Kept:
        """Return weights that are pruned, of which `source` has all."""
        return cls(source, np.packbits(pruned != 0))

    def __call__(self) -> NDArray[Any]:
        """Return the weights, with zeros where they are gone."""
        weight = self.source()
        kept = np.unpackbits(self.bits, count=weight.size).view(bool).reshape(weight.shape)
        return np.where(kept, weight, weight.dtype.type(0))


def shrunk(network: Network, *, ends: bool = False) -> Network:
    """Return the network without the channels that `filter` or `channel` pruned; any other as it is. See `removed`."""
    return removed(network, ends=ends) if any(layer.granularity in WHOLE_CHANNELS for layer in network) else network


def removed(network: Network, *, ends: bool = False) -> Network:
    """Return the network without the channels that nobody reads, or that are zero, in every layer that they touch.

    What is left computes the same: see `accelsim.network.slices`. Inputs and outputs of the network stay unless `ends`
    is set. Real activations lose their channels, and samples are kept: what layers see follows from them.
    """
    slices = Slices.of(network, ends=ends)
    return without(network, slices, slices.needed(network))


LOOK_AT_ACTIVATIONS = ("obd", "obs", "wanda", "regression", "apoz")
"""Criteria that do."""


def seeing(network: Network, criterion: str = "l1", *, update: bool = False) -> Iterator[Layer]:
    """Go through the layers of a network, each with what it sees of the samples where pruning looks at it."""
    if network.samples is None or not (update or criterion in LOOK_AT_ACTIVATIONS):
        yield from network
        return
    for seen in network.seen():
        yield replace(network[seen.layer], activations=seen.inputs)


def criterion_data(
    layer: Layer, criterion: str, granularity: str | Granularity, seed: int, network: Network | None = None
) -> Data:
    """Return what a criterion looks at beside the weights, as far as the layer has it, and the network around it."""
    match criterion:
        case "scale":
            return {"gamma": _batch_norm_scales(layer, str(granularity), network)}
        case "random":
            return {"seed": seed}
        case _ if criterion in LOOK_AT_ACTIVATIONS:
            given = layer.activations
            if given is None or isinstance(given, Density):
                raise InputError(
                    f"criterion '{criterion}': needs real activations, the layer has "
                    f"{'none' if given is None else 'a density'}; give it a batch of them, or use 'l1' or 'l2'"
                )
            samples = given.reshape(-1, *layer.input_shape)
            if criterion == "apoz" and str(granularity) == "channel":
                return {"outputs": samples}  # of the layer before, behind its ReLU
            if criterion == "apoz":
                return {"outputs": np.maximum(outputs_of(layer, samples), 0)}
            if layer.groups > 1:
                raise InputError(f"criterion '{criterion}': does not know grouped convolutions; use 'l1' or 'l2'")
            return {"activations": layer.lower(samples)}
    return {}


def _batch_norm_scales(layer: Layer, granularity: str, network: Network | None) -> NDArray[Any]:
    """Return the scales of the batch norm behind a layer (`filter`), or of that in front of it (`channel`)."""
    graph = None if network is None else network.graph
    found: Operation | None = None
    if graph is not None and granularity == "filter":
        users = [graph.by_name[name] for name in graph.users[layer.name] if name in graph.by_name]
        found = next((each for each in users if _has_scales(each)), None)
    elif graph is not None and granularity == "channel":
        found = graph.by_name.get(graph.takes(layer.name)[0])
        while found is not None and not _has_scales(found):  # through what leaves channels as they are
            single = len(found.inputs) == 1 and found.channels == "same"
            found = graph.by_name.get(found.inputs[0]) if single else None
    if found is None:
        place = "behind" if granularity == "filter" else "in front of"
        raise InputError(
            f"criterion 'scale': ranks filters and channels by the scales of a batch norm, and none stands {place} "
            "this layer in the network (a file of weights alone has none, nor one in which they are folded); use 'l1'"
        )
    return np.asarray(found.attributes["scale"])


def _has_scales(operation: Operation) -> bool:
    return operation.does == "BatchNormalization" and operation.attributes.get("scale") is not None
