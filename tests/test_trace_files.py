"""Traces from files and times of arrival: the same replays as from arrays and loads, and mistakes told by line."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Run

from accelsim import InputError, memory
from accelsim.config import shipped_dir
from accelsim.memory import trace_files
from accelsim.memory.traces import NAMED
from accelsim.parts.timed import BLOCK_BYTES

PART = memory.load_part("ddr4-2400")
BLOCK, WRITE = memory.trace("mix_rand_75r25w", 300)


def written(folder: Path, lines: list[str], name: str = "trace.txt") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("backend", ["compiled", "simpy"])
@pytest.mark.parametrize("load", [0.0517, 0.6137])  # no request arrives just as a clock begins
def test_times_of_a_steady_stream_are_a_load(load: float, backend: str) -> None:
    rate = load * PART.peak_bytes_per_ns  # request i arrives at i x 64 B / rate
    times = np.arange(len(BLOCK)) * BLOCK_BYTES / rate
    timed = memory.replay(PART, BLOCK, WRITE, time_ns=times, backend=backend)  # type: ignore[arg-type]
    assert timed == memory.replay(PART, BLOCK, WRITE, load, backend=backend)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 4])
def test_power_is_energy_over_time(channels: int) -> None:
    part = memory.load_part("ddr4-2400", {"geometry.channels": channels})
    r = memory.replay(part, BLOCK, WRITE)
    assert r.time_ns == pytest.approx(r.cycles * part.timing.clock_ns)
    bits = 8 * BLOCK_BYTES * (r.counts["reads"] + r.counts["writes"])
    assert r.bandwidth_gb_per_s == pytest.approx(bits / 8 / r.time_ns)
    assert r.power_mw is not None
    assert r.power_mw == pytest.approx(r.energy_pj_per_bit * bits / r.time_ns)  # type: ignore[operator]  # pJ / ns
    core = [mw for name, mw in (r.power_parts_mw or {}).items() if name != "io"]  # pins stand beside the core
    assert sum(core) == pytest.approx(r.power_mw)
    assert len(core) < len(r.power_parts_mw or {})


def test_an_idle_part_draws_its_standby_current() -> None:
    """One read, then one after a long while: almost all is IDD3N of an open row, x VDD x devices, and refreshes."""
    r = memory.replay(PART, [0, 1], [False, False], time_ns=[0, 7000])  # before the first refresh, at 7.8 us
    i = PART.currents
    assert i is not None
    assert r.power_parts_mw is not None
    standby = i.vdd_v * PART.geometry.devices * i.idd3n_ma
    assert r.power_parts_mw["active_standby"] == pytest.approx(standby, rel=0.01)
    assert r.time_ns == pytest.approx(7000, rel=0.01)


def test_every_way_to_write_a_trace_is_the_same(tmp_path: Path) -> None:
    clocks = np.arange(len(BLOCK)) * 3
    addresses = (BLOCK * BLOCK_BYTES).tolist()
    kinds = list(zip(addresses, WRITE.tolist(), strict=True))
    ways = {
        "letters": [f"{address} {'W' if write else 'r'}" for address, write in kinds],
        "hexadecimal": ["# made up", "", *(f"  {address:#x}\t{'w' if write else 'R'}  # {n}" for n, (address, write) in
                                           enumerate(kinds))],
        "ramulator": [f"{'ST' if write else 'LD'} {address}" for address, write in kinds],
        "dramsim3 without cycles": [f"0x{address + 63:X} {'WRITE' if write else 'READ'}" for address, write in kinds],
    }  # fmt: skip
    for name, lines in ways.items():
        found = memory.read_trace(written(tmp_path, lines), PART)
        assert found.block.tolist() == BLOCK.tolist(), name
        assert found.write.tolist() == WRITE.tolist(), name
        assert found.time_ns is None, name
    cycles = [f"{address:#x} {'WRITE' if w else 'READ'} {at}" for (address, w), at in zip(kinds, clocks, strict=True)]
    ns = [
        f"{address} {'W' if w else 'R'} {at * PART.timing.clock_ns!r}"
        for (address, w), at in zip(kinds, clocks.tolist(), strict=True)
    ]
    timed = [memory.read_trace(written(tmp_path, lines), PART) for lines in (cycles, ns)]
    replays = [memory.replay(PART, each.block, each.write, time_ns=each.time_ns) for each in timed]
    assert replays[0] == replays[1]
    assert replays[0].cycles >= clocks[-1]


def test_a_compressed_trace_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "trace.gz"
    path.write_bytes(gzip.compress(b"0x40 R\n0x80 W\n"))
    found = memory.read_trace(path, PART)
    assert (found.block.tolist(), found.write.tolist()) == ([1, 2], [False, True])
    path.write_bytes(gzip.compress(b"0x40 R\n" * 1000)[:-9])
    with pytest.raises(InputError, match=r"trace\.gz: cannot be read"):
        memory.read_trace(path, PART)


BEYOND = PART.geometry.capacity_blocks * BLOCK_BYTES


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0x1g R", "column 1: must be an address in bytes, decimal or hexadecimal with 0x (got '0x1g')"),
        ("-64 R", "column 1: must be an address"),
        ("1_0 R", "column 1: must be an address"),
        ("٣ R", "column 1: must be an address"),
        ("LD", "column 3: is missing; write R or W behind the address"),
        ("  64 X", "column 6: must be R, W, READ or WRITE (got 'X')"),
        ("64 LD", "column 4: must be R, W, READ or WRITE (got 'LD')"),
        ("LD 64 5", "column 7: is one field too many (got '5')"),
        ("64 R 5 6", "column 8: is one field too many (got '6')"),
        ("64 R 5", "column 6: has a time, unlike the lines before it"),
        ("64 R nan", "column 6: must be a time in ns, 0 to"),
        ("64 READ 1.5", "column 9: must be a whole number of clocks, 0 to"),
        (f"{BEYOND} R", f"column 1: is beyond ddr4-2400, which has {BEYOND} bytes (8 GiB); use a larger part"),
        ("\x00\x01\x02", "column 4: is missing"),
        ("6" * 300, "line 2: has more than 256 characters; write a request a line"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_column(tmp_path: Path, line: str, said: str) -> None:
    path = written(tmp_path, ["0 R", line, "64 W"])
    with pytest.raises(InputError) as caught:
        memory.read_trace(path, PART)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: line 2")
    assert said in problem


def test_many_mistakes_are_told_together_up_to_ten(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        memory.read_trace(written(tmp_path, ["0 R", *["x"] * 30]), PART)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        f"line {n}, column 2" for n in range(2, 12)
    ]


def test_times_do_not_go_back_and_are_all_or_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 3, column 5: must not be before the request above, at 20 ns"):
        memory.read_trace(written(tmp_path, ["0 R 10", "0 R 20", "0 R 19.5"]), PART)
    with pytest.raises(InputError, match="line 2, column 4: has no time, unlike the lines before it"):
        memory.read_trace(written(tmp_path, ["0 R 10", "0 R"]), PART)
    with pytest.raises(InputError, match="has no request; write lines such as"):
        memory.read_trace(written(tmp_path, ["# nothing"]), PART)


def test_a_trace_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_files, "MOST_REQUESTS", 2)
    with pytest.raises(InputError, match="line 3: is one more than 2 requests"):
        memory.read_trace(written(tmp_path, ["0 R", "0 R", "0 R"]), PART)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([0.0], "time_ns: must be a 1-D array of numbers as long as block (got float64 (1,) for 2 requests)"),
        (["0", "1"], "time_ns: must be a 1-D array of numbers"),
        ([0.0, math.nan], "time_ns: must be 0 to"),
        ([-1.0, 0.0], "time_ns: must be 0 to"),
        ([0.0, 1e15], "time_ns: must be 0 to"),
        ([2.0, 1.0], "time_ns[1]: must not be before the request above (got 1 after 2)"),
    ],
)
def test_wrong_times_are_told(times: list[object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        memory.replay(PART, [0, 1], [False, False], time_ns=times)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_a_load_and_times_exclude_each_other() -> None:
    with pytest.raises(InputError, match="load: cannot be given beside time_ns"):
        memory.replay(PART, [0], [False], 0.5, time_ns=[0.0])


@pytest.mark.parametrize("name", NAMED)
def test_the_command_replays_named_traces_within_80_columns(accelsim: Run, name: str, tmp_path: Path) -> None:
    csv, json_file = tmp_path / "replay.csv", tmp_path / "replay.json"
    done = accelsim("dram", name, "--requests", "500", "--csv", csv, "--json", json_file)
    assert done.code == 0, done.err
    r = memory.replay(PART, *memory.trace(name, 500))
    assert max(len(line) for line in done.out.splitlines() if not line.startswith("wrote")) <= 80
    assert f"{r.cycles:,} clocks" in done.out
    row = pd.read_csv(csv).iloc[0]
    for column in ("cycles", "time_ns", "bandwidth_gb_per_s", "row_hit_rate", "power_mw"):
        assert row[column] == pytest.approx(getattr(r, column), nan_ok=True)
    waiting = 500 - sum(row[f"count_{kind}"] for kind in
                        ("reads", "writes", "merged_writes", "merged_reads", "forwarded_reads"))  # fmt: skip
    assert row["unfinished_writes"] == waiting
    assert ("wait in buffers" in done.out) == (waiting > 0)
    assert json.loads(json_file.read_text("utf-8"))[0]["cycles"] == r.cycles


def test_the_command_replays_files_with_options(accelsim: Run, tmp_path: Path) -> None:
    path = written(tmp_path, [f"{64 * n:#x} R" for n in range(200)])
    done = accelsim(
        "dram", path, "--part", "lpddr4-3200", "--channels", "2", "--load", "0.5", "--address-map", "RoBaCo"
    )
    assert done.code == 0, done.err
    part = memory.load_part("lpddr4-3200", {"geometry.channels": 2})
    r = memory.replay(part, np.arange(200), np.zeros(200, bool), 0.5, "RoBaCo")
    assert f"{r.cycles:,} clocks" in done.out
    assert "pins (io)" in done.out
    # The part's pins cost 1650 pJ a block that is read: 3.22 pJ per bit on top of the core.
    assert r.energy_pj_per_bit is not None
    line = next(line for line in done.out.splitlines() if "with pins" in line)
    assert float(line.split()[2]) == pytest.approx(r.energy_pj_per_bit + 1650 / 512, rel=1e-3)
    text = (shipped_dir("hwconfigs") / "dram" / "lpddr4-3200.toml").read_text("utf-8")
    bare = tmp_path / "bare.toml"
    bare.write_text(re.sub(r"(?ms)^\[io\].*?(?=^\[|\Z)", "", text), "utf-8")
    unknown = accelsim("dram", path, "--part", bare)
    assert unknown.code == 0, unknown.err
    assert re.search(r"with pins +unknown +the part has no \[io\]", unknown.out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["seq_raed"], "'seq_raed': no trace of this name, and no such file; did you mean 'seq_read'?"),
        (["nowhere.trace"], "nowhere.trace: no such file"),
        (["seq_read", "--part", "ddr4-2401"], "did you mean 'ddr4-2400'?"),
        (["seq_read", "--channels", "3"], "geometry.channels: must be a power of two"),
        (["seq_read", "--requests", "0"], "requests: must be 1 to 67108864 (got 0)"),
        (["seq_read", "--load", "-1"], "load: must be 'saturated' or a fraction of peak"),
        (["seq_read", "--address-map", "RoBa"], "address_map: field 'Co' is missing from 'RoBa'"),
        (["seq_read", "--part", "hbm3e-h200"], "hbm3e-h200: model: is bandwidth-only"),
    ],
)
def test_the_command_tells_mistakes(accelsim: Run, arguments: list[str], said: str) -> None:
    done = accelsim("dram", *arguments)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
