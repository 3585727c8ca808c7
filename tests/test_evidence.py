"""Is the evidence as it came, and does each file say whose it is?"""

from __future__ import annotations

import hashlib
import re

import pytest
from conftest import EVIDENCE

from benchmarks import validation

FILES = sorted(path.relative_to(EVIDENCE).as_posix() for path in EVIDENCE.glob("*/*"))


def test_no_file_was_edited() -> None:
    sums = dict(reversed(line.split(maxsplit=1)) for line in (EVIDENCE / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: hashlib.sha256((EVIDENCE / name).read_bytes()).hexdigest() for name in FILES}


def test_every_file_has_a_row_with_source_and_licence() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|(.*)\|$", (EVIDENCE / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(name for named, _ in rows for name in re.findall("`([^`]+)`", named)) == FILES
    for named, rest in rows:
        what, source, _, licence = (cell.strip() for cell in rest.split("|"))
        assert what, named
        assert source, named
        assert licence, named


@pytest.mark.parametrize(("fc8", "wrong"), [(False, 0), (False, 1), (True, 0)])
def test_what_is_missing_is_named_and_the_rest_is_checked(
    fc8: bool, wrong: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line in README and docs stands as long as every run that can be compared agrees."""
    compared = 31 if fc8 else 24
    monkeypatch.setattr(validation, "golden", lambda: validation.Golden(compared - wrong, compared, 31))
    monkeypatch.setattr(validation, "blocks", dict)
    monkeypatch.setattr("sys.argv", ["validation", "--check"])
    assert validation.main() == wrong
    said = capsys.readouterr().out
    assert f"{compared - wrong} of {compared} runs agree" in said
    assert ("not compared: 7 runs on alexnet_fc8" in said) == (not fc8)
