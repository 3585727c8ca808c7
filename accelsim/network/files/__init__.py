"""Files of named arrays, each opened without running or allocating what it claims."""

from __future__ import annotations

import os
from pathlib import Path

from accelsim.config import existing_file
from accelsim.errors import InputError
from accelsim.network.files import shards
from accelsim.network.files.containers import open_file
from accelsim.network.files.kinds import SUFFIXES, kind_of, of_name
from accelsim.network.files.tensor_file import TensorFile
from accelsim.network.reading import Reading

__all__ = ["TENSOR_SUFFIXES", "TensorFile", "is_tensors", "open_tensors"]

TENSOR_SUFFIXES = tuple(SUFFIXES)
"""Endings of the files that are read; what a file is, its first bytes say before its name."""

OTHER_NETWORKS = (".toml", ".onnx")
AS_IT_LIES = Reading()


def is_tensors(path: Path) -> bool:
    """Return whether `open_tensors` reads a path, or knows how to make of it what it reads."""
    if path.suffix in OTHER_NETWORKS:
        return False
    if os.path.isdir(path) or shards.is_index(path):
        return True
    try:
        if os.path.isfile(path):  # opening a pipe waits
            return kind_of(path) is not None
    except OSError:
        pass
    return of_name(path) is not None


def open_tensors(path: Path, reading: Reading = AS_IT_LIES, *, part: bool = False) -> TensorFile:
    """Open a file of tensors, or the index or folder of one that is in several files.

    Read are .safetensors, .npz, .gguf, and what torch.save wrote of a dict of tensors; `reading.key` says under which
    key of a checkpoint they lie. part: whether single tensors will be named, for which one shard of several
    will do, and all keys of a checkpoint, by names that begin with them.
    Raises InputError for damaged files, and for other formats with the way to convert them.
    """
    try:
        if shards.is_index(path):
            return shards.of_index(path, reading)
        if os.path.isdir(path):
            return shards.of_folder(path, reading)
        existing_file(path)
        if not part:
            shards.check_whole(path)
        return open_file(path, reading, part=part)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
