"""Small pruned networks with real weights: LeNet-300-100 and a ConvNet on scikit-learn's handwritten digits.

Trains 64-300-100-10 with ReLU, and three convolutions with batch norm, on 8x8 images, prunes them by magnitude (Han et
al., "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015), and writes each pruned network
and its dense parent as a safetensors file with a TOML file that describes it.

    python workloads/make_digits.py [--out DIR] [--seed 0]

It needs accelsim with torch, and takes about a minute on one core. Every x86 processor gives identical files: the
arithmetic libraries are held to the instructions that all of them have, because other instructions round otherwise, and
that moves the pruned ConvNet by up to three of its 450 test images. Another torch may still round differently. The
shipped files were made before the libraries were held, so what is made now differs from them by rounding.
"""

import argparse
import copy
import json
import os
from dataclasses import replace
from pathlib import Path

# Read by MKL and by torch when they are loaded.
os.environ |= {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"}

import torch
from digits_models import convnet, folded, lenet_300_100, load_split
from network_file import toml_text, write_whole
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelsim import Network
from accelsim.pruning.training import Training, prune_and_train
from accelsim.pruning.training import accuracy as model_accuracy

NAME = "lenet-300-100-digits"
# The densities that Han et al. reached for LeNet-300-100 (their Table 2). The last layer has few weights and each
# one carries much of a decision, so it keeps a larger share.
DENSITIES = {"fc1": 0.08, "fc2": 0.09, "fc3": 0.26}

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


def provenance_toml(name: str, accuracy_dense: str, accuracy_pruned: str) -> str:
    """What a network states: its parent, and accuracies as text that every run writes alike."""
    parent = "" if name.endswith("-dense") else f'pruned_from = "{name}-dense"\n'
    return f'\n[provenance]\n{parent}accuracy_dense = "{accuracy_dense}"\naccuracy_pruned = "{accuracy_pruned}"\n'


def as_toml(name: str, description: str, notes: str, network: nn.Sequential, provenance: str) -> str:
    """The description of one network, pointing into its safetensors file."""
    text = "# Written by make_digits.py: change the script, not this file.\n\n"
    text += f'name = "{name}"\n'
    text += toml_text("description", description) + toml_text("source", SOURCE) + toml_text("notes", notes)
    text += provenance
    for layer in linear_layers(network):
        text += f'\n[[layer]]\nname = "{layer}"\nkind = "linear"\n'
        text += "".join(f'{part} = "{name}.safetensors:{layer}.{part}"\n' for part in ("weight", "bias", "activations"))
    return text


def percentages(shares: dict[str, float]) -> str:
    """Shares in words, such as fc1 8.0 %, fc2 9.0 %."""
    return ", ".join(f"{name} {share:.1%}".replace("%", " %") for name, share in shares.items())


CONVNET = "convnet-digits"
CONVNET_SPARSITIES = {"conv2": 0.85, "conv3": 0.85, "fc": 0.8}
"""The first convolution has 0.5 % of the weights and is left alone, as is usual."""


def make_convnet(out: Path, seed: int) -> None:
    """Train and prune the ConvNet with accelsim's own tools, and write both networks."""
    train_images, train_labels, test_images, test_labels = load_split()
    torch.manual_seed(seed)
    dense = convnet()
    for epochs, rate in ((30, 0.05), (10, 0.005)):
        Training(inputs=train_images, labels=train_labels, epochs=epochs, learning_rate=rate, seed=seed).fit(dense)
    pruned = copy.deepcopy(dense)
    steps = Training(inputs=train_images, labels=train_labels, epochs=8, learning_rate=0.05, seed=seed)
    prune_and_train(pruned, steps, "fine", CONVNET_SPARSITIES, schedule="cubic", steps=10)
    accuracy_dense, accuracy_pruned = (model_accuracy(model, test_images, test_labels) for model in (dense, pruned))
    accuracies = (
        f"Accuracy on {len(test_labels)} test images: dense {accuracy_dense:.2%}, pruned {accuracy_pruned:.2%}."
    ).replace("%", " %")
    print(accuracies)
    summaries = {
        CONVNET: ("pruned by magnitude and fine-tuned step by step", pruned),
        f"{CONVNET}-dense": (f"before pruning, the parent of {CONVNET}", dense),
    }
    for name, (state, model) in summaries.items():
        captured = Network.from_torch(folded(model), test_images[:SHIPPED_IMAGES], name=name)
        zeros = sum(int((layer.weight == 0).sum()) for layer in captured)
        sparsity = zeros / sum(layer.weight.size for layer in captured)
        network = replace(
            captured,
            description=(
                f"Three 3x3 convolutions, batch norms folded in, and a linear layer for 8x8 digits, {state}. "
                f"The activations are those of {SHIPPED_IMAGES} test images."
            ),
            source=SOURCE,
            notes=f"{accuracies} Of the weights, {100 * sparsity:.1f} % are zero.",
            provenance={
                "accuracy_dense": f"{accuracy_dense:.4f}",
                "accuracy_pruned": f"{accuracy_pruned:.4f}",
                "sparsity": f"{sparsity:.4f}",
                "seed": seed,
                "script": Path(__file__).name,
                "torch": torch.__version__,
            },
        )
        network.save(out / f"{name}.safetensors")
        write_whole(out / f"{name}.toml", network_toml(network).encode())
        print(f"{name}: {network.notes}")


def network_toml(network: Network) -> str:
    """The description of a network, pointing into its safetensors file."""
    text = "# Written by make_digits.py: change the script, not this file.\n\n"
    text += f'name = "{network.name}"\n'
    text += "".join(toml_text(key, getattr(network, key)) for key in ("description", "source", "notes"))
    text += provenance_toml(network.name, network.provenance["accuracy_dense"], network.provenance["accuracy_pruned"])
    for layer in network:
        text += f'\n[[layer]]\nname = "{layer.name}"\nkind = "{layer.kind}"\n'
        if layer.convolution is not None:
            geometry = layer.convolution
            pairs = {"input_hw": geometry.input_hw, "stride": geometry.stride_hw, "padding": geometry.padding_hw}
            text += "".join(f"{key} = {list(pair)}\n" for key, pair in pairs.items())
        parts = ("weight", "bias", "activations")
        text += "".join(f'{part} = "{network.name}.safetensors:{layer.name}.{part}"\n' for part in parts)
    return text


def main() -> None:
    """Train, prune, write the networks, and say how good they are."""
    parser = argparse.ArgumentParser(description="Train and prune networks on scikit-learn's digits.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and of the order of the batches")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    torch.backends.mkldnn.enabled = False  # its kernels are chosen by processor
    torch.set_num_threads(1)  # the order of a parallel sum depends on the number of threads

    train_images, train_labels, test_images, test_labels = load_split()
    dense = lenet_300_100()
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
        stated = provenance_toml(name, f"{accuracy_dense:.4f}", f"{accuracy_pruned:.4f}")
        write_whole(options.out / f"{name}.toml", as_toml(name, description, notes, network, stated).encode())
        print(f"{name}: {len(content):,} bytes. {notes}")
    make_convnet(options.out, options.seed)


if __name__ == "__main__":
    main()
