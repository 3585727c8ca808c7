"""Is every kernel compiled once, by one process, kept where that can be, and no reason to stop where it cannot?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = """
from accelsim.kernels import Compiling, inlined, njit, on_compile, step

@step
def twice(x):
    return x + x

@inlined
def add(totals, x):
    totals[0] += twice(x)

@njit(cache=True, nogil=True)
def fill(totals, x):
    add(totals, x)
    add(totals, 3)
    return twice(5) + twice(x)
"""
USE = """
import sys, warnings
import numpy as np
sys.path.insert(0, sys.argv[1])
from tiny import add, fill, on_compile, twice
told = []
with warnings.catch_warnings(record=True) as caught, on_compile(told.append):
    warnings.simplefilter("always")
    totals = np.zeros(1, np.int64)
    assert fill(totals, 4) == 18 and totals[0] == 14
assert twice(2.5) == 5.0  # of Python, a step is Python
assert len(twice.overloads) <= 1, list(twice.overloads)
print(len(told), told[0] if told else "")
print(*(str(each.message) for each in caught))
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "tiny.py").write_text(TINY, encoding="utf-8")
    (tmp_path / "use.py").write_text(USE, encoding="utf-8")
    return tmp_path


def start(folder: Path, cache: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(folder / "use.py"), str(folder)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment}, cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return how many kernels a process compiled, and what it was warned of."""
    printed, failed = process.communicate(timeout=300)
    assert process.returncode == 0, failed
    first, warned = printed.splitlines()[:2]
    return int(first.split()[0]), warned


def test_one_process_compiles_and_others_wait(tiny: Path) -> None:
    processes = [start(tiny, tiny / "cache") for _ in range(3)]
    found = [ended(process) for process in processes]
    assert sorted(number for number, _ in found) == [0, 0, 1]
    assert {warned for _, warned in found} == {""}


DAMAGE = """
import importlib, itertools, sys, warnings
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from accelsim import kernels

def run():
    kernels._told.clear()
    sys.modules.pop("tiny", None)
    tiny = importlib.import_module("tiny")
    told = []
    with warnings.catch_warnings(record=True) as caught, kernels.on_compile(told.append):
        warnings.simplefilter("always")
        assert tiny.fill(np.zeros(1, np.int64), 4) == 18
    return len(told), [str(each.message) for each in caught]

assert run() == (1, [])
kept = {suffix: next(Path(sys.argv[2]).rglob("*" + suffix)) for suffix in (".nbi", ".nbc")}
for suffix, path in kept.items():
    whole = path.read_bytes()
    steps = len(whole) // int(sys.argv[3])
    cut = [whole[:length] for length in (0, 1, *range(2, len(whole), steps), len(whole) - 1)]
    flipped = [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1:] for at in range(0, len(whole), steps)]
    zeros = bytes(len(whole))  # what is left after a power cut of some file systems
    for damaged in [*cut, *flipped, zeros, whole + whole, whole[::-1]]:
        path.write_bytes(damaged)
        compiled, said = run()
        assert compiled == 1 and len(said) == 1 and str(path) in said[0] and "was cut or overwritten" in said[0], said
        assert run() == (0, [])  # and it was mended
"""


@pytest.mark.parametrize("places", [1, pytest.param(25, marks=pytest.mark.thorough)])
def test_what_is_damaged_on_disk_is_compiled_anew_and_told(tiny: Path, places: int) -> None:
    """Cut at many lengths, with a bit flipped at many places, emptied and filled with zeros: the index and the code."""
    (tiny / "damage.py").write_text(DAMAGE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tiny / "damage.py"), str(tiny), str(tiny / "cache"), str(places)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tiny / "cache")}, cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_a_folder_to_keep_code_in_it_runs_all_the_same_and_says_so_once(tiny: Path) -> None:
    """A file is where the folder would be, as nothing else keeps the administrator from writing there."""
    text = TINY.replace("def fill(", "def other(x):\n    return twice(x)\n\n@njit(cache=True, nogil=True)\ndef fill(")
    (tiny / "tiny.py").write_text(text, encoding="utf-8")
    use = (tiny / "use.py").read_text().replace("    totals =", "    import tiny; tiny.other(3)\n    totals =")
    (tiny / "use.py").write_text(use, encoding="utf-8")
    (tiny / "__pycache__").write_text("a file, no folder", encoding="utf-8")
    compiled, warned = ended(start(tiny, tiny / "__pycache__", HOME="/dev/null/home", XDG_CACHE_HOME="/dev/null/home"))
    assert compiled == 2
    assert warned == (
        "compiled code cannot be kept on disk (neither the package's folder nor one of your home can be written), so "
        "each command compiles anew; set NUMBA_CACHE_DIR to a folder that can be written"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on the sizes of files is of other systems")
def test_on_a_full_disk_it_runs_all_the_same(tiny: Path) -> None:
    use = (tiny / "use.py").read_text()
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    (tiny / "use.py").write_text(limit + use, encoding="utf-8")
    compiled, warned = ended(start(tiny, tiny / "cache", PYTHONDONTWRITEBYTECODE="1"))
    assert compiled == 1
    assert warned.startswith(f"compiled code cannot be kept on disk ({tiny}/cache/")
    assert "File too large), so each command compiles anew" in warned
    (tiny / "use.py").write_text(use, encoding="utf-8")
    assert ended(start(tiny, tiny / "cache")) == (1, "")  # what was begun there is no harm
    assert ended(start(tiny, tiny / "cache")) == (0, "")


ARRAYS = """
import numpy as np
import accelsim
from numba.core import types
from accelsim.kernels import Kernel

rng = np.random.default_rng(0)
chips = ["eie-64pe-45nm", "edge-nm-16x16"]
for dtype in (np.float32, np.float64):
    weight = (rng.standard_normal((64, 64)) * (rng.random((64, 64)) < 0.4)).astype(dtype)
    fixed = weight.copy()
    fixed.flags.writeable = False
    for each in (weight, fixed, np.asfortranarray(weight), np.repeat(weight, 2, axis=0)[::2]):
        for name in ("fine", "nm:2:4", "vector:1x4", "block:4x4", "filter"):
            kept = accelsim.pruning.prune(each, name, 0.5)
            for criterion in ("l1", "l2"):
                accelsim.pruning.prune(each, name, 0.5, criterion)
        for activations in (0.5, np.asfortranarray(rng.random((3, 64)) * (rng.random((3, 64)) < 0.5))):
            accelsim.simulate(accelsim.Layer.linear("layer", each * kept), chips, activations)

def plain(each):
    if isinstance(each, types.Array):
        return types.Array(each.dtype, each.ndim, "C")
    if isinstance(each, types.BaseTuple):
        return tuple(plain(one) for one in each)
    return types.unliteral(each)

used = 0
for kernel in Kernel.all:
    signatures = [tuple(plain(one) for one in signature) for signature in kernel.overloads]
    used += bool(signatures)
    assert len(signatures) == len(set(signatures)), (kernel, *kernel.overloads)
print(used)
"""


def test_whatever_array_a_user_has_each_kernel_is_compiled_once_for_its_element_types() -> None:
    """Read-only or not, by rows or by columns, with gaps: see `read_only` in kernels.py for how a new kernel passes."""
    done = subprocess.run([sys.executable, "-c", ARRAYS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 8


UNUSUAL = """
import numpy as np
import accelsim
from accelsim.kernels import Kernel

rng = np.random.default_rng(0)
dense = (rng.integers(1, 100, (64, 64)) * (rng.random((64, 64)) < 0.4)).astype(np.float32)

def compiled():
    return {(kernel.py_func.__name__, signature) for kernel in Kernel.all for signature in kernel.overloads}

def new_with(*arrays):
    before = compiled()
    for each in arrays:
        accelsim.simulate(accelsim.Layer.linear("layer", each), ["eie-64pe-45nm", "edge-nm-16x16"], 0.5)
        for name in ("fine", "nm:2:4", "vector:1x4"):
            accelsim.pruning.prune(each, name, 0.5)
    return compiled() - before

usual = new_with(dense)
fixed = dense.copy()
fixed.flags.writeable = False
print(len(usual))
for each in (dense.astype(dtype) for dtype in (np.float16, np.int8, np.uint8, np.int16, ">f4", ">f2")):
    found = new_with(each, np.asfortranarray(each))
    assert not found, (each.dtype, found)
assert not new_with(fixed, np.asfortranarray(dense), np.repeat(dense, 2, axis=1)[:, ::2], dense[::-1])
double = new_with(dense.astype(np.float64))
assert len({name for name, _ in double}) == len(double) <= 6, double  # of 64 bits none is lost: once for each kernel
assert not new_with(np.asfortranarray(dense, np.float64), dense.astype(">f8"), dense.astype(np.int32))
"""


def test_unusual_numbers_compile_nothing_more() -> None:
    """Neither narrow numbers nor another order of bytes or of elements; those of 64 bits once, whatever their order."""
    done = subprocess.run([sys.executable, "-c", UNUSUAL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 10


@pytest.mark.parametrize(("document", "said"), [("One thing, and more: than that.", "One thing"), (None, "tiny")])
def test_what_is_compiled_is_told_in_the_words_of_its_module(tiny: Path, document: str | None, said: str) -> None:
    if document:
        (tiny / "tiny.py").write_text(f'"""{document}"""\n{TINY}', encoding="utf-8")
    printed = start(tiny, tiny / "cache").communicate(timeout=300)[0]
    assert f"part='{said}', number=1, most_left=0)" in printed
