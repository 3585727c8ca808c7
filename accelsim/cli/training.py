"""Options of training between the steps of pruning, and what a command does with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from accelsim.cli.reading import with_options
from accelsim.pruning.schedule import SCHEDULES

if TYPE_CHECKING:
    import pandas as pd

    from accelsim.network import Network

T = TypeVar("T")

PANEL = "Training between steps; needs PyTorch"
DEFAULT_STEPS, DEFAULT_EPOCHS = 8, 10


@dataclass(frozen=True)
class TrainingOptions:
    """What was typed of training; none of it without `train`."""

    train: str | None = None
    schedule: str | None = None
    steps: int | None = None
    epochs: int | None = None
    plot: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Where the figure goes."""
        return {} if self.plot is None else {"schedule plot": self.plot}

    @property
    def how(self) -> dict[str, Any]:
        """Keywords of `accelsim.gradual.check_schedule`."""
        schedule = self.schedule or "one-shot"
        return {
            "schedule": schedule,
            "steps": self.steps or (1 if schedule == "one-shot" else DEFAULT_STEPS),
            "train": self.train,
        }

    def problems(self, others: Mapping[str, bool]) -> list[str]:
        """Say which options need training, and which of others do not go with it."""
        if self.train is None:
            given = {"--schedule": self.schedule, "--steps": self.steps, "--epochs": self.epochs, "--plot": self.plot}
            return [
                f"{option}: is of training, without which a schedule prunes what one step prunes; add --train digits, "
                "or leave it out"
                for option, value in given.items()
                if value is not None
            ]
        return [f"{option}: does not go with --train yet; leave one of them out" for option, on in others.items() if on]

    def check(self, net: Network, shares: Any, granularity: str, criterion: str) -> None:
        """Raise InputError with every reason why the network cannot be pruned and trained so."""
        if self.train is None:
            return
        from accelsim.gradual import check_schedule

        check_schedule(net, shares, granularity, criterion, **self.how)

    def prune(
        self, net: Network, shares: Any, granularity: str, criterion: str, progress: Callable[[str], None], **how: Any
    ) -> tuple[Network, pd.DataFrame | None]:
        """Return the network pruned, and trained where that was asked for, with its curve.

        how: what else `accelsim.pruned.prune_network` takes.
        """
        if self.train is None:
            from accelsim.pruned import prune_network

            return prune_network(net, granularity, shares, criterion, **how), None
        from accelsim.gradual import prune_gradually

        epochs = DEFAULT_EPOCHS if self.epochs is None else self.epochs
        more = {"epochs": epochs, "seed": how["seed"], "progress": progress}
        return prune_gradually(net, shares, granularity, criterion, **self.how, **more)


def _option(name: str, kind: Any, text: str, **more: Any) -> Any:
    return Annotated[kind | None, typer.Option(name, help=text, rich_help_panel=PANEL, show_default=False, **more)]


_OPTIONS = {
    "train": _option(
        "--train", str, "Train the pruned network on digits, or on labels: its own --inputs with their --labels.",
        metavar="DATA",
    ),
    "schedule": _option(
        "--schedule", str, f"Prune in steps and train after each: {', '.join(SCHEDULES)}.", metavar="NAME"
    ),
    "steps": _option("--steps", int, f"Steps of the schedule; {DEFAULT_STEPS} if not given.", min=1, metavar="N"),
    "epochs": _option("--epochs", int, f"Epochs in each; {DEFAULT_EPOCHS} if not given.", min=0, metavar="N"),
    "plot": _option("--plot", Path, "Draw accuracy against sparsity to this .png, .svg or .pdf.", metavar="FILE"),
}  # fmt: skip


def trains(command: Callable[..., T]) -> Callable[..., T]:
    """Return a command with the options of training; it gets them as one keyword `training`."""
    return with_options(command, _OPTIONS, "training", TrainingOptions)
