"""A report on results as one HTML file: a network, on one chip or several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from accelsim.network.left_out import by_kind
from accelsim.report import charts, summary
from accelsim.report.describe import Chip
from accelsim.report.drawing import graph_svg
from accelsim.report.frame import Figure, render
from accelsim.report.provenance import provenance, sentence, several
from accelsim.report.runs import totals, with_runs
from accelsim.report.tables import GAIN_FIELDS, LAYER_FIELDS, TERMS_FIELDS, TOTAL_FIELDS, table_of, turned
from accelsim.report.terminal import io_counted
from accelsim.report.units import COUNT, ENERGY_PJ, SIZE_BITS, Scale, percent, whole
from accelsim.results import operations, supported
from accelsim.terms import differences, terms
from accelsim.totals import not_simulated, without_pins

if TYPE_CHECKING:
    from accelsim.network import Layer, Network

DETAILED_RUNS = 6
"""Runs that get sentences and charts of their own, the first ones; all are in the tables."""

MAX_ROWS = 2000
"""Rows of the layer table, those of most energy; more would make a page that opens slowly."""


class Run(NamedTuple):
    """What the page says of one network on one chip."""

    name: str
    sentences: list[str]
    figures: list[Figure]
    graph: str = ""
    """SVG of the network's graph, where it is known."""


def page(
    results: pd.DataFrame,
    chips: Iterable[Chip] = (),
    network: Network | None = None,
    *,
    before: pd.DataFrame | None = None,
    gains: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    command: Sequence[str] = (),
    python: Sequence[str] = (),
) -> str:
    """Return the HTML of a report on results of `simulate`; the same arguments give the same text.

    `chips`: descriptions of the chips, by name; one that is not among them is said to be unknown. `network`: adds
    shapes, source and provenance. `before`: results of the network that this one is compared with, on the same chips;
    `gains`: of `accelsim.against`, a table of the summary. `notes`: what the simulation warned of. `command`, `python`:
    how to make it again.
    Needs `accelsim[report]`. Raises InputError for results that have no rows, or one layer twice on a chip.
    """
    rows = with_runs(results)
    sums = totals(rows)
    overview = _overview(sums)
    runs = [
        _run(total, rows[rows["run"] == total["run"]], place, network, before)
        for place, (_, total) in enumerate(sums.head(DETAILED_RUNS).iterrows())
    ]
    shown = rows if len(rows) <= MAX_ROWS else rows.loc[rows["energy_pj"].nlargest(MAX_ROWS).index.sort_values()]
    known = {chip.name: chip for chip in chips}
    names = dict.fromkeys(rows["hardware"])
    described = [chip.hardware for name in names if (chip := known.get(name)) and chip.hardware is not None]
    return render(
        "report.html.j2",
        [*overview, *(each for run in runs for each in run.figures)],
        networks=list(dict.fromkeys(rows["network"])),
        network=network,
        shares=[text.replace("not simulated", "Not simulated") + "." for text in not_simulated(rows)],
        not_simulated=[] if network is None else _not_simulated(network),
        rows=rows,
        sums=sums,
        bought=[] if gains is None else summary.bought(gains, rows, before),
        compared=summary.compared(sums, totals(rows[~operations(rows)])),
        runs=runs,
        overview=overview,
        totals=table_of([*TOTAL_FIELDS, *(GAIN_FIELDS[1:3] if "speed_up" in sums else ())], sums),
        gains=None if gains is None else table_of(GAIN_FIELDS, gains),
        against="" if gains is None else f"{gains['network'].iloc[0]} against {gains['against'].iloc[0]}",
        terms=turned(TERMS_FIELDS, terms(described)) if described else None,
        layers=table_of(LAYER_FIELDS if len(sums) > 1 else LAYER_FIELDS[:1] + LAYER_FIELDS[2:], shown),
        run_names=list(sums["run"]) if len(sums) > 1 else [],
        left_out=len(rows) - len(shown),
        chips=[known.get(name, Chip(name, None, ())) for name in names],
        structure=_structure(rows, network),
        provenance=provenance(rows),
        chip_hashes={name: several(rows.loc[rows["hardware"] == name, "hardware_hash"]) for name in names},
        notes=[*notes, *map(sentence, differences(described)), *_notes(rows)],
        command=command,
        python=python,
    )


def _overview(sums: pd.DataFrame) -> list[Figure]:
    if (sums["able"] > 0).sum() < 2:
        return []
    which = "each chip" if len(sums) <= charts.BARS else f"the {charts.BARS} fastest chips"
    shown = sums.loc[sums.loc[sums["able"] > 0, "time_us"].nsmallest(charts.BARS).index.sort_values()]
    return [
        Figure("total-time", f"Time of {which}, split as its cycles are", charts.total_time(shown)),
        Figure("total-energy", f"Energy of {which}, by component", charts.total_energy(shown)),
    ]


CHARTS: tuple[tuple[str, str, tuple[str, Scale] | None, Callable[[pd.DataFrame], charts.Spec]], ...] = (
    ("energy", "Energy of each layer by component", ("energy_pj", ENERGY_PJ), charts.energy),
    ("cycles", "Cycles of each layer by what an average unit does", ("cycles", COUNT), charts.cycles),
    ("roofline", "Roofline: what each layer attains, and what bounds it", None, charts.roofline),
    ("bandwidth", "Bandwidth that each layer uses", None, charts.bandwidth),
    ("storage", "Size of each compressed layer", ("storage_bits", SIZE_BITS), charts.storage),
)
"""Charts of a run: name, caption, by which column the largest layers are shown, what draws it."""


def _more(rows: pd.DataFrame, of: tuple[str, Scale] | None) -> str:
    left = charts.others(rows, *of) if of is not None else ""
    return f" ({left})" if left else ""


def _run(total: Any, rows: pd.DataFrame, place: int, network: Network | None, before: pd.DataFrame | None) -> Run:
    name = str(total["run"])
    figures = []
    if total["able"]:
        figures = [
            Figure(f"{kind}-{place}", f"{caption}{_more(rows, of)}", draw(rows)) for kind, caption, of, draw in CHARTS
        ]
    drawn = [figure for figure in figures if figure.spec["data"]["values"]]
    graph = "" if network is None or network.graph is None else graph_svg(network, rows)
    was = None if before is None else before[before["hardware"] == total["hardware"]]
    return Run(name, summary.of_run(total, rows, was), drawn, graph)


def _structure(rows: pd.DataFrame, network: Network | None) -> list[dict[str, str]]:
    """Return a line per layer of each network: kind, shape, density, granularity, hash."""
    lines = []
    layers = {layer.name: layer for layer in network or ()}
    for _, row in rows.drop_duplicates(["network", "layer"]).head(MAX_ROWS).iterrows():
        layer = layers.get(row["layer"])
        lines.append(
            {
                "layer": str(row["layer"]),
                "kind": str(row["kind"]),
                "shape": _shape(layer) if layer is not None else _of_product(row),
                "vectors": whole(row["vectors"]),
                "density": percent(row["weight_density"]),
                "granularity": str(row["granularity"]),
                "hash": str(row["layer_hash"]),
            }
        )
    return lines


def _of_product(row: pd.Series[Any]) -> str:
    """Return the sizes of a product; - of an operation that is none."""
    return "-" if pd.isna(row["out_features"]) else f"{row['out_features']} x {row['in_features']}"


def _not_simulated(network: Network) -> list[dict[str, str]]:
    """Return a line for each thing that is not simulated, those with a size first, the largest first."""
    sized = [each for _, members in by_kind(network.scope, network.left_out) for each in members]
    return [
        {
            "name": each.name,
            "kind": each.kind or "-",
            "weights": f"{each.weights:,}",
            "macs": "unknown" if each.macs is None else f"{each.macs:,}",
        }
        for each in [*sized, *(each for each in network.left_out if not each.has_size)]
    ][:MAX_ROWS]


def _shape(layer: Layer) -> str:
    """Return the shape of a layer's weights and, of a convolution, its geometry."""
    shape = " x ".join(map(str, layer.weight_shape))
    geometry = layer.convolution
    if geometry is None:
        return shape
    said = [f"on {' x '.join(map(str, geometry.input_hw))}"]
    for name, pair, usual in (
        ("stride", geometry.stride_hw, (1, 1)),
        ("padding", geometry.padding_hw, (0, 0)),
        ("dilation", geometry.dilation_hw, (1, 1)),
    ):
        if pair != usual:
            said.append(f"{name} {pair[0] if pair[0] == pair[1] else pair}")
    if geometry.groups > 1:
        said.append(f"{geometry.groups} groups")
    return f"{shape}, {', '.join(said)}"


def _notes(rows: pd.DataFrame) -> list[str]:
    """Return what a reader has to know before trusting the numbers, as far as the rows tell."""
    said = [f"All sums are {counted}."] if (counted := io_counted(rows)) else []
    for run, mine in rows.groupby("run", sort=False):
        able = supported(mine)
        if beyond := [text for text in dict.fromkeys(able["extrapolated"]) if text != "no"]:
            said.append(f"{run}: prices of its memories lie beyond the data: {', '.join(map(str, beyond))}.")
        if parts := without_pins(able):
            said.append(f"{run}: what the pins of {', '.join(parts)} cost is unknown and in no energy.")
        if (able["capacity"] == "ignore").any():
            said.append(f'{run}: limits of memories and registers are lifted (engine.capacity = "ignore").')
        if slower := int((able["clock_mhz"] < able["full_clock_mhz"]).sum()):
            said.append(f"{run}: its power limit lowers the clock in {slower} of {len(able)} layers.")
    return said
