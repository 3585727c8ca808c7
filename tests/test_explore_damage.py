"""Does a store whose cells hold something else say so, whatever it is, and is one that may only be read still read?"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Run
from test_explore_store import SPACE, swept

from accelsim.errors import InputError
from accelsim.explore import load, sweep
from accelsim.explore.space import Space
from accelsim.explore.work import Worker


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "r.db"
    swept(path)
    return path


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "r.db"))


def changed(path: Path, statements: str) -> None:
    base = sqlite3.connect(path)
    base.executescript(statements)
    base.close()


CELLS = {
    "knobs no table": "UPDATE points SET knobs = '[1]'",
    "knobs null": "UPDATE points SET knobs = NULL",
    "knobs bytes": "UPDATE points SET knobs = x'ff00'",
    "knobs nested": """UPDATE points SET knobs = '{"a": {"b": 1}}'""",
    "knobs deep": "UPDATE points SET knobs = printf('%.*c', 100000, '[') || printf('%.*c', 100000, ']')",
    "knobs huge": """UPDATE points SET knobs = '{"a": """ + "9" * 5000 + "}'",
    "score text": "UPDATE points SET score = 'good'",
    "score bytes": "UPDATE points SET score = x'00'",
    "error a number": "UPDATE points SET error = x'fffe', rows = 0",
    "precision bytes": "UPDATE points SET precision = x'fffe'",
    "rows below 0": "UPDATE points SET rows = -5",
    "rows without end": "UPDATE points SET rows = 1000000000000",
    "first below 0": "UPDATE points SET first = -1",
    "first beyond": "UPDATE points SET first = 1000000",
    "first text": "UPDATE points SET first = 'one'",
    "no block": "UPDATE points SET block = 77",
    "block text": "UPDATE points SET block = 'one'",
    "block no bytes": "UPDATE blocks SET columns = 'text'",
    "block null": "UPDATE blocks SET columns = NULL",
    "block cut": "UPDATE blocks SET columns = substr(columns, 1, 100)",
    "block long header": "UPDATE blocks SET columns = x'ffffffffffffff7f7b7d'",
    "objectives a number": "UPDATE spaces SET objectives = '5'",
    "objectives a table": "UPDATE spaces SET objectives = '{}'",
    "objectives no texts": "UPDATE spaces SET objectives = '[1]'",
    "constraints deep": "UPDATE spaces SET constraints = printf('%.*c', 100000, '[') || printf('%.*c', 100000, ']')",
    "space bytes": "UPDATE spaces SET name = x'ff'",
    "a view of points": "ALTER TABLE points RENAME TO p; CREATE VIEW points AS SELECT * FROM p",
    "endless columns": (
        "DROP TABLE columns; CREATE VIEW columns AS WITH RECURSIVE r(place, name) AS "
        "(SELECT 1, 'a' UNION ALL SELECT place + 1, name FROM r) SELECT place, name, 'str' dtype, '' unit FROM r"
    ),
    "endless points": (
        "DROP TABLE points; CREATE VIEW points AS WITH RECURSIVE r(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM r) "
        "SELECT id, 'k' key, 'e' engine, '{}' knobs, 1 score, '' precision, NULL error, 1 block, 0 first, 1 rows FROM r"
    ),
    "generated column": "ALTER TABLE points ADD COLUMN more TEXT AS (hex(zeroblob(1000000)))",
    "trigger": "CREATE TRIGGER t AFTER INSERT ON points BEGIN DELETE FROM points; END",
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_what_was_never_written_is_told(store: Path, name: str, accelsim: Run) -> None:
    changed(store, CELLS[name])
    before = store.read_bytes()
    for command in (("pareto", store), ("knobs", store)):
        said = accelsim(*command)
        if said.code:
            assert said.code == 2
            assert said.err.startswith(f"error: {store}: is damaged"), said.err
            assert len(said.err) < 2000
        else:  # it does not look at what is damaged
            assert command[0] == "knobs"
            assert name.startswith(("objectives", "constraints", "space"))
    assert store.read_bytes() == before


def test_a_sweep_writes_into_none_of_them(store: Path) -> None:
    changed(store, CELLS["trigger"])
    with pytest.raises(InputError, match="is damaged or not a store"):
        sweep({**SPACE, "vary": {"engine.pes": [16]}}, store, jobs=1)


def test_the_name_of_a_store_is_no_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    swept(Path("file:y.db?mode=memory"))
    assert (tmp_path / "file:y.db?mode=memory").is_file()
    assert len(load("file:y.db?mode=memory"))


@pytest.fixture
def nobody() -> Iterator[Callable[[], None]]:
    """Become a user who may write nothing, where this one may write everything."""
    me = os.geteuid()
    yield lambda: os.seteuid(65534) if me == 0 else None
    os.seteuid(me)


@pytest.mark.parametrize("command", ["pareto", "knobs"])
def test_a_store_that_may_only_be_read_is_read(
    whole: Path,
    tmp_path: Path,
    command: str,
    accelsim: Run,
    nobody: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = accelsim(command, whole)
    folder = tmp_path / "read-only"
    folder.mkdir()
    shutil.copy(whole, folder / "r.db")
    (folder / "r.db").chmod(0o444)
    folder.chmod(0o555)
    for above in (tmp_path, *tmp_path.parents[:-2]):
        above.chmod(above.stat().st_mode | 0o055)
    nobody()
    said = accelsim(command, folder / "r.db")
    assert (said.code, said.out) == (0, wanted.out)
    assert [each.name for each in folder.iterdir()] == ["r.db"]


def test_points_in_a_log_that_cannot_be_read_are_not_dropped(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(whole, tmp_path / "r.db")
    (tmp_path / "r.db-wal").write_bytes(b"more")
    opened = sqlite3.connect

    def refused(file: str, **how: Any) -> Any:
        if not how.get("uri"):
            raise sqlite3.OperationalError("unable to open database file")
        return opened(file, **how)

    monkeypatch.setattr(sqlite3, "connect", refused)
    with pytest.raises(InputError, match=r"the last points are still in .*-wal"):
        load(tmp_path / "r.db")


CODE = {
    "exits": "raise SystemExit(7)",
    "exits quietly": "import sys; sys.exit(0)",
    "raises": "raise ValueError('x' * 10**6)",
    "neither": "class Odd(BaseException): pass\n    raise Odd('odd')",
}


@pytest.mark.parametrize("name", CODE)
def test_what_a_score_raises_is_a_point_that_failed(tmp_path: Path, name: str) -> None:
    (tmp_path / "score.py").write_text(f"def score(network):\n    {CODE[name]}\n    return 1.0\n")
    space = {**SPACE, "vary": {"engine.pes": [4]}, "evaluate": f"{tmp_path / 'score.py'}:score"}
    table = sweep(space, tmp_path / "r.db", jobs=1)
    assert table["error"].str.startswith(f"evaluate: {tmp_path / 'score.py'}:score failed: ").all()
    assert table["error"].str.len().lt(2000).all()


def space_with_code(folder: Path) -> Path:
    """Return the file of a space that names a function, which leaves a canary wherever it runs."""
    (folder / "score.py").write_text(f"open({str(folder / 'canary')!r}, 'w')\ndef score(network):\n    return 0.5\n")
    file = folder / "space.toml"
    file.write_text('evaluate = "score.py:score"\nnetwork = "lenet-300-100-digits"\nvary.engine.fifo_depth = [4, 8]\n')
    return file


def test_code_that_a_file_names_runs_only_where_it_is_allowed(tmp_path: Path, accelsim: Run) -> None:
    file = space_with_code(tmp_path)
    for command in ("sweep", "search"):
        said = accelsim(command, file, "--store", tmp_path / "r.db")
        assert said.code == 2
        assert "space.toml: evaluate: 'score.py:score' is code, which would run with all your rights" in said.err
        assert "--trust" in said.err
    with pytest.raises(InputError, match="is code"):
        sweep(file, tmp_path / "r.db")
    assert accelsim("sweep", file, "--store", tmp_path / "r.db", "--dry-run", "--trust").code == 0
    assert accelsim("sweep", file, "--store", tmp_path / "r.db", "--dry-run").code == 0
    assert not (tmp_path / "canary").exists()
    other = accelsim("sweep", file, "--store", tmp_path / "r.db", "--jobs", "1", "--evaluate", "digits")
    assert other.code == 0
    assert not (tmp_path / "canary").exists()
    assert accelsim("sweep", file, "--store", tmp_path / "r.db", "--jobs", "1", "--trust").code == 0
    assert (tmp_path / "canary").exists()


def test_code_that_is_typed_is_found_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space_with_code(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    plain = tmp_path / "elsewhere" / "space.toml"
    plain.write_text("vary.engine.fifo_depth = [4, 8]\n")
    monkeypatch.chdir(tmp_path)
    assert Space(plain, {"evaluate": "score.py:score"}).evaluate == f"{tmp_path / 'score.py'}:score"


def test_what_this_machine_lacks_fails_no_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelsim: Run) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store = tmp_path / "r.db"
    monkeypatch.setattr(Worker, "_network", full)
    said = accelsim("sweep", "eie-queue-depth", "--store", store, "--jobs", "1", "-q")
    assert said.code == 2
    assert "points cannot be run here: OSError: [Errno 28] No space left on device" in said.err
    base = sqlite3.connect(store)
    assert base.execute("SELECT count(*) FROM points").fetchone() == (0,)  # so that they are tried again
    base.close()


def test_a_sweep_of_which_every_point_failed_is_an_error(tmp_path: Path, accelsim: Run) -> None:
    file = space_with_code(tmp_path)
    score = tmp_path / "score.py"
    score.write_text("def score(network):\n    if 1 / 0:\n        pass\n    return 0.5\n")
    asked = "sweep", file, "--store", tmp_path / "r.db", "--jobs", "1", "--trust"
    for quiet in (["-q"], []):
        said = accelsim(*asked, *quiet, "--csv", tmp_path / "t.csv")
        assert said.code == 2
        assert said.errors == [
            f"{tmp_path / 'r.db'}: all of its points failed (2), as point 0: evaluate: {score}:score failed: "
            "ZeroDivisionError: division by zero; mend that, and --retry-failed runs them again"
        ]
        assert len(pd.read_csv(tmp_path / "t.csv")) == 2
    score.write_text("def score(network):\n    return 0.5\n")
    assert accelsim(*asked, "-q", "--retry-failed").code == 0
