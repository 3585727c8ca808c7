"""Files of SCALE-Sim: a configuration and a topology."""

from __future__ import annotations

from pathlib import Path
from random import Random

from hostile import mutations

CFG = """[general]
run_name = mine

[architecture_presets]
ArrayHeight: 8
ArrayWidth: 8
IfmapSramSzkB: 1
FilterSramSzkB: 1
OfmapSramSzkB: 1
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Dataflow : ws
Bandwidth : 10

[layout]
IfmapCustomLayout: False
FilterCustomLayout: False

[sparsity]
SparsitySupport: True
SparseRep: ellpack_block
OptimizedMapping: False
BlockSize: 4
RandomNumberGeneratorSeed: 40

[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""
GEMMS = "Layer,M,N,K,sparse\ng1,16,16,16,2:4\ng2,1,64,32,1:4\n"
CONVOLUTIONS = "Layer,IH,IW,FH,FW,C,F,S,sparse\nc1,14,14,3,3,8,16,1,1:1\nc2,8,8,3,3,4,1,1,2:4\n"


def make(draw: Random, folder: Path) -> list[str]:
    """Make a topology and a configuration, one of them or both changed."""
    topology = draw.choice((GEMMS, CONVOLUTIONS))
    which = draw.random()
    mutations.write(folder / "net.csv", mutations.line(draw, topology, ",") if which < 0.6 else topology)
    mutations.write(folder / "scale.cfg", mutations.line(draw, CFG, ":=") if which > 0.4 else CFG)
    for name in ("net.csv", "scale.cfg"):
        if draw.random() < 0.08:
            (folder / name).write_bytes(mutations.content(draw, (folder / name).read_bytes()))
    return draw.choice((
        ["run", "net.csv", "--hardware", "scale.cfg"],
        ["run", "net.csv", "--hardware", "scale.cfg", "--reports", "out"],
        ["check", "net.csv"], ["check", "scale.cfg"], ["convert", "scale.cfg", "-o", "chip.toml"],
    ))  # fmt: skip
