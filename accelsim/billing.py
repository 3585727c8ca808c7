"""Operations that are not layers, billed on one chip: a row for each, after that of its layer."""

from __future__ import annotations

from collections.abc import Iterator

from accelsim.chips import Hardware
from accelsim.engines import Asked, Row, Run, engine_of
from accelsim.engines.operations import Planned, Step, plan
from accelsim.errors import UnsupportedError, warn
from accelsim.kinds import COMPUTED, ELSEWHERE, FUSED
from accelsim.network import Network, Scope
from accelsim.network.graph import Operation
from accelsim.results import COLUMNS, of_network

NO_PRODUCT: Row = {"load_balance": None}
"""Ratios that are empty of what does not multiply."""

BEFORE_ALL = ""
"""Stands for the layer behind which operations come that run before the first."""


def billed(network: Network, chip: Hardware) -> set[str]:
    """Return the names of the operations of a network that a chip runs, and does not leave elsewhere."""
    return {name for name, planned in _planned(network, chip).items() if planned.way != ELSEWHERE}


def scope_on(network: Network, chip: Hardware, scope: Scope | None = None) -> Scope:
    """Return how much of a network its layers are, and the operations that a chip runs.

    `scope`: how much its layers are of the network that they were pruned from; None: of itself.
    """
    names = billed(network, chip)
    return (scope or network.scope).with_billed(each for each in network.left_out if each.name in names)


def _planned(network: Network, chip: Hardware) -> dict[str, Planned]:
    """Return what becomes of each operation on a chip; of a network without a graph there is none."""
    if network.graph is None:
        return {}
    return plan(network.graph, {layer.name: layer.maps.outputs for layer in network}, engine_of(chip).bill(chip))


class Bill:
    """What one chip does with the operations of a network."""

    def __init__(self, network: Network, run: Run, scope: Scope) -> None:
        """`scope`: as in `scope_on`."""
        self._run, self._network = run, network.name
        self._plan = _planned(network, run.chip)
        self._behind = _behind(network)
        self.of_network = of_network(scope_on(network, run.chip, scope))
        """Columns that say how much of the network layers and operations on the bill are."""

    def rows(self, layer: str, batch: int, asked: Asked, told: Row) -> Iterator[Row]:
        """Go through the rows of what runs behind a layer; `told`: where they are from.

        An operation that the machine cannot run after all is left elsewhere, with a warning.
        """
        for operation in self._behind.get(layer, ()):
            step = self._plan[operation.name].of(operation, batch)
            row = _given(step) | {"network": self._network, **self.of_network, **told}
            try:
                yield self._ran(step, asked) | row | {"executed_as": step.way}
            except UnsupportedError as error:
                for problem in error.problems:
                    warn(f"operation {operation.name} on {self._run.chip.name}: {problem}; it is in no total")
                yield _nothing() | row | {"executed_as": ELSEWHERE}

    def _ran(self, step: Step, asked: Asked) -> Row:
        """Return what an operation takes."""
        if step.way == ELSEWHERE:
            return _nothing()
        if step.way == FUSED and not step.reads:
            return _free(self._run)
        row = self._run.operation(step, asked)
        return row if step.way == COMPUTED else row | NO_PRODUCT


def _behind(network: Network) -> dict[str, list[Operation]]:
    """Return the operations behind each layer, in the order in which they run."""
    graph, found, layer = network.graph, dict[str, list[Operation]](), BEFORE_ALL
    if graph is None:
        return {}
    by_name = graph.by_name
    for name in graph.order:
        if name in by_name:
            found.setdefault(layer, []).append(by_name[name])
        else:
            layer = name
    return found


def _given(step: Step) -> Row:
    """Return the columns that say which operation it is, the same for all chips."""
    operation, product = step.operation, step.operation.product
    return {
        "layer": operation.name,
        "kind": operation.kind,
        "out_features": None if product is None else product.rows,
        "in_features": None if product is None else product.columns,
        "batch": step.batch,
        "vectors": None if product is None else step.batch * product.groups * product.vectors,
        "dense_macs": None if operation.macs is None else step.batch * operation.macs,
        "weight_density": None,
        "activation_density": None,
        "compression_ratio": None,
        "granularity": "-",
        "seed": 0,
    }


def _nothing() -> Row:
    """Return the numbers of what a chip leaves to something else: none is known."""
    return {column.name: None for column in COLUMNS if column.dtype != "str"}


def _free(run: Run) -> Row:
    """Return what an operation takes that is part of another: nothing."""
    engine = engine_of(run.chip)
    area_mm2, extrapolated = run.area or (engine.area_mm2(run.chip), engine.extrapolated(run.chip))
    return NO_PRODUCT | {
        "clock_mhz": run.chip.engine.clock_mhz,
        "full_clock_mhz": run.chip.engine.clock_mhz,
        "area_mm2": area_mm2,
        "extrapolated": extrapolated,
        **dict.fromkeys(("power_mw", "sram_gb_per_s", "dram_gb_per_s")),
    }
