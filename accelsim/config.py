"""TOML in, checked and frozen dataclasses out; shipped files found by name."""

from __future__ import annotations

import copy
import csv
import dataclasses
import hashlib
import itertools
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import SequenceMatcher
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from accelsim.errors import InputError, did_you_mean, raise_if_any

T = TypeVar("T")

CHECKED = ConfigDict(extra="forbid")
"""For every configuration dataclass: an unknown key is a mistake. Number fields are strict one by one, since a strict
dataclass would also refuse the tables inside it."""

LARGEST, LEAST = 1e9, 1e-9
"""Of any number in the unit of its key, far beyond what is built: a second in ns times a THz in MHz fits into 63 bits,
and no quotient of two of them is infinite or 0."""

Count = Annotated[int, Field(strict=True, ge=1, le=2**40)]
Positive = Annotated[float, Field(strict=True, ge=LEAST, le=LARGEST, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, ge=0, le=LARGEST, allow_inf_nan=False)]
Clock = Annotated[float, Field(strict=True, ge=1, le=1e6, allow_inf_nan=False)]
"""Of a machine in MHz, up to a THz."""
Cycles = Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)]
"""What one step of something takes beside its work, of which a layer may have 10^12."""

SHIPPED = {
    "hwconfigs": "chip",
    "workloads": "network",
    "hwconfigs/technology": "technology",
    "hwconfigs/dram": "DRAM part",
    "workloads/models": "language model",
    "workloads/spaces": "space",
    "hwconfigs/serving": "serving software",
}
"""Directories of shipped files, and what one file in each describes."""

TABLES = {
    "[engine]": "chip",
    "base": "chip",
    "[[layer]]": "network",
    "[language_model]": "language model",
    "[schedule]": "serving software",
    "[timing]": "DRAM part",
    "[bandwidth]": "DRAM part",
    "[sram]": "technology",
    "[vary]": "space",
}
"""The tables and keys that tell what a file describes."""

ALIKE = 0.8
"""Of endings that may be meant for each other, as .onx for .onnx and .pt for .pth; .csv and .npz are not."""

MAX_TOML_BYTES = 16 * 2**20
"""A configuration is written by hand; anything larger is some other file."""

MAX_CELLS = 4 * 2**20
"""Of a table of data."""

_LONG = re.compile(r"0[xob][0-9a-fA-F_]{1000}")

MOST_PARTS = 64
"""Of a key with dots, and levels of tables and lists in each other: a configuration has five or six."""

_MANY_PARTS = re.compile(rf"(?:\.[ \t]*[^\s.=\[\]{{}},]{{1,200}}[ \t]*){{{MOST_PARTS}}}")

MAX_BITS = 4096
"""Of an integer of which a message can say what it is; Python writes none of more than some thousand digits."""


def shipped_dir(kind: str) -> Path:
    """Return the directory of shipped files: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "shipped" / kind
    return installed if os.path.isdir(installed) else package.parent / kind


def shipped_names(kind: str, suffix: str = ".toml") -> list[str]:
    """Return the names under which shipped files are found, sorted."""
    return sorted(path.stem for path in shipped_dir(kind).glob(f"*{suffix}"))


def find(name: str | Path, kind: str, *, folders: bool = False) -> Path:
    """Return the file that a name or a path stands for, or with `folders` the folder.

    A bare name without a suffix is a shipped file; everything else is a path.
    Raises InputError that lists or suggests the shipped names.
    """
    text = str(name)
    path = shipped_dir(kind) / f"{text}.toml"
    if not re.search(r"[/\\]", text) and os.path.isfile(path):  # names may have points, as in llama3.2-1b
        return path
    if not re.search(r"[/\\.]", text):
        if folders and os.path.isdir(text):
            return Path(text)
        near = did_you_mean(text, shipped_names(kind))
        for other, described in SHIPPED.items():
            if text in shipped_names(other):
                raise InputError(f"{text!r}: is a {described}, not a {SHIPPED[kind]}{near}")
        remedy = "" if "did you mean" in near else "; a file of your own needs its suffix, as in my-file.toml"
        raise InputError(f"{text!r}: no {SHIPPED[kind]} of this name is shipped{near}{remedy}")
    place = Path(os.path.expanduser(text))
    return place if folders and os.path.isdir(place) else existing_file(place, SHIPPED[kind])


def existing_file(path: Path, kind: str | None = None) -> Path:
    """Return the path of a file that exists, one that describes a `kind` of SHIPPED or any other.

    Raises InputError that suggests a neighbour of a similar name and ending, and of no other kind.
    """
    if os.path.isdir(path):
        raise InputError(f"{path}: is a directory; name a file in it")
    if not os.path.isfile(path):
        if os.path.exists(path):  # opening a pipe waits, reading a device may never end
            raise InputError(f"{path}: is a pipe or a device, which is not read; name a file")
        parent = path.parent
        near = did_you_mean(path.name, _alike(path, kind)) if os.path.isdir(parent) else f"; nor is there {parent}"
        raise InputError(f"{path}: no such file" + ("" if near.startswith("; known") else near))
    return path


def _alike(path: Path, kind: str | None) -> Iterator[str]:
    """Go through what stands beside a file with its ending, or one that may have been meant, and is of its kind."""
    for name in os.listdir(path.parent):
        suffix = os.path.splitext(name)[1]
        if SequenceMatcher(None, suffix, path.suffix).ratio() < ALIKE or not os.path.isfile(path.parent / name):
            continue
        kinds: list[str] = []
        if kind is not None and suffix == ".toml":
            with suppress(InputError):
                kinds = kinds_of(read_toml(path.parent / name))
        if not kinds or kind in kinds:
            yield name


def label(path: Path) -> str:
    """Return how messages name a file: a shipped one by its name, any other by the path that was given."""
    return path.name if any(path.is_relative_to(shipped_dir(kind)) for kind in SHIPPED) else str(path)


def read_toml(path: Path) -> dict[str, Any]:
    """Read one TOML file; a syntax error, a duplicate key or bad text is an InputError that names the file."""
    return parsed_toml(toml_text(path), path)


def toml_text(path: Path) -> str:
    """Return the text of a TOML file; raises InputError for one that is too large or is not text."""
    return text_of(path, "a TOML file")


def text_of(path: Path, what: str) -> str:
    """Return the text of a file that people write by hand; raises InputError for one too large or that is not text."""
    try:
        if existing_file(path).stat().st_size > MAX_TOML_BYTES:
            raise InputError(f"{path}: larger than {MAX_TOML_BYTES} bytes; is this {what}?")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def parsed_toml(text: str, path: Path) -> dict[str, Any]:
    """Return what the text of a TOML file says; raises InputError for what is no TOML."""
    if _MANY_PARTS.search(text):  # for which Python's parser needs time and memory by their square
        raise InputError(f"{path}: has a key of more than {MOST_PARTS} parts between dots; no key has so many")
    try:
        data = tomllib.loads(text)
        if not _shallow(data):
            raise InputError(f"{path}: has tables or lists more than {MOST_PARTS} levels deep; none here has so many")
        # Only of such digits does Python's own parser make integers that Python does not write.
        wide = _too_wide(data) if _LONG.search(text) else ()
        raise_if_any(
            f"{path}: {key}: has {bits} bits, and TOML's integers 64; write a smaller one" for key, bits in wide
        )
        return data
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        reason = str(error).replace("Cannot overwrite a value", "a key is given twice")
        raise InputError(f"{path}: not valid TOML: {reason}") from None


def _shallow(data: Any) -> bool:
    """Return whether tables and lists lie no deeper in each other than a configuration needs."""
    level = [data]
    for _ in range(MOST_PARTS):
        inner = [each for table in level for each in (table.values() if isinstance(table, dict) else table)]
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level:
            return True
    return False


def _too_wide(data: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Go through the integers that Python does not even write, by the keys that lead to them, with their bits."""
    if isinstance(data, int) and data.bit_length() > MAX_BITS:
        yield key, data.bit_length()
    elif isinstance(data, dict | list):
        for part, value in data.items() if isinstance(data, dict) else enumerate(data, 1):
            yield from _too_wide(value, f"{key}.{part}" if key else str(part))


@lru_cache(maxsize=16)
def read_columns(path: Path, _hash: str = "") -> dict[str, list[str]]:
    """Read one CSV file of data, whose comment lines begin with `#`; returns columns, "" where a row is short.

    It is read once, and again with another hash of its content.
    """
    try:
        if existing_file(path).stat().st_size > MAX_TOML_BYTES:
            raise InputError(f"{path}: larger than {MAX_TOML_BYTES} bytes; is this a table of data?")
        with path.open(newline="", encoding="utf-8") as file:
            rows = filter(None, csv.reader(line for line in file if not line.startswith("#")))
            names = next(rows, [])
            size = len(names)
            # One list of all cells, and none for each of thousands of rows, which Python would search for garbage.
            whole = (row if len(row) == size else (row + size * [""])[:size] for row in rows)
            cells = list(itertools.islice(itertools.chain.from_iterable(whole), MAX_CELLS + 1))
            if len(cells) > MAX_CELLS:
                raise InputError(f"{path}: has more than {MAX_CELLS:,} cells, short rows filled up; is this a table?")
    except OSError as error:
        raise InputError(f"{path}: table cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a CSV file in UTF-8: {error}; save it as one") from None
    return {name: cells[i::size] for i, name in enumerate(names)}


@lru_cache(maxsize=16)
def read_table(path: Path) -> tuple[dict[str, str], ...]:
    """Return the rows of a table that `read_columns` reads, by column name."""
    columns = read_columns(path)
    return tuple(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def kinds_of(data: Mapping[str, Any]) -> list[str]:
    """Return what a file may describe, by its tables: chip, network, DRAM part, technology."""
    return [kind for table, kind in TABLES.items() if table.strip("[]") in data]


def check_kind(data: Mapping[str, Any], wanted: str, source: str) -> None:
    """Raise InputError for a file that describes something else; one without any telling table passes."""
    kinds = kinds_of(data)
    if kinds and wanted not in kinds:
        tables = " or ".join(table for table, kind in TABLES.items() if kind == wanted)
        raise InputError(f"{source}: is a {kinds[0]}, not a {wanted}; a {wanted} has {tables}")


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is read as TOML, or taken as a string when it is not."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not all(key.split(".")) or key.count(".") >= MOST_PARTS:
        raise InputError(f"--set {text}: write key=value, for example engine.fifo_depth=16")
    try:
        read = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key, value
    return key, read if _shallow([read]) else value


def with_overrides(data: Mapping[str, Any], overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the data with dotted keys replaced; a dotted key through something that is no table is an error."""
    result = copy.deepcopy(dict(data))
    problems = []
    for dotted, value in (overrides or {}).items():
        *tables, last = dotted.split(".")
        if len(tables) >= MOST_PARTS:
            problems.append(f"{dotted}: has {len(tables) + 1:,} parts between dots; no key has more than {MOST_PARTS}")
            continue
        table: Any = result
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                problems.append(f"{dotted}: '{part}' is not a table, so nothing can be set below it")
                break
        else:
            # A sweep hands over NumPy's numbers, which the checks would not take for numbers.
            table[last] = value.item() if getattr(value, "ndim", None) == 0 else value
    raise_if_any(problems)
    return result


def without(data: Mapping[str, Any], keys: Any, place: str) -> dict[str, Any]:
    """Return the data without some dotted keys, tables or single ones; what is None is as if it were not there.

    Raises InputError, each problem behind `place`, for what is no list of keys and with every key that is not there.
    """
    if not isinstance(keys, list) or not all(isinstance(key, str) and key for key in keys):
        raise InputError(f'{place}: must be a list of keys with dots, as in ["engine.power"] (got {short(keys)})')
    result = copy.deepcopy(dict(data))
    problems = []
    for dotted in keys:
        *tables, last = dotted.split(".")
        table: Any = result
        for part in tables:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict) and table.get(last) is not None:
            del table[last]
            continue
        before = ".".join(tables)
        near = [f"{before}.{key}" if before else key for key in table if table[key] is not None] if table else []
        problems.append(f"{place}: there is no '{dotted}' to remove{did_you_mean(dotted, near)}")
    raise_if_any(problems)
    return result


def build(kind: type[T], data: Mapping[str, Any], source: str) -> T:
    """Check the data against a dataclass; raises one InputError with every problem, each naming its key."""
    try:
        return TypeAdapter(kind).validate_python(dict(data))
    except ValidationError as error:
        raise InputError(*_problems(kind, data, error, source)) from None


def _problems(kind: type, data: Mapping[str, Any], error: ValidationError, source: str) -> list[str]:
    """Say each validation error as `file: key: what is wrong (got value)`.

    Where a value may be of several types, pydantic says what is wrong as each of them: one message joins those, and
    those that got further into the value replace the others.
    """
    said: dict[tuple[Any, ...], list[Any]] = {}
    for item in error.errors():
        said.setdefault(_keys(data, item), []).append(item)
    entered = {keys[:length] for keys in said for length in range(len(keys))}
    found = (keys for keys in said if keys not in entered)
    return [f"{source}: {problem}" for keys in found for problem in _say(kind, data, keys, said[keys])]


def _keys(data: Any, item: Any) -> tuple[Any, ...]:
    """Return the keys that lead to a mistake; pydantic's location also names types, which are no keys."""
    keys: list[Any] = []
    *_, last = item["loc"] or (None,)
    for part in item["loc"]:
        if part in data if isinstance(data, Mapping) else isinstance(data, list) and isinstance(part, int):
            data = data[part]
            keys.append(part)
        elif part is last and item["type"] == "missing":
            keys.append(part)
    if item["type"] == "union_tag_invalid":
        keys.append(item["ctx"]["discriminator"].strip("'"))
    return tuple(keys)


def _say(kind: type, data: Mapping[str, Any], keys: tuple[Any, ...], items: list[Any]) -> list[str]:
    """Say what is wrong at these keys; several things where a dataclass found several at once."""
    item, owner = items[0], _dataclass_at(kind, keys[:-1], data)
    known = {field.name: field.default for field in dataclasses.fields(owner)} if owner else {}
    got = short(item["ctx"]["tag"] if item["type"] == "union_tag_invalid" else item["input"])
    if item["type"] == "value_error":
        # Said by a dataclass about its values together; it may begin with the key that it means.
        said = (str(problem).partition(": ") for problem in item["ctx"]["error"].args)
        return [
            f"{_key_text(data, (*keys, key))}: {rest}" if colon else f"{_key_text(data, keys)}: {key}"
            for key, colon, rest in said
        ]
    if item["type"] == "unexpected_keyword_argument":
        gone = getattr(owner, "GONE", {}).get(keys[-1])
        remedy = did_you_mean(str(keys[-1]), known) if gone is None else f"; it is gone, remove the line: {gone}"
        return [f"{_key_text(data, keys)}: unknown key (got {got}){remedy}"]
    if item["type"] == "missing":
        return [f"{_key_text(data, keys)}: is missing; add it"]
    wanted = dict.fromkeys(_wanted(item, keys) for item in items)
    default = known.get(keys[-1])
    is_said = isinstance(default, bool | int | float | str | tuple) and default != ""  # a list's is a factory
    remedy = "" if not is_said else f"; the default is {short(default)}"
    return [f"{_key_text(data, keys)}: must be {' or '.join(wanted)} (got {got}){remedy}"]


WANTED = {
    "int_type": "a whole number, without quotes or a point",
    "float_type": "a number, without quotes",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "of the form {pattern}",
    "literal_error": "{expected}",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "dataclass_type": "one table, [{key}] or {key} = {{ ... }}",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "union_tag_invalid": "one of {expected_tags}",
    "model_attributes_type": "one table, [{key}] or {key} = {{ ... }}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


def _wanted(item: Any, keys: tuple[Any, ...]) -> str:
    """Return what a value must be; pydantic's own words for the kinds of mistake that are not listed."""
    if item["type"] == "list_type" and isinstance(item["input"], Mapping):
        return f"a list of tables, [[{keys[-1]}]]"
    if item["type"] == "dataclass_type" and isinstance(keys[-1], int):
        return "a table"
    if item["type"] not in WANTED:
        return str(item["msg"]).removeprefix("Input should be ")
    if item.get("ctx", {}).get("ge") == LEAST and item["input"] <= 0:
        return "above 0"  # which says more than how small a number may be
    context = {name: f"{value:g}" if isinstance(value, float) else value for name, value in item.get("ctx", {}).items()}
    return WANTED[item["type"]].format(key=keys[-1], **context)


def _key_text(data: Any, keys: tuple[Any, ...]) -> str:
    """`engine.pes`; an entry of a list goes by its name, or its number from 1: `layer fc1: weight`."""
    text = ""
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else data[key]
        if isinstance(key, int):
            text += f" {(isinstance(data, Mapping) and data.get('name')) or key + 1}: "
        else:
            text += key if not text or text.endswith(": ") else f".{key}"
    return text.removesuffix(": ")


def short(value: Any) -> str:
    """Return a value as TOML writes it, roughly, and cut where it is long."""
    try:
        text = repr(value) if isinstance(value, float) else json.dumps(value, default=str, ensure_ascii=False)
    except ValueError:  # Python writes no integers of thousands of digits
        text = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    except RecursionError:
        text = "something of many levels"
    return text if len(text) <= 80 else text[:77] + "..."


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return the types of the fields of a dataclass: worked out once, of a list of thousands of mistakes."""
    return get_type_hints(kind)


def _dataclass_at(kind: Any, keys: tuple[Any, ...], data: Any) -> Any:
    """Return the dataclass at this place inside another, or None; of several that may stand there, that of its tag."""

    def search(hint: Any) -> list[Any]:
        return (
            [hint] if dataclasses.is_dataclass(hint) else [found for each in get_args(hint) for found in search(each)]
        )

    def fits(found: Any) -> bool:
        tags = data if isinstance(data, Mapping) else {}
        return any(getattr(found, name, None) == tags.get(name, "") for name in ("kind", "model"))

    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else data[key]
        if kind is not None and not isinstance(key, int):
            found = search(_hints(kind).get(key))
            kind = next(filter(fits, found), found[0] if found else None)
    return kind


class Hashed:
    """A frozen dataclass that many chips share, such as a technology: equal if its content is, which is hashed once.

    A subclass says `eq=False`, so that this is how it is compared.
    """

    @cached_property
    def content_hash(self) -> str:
        """128 bits over all of it: 32 hexadecimal digits."""
        return content_hash(self)

    def __eq__(self, other: object) -> bool:
        """Return whether another one has the same content."""
        return self is other or (type(other) is type(self) and self.content_hash == other.content_hash)

    def __hash__(self) -> int:
        """Return a hash of the content: what is worked out once for each is looked up for every layer of a sweep."""
        return hash(self.content_hash)


class ContentHash:
    """What the `content_hash` of a dataclass is made of, field by field: another that differs in some shares the rest.

    Sweeps hash every chip. Omitted fields do not count.
    """

    def __init__(self, value: Any, omit: tuple[str, ...] = ()) -> None:
        kind: Any = type(value)
        names = [name for name in field_names(kind) if name not in omit]
        self._texts = {name: self.text(name, getattr(value, name)) for name in names}
        self._patterns: dict[tuple[str, ...], str] = {}
        """By the names of the fields whose texts are to be put in."""

    @staticmethod
    def text(name: str, value: Any) -> str:
        """Return what stands for a field; a dataclass, or its hash, counts by its own hash."""
        return f"({name!r}, {_hashable(value)!r})"

    def digest(self, changed: Mapping[str, str] = MappingProxyType({})) -> str:
        """Return the hash with the texts of some fields changed, as 32 hexadecimal digits."""
        names = tuple(changed)
        if names not in self._patterns:
            texts = {name: text.replace("%", "%%") for name, text in self._texts.items()}
            texts |= {name: f"%({name})s" for name in names}
            self._patterns[names] = f"[{', '.join(texts.values())}]"
        return hashlib.blake2b((self._patterns[names] % changed).encode(), digest_size=16).hexdigest()


def content_hash(value: Any, *, omit: tuple[str, ...] = ()) -> str:
    """Return 128 bits over the content of a dataclass, as 32 hexadecimal digits; omitted fields do not count.

    A dataclass inside it counts by its own hash.
    """
    return ContentHash(value, omit).digest()


_PLAIN = {type(None), bool, int, float, str}


@cache
def field_names(kind: type) -> list[str]:
    """Return the names of the fields of a dataclass, sorted."""
    return sorted(field.name for field in dataclasses.fields(kind))


def _hashable(value: Any) -> Any:
    """Return a value as what `repr` writes in one way only."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Hashed):
        return value.content_hash
    if dataclasses.is_dataclass(value):
        return content_hash(value)
    if isinstance(value, Mapping):
        return sorted((str(key), _hashable(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return [_hashable(each) for each in value]
    return value if isinstance(value, str | int | float) else str(value)
