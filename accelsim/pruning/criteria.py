"""Criteria: how much a group of weights matters.

Each is a function of what is to be ranked that returns the scores of its groups, none of them negative; groups of the
smallest score are pruned. `CRITERIA` lists them with the data they need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError
from accelsim.number_formats import is_supported
from accelsim.pruning.calibration import calibration_of, chunks
from accelsim.pruning.granularity import Granularity
from accelsim.pruning.grouping import sums_of_magnitudes

Array = NDArray[Any]


class Data(TypedDict, total=False):
    """What criteria look at beside the weights; each takes what it needs and ignores the rest."""

    gamma: ArrayLike
    activations: Any
    hessian_diagonal: ArrayLike
    outputs: Any
    seed: int
    damping: float
    alternations: int


@dataclass(frozen=True, eq=False)
class Ranked:
    """What is to be ranked: a weight of floats, its groups, how many of them stay (N:M aside), and the data."""

    weight: Array
    granularity: Granularity
    group: tuple[int, int]
    keep: int
    data: Data

    @cached_property
    def matrix(self) -> Array:
        """The weight as the matrix in which groups are rectangles."""
        return self.granularity.view(self.weight)

    @property
    def grid(self) -> tuple[int, int]:
        """Groups along outputs and inputs; those at the edges may be smaller."""
        rows, columns = self.matrix.shape
        return -(-rows // self.group[0]), -(-columns // self.group[1])

    def sums(self, scores: Array, *, squared: bool = False) -> Array:
        """Return the sums over groups of scores (out, in), or the roots of the sums of their squares."""
        if self.group == (1, 1):
            return scores
        extra = [(0, -size % side) for size, side in zip(scores.shape, self.group, strict=True)]
        padded = np.pad(scores, extra) if np.any(extra) else scores
        return sums_of_magnitudes(padded, *self.group, squared=squared)

    def given(self, name: str, shapes: list[tuple[int, ...]]) -> Array:
        """Return an array of the data as floats that are finite; raises InputError unless it has one of the shapes."""
        array = np.asarray(self.data[name])  # type: ignore[literal-required]
        if array.shape not in shapes or not is_supported(array.dtype):
            raise InputError(
                f"{name}: shape {array.shape} of {array.dtype} does not fit a weight {self.weight.shape} pruned by "
                f"'{self.granularity}': give numbers of shape {' or '.join(map(str, shapes))}"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{name}: holds NaN or infinity; fix the training or the export")
        return array.astype(np.float64)


def l1(ranked: Ranked) -> Array:
    """Sum of magnitudes, sum |w|. Source: Han et al., NeurIPS 2015 (weights); Li et al., ICLR 2017 (filters)."""
    return ranked.sums(ranked.matrix)


def l2(ranked: Ranked) -> Array:
    """Euclidean norm, sqrt(sum w^2). Source: Mao et al., CVPRW 2017; He et al., IJCAI 2018 (filters)."""
    return ranked.sums(ranked.matrix, squared=True)


def scale(ranked: Ranked) -> Array:
    """Learned scaling factor of a group, |gamma|.

    gamma: of batch norm, (out,) for filters and, of the layer before, (in,) for channels; for other granularities one
    factor for each group, as a grid (R, C), or for `fine` and N:M in the shape of the weight.
    Source: Liu et al., ICCV 2017 (Network Slimming, eq. 1); Huang and Wang, ECCV 2018 (scales of other structures).
    """
    rows, columns = ranked.grid
    match ranked.granularity.kind:
        case "filter" | "channel":
            return np.abs(ranked.given("gamma", [(rows * columns,)])).reshape(ranked.grid)
        case "fine" | "nm":
            return ranked.granularity.view(np.abs(ranked.given("gamma", [ranked.weight.shape])))
    return np.abs(ranked.given("gamma", [ranked.grid]))


def obd(ranked: Ranked) -> Array:
    """Optimal Brain Damage: rise of the error by the diagonal of its Hessian, sum 1/2 h_ii w_i^2.

    hessian_diagonal: in the shape of the weight, or (columns,) where all outputs share it; else from activations, the
    diagonal 2 sum x_j^2 of the layer-wise squared error. Source: LeCun, Denker and Solla, NeurIPS 1989, eq. 5.
    """
    flat = ranked.weight.reshape(len(ranked.weight), -1)
    if ranked.data.get("hessian_diagonal") is None:
        diagonal = 2 * _squares(ranked)
    else:
        diagonal = ranked.given("hessian_diagonal", [ranked.weight.shape, (flat.shape[1],)])
        diagonal = np.maximum(diagonal, 0).reshape(-1, flat.shape[1])  # below 0 the error would fall: free to prune
    return ranked.sums(
        ranked.granularity.view((diagonal * np.square(flat, dtype=float) / 2).reshape(ranked.weight.shape))
    )


def obs(ranked: Ranked) -> Array:
    """Optimal Brain Surgeon: rise of the layer's error once the survivors are refitted, w_q^2 / (2 [H^-1]_qq).

    N:M as SparseGPT chooses it: each group after the errors of the groups before it were moved on, 1 for what stays.
    activations: calibration inputs. damping: see `Calibration.hessian`.
    Source: Hassibi and Stork, NeurIPS 1992, eq. 5; Frantar and Alistarh, NeurIPS 2022 (groups), ICML 2023 (N:M).
    """
    from accelsim.pruning.obs import DAMPING, losses, sweep

    inputs = calibration_of(ranked.data["activations"], ranked.matrix.shape[1])
    inputs = inputs.reordered(ranked.granularity.columns(ranked.weight.shape))
    damping = ranked.data.get("damping", DAMPING)
    if ranked.granularity.pattern is not None:
        kept = np.empty(ranked.matrix.shape, bool)
        sweep(ranked.matrix, kept, inputs, damping, ranked.granularity.pattern)
        return kept.astype(np.float32)
    return losses(ranked.matrix.astype(np.float64), inputs, ranked.group, damping)


def wanda(ranked: Ranked) -> Array:
    """Activation-aware magnitude, sum |w_ij| ||x_j||_2. Source: Sun et al., ICLR 2024, eq. 1.

    There each output is pruned alike; `fine` here compares the whole layer. activations: calibration inputs.
    """
    flat = ranked.weight.reshape(len(ranked.weight), -1)
    return ranked.sums(ranked.granularity.view((np.abs(flat) * np.sqrt(_squares(ranked))).reshape(ranked.weight.shape)))


def apoz(ranked: Ranked) -> Array:
    """Share of outputs that are not zero over batch and positions, 1 - APoZ. Source: Hu et al., 2016, eq. 1.

    outputs: behind the activation function, (samples, out), (samples, tokens, out) or (samples, out, height, width), or
    an iterable of such arrays; of this layer for filters, of the layer before for channels.
    """
    slices = ranked.grid[0] * ranked.grid[1]
    used, count = np.zeros(slices, np.int64), 0
    for number, chunk in enumerate(chunks(ranked.data["outputs"])):
        array = np.asarray(chunk)
        axis = 1 if array.ndim == 4 else array.ndim - 1
        if array.ndim not in (2, 3, 4) or array.shape[axis] != slices:
            raise InputError(
                f"outputs, chunk {number}: shape {array.shape} does not have the {slices} slices of '"
                f"{ranked.granularity}'; give (samples, {slices}) or (samples, {slices}, height, width)"
            )
        if not is_supported(array.dtype) or not np.isfinite(array).all():
            raise InputError(f"outputs, chunk {number}: hold NaN, infinity or no numbers; clean them")
        used += np.count_nonzero(array, axis=tuple(each for each in range(array.ndim) if each != axis))
        count += array.size // slices
    if not count:
        raise InputError("outputs: no sample; APoZ needs at least one, better some hundreds")
    return (used / count).reshape(ranked.grid)


def regression(ranked: Ranked) -> Array:
    """LASSO over input channels, 1 for those that it selects. Source: He et al., ICCV 2017, eq. 1 and 2.

    `accelsim.pruning.reconstruct` then solves for the weights (eq. 3). activations: calibration inputs. alternations:
    rounds of selection and reconstruction.
    """
    from accelsim.pruning.regression import select_channels

    inputs = calibration_of(ranked.data["activations"], ranked.matrix.shape[1])
    selected = select_channels(ranked.weight, ranked.keep, inputs, ranked.data.get("alternations", 1))
    return selected.astype(np.float32).reshape(ranked.grid)


def random(ranked: Ranked) -> Array:
    """A number drawn for each group: what any other criterion has to beat. seed: 0 unless given."""
    return np.random.default_rng(ranked.data.get("seed", 0)).random(ranked.grid, np.float32)


def _squares(ranked: Ranked) -> Array:
    return calibration_of(ranked.data["activations"], ranked.matrix.shape[1], gram=False).squares


class Criterion(NamedTuple):
    """A criterion: its scores, keywords of which it needs one, and kinds of granularity it has a meaning for (all).

    Scores grow with the size of a group to the power `growth`; groups of several sizes are compared without that.
    """

    scores: Callable[[Ranked], Array]
    needs: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    remedy: str = ""
    growth: float = 1.0

    def problems(self, granularity: Granularity, data: Data) -> list[str]:
        """Return what keeps the criterion from ranking these groups with this data."""
        name = self.scores.__name__
        found = []
        if self.kinds and granularity.kind not in self.kinds:
            found.append(f"criterion '{name}': has no meaning for granularity '{granularity}'; {self.remedy}")
        if self.needs and all(data.get(each) is None for each in self.needs):
            found.append(f"criterion '{name}': needs {' or '.join(f'{each}=' for each in self.needs)}")
        return found


CRITERIA = {
    criterion.scores.__name__: criterion
    for criterion in (
        Criterion(l1),
        Criterion(l2, growth=0.5),
        Criterion(scale, ("gamma",), growth=0),
        Criterion(obd, ("hessian_diagonal", "activations")),
        Criterion(obs, ("activations",)),
        Criterion(wanda, ("activations",)),
        Criterion(
            apoz, ("outputs",), ("filter", "channel"), "use 'filter' or 'channel', or 'wanda' for finer groups", 0
        ),
        Criterion(
            regression, ("activations",), ("channel",), "use 'channel', for filters on the layer that follows", 0
        ),
        Criterion(random, growth=0),
    )
}
"""Every criterion by its name."""
