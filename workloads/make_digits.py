"""A small pruned network with real weights: LeNet-300-100 on scikit-learn's handwritten digits.

Trains 64-300-100-10 with ReLU on 8x8 images, prunes it by magnitude (Han et al., "Learning both Weights and
Connections for Efficient Neural Networks", NIPS 2015), and writes the pruned network and its dense parent, each as a
safetensors file with a TOML file that describes it.

    python workloads/make_digits.py [--out DIR] [--seed 0]

It needs torch, scikit-learn and safetensors, and takes about twenty seconds on one core. Two runs on one machine give
identical files. Another processor or another torch may round differently, which changes the weights and can move the
accuracy by an image or two.
"""

import argparse
import copy
import json
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path

import torch
from network_file import toml_text, write_whole
from safetensors.torch import save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

NAME = "lenet-300-100-digits"
SIZES = (64, 300, 100, 10)
# The densities that Han et al. reached for LeNet-300-100 (their Table 2). The last layer has few weights and each
# one carries much of a decision, so it keeps a larger share.
DENSITIES = {"fc1": 0.08, "fc2": 0.09, "fc3": 0.26}

TEST_SHARE = 0.25
SPLIT_SEED = 0  # not the --seed: runs with different seeds stay comparable
BATCH_SIZE = 32
LEARNING_RATE = 0.05
FINE_TUNING_RATE = LEARNING_RATE / 10
# L2 regularisation, as in Han et al. Chosen on held-out training images, not on the test set: pruning cost 0.15 points
# of accuracy there (mean of 8 seeds), and 0.6 points with 1e-4.
WEIGHT_DECAY = 5e-4
DENSE_EPOCHS = 60
PRUNING_STEPS = 10
EPOCHS_PER_STEP = 20
SHIPPED_IMAGES = 16

SOURCE = (
    "Trained and pruned by make_digits.py. Images: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten "
    "Digits, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49 (CC BY 4.0), as packaged by scikit-learn. "
    "Method and target densities: Han et al., NIPS 2015."
)


def load_split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images, training labels, test images, test labels; pixels in [0, 1], classes in equal shares."""
    digits = load_digits()
    images = torch.tensor(digits.data / 16.0, dtype=torch.float32)
    labels = torch.tensor(digits.target, dtype=torch.int64)
    train, test = train_test_split(range(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=SPLIT_SEED)
    return images[train], labels[train], images[test], labels[test]


def build_network() -> nn.Sequential:
    """Linear layers fc1, fc2, fc3 with a ReLU between each two."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (inputs, outputs) in enumerate(pairwise(SIZES), start=1):
        if number > 1:
            parts[f"relu{number - 1}"] = nn.ReLU()
        parts[f"fc{number}"] = nn.Linear(inputs, outputs)
    return nn.Sequential(parts)


def linear_layers(network: nn.Sequential) -> dict[str, nn.Linear]:
    """The layers that hold weights, by name."""
    return {name: part for name, part in network.named_children() if isinstance(part, nn.Linear)}


@torch.no_grad()
def apply_masks(network: nn.Sequential, masks: dict[str, Tensor]) -> None:
    """Set every weight outside its mask to zero."""
    for name, mask in masks.items():
        # A product would leave -0.0 where a negative weight was.
        linear_layers(network)[name].weight.masked_fill_(~mask, 0.0)


def train(
    network: nn.Sequential, images: Tensor, labels: Tensor, epochs: int, rate: float, masks: dict[str, Tensor]
) -> None:
    """Stochastic gradient descent in place; weights outside the masks stay zero."""
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=WEIGHT_DECAY)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(BATCH_SIZE):
            optimizer.zero_grad()
            cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
            apply_masks(network, masks)


@torch.no_grad()
def magnitude_masks(network: nn.Sequential, densities: dict[str, float]) -> dict[str, Tensor]:
    """Per layer, True for the largest weights by magnitude, as many as the layer's own density says."""
    masks = {}
    for name, density in densities.items():
        magnitude = linear_layers(network)[name].weight.abs()
        kept = magnitude.flatten().topk(round(density * magnitude.numel())).indices
        masks[name] = torch.zeros(magnitude.numel(), dtype=torch.bool).index_fill(0, kept, True).view_as(magnitude)
    return masks


def prune(network: nn.Sequential, images: Tensor, labels: Tensor) -> nn.Sequential:
    """A pruned copy of the network: threshold and fine-tuning in turn, down to DENSITIES."""
    pruned = copy.deepcopy(network)
    for step in range(1, PRUNING_STEPS + 1):
        # Cubic decay (Zhu and Gupta, 2017): large cuts while much is redundant, small ones near the end.
        left = (1 - step / PRUNING_STEPS) ** 3
        masks = magnitude_masks(pruned, {name: final + (1 - final) * left for name, final in DENSITIES.items()})
        apply_masks(pruned, masks)
        train(pruned, images, labels, EPOCHS_PER_STEP, FINE_TUNING_RATE, masks)
    return pruned


@torch.no_grad()
def accuracy(network: nn.Sequential, images: Tensor, labels: Tensor) -> float:
    """Share of images whose largest output is the true class."""
    return torch.count_nonzero(network(images).argmax(dim=1) == labels).item() / len(labels)


@torch.no_grad()
def layer_inputs(network: nn.Sequential, images: Tensor) -> dict[str, Tensor]:
    """What each linear layer sees for these images, (batch, in_features)."""
    seen = {}
    signal = images
    for name, part in network.named_children():
        if isinstance(part, nn.Linear):
            seen[name] = signal
        signal = part(signal)
    return seen


def density(values: Tensor) -> float:
    """Share of values that are not zero."""
    return torch.count_nonzero(values).item() / values.numel()


def total_sparsity(network: nn.Sequential) -> float:
    """Share of zeros among all weights; biases are not counted."""
    return 1.0 - density(torch.cat([layer.weight.flatten() for layer in linear_layers(network).values()]))


def as_safetensors(network: nn.Sequential, images: Tensor, labels: Tensor, metadata: dict[str, str]) -> bytes:
    """Weights, biases, the inputs of each layer for these images, and the true labels."""
    tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    for name, inputs in layer_inputs(network, images).items():
        tensors[f"{name}.activations"] = inputs.clone()
    tensors["labels"] = labels.clone()
    return sort_metadata(save(tensors, metadata))


def sort_metadata(content: bytes) -> bytes:
    """The same safetensors file with its metadata in alphabetical order.

    The library writes the entries in the order of a hash map that differs from run to run.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format keeps the tensors aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def as_toml(name: str, description: str, notes: str, network: nn.Sequential) -> str:
    """The description of one network, pointing into its safetensors file."""
    text = "# Written by make_digits.py: change the script, not this file.\n\n"
    text += f'name = "{name}"\n'
    text += toml_text("description", description) + toml_text("source", SOURCE) + toml_text("notes", notes)
    for layer in linear_layers(network):
        text += f'\n[[layer]]\nname = "{layer}"\nkind = "linear"\n'
        text += "".join(f'{part} = "{name}.safetensors:{layer}.{part}"\n' for part in ("weight", "bias", "activations"))
    return text


def percentages(shares: dict[str, float]) -> str:
    """Shares in words, such as fc1 8.0 %, fc2 9.0 %."""
    return ", ".join(f"{name} {share:.1%}".replace("%", " %") for name, share in shares.items())


def main() -> None:
    """Train, prune, write both networks, and say how good they are."""
    parser = argparse.ArgumentParser(description="Train and prune LeNet-300-100 on scikit-learn's digits.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and of the order of the batches")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the order of a parallel sum depends on the number of threads

    train_images, train_labels, test_images, test_labels = load_split()
    dense = build_network()
    train(dense, train_images, train_labels, DENSE_EPOCHS, LEARNING_RATE, masks={})
    pruned = prune(dense, train_images, train_labels)

    accuracy_dense = accuracy(dense, test_images, test_labels)
    accuracy_pruned = accuracy(pruned, test_images, test_labels)
    accuracies = (
        f"Accuracy on {len(test_labels)} test images: dense {accuracy_dense:.2%}, pruned {accuracy_pruned:.2%}."
    ).replace("%", " %")
    print(accuracies)

    summaries = {
        NAME: ("pruned by magnitude and fine-tuned", pruned),
        f"{NAME}-dense": (f"before pruning, the parent of {NAME}", dense),
    }
    images, labels = test_images[:SHIPPED_IMAGES], test_labels[:SHIPPED_IMAGES]
    for name, (state, network) in summaries.items():
        sparsity = total_sparsity(network)
        weight_densities = {layer: density(part.weight) for layer, part in linear_layers(network).items()}
        input_densities = {layer: density(seen) for layer, seen in layer_inputs(network, images).items()}
        description = (
            f"LeNet-300-100 for 8x8 handwritten digits (64 inputs instead of MNIST's 784), {state}. "
            f"The activations are those of {SHIPPED_IMAGES} test images."
        )
        notes = (
            f"{accuracies} Weight density: {percentages(weight_densities)}; {percentages({'in all': 1 - sparsity})}. "
            f"Activation density at the input: {percentages(input_densities)}."
        )
        metadata = {
            "accuracy_dense": f"{accuracy_dense:.4f}",
            "accuracy_pruned": f"{accuracy_pruned:.4f}",
            "sparsity": f"{sparsity:.4f}",
            "seed": str(options.seed),
            "script": Path(__file__).name,
            "torch": torch.__version__,
        }
        content = as_safetensors(network, images, labels, metadata)
        write_whole(options.out / f"{name}.safetensors", content)
        write_whole(options.out / f"{name}.toml", as_toml(name, description, notes, network).encode())
        print(f"{name}: {len(content):,} bytes. {notes}")


if __name__ == "__main__":
    main()
