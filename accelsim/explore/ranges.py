"""Knobs: what a space varies, by lists and ranges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from accelsim.chips import Hardware
from accelsim.config import field_names
from accelsim.errors import InputError, collecting, did_you_mean, printable, raise_if_any
from accelsim.explore.expressions import Expression

MOST_POINTS = 2_000_000
"""Points that a space may have without drawing a sample."""

MOST_KNOBS = 100
"""That a space may have; beyond some ten nobody can look at what they do."""

LARGEST = 2**62
"""At the ends of a range."""


class Knob(NamedTuple):
    """What is varied: its name, its values in order (lists as tuples), and when it applies."""

    name: str
    values: tuple[Any, ...]
    when: Expression | None = None


def shown(value: Any) -> Any:
    """Return a value as tables and expressions have it: a list as text, `128 x 64, 64 x 64`, all else as it is."""
    if not isinstance(value, tuple):
        return printable(value) if isinstance(value, str) else value
    parts = [" x ".join(map(str, each)) if isinstance(each, tuple) else str(each) for each in value]
    return ", ".join(parts) or "none"


WORDS = ("hardware", "network", "granularity", "sparsity", "density")
TEXTS = WORDS[:3]
"""What can be varied beside the keys of a chip; granularity and sparsity also of one layer: sparsity.fc1."""


def is_chip_key(name: str) -> bool:
    """Return whether a name is that of a key of a chip, which has a dot."""
    return "." in name and not name.startswith(("granularity.", "sparsity."))


def rank(name: str, chips: Iterable[type[Hardware]]) -> int:
    """Return how much work points share that agree on a knob, on any of these kinds of chips; 0: hardly any."""
    word, _, key = name.partition(".")
    order = {"network": 7, "granularity": 6, "sparsity": 6, "density": 5, "hardware": 4}
    return order.get(word) or (max((_shared_by(chip, key) for chip in chips), default=0) if word == "engine" else 0)


def _shared_by(chip: type[Hardware], key: str) -> int:
    """Return 3 for a key of an engine that changes how layers are stored, 2 for one that changes runs, else 1.

    Engines that agree on all of them are made and priced once.
    """
    engine = get_type_hints(chip)["engine"]
    if key not in field_names(engine) or key in engine.PRICE_ONLY:
        return 1
    return 2 if key in engine.LAID_OUT_ALIKE else 3


def flat(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested tables by dotted keys; a range is not a table. Raises InputError for a key that is there twice."""
    found: dict[str, Any] = {}
    for key, value in tables.items():
        within = isinstance(value, Mapping) and not {"from", "to"} & value.keys()
        new = flat(value, f"{before}{key}.") if within else {before + key: value}
        raise_if_any(f"{name}: is given twice, in a table and with dots; leave one out" for name in new.keys() & found)
        found |= new
    return found


def read_knobs(vary: Mapping[str, Any], when: Mapping[str, Any], place: str, problems: list[str]) -> Iterator[Knob]:
    """Return what is varied and add what is wrong with it to the problems."""
    conditions: dict[str, Any] = {}
    varied: dict[str, Any] = {}
    with collecting(problems, f"{place}: vary: "):
        varied = flat(vary)
    with collecting(problems, f"{place}: when: "):
        conditions = flat(when)
    if not vary:
        problems.append(f"{place}: vary: is empty; name what to vary, as in engine.fifo_depth = [4, 8, 16]")
    if len(varied) > MOST_KNOBS:
        problems.append(f"{place}: vary: has {len(varied):,} keys; at most {MOST_KNOBS}")
        varied = {}
    problems += [
        f"{place}: when.{name}: is not varied{did_you_mean(name, varied)}" for name in conditions if name not in varied
    ]
    for name, given in varied.items():
        if not is_chip_key(name) and name.partition(".")[0] not in WORDS:
            problems.append(
                f"{place}: vary.{name}: is not known{did_you_mean(name, WORDS)}, or a key of a chip, as engine.pes"
            )
            continue
        with collecting(problems, f"{place}: vary.{name}: "):
            values = _values(given)
            kind, wanted = (str, "text") if name.partition(".")[0] in TEXTS else (int | float, "a number")
            if not is_chip_key(name):
                raise_if_any(f"must be {wanted} (got {each!r})" for each in values if not isinstance(each, kind))
            applies = Expression(conditions[name], "its condition") if name in conditions else None
            yield Knob(name, values, applies)


def _values(given: Any) -> tuple[Any, ...]:
    """Return the values of a list or a range."""
    if isinstance(given, Mapping):
        return tuple(dict.fromkeys(_range(given)))
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"must be a list, or a range as {{ from = 2, to = 256, factor = 2 }} (got {given!r})")
    if not given:
        raise InputError("is an empty list; name at least one value")
    problems: list[str] = []
    values: list[Any] = []
    for each in given:
        with collecting(problems):
            values.append(_plain(each))
    raise_if_any(problems)
    names = list(map(shown, values))
    if len(set(names)) < len(names):
        between = "; " if tuple in map(type, values) else ", "
        raise InputError(f"names a value twice ({between.join(map(str, names))}); leave one out")
    return tuple(values)


def _plain(given: Any) -> Any:
    """Return a value as plain Python, lists as tuples; raises InputError for what no key of a chip can be."""
    if isinstance(given, np.generic | np.ndarray):
        given = given.tolist()
    if isinstance(given, list | tuple):
        return tuple(map(_plain, given))
    if not isinstance(given, str | int | float):
        raise InputError(f"a value must be a number, text, true, false or a list of them (got {given!r})")
    return given


def _range(given: Mapping[str, Any]) -> Iterator[int | float]:
    """Return the values from `from` to `to`, both included: by a `step`, a `factor`, or a `count` of them."""
    known = ("from", "to", "step", "factor", "count", "scale")
    problems = [f"{key}: unknown key of a range{did_you_mean(key, known)}" for key in given if key not in known]
    numbers = {key: given[key] for key in known[:-1] if key in given}
    problems += [
        f"{key}: must be {'from -2^62 to 2^62' if _finite(value) else 'a finite number'} (got {value!r})"
        for key, value in numbers.items()
        if not (_finite(value) and -LARGEST <= value <= LARGEST)
    ]
    problems += [f"{key}: is missing; a range needs from and to" for key in known[:2] if key not in given]
    ways = [key for key in ("step", "factor", "count") if key in given]
    if len(ways) != 1:
        problems.append(f"needs one of step, factor and count (got {', '.join(ways) or 'none'})")
    if given.get("scale", "linear") not in ("linear", "log"):
        problems.append(f"scale: must be linear or log (got {given['scale']!r})")
    raise_if_any(problems)
    first, last, way = given["from"], given["to"], ways[0]
    by = given[way]
    if first > last:
        problems.append(f"from {first} lies above to {last}; swap them")
    if (way == "factor" or given.get("scale") == "log") and first <= 0:
        problems.append(f"from: a range by factors starts above 0 (got {first})")
    least = {"step": 0, "factor": 1, "count": 0}[way]
    if by <= least or (way == "count" and by != int(by)):
        problems.append(f"{way}: must be {'a whole number ' if way == 'count' else ''}above {least} (got {by})")
    raise_if_any(problems)
    whole = all(isinstance(each, int) for each in (first, last, by))
    if way == "count":
        steps = np.geomspace if given.get("scale") == "log" else np.linspace
        if by > MOST_POINTS:
            raise InputError(f"count: at most {MOST_POINTS} (got {by})")
        made: list[Any] = steps(first, last, int(by)).tolist()
        return iter([round(each) for each in made] if whole else [float(f"{each:.12g}") for each in made])
    number = (last - first) / by if way == "step" else math.log(last / first) / math.log(by)
    if number > MOST_POINTS:
        raise InputError(f"{way}: makes {number:.3g} values; at most {MOST_POINTS}")
    places = range(math.floor(number + 1e-9) + 1)
    made = [first + by * place if way == "step" else first * by**place for place in places]
    return iter(made if whole else [float(f"{each:.12g}") for each in made])


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def drawn(total: int, points: int, seed: int) -> list[int]:
    """Return so many different numbers below a total of any size, in order."""
    rng = np.random.default_rng(seed)
    found: set[int] = set()
    words = -(-total.bit_length() // 32) + 1  # a word more than needed, so that the remainder is even
    while len(found) < points:
        for row in rng.integers(0, 2**32, (points, words), np.uint64).tolist():
            if len(found) < points:
                found.add(sum(word << (32 * place) for place, word in enumerate(row)) % total)
    return sorted(found)
