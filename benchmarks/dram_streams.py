"""Streams through every shipped DRAM part with timings, replayed and kept: python -m benchmarks.dram_streams."""

from __future__ import annotations

import json

from accelsim.config import shipped_names
from accelsim.memory import DramPart, load_memory
from accelsim.memory.service import SHIPPED_STREAMS, content_of, replayed_streams


def streams() -> dict[str, object]:
    """Return what the file holds: for each part the hash of its keys and what was counted."""
    parts = {name: load_memory(name) for name in shipped_names("hwconfigs/dram")}
    return {
        name: {"content": content_of(part), "streams": replayed_streams(part)._asdict()}
        for name, part in parts.items()
        if isinstance(part, DramPart)
    }


def main() -> None:
    """Write the file."""
    SHIPPED_STREAMS.write_text(json.dumps(streams(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
