"""Files of named arrays, each opened without running or allocating what it claims."""

from __future__ import annotations

from pathlib import Path

from accelsim.config import existing_file
from accelsim.errors import InputError, needing
from accelsim.network.files.tensor_file import TensorFile

__all__ = ["TENSOR_SUFFIXES", "TensorFile", "open_tensors"]

TENSOR_SUFFIXES = (".safetensors", ".npz", ".pt", ".pth")


def open_tensors(path: Path) -> TensorFile:
    """Open a .safetensors or .npz file, or a state dict in a .pt; raises InputError for any other and damaged ones."""
    existing_file(path)
    try:
        if path.suffix in (".pt", ".pth"):
            with needing("torch"):
                from accelsim.network.files.torch_file import StateDict
            return StateDict(path)
        if path.suffix == ".npz":
            from accelsim.network.files.npz import Npz

            return Npz(path)
        from accelsim.network.files.safetensors_file import Safetensors

        return Safetensors(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
