"""What the scripts that write network files share."""

import json
import os
import textwrap
from pathlib import Path


def toml_text(key: str, text: str) -> str:
    """A TOML string that reads as one line and is written in several."""
    lines = [json.dumps(line)[1:-1] for line in textwrap.wrap(text, 110, break_on_hyphens=False)]
    return f'{key} = """\\\n' + " \\\n".join(lines) + '"""\n'


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file in one step, so that a reader never finds half of it."""
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
