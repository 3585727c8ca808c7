"""Timelines that `plot` reads, plain and packed, and traces of addresses that `dram` replays."""

from __future__ import annotations

import functools
import gzip
import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from hostile import mutations


@functools.cache
def _timeline() -> Any:
    """Return what `accelsim timeline` writes of a few cycles."""
    import warnings

    import accelsim
    from accelsim.report.trace import write_trace
    from accelsim.timeline import timeline

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = accelsim.load_network("lenet-300-100-digits")
        path = Path(folder) / "trace.json"
        write_trace(timeline(net, accelsim.load_hardware("eie-64pe-45nm"), net.layers[-1].name, 0, 12), path)
        return json.loads(path.read_text(encoding="utf-8"))


LINES = """0x1f40 R
0x2000 W  # a comment
LD 0x40
4096 READ 12
8192 W 33.5
ST 128
0 R
"""


def make(draw: Random, folder: Path) -> list[str]:
    """Make a trace of a whole one."""
    if draw.random() < 0.4:
        text = LINES.splitlines()
        kept = [each for each in text if draw.random() < 0.4] * draw.choice((1, 3))
        content = mutations.line(draw, "\n".join(kept), " ").encode("utf-8", "surrogatepass")
        name = "trace.txt"
        command = ["dram"]
    else:
        whole = mutations.tree(draw, _timeline())
        content = mutations.json_text(whole).encode("utf-8", "surrogatepass")
        name = "trace.json"
        command = ["plot"]
    if draw.random() < 0.15:
        content = mutations.content(draw, content)
    if draw.random() < 0.2:
        content = gzip.compress(content, 1, mtime=0)
        name += draw.choice((".gz", ".gz", ""))
        if draw.random() < 0.3:
            content = mutations.content(draw, content)
    (folder / name).write_bytes(content)
    return [*command, name, *([draw.choice(("queue", "bandwidth"))] if command == ["plot"] else ["--requests", "9"])]
