"""What actions cost: prices with their sources, and one account of them for every machine."""

from accelsim.energy.prices import PER_CYCLE, Account, Entry, Price, left_to_right

__all__ = ["PER_CYCLE", "Account", "Entry", "Price", "left_to_right"]
