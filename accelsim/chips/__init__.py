"""What a chip is: data and invariants, no behaviour.

What a machine adds to it stands in its wing of `engines`.
"""

from accelsim.chips.hardware import EngineConfig, Hardware, MemoryConfig, stack, stacked
from accelsim.chips.operations import OperationsConfig
from accelsim.chips.technology import SramTable, Technology

__all__ = [
    "EngineConfig", "Hardware", "MemoryConfig", "OperationsConfig", "SramTable", "Technology", "stack", "stacked",
]  # fmt: skip
