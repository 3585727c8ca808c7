"""Pickles read as data: nothing that they name is ever imported or called."""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

MOST_OPERATIONS = 10**7
"""Of one pickle; a tensor takes about fifty."""

MOST_BITS = 4096
"""Of a whole number, such as the state of a generator; Python writes none of some ten thousand."""


class Global(NamedTuple):
    """Something that a pickle would import, as `module.name`."""

    name: str


@dataclass(eq=False)
class Instance:
    """What a pickle would have made by a call: of what, with which arguments, and what it then put into it."""

    of: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)


Maker = Callable[..., Any]
"""Makes data of the arguments of a call that a pickle asks for; raises ValueError for those that do not fit."""


def read_pickle(file: IO[bytes], makers: Mapping[str, Maker], persistent: Callable[[Any], Any]) -> Any:
    """Return what one pickle holds, and leave the file behind it.

    Numbers, text, lists, tuples and dicts are read as such, sets as lists. A call of what the makers know becomes what
    they make of its arguments, any other an `Instance`; persistent makes data of a persistent id.
    Raises ValueError where the file holds no whole pickle.
    """
    machine = _Machine(makers, persistent)
    try:
        for done, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if done > MOST_OPERATIONS:
                raise ValueError(f"its pickle has more than {MOST_OPERATIONS:,} operations")
            if operation.name == "STOP":
                break
            if operation.name in _LITERALS:
                if isinstance(argument, int) and argument.bit_length() > MOST_BITS:
                    raise ValueError(f"its pickle has a whole number of {argument.bit_length():,} bits")
                machine.stack.append(argument)
            elif operation.name in _OPERATIONS:
                _OPERATIONS[operation.name](machine, argument)
            else:
                raise ValueError(f"its pickle has the operation {operation.name}, which no file of tensors needs")
        found = machine.stack.pop()
        _check_nesting(found)
        return found
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its pickle makes no sense ({type(error).__name__}: {error})") from None


def _check_nesting(held: Any) -> None:
    """Raise ValueError for what holds itself, or would be endless if what it holds again and again were written out.

    Some hundred operations nest dicts of a thousand names for one dict eight times; whoever goes through all of them
    does not come to an end.
    """
    sizes: dict[int, int] = {}
    open_: set[int] = set()
    waiting = [held]
    while waiting:
        each = waiting[-1]
        inside = each.values() if isinstance(each, dict) else each if isinstance(each, (list, tuple)) else ()
        if id(each) in sizes or not inside:
            waiting.pop()
        elif id(each) in open_:
            waiting.pop()
            sizes[id(each)] = sum(sizes.get(id(part), 1) for part in inside)
            if sizes[id(each)] > MOST_OPERATIONS:
                raise ValueError("it holds the same things again and again, more than anybody could go through")
        else:
            open_.add(id(each))
            parts = [part for part in inside if isinstance(part, (dict, list, tuple)) and id(part) not in sizes]
            if any(id(part) in open_ for part in parts):
                raise ValueError("it holds a dict or list that holds itself")
            waiting += parts


def _global(module: Any, name: Any) -> Global:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ValueError("it names what it would import by something else than text")
    return Global(f"{module}.{name}")


class _Machine:
    """A stack, those below its marks, and the memo, by which a pickle says that two things are one."""

    def __init__(self, makers: Mapping[str, Maker], persistent: Callable[[Any], Any]) -> None:
        self.makers = makers
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """Take what lies above the last mark."""
        found, self.stack = self.stack, self.below.pop()
        return found

    def gather(self, make: Callable[[list[Any]], Any]) -> None:
        marked = self.marked()
        self.stack.append(make(marked))

    def take(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError("an empty stack")
        found = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return found

    def call(self, called: Any, arguments: tuple[Any, ...]) -> None:
        name = called.name if isinstance(called, Global) else type(called).__name__
        if name in self.makers:
            self.stack.append(self.makers[name](*arguments))
        else:
            self.stack.append(Instance(name, tuple(arguments)))

    def build(self) -> None:
        """Keep the state of an instance; those of dicts and tensors say nothing about numbers."""
        (state,) = self.take(1)
        if isinstance(self.stack[-1], Instance):
            self.stack[-1].state = state

    def extend(self, items: list[Any]) -> None:
        held = self.stack[-1]
        (held.items if isinstance(held, Instance) else held).extend(items)

    def set_items(self, items: Sequence[Any]) -> None:
        held = self.stack[-1]
        if isinstance(held, Instance):
            held.items += items
        else:
            held.update(_dict(items))

    def made_of_marked(self) -> None:
        called, *arguments = self.marked()
        self.call(called, tuple(arguments))


def _dict(items: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(map(_key, items[::2]), items[1::2], strict=True))


def _key(key: Any) -> Any:
    """Return a key of a dict; of another kind than names and numbers, one that equals no other."""
    return key if key is None or isinstance(key, (str, int, float, bytes)) else object()


_LITERALS = frozenset(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
     "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
     "BINBYTES8", "BYTEARRAY8")
)  # fmt: skip
"""Operations that put their argument on the stack."""

_OPERATIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda at, argument: None,
    "FRAME": lambda at, argument: None,
    "NONE": lambda at, argument: at.stack.append(None),
    "NEWTRUE": lambda at, argument: at.stack.append(True),
    "NEWFALSE": lambda at, argument: at.stack.append(False),
    "MARK": lambda at, argument: at.mark(),
    "POP": lambda at, argument: at.stack.pop() if at.stack else at.marked(),
    "POP_MARK": lambda at, argument: at.marked(),
    "DUP": lambda at, argument: at.stack.append(at.stack[-1]),
    "EMPTY_DICT": lambda at, argument: at.stack.append({}),
    "EMPTY_LIST": lambda at, argument: at.stack.append([]),
    "EMPTY_SET": lambda at, argument: at.stack.append([]),
    "EMPTY_TUPLE": lambda at, argument: at.stack.append(()),
    "TUPLE": lambda at, argument: at.gather(tuple),
    "LIST": lambda at, argument: at.gather(list),
    "FROZENSET": lambda at, argument: at.gather(list),
    "DICT": lambda at, argument: at.gather(_dict),
    "TUPLE1": lambda at, argument: at.stack.append(at.take(1)),
    "TUPLE2": lambda at, argument: at.stack.append(at.take(2)),
    "TUPLE3": lambda at, argument: at.stack.append(at.take(3)),
    "APPEND": lambda at, argument: at.extend(list(at.take(1))),
    "APPENDS": lambda at, argument: at.extend(at.marked()),
    "ADDITEMS": lambda at, argument: at.extend(at.marked()),
    "SETITEM": lambda at, argument: at.set_items(at.take(2)),
    "SETITEMS": lambda at, argument: at.set_items(at.marked()),
    "PUT": lambda at, argument: at.memo.__setitem__(argument, at.stack[-1]),
    "BINPUT": lambda at, argument: at.memo.__setitem__(argument, at.stack[-1]),
    "LONG_BINPUT": lambda at, argument: at.memo.__setitem__(argument, at.stack[-1]),
    "MEMOIZE": lambda at, argument: at.memo.__setitem__(len(at.memo), at.stack[-1]),
    "GET": lambda at, argument: at.stack.append(at.memo[argument]),
    "BINGET": lambda at, argument: at.stack.append(at.memo[argument]),
    "LONG_BINGET": lambda at, argument: at.stack.append(at.memo[argument]),
    "GLOBAL": lambda at, argument: at.stack.append(Global(argument.replace(" ", "."))),
    "STACK_GLOBAL": lambda at, argument: at.stack.append(_global(*at.take(2))),
    "PERSID": lambda at, argument: at.stack.append(at.persistent(argument)),
    "BINPERSID": lambda at, argument: at.stack.append(at.persistent(*at.take(1))),
    "REDUCE": lambda at, argument: at.call(*at.take(2)),
    "NEWOBJ": lambda at, argument: at.call(*at.take(2)),
    "NEWOBJ_EX": lambda at, argument: at.call(*at.take(3)[:2]),
    "OBJ": lambda at, argument: at.made_of_marked(),
    "INST": lambda at, argument: at.call(Global(argument.replace(" ", ".")), tuple(at.marked())),
    "BUILD": lambda at, argument: at.build(),
}
