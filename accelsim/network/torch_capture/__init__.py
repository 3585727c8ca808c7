"""Networks from PyTorch models: what one forward pass multiplies, and by what."""
