"""Listens to the operations of a forward pass, wherever they are called from: modules, functions, scripts, kernels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from accelsim.network.torch_capture.grouping import LOOK_UPS, NORMALISATIONS
from accelsim.network.torch_capture.operations import MULTIPLYING
from accelsim.network.torch_capture.origins import tensors_in
from accelsim.network.torch_capture.quantized import is_packed, note_quantized
from accelsim.network.torch_capture.recorder import LOOK_UP, Recorder
from accelsim.network.torch_capture.recurrent import RECURRENT
from accelsim.network.torch_capture.replay import Replay
from accelsim.network.torch_capture.trace import Event, Place, Trace

FUSED = ("_native_multi_head_attention",)
"""Operations with a kernel on the CPU that is made of others; elsewhere they are not used, see `undisturbed`."""
HANDLERS = MULTIPLYING | RECURRENT
UNCOUNTED = ("linalg_", "_linalg_", "_fft_", "_cdist_", "cdist", "_weight_int", "_scaled_")
"""How those operations of `torch.ops.aten` begin that multiply, and whose multiply-accumulates nobody counts."""
WITHOUT_WORK = ("prims", "profiler", "debugprims", "torchvision::nms", "torchvision::roi", "torchvision::ps_roi")
"""Operations elsewhere that multiply by nothing."""


class Listener(TorchDispatchMode):  # type: ignore[misc]
    """Hands every operation that multiplies to its note, and follows what is made of weights alone.

    Operations come as they are called, `linear` and not its `addmm`, as long as PyTorch's autograd is passed by.
    """

    supports_higher_order_operators = True

    def __init__(self, note: Recorder, model: nn.Module, trace: Trace | None = None, whole: Iterable[Any] = ()) -> None:
        super().__init__()
        self._trace = trace
        self._note = note
        self._model = model
        self._whole: set[Any] = set(whole)
        """Operations that are not made of others, or of none that need be seen."""
        self._parted: set[Any] = set()
        self._multiplying: set[Any] = set()
        self._outer: tuple[str, int] | None = None
        """The operation that is being taken apart, and the number of that."""
        self._taken_apart = 0
        self._inside: list[Any] = []
        """The operations that are being taken apart, one in another."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and note it."""
        kwargs = kwargs or {}
        space, name = _name(func)
        handler = HANDLERS.get(name) if space in ("aten", "torchvision") else None
        if handler is None and func not in self._whole and isinstance(func, torch._ops.OpOverload):
            key = _kernel_of_others(func, name)
            if key is not None:
                return self._in_parts(func, key, name, args, kwargs)
            self._whole.add(func)
        self._note.product = None
        self._note.event = Event()
        if handler is not None or space != "aten":
            self._multiplying.update(self._inside)
        if isinstance(self._note, Replay):
            result = self._replayed(self._note, func, handler, args, kwargs)
        else:
            result = func(*args, **kwargs) if handler is None else _as_called(func, args, kwargs)
            if handler is not None:
                handler(self._note, result, _by_name(func, args, kwargs))
        named = isinstance(func, torch._ops.OpOverload)
        # Places of what is changed, such as `out`, are those in the schema.
        whole = named and (self._trace is not None or (kwargs and func._schema.is_mutable))
        call = _by_name(func, args, kwargs) if whole else {}
        arguments = list(call.values()) if whole else [*args, *kwargs.values()]
        made, read = self._note.origins.follow(func, arguments, result, self._note.product)
        if handler is None and made is None:
            self._other(func, space, name, args, kwargs, result, read)
        if self._trace is not None:
            origins = self._note.origins
            weights = [each for each in tensors_in(arguments) if (origin := origins.of(each)) and origin.sources]
            call = call if named else {"args": arguments}
            told = name if space == "aten" else f"{space}::{name}"
            self._trace.follow(func, told, self._outer, self._note.place, call, result, self._note.event, weights)
        return result

    @property
    def plain(self) -> frozenset[Any]:
        """Operations that were taken apart, of which no part multiplies."""
        return frozenset(self._parted - self._multiplying)

    def _in_parts(self, func: Any, key: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Run an operation as the ones that it is made of."""
        outer, self._taken_apart = self._outer, self._taken_apart + 1
        self._outer = outer or (name, self._taken_apart)
        self._parted.add(func)
        self._inside.append(func)
        place = self._note.place
        if name in FUSED:
            self._note.bias_behind = _by_name(func, args, kwargs)["qkv_bias"]
            self._note.place = replace(place, is_fused=True)
        try:
            with self:
                return (
                    func.py_kernels[key](*args, **kwargs)
                    if key in func.py_kernels
                    else func._op_dk(key, *args, **kwargs)
                )
        finally:
            self._outer, self._note.place = outer, place
            self._inside.pop()

    def _replayed(self, note: Replay, func: Any, handler: Any, args: Any, kwargs: Any) -> Any:
        """Run one operation with the weights of the network that is meant, and hand over what its layers see."""
        note.starts(func, [*args, *kwargs.values()])
        if handler is None:
            return func(*args, **kwargs)
        call = _by_name(func, args, kwargs)
        if handler in RECURRENT.values():
            instead = note.recurrent(handler, call)
        else:
            handler(note, None, call)
            instead = note.replaced(call) or call
        if instead is not call:
            said = func._schema.arguments
            args = [instead[each.name] for each in said if not each.kwarg_only]
            kwargs = {each.name: instead[each.name] for each in said if each.kwarg_only}
        product = note.product
        result = note.ends(_as_called(func, args, kwargs))
        note.product = product
        return result

    def _other(self, func: Any, space: str, name: str, args: Any, kwargs: Any, result: Any, read: set[int]) -> None:
        """Note what else activations meet: weights, or work of which nothing is known."""
        if name.startswith("quantized_") or (space != "aten" and is_packed(args)):
            note_quantized(self._note, self._model, name, list(args))
            if isinstance(self._note, Replay):
                self._note.ends(None)
            return
        if isinstance(self._note, Replay):
            return
        macs: int | None = 0
        formula = flop_registry.get(getattr(func, "overloadpacket", func))
        if formula is not None:
            macs = int(formula(*args, **kwargs, out_val=result)) // 2
        elif space == "aten":
            macs = None if name.startswith(UNCOUNTED) and not name.endswith("norm") else 0
        elif space != "quantized" and not f"{space}::{name}".startswith(WITHOUT_WORK):
            macs, name = None, f"{space}::{name}"
        if macs != 0:
            attends = "attention" in name
            kind = "attention product" if attends else name.strip("_")
            self._note.leave(kind, macs, tensors_in([*args, *kwargs.values()]), by_place=attends)
            return
        if not read:
            return
        kind = LOOK_UP if name in LOOK_UPS else name.strip("_")
        kind = "normalisation" if any(each in name for each in NORMALISATIONS) else kind
        for number in read:
            self._note.use(number, kind, 0)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to what runs in a block, and know in which module."""
        places = [self._note.place]
        thread = get_ident()

        def enter(path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
            if get_ident() != thread:
                return
            sequences = places[-1].sequences
            if isinstance(module, nn.MultiheadAttention):
                query = args[0] if args else kwargs.get("query")
                if isinstance(query, torch.Tensor):
                    sequences = 1 if query.ndim == 2 else query.shape[not module.batch_first]
            places.append(Place(path, sequences, type(module).__name__, not module._modules))
            self._note.place = places[-1]

        def leave(*_: Any) -> None:
            if get_ident() == thread:
                places.pop()
                self._note.place = places[-1]

        with ExitStack() as stack:
            for path, module in self._model.named_modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue
                begins = module.register_forward_pre_hook(
                    lambda called, args, kwargs, path=path: enter(path, called, args, kwargs), with_kwargs=True
                )
                ends = module.register_forward_hook(leave, always_call=True)
                stack.callback(begins.remove)
                stack.callback(ends.remove)
            # Private, as are dispatch modes: inference_mode would leave tensors behind that cannot be trained with.
            stack.enter_context(torch._C._AutoDispatchBelowAutograd())
            stack.enter_context(self)
            yield


AUTOGRAD = tuple(
    getattr(torch._C.DispatchKey, key)
    for key in ("AutogradFunctionality", "AutogradOther", "AutogradCPU", "AutogradCUDA", "ADInplaceOrView")
)


def _as_called(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation as the model would: by which kernels may depend on whether weights can be trained."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in AUTOGRAD:
        excluded = excluded.remove(key)
    with torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded):
        return func(*args, **kwargs)


def _by_name(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return all arguments of an operation by their names, in the order of its schema."""
    left_out = _arguments(func)
    named: dict[str, Any] = {**left_out, **dict(zip(left_out, args, strict=False)), **kwargs}
    return named


@cache
def _arguments(func: Any) -> dict[str, Any]:
    """Return the arguments of an operation, in the order of its schema, with what they are where they are left out."""
    return {each.name: each.default_value for each in func._schema.arguments}


@cache
def _kernel_of_others(func: Any, name: str) -> Any:
    """Return the key of the kernel that makes an operation of others; None where there is none."""
    keys = torch._C.DispatchKey
    key = keys.CPU if name in FUSED else keys.CompositeImplicitAutograd
    known = key in func.py_kernels or torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key)
    return key if known else None


@cache
def _name(func: Any) -> tuple[str, str]:
    """Return the namespace of an operation and its name without that of the overload."""
    if isinstance(func, torch._ops.OpOverload):
        space, _, name = func._schema.name.partition("::")
        return space, name.removesuffix("_") if not name.startswith("__") else name
    return "higher_order", str(getattr(func, "__name__", func))
