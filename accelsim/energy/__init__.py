"""What the counted actions cost."""

from accelsim.energy.account import account, area_mm2, entries, extrapolated, prices, sram_traffic_bits
from accelsim.energy.prices import COMPONENTS, Account, Entry, Price

__all__ = [
    "COMPONENTS",
    "Account",
    "Entry",
    "Price",
    "account",
    "area_mm2",
    "entries",
    "extrapolated",
    "prices",
    "sram_traffic_bits",
]
