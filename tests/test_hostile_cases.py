"""Files that once ended in a traceback, a hang or a flood: is what they are said in a few lines, or are they read?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run
from hostile.harness import Worker
from hostile.kinds import once_hostile
from hostile.worker import UNSEEN

from accelsim import InputError
from accelsim.errors import LONGEST_LINE, LONGEST_MESSAGE, LONGEST_WORD, MAX_TOLD

CASES = once_hostile.files()


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as found:
        yield found


@pytest.mark.parametrize("path", CASES, ids=[path.name for path in CASES])
def test_a_hostile_file_is_read_or_refused_in_a_few_lines(path: Path, worker: Worker) -> None:
    if path.suffix == ".onnx":
        pytest.importorskip("onnx", reason="ONNX is not installed")
    for command in once_hostile.commands(path.name):
        result = worker.run_files(command, path)
        assert not result.faults, command
        assert result.code in (0, 2)


@pytest.mark.parametrize("line", once_hostile.lines(), ids=range(len(once_hostile.lines())))
def test_a_hostile_command_line_is_run_or_refused_in_a_few_lines(line: list[str], worker: Worker) -> None:
    assert not worker.run_files(line).faults


def test_a_problem_shows_neither_control_characters_nor_endless_names() -> None:
    (problem,) = InputError(f"a\x1b[31m\u202e\ud800: {'n' * 10**6}: rename it").problems
    assert problem.startswith(r"a\x1b[31m\u202e\ud800: nnn")
    assert problem.endswith("nnn: rename it")
    assert len(problem) < LONGEST_WORD + 60
    (problem,) = InputError(f"layer {'a b ' * 10**5}: rename it").problems
    assert problem.startswith("layer a b a b")
    assert problem.endswith("a b : rename it")
    assert len(problem) < LONGEST_LINE + 10


def test_of_thousands_of_problems_the_first_are_told() -> None:
    error = InputError(*(f"problem {at}" for at in range(5000)))
    assert len(error.problems) == 5000
    lines = str(error).splitlines()
    assert lines[:-1] == [f"problem {at}" for at in range(MAX_TOLD)]
    assert lines[-1] == f"and {5000 - MAX_TOLD:,} more problems"


@pytest.mark.parametrize("arguments", [("list",), (), ("run", "lenet-5", "--seed"), ("sweep", "default", "--jobs")])
def test_a_command_line_that_is_none_is_told_as_all_else(accelsim: Run, arguments: tuple[str, ...]) -> None:
    said = accelsim(*arguments, f"\x1b[31m\u202e{'9' * 10**5}")
    assert said.code == 2
    assert not UNSEEN.search(said.err)
    text = re.sub(r"[\s─│╭╮╰╯]+", "", said.err)
    assert (r"\x1b[31m\u202e999" if len(arguments) < 2 else arguments[-1]) in text
    assert len(text) < LONGEST_MESSAGE
