"""Does every command do the same anywhere: in encodings that lack characters, without a home, into a cut pipe?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from command_lines import CHIPS, FIRST, MATCHED, OTHERS, TABLES, commands, write_inputs
from conftest import Run

from accelsim.explore import load

LINES = [(*line, "--csv", "table.csv", "--json", "table.json") for line in TABLES] + OTHERS


class Place(NamedTuple):
    """Where a command runs: options of Python, variables of its environment, and whether nobody reads what it says."""

    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = MappingProxyType({})
    unread: bool = False


USUAL = Place(environment={"PYTHONHASHSEED": "0"})
PLACES = {
    "python -O in LANG=C without a home": Place(
        ("-O", "-X", "utf8=0"),
        {
            "LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "HOME": "/dev/null/home", "PYTHONHASHSEED": "1",
            "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1",
        },
    ),
    "2>&1 | head -1 in latin-1": Place(
        ("-X", "utf8=0"), {"PYTHONIOENCODING": "latin-1", "PYTHONHASHSEED": "2"}, unread=True
    ),
}  # fmt: skip
"""With another seed of hashes each, and one thread in place of one for each core."""


class Did(NamedTuple):
    code: int
    said: str
    errors: str
    files: dict[str, Any]
    """What each file holds: of a store its rows, of the others their bytes."""


def did(line: tuple[str, ...], place: Place, inputs: Path, folder: Path) -> Did:
    """Run a command in a folder, which is made with all that it reads."""
    shutil.copytree(inputs, folder)
    asked = [sys.executable, *place.options, "-m", "accelsim", *line]
    there = {**os.environ, **place.environment}
    if place.unread:
        reading, writing = os.pipe()
        os.close(reading)
        ran: Any = subprocess.run(asked, env=there, cwd=folder, stdout=writing, stderr=writing)
        os.close(writing)
    else:
        ran = subprocess.run(asked, env=there, cwd=folder, capture_output=True)
    said, errors = ((text or b"").decode(errors="surrogateescape") for text in (ran.stdout, ran.stderr))
    assert "Traceback" not in errors
    made = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return Did(ran.returncode, said, errors, {str(path.relative_to(folder)): _content(path) for path in made})


def _content(path: Path) -> Any:
    return load(path).to_csv() if path.suffix == ".db" else path.read_bytes()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], tuple[Path, Did]]:
    """Return the inputs, and what a command does with them where nothing is unusual."""
    inputs, made = tmp_path_factory.mktemp("inputs"), tmp_path_factory.mktemp("usual")
    write_inputs(inputs)
    for line in (FIRST, ("sweep", "space.toml", "--store", "tiny.db", "--jobs", "1", "-q")):
        subprocess.run([sys.executable, "-m", "accelsim", *line], cwd=inputs, check=True)

    @cache
    def found(line: tuple[str, ...]) -> tuple[Path, Did]:
        return inputs, did(line, USUAL, inputs, made / str(LINES.index(line)))

    return found


def test_every_command_has_a_line() -> None:
    assert {name for name, *_ in LINES} == commands()


@pytest.mark.thorough
@pytest.mark.parametrize("line", LINES, ids=lambda line: "-".join(line[:2]))
@pytest.mark.parametrize("place", PLACES)
def test_every_command_does_the_same_everywhere(
    usual: Callable[[tuple[str, ...]], tuple[Path, Did]], tmp_path: Path, line: tuple[str, ...], place: str
) -> None:
    inputs, wanted = usual(line)
    there = did(line, PLACES[place], inputs, tmp_path / "there")
    assert wanted.code == there.code == 0, there.errors or wanted.errors
    assert there.files.keys() == wanted.files.keys()
    for name, content in wanted.files.items():
        assert there.files[name] == content, name
    if not PLACES[place].unread:
        assert len(there.said.splitlines()) == len(wanted.said.splitlines())


WORK = {
    "run": ("squeezenet", "--density", "0.4", "--against", "none", "--hardware", CHIPS, "--units", "units.csv"),
    "compare": ("--granularity", "fine,filter,nm:2:4", "--evaluate", "digits", "--hardware", MATCHED),
    "sweep": ("space.toml", "--store", "new.db"),
    "search": ("space.toml", "--store", "new.db", "--trials", "3", "--sampler", "tpe", "--seed", "1"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("command", WORK)
def test_results_do_not_depend_on_hashes_threads_or_workers(
    usual: Callable[[tuple[str, ...]], tuple[Path, Did]], tmp_path: Path, command: str
) -> None:
    """Files are the same byte for byte, and stores have the same rows."""
    inputs, _ = usual(LINES[0])
    line = (command, *WORK[command], "--csv", "table.csv")
    found = []
    for seed, threads, jobs in (("0", 1, 1), ("1", 3, 2), ("random", 2, 3)):
        folder = tmp_path / seed
        start = (
            f"from accelsim.threads import use_threads; use_threads({threads}); from accelsim.cli import main; main()"
        )
        asked = (*line, "--jobs", str(jobs)) if command in ("sweep", "search") else line
        shutil.copytree(inputs, folder)
        there = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": str(threads)}
        subprocess.run([sys.executable, "-c", start, *asked], env=there, cwd=folder, check=True, capture_output=True)
        made = {*folder.iterdir()} - {folder / each.name for each in inputs.iterdir()}
        found.append({path.name: _content(path) for path in made if not path.name.endswith(("-wal", "-shm"))})
    assert {"table.csv"} <= found[0].keys()
    assert found[1:] == [found[0]] * 2


WRITE = [
    ("run", "--csv", "t.csv"),
    ("run", "--json", "t.json"),
    ("run", "--parquet", "t.parquet"),
    ("run", "--units", "u.csv"),
    ("run", "--plot", "t.png"),
    ("curve", "--sparsity", "0.5", "--granularity", "fine", "-o", "curve.svg"),
    ("prune", "--sparsity", "0.5", "-o", "pruned.safetensors"),
    ("allocate", "--budget", "energy_pj=90%", "--evaluate", "digits", "--steps", "1", "-o", "pruned.safetensors"),
    ("inspect", "--plot", "i.svg"),
    ("timeline", "--layer", "fc1", "--to", "50", "-o", "t.json.gz"),
    ("pareto", "tiny.db", "--plot", "p.svg"),
    ("knobs", "tiny.db", "--plot", "k.svg", "--heat-map", "h.svg"),
    *OTHERS,
]
"""A command line for every kind of file that is written."""


OUTPUTS = ("-o", "--csv", "--json", "--parquet", "--units", "--plot", "--heat-map", "--reports", "--store")


@pytest.mark.thorough(keep=3)
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody may write into is Linux's")
@pytest.mark.parametrize(
    "line",
    [line for line in (*WRITE, *LINES[: len(TABLES)]) if {*line} & {*OUTPUTS}],
    ids=lambda line: " ".join(line[:4]),
)
def test_a_folder_that_nobody_may_write_into_is_told(
    accelsim: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    Path("results.csv").write_text("layer\nfc\n", encoding="utf-8")
    there = [f"/proc/{word}" if before in OUTPUTS else word for before, word in zip(("", *line), line, strict=False)]
    said = accelsim(*there)
    assert (said.code, said.out) == (2, "")
    told = [each for each in said.errors if "/proc/" in each]
    assert len(told) == len({*line} & {*OUTPUTS}) or "--store" in line
    assert told
    assert all("cannot be" in each for each in told), told


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="a limit on the sizes of files is of other systems")
@pytest.mark.parametrize("line", WRITE, ids=" ".join)
def test_on_a_full_disk_nothing_is_left_half_written(
    usual: Callable[[tuple[str, ...]], tuple[Path, Did]], tmp_path: Path, line: tuple[str, ...]
) -> None:
    import resource

    inputs, _ = usual(LINES[0])
    folder = tmp_path / "there"
    shutil.copytree(inputs, folder)
    asked = [sys.executable, "-m", "accelsim", *line]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # noqa: E731
    ran = subprocess.run(asked, cwd=folder, capture_output=True, text=True, preexec_fn=limit)
    if line[0] == "schema":  # which writes no file
        assert ran.returncode == 0
        return
    assert ran.returncode == 2
    (told,) = [each for each in ran.stderr.splitlines() if not each.startswith(("note: ", "compiling "))]
    assert ": cannot be written: " in told
    assert "File too large" in told
    for path in folder.rglob("*"):
        assert path.is_dir() or (inputs / path.name).exists() or path.name in ("tiny.db-shm", "tiny.db-wal"), path
