"""What the counted actions cost."""

from accelsim.energy.account import account, area_mm2, extrapolated, prices, sram_traffic_bits
from accelsim.energy.prices import COMPONENTS, Account, Price

__all__ = ["COMPONENTS", "Account", "Price", "account", "area_mm2", "extrapolated", "prices", "sram_traffic_bits"]
