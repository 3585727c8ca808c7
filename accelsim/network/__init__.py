"""What runs on a chip: layers, networks, and the files they come from."""

from accelsim.network.activations import Density
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut, Scope
from accelsim.network.network import Network
from accelsim.network.readers import load_network, load_weights
from accelsim.network.specs import NetworkSpec
from accelsim.network.weights import with_weights

__all__ = [
    "Density",
    "Layer",
    "LeftOut",
    "Network",
    "NetworkSpec",
    "Scope",
    "load_network",
    "load_weights",
    "with_weights",
]
