"""Does every hostile input end in success or in a refusal of a few lines, whatever reads it?"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from hostile import kinds
from hostile.harness import Worker

EACH, FEWER = 132, 60
"""Inputs of a kind, 2,000 in all; `python -m benchmarks.hostile` runs others, and more."""
COSTLY = ("chips", "networks", "price_tables", "result_tables", "spaces", "technologies", "traces")
"""Kinds of which a case takes hundredths of a second."""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as found:
        yield found


@pytest.mark.parametrize("kind", kinds.names())
def test_a_hostile_input_succeeds_or_is_refused(kind: str, worker: Worker) -> None:
    """Time and memory have bounds here only for what never ends: `benchmarks.hostile` measures them."""
    for name in getattr(kinds.module(kind), "NEEDS", ()):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    results = [worker.run(kind, number) for number in range(FEWER if kind in COSTLY else EACH)]
    faults = [str(result) for result in results if result.faults]
    assert not faults, "\n".join(faults)
    assert 2 in {result.code for result in results}  # they do harm
