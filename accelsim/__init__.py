"""Cycle-level simulation of hardware that runs pruned neural networks.

>>> import accelsim
>>> table = accelsim.simulate("lenet-300-100-digits", "eie-64pe-45nm")
>>> list(table["layer"])
['fc1', 'fc2', 'fc3']

Names below load what they need when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from accelsim import memory, pruning, scalesim
    from accelsim.errors import AccelsimError, DeadlockError, InputError, VerificationError
    from accelsim.explore import knobs, pareto, search, sweep
    from accelsim.hardware import Hardware, load_hardware
    from accelsim.network import Density, Layer, Network, load_network
    from accelsim.products import gemm, gemms
    from accelsim.serving import model_step
    from accelsim.simulation import simulate, units

_HOME = {
    "AccelsimError": "accelsim.errors",
    "DeadlockError": "accelsim.errors",
    "Density": "accelsim.network",
    "Hardware": "accelsim.hardware",
    "InputError": "accelsim.errors",
    "Layer": "accelsim.network",
    "Network": "accelsim.network",
    "VerificationError": "accelsim.errors",
    "gemm": "accelsim.products",
    "gemms": "accelsim.products",
    "knobs": "accelsim.explore",
    "load_hardware": "accelsim.hardware",
    "load_network": "accelsim.network",
    "memory": "",
    "model_step": "accelsim.serving",
    "pareto": "accelsim.explore",
    "pruning": "",
    "scalesim": "",
    "search": "accelsim.explore",
    "simulate": "accelsim.simulation",
    "sweep": "accelsim.explore",
    "units": "accelsim.simulation",
}

__all__ = [
    "AccelsimError",
    "DeadlockError",
    "Density",
    "Hardware",
    "InputError",
    "Layer",
    "Network",
    "VerificationError",
    "__version__",
    "gemm",
    "gemms",
    "knobs",
    "load_hardware",
    "load_network",
    "memory",
    "model_step",
    "pareto",
    "pruning",
    "scalesim",
    "search",
    "simulate",
    "sweep",
    "units",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'accelsim' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name) if _HOME[name] else import_module(f"accelsim.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
