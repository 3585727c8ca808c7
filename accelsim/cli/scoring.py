"""What ranks weights and what scores a pruned network, as options of every command that prunes."""

from __future__ import annotations

from typing import Annotated

import typer

CRITERIA = ("l1", "l2", "scale", "obd", "obs", "wanda", "apoz", "regression", "random")
"""Names of `accelsim.pruning.CRITERIA`; here, so that the help of commands loads nothing heavy."""

CriterionOption = Annotated[
    str,
    typer.Option(
        "--criterion",
        help="What ranks groups of weights: l1 (magnitude), l2, scale (of batch norms), "
        f"{', '.join(CRITERIA[3:-1])} or {CRITERIA[-1]}.",
    ),
]
EvaluateOption = Annotated[
    str | None,
    typer.Option(
        "--evaluate",
        help="What scores a pruned network: labels (share of --inputs classified correctly), fidelity (how close its "
        "outputs stay), digits, digits-train, or file.py:function.",
        show_default=False,
    ),
]
