"""Safetensors: headers with other names, types, shapes and places, packed formats, shards; and changed bytes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from random import Random
from typing import Any

from hostile import mutations
from hostile.reading import arguments

BASES = (
    "bf16", "bnb_nf4", "ct_pack_quantized", "ct_sparse24_bitmask", "fp8", "gpt2_conv1d", "gptq", "lstm_mha_embedding",
    "prune",
)  # fmt: skip
TYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "I64", "I8", "U8", "BOOL", "C64", "X", "")
SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}


@functools.cache
def _base(name: str) -> tuple[Any, bytes]:
    whole = (mutations.CASES / f"{name}.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def make(draw: Random, folder: Path) -> list[str]:
    """Make a file of tensors of one of the whole ones, or a folder of shards."""
    header, data = _base(draw.choice(BASES))
    pick = draw.random()
    if pick < 0.45:
        header, data = _laid_out(draw, header, data)
    elif pick < 0.75:
        header = mutations.tree(draw, header)
    text = mutations.json_text(header).encode("utf-8", "surrogatepass")
    length = len(text) if draw.random() < 0.97 else draw.choice(mutations.INTEGERS[:20])
    whole = (length % 2**64).to_bytes(8, "little") + text + data
    if pick >= 0.75:
        whole = mutations.content(draw, whole)
    if draw.random() < 0.06:
        return _shards(draw, folder, whole)
    (folder / "net.safetensors").write_bytes(whole)
    return arguments(draw, "net.safetensors")


def _laid_out(draw: Random, header: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Change types, shapes and numbers of tensors, and lay them out so that every one is in the file."""
    found: dict[str, Any] = {name: each for name, each in header.items() if name == "__metadata__"}
    if found and draw.random() < 0.3:
        found = {"__metadata__": mutations.tree(draw, found["__metadata__"], lambda draw: draw.choice(mutations.TEXTS))}
    laid = bytearray()
    for name, entry in header.items():
        if name == "__metadata__" or draw.random() < 0.03:
            continue
        dtype, shape, (start, stop) = entry["dtype"], list(entry["shape"]), entry["data_offsets"]
        numbers = data[start:stop]
        if draw.random() < 0.15:
            name = draw.choice((*mutations.TEXTS, f"{name}.weight", name[:-1], f"{name}_orig", "conv.weight_g"))
        if draw.random() < 0.1:
            dtype = draw.choice(TYPES)
        if draw.random() < 0.2:
            shape = draw.choice((
                [0, *shape], [*shape, 0], [], [1], shape[::-1], [1, *shape], [*shape, 1], shape[1:], shape[:-1],
                [each + 1 for each in shape], [0] * len(shape), [1] * 30, [3, 5], [2, 3, 4, 5, 6],
                [2**20, 2**20, 0], [2**40, 0],
            ))  # fmt: skip
        size = SIZES.get(dtype, 1)
        for side in shape:
            size *= side
        if size > 2**20:
            continue
        numbers = (numbers * (size // max(len(numbers), 1) + 1))[:size].ljust(size, b"\0")
        if draw.random() < 0.15 and size:
            numbers = (draw.choice((b"\xff", b"\x80", b"\x7f", b"\0", b"\x7f\x80\0\0")) * size)[:size]
        if draw.random() < 0.1 and size:
            numbers = draw.randbytes(size)
        found[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(laid), len(laid) + size]}
        laid += numbers
    return found, bytes(laid)


def _shards(draw: Random, folder: Path, whole: bytes) -> list[str]:
    """Make a folder of shards with an index, both changed."""
    place = folder / "net"
    place.mkdir()
    base = mutations.CASES / "sharded"
    for path in base.iterdir():
        if draw.random() < 0.9:
            content = path.read_bytes()
            (place / path.name).write_bytes(mutations.content(draw, content) if draw.random() < 0.2 else content)
    index = json.loads((base / "model.safetensors.index.json").read_text(encoding="utf-8"))
    if draw.random() < 0.8:
        text = mutations.json_text(mutations.tree(draw, index))
        mutations.write(place / "model.safetensors.index.json", text)
    if draw.random() < 0.3:
        (place / draw.choice(("model.safetensors", "model-00001-of-99999.safetensors", "adapter.pt"))).write_bytes(
            whole
        )
    return arguments(draw, draw.choice(("net", "net", "net/model.safetensors.index.json")))
