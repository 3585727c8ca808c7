"""Does every shipped DRAM part say where its numbers are from, and do they agree with what was published?"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import TIMED_PARTS

from accelsim import memory
from accelsim.config import shipped_dir, shipped_names
from accelsim.errors import InputError
from accelsim.memory import BandwidthPart, DramPart, load_memory, load_part

MEASURED = {
    "hbm2-a100-40gb": ("A100 PCIe", "A100 SXM4 40GB"),
    "hbm2e-h100-pcie": ("H800 PCIe", "H100 PCIe"),
    "gddr6x-rtx4090": ("RTX 4090", "RTX 4090"),
}
"""Bandwidth-only part -> its row of measured latencies, and the row of specifications with its clock and peak."""


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def bandwidth_part(name: str) -> BandwidthPart:
    part = load_memory(name)
    assert isinstance(part, BandwidthPart)
    return part


def test_a_bandwidth_only_part_is_named_as_one() -> None:
    names = set(shipped_names("hwconfigs/dram")) - set(TIMED_PARTS)
    assert names == {*MEASURED, "hbm3e-h200"}
    for name in names:
        part = bandwidth_part(name)
        assert part.name == name
        assert part.description
        assert all(place.source for place in (part, part.bandwidth, part.latency, part.published) if place is not None)


@pytest.mark.parametrize("name", MEASURED)
def test_a_bandwidth_only_part_has_the_measured_values(name: str, shared: Path) -> None:
    measured_row, specified_row = MEASURED[name]
    part = bandwidth_part(name)
    (measured,) = [
        row
        for row in table(shared / "golden/nm/nm_memory_latency.csv")
        if (row["gpu"], row["level"]) == (measured_row, "global")
    ]
    (specified,) = [row for row in table(shared / "golden/nm/nm_gpu_specs.csv") if row["gpu"] == specified_row]
    assert part.bandwidth.peak_gb_per_s == float(specified["dram_gbs"])
    assert part.bandwidth.sustained_gb_per_s == float(measured["throughput"])
    clocks = float(measured["latency_cycles"])
    assert part.latency.latency_ns == pytest.approx(clocks / float(specified["boost_mhz"]) * 1000, abs=0.05)


def test_the_part_that_nobody_measured_says_what_is_assumed() -> None:
    part, sibling = bandwidth_part("hbm3e-h200"), bandwidth_part("hbm2e-h100-pcie")
    assert "ASSUMED" in part.source
    assert "ASSUMED" in part.bandwidth.source
    assert "ASSUMED" in part.latency.source
    fraction = sibling.bandwidth.sustained_gb_per_s / sibling.bandwidth.peak_gb_per_s
    assert part.bandwidth.sustained_gb_per_s == pytest.approx(4800 * fraction, abs=0.06)
    assert part.latency.latency_ns == sibling.latency.latency_ns


def test_load_memory_takes_what_load_part_takes() -> None:
    timed = load_memory("ddr4-2400", {"controller.page_policy": "closed"})
    assert isinstance(timed, DramPart)
    assert timed == load_part("ddr4-2400", {"controller.page_policy": "closed"})
    assert load_memory(timed) is timed
    path = shipped_dir("hwconfigs") / "dram" / "gddr6x-rtx4090.toml"
    part = load_memory(str(path), {"latency.latency_ns": 0})
    assert isinstance(part, BandwidthPart)
    assert part.latency.latency_ns == 0
    assert load_memory(part) is part
    with pytest.raises(InputError, match="overrides: apply to a part by name or path"):
        load_memory(part, {"latency.latency_ns": 1.0})


def test_a_bandwidth_only_part_has_no_timings_to_replay() -> None:
    said = "hbm3e-h200: model: is bandwidth-only, so it has no timings .* hbm2-2000, or load_memory"
    with pytest.raises(InputError, match=said):
        load_part("hbm3e-h200")
    for part in ("hbm3e-h200", bandwidth_part("hbm3e-h200")):
        with pytest.raises(InputError, match=said):
            memory.replay(part, np.zeros(1, int), np.zeros(1, bool))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            {"bandwidth.sustained_gb_per_s": 1600.0},
            "bandwidth.sustained_gb_per_s: must be at most peak_gb_per_s = 1555 (got 1600)",
        ),
        ({"bandwidth.peak_gb_per_s": float("nan")}, "bandwidth.peak_gb_per_s: must be a finite number (got nan)"),
        ({"bandwidth.peak_gb_per_s": 0}, "bandwidth.peak_gb_per_s: must be above 0 (got 0)"),
        ({"bandwidth.peak_gb_per_s": "1555"}, "bandwidth.peak_gb_per_s: must be a number, without quotes"),
        ({"latency.latency_ns": -1.0}, "latency.latency_ns: must be at least 0 (got -1.0)"),
        ({"published.pj_per_bit": 0.0}, "published.pj_per_bit: must be above 0 (got 0.0)"),
        ({"published.pj_per_bits": 1.0}, "published.pj_per_bits: unknown key (got 1.0); did you mean 'pj_per_bit'?"),
        ({"timing.clock_ns": 1.0}, "timing: unknown key"),
        ({"model": "bandwidth"}, "model: is unknown (got 'bandwidth'); did you mean 'bandwidth-only'?"),
        ({"model": 3}, "model: is unknown (got 3); known: bandwidth-only, timed"),
        ({"model": ["timed"]}, "model: is unknown (got ['timed'])"),
        ({"model": "timed"}, "timing: is missing; add it"),
    ],
)
def test_a_mistake_in_a_bandwidth_only_part(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as error:
        load_memory("hbm2-a100-40gb", overrides)
    assert f"hbm2-a100-40gb.toml: {said}" in str(error.value)
