"""Training of pruned PyTorch models: masks that hold, fine-tuning, iterative pruning. Needs `accelsim[torch]`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook

from accelsim.errors import InputError, collecting, did_you_mean, raise_if_any
from accelsim.pruning.granularity import Granularity
from accelsim.pruning.masks import prune
from accelsim.pruning.schedule import ratios
from accelsim.torch_weights import Weight, as_array, parts_of, weights_of

Masks = dict[str, NDArray[np.bool_]]
OPTIMIZERS = ("sgd", "adam")
EVALUATED_TOGETHER = 4096


def apply_masks(model: nn.Module, masks: Mapping[str, ArrayLike]) -> HeldMasks:
    """Set every weight outside its mask to zero, and keep it there until the masks are removed.

    masks: by name of the layer (see `accelsim.torch_weights.weights_of`), True where a weight is kept, in the shape of
    `Layer.weight`. After each step of any optimizer the pruned weights and their places in its state, such as
    momentum, are zero again.
    Raises InputError with every name, shape and type that does not fit.
    """
    problems: list[str] = []
    weights = weights_of(model) | parts_of(model)
    pruned: dict[Any, torch.Tensor] = {}
    for name, given in masks.items():
        if name not in weights:
            problems.append(f"masks: the model has no layer '{name}'{did_you_mean(name, weights)}")
            continue
        with collecting(problems, f"layer {name}: "):
            mask, parameter = np.asarray(given), _parameter(weights[name])
            if mask.dtype != bool or mask.shape != tuple(weights[name].weight.shape):
                raise InputError(
                    f"mask: must be of bool and shape {tuple(weights[name].weight.shape)}, "
                    f"as the weight is (got {mask.dtype} {mask.shape})"
                )
            whole = pruned.setdefault(parameter, torch.zeros_like(parameter, dtype=torch.bool))
            part = whole[weights[name].rows]
            part |= torch.from_numpy(~mask).reshape(part.shape).to(part.device)
    raise_if_any(problems)
    return HeldMasks(pruned)


def _parameter(weight: Weight) -> Any:
    """Return the parameter that holds a weight; raises InputError where the weight is made from another one."""
    tensor = getattr(weight.module, weight.weight_name)
    if not isinstance(tensor, nn.Parameter):
        raise InputError(
            "weight: is made from another parameter by torch.nn.utils.prune or a parametrization; "
            "make it permanent first, with torch.nn.utils.prune.remove or remove_parametrizations"
        )
    return tensor


class HeldMasks:
    """Weights that stay zero while a model is trained; `remove`, or the end of a `with`, leaves plain zeros."""

    def __init__(self, pruned: Mapping[Any, torch.Tensor]) -> None:
        self._pruned = pruned
        self._zero()
        self._handle = register_optimizer_step_post_hook(lambda optimizer, *_: self._zero(optimizer))

    def _zero(self, optimizer: Any = None) -> None:
        with torch.no_grad():
            for parameter, pruned in self._pruned.items():
                state = {} if optimizer is None else optimizer.state.get(parameter, {})
                for tensor in (parameter, *state.values()):
                    if isinstance(tensor, torch.Tensor) and tensor.shape == pruned.shape:
                        # A product with the mask would leave -0.0 where a negative weight was.
                        tensor.masked_fill_(pruned.to(tensor.device), 0.0)

    def remove(self) -> None:
        """Let go of the weights, which are zero where they were pruned."""
        self._zero()
        self._handle.remove()

    def __enter__(self) -> HeldMasks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """How a classifier is trained: its samples, the optimizer, and when to stop.

    inputs (samples, ...) and labels (samples,) are tensors. `patience`: stop after so many epochs in which the accuracy
    on `validation` did not rise, and take the best weights back. `scale_penalty`: L1 on the scales of batch norms, for
    pruning by scale (Liu et al., "Network Slimming", ICCV 2017).
    Raises InputError with every problem.
    """

    inputs: Any
    labels: Any
    epochs: int = 30
    learning_rate: float = 0.05
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 32
    validation: tuple[Any, Any] | None = None
    patience: int | None = None
    scale_penalty: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values; raises InputError."""
        problems = [
            f"{key}: must be a whole number, at least {least} (got {getattr(self, key)!r})"
            for key, least in (("epochs", 0), ("batch_size", 1), ("seed", 0))
            if not isinstance(getattr(self, key), int) or getattr(self, key) < least
        ]
        if not 0 < self.learning_rate < math.inf:
            problems.append(f"learning_rate: must be above 0 (got {self.learning_rate!r})")
        if self.optimizer not in OPTIMIZERS:
            problems.append(
                f"optimizer: {self.optimizer!r} is not known{did_you_mean(str(self.optimizer), OPTIMIZERS)}"
            )
        if len(self.inputs) != len(self.labels) or not len(self.labels):
            problems.append(
                f"labels: must be one per sample (got {len(self.inputs)} inputs, {len(self.labels)} labels)"
            )
        if self.patience is not None and self.validation is None:
            problems.append("patience: needs validation = (inputs, labels) to judge by")
        raise_if_any(problems)

    def fit(self, model: nn.Module) -> list[float]:
        """Train in place; returns the mean loss of each epoch. A seed gives the same weights on one machine."""
        modes = [(module, module.training) for module in model.modules()]
        with deterministic(self.seed):
            try:
                return self._epochs(model)
            finally:
                for module, mode in modes:
                    module.training = mode

    def _epochs(self, model: nn.Module) -> list[float]:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        options = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        optimizer = (
            torch.optim.Adam(parameters, **options)
            if self.optimizer == "adam"
            else torch.optim.SGD(parameters, momentum=self.momentum, **options)
        )
        losses: list[float] = []
        best, best_epoch, best_state = -1.0, 0, None
        for epoch in range(self.epochs):
            losses.append(self._epoch(model, optimizer))
            if self.patience is None or self.validation is None:
                continue
            reached = accuracy(model, *self.validation)
            if reached > best:
                best, best_epoch, best_state = reached, epoch, copy.deepcopy(model.state_dict())
            elif epoch - best_epoch >= self.patience:
                break
        if best_state is not None:
            model.load_state_dict(best_state)
        return losses

    def _epoch(self, model: nn.Module, optimizer: Any) -> float:
        model.train()
        scales = [m.weight for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine]
        total = 0.0
        for batch in torch.randperm(len(self.labels)).split(self.batch_size):
            optimizer.zero_grad()
            loss = cross_entropy(model(self.inputs[batch]), self.labels[batch])
            total += loss.item() * len(batch)
            if self.scale_penalty:
                loss = loss + self.scale_penalty * sum(scale.abs().sum() for scale in scales)
            loss.backward()
            optimizer.step()
        return total / len(self.labels)


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Run a block whose results depend on the seed and the machine alone: one thread, deterministic algorithms."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # The order of a parallel sum depends on the number of threads.
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict, warn_only=warns)


def accuracy(model: nn.Module, inputs: Any, labels: Any) -> float:
    """Return the share of samples whose largest output is their class, in evaluation mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            right = sum(
                int((model(some).argmax(dim=1) == true).sum())
                for some, true in zip(inputs.split(EVALUATED_TOGETHER), labels.split(EVALUATED_TOGETHER), strict=True)
            )
    finally:
        for module, mode in modes:
            module.training = mode
    return right / len(labels)


def prune_and_train(
    model: nn.Module,
    training: Training | None,
    granularity: str | Granularity = "fine",
    sparsity: float | Mapping[str, float] | None = None,
    *,
    criterion: str = "l1",
    schedule: str = "one-shot",
    steps: int = 1,
    learning_rate_factor: float = 0.1,
    layers: Sequence[str] | None = None,
    pad: bool = False,
    data: Callable[[str], Mapping[str, Any]] | None = None,
    after_step: Callable[[int], None] | None = None,
) -> Masks:
    """Prune a model in place, step by step, and train it after each; returns the masks by name of the layer.

    After each step that `schedule` and `steps` say (see `accelsim.pruning.ratios`), training goes on for its epochs at
    its learning rate x `learning_rate_factor`, 0.1 to 0.01, and the next seed. With one step that is fine-tuning; with
    `training` None nothing is trained. `sparsity`: of every layer, or by name; an N:M pattern sets its own, and comes
    down to its N from M. `layers`: names, those of `sparsity` or all if None. `data(name)`: what the criterion needs,
    as `prune` takes it, asked for before each step. `after_step(number)` is called when one is done. The pruned weights
    are zero; hold the masks with `apply_masks` when training goes on.
    Raises InputError with every problem of the arguments and of layers that cannot be pruned so; the model is then as
    the last whole step left it.
    """
    problems: list[str] = []
    whole = weights_of(model)
    weights = whole | parts_of(model)
    chosen, shares = Granularity("fine"), [1.0]
    with collecting(problems):
        chosen = granularity if isinstance(granularity, Granularity) else Granularity.parse(granularity)
    with collecting(problems):
        shares = ratios(schedule, steps)
    if not 0 < learning_rate_factor <= 1:
        problems.append(f"learning_rate_factor: must be above 0 and at most 1 (got {learning_rate_factor!r})")
    by_name = sparsity if isinstance(sparsity, Mapping) else {}
    names = list(layers if layers is not None else by_name or whole)
    problems += [
        f"layers: the model has no layer '{name}'{did_you_mean(name, weights)}"
        for name in dict.fromkeys([*names, *by_name])
        if name not in weights
    ]
    raise_if_any(problems)
    masks: Masks = {}
    for number, share in enumerate(shares, 1):
        for name in names:
            with collecting(problems, f"layer {name}: "):
                final = by_name.get(name) if isinstance(sparsity, Mapping) else sparsity
                given = {} if data is None else dict(data(name))
                weight = as_array(weights[name].weight)
                masks[name] = prune(weight, *_partly(chosen, final, share), criterion, pad=pad, **given)
        raise_if_any(problems)
        with apply_masks(model, masks):
            if training is not None:
                rate = training.learning_rate * learning_rate_factor
                replace(training, learning_rate=rate, seed=training.seed + number).fit(model)
        if after_step is not None:
            after_step(number)
    return masks


def _partly(granularity: Granularity, sparsity: float | None, share: float) -> tuple[Granularity, float | None]:
    """Return pattern and sparsity when a share of the final one is reached: of N:M, a larger N."""
    if granularity.pattern is None:
        return granularity, None if sparsity is None else share * sparsity
    n, m = granularity.pattern
    partly = Granularity("nm", (max(n, m - math.floor(share * (m - n) + 1e-9)), m))
    return partly, sparsity if share == 1 else None


class Reached(NamedTuple):
    """What a model has become on one of the ways that `compare_schedules` goes."""

    schedule: str
    """none (as given), pruned (and not trained), one-shot, or the schedule."""
    step: int
    epochs: int
    """Of training since the model as given."""
    zeros: float
    """Zeros / weights, of the layers that are pruned."""
    accuracy: float


def compare_schedules(
    model: nn.Module,
    training: Training,
    test: tuple[Any, Any],
    granularity: str | Granularity = "fine",
    sparsity: float | Mapping[str, float] | None = None,
    *,
    schedule: str = "cubic",
    steps: int = 8,
    layers: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    **how: Any,
) -> Iterator[Reached]:
    """Prune a model in place, step by step, and go through what it reaches, beside copies that get there in one step.

    After each step: the model; a copy of the model as given pruned as far and not trained; and, if `schedule` has
    several steps, one that is pruned as far at once and then trained for as many epochs as the model was until then.
    test: (inputs, labels) for the accuracy. how: what else `prune_and_train` takes, which is what prunes; it raises.
    """
    chosen = granularity if isinstance(granularity, Granularity) else Granularity.parse(granularity)
    shares, original = ratios(schedule, steps), copy.deepcopy(model)
    names = layers if layers is not None else list(sparsity if isinstance(sparsity, Mapping) else weights_of(model))
    kept: list[dict[str, Any]] = []

    def reached(name: str, step: int, epochs: int, of: nn.Module) -> Reached:
        known = weights_of(of) | parts_of(of)
        arrays = [as_array(known[each].weight) for each in names]
        zeros = 1 - sum(map(np.count_nonzero, arrays)) / sum(array.size for array in arrays)
        return Reached(name, step, epochs, float(zeros), accuracy(of, *test))

    def at_once(share: float, trained: Training | None) -> nn.Module:
        other = copy.deepcopy(original)
        by_name = {name: sparsity.get(name) if isinstance(sparsity, Mapping) else sparsity for name in names}
        partly = {name: _partly(chosen, final, share) for name, final in by_name.items()}
        final = {name: each for name, (_, each) in partly.items() if each is not None} or None
        prune_and_train(other, trained, next(iter(partly.values()))[0], final, layers=names, **how)
        return other

    def after_step(number: int) -> None:
        progress(f"{schedule}: step {number}")
        kept.append(copy.deepcopy(model.state_dict()))

    prune_and_train(
        model, training, chosen, sparsity, schedule=schedule, steps=steps, layers=names, after_step=after_step, **how
    )
    yield reached("none", 0, 0, original)
    gradual = copy.deepcopy(model)
    for number, (share, state) in enumerate(zip(shares, kept, strict=True), 1):
        epochs = number * training.epochs
        yield reached("pruned", number, 0, at_once(share, None))
        if steps > 1:
            progress(f"one-shot, to compare: step {number}")
            yield reached("one-shot", number, epochs, at_once(share, replace(training, epochs=epochs)))
        gradual.load_state_dict(state)
        yield reached(schedule, number, epochs, gradual)
