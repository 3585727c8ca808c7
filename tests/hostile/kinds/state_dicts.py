"""What torch.save writes: pickles with other operations and arguments, code to run, storages; and changed bytes."""

from __future__ import annotations

import functools
import io
import pickletools
import zipfile
from pathlib import Path
from random import Random

from hostile import mutations
from hostile.reading import arguments

BASES = (
    "coo.pt", "csr.pt", "dataparallel.pt", "layernorm2d.pt", "lightning.ckpt", "lstm_mha_embedding.pt", "prune.pt",
    "pytorch_model.bin", "qint8.pt", "quantize_dynamic.pt", "torchscript.pt",
)  # fmt: skip
CANARY = "cos\nmkdir\n(V" + "canary" + "\ntR"
"""A call of os.mkdir: what unpickling would do."""
CALLED = (
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_qtensor",
    "torch._utils _rebuild_meta_tensor_no_storage", "torch._utils _rebuild_nested_tensor", "torch ComplexFloatStorage",
    "torch._utils _rebuild_device_tensor_from_numpy", "torch DoubleStorage", "torch QInt8Storage", "torch BoolStorage",
    "torch._utils _rebuild_wrapper_subclass", "torch._tensor _rebuild_from_type_v2", "collections OrderedDict",
    "os system", "builtins eval", "builtins exec", "subprocess Popen", "torch.storage UntypedStorage", "numpy ndarray",
    "torch device", "torch Size", "builtins getattr", "torch.jit load", "torch.serialization load",
)  # fmt: skip


@functools.cache
def _base(name: str) -> tuple[dict[str, bytes], str]:
    """Return the members of an archive, and which of them is its pickle."""
    with zipfile.ZipFile(mutations.CASES / name) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    return members, next(member for member in members if member.endswith("data.pkl"))


@functools.cache
def _operations(name: str) -> list[bytes]:
    """Return the operations of a pickle, each with its argument, as they stand in it."""
    members, pickled = _base(name)
    content = members[pickled]
    starts = [at for _, _, at in pickletools.genops(content)]
    return [content[start:stop] for start, stop in zip(starts, [*starts[1:], len(content)], strict=True)]


def make(draw: Random, folder: Path) -> list[str]:
    """Make a file of one of the whole ones."""
    name = draw.choice(BASES)
    members, pickled = _base(name)
    members = dict(members)
    pick = draw.random()
    if pick < 0.7:
        members[pickled] = _pickle(draw, _operations(name))
    elif pick < 0.8:
        held = draw.choice(list(members))
        members[held] = mutations.content(draw, members[held])
    if draw.random() < 0.05:
        del members[draw.choice(list(members))]
    if draw.random() < 0.05:
        whole = members.get(pickled, b"")
    else:
        file = io.BytesIO()
        method = draw.choice((zipfile.ZIP_STORED,) * 9 + (zipfile.ZIP_DEFLATED,))
        with zipfile.ZipFile(file, "w", method) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        whole = file.getvalue()
    if pick >= 0.8:
        whole = mutations.content(draw, whole)
    target = f"net{draw.choice(('.pt', '.pt', '.pth', '.bin', '.ckpt'))}"
    (folder / target).write_bytes(whole)
    return arguments(draw, target)


def _pickle(draw: Random, operations: list[bytes]) -> bytes:
    found = list(operations)
    for _ in range(draw.choice((1, 1, 2, 3, 6))):
        at = draw.randrange(1, len(found))
        here = found[at]
        pick = draw.random()
        if pick < 0.35:
            numbers = [place for place, each in enumerate(found) if each[:1] in (b"K", b"M", b"J", b"\x8a")]
            if numbers:
                found[draw.choice(numbers)] = _number(draw.choice(mutations.INTEGERS[:26]))
        elif pick < 0.5:
            found[at] = _literal(draw)
        elif pick < 0.6:
            globals_ = [place for place, each in enumerate(found) if each[:1] == b"c"]
            if globals_:
                found[draw.choice(globals_)] = b"c" + draw.choice(CALLED).replace(" ", "\n").encode() + b"\n"
        elif pick < 0.65:
            found.insert(at, CANARY.encode())
        elif pick < 0.72:
            del found[at]
        elif pick < 0.79:
            found.insert(at, here)
        elif pick < 0.85:
            other = draw.randrange(1, len(found))
            found[at], found[other] = found[other], here
        elif pick < 0.9:
            found.insert(
                at, draw.choice((b"0", b"1", b"2", b"(", b"R", b"b", b"\x81", b"\x92", b"o", b"}", b"]", b"."))
            )
        elif pick < 0.93:
            found.insert(at, draw.choice((b"]" * 5000, b"(" * 5000, b"2" * 5000, b"\x85" * 5000, b"}" * 5000)))
        else:
            found[at] = mutations.content(draw, here)
    return b"".join(found)


def _number(number: int) -> bytes:
    if 0 <= number < 256:
        return b"K" + bytes([number])
    size = number.bit_length() // 8 + 1
    data = number.to_bytes(size, "little", signed=True)
    return b"\x8a" + bytes([size]) + data if size < 256 else b"\x8b" + size.to_bytes(4, "little") + data


def _literal(draw: Random) -> bytes:
    text = draw.choice(mutations.TEXTS).encode("utf-8", "surrogatepass")
    return draw.choice((
        _number(draw.choice(mutations.INTEGERS[:26])), b"X" + len(text).to_bytes(4, "little") + text, b"N", b"\x88",
        b"]", b"}", b")", b"G" + draw.randbytes(8), b"h" + draw.randbytes(1), b"q" + draw.randbytes(1), b"Q", b"Pcpu\n",
    ))  # fmt: skip
