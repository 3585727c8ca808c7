"""Where the evidence lies, and figures that stand in README and docs, between `<!-- name -->` and `<!-- /name -->`."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ROOT / "tests" / "evidence"
"""What others measured and simulated; its README.md says who."""
ALEXNET_FC8 = Path(os.environ.get("ACCELSIM_SHARED", ROOT.parent / "shared")) / "golden" / "eie" / "alexnet_fc8.npz"
"""AlexNet's real fc8, which a clone does not have."""


def fill(blocks: dict[str, str], *, write: bool) -> list[str]:
    """Compare blocks with what stands in the documents, or put them there; returns the files that differed."""
    stale = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = fresh = path.read_text(encoding="utf-8")
        for name, block in blocks.items():
            pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
            fresh = pattern.sub(lambda match, block=block: match[1] + block + match[2], fresh)
        if fresh != text:
            stale.append(path.name)
            if write:
                path.write_text(fresh, encoding="utf-8")
    return stale
