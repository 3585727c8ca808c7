"""How far off a pruned network is whose layers keep their activations: python -m benchmarks.activations_kept.

Prints a table of energy on EIE, with the activations of the network as given and with those of a new run; --images
FOLDER draws it. `python -m benchmarks.validation` puts the table into docs/pruning.md. Needs onnxruntime.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import accelsim
from accelsim.evaluation import digits
from accelsim.network.samples import with_inputs, with_known_inputs
from accelsim.pruned import prune_network
from accelsim.report.plots import style
from benchmarks.digits_onnx import FILE

NETWORKS = {
    "lenet-300-100-digits-dense": "LeNet-300-100",
    "convnet-digits-dense": "convolutional",
    str(FILE): "residual, from ONNX",
}
"""What is pruned, by magnitude and not trained further, and what it is called."""

CHIP = "eie-64pe-45nm"
SPARSITIES = (0.5, 0.8, 0.9, 0.95)
SAMPLES = 16
"""Digits on which the ONNX file is run; the shipped networks bring as many."""


class Point(NamedTuple):
    """One network at one sparsity, with activations kept and executed anew."""

    network: str
    sparsity: float
    kept_uj: float
    anew_uj: float

    @property
    def ratio(self) -> float:
        """How far off kept activations are: 1 is right."""
        return self.kept_uj / self.anew_uj


def load(name: str) -> accelsim.Network:
    """Return a network with its samples."""
    network = with_known_inputs(accelsim.load_network(name))
    if network.samples is not None:
        return network
    return with_inputs(network, digits("test")[0][:SAMPLES].reshape(SAMPLES, 1, 8, 8))


@cache
def points() -> tuple[Point, ...]:
    """Return the energy of each network at each sparsity."""
    return tuple(_measured())


def _measured() -> Iterator[Point]:
    for name, called in NETWORKS.items():
        network = load(name)
        seen = {each.layer: each.inputs for each in network.seen()}
        for sparsity in SPARSITIES:
            pruned = prune_network(network, "fine", sparsity)
            as_it_was = [replace(layer, activations=seen[layer.name]) for layer in pruned]
            kept = replace(pruned, layers=as_it_was, samples=None, executor=None)
            energy = [accelsim.simulate(each, CHIP)["energy_pj"].sum() / 1e6 for each in (kept, pruned)]
            yield Point(called, sparsity, *energy)


def table() -> str:
    """Return the points as Markdown."""
    rows = [
        f"| {each.network} | {100 * each.sparsity:.0f} % | {each.kept_uj:.3g} | {each.anew_uj:.3g} | {each.ratio:.2f} |"
        for each in points()
    ]
    head = ["| network | sparsity | activations kept, µJ | executed anew, µJ | kept / anew |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def draw(path: Path) -> None:
    """Draw energy against sparsity, a panel for each network."""
    with style.styled():
        figure = style.new_figure(7.0, 2.6)
        figure.suptitle("Pruned weights change activations: energy with those of the pruned network, or kept (EIE)")
        panels = figure.subplots(1, len(NETWORKS))
        for axes, (name, mine) in zip(panels, groupby(points(), key=lambda each: each.network), strict=True):
            each = list(mine)
            shares = [100 * point.sparsity for point in each]
            for number, (values, label) in enumerate(
                (([p.anew_uj for p in each], "executed anew"), ([p.kept_uj for p in each], "activations kept"))
            ):
                axes.plot(
                    shares, values, "--" if number else "-", marker=style.marker_of(number),
                    color=style.colour_of(number), label=label,
                )  # fmt: skip
            most = max(max(point.kept_uj, point.anew_uj) for point in each)
            axes.set(title=name, xlabel="sparsity (%)", ylim=(0, 1.1 * most))
        panels[0].set_ylabel("energy (µJ)")
        panels[0].legend(frameon=False, loc="lower left")
        style.save(figure, path, path.suffix.removeprefix("."))


def main() -> None:
    """Print the table, or draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="draw activations-kept.svg into this folder")
    options = parser.parse_args()
    print(table())
    if options.images is not None:
        draw(options.images / "activations-kept.svg")


if __name__ == "__main__":
    main()
