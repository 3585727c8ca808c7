"""Commands that prune: prune, sensitivity, allocate."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.cli.app import (
    DensityOption,
    EndsOption,
    NetworkArgument,
    SetOption,
    WeightsOption,
    app,
    checked_seed,
    collect,
    console,
    load,
    note,
    reporting,
    say_left_out,
    say_wrote,
    write_all,
)
from accelsim.cli.outputs import Tables, writes_table
from accelsim.cli.reading import ReadingOptions, runs_network
from accelsim.cli.scoring import CriterionOption, EvaluateOption
from accelsim.cli.simulating import print_run
from accelsim.cli.training import TrainingOptions, trains
from accelsim.defaults import DEFAULT_CHIP
from accelsim.errors import InputError, raise_if_any
from accelsim.files import check_writable
from accelsim.pruning.spelling import SPELT, WHOLE_CHANNELS
from accelsim.report.files import check_outputs

if TYPE_CHECKING:
    from accelsim.hardware import Hardware
    from accelsim.network import Network

DENSE_NETWORK = "lenet-300-100-digits-dense"

GranularityOption = Annotated[str, typer.Option(help=f"{', '.join(SPELT[:-1])} or {SPELT[-1]}.")]
ScoresOption = Annotated[
    Path | None,
    typer.Option("--scores", help="Keep scores in this JSON file; an interrupted run continues from it."),
]
PruningSeedOption = Annotated[int, typer.Option(min=0, callback=checked_seed, help="Seed of the criterion 'random'.")]
RemoveOption = Annotated[
    bool, typer.Option("--remove", help="Take pruned filters and channels out of the network, in other layers too.")
]

PrunedOption = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output",
        help="The pruned network, in the format it came in: .onnx, or a state dict with its own ending or as "
        ".safetensors; for a shipped network or a network file .safetensors. By default: pruned and that ending.",
    ),
]  # fmt: skip
MasksOption = Annotated[
    str, typer.Option(help="In a state dict: folded (zeros), or weight_mask (NAME_orig, NAME_mask).")
]
RunOnOption = Annotated[
    str | None,
    typer.Option("--hardware", help="Also run it on these chips, separated by commas, and compare with the original."),
]


SparsityOption = Annotated[
    str | None, typer.Option(help="Share of weights to prune: 0.8, or by layer fc1=0.9,fc2=0.8; N:M has its own.")
]
GlobalOption = Annotated[
    bool, typer.Option("--global", help="One threshold over all layers, instead of the same share of each.")
]
UpdateOption = Annotated[
    bool, typer.Option("--update", help="Refit the surviving weights to preserve each layer's outputs.")
]

STILL_THERE = "what was pruned is zero and still there; --remove takes it out, as compare and curve do"

WORTH_SAYING_BYTES = 10**9
"""Memory of one layer that is told beforehand."""


@app.command()
@runs_network
@trains
@writes_table
def prune(
    network: NetworkArgument = DENSE_NETWORK,
    weights: WeightsOption = None,
    granularity: GranularityOption = "fine",
    sparsity: SparsityOption = None,
    overall: GlobalOption = False,
    criterion: CriterionOption = "l1",
    update: UpdateOption = False,
    seed: PruningSeedOption = 0,
    remove: RemoveOption = False,
    ends: EndsOption = False,
    output: PrunedOption = None,
    masks: MasksOption = "folded",
    hardware: RunOnOption = None,
    *,
    training: TrainingOptions,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Prune a network and write it in the format it came in, or to one file that every command reads.

    With --train it is trained, with --schedule after each of several steps; the table is then accuracy by sparsity.
    """
    from accelsim.network.handed_back import default_target, is_handed_back

    problems: list[str] = []
    source = weights or Path(network)
    output = output or default_target(source)
    is_back = bool(collect(problems, is_handed_back, source, output))
    # Put into a network that has more to say, they go back only into their own form.
    is_back = is_back and (weights is None or weights.suffix == output.suffix)
    bare = is_back and weights is None and hardware is None and training.train is None
    net, chips = load(problems, network, hardware or DEFAULT_CHIP, None, None, weights, reading, weights_alone=bare)
    shares = collect(problems, _sparsities, sparsity)
    if not os.path.isdir(output):
        collect(problems, check_writable, output)
    collect(problems, check_outputs, outputs := tables.files | training.files)
    problems += training.problems({"--update": update, "--remove": remove, "--ends": ends})
    problems += _of_masks(masks, output, is_dict=is_back and source.suffix != ".onnx")
    problems += _of_removal(net, source, output, masks, is_back=is_back) if remove else []
    problems += _of_channels_alone(granularity, remove, ends) + _of_global(overall, shares)
    if net is not None:
        collect(problems, training.check, net, shares, granularity, criterion)
    raise_if_any(problems)
    note(net.assumptions)

    from accelsim.allocation import global_sparsities
    from accelsim.inspection import inspect
    from accelsim.network.handed_back import hand_back
    from accelsim.network.samples import with_known_inputs
    from accelsim.pruned import shrunk
    from accelsim.report import terminal

    _say_memory(net, update)
    with reporting(len(net) if training.train is None else 2 * training.how["steps"], quiet=False) as step:
        if overall and isinstance(shares, float):
            shares = global_sparsities(net, shares, granularity, criterion, seed=seed)
        net = with_known_inputs(net)
        how = {"update": update, "seed": seed, "ends": ends}
        pruned, curve = training.prune(net, shares, granularity, criterion, step, **how)
        whole, pruned = pruned, shrunk(pruned, ends=ends) if remove else pruned
        table = inspect(pruned, step)  # before it may take the place of the file that it comes from
    show = _beside(pruned, net, output.stem, chips if hardware else ())
    said: list[str] = []
    with reporting(1, quiet=False) as step:
        step("writing")
        if is_back:
            told = reading.keywords() if weights is None else reading.keywords_beside(weights, network)[1]
            said = hand_back(
                whole, source, output, into=net if weights else None, masks=masks, remove=remove, ends=ends, **told
            )
        else:
            _save(pruned, source, output)
    write_all(table if curve is None else curve, outputs)
    console().print(terminal.inspection_table(pruned.name, table))
    if curve is not None:
        console().print(terminal.schedule_table(curve))
    show()
    note([*said, *([STILL_THERE] if granularity in WHOLE_CHANNELS and not remove else [])])
    say_wrote(output, *outputs.values())


def _say_memory(net: Network, update: bool) -> None:
    """Say how much memory new values for surviving weights need, where they are asked for and that is much."""
    from accelsim.pruned import update_bytes

    layer, needed = update_bytes(net)
    if update and needed > WORTH_SAYING_BYTES:
        note([f"--update: needs about {needed / 1e9:.1f} GB of memory, for layer {layer}"])


def _save(pruned: Network, source: Path, output: Path) -> None:
    """Write a network in this package's own form, and what it came from."""
    from accelsim.network.writer import PARENT

    if source.suffix:  # a shipped network goes by its name
        pruned = replace(pruned, provenance={**pruned.provenance, PARENT: str(source)})
    pruned.save(output)


def _of_removal(net: Network | None, source: Path, output: Path, masks: str, *, is_back: bool) -> list[str]:
    """Say why channels cannot be taken out of what is written."""
    from accelsim.network.handed_back import cannot_remove

    if is_back and source.suffix != ".onnx" and net is not None:
        return [*cannot_remove(net, str(source), masks)]
    if not is_back and output.suffix != ".safetensors":
        return [f"--remove: changes shapes, and {output} would have to keep them; write a .safetensors"]
    return []


def _of_masks(masks: str, output: Path, *, is_dict: bool) -> list[str]:
    """Say what is wrong with --masks."""
    from accelsim.network.handed_back import MASKS

    if masks not in MASKS:
        return [f"--masks {masks}: is {' or '.join(MASKS)}"]
    if masks != "folded" and not is_dict:
        return [f"--masks {masks}: is for state dicts, and {output} will not be one; leave it out"]
    return []


def _beside(pruned: Network, net: Network, name: str, chips: Sequence[Hardware]) -> Callable[[], None]:
    """Run what was pruned, by this name, and what it came from, where there are chips; returns what prints both."""
    from accelsim.simulation import simulate

    if not chips:
        return lambda: say_left_out(pruned)
    with reporting(2 * len(net), quiet=False) as step:
        results = simulate(replace(pruned, name=name), chips, progress=step)
        others = simulate(net, chips, progress=step)
    return lambda: print_run(results, others, pruned, net, chips)


def _of_global(overall: bool, shares: Any) -> list[str]:
    """Say what is wrong with --global."""
    by_layer = overall and isinstance(shares, dict)
    return ["--global: takes one --sparsity for all layers, not one by layer"] if by_layer else []


def _of_channels_alone(granularity: str, remove: bool, ends: bool) -> list[str]:
    """Say which options are of whole channels where none are pruned."""
    return [
        f"{option}: applies to channels, and '{granularity}' prunes none; choose --granularity channel or filter, or "
        "leave it out"
        for option, given in (("--remove", remove), ("--ends", ends))
        if given and granularity not in WHOLE_CHANNELS
    ]


@app.command("sensitivity")
@runs_network
@writes_table
def sensitivity_command(
    network: NetworkArgument = DENSE_NETWORK,
    granularity: GranularityOption = "fine",
    sparsity: Annotated[str, typer.Option(help="Shares of weights to prune, separated by commas.")] = (
        "0.3,0.5,0.6,0.7,0.8,0.85,0.9,0.95"
    ),
    criterion: CriterionOption = "l1",
    evaluate: EvaluateOption = None,
    seed: PruningSeedOption = 0,
    scores: ScoresOption = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the scores to this .png, .svg or .pdf.")] = None,
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Prune one layer at a time, and show what each loses at each sparsity."""
    outputs = tables.files | ({} if plot is None else {"sensitivity plot": plot})
    problems: list[str] = []
    net: Any = load(problems, network, DEFAULT_CHIP, None, None, reading=reading)[0]
    shares: Any = collect(problems, _shares, sparsity)
    collect(problems, check_outputs, outputs)
    collect(problems, _check_scores, scores)
    raise_if_any(problems)
    note(net.assumptions)

    from accelsim.allocation import sensitivity
    from accelsim.evaluation import default_evaluation, meaning_of
    from accelsim.report import terminal

    with reporting(len(net) * len(shares), quiet=False) as step:
        table = sensitivity(
            net, granularity, shares, criterion, evaluate=evaluate, seed=seed, store=scores, progress=step
        )
    write_all(table, outputs)
    console().print(terminal.sensitivity_table(table, meaning_of(evaluate or default_evaluation(net))))
    say_left_out(net)
    say_wrote(*outputs.values())


@app.command("allocate")
@runs_network
@writes_table
def allocate_command(
    network: NetworkArgument = DENSE_NETWORK,
    hardware: Annotated[str, typer.Option(help="The chip: name of a shipped one, or a .toml file.")] = DEFAULT_CHIP,
    budget: Annotated[
        str,
        typer.Option(
            help="Budget in cycles, time_us, energy_pj or storage_bits: METRIC=NUMBER, or METRIC=60% of unpruned."
        ),
    ] = "time_us=60%",
    granularity: GranularityOption = "fine",
    criterion: CriterionOption = "l1",
    evaluate: EvaluateOption = None,
    steps: Annotated[int, typer.Option(min=1, help="The fewest steps in which to reach the budget.")] = 20,
    overrides: SetOption = None,
    density: DensityOption = None,
    seed: PruningSeedOption = 0,
    scores: ScoresOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the pruned network to this .safetensors file.")
    ] = None,
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Choose how much of each layer to prune, to meet a budget on a chip and lose least."""
    problems: list[str] = []
    net, chips = load(problems, network, hardware, overrides, density, reading=reading)
    if len(chips) > 1:
        problems.append(f"--hardware {hardware}: takes one chip")
    wanted: Any = collect(problems, _budget, budget)
    collect(problems, check_outputs, tables.files)
    collect(problems, _check_scores, scores)
    if output is not None:
        collect(problems, check_writable, output)
    raise_if_any(problems)
    note(net.assumptions)

    from accelsim.allocation import allocate, cost
    from accelsim.evaluation import default_evaluation, meaning_of
    from accelsim.report import terminal

    metric, number, is_share = wanted
    with reporting(steps, quiet=False) as step:
        limit = number * cost(net, chips[0], metric, density) if is_share else number
        found = allocate(
            net, chips[0], limit, metric, granularity, criterion,
            steps=steps, evaluate=evaluate, activations=density, seed=seed, store=scores, progress=step,
        )  # fmt: skip
    write_all(found.steps, tables.files)
    if output is not None:
        found.network.save(output)
    console().print(terminal.allocation_table(found, metric, limit, meaning_of(evaluate or default_evaluation(net))))
    say_left_out(net)
    say_wrote(*tables.files.values(), *([] if output is None else [output]))


def _sparsities(text: str | None) -> float | dict[str, float] | None:
    """Read 0.8, or fc1=0.9,fc2=0.8."""
    if text is None:
        return None
    if "=" not in text:
        return _share(text)
    pairs = [pair.partition("=") for pair in text.split(",")]
    return {name.strip(): _share(share) for name, _, share in pairs}


def _shares(text: str) -> list[float]:
    return [_share(part) for part in text.split(",")]


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise InputError(f"--sparsity {text}: must be a number, at least 0 and below 1, such as 0.8")
    return share


def _budget(text: str) -> tuple[str, float, bool]:
    """Read METRIC=NUMBER or METRIC=NUMBER%; returns metric, number, and whether it is a share."""
    metric, equals, number = text.partition("=")
    is_share = number.endswith("%")
    try:
        value = float(number.removesuffix("%")) / (100 if is_share else 1)
    except ValueError:
        value = 0.0
    if not equals or not value > 0:
        from accelsim.allocation import METRICS

        raise InputError(
            f"--budget {text}: write METRIC=NUMBER or METRIC=NUMBER%, as in energy_pj=50%, of {', '.join(METRICS)}"
        )
    return metric.strip(), value, is_share


def _check_scores(path: Path | None) -> None:
    if path is not None:
        check_writable(path)
