"""How far off a pruned network is whose layers keep their activations: python -m benchmarks.activations_kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import accelsim
from accelsim.network.samples import with_inputs, with_known_inputs
from accelsim.pruned import prune_network, shrunk

NETWORKS = ("lenet-300-100-digits-dense", "convnet-digits-dense")
CHIP = "eie-64pe-45nm"
SPARSITIES = (0.5, 0.8, 0.9, 0.95)


class Point(NamedTuple):
    """One network at one sparsity, with activations kept and executed anew."""

    network: str
    granularity: str
    sparsity: float
    kept_uj: float
    anew_uj: float


def points(networks: Sequence[accelsim.Network], granularity: str = "fine") -> Iterator[Point]:
    """Go through the energy of networks, pruned by magnitude and not trained further, on EIE."""
    for network in map(with_known_inputs, networks):
        for sparsity in SPARSITIES:
            pruned = prune_network(network, granularity, sparsity)
            seen = {each.layer: each.inputs for each in network.seen()}
            as_it_was = [replace(layer, activations=seen[layer.name]) for layer in pruned]
            kept = replace(pruned, layers=as_it_was, samples=None, executor=None)
            energy = [accelsim.simulate(shrunk(each), CHIP)["energy_pj"].sum() / 1e6 for each in (kept, pruned)]
            yield Point(network.name, granularity, sparsity, *energy)


def main() -> None:
    """Print a table; after the shipped networks pairs of a file of a network and one of samples may be named."""
    files = sys.argv[1:]
    others = [with_inputs(accelsim.load_network(net), file) for net, file in zip(files[::2], files[1::2], strict=True)]
    print("| network | sparsity | activations kept, µJ | executed anew, µJ | kept / anew |\n|---|---|---|---|---|")
    for each in points([*map(accelsim.load_network, NETWORKS), *others]):
        print(
            f"| `{each.network}` | {each.sparsity:.0%} | {each.kept_uj:.3g} | {each.anew_uj:.3g} "
            f"| {each.kept_uj / each.anew_uj:.2f} |"
        )


if __name__ == "__main__":
    main()
