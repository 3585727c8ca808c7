"""The networks for scikit-learn's handwritten digits, as PyTorch models, and the images that they learn from."""

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from accelsim.evaluation import digits

SIZES = (64, 300, 100, 10)
CHANNELS = (1, 16, 32, 64)


def load_split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images, training labels, test images, test labels; pixels in [0, 1], classes in equal shares."""
    return tuple(torch.tensor(array) for part in ("train", "test") for array in digits(part))


def lenet_300_100() -> nn.Sequential:
    """Linear layers fc1, fc2, fc3 with a ReLU between each two; inputs (n, 64)."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (inputs, outputs) in enumerate(pairwise(SIZES), start=1):
        if number > 1:
            parts[f"relu{number - 1}"] = nn.ReLU()
        parts[f"fc{number}"] = nn.Linear(inputs, outputs)
    return nn.Sequential(parts)


def convnet() -> nn.Sequential:
    """3 x 3 convolutions conv1 to conv3 with batch norm and ReLU, the last two of stride 2, and fc; inputs (n, 64)."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(image=nn.Unflatten(1, (1, 8, 8)))
    for number, (inputs, outputs) in enumerate(pairwise(CHANNELS), start=1):
        stride = 1 if number == 1 else 2
        parts[f"conv{number}"] = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        parts[f"bn{number}"] = nn.BatchNorm2d(outputs)
        parts[f"relu{number}"] = nn.ReLU()
    parts["flat"] = nn.Flatten()
    parts["fc"] = nn.Linear(4 * CHANNELS[-1], SIZES[-1])
    return nn.Sequential(parts)


def folded(model: nn.Sequential) -> nn.Sequential:
    """A copy in which each convolution has taken in the batch norm behind it, as inference runs it."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for name, part in model.eval().named_children():
        if isinstance(part, nn.BatchNorm2d):
            before = next(reversed(parts))
            parts[before] = nn.utils.fusion.fuse_conv_bn_eval(parts[before], part)
        else:
            parts[name] = part
    return nn.Sequential(parts)
