"""How granularities are written; apart, so that the help of commands loads nothing heavy."""

from __future__ import annotations

SIZES = {"nm": (":", "nm:2:4"), "vector": ("x", "vector:1x4"), "block": ("x", "block:4x4")}
WHOLE = ("fine", "kernel", "filter", "channel")

SPELT = ("fine", "nm:N:M", "vector:1xK", "vector:Kx1", "block:RxC", "kernel", "filter", "channel")
"""How every granularity is written, capitals for numbers."""
EXAMPLES = ("fine", *(example for _, example in SIZES.values()), "kernel", "filter", "channel")
"""One of each kind."""
