"""README and docs: their links lead somewhere, their examples run, their commands exist, their lists are complete."""

from __future__ import annotations

import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from conftest import ROOT, Run
from typer.testing import CliRunner

import accelsim
from accelsim.cli import app
from benchmarks import pictures
from benchmarks.documents import fill, house, toy

DOCS = ROOT / "docs"
PAGES = [*(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")), *sorted(DOCS.glob("*.md"))]
RUN = [
    "start",
    "chips",
    "coming_from",
    pytest.param("networks", marks=pytest.mark.needs("torch")),
    "extending",
    "README",
]
"""Pages whose examples are run, from top to bottom, in an empty folder."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
SHOWN = re.compile(r"<!-- (toy: \S+) -->\n.*?\n<!-- /\1 -->", re.DOTALL)
"""Files that a page shows and does not run."""
MARK = re.compile(r"^<!-- generated: (\S+)(?: (.*?))? -->$", re.MULTILINE)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(SHOWN.sub("", text_of(page))) if found == language]


def anchors(page: Path) -> set[str]:
    """The anchors that code hosts and the site give to headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shell_commands(page: Path) -> list[list[str]]:
    """The arguments of every line `accelsim ...` in the page's blocks."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    parts = [part.split("#")[0].strip() for line in lines for part in line.split(" && ")]
    return [shlex.split(part)[1:] for part in parts if part.startswith("accelsim ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_resolve(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", text_of(page))):
        if "://" in target:
            continue  # somebody else's page
        file, _, anchor = target.partition("#")
        other = page.parent / file if file else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_parse(page: Path) -> None:
    known: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, *arguments in shell_commands(page):
        if "--help" not in arguments:
            known[name].make_context(name, arguments)
    prose = FENCE.sub("", text_of(page)).replace("\n", " ")
    for name, rest in re.findall(r"`accelsim (\w+)([^`]*)`", prose):
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert {*re.findall(r"(?<=\s)--?[a-z][\w-]*", rest)} <= options, (name, rest)


@pytest.mark.thorough(keep=1)
@pytest.mark.parametrize("name", RUN)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "README.md" if name == "README" else DOCS / f"{name}.md"
    code = "".join(blocks(page, "python"))
    for toml in blocks(page, "toml"):
        first, *_ = toml.splitlines()
        (tmp_path / first.removeprefix("# ")).write_text(toml, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    paths = os.pathsep.join(filter(None, (str(Path(accelsim.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for arguments in shell_commands(page):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception}"


@pytest.mark.thorough
def test_the_readme_shows_what_its_first_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelsim: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    first = shell_commands(ROOT / "README.md")[0]
    printed = {line.rstrip() for line in accelsim(*first).out.splitlines()}
    (shown,) = blocks(ROOT / "README.md", "text")
    assert [line for line in shown.splitlines() if line not in printed] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_changes_fit_their_files(page: Path) -> None:
    for diff in blocks(page, "diff"):
        header, *lines = diff.splitlines()
        source = (ROOT / header.removeprefix("--- ")).read_text(encoding="utf-8").splitlines()
        assert [line[1:] for line in lines if line[0] in " -" and line[1:] not in source] == []
        assert any(line[0] == "+" for line in lines)


def test_what_documents_write_is_in_the_docs() -> None:
    """Of the machines that come along: a process that does not know that of the tests."""
    without = {name: value for name, value in os.environ.items() if name != "ACCELSIM_ENGINES"}
    asked = [sys.executable, "-m", "benchmarks.documents", "--check"]
    done = subprocess.run(asked, env=without, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    made = {"house": "design.md", "columns": "results.md", **dict.fromkeys(toy(), "extending.md")}
    for name, page in made.items():
        assert fill({name: "something else"}, write=False) == [page]
    assert "toy" not in text_of(DOCS / "results.md").lower()


def test_a_machine_outside_of_the_package_runs_as_its_page_says() -> None:
    (line,) = (line for line in "".join(blocks(DOCS / "extending.md", "sh")).splitlines() if "ACCELSIM_ENGINES" in line)
    given, _, arguments = line.partition(" accelsim ")
    variables = dict(each.split("=") for each in given.split())
    asked = [sys.executable, "-m", "accelsim", *shlex.split(arguments)]
    done = subprocess.run(asked, env={**os.environ, **variables}, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert " toy " in done.stdout


@pytest.mark.filterwarnings("ignore::UserWarning")  # what some layers cannot do is another test's
def test_what_the_page_of_results_says_adds_up() -> None:
    chips = {"eie-64pe-45nm": 64, "edge-nm-16x16": 1, "a100-pcie": 108}
    table = accelsim.simulate("lenet-300-100-digits", list(chips))
    columns = {kind: [name for name in table if name.startswith(kind)] for kind in ("stall_", "storage_", "energy_")}
    units = table["hardware"].map(chips)
    assert (table["busy_cycles"] + table[columns["stall_"]].sum(axis=1) == units * table["cycles"]).all()
    assert (table["work_cycles"] + table["padding_cycles"] == table["busy_cycles"]).all()
    assert (table[columns["storage_"]].sum(axis=1) == 2 * table["storage_bits"]).all()
    assert table[columns["energy_"]].sum(axis=1).tolist() == pytest.approx((2 * table["energy_pj"]).tolist())


def test_the_reference_has_every_public_name() -> None:
    made = [(match[1], *(match[2] or "").split()) for match in MARK.finditer(text_of(DOCS / "api.md"))]
    named = {f"{module}.{name}" for kind, module, *names in (m for m in made if len(m) > 1) for name in names}
    whole = {module for _, module, *names in (m for m in made if len(m) > 1) if not names}
    missing = {f"accelsim.{name}" for name in accelsim.__all__ if name != "__version__"} - named
    assert missing == {"accelsim.memory", "accelsim.pruning", "accelsim.scalesim"}  # shown whole
    assert missing <= whole
    assert ("formats",) in made
    assert "<!-- generated: cli -->" in text_of(DOCS / "cli.md")


@pytest.mark.parametrize(
    "package", [accelsim, accelsim.memory, accelsim.pruning, accelsim.scalesim], ids=lambda each: each.__name__
)
def test_no_module_hides_a_public_name(package: ModuleType) -> None:
    """Importing a module puts it under its name into its package, in place of what is public there."""
    modules = {info.name for info in pkgutil.iter_modules(package.__path__)}
    assert {name for name in package.__all__ if not isinstance(getattr(package, name), ModuleType)} & modules == set()


def test_every_picture_is_listed_and_shown() -> None:
    shown = pictures.references()
    assert len(shown) >= 10
    assert pictures.list_problems((picture.file for picture in pictures.PICTURES), shown) == []
    assert pictures.list_problems(["a.svg", "b.svg"], {"a.svg": {"x.md"}, "c.svg": {"y.md"}}) == [
        "c.svg: shown in y.md, not listed",
        "b.svg: listed, and shown nowhere",
    ]
    assert {picture.file for picture in pictures.PICTURES} == {path.name for path in pictures.IMAGES.iterdir()}
    assert fill({"gallery": pictures.gallery()}, write=False) == [], "run python -m benchmarks.pictures"


@pytest.mark.parametrize("package", ["accelsim", "accelsim.network"])
def test_the_map_of_a_package_fits_the_page(package: str) -> None:
    assert house(package) in text_of(DOCS / "design.md"), "run python -m benchmarks.documents"
    assert [line for line in house(package).splitlines() if len(line) > 120] == [], "shorten its docstring's first line"


def test_drawings_are_compared_by_what_they_show() -> None:
    drawing = "Matplotlib v3.11.2, <!-- cycles --><path d='M 1.5 2' clip-path=\"url(#p98c1b71d1d)\"/>"
    assert pictures.same_drawing(drawing, drawing.replace("1.5", "1.51").replace("p98c1b71d1d", "p0123456789"))
    assert not pictures.same_drawing(drawing, drawing.replace("1.5", "1.6"))
    assert not pictures.same_drawing(drawing, drawing.replace("path", "line"))
    newer = drawing.replace("3.11.2", "3.12.0")
    assert pictures.same_drawing(drawing, newer.replace("1.5", "9"))
    assert not pictures.same_drawing(drawing, newer.replace("cycles", "energy"))
