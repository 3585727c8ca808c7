"""What the counted actions cost."""

from accelsim.energy.account import Account, Price, account, area_mm2, prices, sram_traffic_bits

__all__ = ["Account", "Price", "account", "area_mm2", "prices", "sram_traffic_bits"]
