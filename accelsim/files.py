"""Writing files: whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from accelsim.errors import InputError, printable


def check_writable(path: Path) -> None:
    """Raise InputError unless a file can be written here."""
    if os.path.isdir(path):
        raise InputError(f"{path}: is a directory; name a file in it")
    if _is_named_pipe(path):
        raise InputError(f"{path}: is a pipe, which waits for a reader; name a file")
    if not os.path.isdir(path.parent):
        raise InputError(f"{path}: the directory {path.parent} does not exist; create it first")
    try:
        with suppress(FileNotFoundError):
            os.stat(path)
            if not os.access(path, os.W_OK):
                raise PermissionError
        # Only trying tells: permission bits do not know of read-only and special file systems.
        if not _is_device(path):
            tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(path))).close()
    except (OSError, ValueError) as error:
        if (reason := _of_name(error)) is not None:
            raise InputError(f"{path}: cannot be the name of a file: {reason}; choose another one") from None
        raise InputError(f"{path}: cannot be written; choose another place or change its permissions") from None


def _of_name(error: OSError | ValueError) -> str | None:
    """Return what is wrong with the name of a file, None where it is something else."""
    if isinstance(error, ValueError):
        return str(error)
    return error.strerror if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else None


def real_path(path: str | Path) -> Path:
    """Return a path without links, as it stands where they lead nowhere: in a loop, or to what no file can be named."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # of a null character
        return Path(os.path.abspath(path))


def _is_named_pipe(path: Path) -> bool:
    """Return whether this is a pipe other than those that a shell opens, as for `--csv >(gzip > a.gz)`."""
    with suppress(OSError, ValueError):
        return stat.S_ISFIFO(os.stat(path).st_mode) and not str(path).startswith(("/dev/", "/proc/"))
    return False


def _is_device(path: Path) -> bool:
    """Return whether this is /dev/stdout or its like, which is written to and must not be replaced by a file."""
    return os.path.exists(path) and not os.path.isfile(path)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write to a temporary file beside the target and rename it, so that a failure leaves nothing half-written."""
    try:
        if _is_device(path):
            write(path)
            return
        target = Path(os.path.realpath(path))
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
    text = json.dumps(_printable(header), separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _printable(part: Any) -> Any:
    """Return what becomes JSON with all of its texts `printable`: readers refuse others, such as names of files."""
    if isinstance(part, Mapping):
        return {_printable(name): _printable(value) for name, value in part.items()}
    return printable(part) if isinstance(part, str) else part
