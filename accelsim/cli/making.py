"""The command that makes files to begin with: new."""

from __future__ import annotations

import json
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli.app import app, say_wrote
from accelsim.cli.reading import ReadingOptions, reads_network
from accelsim.defaults import DEFAULT_CHIP
from accelsim.errors import InputError, raise_if_any
from accelsim.files import check_writable, write_whole


class Made(StrEnum):
    """What can be made."""

    CHIP = "chip"
    NETWORK = "network"


@app.command("new")
@reads_network
def new_command(
    kind: Annotated[Made, typer.Argument(help="What to make.", show_default=False)],
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="NAME|FILE",
            help=f"The shipped chip that a chip changes, {DEFAULT_CHIP} if not given; the tensors that a network has.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The file, a .toml; if not given, my-chip.toml or my-network.toml."),
    ] = None,
    *,
    reading: ReadingOptions,
) -> None:
    """Write a file to start from: a chip with every key of another, or a network of the layers of a file of tensors."""
    target = output or Path(f"my-{kind.value}.toml")
    if target.suffix != ".toml":
        raise InputError(f"{target}: a {kind.value} is a .toml file; choose this ending")
    if os.path.exists(target):
        raise InputError(f"{target}: already exists; choose another name with -o")
    text = _chip(base, reading, target) if kind is Made.CHIP else _network(base, reading, target)
    check_writable(target)

    def put(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    write_whole(target, put)
    say_wrote(target)


def _chip(base: str | None, reading: ReadingOptions, target: Path) -> str:
    """Return the text of a chip that is like its base."""
    from accelsim.config import find
    from accelsim.hardware import load_hardware

    base = base or DEFAULT_CHIP
    raise_if_any(reading.unused("new chip"))
    if base.endswith(".toml"):
        raise InputError(f"--base {base}: is a file; copy it, or name a chip of accelsim list")
    load_hardware(base)
    return variant_of(base, find(base, "hwconfigs").read_text(encoding="utf-8"), target.stem)


def _network(base: str | None, reading: ReadingOptions, target: Path) -> str:
    """Return the text of a network of the layers of a file of tensors, what that does not say to be filled in."""
    from accelsim.config import find
    from accelsim.network.bare import to_fill_in
    from accelsim.network.files import TENSOR_SUFFIXES, is_tensors
    from accelsim.network.reading import Reading

    if base is None:
        raise InputError("--base: is missing; name the file of the network's tensors, as in --base net.safetensors")
    path = find(base, "workloads", folders=True)
    if not is_tensors(path):
        raise InputError(f"--base {base}: tensors are in a {', '.join(TENSOR_SUFFIXES)} file, or a folder of shards")
    told = Reading.of(**reading.keywords())
    told.check_belongs(str(path), "a file of tensors")
    return to_fill_in(path, told, target)


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
