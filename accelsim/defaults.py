"""The defaults of commands and calls, and the name of an unpruned network."""

DEFAULT_NETWORK = "lenet-300-100-digits"
DEFAULT_CHIP = "eie-64pe-45nm"
SECOND_CHIP = "edge-nm-16x16"
"""Beside the first, where chips are compared."""

AS_GIVEN = "as given"
"""The granularity of a network that is not pruned further."""

MOST_SEED = 2**62
"""Of what is drawn: with the number of a layer added, it stays a whole number of 64 bits in every table."""

HONEST, SCALESIM = "honest", "scalesim-3.0.0"
"""By which rules a systolic array counts."""
