"""Shared by all tests: the quick run and `--all`, where the evidence lies, and helpers to run an engine on codes."""

from __future__ import annotations

import gc
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import toy_engine
from hypothesis import HealthCheck, settings
from safetensors.numpy import load_file

from accelsim.cli import main
from accelsim.config import shipped_names
from accelsim.engines.counts import Outcome
from accelsim.engines.eie import specification, twin
from accelsim.engines.eie.config import EieConfig
from accelsim.engines.eie.image import EieImage, encode_layer
from accelsim.engines.streaming import Stream
from accelsim.formats.counting import WeightMatrix
from accelsim.memory import DramPart, load_memory

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # last: benchmarks are found beside the tests, accelsim where it is installed

EVIDENCE = ROOT / "tests" / "evidence"
"""What others measured and simulated; its README.md says who."""
SHARED = Path(os.environ.get("ACCELSIM_SHARED", ROOT.parent / "shared"))
"""Two real networks that a clone does not have."""
ALEXNET_FC8 = SHARED / "golden" / "eie" / "alexnet_fc8.npz"
SQUEEZENET = SHARED / "real" / "squeezenet.safetensors"
needs_fc8 = pytest.mark.skipif(not ALEXNET_FC8.is_file(), reason=f"needs {ALEXNET_FC8} (set ACCELSIM_SHARED)")
needs_squeezenet = pytest.mark.skipif(not SQUEEZENET.is_file(), reason=f"needs {SQUEEZENET} (set ACCELSIM_SHARED)")

TESTS = ROOT / "tests"
TOY_CHIP = Path(toy_engine.__file__).parent / "toy.toml"
"""A chip of the third machine; processes that tests start know it, too."""
os.environ["ACCELSIM_ENGINES"] = toy_engine.__name__
os.environ.pop("COLUMNS", None)  # workers that share the tests out have 80; what is piped has no width
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))

TIMED_PARTS = [name for name in shipped_names("hwconfigs/dram") if isinstance(load_memory(name), DramPart)]
"""Shipped DRAM parts that can replay a trace; the others are bandwidth-only."""

UNHURRIED = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("all", UNHURRIED)
settings.register_profile("some", UNHURRIED, max_examples=20)
settings.register_profile("quick", UNHURRIED, max_examples=6)

TORCH_FILES = (
    "test_files_containers.py",
    "test_gradual.py",
    "test_removed_state_dicts.py",
    "test_roles_torch.py",
    "test_state_dicts.py",
    "test_torch.py",
    "test_torch_flops.py",
    "test_torch_functions.py",
    "test_torch_graph.py",
    "test_torch_runtime.py",
    "test_training.py",
    "test_written_again.py",
)
"""Files that are nothing without PyTorch, which the extra `test` does not bring."""


def at_most(examples: int, **others: Any) -> settings:
    """Draw this many examples at most, for tests whose examples take long; the quick run draws few anyhow."""
    return settings(max_examples=min(examples, settings.default.max_examples), **others)  # type: ignore[union-attr]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="every test at full depth, not the quick run's selection")
    parser.addoption("--rest", action="store_true", help="as --all, without what the quick run has run in full")


def pytest_configure(config: pytest.Config) -> None:
    config.option.all |= config.option.rest
    config.addinivalue_line(
        "markers", "thorough(keep=0): left to --all; of a parametrised test the quick run keeps so many cases"
    )
    config.addinivalue_line("markers", "needs(*modules): left out of the quick run where one is not installed")
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("all" if config.getoption("all") else "quick")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    left_out = collection_path.name in TORCH_FILES and not config.getoption("all") and find_spec("torch") is None
    return True if left_out else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the rest to `--all`; a test that is named by its id runs whole."""
    if config.getoption("all") or any("::" in each for each in config.args):
        for item in items:
            for module in _missing(item):
                item.add_marker(pytest.mark.skip(reason=f"{module} is not installed"))
        if config.getoption("rest"):
            left = _left_to_all(items)
            run = {item for item in items if not (item in left or item.path.name in TORCH_FILES or _is_drawn(item))}
            config.hook.pytest_deselected(items=[item for item in items if item in run])
            items[:] = [item for item in items if item not in run]
        return
    left = _left_to_all(items)
    config.hook.pytest_deselected(items=[item for item in items if item in left])
    config.stash[LEFT] = len(left)
    items[:] = [item for item in items if item not in left]


LEFT = pytest.StashKey[int]()


def pytest_collection_finish() -> None:
    """Let the collector leave alone what stays anyhow: it takes a fifth of the time of compiling kernels."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    left = config.stash.get(LEFT, 0)
    without = "" if find_spec("torch") else f"; without PyTorch: no {', '.join(TORCH_FILES)}"
    return [f"quick: {len(items)} of {len(items) + left} tests{without}; --all runs the rest"] if left else []


def _is_drawn(item: pytest.Item) -> bool:
    """Return whether hypothesis draws its cases, of which the quick run takes few."""
    return bool(getattr(getattr(item, "obj", None), "is_hypothesis_test", False))


def _missing(item: pytest.Item) -> list[str]:
    return [name for marker in item.iter_markers("needs") for name in marker.args if find_spec(name) is None]


def _left_to_all(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return what the quick run leaves out; the cases that it keeps are spread evenly over a test's list."""
    left = {item for item in items if _missing(item)}
    cases: dict[tuple[str, int], list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item not in left and (marker := item.get_closest_marker("thorough")):
            cases[item.nodeid.split("[")[0], marker.kwargs.get("keep", 0)].append(item)
    for (_, keep), alike in cases.items():
        left |= {*alike} - {*(alike[:: -(-len(alike) // keep)] if keep else ())}
    return left


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line.removeprefix("error: ") for line in self.err.splitlines() if line.startswith("error: ")]


Run = Callable[..., Said]


@pytest.fixture
def accelsim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process, which spares a second per test."""

    def run(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["accelsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Said(int(ended.value.code or 0), captured.out, captured.err)

    return run


def eie_image(
    codes: np.ndarray, config: EieConfig, *, bias: bool = False, codebook: np.ndarray | None = None
) -> EieImage:
    """Lay codes (outputs, columns) out for EIE, entries included; with `bias` their last column is the bias."""
    weight = codes[:, :-1] if bias else codes
    offset = np.ascontiguousarray(codes[:, -1]) if bias else None
    return encode_layer(WeightMatrix(np.ascontiguousarray(weight), offset), config, codes, codebook)


def run_both(
    config: EieConfig,
    image: EieImage,
    activations: np.ndarray,
    stream: Stream | None = None,
    **reference_options: object,
) -> tuple[Outcome, Outcome]:
    """Return the outcomes of specification and twin."""
    batch = np.atleast_2d(np.asarray(activations, np.int64))
    return (
        specification.run(config, image, batch, stream, **reference_options),
        twin.run(config, image, batch, stream),
    )


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of weights, not by the readers that are tested."""
    match path.suffix:
        case ".npz":
            with np.load(path) as held:
                return dict(held)
        case ".safetensors":
            return load_file(path)
    import torch

    held = torch.load(path, weights_only=True)
    return {name: each.numpy() for name, each in held.get("state_dict", held).items()}
