"""The only place where the parts are put together: network + hardware -> one row per layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accelsim.costs import check_io, with_io
from accelsim.engines import BACKENDS, Asked, Row, engine_of
from accelsim.errors import (
    InputError,
    UnsupportedError,
    collecting,
    did_you_mean,
    listed,
    raise_if_any,
    warn,
)
from accelsim.formats.counting import WeightMatrix
from accelsim.hardware import Hardware, load_hardware
from accelsim.network import Density, Layer, Network, Scope, load_network
from accelsim.network.activations import Activations, Samples, drawn_instead
from accelsim.network.arrays import activation_problems
from accelsim.network.sizes import check_countable, check_fits_memory
from accelsim.number_formats import bits_of
from accelsim.results import COLUMNS, OF_NETWORK, of_network, provenance, table, unit_table

if TYPE_CHECKING:
    import pandas as pd

UNSUPPORTED = "unsupported"

Given = Mapping[str, "ArrayLike | float | Density"] | float | Density | None
Backend = Literal["compiled", "simpy"]


def simulate(
    network: Network | Layer | str | Path,
    hardware: Hardware | str | Path | Sequence[Hardware | str | Path],
    activations: Given = None,
    backend: Backend = "compiled",
    *,
    verify: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    count_io: bool = False,
) -> pd.DataFrame:
    """Run every layer of a network on one chip or several; returns one row per chip and layer.

    `activations`: per layer one sample (`Layer.input_shape`), a batch of them or a density in (0, 1]; one density for
    all layers; or None, for the network's own. Layer n draws with `seed` + n. Layers are independent: outputs are not
    fed forward. Samples, output pixels and tokens are matrix-vector products one after another.
    `backend`: "compiled", or "simpy" for the specification, which returns the same integers slowly.
    `verify`: also compute the product in the hardware's fixed point and compare it with the dense one, bit for bit.
    `progress` is called with the name of each layer as it starts.
    `count_io`: charge every chip alike for reading the network's inputs (those of the first layer) from its DRAM and
    writing its outputs (of the last) to it, wherever its run did not; changes energy and DRAM bytes, and no cycle.
    Columns are described in `accelsim.results.COLUMNS`. Several chips share the counting of a layer where they can.
    A layer that a chip cannot run gets a row with `executed_as` "unsupported" and empty numbers, and a warning.
    Raises InputError (also where a chip can run no layer), and VerificationError on a bug of ours.
    """
    rows = simulated_rows(
        network, hardware, activations, backend, verify=verify, seed=seed, progress=progress, count_io=count_io
    )
    return table(rows)


def units(
    network: Network | Layer | str | Path,
    hardware: Hardware | str | Path | Sequence[Hardware | str | Path],
    activations: Given = None,
    backend: Backend = "compiled",
    *,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Return what every PE or core does with its cycles: one row per chip, layer and unit, see `results.unit_table`.

    Arguments and errors are those of `simulate`, and the sums over units are its columns. A machine that does not know
    which unit's cycles go into padding shares them out in proportion to busy ones.
    """
    rows = simulated_rows(network, hardware, activations, backend, seed=seed, progress=progress, units=True)
    return unit_table(rows)


def simulated_rows(
    network: Network | Layer | str | Path,
    hardware: Hardware | str | Path | Sequence[Hardware | str | Path],
    activations: Given = None,
    backend: Backend = "compiled",
    *,
    verify: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    units: bool = False,
    count_io: bool = False,
) -> list[dict[str, Any]]:
    """Return the rows of `simulate` before they are a table; with `units`, also for `unit_table`."""
    problems: list[str] = []
    chips: list[Hardware] = []
    prepared: Prepared | None = None
    for chip in [hardware] if isinstance(hardware, Hardware | str | Path) else hardware:
        with collecting(problems):
            chips.append(load_hardware(chip))
    if not chips and not problems:
        problems.append("hardware: is an empty list; name at least one chip")
    if backend not in BACKENDS:
        problems.append(f"backend: must be 'compiled' or 'simpy' (got {backend!r})")
    net = Network(network.name, [network]) if isinstance(network, Layer) else load_network(network)
    with collecting(problems):
        prepared = Prepared(net, activations, seed)
    raise_if_any(dict.fromkeys(problems))
    if prepared is None:
        raise ValueError("a network without problems is prepared")
    each_chip = prepared.rows(chips, backend, verify=verify, progress=progress, units=units, count_io=count_io)
    return [row for rows in each_chip for row in rows]


class _Ready(NamedTuple):
    """A layer that was read, and what is known of it before it runs."""

    layer: Layer
    weights: WeightMatrix
    samples: Samples
    columns: Row


class Prepared:
    """A network with its activations, ready to run on chips: what they share of a layer is made once.

    `keep`: also between one call of `rows` and the next, for as much memory as its dense weights and what is counted
    of them need. Otherwise each call reads layers one by one, and lets go of each before the next.
    `scope`: how much its layers are of the network that they were pruned from; None: of itself.
    Raises InputError with every problem of the activations.
    """

    def __init__(
        self,
        network: Network,
        activations: Given = None,
        seed: int = 0,
        *,
        keep: bool = False,
        scope: Scope | None = None,
    ) -> None:
        self.network = network
        self._keep = keep
        self._inputs = resolve_activations(network, activations, seed)
        self._ready: dict[str, _Ready] = {}
        self._scope = of_network(scope or network.scope)

    def rows(
        self,
        chips: Sequence[Hardware],
        backend: str = "compiled",
        *,
        verify: bool = False,
        progress: Callable[[str], None] | None = None,
        units: bool = False,
        count_io: bool = False,
    ) -> list[list[dict[str, Any]]]:
        """Return the rows of each chip, one per layer; for the rest see `simulated_rows`."""
        net, problems = self.network, list[str]()
        for chip in chips if count_io else ():
            with collecting(problems):
                check_io(chip)
        raise_if_any(problems)
        rows: list[list[dict[str, Any]]] = [[] for _ in chips]
        runs = [engine_of(chip).on(chip) for chip in chips]
        asked, verified = Asked(backend, verify, units), {"verified": "exact" if verify else "no"}
        waiting: list[_Ready] = []
        lacking: list[dict[str, UnsupportedError]] = [{} for _ in chips]
        for number, layer in enumerate(net, 1):
            if progress is not None:
                progress(layer.name)
            try:
                ready = self._of(layer)
                for each in runs:
                    each.look_at(ready.weights)
                waiting.append(ready)
            except InputError as error:
                problems += error.at(f"layer {layer.name}")
            # Layers wait until it is known whether the network fits: at most as many as the largest chip can hold.
            if number < len(net) and not all(each.known for each in runs):
                continue
            for each_layer, weights, samples, columns in waiting:
                no_weights = False
                for each, mine, not_run in zip(runs, rows, lacking, strict=True):
                    row = columns | provenance(each.chip, backend) | verified
                    try:
                        row |= each.row(each_layer, weights, samples, asked)
                        row["compression_ratio"] = row["dense_bits"] / row["storage_bits"]
                    except UnsupportedError as error:
                        not_run[each_layer.name] = error
                        row |= _unsupported(each_layer, weights)
                    except InputError as error:
                        problems += error.at(f"layer {each_layer.name} on {each.chip.name}")
                        continue
                    mine.append(row)
                    no_weights |= not row["weight_density"]
                if no_weights:
                    warn(f"layer {each_layer.name}: all weights are zero")
            waiting.clear()
        for each, not_run in zip(runs, lacking, strict=True) if any(lacking) else ():
            said = [
                f"layer {name} on {each.chip.name}: {problem}"
                for name, error in not_run.items()
                for problem in error.problems
            ]
            if len(not_run) == len(net):
                problems += said
            elif said:
                remains = "the row of this layer is empty and no total has it"
                warn("\n".join(f"{problem}; {remains}" for problem in said))
        if count_io and not problems:
            for chip, mine in zip(chips, rows, strict=True):
                with collecting(problems):
                    _count_io(chip, mine)
        if not problems:
            for each in runs:
                try:
                    each.check_network()
                except InputError as error:
                    problems += error.at(f"network {net.name} on {each.chip.name}")
        raise_if_any(dict.fromkeys(problems))
        return rows

    def forget(self) -> None:
        """Let go of what is kept of the layers, before chips that share none of it."""
        self._ready.clear()

    def _of(self, layer: Layer) -> _Ready:
        if layer.name in self._ready:
            return self._ready[layer.name]
        samples = self._inputs[layer.name]
        if not self._keep:
            samples = Samples(samples.source, samples.input_shape)  # what is drawn for it goes with the layer
        groups, rows, per_group, vectors = layer.products
        check_countable({"groups": groups, "outputs": rows, "inputs": per_group, "vectors": len(samples) * vectors})
        weights = WeightMatrix(layer.matrix, layer.bias)
        columns = {"network": self.network.name, **_given(layer, samples), **_stored(layer, weights), **self._scope}
        ready = _Ready(layer, weights, samples, columns)
        if self._keep:
            self._ready[layer.name] = ready
        return ready


def _count_io(chip: Hardware, rows: list[dict[str, Any]]) -> None:
    """Charge the rows of a network's layers for its inputs and outputs; a layer that did not run has none."""
    for row in rows:
        if row["executed_as"] != UNSUPPORTED:
            row |= with_io(row, chip, inputs=row is rows[0], outputs=row is rows[-1])


def _given(layer: Layer, samples: Samples) -> Row:
    """Return the columns that say which layer runs on what, the same for all chips."""
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "out_features": layer.out_features,
        "in_features": layer.in_features,
        "batch": len(samples),
        "vectors": len(samples) * layer.products.vectors,
        "dense_macs": len(samples) * layer.products.vectors * layer.weight_count,
        "activation_density": samples.density,
        "seed": samples.seed,
    }


def _stored(layer: Layer, weights: WeightMatrix) -> Row:
    """Return in what type the weights come, and their size in it: the unit in which all machines are compared."""
    kept = layer.stored_as or weights.weight.dtype.name
    return {"stored_as": kept, "dense_bits": bits_of(kept) * layer.weight_count}


def _unsupported(layer: Layer, weights: WeightMatrix) -> dict[str, Any]:
    """Return the row of a layer that its chip cannot run: what is known of it, and no numbers."""
    nonzeros = int(np.count_nonzero(weights.weight))
    empty = {column.name: None for column in COLUMNS if column.dtype != "str"}
    known = {"out_features", "in_features", "batch", "vectors", "dense_macs", "dense_bits", "activation_density"}
    known |= {"seed", *OF_NETWORK}
    return {name: value for name, value in empty.items() if name not in known} | {
        "weight_density": nonzeros / layer.weight_count,
        "granularity": layer.pruned_as(nonzeros),
        "executed_as": UNSUPPORTED,
        "verified": "no",
    }


def resolve_activations(network: Network, given: Given, seed: int) -> dict[str, Samples]:
    """Return the activations of every layer; raises InputError with every problem, warns where none are known."""
    names = [layer.name for layer in network]
    per_layer: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    problems = [
        f"activations: network {network.name} has no layer '{name}'" + did_you_mean(name, names)
        for name in per_layer
        if name not in names
    ]
    resolved: dict[str, Samples] = {}
    unknown: list[str] = []
    for number, layer in enumerate(network):
        value: Any = per_layer.get(layer.name, None if isinstance(given, Mapping) else given)
        try:
            chosen = layer.activations if value is None else _as_activations(layer, value, seed + number)
            wrong = activation_problems(layer.name, chosen, layer.input_shape)
            check_fits_memory(8 * layer.maps.inputs, f"a sample of shape {layer.input_shape}")
        except (InputError, ValueError, TypeError) as error:
            problems.append(f"layer {layer.name}: activations: {error}")
            continue
        if wrong:
            problems += wrong
            continue
        if chosen is None:
            unknown.append(layer.name)
            chosen = np.broadcast_to(1.0, layer.input_shape)
        resolved[layer.name] = Samples(chosen, layer.input_shape)
    raise_if_any(problems)
    if unknown:
        warn(
            f"no activations for {listed(unknown)}: every input counts as non-zero (density 1.0); "
            "pass activations= a sample, a batch or a density (--density 0.4)"
        )
    return resolved


def _as_activations(layer: Layer, value: Any, seed: int) -> Activations:
    if np.ndim(value) == 0:
        return drawn_instead(layer.activations, value.item() if isinstance(value, np.generic) else value, seed)
    return np.asarray(value)
