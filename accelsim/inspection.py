"""What is in a network: shapes, densities, patterns that zeros already form, sizes in each format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from accelsim.config import read_toml, shipped_dir
from accelsim.engines import ENGINES
from accelsim.errors import did_you_mean, raise_if_any
from accelsim.formats import bitmask, bsr, csr, nm
from accelsim.network import Network
from accelsim.network.topology import output_shape
from accelsim.number_formats import bits_of
from accelsim.pruning import Granularity, detect

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

BLOCK = (4, 4)


@cache
def patterns_of_chips() -> frozenset[tuple[int, int]]:
    """Return the patterns N:M that a chip of those that come with the package runs faster than dense weights."""
    chips = (read_toml(path) for path in shipped_dir("hwconfigs").glob("*.toml"))
    named = {pattern for chip in chips for pattern in chip.get("engine", {}).get("patterns", ())}
    return frozenset((int(n), int(m)) for n, _, m in (each.partition(":") for each in named))


def inspect(network: Network, progress: Callable[[str], None] | None = None) -> pd.DataFrame:
    """Return one row per layer: shape, density, patterns that hold exactly, empty slices, size in each format.

    Patterns N:M are those that a shipped chip runs faster (`patterns_of_chips`): zeros anywhere fill many others.
    Sizes are in bits with values of the type that the weights come in (`stored_as`): dense, bitmask, CSR, blocks of
    4 x 4, the best N:M that holds (indices); and in formats that one machine alone has, as its default configuration
    stores them. The matrix is (outputs, inputs), of a convolution with channels fastest. `progress` is called with the
    name of each layer as it is looked at.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for layer in network:
        if progress is not None:
            progress(layer.name)
        weight = layer.weight
        patterns = detect(weight)
        stored_as = layer.stored_as or weight.dtype.name
        value_bits = bits_of(stored_as)
        kept = Granularity("block", (1, 1)).view(weight != 0)
        best = patterns.sparsest(patterns_of_chips())
        sizes = {
            "dense": layer.weight_count * value_bits,
            "bitmask": bitmask.size(kept, value_bits).total,
            "csr": csr.size(kept, value_bits, index_bits=_index_bits(kept.shape[1])).total,
            "bsr_4x4": bsr.size(kept, value_bits, BLOCK, index_bits=_index_bits(-(-kept.shape[1] // BLOCK[1]))).total,
            "nm": 0 if best is None else nm.size((kept.shape[0], kept.shape[1]), value_bits, *best).total,
        }
        for engine in ENGINES.values():
            sizes |= engine.stored_bits(kept)
        named = None if best is None else f"nm:{best[0]}:{best[1]}"
        held = [named] if named else []
        held += [str(each) for each in patterns.exact_rectangles if each.size != (1, 1)]
        rows.append(
            {
                "layer": layer.name,
                "kind": layer.kind,
                "stored_as": stored_as,
                "shape": " x ".join(map(str, weight.shape)),
                "density": patterns.density,
                "patterns": ", ".join(held) or "-",
                "best_nm": named or "-",
                "empty_filters": patterns.filters.empty,
                "empty_channels": patterns.channels.empty,
                "empty_kernels": 0 if patterns.kernels is None else patterns.kernels.empty,
                **{f"{name}_bits": bits for name, bits in sizes.items()},
            }
        )
    return pd.DataFrame(rows)


class LayerWeights(NamedTuple):
    """The weights of one layer, as the matrix (outputs, inputs) that is multiplied, and what they were before."""

    name: str
    matrix: NDArray[Any]
    patterns: str
    """What holds exactly."""
    before: NDArray[Any] | None


def weights_of(
    network: Network, before: Network | None = None, layers: Sequence[str] | None = None, most: int = 6
) -> list[LayerWeights]:
    """Return the weights of the layers that are named, else of the `most` largest, in the order of the network.

    before: the network from which it was pruned. Raises InputError for layers that either has not, or otherwise shaped.
    """
    by_name = {layer.name: layer for layer in network}
    others = {} if before is None else {layer.name: layer for layer in before}
    old = "" if before is None else before.name
    largest = sorted(network, key=lambda layer: -layer.weight_count)[:most]
    names = [layer.name for layer in network if layer in largest] if layers is None else list(layers)
    problems = [f"layer {name}: {network.name} has none of this name{did_you_mean(name, by_name)}"
                for name in names if name not in by_name]  # fmt: skip
    problems += [f"layer: {len(names)} are too many for one figure; name at most {most}"] * (len(names) > most)
    for name in names if others else ():
        if name not in others:
            problems.append(f"{name}: {old} has no layer of this name{did_you_mean(name, others)}")
        elif name in by_name and others[name].weight_shape != by_name[name].weight_shape:
            shapes = " and ".join(" x ".join(map(str, each[name].weight_shape)) for each in (by_name, others))
            problems.append(f"{name}: has another shape in {old}: {shapes}; name what it was pruned from")
    raise_if_any(problems)
    as_matrix = Granularity("block", (1, 1)).view
    found = []
    for name in names:
        weight = by_name[name].weight
        patterns = detect(weight)
        held = [] if patterns.best_nm is None else [str(patterns.best_nm)]
        held += [str(each) for each in patterns.exact_rectangles if each.size != (1, 1)]
        earlier = as_matrix(others[name].weight) if name in others else None
        found.append(LayerWeights(name, as_matrix(weight), " and ".join(held) or "no pattern holds", earlier))
    return found


def inspect_graph(network: Network) -> pd.DataFrame:
    """Return one row per input, layer and operation of a network, in the order in which they run, all of one sample.

    Columns: name, kind, does (its name where it comes from), inputs (whose outputs it takes), shape of its output,
    channels (see `accelsim.network.graph.Channels`; of inputs and layers empty), reads (elements of activations),
    weights (stored elements that it reads), macs (None: not known). Layers of which nothing says what stands between
    them are a chain where their shapes allow it. Raises InputError where they do not.
    """
    import pandas as pd

    graph = network.wired().graph
    if graph is None:
        raise ValueError("a network that is wired has a graph")
    operations, layers = graph.by_name, {layer.name: layer for layer in network}
    rows: list[dict[str, Any]] = []
    for name in (*graph.inputs, *graph.order):
        row: dict[str, Any] = {"name": name, "kind": "input", "does": "", "inputs": ", ".join(graph.takes(name))}
        if name in layers:
            layer = layers[name]
            row |= {"kind": layer.kind, "shape": output_shape(layer), "channels": "", "reads": layer.maps.inputs}
            row |= {"weights": layer.weight_count, "macs": layer.macs}
        elif name in operations:
            said = operations[name]
            row |= {"kind": said.kind, "does": said.does, "shape": said.shape, "channels": said.channels}
            row |= {"reads": said.reads, "weights": said.weights, "macs": said.macs}
        else:
            row |= {"shape": graph.inputs.get(name, ()), "channels": "", "reads": 0, "weights": 0, "macs": 0}
        rows.append(row | {"shape": " x ".join(map(str, row["shape"]))})
    return pd.DataFrame(rows).astype({"macs": "Int64"})


def _index_bits(columns: int) -> int:
    """Return the width of a column index: 16 bits, or 32 where those do not reach."""
    return 16 if columns <= 2**16 else 32
