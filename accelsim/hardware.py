"""Chips by name or path, with keys changed: TOML in, a checked chip of the right machine out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import reduce
from hashlib import sha256
from operator import or_
from pathlib import Path
from typing import Any

from accelsim.chips import Hardware
from accelsim.config import (
    MAX_TOML_BYTES,
    SHIPPED,
    build,
    check_kind,
    existing_file,
    find,
    label,
    read_toml,
    shipped_dir,
    short,
    with_overrides,
    without,
)
from accelsim.engines import ENGINES
from accelsim.errors import InputError, collecting, did_you_mean, placing, raise_if_any
from accelsim.files import real_path
from accelsim.keys import json_schema
from accelsim.kinds import KINDS, MOVED
from accelsim.parts.timed import DramPart

__all__ = ["Hardware", "load_hardware"]


def load_hardware(
    name: str | Path | Hardware, overrides: Mapping[str, Any] | None = None, *, remove: Sequence[str] = ()
) -> Hardware:
    """Return the chip of this name or path, with dotted keys overridden.

    `load_hardware("eie-64pe-45nm", {"engine.fifo_depth": 16})`. A technology named by the chip is loaded with it, so
    `technology.register_bit_pj` can be overridden too. Keys in `remove`, tables or single ones, are taken out first:
    they are as if the chip did not say them.
    Raises InputError with every unknown key, wrong type and impossible value at once.
    """
    changes = dict(overrides or {})
    if isinstance(name, Hardware):
        if not changes and not remove:
            return name
        data, source, folder = dataclasses.asdict(name), name.name, Path()
    else:
        path = find(name, "hwconfigs")
        data, source, folder = _read_chip(path), label(path), path.parent
    if remove:
        data = without(data, list(remove), f"{source}: remove")
    return _build(data, changes, source, folder)


def _read_chip(path: Path, derived: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a chip's file; with `base = "another"` it changes and adds keys of that chip, shipped or beside it.

    `remove` lists keys of the base that the chip is to lack; they go before its own keys come.
    """
    data = read_toml(path)
    check_kind(data, "chip", label(path))
    base, removed = data.pop("base", None), data.pop("remove", None)
    if base is None and removed is not None:
        raise InputError(f"{label(path)}: remove: there is no base to remove from; leave the keys out of this file")
    if base is None:
        return data
    if not isinstance(base, str):
        raise InputError(f"{label(path)}: base: must be the name of a chip, in quotes (got {base!r})")
    with placing(f"{label(path)}: base"):
        file = existing_file(path.parent / base, "chip") if base.endswith(".toml") else find(base, "hwconfigs")
        if real_path(file) in (chain := (*derived, real_path(path))):
            raise InputError(f"{base} is based on itself; name another chip")
        given = _read_chip(file, chain)
    if removed is not None:
        given = without(given, removed, f"{label(path)}: remove")
    return _merged(given, data)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a table with the keys of another put in, tables key by key."""
    both = {
        key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in changes.items()
    }
    return base | both


NAMED = {"technology": "hwconfigs/technology", "memory.dram": "hwconfigs/dram"}
"""Keys whose value may be the name of another file, a shipped one or one relative to the chip's
(where it is overridden, to the working directory), and of which kind."""


def _build(data: dict[str, Any], changes: dict[str, Any], source: str, folder: Path) -> Hardware:
    """Read the files that a chip names, then change keys, so that a number in such a file can be changed too."""
    names = {key: changes.pop(key) for key in NAMED if isinstance(changes.get(key), str)}
    data = with_overrides(data, names)
    problems: list[str] = []
    for dotted, kind in NAMED.items():
        *tables, key = dotted.split(".")
        owner: Any = data
        for table in tables:
            owner = owner.get(table) if isinstance(owner, dict) else None
        if isinstance(owner, dict) and isinstance(owner.get(key), str):
            name = owner[key]
            with collecting(problems, f"{source}: {dotted}: "):
                place = Path() if dotted in names else folder
                file = existing_file(place / name, SHIPPED[kind]) if name.endswith(".toml") else find(name, kind)
                owner[key] = read_toml(file)
                check_kind(owner[key], SHIPPED[kind], label(file))
                _find_table(owner[key], file.parent)
    raise_if_any(problems)
    data = with_overrides(data, changes)
    part = data["memory"].get("dram") if isinstance(data.get("memory"), dict) else None
    if isinstance(part, dict):
        part.setdefault("model", DramPart.model)
    described = _kind_of_chip(data.get("engine"), source)
    if data.get("technology") is not None and not _uses(described, "technology"):
        raise InputError(
            f"{source}: technology: is not used: engine {data['engine']['kind']} is not priced by one; leave it out"
        )
    chip = build(described, data, source)
    raise_if_any(f"{source}: operations: {problem}" for problem in _ways_beyond(chip))
    return chip


OF_KERNELS = ("dtype", "elements_per_cycle", "element_pj", "launch_us")
"""Keys of operations that say how those run that are neither fused nor elsewhere."""


def _ways_beyond(chip: Hardware) -> list[str]:
    """Say which kinds of operations a chip is to run in a way that its machine cannot."""
    if chip.operations is None:
        return []
    engine = ENGINES[chip.engine.kind]
    given = {kind: chip.operations.way_of(kind) for kind in KINDS}
    unused = [key for key in OF_KERNELS if MOVED not in engine.ways and getattr(chip.operations, key) not in ("", None)]
    return [
        f"{key}: engine {engine.kind} runs no operations, and has no use for it; leave it out" for key in unused
    ] + [
        f"{kind}: engine {engine.kind} cannot have it {way}; leave it out, or set it to 'elsewhere'"
        for kind, way in given.items()
        if way not in engine.ways
    ]


def _uses(kind: type[Hardware], key: str) -> bool:
    """Return whether a machine's chip declares a table that all chips may have; another would take it and ignore it."""
    own = kind.__mro__[: kind.__mro__.index(Hardware)]
    return any(key in vars(owner).get("__annotations__", {}) for owner in own)


def chip_schema() -> dict[str, Any]:
    """Return the JSON schema of a chip's file: one of every machine, files that it names by name, or a variant."""
    schema = json_schema(reduce(or_, (engine.chip for engine in ENGINES.values())))
    named = {key.rpartition(".")[2] for key in NAMED}
    for described in schema["$defs"].values():
        for key in named & described.get("properties", {}).keys():
            table = described["properties"][key]
            said = {name: table.pop(name) for name in ("description", "default") if name in table}
            described["properties"][key] = {"anyOf": [{"type": "string"}, table], **said}
    base = {"type": "string", "description": "The chip that this one is a variant of: a shipped name, or a .toml."}
    removed = {
        "type": "array",
        "items": {"type": "string"},
        "description": "Keys of that chip, with dots, that this one lacks, as engine.power.",
    }
    properties = {"base": base, "remove": removed}
    variant = {"title": "Variant", "type": "object", "properties": properties, "required": ["base"]}
    schema["anyOf"].append(variant)
    return schema


def _find_table(technology: dict[str, Any], folder: Path) -> None:
    """Replace the name of a technology's SRAM table by path and hash, where it lies beside the technology's own file.

    Raises InputError for a table that is neither there nor shipped.
    """
    sram = technology.get("sram")
    if not isinstance(sram, dict) or not isinstance(sram.get("table"), str):
        return
    shipped = shipped_dir(NAMED["technology"])
    beside = real_path(folder / sram["table"])
    if os.path.isfile(beside) and beside.parent != real_path(shipped):
        if os.path.getsize(beside) > MAX_TOML_BYTES:
            raise InputError(f"sram.table: {beside} is larger than {MAX_TOML_BYTES} bytes; is this a table of data?")
        sram.update({"table": str(beside), "table_hash": sha256(beside.read_bytes()).hexdigest()[:32]})
    elif not os.path.isfile(shipped / sram["table"]):
        raise InputError(
            f"sram.table: no file {sram['table']!r} in {folder}, beside the technology's, and none of this name is "
            f"shipped{did_you_mean(sram['table'], (path.name for path in shipped.glob('sram*.csv')))}"
        )


def _kind_of_chip(engine: Any, source: str) -> type[Hardware]:
    """Return the kind of chip that a table `engine` asks for: the first of ENGINES where it names none."""
    if isinstance(engine, dict):
        kind = engine.setdefault("kind", next(iter(ENGINES)))
        if not isinstance(kind, str) or kind not in ENGINES:
            known = ", ".join(f"'{each}'" for each in ENGINES)
            raise InputError(
                f"{source}: engine.kind: must be one of {known} (got {short(kind)}){did_you_mean(str(kind), ENGINES)}; "
                "a machine of your own is known once ACCELSIM_ENGINES names its module"
            )
        return ENGINES[kind].chip
    return next(iter(ENGINES.values())).chip
