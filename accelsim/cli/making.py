"""The command that makes files to begin with: new."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli.app import app, say_wrote
from accelsim.defaults import DEFAULT_CHIP
from accelsim.errors import InputError
from accelsim.files import check_writable, write_whole


class Made(StrEnum):
    """What can be made."""

    CHIP = "chip"


@app.command("new")
def new_command(
    kind: Annotated[Made, typer.Argument(help="What to make.", show_default=False)],
    base: Annotated[str, typer.Option("--base", help="The shipped chip that it changes.")] = DEFAULT_CHIP,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file, a .toml.")] = Path("my-chip.toml"),
) -> None:
    """Write a chip's file to start from, with every key of another chip, ready to change."""
    from accelsim.config import find
    from accelsim.hardware import load_hardware

    if base.endswith(".toml"):
        raise InputError(f"--base {base}: is a file; copy it, or name a chip of accelsim list")
    if output.suffix != ".toml":
        raise InputError(f"{output}: a chip is a .toml file; choose this ending")
    if output.exists():
        raise InputError(f"{output}: is there already; choose another name with -o")
    load_hardware(base)
    check_writable(output)
    text = variant_of(base, find(base, "hwconfigs").read_text(encoding="utf-8"), output.stem)

    def put(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    write_whole(output, put)
    say_wrote(output)


_HEAD = """\
# A chip like {base}, to be changed: take the # off a line that begins with #key and change its value.
# accelsim check FILE says what is wrong; accelsim run --hardware {base},FILE puts it beside its base.
base = "{base}"
name = {name}
description = "{base}, changed"
"""

_OWN = re.compile(r"#?(base|name|description)\s*=")
_HEADER = re.compile(r"\[[^\[].*\]\s*(#.*)?$")


def variant_of(base: str, text: str, name: str) -> str:
    """Return the text of a chip that is like its base: of that one's text every key, taken out by a #."""
    lines, inside = [_HEAD.format(base=base, name=json.dumps(name)).rstrip()], False
    for line in text.splitlines():
        starts_or_ends = line.count('"""') % 2 == 1
        if inside or not (not line.strip() or line.startswith("#") or _HEADER.match(line)):
            line = f"#{line}"
        inside ^= starts_or_ends
        if not _OWN.match(line):
            lines.append(line)
    return "\n".join(lines) + "\n"
