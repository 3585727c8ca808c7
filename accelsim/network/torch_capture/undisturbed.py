"""A model that runs and is as before: modes, attributes, buffers, random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run a block in evaluation mode; afterwards attributes, buffers, modes and random numbers are as they were."""
    modes = [(module, module.training) for module in model.modules()]
    # Of scripted modules PyTorch keeps the attributes elsewhere.
    kept = [
        (module, dict(module.__dict__), dict(module._buffers))
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    values = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {each.device.index for each in (*model.parameters(), *model.buffers()) if each.device.type == "cuda"}
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    try:
        # Only on the CPU it is made of operations that can be seen.
        on_cpu = all(each.device.type == "cpu" for each in (*model.parameters(), *model.buffers()))
        torch.backends.mha.set_fastpath_enabled(fast_attention and on_cpu)
        for module in model.modules():
            if isinstance(module, nn.TransformerEncoder):  # whose nested tensors have no shape
                module.use_nested_tensor = module.enable_nested_tensor = False
        with torch.no_grad(), torch.random.fork_rng(devices=sorted(devices)), _uncompiled():
            for module, _ in modes:
                module.training = False
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
        for module, mode in modes:
            module.training = mode
        for module, attributes, buffers in kept:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)
        with torch.no_grad():
            for buffer, value in values:
                if not _equal(buffer, value):
                    buffer.copy_(value)


def _uncompiled() -> AbstractContextManager[Any]:
    """Run modules that torch.compile wraps as they were written."""
    set_stance = getattr(torch.compiler, "set_stance", None)  # new in PyTorch 2.6
    return nullcontext() if set_stance is None else set_stance("force_eager")


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether tensors are known to be equal; PyTorch compares none of 8 bits and fewer."""
    try:
        return bool(torch.equal(one, other))
    except NotImplementedError:
        return False
