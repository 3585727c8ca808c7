"""Compiled kernels: `njit` for what Python calls, `step` for what kernels call; kept on disk.

numba compiles a function that another calls for itself, to machine code that nobody runs, and then again as a part of
each caller, of their callers, and so on. A step is handed on as it comes from the front end and made fast only where it
ends up: in a kernel. Integers that stand in the source are integers like any others, so that a step is compiled once.
"""

from __future__ import annotations

import gc
import hashlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple
from weakref import WeakSet

import numpy as np
from numba import config, types
from numba.core import caching, compiler, sigutils, typed_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import register_pass
from numba.core.registry import CPUDispatcher
from numba.core.runtime.nrt import rtsys
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import reason_of, warn

__all__ = [
    "Compiling",
    "inlined",
    "kernel_sources_hash",
    "maker",
    "njit",
    "on_compile",
    "read_only",
    "step",
    "uncounted",
]

PACKAGE = Path(__file__).parent
KERNEL = re.compile(rb"^ *@(njit|step|maker|inlined|uncounted)\b", re.MULTILINE)
IMPORT = re.compile(rb"^from (accelsim[.\w]*) import", re.MULTILINE)


@cache
def kernel_sources() -> list[Path]:
    """Return the modules that hold kernels, and those that they import from here: constants become part of a kernel."""
    texts = {path: path.read_bytes() for path in sorted(PACKAGE.rglob("*.py"))}
    kernels = {path for path, text in texts.items() if KERNEL.search(text)}
    imported = {name.decode() for path in kernels for name in IMPORT.findall(texts[path])}
    return [path for path in texts if path in kernels or _name_of(path) in imported]


def _name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def kernel_sources_hash() -> str:
    """Return a hash over all of `kernel_sources`, and over how this module compiles them."""
    found = hashlib.blake2b(digest_size=16)
    for path in [*kernel_sources(), Path(__file__)]:
        found.update(path.read_bytes())
    return found.hexdigest()


class Compiling(NamedTuple):
    """A kernel that is about to be compiled."""

    kernel: str
    part: str
    """What it belongs to, in the words with which its module begins."""
    number: int
    """Counted from 1, of those that this process compiles."""
    most_left: int
    """Kernels that are imported and have not been needed yet: at most so many follow."""


_listeners: list[Callable[[Compiling], None]] = []


@contextmanager
def on_compile(tell: Callable[[Compiling], None]) -> Iterator[None]:
    """Call `tell` whenever a kernel is about to be compiled; never when it comes from the cache on disk."""
    _listeners.append(tell)
    try:
        yield
    finally:
        _listeners.remove(tell)


def read_only(array: ArrayLike, dtype: Any = None) -> NDArray[Any]:
    """Return an array as kernels take what they only read: rows one after another, not to be written, of one type.

    numba compiles a kernel anew for an array that may be written, or whose columns lie one after another: so every
    array that a kernel does not fill goes through here, wherever it comes from. It is copied where it has to be.
    """
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view


class _Files(caching.IndexDataCacheFile):
    """The files of a kernel, each with a checksum at its end: what was cut or overwritten is never loaded, nor run."""

    def _load_index(self) -> Any:
        return super()._load_index() if self._is_whole(self._index_path) else {}

    def _load_data(self, name: str) -> Any:
        if self._is_whole(path := self._data_path(name)):
            return super()._load_data(name)
        raise FileNotFoundError(path)

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[Any]:
        content = io.BytesIO()
        yield content
        with super()._open_for_write(filepath) as file:
            file.write(content.getvalue() + _checksum(content.getvalue()))

    def _is_whole(self, path: str) -> bool:
        """Return whether a file is as it was written; what is not there is nothing to tell of."""
        if not os.path.exists(path):
            return False
        content = Path(path).read_bytes()
        if _checksum(content[:-_CHECKSUM_BYTES]) == content[-_CHECKSUM_BYTES:]:
            return True
        _tell_damaged(path)
        return False


_CHECKSUM_BYTES = 16


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECKSUM_BYTES).digest()


class _Kept(caching.FunctionCache):
    """Compiled code on disk, which never stops a run: what cannot be read is compiled, what cannot be kept is told.

    One process compiles and others wait for it: what is missing is looked for again under a lock.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._lock: _Lock | None = None
        super().__init__(kernel.py_func)
        self._ours = PACKAGE in Path(kernel.py_func.__code__.co_filename).parents
        stamp = self._impl.locator.get_source_stamp()
        if self._ours:
            # By itself numba asks for the file of a kernel alone, and what this one calls may lie in another.
            stamp = stamp, kernel_sources_hash()
        self._cache_file = _Files(self.cache_path, f"{self._impl.filename_base}.whole", stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)  # all that ours need to run; to compile one, numba loads half of SciPy
        found = self._tried(self._load_overload if self._ours else super().load_overload, sig, target_context)
        if found is None:
            self._tried(self._impl.locator.ensure_cache_path)
            self._lock = _Lock(Path(self.cache_path))
            found = self._tried(super().load_overload, sig, target_context)
        if found is None:
            self._kernel.tell()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        self._tried(super().save_overload, sig, data)

    def release(self) -> None:
        """Let others go on."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _tried(self, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except Exception as error:  # pickle, zlib and LLVM each have their own
            _tell_unkept(f"{self.cache_path}: {type(error).__name__}: {reason_of(error)}")
            return None


class _Lock:
    """The lock of a cache folder, for one process at a time; taken again by who has it. Nothing where there is none."""

    _held: ClassVar[dict[Path, tuple[Any, int]]] = {}

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        file, times = self._held.get(folder, (None, 0))
        if not times:
            with suppress(ImportError, OSError):  # not on Windows, nor on every file system
                import fcntl

                file = (folder / "compiling.lock").open("w")
                fcntl.flock(file, fcntl.LOCK_EX)
        self._held[folder] = file, times + 1

    def release(self) -> None:
        """Let others go on."""
        file, times = self._held[self._folder]
        self._held[self._folder] = file, times - 1
        if times == 1 and file is not None:
            file.close()


_told: set[str] = set()
"""What this process has told of, once for all kernels."""


def _tell_unkept(reason: str) -> None:
    """Tell that compiled code is not kept: of the first kernel, which stands for all."""
    if "unkept" not in _told:
        _told.add("unkept")
        warn(
            f"compiled code cannot be kept on disk ({reason}), so each command compiles anew; "
            "set NUMBA_CACHE_DIR to a folder that can be written"
        )


def _tell_damaged(path: str) -> None:
    """Tell that compiled code was cut or overwritten, as a power cut may leave it: of the first file."""
    if "damaged" not in _told:
        _told.add("damaged")
        warn(f"{path}: compiled code was cut or overwritten; it is compiled again, as other files like it are")


def _part(module: str) -> str:
    """Return what a module says of itself up to the first comma, colon or full stop; its name where it says nothing."""
    said = re.split(r"[,:.](?:\s|$)", (sys.modules[module].__doc__ or "").strip(), maxsplit=1)[0]
    return said or module


class Kernel(CPUDispatcher):
    """A function that Python calls compiled: for each element type of its arrays once, at its first call."""

    all: ClassVar[WeakSet[Kernel]] = WeakSet()
    compiled: ClassVar[int] = 0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._kept: _Kept | None = None
        Kernel.all.add(self)

    def compile(self, sig: Any) -> Any:
        """Return the compiled function for a signature: at hand, from the disk, or compiled and kept there."""
        with global_compiler_lock:
            if self._kept is None and not self.overloads:
                try:
                    self._kept = self._cache = _Kept(self)
                except RuntimeError:  # numba has no place for it, whose message is of this kernel alone
                    _tell_unkept("neither the package's folder nor one of your home can be written")
                except OSError as error:
                    _tell_unkept(reason_of(error))
            if self._kept is None and tuple(sigutils.normalize_signature(sig)[0]) not in self.overloads:
                self.tell()
            collects = gc.isenabled()
            gc.disable()  # which would look again and again through all that the compiler makes
            try:
                return super().compile(sig)
            finally:
                if collects:
                    gc.enable()
                if self._kept is not None:
                    self._kept.release()

    def tell(self) -> None:
        """Tell who listens that this kernel is about to be compiled."""
        Kernel.compiled += 1
        left = sum(not kernel.overloads and kernel is not self for kernel in Kernel.all)
        name = f"{self.py_func.__module__.removeprefix('accelsim.')}.{self.py_func.__name__}"
        for tell in _listeners:
            tell(Compiling(name, _part(self.py_func.__module__), Kernel.compiled, left))

    def add_overload(self, cres: Any) -> None:
        """Take in what was compiled, with what its steps need of Python."""
        super().add_overload(cres)
        for environment in cres._find_referenced_environments():
            cres.library.codegen.set_env(environment.env_name, environment)


class _StepLibrary(JITCodeLibrary):
    """Code of a step, with that of the steps that it calls: not made fast, and no machine code."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _StepLowering(typed_passes.NativeLowering):
    _name = "accelsim_step_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _StepLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered, name = state["cr"], object()  # numba finds a function by its machine code, and here is none
        state.targetctx.insert_user_function(name, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=name)
        return True


class _StepCompiler(compiler.CompilerBase):
    def define_pipelines(self) -> list[Any]:
        passes = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [
            (_StepLowering, told) if each is typed_passes.NativeLowering else (each, told)
            for each, told in passes.passes
        ]
        passes.finalize()
        return [passes]


class Step(CPUDispatcher):
    """A function that becomes part of the kernels that call it; called by Python, it is Python."""

    def __init__(self, py_func: Callable[..., Any], **named: Any) -> None:
        super().__init__(py_func, pipeline_class=_StepCompiler, **named)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.py_func(*arguments, **named)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Return what a kernel calls, literals taken as any other number."""
        return super().get_call_template(
            [types.unliteral(each) for each in args], {name: types.unliteral(each) for name, each in kws.items()}
        )

    def add_overload(self, cres: Any) -> None:
        """Note what was compiled, for other kernels alone."""
        self.overloads[tuple(cres.signature.args)] = cres


def _compiled(kind: type[CPUDispatcher], function: Callable[..., Any], **options: Any) -> Any:
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return function
    return kind(py_func=function, targetoptions={"nopython": True, "nogil": True, "no_cfunc_wrapper": True, **options})


def njit(*, cache: Literal[True], nogil: Literal[True]) -> Callable[[Callable[..., Any]], Any]:
    """Return the decorator of a kernel: compiled at its first call by Python, kept on disk, and without Python's lock.

    Both are so for all kernels, and written out for whoever knows numba's own `njit`.
    """
    return partial(_compiled, Kernel)


def uncounted(function: Callable[..., Any]) -> Any:
    """Return a kernel that takes no reference counts of its arrays, a quarter faster; it can make no arrays."""
    return _compiled(Kernel, function, _nrt=False)


def step(function: Callable[..., Any]) -> Any:
    """Return a function that becomes part of the kernels that call it; called by Python, it is Python.

    It takes no reference counts, which halves what there is to compile, and so can make and return no arrays.
    """
    return _compiled(Step, function, _nrt=False, **_NO_WRAPPERS)


def maker(function: Callable[..., Any]) -> Any:
    """Return a step that may make and return arrays."""
    return _compiled(Step, function, **_NO_WRAPPERS)


def inlined(function: Callable[..., Any]) -> Any:
    """Return a step that is inlined wherever it is called."""
    return _compiled(Step, function, forceinline=True, _nrt=False, **_NO_WRAPPERS)


_NO_WRAPPERS = {"no_cpython_wrapper": True}
