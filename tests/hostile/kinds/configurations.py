"""Chips, DRAM parts, technologies, networks and spaces: shipped ones with other values, keys and tables; cut lines."""

from __future__ import annotations

import functools
import shutil
import tomllib
from pathlib import Path
from random import Random
from typing import Any

from accelsim.config import shipped_dir, shipped_names
from hostile import mutations
from hostile.reading import arguments

NET = "lenet-300-100-digits"
NETWORKS = (NET, "lenet-300-100-digits-dense", "convnet-digits", "lenet-5")
SPACES = ("eie-queue-depth", "memory-size", "equal-accuracy")
FOLDERS = {"chip": "hwconfigs", "part": "hwconfigs/dram", "technology": "hwconfigs/technology"}


@functools.cache
def _text(folder: str, name: str) -> str:
    return (shipped_dir(folder) / f"{name}.toml").read_text(encoding="utf-8")


def _number(draw: Random) -> Any:
    """Return a value that is mostly a number, since most keys hold one."""
    return draw.choice((*mutations.INTEGERS, *mutations.REALS)) if draw.random() < 0.6 else mutations.value(draw)


def _changed(draw: Random, folder: str, name: str) -> str:
    text = _text(folder, name)
    if draw.random() < 0.15:
        return mutations.line(draw, text, "=.")
    return mutations.toml_text(mutations.tree(draw, tomllib.loads(text), _number))


def make(draw: Random, folder: Path) -> list[str]:
    """Make a file of one of these, and ask a command that reads it."""
    what = draw.choice(("chip", "chip", "chip", "part", "part", "technology", "network", "space", "space"))
    made: list[str] = globals()[f"_{what}"](draw, folder)
    return made


def _chip(draw: Random, folder: Path) -> list[str]:
    name = draw.choice(shipped_names(FOLDERS["chip"]))
    mutations.write(folder / "chip.toml", _changed(draw, FOLDERS["chip"], name))
    run = ["run", NET, "--hardware", "chip.toml", "--against", "none"]
    energy = ["energy", NET, "--hardware", "chip.toml"]
    return draw.choice((["check", "chip.toml"], run, run, energy, ["energy", "chip.toml"]))


def _part(draw: Random, folder: Path) -> list[str]:
    name = draw.choice(shipped_names(FOLDERS["part"]))
    mutations.write(folder / "part.toml", _changed(draw, FOLDERS["part"], name))
    replay = ["dram", draw.choice(("seq_read", "rand_read64")), "--part", "part.toml", "--requests", "200"]
    streamed = ["run", NET, "--against", "none", "--set", "memory.dram=part.toml", "--set", "memory.residency=stream"]
    return draw.choice((["check", "part.toml"], replay, replay, streamed))


def _technology(draw: Random, folder: Path) -> list[str]:
    name = draw.choice(shipped_names(FOLDERS["technology"]))
    mutations.write(folder / "own.toml", _changed(draw, FOLDERS["technology"], name))
    chip = draw.choice(("eie-64pe-45nm", "edge-nm-16x16", "systolic-32x32-ws"))
    return ["run", NET, "--hardware", chip, "--against", "none", "--set", "technology=own.toml"]


def _network(draw: Random, folder: Path) -> list[str]:
    name = draw.choice(NETWORKS)
    if (weights := shipped_dir("workloads") / f"{name}.safetensors").exists():
        shutil.copy(weights, folder)
    mutations.write(folder / "net.toml", _changed(draw, "workloads", name))
    return ["run", "net.toml", "--against", "none"] if draw.random() < 0.3 else arguments(draw, "net.toml")


def _space(draw: Random, folder: Path) -> list[str]:
    mutations.write(folder / "space.toml", _changed(draw, "workloads/spaces", draw.choice(SPACES)))
    (folder / "score.py").write_text(f"import os\nos.mkdir({str(folder / 'canary')!r})\n")
    return ["sweep", "space.toml", "--store", "r.db", "--dry-run"]
