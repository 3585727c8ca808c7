"""From a name or a file to a memory: one with timings, or one known only by its bandwidth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelsim.config import build, check_kind, find, label, read_toml, with_overrides
from accelsim.errors import InputError, did_you_mean
from accelsim.parts.bandwidth import BandwidthPart
from accelsim.parts.timed import DramPart

MODELS: dict[str, type[DramPart] | type[BandwidthPart]] = {kind.model: kind for kind in (DramPart, BandwidthPart)}
"""What `model` in a part file may say; a file without it is timed."""


def load_memory(
    name: str | Path | DramPart | BandwidthPart, overrides: Mapping[str, Any] | None = None
) -> DramPart | BandwidthPart:
    """Return the memory of this shipped name or path, with dotted keys overridden.

    `load_memory("hbm2e-h100-pcie", {"latency.latency_ns": 300.0})`.
    Raises InputError with every unknown key, wrong type and impossible value at once.
    """
    if isinstance(name, DramPart | BandwidthPart):
        if overrides:
            raise InputError("overrides: apply to a part by name or path; for a part itself use dataclasses.replace")
        return name
    path = find(name, "hwconfigs/dram")
    data = with_overrides(read_toml(path), overrides)
    check_kind(data, "DRAM part", label(path))
    model = data.get("model", DramPart.model)
    if not isinstance(model, str) or model not in MODELS:
        raise InputError(f"{label(path)}: model: is unknown (got {model!r}){did_you_mean(str(model), MODELS)}")
    return build(MODELS[model], data, label(path))


def load_part(name: str | Path | DramPart | BandwidthPart, overrides: Mapping[str, Any] | None = None) -> DramPart:
    """Return the DRAM part with timings of this shipped name or path, with dotted keys overridden.

    `load_part("ddr4-2400", {"controller.page_policy": "closed"})`.
    Raises InputError as `load_memory` does, and for a part that is bandwidth-only.
    """
    part = load_memory(name, overrides)
    if isinstance(part, BandwidthPart):
        raise InputError(
            f"{part.name}: model: is bandwidth-only, so it has no timings to replay a trace with; use a part with "
            "[timing], such as hbm2-2000, or load_memory for an engine that streams"
        )
    return part
