"""Writing files: whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accelsim.errors import InputError


def check_writable(path: Path) -> None:
    """Raise InputError unless a file can be written here."""
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a file in it")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the directory {path.parent} does not exist; create it first")
    try:
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError
        # Only trying tells: permission bits do not know of read-only and special file systems.
        if not _is_device(path):
            tempfile.TemporaryFile(dir=path.resolve().parent).close()
    except OSError:
        raise InputError(f"{path}: cannot be written; choose another place or change its permissions") from None


def _is_device(path: Path) -> bool:
    """Return whether this is /dev/stdout or its like, which is written to and must not be replaced by a file."""
    return path.exists() and not path.is_file()


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write to a temporary file beside the target and rename it, so that a failure leaves nothing half-written."""
    try:
        if _is_device(path):
            write(path)
            return
        target = path.resolve()
        handle, temporary = tempfile.mkstemp(prefix=".accelsim-", suffix=path.suffix, dir=target.parent)
        os.close(handle)
        try:
            write(Path(temporary))
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


def safetensors_header(header: Mapping[str, Any]) -> bytes:
    """Return the header of a safetensors file: its length, then its text, filled up to a multiple of 8 bytes."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
