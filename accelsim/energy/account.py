"""Counts x price: every counted action has one price, and the components add up to the total exactly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from accelsim.energy import dram, eie, tensor_core
from accelsim.energy.prices import PER_CYCLE, Account, Entry, Price
from accelsim.hardware import Hardware
from accelsim.tensor_core_config import TensorCoreConfig

_PRICES = {"eie": eie.prices}
_STREAMING_PRICES = {"eie": eie.streaming_prices}
_AREA_MM2 = {"eie": eie.area_mm2}
_EXTRAPOLATED = {"eie": eie.extrapolated}
_SRAM_TRAFFIC_BITS = {"eie": eie.sram_traffic_bits}


@lru_cache(maxsize=256)
def prices(hardware: Hardware, streamed: bool = False) -> dict[str, Price]:
    """Return the price of every action and of every cycle (`*_per_cycle`) of this chip.

    `streamed`: of a run that is fed from DRAM, which has more kinds of actions. A run whose weights are resident pays
    nothing for DRAM: it may be off.
    """
    own = _PRICES[hardware.engine.kind](hardware)
    return own | _STREAMING_PRICES[hardware.engine.kind](hardware) | dram.prices(hardware) if streamed else own


def area_mm2(hardware: Hardware) -> float:
    """Return the area of the chip."""
    return _AREA_MM2[hardware.engine.kind](hardware)


def extrapolated(hardware: Hardware) -> str:
    """Return "no", or what of this chip's memories lies beyond the data that prices them: `node; size of spmat`."""
    return _EXTRAPOLATED[hardware.engine.kind](hardware)


def sram_traffic_bits(actions: Mapping[str, int], hardware: Hardware) -> dict[str, int]:
    """Return the bits that moved in and out of each memory."""
    return _SRAM_TRAFFIC_BITS[hardware.engine.kind](actions, hardware)


def entries(
    actions: Mapping[str, int], cycles: int, hardware: Hardware, clock_mhz: float = 0.0, dtype: str = ""
) -> list[Entry]:
    """Return every line of the account; what is paid per cycle comes last.

    `clock_mhz` and `dtype` are those of the run, for a tensor core, whose prices depend on them.
    Raises KeyError for an action without a price.
    """
    if isinstance(hardware.engine, TensorCoreConfig):
        return tensor_core.entries(actions, hardware, clock_mhz, dtype)
    table = prices(hardware, actions.get("dram_standby", 0) > 0)
    counted = [(action, count, table[action]) for action, count in actions.items()]
    return counted + [(name, cycles, price) for name, price in table.items() if name.endswith(PER_CYCLE)]


def account(
    actions: Mapping[str, int], cycles: int, hardware: Hardware, clock_mhz: float = 0.0, dtype: str = ""
) -> Account:
    """Return the energy of a run by component: actions x price, and cycles x what the chip spends in each.

    Arguments and errors are those of `entries`.
    """
    return Account.of(entries(actions, cycles, hardware, clock_mhz, dtype))
