"""What runs on a chip: layers, networks, and the files they come from."""

from accelsim.network.layer import Density, Layer, Network
from accelsim.network.readers import NetworkSpec, load_network

__all__ = ["Density", "Layer", "Network", "NetworkSpec", "load_network"]
