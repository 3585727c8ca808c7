"""What a zip archive says of itself, in its comment: texts by key, as other files of tensors have room for."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

MOST = 2**16 - 1
"""Bytes of a comment."""


def said_of(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return the texts of an archive by key; a comment of somebody else says nothing."""
    try:
        found = json.loads(archive.comment or b"{}")
    except (ValueError, RecursionError):
        return {}
    sound = isinstance(found, dict) and all(isinstance(each, str) for each in found.values())
    return found if sound else {}


def say(path: Path, texts: Mapping[str, str]) -> None:
    """Put texts into the comment of an archive that has none, the shortest first, as many as there is room for."""
    kept: dict[str, str] = {}
    for key in sorted(texts, key=lambda key: len(texts[key])):
        if len(json.dumps({**kept, key: texts[key]}).encode()) <= MOST:
            kept[key] = texts[key]
    comment = json.dumps(kept, sort_keys=True).encode() if kept else b""
    with path.open("r+b") as file:
        file.seek(-2, 2)  # the length of the comment, the last that an archive without one has
        file.write(len(comment).to_bytes(2, "little") + comment)
