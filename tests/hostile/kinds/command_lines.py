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
    ("sweep", "eie-queue-depth", "--dry-run", "--store", "r.db", "--jobs", "1"),
    ("search", "eie-queue-depth", "--trials", "2", "--store", "r.db", "--jobs", "1"),
    ("pareto", "r.db", "--objective", "energy_pj,time_us", "--constraint", "area_mm2 <= 40"),
    ("knobs", "r.db", "--objective", "energy_pj"),
    ("divisions", NET),
)
WORDS = (
    "0", "-1", "1e308", "nan", "inf", "0:inf:1", "0:0.95:1e-9", "9" * 30, "9" * 5000, "node=0nm", "node=1e-9nm", "fine",
    "nm:9:4", "block:0x0", "block:999999999x999999999", "vector:4x4", "l1", "digits", "dense", "none", "x.toml", "x.db",
    "engine.pes=0", "engine.pes=99999999999", "engine.clock_mhz=1e300", "memory.dram=ddr4-2400", "a.b.c.d=1", "=", "a=",
    "simpy", "json", "=cmd|' /C calc'!A0", "file:y.db?mode=memory", "énergie", "1,2,3", ",", ":", "a:b:c", "*", "**",
    "area_mm2 <= (((", "9**9**9 <= 1", "minimize minimize", "--trust", "-q", "--json", "--csv", "--parquet",
)  # fmt: skip


def make(draw: Random, folder: Path) -> list[str]:
    """Change some of the arguments of a command."""
    line = list(draw.choice(LINES))
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(1, len(line) + 1)
        pick = draw.random()
        if pick < 0.6 and at < len(line):
            line[at] = _word(draw, line[at])
        elif pick < 0.7 and at < len(line):
            del line[at]
        elif pick < 0.8 and at < len(line):
            line.insert(at, line[at])
        else:
            line.insert(at, _word(draw, draw.choice(draw.choice(LINES))))
    return line


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
