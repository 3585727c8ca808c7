"""Shared by all tests: where the outside evidence lies, and small helpers to run an engine on codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from accelsim.cli import main
from accelsim.config import shipped_names
from accelsim.engines.counts import Outcome
from accelsim.engines.eie import EieConfig, specification, twin
from accelsim.engines.eie.image import EieImage, encode_layer
from accelsim.engines.streaming import Stream
from accelsim.formats.counting import WeightMatrix
from accelsim.memory import DramPart, load_memory

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # last: benchmarks are found beside the tests, accelsim where it is installed

SHARED = Path(os.environ.get("ACCELSIM_SHARED", ROOT.parent / "shared"))
TIMED_PARTS = [name for name in shipped_names("hwconfigs/dram") if isinstance(load_memory(name), DramPart)]
"""Shipped DRAM parts that can replay a trace; the others are bandwidth-only."""

settings.register_profile(
    "accelsim", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("accelsim")


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


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden results, which a user's clone does not have."""
    if not SHARED.is_dir():
        pytest.skip(f"the outside evidence is not here: {SHARED} (set ACCELSIM_SHARED)")
    return SHARED


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
