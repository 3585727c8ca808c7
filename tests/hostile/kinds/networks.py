"""Networks and language models, with their weights beside them where these come along."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from accelsim.config import shipped_dir, shipped_names
from hostile import mutations, shipped
from hostile.reading import arguments

SMALL = ("lenet-300-100-digits", "lenet-300-100-digits-dense", "convnet-digits", "convnet-digits-dense", "lenet-5")
STEP = ["--hardware", "h100-pcie", "--prompt", "128", "--phase", "decode"]
LOOK = ["check", "net.toml"]


def make(draw: Random, folder: Path) -> list[str]:
    """Make a network's file, and ask a command that reads it; one of large networks looks at it and does not run it."""
    if draw.random() < 0.15:
        name = draw.choice(shipped_names("workloads/models"))
        mutations.write(folder / "net.toml", shipped.changed(draw, "workloads/models", name))
        step = ["run", "net.toml", *STEP]
        return draw.choice((step, step, step, ["inspect", "net.toml", "--graph"])) if draw.random() < 0.97 else LOOK
    name = draw.choice(SMALL if draw.random() < 0.8 else shipped_names("workloads"))
    if (weights := shipped_dir("workloads") / f"{name}.safetensors").exists():
        shutil.copy(weights, folder)
    mutations.write(folder / "net.toml", shipped.changed(draw, "workloads", name))
    return arguments(draw, "net.toml") if name in SMALL else ["inspect", "net.toml", "--graph"]
