"""Names of arrays: their order, their words, and what their last part says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

PREFIXES = ("module.", "_orig_mod.", "_forward_module.", "_fsdp_wrapped_module.")
"""What wrappers of a model (DataParallel, torch.compile, Lightning) put before the names of all its arrays."""

RECURRENT = re.compile(r"(weight|bias)_(ih|hh|hr)(?:_l(\d+)(_reverse)?)?")
"""Arrays of LSTM, GRU and RNN, and of their cells."""

_SEPARATORS = re.compile("[./]")
_PROJECTION = re.compile(r"[qkv]_proj_weight")
_DIGITS = re.compile(r"(\d+)")
_SUFFIX = re.compile(r"(:\d+|/\.ATTRIBUTES/VARIABLE_VALUE)$")
_ADAPTED = re.compile(r"\.(base_layer|original_module|modules_to_save(\.\w+)?)$")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_ENDINGS = "weight|weights|bias|biases|kernel|gamma|beta|moving_mean|moving_var|running_mean|running_var|W|w|b"
_UNDERSCORED = re.compile(rf"(.+)_({_ENDINGS})")


class Path(NamedTuple):
    """The name of an array in two: the module that it belongs to, and what it is there."""

    module: str
    tail: str
    separator: str = "."

    @property
    def component(self) -> str:
        """The last part of the module's name, that of the model where an adapter wraps it."""
        return _SEPARATORS.split(_ADAPTED.sub("", self.module))[-1]

    @property
    def parent(self) -> str:
        """The part before the last."""
        return ["", *_SEPARATORS.split(_ADAPTED.sub("", self.module))][-2]


def path_of(name: str) -> Path:
    """Split a name such as `fc.weight`, `dense/kernel:0`, `layers/dense/vars/0` or `fc1_weight`."""
    if ":" in name or name.endswith("VARIABLE_VALUE"):
        name = _SUFFIX.sub("", name)
    variables = re.fullmatch(r"(.+)/vars/(\d+)", name) if "/" in name else None
    if variables:
        return Path(variables[1], f"vars/{variables[2]}", "/")
    at = max(name.rfind("."), name.rfind("/"))
    if at >= 0:
        return Path(name[:at], name[at + 1 :], name[at])
    underscored = _UNDERSCORED.fullmatch(name)
    # in_proj_weight and its like are an attention's own, also where it is the whole model.
    if underscored and not re.fullmatch(r"(in|q|k|v)_proj", underscored[1]):
        return Path(underscored[1], underscored[2], "_")
    return Path("", name, "")


@lru_cache(2**12)
def words(component: str) -> frozenset[str]:
    """Return the words of a part of a name in lower case: LayerNorm_1 has layer and norm."""
    return frozenset(word.lower() for word in _WORD.findall(component))


def common_prefix(names: Iterable[str]) -> str:
    """Return what wrappers put before all of these names."""
    found, rest = "", list(names)
    while rest:
        prefix = next((each for each in PREFIXES if all(name.startswith(each) for name in rest)), None)
        if prefix is None:
            break
        found, rest = found + prefix, [name.removeprefix(prefix) for name in rest]
    return found


def natural(name: str) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """Return what sorts names: numbers in them by value, a recurrent module as it runs, an output layer last."""
    parts = _SEPARATORS.split(name)
    keys = [_natural_part(part) for part in parts]
    if len(parts) > 1:
        last = parts[-1]
        recurrent = RECURRENT.fullmatch(last)
        if recurrent:
            what, which, layer, reverse = recurrent.groups()
            rank = ("ih", "hh", "hr").index(which)
            keys[-1] = ((1, 0, what), (0, int(layer or 0), ""), (0, len(reverse or ""), ""), (0, rank, ""))
        elif _PROJECTION.fullmatch(last):
            keys[-1] = ((1, 0, "in_proj_weight"), (0, "qkv".index(last[0]), ""))
    place = 0 if len(parts) < 2 else bool(_OUTPUTS.fullmatch(parts[0])) - bool(_INPUTS.fullmatch(parts[0]))
    return (((0, place, ""),), *keys)


_INPUTS = re.compile(r"(conv_)?stem|patch_embed(dings?)?|encoder", re.IGNORECASE)
_OUTPUTS = re.compile(r"fc|heads?|classifier|lm_head|out|output|score|qa_outputs|logits|embed_out", re.IGNORECASE)
"""Parts of a network that come first or last, whatever the first letter of their name."""

_AS_RUN = {"self_attn": "attn", "q_proj": "in_proj0", "k_proj": "in_proj1", "v_proj": "in_proj2"}
"""Parts of an attention by names that sort as they run."""


@lru_cache(2**12)
def _natural_part(part: str) -> tuple[tuple[int, int, str], ...]:
    return tuple(
        (0, int(each), "") if each.isdecimal() else (1, 0, each)
        for each in _DIGITS.split(_AS_RUN.get(part, part))
        if each
    )
