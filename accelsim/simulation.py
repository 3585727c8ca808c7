"""The only place where the parts are put together: network + hardware -> one row per layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accelsim.billing import BEFORE_ALL, Bill
from accelsim.costs import check_io, with_io
from accelsim.engines import BACKENDS, Asked, Row, Run, engine_of
from accelsim.errors import InputError, UnsupportedError, collecting, in_memory, raise_if_any, warn
from accelsim.evaluation import accuracy_on
from accelsim.formats.counting import WeightMatrix
from accelsim.formats.precision import Precision
from accelsim.hardware import Hardware, load_hardware
from accelsim.inputs import Entering, Given, LayerInputs
from accelsim.kinds import KINDS
from accelsim.network import Density, Layer, Network, Scope, load_network
from accelsim.network.ends import ends_of
from accelsim.network.samples import Inputs, with_inputs
from accelsim.network.sizes import check_countable
from accelsim.number_formats import bits_of
from accelsim.results import COLUMNS, MAY_BE_EMPTY, OF_NETWORK, provenance, table, unit_table
from accelsim.verification import check_outputs

if TYPE_CHECKING:
    import pandas as pd

UNSUPPORTED = "unsupported"

Backend = Literal["compiled", "simpy"]


def simulate(
    network: Network | Layer | str | Path,
    hardware: Hardware | str | Path | Sequence[Hardware | str | Path],
    activations: Given = None,
    backend: Backend = "compiled",
    *,
    verify: bool = False,
    inputs: Inputs | None = None,
    labels: ArrayLike | str | Path | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    count_io: bool = False,
    operations: bool = True,
) -> pd.DataFrame:
    """Run every layer of a network on one chip or several; returns one row per chip and layer, and per operation.

    `inputs`: samples (batch, ...) of the network, by name where it has several inputs, or a .npz, .npy or .safetensors
    of them: the network is run on them, and each layer on what enters it then. `labels`: the class of each; then
    `accuracy` is known. `activations`, instead: for each layer one sample (`Layer.input_shape`), a batch of them or a
    density in (0, 1]; or one density for all. None of them: what the network knows (`Network.with_samples`, its
    layers' own). Layer n draws with `seed` + n; the column `activations` says where they come from
    (`accelsim.inputs.WORDS`).
    Samples, output pixels and tokens are matrix-vector products one after another.
    `backend`: "compiled", or "simpy" for the specification, which returns the same integers slowly.
    `verify`: also compute the product in the hardware's fixed point and compare it with the dense one, bit for bit; and
    where the network is run, what it makes of each layer with the product (`accelsim.verification`).
    `progress` is called with the name of each layer as it starts.
    `count_io`: charge every chip for reading the network's inputs from its DRAM and writing its outputs to it, unless
    its run has paid for them, with the layers of `accelsim.network.ends.ends_of`; changes energy and DRAM bytes, and no
    cycle.
    `operations`: of a network that knows its graph also what is not a layer, such as attention and pooling, in
    the order of the graph, after the layers: `kind` says what it is, and `executed_as` what the chip's `[operations]`
    make of it.
    Columns are described in `accelsim.results.COLUMNS`. Several chips share the counting of a layer where they can.
    A layer that a chip cannot run gets a row with `executed_as` "unsupported" and empty numbers, and a warning.
    Raises InputError (also where a chip can run no layer), and VerificationError on a bug of ours.
    """
    rows = simulated_rows(
        network, hardware, activations, backend, verify=verify, inputs=inputs, labels=labels, seed=seed,
        progress=progress, count_io=count_io, operations=operations,
    )  # fmt: skip
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
    inputs: Inputs | None = None,
    labels: ArrayLike | str | Path | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    units: bool = False,
    count_io: bool = False,
    operations: bool = True,
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
        net = net if inputs is None else with_inputs(net, inputs, labels)
        prepared = Prepared(net, activations, seed)
    raise_if_any(dict.fromkeys(problems))
    if prepared is None:
        raise ValueError("a network without problems is prepared")
    each_chip = prepared.rows(
        chips, backend, verify=verify, progress=progress, units=units, count_io=count_io, operations=operations
    )
    return [row for rows in each_chip for row in rows]


class _Ready(NamedTuple):
    """A layer that was read, and what is known of it before it runs."""

    layer: Layer
    weights: WeightMatrix
    columns: Row


MOST_WAITING_BYTES = 2**24
"""Of dense weights that are kept until it is known where all lie; those of larger layers are read again then."""

MOST_KEPT_BYTES = 2**28
"""Of activations that were seen, which are kept from one run to the next; those of larger networks are made again."""


class Prepared:
    """A network with its activations, ready to run on chips: what they share of a layer is made once.

    `keep`: also between one call of `rows` and the next, for as much memory as what is counted of its weights needs,
    and MOST_KEPT_BYTES. Otherwise each call reads layers one by one, and lets go of each before the next.
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
        self._keep = keep
        self._inputs = LayerInputs(network, activations, seed)
        self.network = self._inputs.network
        self._entering: list[Entering] = []
        self._accuracy: dict[Precision, float] = {}
        self._ready: dict[str, _Ready] = {}
        self._scope = scope or network.scope

    def rows(
        self,
        chips: Sequence[Hardware],
        backend: str = "compiled",
        *,
        verify: bool = False,
        progress: Callable[[str], None] | None = None,
        units: bool = False,
        count_io: bool = False,
        operations: bool = True,
    ) -> list[list[dict[str, Any]]]:
        """Return the rows of each chip, one per layer and operation; for the rest see `simulated_rows`."""
        problems: list[str] = []
        for chip in chips if count_io else ():
            with collecting(problems):
                check_io(chip)
        raise_if_any(problems)
        rows = self._rows(
            [engine_of(chip).on(chip) for chip in chips], Asked(backend, verify, units), progress, operations
        )
        if count_io:
            ends = ends_of(self.network.graph, [layer.name for layer in self.network])
            for chip, mine in zip(chips, rows, strict=True):
                with collecting(problems):
                    _count_io(chip, [row for row in mine if row["kind"] not in KINDS], *ends)
            raise_if_any(dict.fromkeys(problems))
        return rows

    def rows_together(self, chips: Sequence[Hardware]) -> list[dict[str, Any]]:
        """Return the rows of chips that share name and `together_key`; numbers may be arrays (chips,).

        See `Engine.together`. Raises ApartError, or what one of them would by itself, where they have to run alone.
        """
        with np.errstate(all="raise", under="ignore"):  # Python's numbers raise, too
            (rows,) = self._rows([engine_of(chips[0]).together(chips)], Asked())
        return rows

    def _rows(
        self,
        runs: Sequence[Run],
        asked: Asked,
        progress: Callable[[str], None] | None = None,
        operations: bool = True,
    ) -> list[list[dict[str, Any]]]:
        net, problems, verify = self.network, list[str](), asked.verify
        chips = [each.chip for each in runs]
        rows: list[list[dict[str, Any]]] = [[] for _ in chips]
        bills = [Bill(net if operations else replace(net, graph=None), each, self._scope) for each in runs]
        told = [self._told(chip, asked) for chip in chips]
        entering = self._each_entering(outputs=verify)
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
                if sum(others.weights.held_bytes for others in waiting) > MOST_WAITING_BYTES:
                    for others in waiting[:-1]:
                        others.weights.let_go()
            except (InputError, MemoryError) as error:
                problems += _at(f"layer {layer.name}", error)
            # Layers wait until it is known whether the network fits: at most as many as the largest chip can hold.
            if number < len(net) and not all(each.known for each in runs):
                continue
            for each_layer, weights, columns in waiting:
                no_weights = False
                enters = next(each for each in entering if each.layer == each_layer.name)
                if enters.outputs is not None:
                    check_outputs(each_layer, enters, [engine_of(chip).precision(chip) for chip in chips])
                batch = len(enters.samples)
                for each, bill, mine, not_run, more in zip(runs, bills, rows, lacking, told, strict=True):
                    if each_layer is net.layers[0]:
                        mine += bill.rows(BEFORE_ALL, batch, asked, more)
                    row = columns | _entered(enters) | bill.of_network | more
                    try:
                        row |= each.row(each_layer, weights, enters.samples, asked)
                        row["compression_ratio"] = row["dense_bits"] / row["storage_bits"]
                    except UnsupportedError as error:
                        not_run[each_layer.name] = error
                        row |= _unsupported(each_layer, weights)
                    except (InputError, MemoryError) as error:
                        problems += _at(f"layer {each_layer.name} on {each.chip.name}", error)
                        continue
                    mine += [row, *bill.rows(each_layer.name, batch, asked, more)]
                    no_weights |= not row["weight_density"]
                weights.let_go()
                if no_weights:
                    warn(f"layer {each_layer.name}: all weights are zero")
            waiting.clear()
        for each, not_run in zip(runs, lacking, strict=True):
            problems += _say_not_run(each.chip, not_run, len(net))
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

    def _told(self, chip: Hardware, asked: Asked) -> Row:
        """Return where rows on a chip are from, and how good the network is as it computes it, where that is known."""
        told = provenance(chip, asked.backend) | {"verified": "exact" if asked.verify else "no"}
        if self.network.labels is None:
            return told
        precision = engine_of(chip).precision(chip)
        if precision not in self._accuracy:
            self._accuracy[precision] = accuracy_on(self.network, precision)
        return told | {"accuracy": self._accuracy[precision]}

    def _each_entering(self, *, outputs: bool) -> Iterator[Entering]:
        """Go through what enters each layer, kept from an earlier run where it may be."""
        if self._entering:
            yield from self._entering
            return
        kept, size_bytes = list[Entering](), 0
        for each in self._inputs.each(outputs=outputs):
            if self._keep and not outputs and size_bytes <= MOST_KEPT_BYTES:
                size_bytes += 0 if isinstance(each.samples.source, Density) else each.samples.source.nbytes
                kept = [*kept, each] if size_bytes <= MOST_KEPT_BYTES else []
                if len(kept) == len(self.network):
                    self._entering = kept  # before the last is handed over: nobody asks for one behind it
            yield each

    def _of(self, layer: Layer) -> _Ready:
        if layer.name in self._ready:
            return self._ready[layer.name]
        groups, rows, per_group, vectors = layer.products
        batch = self._inputs.batch(layer.name)
        check_countable({"groups": groups, "outputs": rows, "inputs": per_group, "vectors": batch * vectors})
        weights = WeightMatrix(lambda: layer.matrix, layer.bias)
        columns = {"network": self.network.name, **_given(layer, batch), **_stored(layer, weights)}
        ready = _Ready(layer, weights, columns)
        if self._keep:
            self._ready[layer.name] = ready
        return ready


def _at(place: str, error: InputError | MemoryError) -> list[str]:
    return error.at(place) if isinstance(error, InputError) else [f"{place}: {in_memory(error)}"]


def _say_not_run(chip: Hardware, not_run: Mapping[str, UnsupportedError], layers: int) -> list[str]:
    """Warn of the layers that a chip cannot run; returns the reasons where it can run none."""
    said = [f"layer {name} on {chip.name}: {problem}" for name, error in not_run.items() for problem in error.problems]
    if len(not_run) == layers:
        return said
    if said:
        remains = "the row of this layer is empty and it is in no total"
        warn("\n".join(f"{problem}; {remains}" for problem in said))
    return []


def _count_io(chip: Hardware, rows: list[dict[str, Any]], takers: set[str], givers: set[str]) -> None:
    """Charge the rows of a network's layers for its inputs and outputs; a layer that did not run has none."""
    for row in rows:
        if row["executed_as"] != UNSUPPORTED:
            row |= with_io(row, chip, inputs=row["layer"] in takers, outputs=row["layer"] in givers)


def _given(layer: Layer, batch: int) -> Row:
    """Return the columns that say which layer runs, the same for all chips."""
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "out_features": layer.out_features,
        "in_features": layer.in_features,
        "batch": batch,
        "vectors": batch * layer.products.vectors,
        "dense_macs": batch * layer.products.vectors * layer.weight_count,
    }


def _entered(entering: Entering) -> Row:
    """Return the columns that say what a layer runs on."""
    samples = entering.samples
    return {
        "activation_density": samples.density,
        "activations": entering.activations,
        "seed": samples.seed,
    }


def _stored(layer: Layer, weights: WeightMatrix) -> Row:
    """Return in what type the weights come, and their size in it: the unit in which all machines are compared."""
    kept = layer.stored_as or weights.weight.dtype.name
    return {"stored_as": kept, "dense_bits": bits_of(kept) * layer.weight_count}


def _unsupported(layer: Layer, weights: WeightMatrix) -> dict[str, Any]:
    """Return the row of a layer that its chip cannot run: what is known of it, and no numbers."""
    nonzeros = weights.once("nonzeros", lambda: int(np.count_nonzero(weights.weight)))
    empty = {column.name: None for column in COLUMNS if column.dtype != "str"}
    known = {"out_features", "in_features", "batch", "vectors", "dense_macs", "dense_bits", "activation_density"}
    known |= {"seed", *MAY_BE_EMPTY, *OF_NETWORK}
    return {name: value for name, value in empty.items() if name not in known} | {
        "weight_density": nonzeros / layer.weight_count,
        "granularity": layer.pruned_as(nonzeros),
        "executed_as": UNSUPPORTED,
        "verified": "no",
    }
