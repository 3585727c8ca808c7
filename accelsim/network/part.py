"""Some layers of a network, which still runs whole: what they see does not depend on which are chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from accelsim.network.executor import Expected, Seen

if TYPE_CHECKING:
    from accelsim.network.network import Network


@dataclass(frozen=True)
class Part:
    """Runs all layers of a network, and hands over what those see that are asked for."""

    network: Network
    """With all of its layers."""

    @property
    def runtime(self) -> str:
        """What computes."""
        return self.network.runtime.runtime

    @property
    def expected(self) -> Mapping[str, Expected]:
        """The inputs that the network takes."""
        return self.network.runtime.expected

    def batched(self, inputs: Mapping[str, NDArray[Any]]) -> int:
        """Return how many samples inputs hold; raises InputError with every problem."""
        return self.network.runtime.batched(inputs)

    def seen(self, network: Network, inputs: Mapping[str, NDArray[Any]], *, outputs: bool = False) -> Iterator[Seen]:
        """Go through what the layers of a part see, in order."""
        wanted = {layer.name for layer in network}
        return (
            each
            for each in self.network.runtime.seen(self._whole(network), inputs, outputs=outputs)
            if each.layer in wanted
        )

    def answers(self, network: Network, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return the first output of the whole network."""
        return self.network.runtime.answers(self._whole(network), inputs)

    def _whole(self, part: Network) -> Network:
        """Return the network with the layers of a part in place of its own."""
        own = {layer.name: layer for layer in part}
        return replace(self.network, layers=[own.get(layer.name, layer) for layer in self.network])
