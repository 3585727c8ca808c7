"""Networks from PyTorch models: what one forward pass multiplies, and by what."""

from accelsim.network.torch_capture.capture import Captured, capture

__all__ = ["Captured", "capture"]
