"""How granularities are written; apart, so that the help of commands loads nothing heavy."""

from __future__ import annotations

SIZES = {"nm": (":", "nm:2:4"), "vector": ("x", "vector:1x4"), "block": ("x", "block:4x4")}
WHOLE = ("fine", "kernel", "filter", "channel")
WHOLE_CHANNELS = ("filter", "channel")
"""Those that prune channels of a network, which can be taken out of it, and not weights of one layer."""

SPELT = ("fine", "nm:N:M", "vector:1xK", "vector:Kx1", "block:RxC", *WHOLE[1:])
"""How every granularity is written, capitals for numbers."""
EXAMPLES = ("fine", *(example for _, example in SIZES.values()), *WHOLE[1:])
"""One of each kind."""
