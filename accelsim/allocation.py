"""How much to prune where: by one threshold, by sensitivity, or by what a chip gains."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from accelsim.config import text_of
from accelsim.engines import engine_of
from accelsim.errors import InputError, did_you_mean, raise_if_any
from accelsim.evaluation import Evaluate, as_computed, default_evaluation, load_evaluation, name_of
from accelsim.files import write_whole
from accelsim.formats.precision import Precision
from accelsim.hardware import Hardware, load_hardware
from accelsim.inputs import together
from accelsim.kinds import KINDS
from accelsim.network import Density, Network, load_network
from accelsim.network.samples import with_known_inputs
from accelsim.pruned import criterion_data, prunable, prune_network, seeing, shrunk
from accelsim.pruning import Granularity
from accelsim.pruning.criteria import Data
from accelsim.pruning.threshold import streamed_sparsities
from accelsim.simulation import simulate
from accelsim.totals import over_layers

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str], None]

SPARSITIES = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""0.05 to 0.95."""

METRICS = ("cycles", "time_us", "energy_pj", "storage_bits")
"""What a budget may limit: sums over the layers of a network."""


class Scores:
    """Scores of a network by per-layer sparsities; each is computed once, and kept in a file where one is given.

    They are of the network as a chip of this precision computes it. The file is JSON, written after every score, so
    that a run that was broken off goes on where it was. Scores of another network, granularity, criterion, evaluation
    or precision are not mixed: they have other keys.
    """

    def __init__(
        self,
        network: Network,
        granularity: str,
        criterion: str,
        evaluate: Evaluate | str | None,
        seed: int,
        store: str | Path | None,
        precision: Precision | None = None,
    ) -> None:
        self.precision = precision or Precision()
        self.network, self.granularity, self.criterion, self.seed = network, granularity, criterion, seed
        chosen = evaluate or default_evaluation(network)
        name = name_of(chosen)
        self._evaluate = load_evaluation(chosen, network)
        self._path = None if store is None else Path(store)
        weights = hashlib.sha256()
        for layer in network:
            weights.update(f"{layer.name} {layer.weight.shape} {layer.weight.dtype}".encode())
            weights.update(np.ascontiguousarray(layer.weight).tobytes())
        entering = dict(network.samples or {}) | ({} if network.labels is None else {"labels": network.labels})
        for entry, array in entering.items():
            weights.update(f"{entry} {array.shape} {array.dtype}".encode())
            weights.update(np.ascontiguousarray(array).tobytes())
        self._key = f"{weights.hexdigest()[:32]} {granularity} {criterion} {seed} {name} {precision}"
        self._known: dict[str, float] = _read(self._path)

    def pruned(self, sparsities: Mapping[str, float]) -> Network:
        """Return the network with these layers pruned."""
        return prune_network(self.network, self.granularity, sparsities, self.criterion, seed=self.seed)

    def __call__(self, sparsities: Mapping[str, float]) -> float:
        """Return the score of the network with these layers pruned."""
        pruned = {name: share for name, share in sorted(sparsities.items()) if share}
        key = f"{self._key} {json.dumps(pruned)}"
        if key not in self._known:
            network = self.pruned(pruned) if pruned else self.network
            self._known[key] = float(self._evaluate(as_computed(network, self.precision)))
            _write(self._path, self._known)
        return self._known[key]


def global_sparsities(
    network: Network | str | Path, sparsity: float, granularity: str = "fine", criterion: str = "l1", *, seed: int = 0
) -> dict[str, float]:
    """Return the share to prune of each layer by one threshold over all; see `accelsim.pruning.global_sparsities`.

    Of whole channels `sparsity` is that of the channels themselves, each by the weights that rank it.
    """
    net = with_known_inputs(load_network(network))
    names = prunable(net, granularity)

    def layers() -> Iterator[tuple[str, Any, Data]]:
        for number, layer in enumerate(seeing(net, criterion)):
            if layer.name in names:
                yield layer.name, layer.weight, criterion_data(layer, criterion, granularity, seed + number, net)

    return streamed_sparsities(layers, sparsity, granularity, criterion)


def sensitivity(
    network: Network | str | Path,
    granularity: str = "fine",
    sparsities: Sequence[float] = SPARSITIES,
    criterion: str = "l1",
    *,
    evaluate: Evaluate | str | None = None,
    seed: int = 0,
    store: str | Path | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Prune one layer at a time and measure; returns one row per layer that can be pruned, and sparsity.

    evaluate: a function of the pruned network that returns a score, higher is better, or the name of one in
    `accelsim.evaluation.EVALUATIONS`; None is `labels` where those of its samples are known, else how well each
    layer's outputs are kept on its own activations. N:M patterns have one sparsity. store: a file for the scores,
    from which an interrupted run continues.
    Columns: network, layer, granularity, criterion, sparsity, score, score_loss (below the unpruned network).
    Raises InputError with every problem of the arguments.
    Source: Han et al., NeurIPS 2015, section 4.1 and figure 6.
    """
    import pandas as pd

    net = with_known_inputs(load_network(network))
    chosen, shares = Granularity.parse(granularity), _shares(granularity, sparsities)
    scores = Scores(net, granularity, criterion, evaluate, seed, store)
    whole = scores({})
    rows = []
    for layer in prunable(net, chosen):
        for share in shares:
            if progress is not None:
                progress(f"{layer} at {share:.0%}")
            try:
                scores.pruned({layer: share})
            except InputError:  # this granularity cannot prune this layer, or not as far
                break
            score = scores({layer: share})
            rows.append(
                {
                    "network": net.name,
                    "layer": layer,
                    "granularity": str(chosen),
                    "criterion": criterion,
                    "sparsity": share,
                    "score": score,
                    "score_loss": whole - score,
                }
            )
    if not rows:
        raise InputError(
            f"network {net.name}: '{granularity}' can prune none of its layers; choose another granularity"
        )
    return pd.DataFrame(rows)


class Allocation(NamedTuple):
    """Per-layer sparsities that meet a budget, the network pruned by them, its cost and score, and how they came.

    The score is of the network as the chip computes it, the network itself as it was given but for what is pruned.
    """

    sparsities: dict[str, float]
    network: Network
    cost: float
    score: float
    steps: pd.DataFrame
    """One row per step: which layer was pruned further, how far, and cost and score of the network after it."""
    precision: str
    """Number formats of the chip, weights x activations."""
    activations: str
    """Whose they are in what was simulated, as `accelsim.inputs.WORDS` says it."""


class _Costs:
    """What a network costs on a chip, pruned so and so."""

    def __init__(self, scores: Scores, chip: Hardware, metric: str, activations: float | Density | None) -> None:
        self.scores, self.chip, self.metric, self.activations = scores, chip, metric, activations
        self.whose = ""

    def of(self, sparsities: Mapping[str, float]) -> dict[str, float]:
        """Return the cost of each layer and operation of the network pruned by these sparsities, as simulated.

        A layer that the chip cannot run costs infinitely much, so that no budget allows it; an operation that it leaves
        to others costs it nothing.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # each was said in the first call
            runs = shrunk(self.scores.pruned(sparsities)) if any(sparsities.values()) else self.scores.network
            # Their score is asked for elsewhere.
            table = simulate(replace(runs, labels=None), self.chip, self.activations, seed=self.scores.seed)
        self.whose = together(table["activations"])
        found = table[self.metric].astype(float).to_numpy()
        lacking = np.where(table["kind"].isin(list(KINDS)), 0.0, np.inf)
        return dict(zip(table["layer"], np.where(np.isnan(found), lacking, found).tolist(), strict=True))

    def total(self, sparsities: Mapping[str, float]) -> float:
        """Return the cost of the network pruned by these sparsities."""
        return sum(self.of(sparsities).values())


def allocate(
    network: Network | str | Path,
    hardware: Hardware | str | Path,
    budget: float,
    metric: str = "time_us",
    granularity: str = "fine",
    criterion: str = "l1",
    *,
    sparsities: Sequence[float] = SPARSITIES,
    steps: int = 20,
    evaluate: Evaluate | str | None = None,
    activations: float | Density | None = None,
    seed: int = 0,
    store: str | Path | None = None,
    progress: Progress | None = None,
) -> Allocation:
    """Choose how much of each layer to prune, so that the network costs at most `budget` on a chip and loses least.

    Progressively: `steps` times at least, the layer is pruned further whose pruning saves a step's share of the budget
    and leaves the best score of all; what is saved is simulated. metric: one of METRICS, summed over layers; budget in
    its unit. evaluate and store as in `sensitivity`, but scores are of the network as the chip computes it. activations
    as in `simulate`.
    Raises InputError with every problem of the arguments, and for a budget that no sparsity on offer reaches.
    Source: Yang et al., ECCV 2018 (NetAdapt), algorithm 1, without training between steps.
    """
    import pandas as pd

    net, chip = with_known_inputs(load_network(network)), load_hardware(hardware)
    shares = _shares(granularity, sparsities)
    _check_budget(budget, metric, steps)
    scores = Scores(net, granularity, criterion, evaluate, seed, store, engine_of(chip).precision(chip))
    costs = _Costs(scores, chip, metric, activations)
    names = prunable(net, granularity)
    chosen: dict[str, float] = {}
    by_share = {0.0: costs.of({})} | {share: costs.of(dict.fromkeys(names, share)) for share in shares}
    total = sum(by_share[0.0].values())
    cannot = [name for name, each in by_share[0.0].items() if each == np.inf]
    raise_if_any(f"layer {name}: {chip.name} cannot run it as given; choose a chip that can" for name in cannot)
    least = min(sum(each.values()) for each in by_share.values())
    if least > budget:
        raise InputError(
            f"budget: {budget:g} {metric} cannot be reached by '{granularity}' on {chip.name}: all layers pruned "
            f"cost {least:g}, as given {total:g}; raise the budget, or allow higher sparsities"
        )
    share_of_step = (total - budget) / steps
    history = [{"step": 0, "layer": "-", "sparsity": 0.0, metric: total, "score": scores({})}]
    while total > budget:
        wanted = min(share_of_step, total - budget)
        candidates = []
        for name in names:
            now = chosen.get(name, 0.0)
            saved = {share: by_share[now][name] - by_share[share][name] for share in shares if share > now}
            enough = [share for share, gain in saved.items() if gain >= wanted]
            if saved and max(saved.values()) > 0:
                share = min(enough) if enough else max(saved, key=lambda each: saved[each])
                candidates.append((bool(enough), name, share, saved[share]))
        reaching = [each for each in candidates if each[0]] or candidates
        if not reaching:
            raise InputError(f"budget: {budget:g} {metric} is not reached layer by layer: {total:g} is left")
        tried = {(name, share): scores(chosen | {name: share}) for _, name, share, _ in reaching}
        if progress is not None:
            progress(f"{metric} {total:.4g} of {budget:.4g}")
        _, name, share, _ = max(reaching, key=lambda each: (tried[each[1], each[2]], each[3]))
        chosen[name] = share
        total = costs.total(chosen)
        history.append(
            {"step": len(history), "layer": name, "sparsity": share, metric: total, "score": tried[name, share]}
        )
    return Allocation(
        chosen, scores.pruned(chosen), total, scores(chosen), pd.DataFrame(history), str(scores.precision), costs.whose
    )


def uniform(
    network: Network | str | Path,
    hardware: Hardware | str | Path,
    budget: float,
    metric: str = "time_us",
    granularity: str = "fine",
    criterion: str = "l1",
    *,
    evaluate: Evaluate | str | None = None,
    activations: float | Density | None = None,
    seed: int = 0,
    store: str | Path | None = None,
) -> Allocation:
    """Choose the smallest sparsity, the same for all layers and in whole per cent, that meets a budget; see `allocate`.

    Raises InputError with every problem of the arguments, and for a budget that 99 % do not reach.
    """
    import pandas as pd

    net, chip = with_known_inputs(load_network(network)), load_hardware(hardware)
    _check_budget(budget, metric, 1)
    scores = Scores(net, granularity, criterion, evaluate, seed, store, engine_of(chip).precision(chip))
    costs = _Costs(scores, chip, metric, activations)
    shares = _shares(granularity, [percent / 100 for percent in range(1, 100)])
    names = [layer.name for layer in net]
    every = [{}, *(dict.fromkeys(names, share) for share in shares)]
    low, high = 0, len(every) - 1
    if costs.total(every[high]) > budget:
        raise InputError(
            f"budget: {budget:g} {metric} is not reached by '{granularity}' on {chip.name} with all layers at "
            f"{shares[-1]:.0%}; raise the budget"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if costs.total(every[middle]) <= budget else (middle + 1, high)
    chosen = every[high]
    total, score = costs.total(chosen), scores(chosen)
    steps = pd.DataFrame(
        [{"step": 0, "layer": "all", "sparsity": next(iter(chosen.values()), 0.0), metric: total, "score": score}]
    )
    return Allocation(chosen, scores.pruned(chosen), total, score, steps, str(scores.precision), costs.whose)


def _check_budget(budget: float, metric: str, steps: int) -> None:
    problems = []
    if not (isinstance(budget, int | float | np.number) and 0 < budget < np.inf):
        problems.append(f"budget: must be above 0 (got {budget!r})")
    if metric not in METRICS:
        problems.append(f"metric: '{metric}' is not known{did_you_mean(str(metric), METRICS)}")
    if not (isinstance(steps, int) and steps >= 1):
        problems.append(f"steps: must be a whole number, at least 1 (got {steps!r})")
    raise_if_any(problems)


def _shares(granularity: str, sparsities: Sequence[float]) -> list[float]:
    """Return the sparsities to try, in order: of N:M its own; raises InputError for what is none."""
    chosen = Granularity.parse(granularity)
    if chosen.sparsity is not None:
        return [chosen.sparsity]
    raise_if_any(
        f"sparsities: must be above 0 and below 1 (got {share!r})"
        for share in sparsities
        if not (isinstance(share, int | float) and 0 < share < 1)
    )
    if not sparsities:
        raise InputError("sparsities: is an empty list; name at least one")
    return sorted(set(map(float, sparsities)))


def _read(path: Path | None) -> dict[str, float]:
    """Return the scores of a file, none where there is no file yet; raises InputError for any other file."""
    if path is None or not os.path.exists(path):
        return {}
    text = text_of(path, "a file of scores")
    try:
        found = json.loads(text)
        if not (isinstance(found, dict) and all(isinstance(score, int | float) for score in found.values())):
            raise ValueError
    except (ValueError, RecursionError):
        raise InputError(f"{path}: is not a file of scores; name another file, or delete it") from None
    return found


def _write(path: Path | None, scores: Mapping[str, float]) -> None:
    if path is not None:
        text = json.dumps(scores, indent=0)

        def write(target: Path) -> None:
            target.write_text(text)

        write_whole(path, write)


def cost(
    network: Network, hardware: Hardware | str | Path, metric: str, activations: float | Density | None = None
) -> float:
    """Return what a network costs on a chip as it is, NaN where it cannot run all of it.

    Raises InputError for an unknown metric.
    """
    _check_budget(1, metric, 1)
    table = simulate(network, hardware, activations)
    return float(over_layers(table, "hardware", whole=True)[metric].iloc[0])
