"""Memory: a command needs what its process needs empty and three times the largest layer, however many there are.

Each runs in a process of its own: first on a network of two layers, which loads and compiles what it needs, then, with
little more memory than is in use after that, on one of 40 such layers, which would not fit whole. The limit is that of
the process's own data (RLIMIT_DATA): files that are mapped for reading are in the system's cache, which takes them out
when it likes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")

SIDES = 512, 2048
LARGEST = 4 * SIDES[0] * SIDES[1]
LAYERS = 40
ALLOWED = 3 * LARGEST + 24 * 2**20
"""Bytes: three layers, those that wait until it is known where weights lie, and tables and figures."""

SCRIPT = """
import re, resource, sys, threading
from pathlib import Path
threading.stack_size(2**19)  # of which little is used and all counts
from accelsim.cli.app import app
import accelsim.cli

def run(network):
    try:
        code = app([part.replace("NETWORK", network) for part in sys.argv[2:]], standalone_mode=False)
    except SystemExit as end:
        code = end.code
    assert not code, code

run("small")
size = 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
resource.setrlimit(resource.RLIMIT_DATA, (size + int(sys.argv[1]), -1))
run("large")
"""

ON_EIE = ["--hardware", "eie-64pe-45nm", "--density", "0.3", "--set", "memory.residency=stream"]
COMMANDS = {
    "run": ["run", "NETWORK.safetensors", *ON_EIE],
    "run on tensor cores": ["run", "NETWORK.safetensors", "--hardware", "a100-pcie"],
    "run a description": ["run", "NETWORK.toml", *ON_EIE],
    "run a state dict": ["run", "NETWORK.pt", *ON_EIE],
    "run --verify": ["run", "NETWORK.toml", *ON_EIE, "--verify"],
    "run --verify on tensor cores": ["run", "NETWORK.toml", "--hardware", "a100-pcie", "--verify"],
    "check": ["check", "NETWORK.safetensors"],
    "inspect": ["inspect", "NETWORK.safetensors"],
    "prune": ["prune", "NETWORK.safetensors", "--sparsity", "0.8", "-o", "out-NETWORK.safetensors"],
    "prune --global": ["prune", "NETWORK.safetensors", "--global", "--sparsity", "0.8", "-o", "NETWORK-g.safetensors"],
    "prune a description": ["prune", "NETWORK.toml", "--sparsity", "0.8", "-o", "NETWORK-d.safetensors"],
    "prune beside chips": ["prune", "NETWORK.safetensors", "--granularity", "nm:2:4", "--hardware", "a100-pcie"],
    "compare": ["compare", "NETWORK.toml", "--granularity", "fine,nm:2:4", *ON_EIE],
    "curve": ["curve", "NETWORK.toml", "--granularity", "fine,block:4x4", "--sparsity", "0.5:0.9:0.4", *ON_EIE],
    "divisions": ["divisions", "NETWORK.safetensors", "--hardware", "a100-pcie"],
    "report": ["report", "NETWORK.toml", "-o", "NETWORK.html", *ON_EIE],
    "sweep": ["sweep", "space-NETWORK.toml", "--store", "NETWORK.db", "--jobs", "1", "-q"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, a small and a large one, each as arrays and as a description, and a space for each."""
    folder = tmp_path_factory.mktemp("networks")
    rng = np.random.default_rng(0)
    for name, sides, layers in (("small", SIDES, 2), ("large", SIDES, LAYERS)):
        weight = rng.standard_normal(sides, np.float32)
        weight[rng.random(sides) < 0.6] = 0
        save_file({f"fc{n}.weight": np.roll(weight, n) for n in range(layers)}, folder / f"{name}.safetensors")
        described = [f'name = "{name}"']
        for n in range(layers):
            described += ["[[layer]]", f'name = "fc{n}"', 'kind = "linear"']
            described += [f"out_features = {sides[0]}", f"in_features = {sides[1]}"]
            described += [f"synthetic = {{ density = 0.4, pattern = 'fine', seed = {n} }}"]
        (folder / f"{name}.toml").write_text("\n".join(described))
        (folder / f"space-{name}.toml").write_text(
            f'network = "{name}.toml"\nhardware = "eie-64pe-45nm"\ndensity = 0.3\n[set]\nengine.capacity = "ignore"\n'
            "[vary]\nengine.fifo_depth = [2, 8]\nengine.clock_mhz = [400.0, 800.0]\n"
        )
    return folder


@pytest.mark.thorough  # what the large network compiles is on disk by then
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_memory_is_bounded_by_one_layer(folder: Path, command: list[str]) -> None:
    if "NETWORK.pt" in command:
        torch = pytest.importorskip("torch")
        for name in "small", "large":
            torch.save(
                {key: torch.from_numpy(array) for key, array in load_file(folder / f"{name}.safetensors").items()},
                folder / f"{name}.pt",
            )
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "80"}
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(ALLOWED), *command],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-2000:]
