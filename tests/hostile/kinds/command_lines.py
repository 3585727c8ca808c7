"""Command lines: arguments of every command with others in their places, gone, twice or at the end."""

from __future__ import annotations

from pathlib import Path
from random import Random

from hostile import mutations

NET = "lenet-300-100-digits"
LINES = (
    ("check", NET),
    ("check", "eie-64pe-45nm"),
    ("list",),
    ("inspect", NET, "--csv", "i.csv"),
    ("run", NET, "--hardware", "eie-64pe-45nm,edge-nm-16x16", "--against", "none", "--seed", "3"),
    ("run", NET, "--set", "engine.fifo_depth=16", "--density", "0.5", "--csv", "r.csv", "--against", "none"),
    ("run", NET, "--batch", "2", "--at", "node=28nm,format=int8", "--against", "none", "--limit", "10m"),
    ("energy", NET, "--layer", "fc1", "--set", "engine.pes=32"),
    ("energy", "a100-pcie"),
    ("compare", NET, "--granularity", "fine,nm:2:4", "--sparsity", "0.5"),
    ("curve", NET, "--sparsity", "0:0.6:0.3", "--granularity", "fine", "--metric", "energy", "-o", "c.svg"),
    ("prune", NET, "--granularity", "nm:2:4", "--criterion", "l1", "-o", "p.safetensors"),
    ("prune", NET, "--sparsity", "0.8", "--global", "-o", "p.npz"),
    ("sensitivity", NET, "--granularity", "fine", "--sparsity", "0.5", "--evaluate", "fidelity"),
    ("allocate", NET, "--budget", "storage_bits=90%", "--granularity", "fine", "--steps", "2"),
    ("timeline", NET, "--layer", "fc3", "--from", "0", "--to", "60", "-o", "t.json"),
    ("plot", NET, "energy", "-o", "e.svg"),
    ("dram", "seq_read", "--part", "ddr4-2400", "--load", "0.5", "--requests", "100", "--channels", "2"),
    ("sweep", "memory-size", "--dry-run", "--store", "r.db", "--jobs", "1"),
    ("search", "memory-size", "--trials", "2", "--store", "r.db", "--jobs", "1"),
    ("pareto", "r.db", "--objective", "energy_pj,time_us", "--constraint", "area_mm2 <= 40"),
    ("knobs", "r.db", "--objective", "energy_pj"),
    ("divisions", NET),
    ("report", NET, "-o", "page.html", "--against", "none"),
    ("timeline", NET, "--layer", "fc3", "--to", "20", "-o", "t.vcd"),
    ("inspect", NET, "--graph"),
    ("inspect", NET, "--plot", "i.svg", "--layer", "fc3"),
    ("new", "chip", "--base", "edge-nm-16x16", "-o", "mine.toml"),
    ("new", "network", "--base", "net.npz", "-o", "mine.toml"),
    ("convert", "scale.cfg", "-o", "chip.toml"),
    ("schema", "hardware"),
    ("dram", "rand_read64", "--requests", "50", "--json", "d.json"),
    ("run", "llama3.2-1b", "--hardware", "rtx4090", "--prompt", "128", "--phase", "decode", "--dtype", "fp8"),
)
WORDS = (
    "0", "-1", "1e308", "nan", "inf", "0:inf:1", "0:0.95:1e-9", "9" * 30, "9" * 5000, "node=0nm", "node=1e-9nm", "fine",
    "nm:9:4", "block:0x0", "block:999999999x999999999", "vector:4x4", "l1", "digits", "dense", "none", "x.toml", "x.db",
    "engine.pes=0", "engine.pes=99999999999", "engine.clock_mhz=1e300", "memory.dram=ddr4-2400", "a.b.c.d=1", "=", "a=",
    "simpy", "json", "=cmd|' /C calc'!A0", "file:y.db?mode=memory", "énergie", "1,2,3", ",", ":", "a:b:c", "*", "**",
    "area_mm2 <= (((", "9**9**9 <= 1", "minimize minimize", "--trust", "-q", "--json", "--csv", "--parquet",
)  # fmt: skip


VALUES = (
    "0", "1", "2", "0.3", "0.97", "1.5", "1e-3", "90%", "2:4", "nm:1:4", "block:4x4", "vector:4", "filter", "channel",
    "pattern", "magnitude", "l2", "fc1", "fc2,fc3", "eie-64pe-45nm", "edge-nm-16x16,systolic-32x32-ws", "a100-pcie",
    NET, "convnet-digits", "lenet-5", "engine.pes=16", "engine.clock_mhz=100", "memory.residency=stream", "node=45nm",
    "format=int8", "o.csv", "o.json", "o.svg", "o.png", "p.npz", "p.safetensors", "t.json", "t.json.gz", "t.vcd",
    "r.db", "fidelity", "prefill", "decode", "energy_pj", "time_us,area_mm2", "energy_pj <= 1e9", "5s", "10m",
    "x=1,3,8,8",
)  # fmt: skip
"""Of options: some of them fit some."""
OPTIONS = (
    "--against", "--density", "--batch", "--seed", "--layer", "--csv", "--json", "--set", "--at", "--weights",
    "--quiet", "--count-io", "--sparsity", "--granularity", "--criterion", "--evaluate", "--metric", "--ends",
    "--global", "--limit", "--tokens", "--phase", "--context", "--plot", "--jobs", "--trials", "--store",
    "--objective", "--constraint", "-h",
)  # fmt: skip


def make(draw: Random, folder: Path) -> list[str]:
    """Change some of the arguments of a command, by others that may fit or by such as fit nothing."""
    line = list(draw.choice(LINES))
    word = _value if draw.random() < 0.6 else _word
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(1, len(line) + 1)
        pick = draw.random()
        if pick < 0.6 and at < len(line) and (not line[at].startswith("-") or draw.random() < 0.2):
            line[at] = word(draw, line[at])
        elif pick < 0.67 and at < len(line):
            del line[at]
        elif pick < 0.74 and at < len(line):
            line.insert(at, line[at])
        elif pick < 0.9:
            line += [draw.choice(OPTIONS), word(draw, draw.choice(VALUES))]
        else:
            line.insert(at, word(draw, draw.choice(draw.choice(LINES))))
    return line


def _value(draw: Random, word: str) -> str:
    """Return a word that may fit where this one stood."""
    return draw.choice((*VALUES, word, word, word))


def _word(draw: Random, word: str) -> str:
    """Return another word, or this one a little changed."""
    pick = draw.random()
    if pick < 0.35:
        found = draw.choice(WORDS)
    elif pick < 0.6:
        found = draw.choice(mutations.TEXTS)
    elif pick < 0.8:
        at = draw.randrange(len(word) + 1)
        found = word[:at] + draw.choice((*WORDS[:8], *mutations.TEXTS[:30])) + word[at:]
    else:
        found = draw.choice((word * 2, word[:-1], word.upper(), word + "0" * 20, "".join(reversed(word))))
    return found.replace("\0", "")[:100_000]  # which no argument can hold, nor more
