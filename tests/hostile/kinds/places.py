"""Places of the file system where a file belongs: pipes, folders, devices, loops of links, endless and odd names."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from hostile import mutations

READ = (
    ["check", "{}"], ["inspect", "{}"], ["run", "{}"], ["run", "lenet-300-100-digits", "--hardware", "{}"],
    ["run", "lenet-300-100-digits", "--weights", "{}"], ["run", "lenet-300-100-digits", "--inputs", "{}"],
    ["run", "lenet-300-100-digits", "--inputs", "{}", "--labels", "{}"], ["plot", "{}", "energy"],
    ["plot", "{}", "queue"], ["report", "{}"], ["dram", "{}"], ["dram", "--part", "{}"], ["sweep", "{}"],
    ["pareto", "{}"], ["knobs", "{}"], ["search", "{}", "--trials", "2"], ["run", "{}", "--hardware", "{}"],
    ["convert", "{}", "-o", "chip.toml"], ["energy", "{}"], ["timeline", "{}"], ["prune", "{}"], ["curve", "{}"],
    ["run", "lenet-300-100-digits", "--against", "{}"], ["allocate", "{}"], ["divisions", "{}"], ["compare", "{}"],
    ["run", "lenet-300-100-digits", "--set", "technology={}"], ["run", "lenet-300-100-digits", "--set", "dram={}"],
    ["sensitivity", "lenet-300-100-digits", "--store", "{}", "--sparsity", "0.5"],
)  # fmt: skip
WRITTEN = (
    ["check", "lenet-300-100-digits"], ["inspect", "lenet-300-100-digits", "--csv", "{}"],
    ["run", "lenet-300-100-digits", "--against", "none", "--csv", "{}"],
    ["run", "lenet-300-100-digits", "--against", "none", "--plot", "{}"],
    ["run", "lenet-300-100-digits", "--against", "none", "--json", "{}"],
    ["run", "lenet-300-100-digits", "--against", "none", "--parquet", "{}"],
    ["prune", "lenet-300-100-digits", "--sparsity", "0.95", "-o", "{}"],
    ["timeline", "lenet-300-100-digits", "--to", "10", "-o", "{}"], ["plot", "eie-64pe-45nm", "operations", "-o", "{}"],
    ["report", "lenet-300-100-digits", "-o", "{}"], ["curve", "lenet-300-100-digits", "-o", "{}"],
    ["dram", "--requests", "10", "--csv", "{}"], ["dram", "--requests", "10", "--json", "{}"],
)  # fmt: skip
SUFFIXES = (
    "", ".toml", ".npz", ".safetensors", ".onnx", ".pt", ".gguf", ".csv", ".json", ".parquet", ".db", ".cfg", ".svg",
    ".html", ".json.gz", ".npy", ".png", ".index.json", ".txt",
)  # fmt: skip


def make(draw: Random, folder: Path) -> list[str]:
    """Make a place that is no file, or no good one, and name it to a command."""
    form = draw.choice(READ if draw.random() < 0.75 else WRITTEN)
    name = f"place{draw.choice(SUFFIXES)}"
    path = folder / name
    pick = draw.randrange(14)
    if pick == 0:
        os.mkfifo(path)
    elif pick == 1:
        path.mkdir()
    elif pick == 2:
        path.symlink_to(path)
    elif pick == 3:
        path.symlink_to(draw.choice(("/dev/zero", "/dev/full", "/dev/null", "/dev/tty", "/proc/self/mem", "/nope")))
    elif pick == 4:
        name = "n" * draw.choice((255, 256, 5000, 100_000)) + path.suffix
    elif pick == 5:
        path.write_bytes(draw.randbytes(draw.choice((0, 1, 7, 1000))))
    elif pick == 6:
        path.write_bytes(b"\xff\xfe" + "name = 'x'\n".encode("utf-16-le"))
    elif pick == 7:
        name = draw.choice(("/dev/zero", "/dev/full", "/dev/null", "/proc/self/mem", "/dev/fd/99"))
    elif pick == 8:
        name = str(draw.choice(mutations.TEXTS[:48])).replace("\x00", "?").replace("\ud800", "\udcff") + path.suffix
    elif pick == 9:
        path.mkdir()
        (path / "model.safetensors").symlink_to(path)
    elif pick == 10:
        path.write_bytes(b"")
        path.chmod(0)
    elif pick == 11:
        name = f"{name}/{name}"
        path.write_bytes(b"a file where a folder belongs")
    elif pick == 12:
        os.mkfifo(folder / "placf.toml")
        name = "place.toml"
    else:
        path.symlink_to("nowhere")
    return [part.replace("{}", name) for part in form]
