"""The keys of files: what each means, its unit and default, as tables and as JSON schemas."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticUndefined

UNITS = {
    "a": "A",
    "bits": "bits",
    "bytes": "bytes",
    "cycles": "cycles",
    "fma": "multiply-accumulates",
    "gb": "GB",
    "k": "elements of k",
    "ma": "mA",
    "mhz": "MHz",
    "mm2": "mm²",
    "mw": "mW",
    "nm": "nm",
    "ns": "ns",
    "pj": "pJ",
    "registers": "registers",
    "seconds": "s",
    "tiles": "tiles",
    "um2": "µm²",
    "us": "µs",
    "v": "V",
    "w": "W",
}
"""What the last word of a key's name, or the last before `_per_`, says of its unit."""

SPELT = {"pe": "PE", "k": "element of k"}
"""Words behind `_per_` that are not said as they are written."""


class Key(NamedTuple):
    """One key of a table of a file."""

    name: str
    unit: str
    """Empty for text, switches and lists; "-" for counts and shares, of which the meaning says what they count."""
    meaning: str
    default: str
    """As TOML has it; "required", or empty where nothing stands for a key that is left out."""


def unit_of(key: str) -> str:
    """Return the unit that a dotted key carries in its last name or, for the entries of a table, in the one before.

    >>> unit_of("constants.clock_pj_per_pe_cycle"), unit_of("engine.fma_per_cycle.fp16"), unit_of("engine.pes")
    ('pJ per PE cycle', 'multiply-accumulates per cycle', '')
    """
    for name in reversed(key.split(".")):
        what, *per = name.split("_per_")
        unit = UNITS.get(what.rsplit("_", 1)[-1], "") if "_" in name else ""
        if unit:
            below = (" ".join(SPELT.get(word, word) for word in each.split("_")) for each in per)
            return " per ".join([unit, *below]).replace("GB per s", "GB/s")
    return ""


@cache
def docstrings(kind: type) -> dict[str, str]:
    """Return the text under each field of a dataclass, in one line; what it does not say itself its bases may."""
    found: dict[str, str] = {}
    for owner in kind.__mro__:
        if dataclasses.is_dataclass(owner):
            for name, text in _said(owner):
                found.setdefault(name, text)
    return found


def _said(kind: type) -> Iterator[tuple[str, str]]:
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    lines = body.body if isinstance(body, ast.ClassDef) else []
    for field, text in pairwise(lines):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            yield field.target.id, " ".join(text.value.value.split())


def meaning_of(kind: type, name: str) -> str:
    """Return what a key means: its docstring, or the sentence of the one table that it stands for."""
    said = docstrings(kind).get(name, "")
    inner = list(_dataclasses(get_type_hints(kind, include_extras=True)[name]))
    if not said and len(inner) == 1 and inner[0].__doc__:
        return inner[0].__doc__.partition("\n")[0]
    return said


def keys_of(kind: type) -> list[Key]:
    """Return the keys of one table; those that are tables themselves only where they have something to say."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        Key(field.name, _unit(field.name, hints[field.name]), meaning_of(kind, field.name), _default(field))
        for field in dataclasses.fields(kind)
        if field.name in docstrings(kind) or not any(_dataclasses(hints[field.name]))
    ]


def tables_of(kind: type, place: str = "") -> dict[type, list[str]]:
    """Return every dataclass that a file's keys lead to, with the tables that it describes, as in `engine.power`.

    The file itself is "". A table of which there may be several ends with "[]".
    """
    found: dict[type, list[str]] = {kind: [place]}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        several = "[]" if "list[" in str(hint) else ""
        for inner in _dataclasses(hint) if name in {field.name for field in dataclasses.fields(kind)} else ():
            for owner, places in tables_of(inner, f"{place}.{name}{several}".lstrip(".")).items():
                found[owner] = list(dict.fromkeys([*found.get(owner, []), *places]))
    return found


def json_schema(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a dataclass or a union of some, in which every key says what it means, and its unit."""
    return TypeAdapter(kind).json_schema(schema_generator=_Described)


class _Described(GenerateJsonSchema):
    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        made = super().dataclass_schema(schema)
        for name, said in made.get("properties", {}).items():
            unit = "" if said.get("type") == "array" else unit_of(name)
            said["description"] = meaning_of(schema["cls"], name) + (f" [{unit}]" if unit else "")
        return made


def _dataclasses(hint: Any) -> Iterator[type]:
    """Return the dataclasses that a value of this type may be."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for each in get_args(hint):
        yield from _dataclasses(each)


def _unit(name: str, hint: Any) -> str:
    if get_origin(get_args(hint)[0] if get_origin(hint) is Annotated else hint) is list:
        return ""
    kinds = set(_plain(hint))
    return unit_of(name) or ("-" if kinds & {int, float} and bool not in kinds else "")


def _plain(hint: Any) -> Iterator[type]:
    """Return the types that a value may be; of what holds several values none."""
    if isinstance(hint, type):
        yield hint
    for each in get_args(hint) if get_origin(hint) in (Annotated, UnionType, Union) else ():
        yield from _plain(each)


def _default(field: dataclasses.Field[Any]) -> str:
    """Return a default as TOML has it."""
    default = field.default
    if isinstance(default, FieldInfo):
        default = default.get_default(call_default_factory=True)
    elif default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if default is dataclasses.MISSING or default is PydanticUndefined:
        return "required"
    if default is None or default in ("", [], {}, ()) or dataclasses.is_dataclass(default):
        return ""
    return json.dumps(default, ensure_ascii=False)
