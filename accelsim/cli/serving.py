"""A step of a language model as it is served: what `accelsim run` does where it is told the length of prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.cli.app import changes_of, chip_of, collect, console, note, reporting, say, say_wrote, write_all
from accelsim.cli.reading import ReadingOptions
from accelsim.errors import collecting, raise_if_any
from accelsim.report.files import check_outputs

if TYPE_CHECKING:
    from accelsim.serving.answer import Answer

PANEL = "A language model as it is served"

PromptOption = Annotated[
    int | None,
    typer.Option(
        "--prompt", metavar="N", help="Tokens of each prompt: run a step of the model.", rich_help_panel=PANEL
    ),
]
OutputOption = Annotated[
    int | None,
    typer.Option("--output-tokens", metavar="N", help="In decode: tokens after each prompt.", rich_help_panel=PANEL),
]
DtypeOption = Annotated[
    str | None, typer.Option("--dtype", metavar="TYPE", help="As fp8, int8 or bf16.", rich_help_panel=PANEL)
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        "--pattern", metavar="N:M", help="Pattern of all blocks: 2:4, the default, or dense.", rich_help_panel=PANEL
    ),
]
ServingOption = Annotated[
    str | None,
    typer.Option("--serving", metavar="NAME", help="vllm, a .toml, or none: hardware alone.", rich_help_panel=PANEL),
]

DEFAULT_DTYPE, DEFAULT_PATTERN, DEFAULT_SERVING = "bf16", "2:4", "vllm"


def check_unasked(given: dict[str, Any]) -> list[str]:
    """Say which options of a step were given though no step was asked for."""
    return [
        f"{option}: belongs to a step of a language model; give --prompt, too"
        for option, value in given.items()
        if value is not None
    ]


def run_step(
    model: str, hardware: str, told: dict[str, Any], outputs: dict[str, Path], unused: dict[str, Any],
    overrides: list[str] | None, reading: ReadingOptions, *, quiet: bool,
) -> None:  # fmt: skip
    """Print a step of a model on each chip, dense beside pruned, and what pruning buys; write the rows."""
    from accelsim.network.decoder import load_model, pruned_by
    from accelsim.serving import Request, load_serving

    wanted = ("--phase", "--batch")
    given = {option: value for option, value in (unused | reading.given).items() if option not in wanted}
    problems = [
        f"{option}: is of no use for a step of a language model; leave it out"
        for option, value in given.items()
        if value is not None
    ]
    pattern = told["pattern"]
    file: Any = collect(problems, load_model, model)
    if file is not None:
        own = file.language_model.pattern
        file = collect(problems, pruned_by, file, pattern or own or DEFAULT_PATTERN, place="--")
    software: Any = collect(problems, load_serving, told["serving"] or DEFAULT_SERVING, place="--")
    changes = collect(problems, changes_of, overrides or [])
    chips: list[Any] = [collect(problems, chip_of, name.strip(), changes) for name in hardware.split(",")]
    if reading.phase is None:
        problems.append("--phase: is missing; give prefill or decode")
    if told["output_tokens"] is not None and reading.phase == "prefill":
        problems.append("--output-tokens: belongs to decode; leave it out, or give --phase decode")
    asked: Any = collect(
        problems,
        lambda: Request(
            phase=reading.phase or "prefill",
            sequences=1 if reading.batch is None else reading.batch,
            prompt=told["prompt"],
            output=1 if told["output_tokens"] is None else told["output_tokens"],
        ),
        place="--",
    )
    collect(problems, check_outputs, outputs)
    raise_if_any(
        dict.fromkeys(
            each.replace("--sequences:", "--batch:").replace("--output:", "--output-tokens:") for each in problems
        )
    )

    rows, said = [], []
    with reporting(len(chips), quiet) as step:
        for chip in chips:
            step(chip.name)
            with collecting(problems, f"{chip.name}: "):
                found, lines = _on(file, chip, told["dtype"] or DEFAULT_DTYPE, asked, software, quiet)
                rows.append(found)
                said.append(lines)
    if not rows or len(chips) == 1:
        raise_if_any(problems)
    import pandas as pd

    table = pd.concat(rows, ignore_index=True)
    write_all(table, outputs)
    if not quiet:
        from accelsim.report.steps import boards_table

        for found, lines in zip(rows, said, strict=True):
            _show(found, lines, asked)
        if len(rows) > 1:
            console().print(boards_table(table))
        unpriced = "energy is not known: kernels between products have no price; without --prompt energy is shown"
        note([unpriced, *problems])
        say_wrote(*outputs.values())


def _on(file: Any, chip: Any, dtype: str, asked: Any, software: Any, quiet: bool) -> tuple[Any, list[str]]:
    """Return the rows of a step on one chip, and the sentences that say what pruning buys there."""
    import pandas as pd

    from accelsim.serving import model_step
    from accelsim.serving.answer import answer, sentences

    pattern = file.language_model.pattern
    patterns = ["", pattern] if pattern and pattern in getattr(chip.engine, "patterns", ()) else [pattern]
    table = pd.concat(
        [model_step(file, chip, dtype, each, **vars(asked), serving=software) for each in patterns], ignore_index=True
    )
    if quiet or len(patterns) < 2:
        return table, []
    found: Answer = answer(file.language_model, chip, dtype, asked, software)
    return table, [f"{chip.name}: {each}" for each in sentences(found)]


def _show(table: Any, said: list[str], asked: Any) -> None:
    """Print a step on one chip."""
    from accelsim.report.steps import step_table, step_title

    console().print(step_title(table))
    console().print(step_table(table))
    say(said)
    if table["steps"].max() > 1.005:
        note(
            [
                f"not all sequences run at once: a token takes {table['steps'].max():.2f} steps, and each sequence "
                f"keeps room for all of its {asked.longest:,} tokens; see docs/silicon.md"
            ]
        )
    console().print()
