"""Archives of NumPy's arrays, and single ones: headers, members, samples for `--inputs`."""

from __future__ import annotations

import functools
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from hostile import mutations
from hostile.reading import arguments

BASES = ("arr", "fortran", "keras_names", "odd", "prune")
TYPES = ("<f4", ">f8", "<f2", "<i8", "|b1", "|O", "<U3", "|S4", "<M8[s]", "<c8", "|V2", "<f16", "[('a','<f4')]", "x")


class _MakesCanary:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("canary",)


@functools.cache
def _base(name: str) -> dict[str, bytes]:
    with zipfile.ZipFile(mutations.CASES / f"{name}.npz") as archive:
        return {member: archive.read(member) for member in archive.namelist()}


def make(draw: Random, folder: Path) -> list[str]:
    """Make an archive of one of the whole ones, or what `--inputs` reads."""
    members = dict(_base(draw.choice(BASES)))
    for name in list(members):
        if draw.random() < 0.3:
            members[name] = _array(draw, members[name])
        if draw.random() < 0.1:
            members[f"{draw.choice(mutations.TEXTS[:60])}.npy".replace("\ud800", "?")] = members.pop(name)
    file = io.BytesIO()
    with zipfile.ZipFile(
        file, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) * 9 + (zipfile.ZIP_BZIP2,))
    ) as made:
        for name, content in members.items():
            made.writestr(name[:60_000].lstrip("\0") or "x", content)
            if draw.random() < 0.02:
                made.comment = draw.choice((b'{"of": "\\u001b[31m"}', b"[" * 60_000, b'{"a": 1}', b"\xff" * 100))
    whole = file.getvalue()
    if draw.random() < 0.2:
        whole = mutations.content(draw, whole)
    if draw.random() < 0.1:
        name = draw.choice(("x.npz", "x.npz", "x.npy"))
        (folder / name).write_bytes(whole if name == "x.npz" else _array(draw, next(iter(members.values()))))
        return ["run", "lenet-300-100-digits", "--against", "none", draw.choice(("--inputs", "--labels")), name]
    (folder / "net.npz").write_bytes(whole)
    return arguments(draw, "net.npz")


def _array(draw: Random, array: bytes) -> bytes:
    """Change the header of an array, or its numbers."""
    length = int.from_bytes(array[8:10], "little")
    header, data = array[10 : 10 + length].decode("latin-1"), array[10 + length :]
    pick = draw.random()
    if pick < 0.1:
        return mutations.content(draw, array)
    if pick < 0.5:
        shape = draw.choice((
            "()", "(0,)", "(0, 0)", "(3, 0)", "(1,)", "(2, 3)", "(-1, 4)", "(1000000000, 1000000000)", "(True, 2)",
            "'a'", "(1,)*64", "((1,),)", "(" * 500, "(1.5, 2)", "(2, 3, 4, 5)", f"({2**63},)", f"({'9' * 5000},)",
        ))  # fmt: skip
        dtype = draw.choice(TYPES if draw.random() < 0.4 else ("<f4",))
        quoted = dtype if dtype.startswith("[") else repr(dtype)
        header = f"{{'descr': {quoted}, 'fortran_order': {draw.choice(('False', 'True', '1'))}, 'shape': {shape}, }}\n"
        count = {"()": 1, "(1,)": 1, "(2, 3)": 6, "(2, 3, 4, 5)": 120, "(1,)*64": 1}.get(shape, 0)
        size = count * (int(dtype[2:]) if dtype[2:].isdigit() else 4)
        data = (data * (size // max(len(data), 1) + 1))[:size]
        if dtype == "|O":
            data = pickle.dumps(_MakesCanary())
    elif pick < 0.6:
        header = header[: draw.randrange(len(header))] + draw.choice(mutations.TEXTS[:30]) + "\n"
    else:
        run = draw.choice((b"\xff", b"\0", b"\x7f\x80\0\0", b"\0\0\xc0\x7f", b"\0\0\x80\x7f"))
        data = (run * len(data))[: len(data)]
    text = header.encode("utf-8", "replace")[:65535]
    version = draw.choice((b"\x01\0",) * 9 + (b"\x02\0",))
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data
