"""The files of SCALE-Sim 3.0.0 as they are: a topology, and a configuration."""

from __future__ import annotations

import configparser
import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from accelsim.config import text_of
from accelsim.errors import InputError, collecting, did_you_mean, raise_if_any
from accelsim.scalesim.layers import DATAFLOWS, REPRESENTATIONS, Machine, Shape

LARGEST = 2**31 - 1
"""Of any number in these files."""
LARGEST_SIDE = 4096
"""Of an array."""
LARGEST_KB = 2**21
"""Of a memory."""


class Key(NamedTuple):
    """A key of a configuration, what it becomes, and the least and the largest number, where it is one."""

    section: str
    name: str
    becomes: str = ""
    """A field of `Machine`; empty: it changes nothing here."""
    least: int = 0
    most: int = LARGEST
    read: Callable[[str], Any] | None = None


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise InputError(f"has to be True or False (got {text!r})")
    return text.lower() == "true"


def _one_of(*known: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        found = [each for each in known if each.lower() == text.lower()]
        if not found:
            raise InputError(f"has to be one of {', '.join(known)} (got {text!r})")
        return found[0]

    return read


def _first_of(text: str) -> int:
    """Return the first of several bandwidths, the one that the tool takes; the others have to be some all the same."""
    first, *_ = [_whole(each.strip(), 1) for each in text.split(",")]
    return first


PRESETS, LAYOUT, SPARSITY, RUN = "architecture_presets", "layout", "sparsity", "run_presets"

KEYS = (
    Key("general", "run_name"),
    Key(PRESETS, "ArrayHeight", "rows", 1, LARGEST_SIDE),
    Key(PRESETS, "ArrayWidth", "columns", 1, LARGEST_SIDE),
    Key(PRESETS, "IfmapSramSzkB", "ifmap_kb", 1, LARGEST_KB),
    Key(PRESETS, "FilterSramSzkB", "filter_kb", 1, LARGEST_KB),
    Key(PRESETS, "OfmapSramSzkB", "ofmap_kb", 1, LARGEST_KB),
    Key(PRESETS, "IfmapOffset"),
    Key(PRESETS, "FilterOffset"),
    Key(PRESETS, "OfmapOffset"),
    Key(PRESETS, "Dataflow", "dataflow", read=_one_of(*DATAFLOWS)),
    Key(PRESETS, "Bandwidth", "bandwidth", read=_first_of),
    Key(PRESETS, "ReadRequestBuffer"),
    Key(PRESETS, "WriteRequestBuffer"),
    Key(PRESETS, "MemoryBanks"),
    Key(LAYOUT, "IfmapCustomLayout", "ifmap_layout", read=_flag),
    Key(LAYOUT, "IfmapSRAMBankBandwidth", "ifmap_bandwidth", 1),
    Key(LAYOUT, "IfmapSRAMBankNum"),
    Key(LAYOUT, "IfmapSRAMBankPort"),
    Key(LAYOUT, "FilterCustomLayout", "filter_layout", read=_flag),
    Key(LAYOUT, "FilterSRAMBankBandwidth", "filter_bandwidth", 1),
    Key(LAYOUT, "FilterSRAMBankNum"),
    Key(LAYOUT, "FilterSRAMBankPort"),
    Key(SPARSITY, "SparsitySupport", "sparse", read=_flag),
    Key(SPARSITY, "SparseRep", "representation", read=_one_of(*REPRESENTATIONS)),
    Key(SPARSITY, "OptimizedMapping", "row_wise", read=_flag),
    Key(SPARSITY, "BlockSize", "block", 2, LARGEST_SIDE),
    Key(SPARSITY, "RandomNumberGeneratorSeed", "seed", 0, 2**32 - 1),
    Key(RUN, "InterfaceBandwidth", "mode", read=_one_of("CALC", "USER")),
    Key(RUN, "UseRamulatorTrace", "ramulator", read=_flag),
)
BY_NAME = {(key.section, key.name.lower()): key for key in KEYS}
NEEDED = ("rows", "columns", "ifmap_kb", "filter_kb", "ofmap_kb", "dataflow", "mode")
REFUSED = {
    "ifmap_layout": "banks that are laid out by hand are not modelled; set it to False",
    "filter_layout": "banks that are laid out by hand are not modelled; set it to False",
    "ramulator": "traces of Ramulator are not read; set it to False",
}


@dataclass(frozen=True)
class Configuration:
    """A configuration file, read: the machine, and what became of each key."""

    machine: Machine
    name: str
    became: dict[str, str] = field(default_factory=dict)
    """By `section.key` of the file: `rows = 32`, or why it changes nothing."""
    unknown: list[str] = field(default_factory=list)
    """Keys that the tool does not know either, each with what to do."""


def read_config(path: str | Path) -> Configuration:
    """Read a configuration file of the tool.

    Raises InputError with every section and key that is missing or wrong.
    """
    path = Path(path)
    sections = _sections(path)
    problems: list[str] = []
    unknown: list[str] = []
    found: dict[str, Any] = {}
    given: set[Key] = set()
    became: dict[str, str] = {}
    for section, keys in sections.items():
        for name, text in keys.items():
            key = BY_NAME.get((section.lower(), name.lower()))
            place = f"{path}: {section}.{name}: "
            if key is None:
                known = [each.name for each in KEYS if each.section == section.lower()]
                unknown.append(f"{place}is unknown and changes nothing{did_you_mean(name, known)}")
            elif not key.becomes:
                became[f"{section}.{name}"] = "changes no result"
            else:
                given.add(key)
                with collecting(problems, place):
                    found[key.becomes] = _value(key, text)
                    others = ", the first; the tool takes no other" if key.read is _first_of and "," in text else ""
                    became[f"{section}.{name}"] = f"{key.becomes} = {found[key.becomes]}{others}"
    lower = {section.lower() for section in sections}
    needs = [*NEEDED, *_needed_by(found)]
    for key in KEYS:
        if key.becomes in needs and key not in given:
            where = (
                f"section [{key.section}] has no" if key.section in lower else f"has no section [{key.section}] with"
            )
            problems.append(f"{path}: {where} {key.name}; add it, as in {key.name} = {getattr(Machine(), key.becomes)}")
    problems += [
        f"{path}: {key.section}.{key.name}: {REFUSED[key.becomes]}" for key in KEYS
        if key.becomes in REFUSED and found.get(key.becomes)
    ]  # fmt: skip
    if found.get("row_wise") and found.get("sparse"):
        block, rows = found.get("block"), found.get("rows")
        if block is not None and block % 2:
            problems.append(f"{path}: {SPARSITY}.BlockSize: has to be even, half of it are slots (got {block})")
        if block is not None and rows is not None and block > rows:
            problems.append(
                f"{path}: {SPARSITY}.BlockSize: has to be no more than ArrayHeight, {rows} "
                f"(got {block}); use a larger array"
            )
        if found.get("dataflow") in ("os", "is"):
            problems.append(
                f"{path}: {SPARSITY}.OptimizedMapping: row-wise sparsity needs weights that stay in the array, and "
                f"Dataflow is {found['dataflow']}; set Dataflow to ws, or OptimizedMapping to false"
            )
    raise_if_any(problems)
    machine = Machine(**{name: value for name, value in found.items() if name not in REFUSED})
    run_name = next(
        (keys[name] for keys in sections.values() for name in keys if name.lower() == "run_name"), path.stem
    )
    return Configuration(machine, run_name.strip("\"' ") or path.stem, became, unknown)


def _sections(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    try:
        parser.read_string(text_of(path, "a configuration of SCALE-Sim"), path.name)
    except configparser.Error as error:
        raise InputError(
            f"{path}: is not a configuration file: {' '.join(str(error).split())}; write [sections] and lines "
            "Key = value"
        ) from None
    return {section: dict(parser[section]) for section in parser.sections()}


def _needed_by(found: dict[str, Any]) -> list[str]:
    needed = []
    if found.get("mode") == "USER":
        needed += ["bandwidth", "ifmap_bandwidth", "filter_bandwidth"]
    if found.get("sparse"):
        needed += ["representation", "row_wise"]
    if found.get("sparse") and found.get("row_wise"):
        needed += ["block", "seed"]
    return needed


def _value(key: Key, text: str) -> Any:
    text = text.strip().strip("\"'")
    return _whole(text, key.least, key.most) if key.read is None else key.read(text)


def _whole(text: str, least: int = 0, most: int = LARGEST) -> int:
    try:
        value = int(text)
    except ValueError:
        raise InputError(f"has to be a whole number (got {text!r})") from None
    if not least <= value <= most:
        raise InputError(f"has to be from {least} to {most} (got {value})")
    return value


CONVOLUTION = (
    "layer", "IFMAP height", "IFMAP width", "filter height", "filter width", "channels", "filters", "stride",
)  # fmt: skip
MATRICES = ("layer", "M", "N", "K")


def is_gemm(path: str | Path) -> bool:
    """Return whether a topology is one of matrices: its lines have too few fields for convolutions."""
    rows = _rows(Path(path))
    return max(len(row) for _, row in rows) < len(CONVOLUTION)


def read_topology(path: str | Path, *, gemm: bool = False) -> list[Shape]:
    """Read a topology of the tool: of convolutions, or of matrices (M, N, K), with N:M as a last column, or without.

    A convolution with DP in its name is one layer for each channel, as the tool has it.
    Raises InputError with every line that is wrong.
    """
    path = Path(path)
    names = MATRICES if gemm else CONVOLUTION
    problems: list[str] = []
    layers: list[Shape] = []
    for number, row in _rows(path)[1:]:
        place = f"{path}: line {number}: "
        if len(row) < len(names):
            missing = ", ".join(names[len(row) :])
            problem = f"{place}has {len(row)} columns, and no {missing}"
            other = f"{problem}; a topology of matrices is read with gemm=True"
            problems.append(other if not gemm and len(row) >= len(MATRICES) else f"{problem}; add it")
            continue
        if len(row) > len(names) + 1:
            problems.append(
                f"{place}has {len(row)} columns, where {', '.join(names)} and N:M are {len(names) + 1}; "
                + ("a topology of convolutions is read with gemm=False" if gemm else "take out the others")
            )
            continue
        values: dict[str, int] = {}
        for name, text in zip(names[1:], row[1:], strict=False):
            with collecting(problems, f"{place}{name}: "):
                values[name] = _whole(text, 1)
        kept = (1, 1)
        with collecting(problems, f"{place}N:M: "):
            kept = _kept(row[len(names)]) if len(row) > len(names) else kept
        if len(values) == len(names) - 1:
            with collecting(problems, place):
                found = _matrices(row[0], values, kept) if gemm else _convolutions(row[0], values, kept)
                raise_if_any(found[0].problems())
                layers += found
    if not layers and not problems:
        problems.append(f"{path}: has no layer; each line after the first is one: {','.join(names)},")
    raise_if_any(problems)
    return layers


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the lines that say something, with their numbers and without trailing commas."""
    text = text_of(path, "a topology")
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for other, name in (";", "semicolons"), ("\t", "tabs"):
            if other in line and "," not in line:
                raise InputError(
                    f"{path}: line {number}: is separated by {name}; a topology is by commas, replace them"
                )
        try:
            row = [field.strip() for field in next(csv.reader([line]), [])]
        except csv.Error as error:
            raise InputError(f"{path}: line {number}: is no line of a table ({error}); correct it") from None
        while row and not row[-1]:
            row.pop()
        if row:
            found.append((number, row))
    if not found:
        raise InputError(f"{path}: is empty; the first line names columns, each other one is a layer")
    return found


def _kept(text: str) -> tuple[int, int]:
    first, colon, second = text.partition(":")
    if not colon:
        raise InputError(f"has to be as in 2:4, or 1:1 where a layer is dense (got {text!r})")
    kept, of = _whole(first.strip(), 1), _whole(second.strip(), 1)
    if kept > of:
        raise InputError(f"keeps more of a group than it has (got {text!r})")
    return kept, of


def _matrices(name: str, values: dict[str, int], kept: tuple[int, int]) -> list[Shape]:
    return [Shape(name=name, m=values["M"], n=values["N"], k=values["K"], kept=kept)]


def _convolutions(name: str, values: dict[str, int], kept: tuple[int, int]) -> list[Shape]:
    image = values["IFMAP height"], values["IFMAP width"]
    window = values["filter height"], values["filter width"]
    for side, size, of in zip(("height", "width"), image, window, strict=True):
        if of > size:
            raise InputError(f"filter {side}: is larger than the IFMAP, {size} (got {of}); pad the IFMAP beforehand")
    channels, filters, stride = values["channels"], values["filters"], values["stride"]
    if "DP" not in name:
        return [Shape.convolution(name, image, window, channels, filters, stride, kept)]
    return [
        Shape.convolution(f"{name}Channel_{channel}", image, window, 1, filters, stride, kept)
        for channel in range(channels)
    ]
