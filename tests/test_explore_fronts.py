"""Does every capacity cost something, so that an exploration does not take the largest of everything?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_sweeps import EIE, NM

from accelsim.explore import Space, pareto, sweep, totals

OBJECTIVES = ["minimize energy_pj", "minimize area_mm2"]

SPACES: dict[str, dict[str, Any]] = {
    EIE: {
        # The weights of LeNet-300-100 fit into the smallest of these, so that more room buys nothing.
        "network": "lenet-300-100-digits",
        "vary": {
            "engine.spmat_bytes": [4096, 32768, 131072], "engine.fifo_depth": [8, 64, 4096],
            "engine.registers_per_pe": [64, 1024], "engine.pointer_bytes": [8192, 131072],
        },
    },
    NM: {
        "network": "lenet-300-100-digits",
        "vary": {"engine.shared_memory_bytes": [2**17, 2**18, 2**19], "engine.l2_bytes": [1, 2**17, 2**18]},
    },
}  # fmt: skip


@pytest.mark.parametrize("chip", SPACES)
def test_the_smallest_is_on_the_front_and_the_largest_is_not(tmp_path: Path, chip: str) -> None:
    vary = SPACES[chip]["vary"]
    table = totals(sweep({**SPACES[chip], "hardware": chip, "objectives": OBJECTIVES}, tmp_path / "r.db", jobs=1))
    assert (table["error"] == "").all()
    assert table[["energy_pj", "area_mm2"]].notna().all(axis=None)
    best = pareto(table, OBJECTIVES)
    smallest, largest = ({name: pick(values) for name, values in vary.items()} for pick in (min, max))
    keys = [dict(zip(vary, row, strict=True)) for row in best[list(vary)].itertuples(index=False)]
    assert smallest in keys
    assert largest not in keys
    for name, values in vary.items():  # nor is the largest of one worth it, the others being what they are
        assert best[name].max() < max(values), best[[*vary, "energy_pj", "area_mm2"]]


@pytest.mark.parametrize("chip", SPACES)
def test_area_follows_every_capacity(tmp_path: Path, chip: str) -> None:
    """Of two points that differ in one knob the larger takes more area, whatever the others are."""
    vary = SPACES[chip]["vary"]
    table = totals(sweep({**SPACES[chip], "hardware": chip}, tmp_path / "r.db", jobs=1))
    for name in vary:
        others = [other for other in vary if other != name]
        for _, alike in table.sort_values(name).groupby(others):
            assert alike["area_mm2"].is_monotonic_increasing, (name, alike[[*vary, "area_mm2"]])
            assert alike["area_mm2"].is_unique, (name, alike[[*vary, "area_mm2"]])


@pytest.mark.thorough
def test_a_shipped_space_chooses_memories_that_the_weights_need(tmp_path: Path) -> None:
    """Its smallest memory is the least area, its largest hold nothing more; the score keeps dense networks off."""
    space = Space("memory-size")
    table = totals(sweep(space, tmp_path / "r.db", jobs=1))
    best = pareto(table, space.wanted.objectives)
    sizes = sorted(table["engine.spmat_bytes"].unique())
    assert best["engine.spmat_bytes"].min() == sizes[0]
    assert best["engine.spmat_bytes"].max() < sizes[-1]
    assert best["sparsity"].min() > 0
    for _, alike in best.groupby("sparsity"):  # of one network more area buys less energy, or the point would be beaten
        by_size = alike.sort_values("engine.spmat_bytes")
        assert by_size["area_mm2"].is_monotonic_increasing
        assert by_size["energy_pj"].is_monotonic_decreasing
