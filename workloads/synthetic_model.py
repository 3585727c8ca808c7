"""Language models by their sizes alone, as files."""

import json
from dataclasses import dataclass, field, replace

NOTES = (
    "Weights are drawn, and biases left out. One inference is a sequence as long as the context. Splitting the model "
    "over several chips (tensor parallelism) is left out: all of it runs on one."
)


@dataclass(frozen=True)
class Sizes:
    """A language model: what it is, where its sizes are from, and the sizes as keys of a file."""

    name: str
    description: str
    source: str
    sizes: dict[str, int]
    vocabulary: int
    context: int
    tied: bool = False
    more: dict[str, str] = field(default_factory=dict)
    """Further keys, as TOML writes their values."""

    def pruned(self, pattern: str) -> "Sizes":
        """The model with all weights of its blocks pruned N:M: a study of speed, no published pruning."""
        return replace(
            self,
            name=f"{self.name}-{pattern.replace(':', 'to')}",
            description=f"{self.description} All weights of its blocks are pruned {pattern}: a study of speed.",
            more={**self.more, "pattern": json.dumps(pattern)},
        )

    @property
    def toml(self) -> str:
        """The file."""
        keys = {**self.sizes, "vocabulary": self.vocabulary, "context": self.context, "tied": json.dumps(self.tied)}
        lines = [
            "# Written by make_networks.py: change the script, not this file.",
            *(f"{key} = {json.dumps(getattr(self, key))}" for key in ("name", "description", "source")),
            f"notes = {json.dumps(NOTES)}",
            "",
            "[language_model]",
            *(f"{key} = {value}" for key, value in {**keys, **self.more}.items()),
        ]
        return "\n".join(lines) + "\n"
