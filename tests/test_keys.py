"""Does every key of every file say what it means, and its unit; and do the schemas take the files that come along?"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from typing import get_type_hints

import pytest
from conftest import Run
from jsonschema import Draft202012Validator

from accelsim.chips import Technology
from accelsim.config import shipped_dir
from accelsim.engines import ENGINES
from accelsim.explore.space import SpaceSpec
from accelsim.keys import docstrings, keys_of, tables_of, unit_of
from accelsim.network import NetworkSpec
from accelsim.parts import MODELS

FILES = [*(engine.chip for engine in ENGINES.values()), Technology, *MODELS.values(), NetworkSpec, SpaceSpec]
TABLES = sorted({table for kind in FILES for table in tables_of(kind)}, key=lambda kind: kind.__name__)
SCHEMAS = {
    "hardware": "hwconfigs",
    "network": "workloads",
    "technology": "hwconfigs/technology",
    "dram": "hwconfigs/dram",
    "space": "workloads/spaces",
}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_key_says_what_it_means_and_in_which_unit(table: type) -> None:
    hints = get_type_hints(table)
    for key in keys_of(table):
        assert re.fullmatch(r"\S.*[.)]", key.meaning), (
            f"{table.__name__}.{key.name} has no docstring of whole sentences"
        )
        if hints[key.name] is float and key.unit == "-":
            assert re.search(r"[Ss]hare|/|multiple", key.meaning), f"{table.__name__}.{key.name}: a share of what?"


def test_every_key_is_in_a_table_of_the_docs() -> None:
    """Those that are left out of their table are tables, which stand under their own name."""
    for kind in FILES:
        tables = tables_of(kind)
        places = {place.removesuffix("[]") for each in tables.values() for place in each}
        for table, mine in tables.items():
            shown = {key.name for key in keys_of(table)}
            for name in {field.name for field in dataclasses.fields(table)} - shown:
                assert {f"{place}.{name}".lstrip(".") for place in mine} <= places


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("clock_mhz", "MHz"),
        ("t_rcd_rd_ns", "ns"),
        ("idd4r_ma", "mA"),
        ("pj_per_bit", "pJ per bit"),
        ("sustained_gb_per_s", "GB/s"),
        ("least_k_per_split", "elements of k per split"),
        ("load_cycles_per_k", "cycles per element of k"),
        ("logic_area_um2_per_pe", "µm² per PE"),
        ("pes", ""),
        ("dtype", ""),
    ],
)
def test_the_end_of_a_name_is_its_unit(name: str, unit: str) -> None:
    assert unit_of(name) == unit


@pytest.mark.parametrize(("kind", "folder"), SCHEMAS.items())
def test_a_schema_describes_every_key_and_takes_every_shipped_file(accelsim: Run, kind: str, folder: str) -> None:
    schema = json.loads(accelsim("schema", kind).out)
    Draft202012Validator.check_schema(schema)
    described = [*schema.get("$defs", {}).values(), *([schema] if "properties" in schema else [])]
    properties = [each for table in described for each in table.get("properties", {}).values()]
    assert len(properties) > 5
    assert all(each["description"].strip() for each in properties)
    files = sorted(shipped_dir(folder).glob("*.toml"))
    assert files
    for file in files:
        Draft202012Validator(schema).validate(tomllib.loads(file.read_text("utf-8")))


def test_a_schema_refuses_a_key_that_is_misspelt(accelsim: Run) -> None:
    schema = json.loads(accelsim("schema", "dram").out)
    part = tomllib.loads((shipped_dir("hwconfigs/dram") / "ddr4-2400.toml").read_text("utf-8"))
    part["timing"]["t_rdc_rd_ns"] = part["timing"].pop("t_rcd_rd_ns")
    assert not Draft202012Validator(schema).is_valid(part)


def test_a_schema_says_units(accelsim: Run) -> None:
    schema = json.loads(accelsim("schema", "dram").out)
    assert schema["$defs"]["DramTiming"]["properties"]["t_rcd_rd_ns"]["description"] == "Activate to read. [ns]"


def test_what_a_table_does_not_say_its_base_says() -> None:
    for engine in ENGINES.values():
        (config,) = (table for table, places in tables_of(engine.chip).items() if places == ["engine"])
        assert docstrings(config)["clock_mhz"] == "Clock of the machine."
