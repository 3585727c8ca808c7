"""Which layers of a file match those of a network, by its own names or a library's, split or joined."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from accelsim.network.layer import Layer
from accelsim.network.network import Network

JOINED = (
    (
        {"c_attn", "in_proj", "qkv", "qkv_proj", "wqkv", "Wqkv", "attn_qkv"},
        (
            ("q_proj", "k_proj", "v_proj"),
            ("query", "key", "value"),
            ("wq", "wk", "wv"),
            ("attn_q", "attn_k", "attn_v"),
            ("q", "k", "v"),
        ),
    ),
    ({"gate_up_proj"}, (("gate_proj", "up_proj"),)),
)
"""Names of layers that some keep joined, outputs after outputs, and others in parts; the last part of each name."""


class Piece(NamedTuple):
    """What a layer of a network is in a file: one layer, several joined, or some outputs of one."""

    names: tuple[str, ...]
    """Layers of the file; their outputs follow one another."""
    rows: tuple[int, int] | None = None
    """The first of the outputs and the one after the last; None: all."""
    of: int = 0
    """Outputs that the layer must have for `rows` to mean anything."""


class Match(NamedTuple):
    """What of a file belongs to each layer of a network."""

    prefix: str
    """What stands before their names."""
    fitting: dict[str, Piece]
    misfits: dict[str, Piece]
    """Layers that the file has in another shape."""
    also: tuple[str, ...] = ()
    """Prefixes under which the file has as many layers that fit."""

    @property
    def rank(self) -> tuple[int, int]:
        """By which of several the best is found."""
        return len(self.fitting), len(self.misfits)


def spelled(name: str) -> str:
    """Return a name as PyTorch would have it: dots for slashes, and `layer.0` for `layer_0` and `layer_._0`."""
    return re.sub(r"\blayer_(?:\._)?(\d+)", r"layer.\1", name.replace("/", "."))


def best_match(network: Network, names: Sequence[str], fits: Callable[[Layer, Piece], bool]) -> Match:
    """Return the match of most layers: by the network's own names, or by those of one library.

    names: layers of the file, which may have one prefix in common, such as `model.`; some, such as heads, may be
    without it. fits: whether what a piece is made of has the shape of the layer.
    """
    libraries = max((len(others) for others in network.aliases.values()), default=0)
    found = [_match(network, _candidates(network, number), names, fits) for number in range(-1, libraries)]
    return max(found, key=lambda match: match.rank)


def _candidates(network: Network, number: int) -> dict[str, str]:
    """Return the name of each layer in one library, its own where that library has none."""
    own = {layer.name: layer.name for layer in network}
    if number >= 0:
        own |= {
            name: others[number] for name, others in network.aliases.items() if name in own and number < len(others)
        }
    return own


def _match(
    network: Network, candidates: Mapping[str, str], names: Sequence[str], fits: Callable[[Layer, Piece], bool]
) -> Match:
    """Return what the file has of each layer, under the prefix with which most of them are found."""
    sizes = {layer.name: layer.out_features for layer in network}
    spellings = {layer.name: list(_spellings(layer, candidates[layer.name], sizes)) for layer in network}
    known = set(names)
    found = []
    for prefix in _prefixes(spellings, names):
        match = Match(prefix, {}, {})
        for layer in network:
            pieces = [_with(prefix, piece) for piece in spellings[layer.name]] + spellings[layer.name]
            held = [piece for piece in pieces if known.issuperset(piece.names)]
            fitting = next((piece for piece in held if fits(layer, piece)), None)
            if fitting is not None:
                match.fitting[layer.name] = fitting
            elif held:
                match.misfits[layer.name] = held[0]
        found.append(match)
    best = max(found, key=lambda each: each.rank)
    # Without the prefix all of its layers may be the same ones, those that every match falls back on.
    equal = [each for each in found if each.rank == best.rank and each.fitting != best.fitting]
    return best._replace(also=tuple(each.prefix for each in equal))


def _prefixes(spellings: Mapping[str, Sequence[Piece]], names: Sequence[str]) -> list[str]:
    """Return what may stand before the names of the layers, the most frequent first; none before anything."""
    ends: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        for at in range(1, len(parts)):
            ends.setdefault(".".join(parts[at:]), []).append(".".join(parts[:at]) + ".")
    count = Counter(
        prefix
        for pieces in spellings.values()
        for prefix in dict.fromkeys(prefix for piece in pieces for prefix in ends.get(piece.names[0], ()))
    )
    return ["", *(prefix for prefix, _ in count.most_common(4))]


def _with(prefix: str, piece: Piece) -> Piece:
    return piece._replace(names=tuple(f"{prefix}{name}" for name in piece.names))


def _spellings(layer: Layer, name: str, sizes: Mapping[str, int]) -> Iterator[Piece]:
    """Return what a layer may be in a file that has it under this name: whole, split, or joined with others."""
    yield Piece((name,))
    stem, last = _split(name)
    own_stem, own = _split(layer.name)
    for joined, separate in JOINED:
        if last in joined:
            yield from (Piece(tuple(f"{stem}{part}" for part in parts)) for parts in separate)
        for parts in separate:
            if last not in parts:
                continue
            at = parts.index(last)
            siblings = next((each for each in separate if own in each and each.index(own) == at), ())
            rows = [sizes.get(f"{own_stem}{each}", layer.out_features) for each in siblings or parts]
            start = sum(rows[:at])
            yield from (Piece((f"{stem}{each}",), (start, start + rows[at]), sum(rows)) for each in sorted(joined))


def _split(name: str) -> tuple[str, str]:
    """Return a name as what comes before its last part, with the dot, and that part."""
    at = name.rfind(".") + 1
    return name[:at], name[at:]
