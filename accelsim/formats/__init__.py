"""How sparse weights are stored: encode, decode and size."""
