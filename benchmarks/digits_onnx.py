"""A small residual network as an ONNX file: `python -m benchmarks.digits_onnx` trains it on digits and writes it.

It lies at docs/data/residual-digits.onnx. Training does not repeat to the last bit on another machine, the file is what
figures are made of. Needs torch, onnx and onnxscript.
"""

from __future__ import annotations

import sys
from pathlib import Path

from accelsim.evaluation import digits
from benchmarks.documents import ROOT

FILE = ROOT / "docs" / "data" / "residual-digits.onnx"
SEED, EPOCHS, BATCH = 0, 20, 64


def main() -> None:
    """Train the network and write it to FILE, or where the first argument says."""
    import torch
    from torch import nn

    class Residual(nn.Module):  # type: ignore[misc]
        """Two convolutions, added to what enters them."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(channels, channels, 3, padding=1)
            self.second = nn.Conv2d(channels, channels, 3, padding=1)

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            """Return (batch, channels, height, width), as it takes."""
            return torch.relu(given + self.second(torch.relu(self.first(given))))

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), Residual(16), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), Residual(32), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )  # fmt: skip
    (pixels, labels), (unseen, wanted) = (
        (torch.tensor(images).reshape(-1, 1, 8, 8), torch.tensor(classes))
        for images, classes in (digits("train"), digits("test"))
    )
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(pixels)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(pixels[chosen]), labels[chosen]).backward()
            optimiser.step()
    model.eval()
    print(f"accuracy on digits that it has not seen: {(model(unseen).argmax(1) == wanted).float().mean():.1%}")
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    torch.onnx.export(
        model, (unseen[:2],), str(target), input_names=["image"], output_names=["classes"], external_data=False,
        dynamic_shapes=({0: torch.export.Dim("samples")},), verbose=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
