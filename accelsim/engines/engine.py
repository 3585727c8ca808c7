"""What a machine has to be able to do: everything that the rest of the house asks of it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from accelsim.engines.words import Words
from accelsim.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from accelsim.chips import Hardware, OperationsConfig
    from accelsim.energy import Entry, Price
    from accelsim.engines.events import Timeline, Window
    from accelsim.engines.operations import Step
    from accelsim.formats.counting import WeightMatrix
    from accelsim.formats.precision import Precision
    from accelsim.network import Layer, Network
    from accelsim.network.activations import Samples

BACKENDS = ("compiled", "simpy")
"""The twin, and the specification, which returns the same integers slowly."""

Row = dict[str, Any]
"""Columns of the table by name; what several machines have in common is added by `accelsim.simulation`."""


class Asked(NamedTuple):
    """How a layer is to be run."""

    backend: str = "compiled"
    verify: bool = False
    """Compute the product too, and compare it with the dense one bit for bit."""
    units: bool = False
    """Say in column `units` what each unit does with its cycles."""


class Ran(NamedTuple):
    """What of a run its energy depends on."""

    actions: Mapping[str, int]
    cycles: int
    clock_mhz: float
    dtype: str = ""

    @property
    def own_actions(self) -> dict[str, int]:
        """What a machine prices itself: all but DRAM's actions, which `accelsim.energy.dram` prices for every one."""
        from accelsim.energy.dram import ACTIONS  # only now: the help of commands loads nothing heavy

        return {action: times for action, times in self.actions.items() if action not in ACTIONS}


class Product(NamedTuple):
    """A product by its size alone: tokens x in_features activations, out_features x in_features weights."""

    tokens: int
    out_features: int
    in_features: int
    dtype: str
    pattern: str | None = None
    """N:M that the weights are packed by; None: dense."""
    tile: tuple[int, int] | None = None
    """Tokens and outputs of a tile; None: the fastest."""
    cold: bool = False
    """Whether operands come from DRAM; else the same product ran just before."""


class Operation(NamedTuple):
    """What one operation on 32 bits costs on a chip: its name, energy and source."""

    name: str
    pj: float
    source: str


class Terms(NamedTuple):
    """On what terms a chip is compared with others, beside its precision: how much of it there is, what prices it."""

    sums: str
    """Number format of accumulators."""
    multipliers: int
    """Multiply-accumulates in this format that all units do in a cycle, dense."""
    sram_bytes: int
    """All memories on the chip together; registers are none."""
    basis: str = ""
    """What the energies are of a chip that no technology prices, as in "measured board"."""


class ApartError(Exception):
    """Chips that were to be priced together do not share their runs after all; each has to run by itself."""


class Run(Protocol):
    """One chip on one network: its layers are looked at in order, then each is run.

    By default no layer changes how another runs.
    """

    @property
    def chip(self) -> Hardware:
        """The chip."""

    @property
    def known(self) -> bool:
        """Whether layers that were not looked at yet cannot change how those before them run."""
        return True

    def look_at(self, weights: WeightMatrix) -> None:
        """Add a layer; raises InputError for weights that are not finite."""
        return

    def row(self, layer: Layer, weights: WeightMatrix, samples: Samples, asked: Asked) -> Row:
        """Run a layer that was looked at.

        Raises UnsupportedError where the chip cannot run it, InputError for a layer that nobody could run, and
        VerificationError on a bug of ours.
        """
        ...

    def operation(self, step: Step, asked: Asked) -> Row:
        """Run an operation that is not a layer: one that is computed or moved, or that is fused and reads operands.

        By default raises UnsupportedError: a machine that can do so says how.
        """
        raise UnsupportedError(f"engine {self.chip.engine.kind} has nothing to run operations by; leave them elsewhere")

    @property
    def area(self) -> tuple[float, str] | None:
        """The area of the chip, and what of its memories is extrapolated, where a run knows both; else ask `Engine`."""
        return None

    def check_network(self) -> None:
        """Raise InputError where the layers run one by one and yet the network does not; once all have run."""
        return


class Engine(Protocol):
    """A machine: an entry of ENGINES. A wing subclasses it, so that what is not its own business has a default."""

    kind: ClassVar[str]
    """`engine.kind` in the file of a chip."""
    words: ClassVar[Words]
    ways: ClassVar[frozenset[str]] = frozenset({"fused", "elsewhere"})
    """What it can do with operations that are not layers, of `accelsim.chips.operations`."""

    @property
    def chip(self) -> type[Hardware]:
        """What the file of a chip with this machine is checked against."""

    def on(self, chip: Hardware) -> Run:
        """Return what runs the layers of one network on a chip."""

    def together_key(self, chip: Hardware) -> Hashable:
        """Return what chips of one name must share to be run by `together`; None, as by default: each runs alone."""
        return None

    def together(self, chips: Sequence[Hardware]) -> Run:
        """Return what runs several chips that share a `together_key`: numbers in its rows may be arrays (chips,).

        They are those of each chip alone, to the last bit. Raises InputError as `on` does for any of the chips; the
        run raises ApartError where they do not share their runs after all.
        """
        raise ApartError

    def timeline(
        self, chip: Hardware, network: Network, layer: Layer, samples: Samples, backend: str, window: Window
    ) -> Timeline:
        """Return what every unit does in a window of cycles of one layer of a network.

        Raises InputError for a window outside the run, and as `Run.row` does.
        """

    def prices(self, chip: Hardware, *, streamed: bool = False) -> dict[str, Price]:
        """Return the price of every action but DRAM's, and of every cycle (`*_per_cycle`), at the full clock.

        `streamed`: of a run that is fed from DRAM, which has more kinds of actions.
        Raises InputError for what has no price.
        """

    def entries(self, chip: Hardware, ran: Ran) -> list[Entry]:
        """Return every line of the account of a run but DRAM's; what is paid per cycle comes last.

        Raises KeyError for an action without a price.
        """

    def bill(self, chip: Hardware) -> OperationsConfig:
        """Return what a chip does with operations that are not layers; by default all is left to something else."""
        from accelsim.chips import OperationsConfig

        return chip.operations or OperationsConfig()

    def area_mm2(self, chip: Hardware) -> float:
        """Return the area of a chip, 0 where it is not known."""
        return 0.0

    def extrapolated(self, chip: Hardware) -> str:
        """Return "no", or what of a chip's memories lies beyond the data that prices them."""
        return "no"

    def fastest_clock_mhz(self, chip: Hardware) -> float | None:
        """Return the fastest clock that a chip's memories follow, None where no technology tells; raises InputError."""
        return None

    def operations(self, chip: Hardware) -> list[Operation]:
        """Return what moving, keeping and computing 32 bits costs on a chip, DRAM apart; raises InputError."""

    def describe(self, chip: Hardware) -> tuple[str, str]:
        """Say what a chip consists of and what it is made in; raises InputError for what has no price."""

    def terms(self, chip: Hardware) -> Terms:
        """Return on what terms a chip is compared with others."""
        ...

    def number_format(self, chip: Hardware, name: str) -> Mapping[str, Any]:
        """Return the keys, as in `load_hardware`, with which a chip computes in a format of `NUMBER_FORMATS`.

        Raises InputError with the reason where it cannot.
        """
        raise InputError(f"engine {self.kind} computes in one number format ({self.precision(chip)}), not in {name}")

    def product(self, chip: Hardware, product: Product, backend: str) -> Row:
        """Run a product of which only the size is known; raises InputError with every problem."""
        raise InputError(
            f"{chip.name}: engine {self.kind} runs no product of which only the size is known; simulate a layer, or "
            "choose another chip"
        )

    def precision(self, chip: Hardware) -> Precision:
        """Return the numbers that a chip computes with, of which a network's score is; by default as they are given."""
        from accelsim.formats.precision import Precision

        return Precision()

    def stored_bits(self, kept: NDArray[np.bool_]) -> Mapping[str, int]:
        """Return the size, in formats that only this machine has, of a matrix that is not zero where flags are set."""
        return {}


def union(engines: Sequence[Engine], kind: str) -> tuple[Any, ...]:
    """Return the words of one kind of all machines, each once, in order: `stalls`, `actions`, `kinds`, ...

    Raises ValueError for a name that two machines use for what is drawn, counted or typed in different ways.
    """
    found: dict[str, Any] = {}
    for engine in engines:
        for word in getattr(engine.words, kind):
            first = found.setdefault(word.name, word)
            if any(getattr(first, how, None) != getattr(word, how, None) for how in ("bar", "column", "dtype")):
                raise ValueError(f"engine {engine.kind}: {kind}: {word.name}: means another thing elsewhere; rename it")
    return tuple(found.values())
