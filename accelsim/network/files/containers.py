"""One file of tensors, opened by what it is."""

from __future__ import annotations

from pathlib import Path

from accelsim.errors import InputError, needing
from accelsim.network.files.kinds import SUFFIXES, Foreign, kind_of
from accelsim.network.files.tensor_file import TensorFile
from accelsim.network.reading import Reading


def open_file(path: Path, reading: Reading, *, part: bool = False) -> TensorFile:
    """Open one file, whether it is a shard or not; for the rest, see `open_tensors`."""
    kind = kind_of(path)
    if isinstance(kind, Foreign):
        raise InputError(kind.refusal(path))
    if kind == "torch":
        from accelsim.network.files.torch_file import StateDict

        return StateDict(path, reading, part=part)
    if reading.key is not None:
        raise InputError(f"{path}: --key is for checkpoints of PyTorch; this file has no levels, so leave it out")
    if kind == "npz":
        from accelsim.network.files.npz import Npz

        return Npz(path)
    if kind == "gguf":
        with needing("gguf", path):
            from accelsim.network.files.gguf_file import Gguf
        return Gguf(path)
    if kind == "safetensors":
        from accelsim.network.files.safetensors_file import Safetensors

        return Safetensors(path)
    raise InputError(f"{path}: is not a file of tensors that is known; known are {', '.join(SUFFIXES)}")
