"""TOML in, checked and frozen dataclasses out; shipped files found by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from accelsim.errors import InputError, did_you_mean

T = TypeVar("T")

CHECKED = ConfigDict(extra="forbid")
"""For every configuration dataclass: an unknown key is a mistake. Number fields are strict one by one, since a strict
dataclass would also refuse the tables inside it."""

MAX_TOML_BYTES = 16 * 2**20
"""A configuration is written by hand; anything larger is some other file."""


def shipped_dir(kind: str) -> Path:
    """Return the directory of shipped files: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "shipped" / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped_names(kind: str, suffix: str = ".toml") -> list[str]:
    """Return the names under which shipped files are found, sorted."""
    return sorted(path.stem for path in shipped_dir(kind).glob(f"*{suffix}"))


def find(name: str | Path, kind: str) -> Path:
    """Return the file that a name or a path stands for.

    A bare name without a suffix is a shipped file; everything else is a path.
    Raises InputError that lists or suggests the shipped names.
    """
    text = str(name)
    if not re.search(r"[/\\.]", text):
        path = shipped_dir(kind) / f"{text}.toml"
        if path.is_file():
            return path
        raise InputError(f"{text}: no shipped file of this name in {kind}" + did_you_mean(text, shipped_names(kind)))
    path = Path(text).expanduser()
    if path.is_dir():
        raise InputError(f"{text}: is a directory; name a file in it")
    if not path.is_file():
        near = did_you_mean(path.name, (p.name for p in path.parent.glob("*"))) if path.parent.is_dir() else ""
        raise InputError(f"{text}: no such file" + (near if "did you mean" in near else ""))
    return path


def read_toml(path: Path) -> dict[str, Any]:
    """Read one TOML file; a syntax error, a duplicate key or bad text is an InputError that names the file."""
    try:
        if path.stat().st_size > MAX_TOML_BYTES:
            raise InputError(f"{path}: larger than {MAX_TOML_BYTES} bytes; is this a TOML file?")
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); TOML files are") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is read as TOML, or taken as a string when it is not."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text}: write key=value, for example engine.fifo_depth=16")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def with_overrides(data: Mapping[str, Any], overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the data with dotted keys replaced; a dotted key through something that is no table is an error."""
    result: dict[str, Any] = json.loads(json.dumps(data, default=str))
    for dotted, value in (overrides or {}).items():
        *tables, last = dotted.split(".")
        table = result
        for part in tables:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                raise InputError(f"{dotted}: '{part}' is not a table, so nothing can be set below it")
            table = inner
        table[last] = value
    return result


def build(kind: type[T], data: Mapping[str, Any], source: str) -> T:
    """Check the data against a dataclass; raises one InputError with every problem, each naming its key."""
    try:
        return TypeAdapter(kind).validate_python(dict(data))
    except ValidationError as error:
        raise InputError(*(_problem(kind, item, source) for item in error.errors())) from None


def _problem(kind: type, item: Any, source: str) -> str:
    """One validation error as `file: key: message (got value)`, with the key that was probably meant."""
    location = [str(part) for part in item["loc"]]
    key = ".".join(location) or "top level"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    got = item.get("input")
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{source}: {key}: unknown key (got {got!r}){did_you_mean(location[-1], _keys_at(kind, location[:-1]))}"
    if item["type"] in ("missing", "missing_argument"):
        return f"{source}: {key}: is missing; add it"
    if item["type"] == "value_error" and isinstance(got, Mapping | tuple) or type(got).__name__ == "ArgsKwargs":
        return f"{source}: {key}: {message}"
    return f"{source}: {key}: {message[:1].lower()}{message[1:]} (got {_short(got)})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _keys_at(kind: Any, location: list[str]) -> list[str]:
    """Return the field names of the dataclass at this place inside another."""
    for part in location:
        if part.isdigit():
            continue
        fields = {f.name: f.type for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
        if part not in fields:
            return []
        kind = _dataclass_in(kind, part)
    return [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def _dataclass_in(kind: Any, field: str) -> Any:
    from typing import get_args, get_type_hints

    def search(hint: Any) -> Any:
        if dataclasses.is_dataclass(hint):
            return hint
        return next((found for found in map(search, get_args(hint)) if found is not None), None)

    return search(get_type_hints(kind).get(field))


def content_hash(value: Any, *, omit: tuple[str, ...] = ()) -> str:
    """Return 128 bits over the content of a dataclass, as 32 hexadecimal digits; omitted fields do not count."""
    data = {key: item for key, item in dataclasses.asdict(value).items() if key not in omit}
    text = json.dumps(data, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
