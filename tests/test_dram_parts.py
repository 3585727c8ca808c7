"""Does every shipped DRAM part say where its numbers are from, and do they agree with what was published?"""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import EVIDENCE, TIMED_PARTS

from accelsim import memory
from accelsim.config import read_toml, shipped_dir, shipped_names
from accelsim.errors import InputError
from accelsim.memory import BandwidthPart, DramPart, load_memory, load_part, service
from accelsim.memory.service import SHIPPED_STREAMS, measure
from benchmarks import dram_streams

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
    assert names == {*MEASURED, "hbm2e-a100-80gb", "hbm3e-h200", "hbm3e-b200", "gddr7-rtx5080", "lpddr5x-gb10"}
    for name in names:
        part = bandwidth_part(name)
        assert part.name == name
        assert part.description
        assert all(place.source for place in (part, part.bandwidth, part.latency, part.published) if place is not None)


@pytest.mark.parametrize("name", MEASURED)
def test_a_bandwidth_only_part_has_the_measured_values(name: str) -> None:
    measured_row, specified_row = MEASURED[name]
    part = bandwidth_part(name)
    (measured,) = [
        row
        for row in table(EVIDENCE / "nm/nm_memory_latency.csv")
        if (row["gpu"], row["level"]) == (measured_row, "global")
    ]
    (specified,) = [row for row in table(EVIDENCE / "nm/nm_gpu_specs.csv") if row["gpu"] == specified_row]
    assert part.bandwidth.peak_gb_per_s == float(specified["dram_gbs"])
    assert part.bandwidth.sustained_gb_per_s == float(measured["throughput"])
    clocks = float(measured["latency_cycles"])
    assert part.latency.latency_ns == pytest.approx(clocks / float(specified["boost_mhz"]) * 1000, abs=0.05)


@pytest.mark.parametrize(
    ("name", "measured_sibling", "peak"),
    [
        ("hbm3e-h200", "hbm2e-h100-pcie", 4800),
        ("hbm3e-b200", "hbm2e-h100-pcie", 8000),
        ("gddr7-rtx5080", "gddr6x-rtx4090", 960),
    ],
)
def test_a_part_that_nobody_measured_says_what_is_assumed(name: str, measured_sibling: str, peak: float) -> None:
    part, sibling = bandwidth_part(name), bandwidth_part(measured_sibling)
    assert "ASSUMED" in part.source
    assert "ASSUMED" in part.bandwidth.source
    assert "ASSUMED" in part.latency.source
    fraction = sibling.bandwidth.sustained_gb_per_s / sibling.bandwidth.peak_gb_per_s
    assert part.bandwidth.sustained_gb_per_s == pytest.approx(peak * fraction, abs=0.06)
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


# A source for every number

NO_SOURCE_NEEDED = {"controller"}
"""Tables of choices and not of facts."""

OTHER_NAMES = {"clock_ns": "tCK_ns", "row_bytes": "row_bytes_per_channel", "devices": "devices_per_channel"}
"""Keys of a part file that the table of published parameters calls otherwise than by case and underscores."""


def published(row: dict[str, str], key: str) -> str:
    """What a row of the published parameters says about a key, or nothing."""
    if key == "banks_per_group" and row["banks_total"]:
        return str(int(row["banks_total"]) // int(row["bankgroups"]))
    plain = {column.replace("_", "").lower(): value for column, value in row.items()}
    return plain.get(OTHER_NAMES.get(key, key).replace("_", "").lower(), "")


def numeric_lines(name: str) -> list[tuple[str, str, float, str]]:
    """Table, key, number and comment of each line of a part file that gives a number."""
    path = shipped_dir("hwconfigs") / "dram" / f"{name}.toml"
    found, section = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif match := re.fullmatch(r"(\w+) = ([-+0-9.e]+)(?:\s+#\s*(.+))?", line):
            found.append((section, match[1], float(match[2]), match[3] or ""))
    return found


@pytest.mark.parametrize("name", shipped_names("hwconfigs/dram"))
def test_each_table_names_a_source(name: str) -> None:
    data = read_toml(shipped_dir("hwconfigs") / "dram" / f"{name}.toml")
    tables = {key: value for key, value in data.items() if isinstance(value, dict)}
    assert tables
    assert not [key for key, value in tables.items() if key not in NO_SOURCE_NEEDED and not value["source"].strip()]
    written = {(table, key) for table, key, _, _ in numeric_lines(name)}
    parsed = {
        (table, key)
        for table, values in {"": data, **tables}.items()
        for key, value in values.items()
        if type(value) in (int, float)
    }
    assert written == parsed


@pytest.mark.parametrize("name", TIMED_PARTS)
def test_a_number_that_is_not_its_sources_has_a_comment(name: str) -> None:
    """The source of a table names a row of the published parameters by its columns `source` and `device`."""
    rows = table(EVIDENCE / "facts/dram_params.csv")
    data = read_toml(shipped_dir("hwconfigs") / "dram" / f"{name}.toml")
    bare = []
    for section, key, value, comment in numeric_lines(name):
        if section not in ("geometry", "timing", "currents", "io"):
            continue
        if section == "io" and key.endswith("_pj_per_bit"):
            if not comment:
                bare.append(f"{section}.{key}")
            continue
        named = [row for row in rows if f"{row['source']}, {row['device']}" in data[section]["source"]]
        assert named, f"{section}: {data[section]['source']}"
        said = published(max(named, key=lambda row: len(row["device"])), key)
        if not comment and str(value) not in (said, f"{said}.0"):
            bare.append(f"{section}.{key} = {value:g}, source: {said or 'nothing'}")
    assert not bare


def low_mw(volts: float, driver_ohm: float, up_ohm: float, down_ohm: float = math.inf) -> float:
    """What a line draws that a driver pulls to ground, against a resistance to VDDQ and perhaps one to ground."""
    to_ground = 1 / (1 / driver_ohm + 1 / down_ohm)
    return 1e3 * volts**2 / (to_ground + up_ohm)


def low_lines() -> float:
    """Lines out of 8 and one for the inversion that are low, mean over all bytes: more than 4, and it is inverted."""
    zeros = [8 - byte.bit_count() for byte in range(256)]
    return sum(n if n <= 4 else 8 - n + 1 for n in zeros) / 256


def test_derived_pins_are_what_their_arithmetic_says() -> None:
    """Lines that draw current, each at the power of its driver and termination, over the bits that move meanwhile."""
    always, half = 1.0, 0.5
    ddr3, ddr4 = low_mw(1.35, 34, 120, 120), low_mw(1.2, 34, 50)
    gddr5, gddr6, lpddr5 = low_mw(1.5, 40, 60), low_mw(1.35, 40, 60), low_mw(0.5, 40, 40)  # high, of the last
    inverted = (low_lines() + 0.5 + 0.5) / 8  # a check line, and half a pair of clocks, half of the time
    expected = {
        "ddr3-1600": (ddr3 * always * 10 / 8 / 1.6, ddr3 * always * 11 / 8 / 1.6),
        "ddr4-2400": (ddr4 * half * 10 / 8 / 2.4,) * 2,
        "ddr4-3200": (ddr4 * half * 10 / 8 / 3.2,) * 2,
        "gddr5-6000": (gddr5 * inverted / 6,) * 2,
        "gddr6-14000": (gddr6 * inverted / 14,) * 2,
        "lpddr5-6400": (lpddr5 * half * 12 / 8 / 6.4, lpddr5 * half * 10 / 8 / 6.4),
        "hbm1-1000": (0.8, 0.8),  # that of HBM2
    }
    derived = {name: io for name in TIMED_PARTS if (io := load_part(name).io) is not None and io.derived}
    assert derived.keys() == expected.keys()
    for name, (read, write) in expected.items():
        assert (derived[name].read_pj_per_bit, derived[name].write_pj_per_bit) == pytest.approx((read, write), rel=3e-3)


def test_the_pins_of_every_shipped_part_have_a_price() -> None:
    pins = {name: measure(load_memory(name)).pins for name in shipped_names("hwconfigs/dram")}
    assert {name for name, known in pins.items() if known == "priced"} == {"hbm2-2000", "lpddr3-1600", "lpddr4-3200"}
    assert {name for name, known in pins.items() if known == "included"} == {
        name for name in pins if getattr(load_memory(name), "currents", None) is None
    }
    assert "unknown" not in pins.values()


@pytest.mark.parametrize("name", ["hbm2-2400", "hbm3-6400"])
def test_a_part_without_currents_streams_as_in_the_tool_that_it_is_from(name: str) -> None:
    """Ramulator 2.1 has independent pseudo channels; a stream fills those as it fills two in lockstep: within 10 %."""
    (golden,) = [
        row
        for row in table(EVIDENCE / "dram/ramulator.csv")
        if (row["device"].lower(), row["mapping"], row["trace"]) == (name, "RoBaCoBg", "seq_read")
    ]
    block, write = memory.trace("seq_read")
    r = memory.replay(name, block[:40_000], write[:40_000], "saturated", "RoBaCoBg")
    assert r.bandwidth_fraction == pytest.approx(float(golden["bw_frac"]), rel=0.1)
    assert r.energy_pj_per_bit is None


def test_shipped_parts_without_currents_have_a_published_energy() -> None:
    parts = [load_part(name) for name in TIMED_PARTS]
    without = [part for part in parts if part.currents is None]
    assert [part.name for part in without] == ["hbm2-2400", "hbm3-6400"]
    assert all(part.published is not None and part.published.source for part in without)


def test_neither_currents_nor_a_published_energy_is_a_part_without_energy(tmp_path: Path) -> None:
    text = (shipped_dir("hwconfigs") / "dram" / "hbm2-2400.toml").read_text(encoding="utf-8")
    file = tmp_path / "timing-only.toml"
    file.write_text(text.split("[published]")[0], encoding="utf-8")
    part = load_part(file)
    assert part.currents is part.published is None
    assert memory.replay(part, np.zeros(1, int), np.zeros(1, bool)).energy_pj_per_bit is None


def test_a_table_without_a_source_is_refused(tmp_path: Path) -> None:
    text = (shipped_dir("hwconfigs") / "dram" / "hbm2-2400.toml").read_text(encoding="utf-8")
    file = tmp_path / "unsourced.toml"
    file.write_text(re.sub(r"(?m)^source = .*$", "", text), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_part(file)
    assert sorted(error.value.problems) == sorted(
        f"{file}: {key}: is missing; add it"
        for key in ("source", "geometry.source", "timing.source", "published.source")
    )


def test_what_is_kept_of_shipped_parts_is_what_their_replays_count() -> None:
    """Where this fails a part or the controller has changed: `python -m benchmarks.dram_streams` replays them anew."""
    assert json.loads(SHIPPED_STREAMS.read_text(encoding="utf-8")) == dram_streams.streams()


def test_a_shipped_part_is_measured_without_a_replay_and_a_changed_one_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("replayed")

    monkeypatch.setattr(service, "replayed_streams", refuse)
    for name in TIMED_PARTS:
        measure.__wrapped__(load_memory(name))
    with pytest.raises(AssertionError, match="replayed"):
        measure.__wrapped__(load_memory("ddr4-2400", {"timing.t_rfc_ns": 351.0}))
