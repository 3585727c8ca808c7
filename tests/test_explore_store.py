"""Is the store whole after anything, keyed by content, and never overwritten?"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from conftest import Run
from tiny_sweeps import SPACE, count_runs, rows_in, tiny

import accelsim
from accelsim.errors import InputError
from accelsim.explore import Space, Store, load, sweep, work
from accelsim.explore.store import Done
from accelsim.explore.sweeping import Plan, setup_of
from accelsim.network import Density
from accelsim.network.writer import save
from accelsim.results import COLUMNS, Columns, table


def row(number: int = 1, **changed: Any) -> tuple[Any, ...]:
    values = {"str": f"text {number}", "int64": 2**62 + number, "float64": 0.1 * number}
    return tuple(changed.get(column.name, values[column.dtype]) for column in COLUMNS)


class Ran(NamedTuple):
    """A point as it is stored: its key, its rows, its score, or why it failed."""

    key: str
    rows: Sequence[tuple[Any, ...]] = ()
    score: float | None = None
    error: str | None = None


def add(store: Store, ran: Sequence[Ran]) -> None:
    names = [column.name for column in COLUMNS]
    rows = [dict(zip(names, row, strict=True)) for each in ran for row in each.rows]
    done = [Done(each.key, "{}", len(each.rows), each.score, error=each.error) for each in ran]
    store.add(done, "engine", Columns.of(rows, [1] * len(rows)))


def stored(path: Path, *ran: Ran) -> pd.DataFrame:
    with Store(path) as store:
        add(store, ran)
        return store.read([each.key for each in ran])


def test_every_type_of_column_comes_back_as_it_went_in(tmp_path: Path) -> None:
    rows = [row(1), row(2, time_us=float("inf")), row(3, time_us=5e-324)]
    read = stored(tmp_path / "r.db", Ran("a", rows, 0.5), Ran("b", [row(4)]))
    names = [column.name for column in COLUMNS]
    wanted = table([dict(zip(names, each, strict=True)) for each in (*rows, row(4))])
    pd.testing.assert_frame_equal(read[names], wanted, check_exact=True)
    assert read["point"].tolist() == [0, 0, 0, 1]
    assert read["score"].tolist()[:3] == [0.5] * 3
    assert np.isnan(read["score"].iloc[3])
    assert (read["error"] == "").all()


def test_empty_integers_and_floats_come_back_empty_as_simulate_returns_them(tmp_path: Path) -> None:
    empty = row(2, cycles=None, time_us=None)
    read = stored(tmp_path / "r.db", Ran("a", [row(1), empty]))
    names = [column.name for column in COLUMNS]
    wanted = table([dict(zip(names, each, strict=True)) for each in (row(1), empty)])
    pd.testing.assert_frame_equal(read[names], wanted, check_exact=True)
    assert str(read["cycles"].dtype) == "Int64"
    assert read["cycles"].iloc[0] == 2**62 + 1  # more than a float could hold


def test_blocks_change_nothing(tmp_path: Path) -> None:
    """Points that were stored together, one by one, or in another order are read alike."""
    ran = [Ran(str(n), [row(n), row(n + 1, cycles=None if n == 7 else n)]) for n in range(20)]
    whole = stored(tmp_path / "r.db", *ran)
    with Store(tmp_path / "parts.db") as store:
        for first in (12, 3, 0, 15):
            add(store, ran[first : first + 5])
        add(store, ran[8:12])
        pd.testing.assert_frame_equal(store.read([each.key for each in ran]), whole, check_exact=True)


def test_what_blocks_share_is_a_column_like_any_other(tmp_path: Path) -> None:
    """A value that all of a block has, in some of them another, which may be empty or differ in its sign alone."""
    zeros = [0.0, 0.0, -0.0, float("nan")]
    ran = [Ran(str(n), [row(1, time_us=zeros[n], cycles=None if n == 3 else 5)] * 2) for n in range(4)]
    names = [column.name for column in COLUMNS]
    wanted = table([dict(zip(names, each, strict=True)) for one in ran for each in one.rows])
    with Store(tmp_path / "r.db") as store:
        for each in ran:
            add(store, [each])
        read = store.read([each.key for each in ran])
    pd.testing.assert_frame_equal(read[names], wanted, check_exact=True)
    assert np.signbit(read["time_us"]).tolist() == [False] * 4 + [True] * 2 + [False] * 2
    assert str(read["cycles"].dtype) == "Int64"
    read.loc[1, "energy_pj"] = 3.5  # nobody else has this memory
    assert read["energy_pj"].tolist().count(3.5) == 1


def test_a_point_that_failed_beside_others_has_nothing_of_theirs(tmp_path: Path) -> None:
    read = stored(tmp_path / "r.db", Ran("a", [row(1)]), Ran("b", error="no"), Ran("c", [row(2), row(3)]))
    alone = stored(tmp_path / "o.db", Ran("a", [row(1)]), Ran("c", [row(2), row(3)]))
    assert read["error"].tolist() == ["", "no", "", ""]
    names = [column.name for column in COLUMNS]
    assert read.loc[1, names].isna().all()
    pd.testing.assert_frame_equal(
        read.drop(index=1)[names].reset_index(drop=True).astype(alone[names].dtypes), alone[names], check_exact=True
    )


def test_a_store_without_results_has_the_same_columns(tmp_path: Path) -> None:
    full, empty = stored(tmp_path / "r.db", Ran("a", [row()])), stored(tmp_path / "e.db")
    assert list(full.columns) == list(empty.columns)
    assert empty.empty


def test_a_failed_point_is_a_row_and_gives_way_to_one_that_ran(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    failed = stored(path, Ran("a", error="no"))
    assert failed["error"].tolist() == ["no"]
    assert failed["cycles"].isna().all()
    assert stored(path, Ran("a", error="other"))["error"].tolist() == ["other"]
    ran = stored(path, Ran("a", [row(1)]))
    assert ran["error"].tolist() == [""]
    kept = stored(path, Ran("a", error="late"), Ran("a", [row(9)]))
    assert kept["cycles"].tolist() == [row(1)[[c.name for c in COLUMNS].index("cycles")]] * 2


def keys(given: dict[str, Any]) -> list[str]:
    space = Space(given)
    with Store(":memory:") as store:
        return Plan.begin(space, setup_of(space), store).whole().keys


def changed_network(**changes: Any) -> accelsim.Network:
    import dataclasses

    network = tiny()
    first = dataclasses.replace(network.layers[0], **changes)
    return dataclasses.replace(network, layers=[first, *network.layers[1:]])


def test_equal_content_has_equal_keys() -> None:
    assert keys({**SPACE, "network": tiny()}) == keys(
        {**SPACE, "network": tiny(), "name": "x", "objectives": ["cycles"]}
    )


def test_what_can_change_a_result_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny()
    weight, inputs = network.layers[0].weight.copy(), np.array(network.layers[0].activations)
    where = np.argwhere(weight)[0]
    weight[tuple(where)] *= 2
    other_inputs = inputs.copy()
    other_inputs[np.flatnonzero(inputs)[0]] = 0
    base = {**SPACE, "network": network}
    pruned = {"network": network, "vary": {"granularity": ["fine"], "sparsity": [0.9]}}
    variants: list[dict[str, Any]] = [
        base,
        {**base, "network": tiny(seed=1)},
        {**base, "network": tiny("other")},
        {**base, "network": changed_network(weight_source=lambda: weight)},
        {**base, "network": changed_network(activations=other_inputs)},
        {**base, "network": changed_network(activations=Density(0.5, 0))},
        {**base, "network": changed_network(activations=Density(0.5, 1))},
        {**base, "network": changed_network(bias=np.ones(24, np.float32))},
        {**base, "layers": ["fc1"]},
        {**base, "seed": 1},
        {**base, "density": 0.5},
        {**base, "set": {"engine.clock_mhz": 900.0}},
        {**base, "set": {"technology.register_bit_pj": 1.0}},
        {**base, "evaluate": "fidelity"},
        pruned,
        {**pruned, "criterion": "l2"},
        {**pruned, "vary": {"granularity": ["fine"], "sparsity": [0.8]}},
        {**pruned, "vary": {"granularity": ["vector:1x2"], "sparsity": [0.9]}},
    ]
    every = [key for each in variants for key in keys(each)]
    monkeypatch.setattr("accelsim.explore.sweeping.engine_version", lambda: "another")
    every += keys(base)
    assert len(set(every)) == len(every)


def test_the_file_of_a_score_belongs_to_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    for answer in (1, 2, 1):
        (tmp_path / "score.py").write_text(f"def score(network):\n    return {answer}\n")
        work.evaluation_hash.cache_clear()
        found.append(keys({**SPACE, "network": tiny(), "evaluate": "score.py:score"}))
    assert found[0] == found[2] != found[1]


def test_only_what_is_missing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = count_runs(monkeypatch)
    given = {**SPACE, "network": tiny()}
    first = sweep(given, tmp_path / "r.db", jobs=1)
    assert len(ran) == len(set(ran)) == 6
    assert sweep(given, tmp_path / "r.db", jobs=1).equals(first)
    assert len(ran) == 6
    wider = {**given, "vary": {"engine.pes": [4, 8, 16], "engine.fifo_depth": [2, 4, 8]}}
    assert len(sweep(wider, tmp_path / "r.db", jobs=1)) == 18
    assert len(ran) == 9


def test_another_version_of_the_engines_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**SPACE, "network": tiny()}
    first = sweep(given, tmp_path / "r.db", jobs=1)
    ran = count_runs(monkeypatch)
    for module in ("work", "sweeping"):
        monkeypatch.setattr(f"accelsim.explore.{module}.engine_version", lambda: "another")
    assert sweep(given, tmp_path / "r.db", jobs=1).equals(first)
    assert len(ran) == 6
    assert len(load(tmp_path / "r.db")) == len(first)
    monkeypatch.undo()
    assert len(load(tmp_path / "r.db")) == len(first)


def test_a_store_of_another_version_alone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep({**SPACE, "network": tiny()}, tmp_path / "r.db", jobs=1)
    monkeypatch.setattr("accelsim.explore.sweeping.engine_version", lambda: "another")
    with pytest.raises(InputError, match="its 6 points were made by another version of accelsim; sweep again"):
        load(tmp_path / "r.db")


def test_the_version_of_the_engines_covers_sources_and_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or original(path))
    work.engine_version.__wrapped__()
    package = Path(accelsim.__file__).parent
    names = {str(path.relative_to(package)) for path in read if path.is_relative_to(package)}
    assert {"simulation.py", "engines/eie/twin.py", "explore/work.py", "pruned.py", "engines/eie/prices.py"} <= names
    assert not {"cli/app.py", "explore/store.py"} & names
    assert {"sram_cacti7.csv", "arithmetic.csv", "node_scaling.csv"} <= {path.name for path in read}


def test_a_failed_point_does_not_stop_the_rest_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**SPACE, "network": tiny()}
    original = work.Worker._network

    def failing(self: work.Worker, point: Any, chip: Any) -> Any:
        if chip.engine.fifo_depth == 4:
            raise ZeroDivisionError("of a bug")
        return original(self, point, chip)

    monkeypatch.setattr(work.Worker, "_network", failing)
    broken = sweep(given, tmp_path / "r.db", jobs=1)
    failed = broken[broken["error"] != ""]
    assert failed["error"].tolist() == ["ZeroDivisionError: of a bug"] * 2
    assert (failed["engine.fifo_depth"] == 4).all()
    assert len(broken) == 4 * 2 + 2
    monkeypatch.undo()
    assert sweep(given, tmp_path / "r.db", jobs=1).equals(broken)
    mended = sweep(given, tmp_path / "r.db", jobs=1, retry_failed=True)
    assert mended.equals(sweep(given, tmp_path / "other.db", jobs=1))


def _sweep_some(path: Path, depths: list[int]) -> None:
    for depth in depths:
        sweep({"network": tiny(), "vary": {"engine.pes": [4, 8], "engine.fifo_depth": [depth]}}, path, jobs=1)


@pytest.mark.thorough
def test_two_processes_write_to_one_store_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    depths = list(range(2, 22))
    path = tmp_path / "r.db"
    writers = [context.Process(target=_sweep_some, args=(path, part)) for part in (depths[:14], depths[6:])]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert rows_in(path) == (40, 80)


def _create(path: Path, barrier: Any, failed: Any) -> None:
    for number in range(100):
        barrier.wait()
        try:
            Store(path / f"{number}.db").close()
        except InputError as error:
            failed.put(str(error))


def test_processes_make_one_store_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    barrier, failed = context.Barrier(4), context.SimpleQueue()
    makers = [context.Process(target=_create, args=(tmp_path, barrier, failed)) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert failed.empty(), failed.get()
    for number in range(100):
        Store(tmp_path / f"{number}.db", create=False).close()


def swept(path: Path) -> bytes:
    sweep({**SPACE, "network": tiny()}, path, jobs=1)
    return path.read_bytes()


def other_application(path: Path) -> None:
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE mine (value)")
    base.commit()
    base.close()


def other_format(path: Path) -> None:
    swept(path)
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 999")
    base.commit()
    base.close()


def other_columns(path: Path) -> None:
    swept(path)
    base = sqlite3.connect(path)
    base.execute("UPDATE columns SET name = 'ticks' WHERE name = 'cycles'")
    base.commit()
    base.close()


def truncated(path: Path) -> None:
    path.write_bytes(swept(path)[:-5000])


def overwritten(path: Path) -> None:
    content = bytearray(swept(path))
    content[4096:12288] = os.urandom(8192)
    path.write_bytes(content)


def text(path: Path) -> None:
    path.write_text("point,cycles\n1,2\n" * 100)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (other_application, "is an SQLite file of something else; name another file"),
        (other_format, "was made by a version of accelsim with other columns; name a new file"),
        (other_columns, "was made by a version of accelsim with other columns; name a new file"),
        (truncated, "is damaged or not a store"),
        (overwritten, "is damaged or not a store"),
        (text, "is damaged or not a store"),
    ],
)
def test_a_file_that_is_no_store_is_left_as_it_is(tmp_path: Path, make: Any, said: str) -> None:
    path = tmp_path / "r.db"
    make(path)
    before = path.read_bytes()
    for ask in (lambda: sweep({**SPACE, "network": tiny()}, path, jobs=1), lambda: load(path)):
        with pytest.raises(InputError) as raised:
            ask()
        assert str(raised.value).startswith(f"{path}: {said}")
        assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["r.db"]


def test_a_cell_that_is_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    swept(path)
    base = sqlite3.connect(path)
    base.execute("UPDATE points SET knobs = '{'")
    base.commit()
    base.close()
    with pytest.raises(InputError, match="is damaged"):
        load(path)


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    given = {**SPACE, "network": tiny()}
    with pytest.raises(InputError, match="is a directory; name a file in it"):
        sweep(given, tmp_path, jobs=1)
    with pytest.raises(InputError, match="does not exist; create it first"):
        sweep(given, tmp_path / "no" / "r.db", jobs=1)
    with pytest.raises(InputError, match="no such store; accelsim sweep SPACE --store"):
        load(tmp_path / "no.db")
    with pytest.raises(InputError, match="cannot be written; choose another place"):
        sweep(given, Path("/proc/r.db"), jobs=1)


def test_a_file_that_may_only_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.db"
    swept(path)
    path.chmod(0o444)
    if os.access(path, os.W_OK):  # root may write everything: SQLite may not
        opened = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda file, **rest: opened(f"file:{file}?mode=ro", uri=True, **rest))
    with pytest.raises(InputError, match="cannot be written"):
        sweep({"network": tiny(), "vary": {"engine.pes": [16]}}, path, jobs=1)


def test_a_full_disk_keeps_what_was_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.db"
    first = sweep({**SPACE, "network": tiny()}, path, jobs=1)
    pages = path.stat().st_size // 4096 + 3
    opened = Store._open

    def small(store: Store) -> None:
        opened(store)
        store._base.execute(f"PRAGMA max_page_count = {pages}")

    monkeypatch.setattr(Store, "_open", small)
    many = {"network": tiny(), "vary": {"engine.pes": [4, 8], "engine.fifo_depth": list(range(2, 102))}}
    with pytest.raises(InputError, match="the disk is full; what was stored is safe: make room and run the same"):
        sweep(many, path, jobs=1)
    monkeypatch.undo()
    assert sweep({**SPACE, "network": tiny()}, path, jobs=1).equals(first)
    points, rows = rows_in(path)
    assert rows == 2 * points
    assert sweep(many, path, jobs=1).equals(sweep(many, tmp_path / "whole.db", jobs=1))


LIMITED = """
import resource, sys
from tiny_sweeps import tiny
from accelsim import InputError
from accelsim.explore import sweep
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    sweep({"network": tiny(), "vary": {"engine.fifo_depth": list(range(2, 402))}}, sys.argv[1], jobs=1)
except InputError as error:
    print(error)
"""


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of a file")
def test_a_disk_that_refuses_to_write_is_told_and_what_was_stored_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        cwd=Path(__file__).parent,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(Path(accelsim.__file__).parents[1]), ".", os.environ["PYTHONPATH"]])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith(f"{path}: ")
    assert "Traceback" not in ran.stderr
    points, rows = rows_in(path)
    assert 0 < points < 400
    assert rows == 2 * points


def test_what_a_space_wants_stays_with_its_points(tmp_path: Path, accelsim: Run) -> None:
    """`pareto` leaves out what breaks a constraint of the space swept last, and says so, unless it is told not to."""
    store = tmp_path / "r.db"
    save(tiny(), tmp_path / "net.safetensors")
    vary = 'network = "net.safetensors"\n[vary]\nengine.pes = [4, 8]\nengine.fifo_depth = [2, 8]\n'
    (tmp_path / "few.toml").write_text(
        'name = "few"\nobjectives = ["minimize area_mm2"]\nconstraints = ["engine.pes >= 8", "area_mm2 <= 1e3"]\n'
        + vary
    )
    (tmp_path / "free.toml").write_text('name = "free"\n' + vary)
    for space in ("free.toml", "few.toml"):
        assert accelsim("sweep", tmp_path / space, "--store", store, "--jobs", "1", "-q")[0] == 0

    def best(*arguments: str) -> tuple[str, list[int]]:
        code, said, err = accelsim("pareto", store, "--csv", tmp_path / "best.csv", *arguments)
        assert code == 0, err
        return said, sorted({*pd.read_csv(tmp_path / "best.csv")["engine.pes"]})

    said, pes = best()
    assert pes == [8]
    assert "constraints of space few (--no-constraints: none): engine.pes >= 8; area_mm2 <= 1e3: 2 of 4 points" in said
    assert "the best point: area_mm2" in said
    for arguments in (("--no-constraints",), ("--space", "free", "--objective", "area_mm2")):
        said, pes = best(*arguments)
        assert pes == [4]
        assert "constraints of" not in said
    assert ": energy_pj, time_us" in best("--space", "free")[0]
    assert best("--constraint", "engine.pes <= 4")[1] == [4]
    assert best("--objective", "maximize area_mm2")[1] == [8]
    with Store(store) as base:
        assert base.wanted() == ("few", ("minimize area_mm2",), ("engine.pes >= 8", "area_mm2 <= 1e3"))
        base.keep(base.wanted("free")._replace(constraints=("engine.pes <= 4",)))
        assert base.wanted().space == "free"  # the last that was kept
    for arguments, message in (
        (("--space", "fre"), "has no points of a space 'fre'; did you mean 'free'?"),
        (("--no-constraints", "--constraint", "engine.pes <= 4"), "--no-constraints: contradicts --constraint"),
    ):
        code, _, err = accelsim("pareto", store, *arguments)
        assert (code, message in err) == (2, True), err


def test_a_dry_run_leaves_what_a_store_wants(tmp_path: Path, accelsim: Run) -> None:
    sweep({**SPACE, "network": tiny(), "name": "first", "constraints": ["cycles > 0"]}, tmp_path / "r.db", jobs=1)
    accelsim("sweep", "eie-queue-depth", "--store", tmp_path / "r.db", "--dry-run")
    with Store(tmp_path / "r.db") as base:
        assert base.wanted() == ("first", (), ("cycles > 0",))
