"""GGUF: headers with other counts, types, sizes and places; and changed bytes."""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from random import Random

from hostile import mutations
from hostile.reading import arguments

NEEDS = ("gguf",)
NUMBERS = (0, 1, 2, 3, 31, 32, 255, 2**16, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


@functools.cache
def _fields() -> list[bytes]:
    """Return a file field by field: of two tensors, one of blocks of 32, with a name and tokens."""
    return [
        b"GGUF", struct.pack("<I", 3), struct.pack("<Q", 2), struct.pack("<Q", 3),
        _text(b"general.name"), struct.pack("<I", 8), _text(b"tiny"),
        _text(b"tokens"), struct.pack("<I", 9), struct.pack("<I", 8), struct.pack("<Q", 2), _text(b"a"), _text(b"bc"),
        _text(b"general.alignment"), struct.pack("<I", 4), struct.pack("<I", 32),
        _text(b"blk.0.attn_q.weight"), struct.pack("<I", 2), struct.pack("<Q", 64), struct.pack("<Q", 4),
        struct.pack("<I", 0), struct.pack("<Q", 0),
        _text(b"blk.0.ffn_up.weight"), struct.pack("<I", 2), struct.pack("<Q", 64), struct.pack("<Q", 4),
        struct.pack("<I", 8), struct.pack("<Q", 1024),
    ]  # fmt: skip


def make(draw: Random, folder: Path) -> list[str]:
    """Make a file of the whole one."""
    fields = list(_fields())
    for _ in range(draw.choice((0, 1, 1, 2, 4))):
        at = draw.randrange(len(fields))
        pick = draw.random()
        if len(fields[at]) in (4, 8) and pick < 0.6:
            form = "<I" if len(fields[at]) == 4 else "<Q"
            fields[at] = struct.pack(form, draw.choice(NUMBERS) % 2 ** (8 * len(fields[at])))
        elif pick < 0.8:
            fields[at] = _text(draw.choice(mutations.TEXTS).encode("utf-8", "surrogatepass"))
        elif pick < 0.9:
            del fields[at]
        else:
            fields.insert(at, fields[draw.randrange(len(fields))])
    header = b"".join(fields)
    whole = header + b"\0" * (-len(header) % 32) + draw.randbytes(1024 + 8 * 34 + 64)
    if draw.random() < 0.3:
        whole = mutations.content(draw, whole)
    (folder / "net.gguf").write_bytes(whole)
    return arguments(draw, "net.gguf")
