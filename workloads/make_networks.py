"""Network files with published shapes and densities, and synthetic weights.

    python workloads/make_networks.py [--out DIR]

Writes one TOML file per network, the same bytes each time. Shapes are those of the papers that are named in each
file. Densities are published ones where there are any; elsewhere every weight and activation is there (1.0).
"""

import argparse
from pathlib import Path

from network_file import write_whole
from synthetic_network import Layer, Network, as_toml, conv, linear, share

HAN = 'S. Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015'
HAN_INPUTS = (
    "The paper gives the density of the outputs of a layer; an input density here is that of the layer before, "
    "although pooling between the two can raise it. The image counts as dense."
)
NO_PRUNING = "Every weight is there (density 1.0), a baseline to prune: no published densities of its layers are taken."
RELU_BOUND = (
    "Activations count as dense (1.0), an upper bound: ReLU makes some of them zero, and no published densities of its "
    "layers are taken."
)
DENSE_ACTIVATIONS = "Activations are dense (1.0) in truth as well: there is no ReLU that would make them zero."


def lenet_5() -> Network:
    """LeNet-5 as it ships with Caffe."""
    layers = [
        conv("conv1", (1, 20), 5, 28, density=0.66),
        conv("conv2", (20, 50), 5, 12, density=0.12, input_density=0.82),
        linear("fc1", 800, 500, density=0.08, input_density=0.72),
        linear("fc2", 500, 10, density=0.19, input_density=0.55),
    ]
    return Network(
        "lenet-5",
        "LeNet-5 for MNIST, whole: two convolutions and two fully connected layers, with the densities of Han et al.",
        'Shapes: Caffe\'s variant of Y. LeCun et al., "Gradient-Based Learning Applied to Document Recognition", '
        f"Proc. IEEE 1998. Densities: {HAN}, Table 3.",
        f"430,500 weights. {HAN_INPUTS} In truth most pixels of MNIST are zero.",
        ["maxpool1", "maxpool2", "relu", "softmax"],
        layers,
    )


def alexnet() -> Network:
    """AlexNet in one tower, grouped."""
    layers = [
        conv("conv1", (3, 96), 11, 227, stride=4, density=0.84),
        conv("conv2", (96, 256), 5, 27, padding=2, groups=2, density=0.38, input_density=0.88),
        conv("conv3", (256, 384), 3, 13, padding=1, density=0.35, input_density=0.52),
        conv("conv4", (384, 384), 3, 13, padding=1, groups=2, density=0.37, input_density=0.37),
        conv("conv5", (384, 256), 3, 13, padding=1, groups=2, density=0.37, input_density=0.4),
        linear("fc6", 9216, 4096, density=0.09, input_density=0.34),
        linear("fc7", 4096, 4096, density=0.09, input_density=0.36),
        linear("fc8", 4096, 1000, density=0.25, input_density=0.4),
    ]
    return Network(
        "alexnet",
        "AlexNet for ImageNet, whole: five convolutions and three fully connected layers, with the densities of Han "
        "et al.",
        'Shapes: A. Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012, '
        f"in one tower as Caffe's bvlc_alexnet. Densities: {HAN}, Table 4.",
        "conv2, conv4 and conv5 are in two groups, as the weight counts of Han et al. imply: 60,954,656 weights. The "
        f"paper names the fully connected layers fc1, fc2 and fc3. {HAN_INPUTS}",
        ["lrn1", "maxpool1", "lrn2", "maxpool2", "maxpool5", "relu", "softmax"],
        layers,
    )


def vgg16() -> Network:
    """VGG-16, configuration D."""
    # Per block: output channels, then (weight density, output density) of each convolution.
    blocks = [
        (64, [(0.58, 0.53), (0.22, 0.89)]),
        (128, [(0.34, 0.8), (0.36, 0.81)]),
        (256, [(0.53, 0.68), (0.24, 0.7), (0.42, 0.64)]),
        (512, [(0.32, 0.51), (0.27, 0.45), (0.34, 0.34)]),
        (512, [(0.35, 0.32), (0.29, 0.29), (0.36, 0.19)]),
    ]
    layers = []
    channels, hw, seen = 3, 224, 1.0
    for block, (out_channels, densities) in enumerate(blocks, start=1):
        for number, (kept, made) in enumerate(densities, start=1):
            name = f"conv{block}_{number}"
            layers.append(conv(name, (channels, out_channels), 3, hw, padding=1, density=kept, input_density=seen))
            channels, seen = out_channels, made
        hw //= 2
    layers += [
        linear("fc6", 25088, 4096, density=0.04, input_density=seen),
        linear("fc7", 4096, 4096, density=0.04, input_density=0.38),
        linear("fc8", 4096, 1000, density=0.23, input_density=0.42),
    ]
    return Network(
        "vgg16",
        "VGG-16 for ImageNet, whole: 13 convolutions and three fully connected layers, with the densities of Han et "
        "al.",
        'Shapes: K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", '
        f"ICLR 2015, configuration D. Densities: {HAN}, Table 5.",
        f"138,344,128 weights. {HAN_INPUTS}",
        [*(f"maxpool{block}" for block in range(1, 6)), "relu", "softmax"],
        layers,
    )


def squeezenet() -> Network:
    """SqueezeNet v1.0, with the densities of the network that its authors pruned."""
    # Per fire module: squeeze channels, expand channels of each kind, input height; the non-zero weights of squeeze
    # 1x1, expand 1x1 and expand 3x3; the densities of what squeeze sees and of what both expand.
    fires = [
        (16, 64, 55, (1528, 1020, 3039), (0.8, 0.91)),
        (16, 64, 55, (2038, 1023, 3039), (0.6, 0.94)),
        (32, 128, 55, (4085, 4071, 12156), (0.59, 0.72)),
        (32, 128, 27, (8160, 4067, 12147), (0.7, 0.81)),
        (48, 192, 27, (12161, 4602, 27325), (0.49, 0.77)),
        (48, 192, 27, (9205, 9129, 27336), (0.31, 0.69)),
        (64, 256, 27, (24388, 8187, 44144), (0.42, 0.64)),
        (64, 256, 13, (16370, 16303, 44173), (0.4, 0.71)),
    ]
    layers = [conv("conv1", (3, 96), 7, 227, stride=2, density=share(13902, 3 * 96 * 7 * 7))]
    channels = 96
    for number, (squeeze, expand, hw, kept, (seen, squeezed)) in enumerate(fires, start=2):
        parts = [
            ("conv1x1_1", (channels, squeeze), 1, kept[0], seen),
            ("conv1x1_2", (squeeze, expand), 1, kept[1], squeezed),
            ("conv3x3_2", (squeeze, expand), 3, kept[2], squeezed),
        ]
        for part, (inputs, outputs), kernel, left, sees in parts:
            density = share(left, inputs * outputs * kernel * kernel)
            layer = conv(
                f"fire{number}.{part}",
                (inputs, outputs),
                kernel,
                hw,
                padding=kernel // 2,
                density=density,
                input_density=sees,
            )
            layers.append(layer)
        channels = 2 * expand
    density = share(102323, channels * 1000)
    layers.append(conv("conv_final", (channels, 1000), 1, 13, padding=1, density=density, input_density=0.12))
    return Network(
        "squeezenet",
        "SqueezeNet v1.0 for ImageNet, 26 convolutions, with the densities that its authors reached with Deep "
        "Compression.",
        'F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size", '
        "2016; geometry of the authors' Caffe model v1.0. Densities of weights: non-zeros counted in the pruned model "
        "that the authors published; they agree with the rounded ones of the paper's Table 1. Densities of "
        "activations: measured with that model, as the notes say.",
        "1,244,448 weights, of which a third is left. Activations: means over scikit-learn's two sample photographs, "
        "cut to a square, resized to 227 x 227, BGR less Caffe's mean (104, 117, 123). The image counts as dense.",
        ["maxpool1", "maxpool4", "maxpool8", "relu", "concatenation", "global average pooling", "softmax"],
        layers,
    )


def resnet_50(pruned: bool) -> Network:
    """ResNet-50 v1.5, as Distiller pruned it or dense."""
    kept, kept_fc = (0.15, 0.2) if pruned else (1.0, 1.0)
    layers = [conv("conv1", (3, 64), 7, 224, stride=2, padding=3)]
    channels, hw = 64, 56
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            after = hw // stride
            layers += [
                conv(f"{name}.conv1", (channels, width), 1, hw, density=kept),
                conv(f"{name}.conv2", (width, width), 3, hw, stride=stride, padding=1, density=kept),
                conv(f"{name}.conv3", (width, 4 * width), 1, after, density=kept),
            ]
            if block == 0:
                layers.append(
                    conv(f"{name}.downsample", (channels, 4 * width), 1, hw, stride=stride, density=kept),
                )
            channels, hw = 4 * width, after
    layers.append(linear("fc", channels, 1000, density=kept_fc))
    source = (
        'Shapes: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1, in version 1.5 as '
        "torchvision and MLPerf have it."
    )
    weights = "25,502,912 weights. Version 1.5: the stride of 2 is in the 3x3 convolution, not in the 1x1 before it."
    if pruned:
        description = (
            "ResNet-50 for ImageNet, pruned to 15 % of its weights: 53 convolutions and a fully connected layer."
        )
        source += (
            " Densities: Intel's Neural Network Distiller, schedule resnet50_84.6-sparsity.schedule_agp.yaml, 2019 "
            "(automated gradual pruning)."
        )
        pruning = (
            "Distiller kept 15 % of each convolution but the first, all of the first and 20 % of fc; top-1 accuracy "
            "75.66 %, before pruning 76.15 %."
        )
    else:
        description = "ResNet-50 for ImageNet, not pruned: 53 convolutions and a fully connected layer."
        pruning = "Every weight is there (density 1.0), the parent of resnet-50."
    return Network(
        "resnet-50" if pruned else "resnet-50-dense",
        description,
        source,
        f"{weights} {pruning} {RELU_BOUND}",
        ["batch normalisation", "maxpool1", "relu", "residual additions", "global average pooling", "softmax"],
        layers,
    )


def mobilenet_v2() -> Network:
    """MobileNetV2 of width 1.0."""
    layers = [conv("conv1", (3, 32), 3, 224, stride=2, padding=1)]
    channels, hw, number = 32, 112, 0
    # Table 2 of the paper: expansion, output channels, repetitions, stride of the first.
    bottlenecks = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    for expansion, out_channels, repetitions, first_stride in bottlenecks:
        for repetition in range(repetitions):
            number += 1
            stride = first_stride if repetition == 0 else 1
            hidden = expansion * channels
            name = f"block{number}"
            if expansion > 1:
                layers.append(conv(f"{name}.expand", (channels, hidden), 1, hw))
            layers.append(
                conv(f"{name}.depthwise", (hidden, hidden), 3, hw, stride=stride, padding=1, groups=hidden),
            )
            hw //= stride
            layers.append(conv(f"{name}.project", (hidden, out_channels), 1, hw))
            channels = out_channels
    layers += [conv("conv2", (channels, 1280), 1, hw), linear("fc", 1280, 1000)]
    return Network(
        "mobilenet-v2",
        "MobileNetV2 1.0 for ImageNet at 224 x 224, not pruned: 52 convolutions, 17 of them depthwise, and a fully "
        "connected layer.",
        'M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, Table 2.',
        f"3,469,760 weights. {NO_PRUNING} {RELU_BOUND}",
        ["batch normalisation", "relu6", "residual additions", "global average pooling", "softmax"],
        layers,
    )


def nt_lstm() -> Network:
    """The language model of NeuralTalk, as EIE was evaluated on it."""
    layers = [
        linear("We", 4096, 600, density=0.1),
        linear("LSTM", 1201, 2400, density=0.1),
        linear("Wd", 600, 8791, density=0.11),
    ]
    return Network(
        "nt-lstm",
        "NeuralTalk's recurrent network for image captions: an embedding of image features, an LSTM, and the scores of "
        "words.",
        'S. Han et al., "EIE: Efficient Inference Engine on Compressed Deep Neural Network", ISCA 2016, Table III: '
        "NT-We, NT-LSTM, NT-Wd.",
        "One inference is one time step. In a caption We runs once, and LSTM and Wd run for each word. The LSTM sees "
        "600 inputs, 600 values of its state and a one for the bias, and computes four gates of 600. The paper gives "
        "all inputs as dense.",
        ["gates of the LSTM", "softmax"],
        layers,
    )


def bert(size: str, blocks: int, width: int) -> Network:
    """The encoder of BERT on a SQuAD question."""
    tokens = 384
    layers = []
    for block in range(blocks):
        name = f"layer.{block}"
        layers += [
            linear(f"{name}.attention.self.{part}", width, width, tokens=tokens) for part in ("query", "key", "value")
        ]
        layers += [
            linear(f"{name}.attention.output.dense", width, width, tokens=tokens),
            linear(f"{name}.intermediate.dense", width, 4 * width, tokens=tokens),
            linear(f"{name}.output.dense", 4 * width, width, tokens=tokens),
        ]
    return Network(
        f"bert-{size}",
        f"The encoder of BERT-{size}, not pruned: {blocks} blocks of six linear layers.",
        'J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL '
        "2019, section 3.",
        f"One inference is one sequence of {tokens} tokens, as in MLPerf's question answering on SQuAD. {NO_PRUNING} "
        f"{DENSE_ACTIVATIONS}",
        ["embeddings", "attention scores", "softmax", "gelu", "normalisation", "residual additions", "task head"],
        layers,
    )


def gpt_2() -> Network:
    """The blocks of the smallest GPT-2 on a whole context."""
    width, tokens = 768, 1024
    layers = []
    for block in range(12):
        layers += [
            linear(f"h.{block}.attn.c_attn", width, 3 * width, tokens=tokens),
            linear(f"h.{block}.attn.c_proj", width, width, tokens=tokens),
            linear(f"h.{block}.mlp.c_fc", width, 4 * width, tokens=tokens),
            linear(f"h.{block}.mlp.c_proj", 4 * width, width, tokens=tokens),
        ]
    return Network(
        "gpt-2",
        "The blocks of GPT-2 small, not pruned: 12 blocks of four linear layers.",
        'A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, Table 2, and the published '
        "model.",
        f"One inference is one sequence of {tokens} tokens, the whole context. The output head is the token embedding "
        f"(50,257 x 768), and left out with it. {NO_PRUNING} {DENSE_ACTIVATIONS}",
        [
            "embeddings",
            "attention scores",
            "softmax",
            "gelu",
            "normalisation",
            "residual additions",
            "output head",
        ],
        layers,
    )


def llama_7b(suffix: str = "", pruned: str = "", density: float = 1.0, pattern: str = "fine") -> Network:
    """A network of the shapes of Llama 7B, with its output head; `pruned` says how."""
    width, hidden, tokens = 4096, 11008, 2048

    def layer(name: str, inputs: int, outputs: int) -> Layer:
        return linear(name, inputs, outputs, tokens=tokens, density=density, pattern=pattern)

    layers = []
    for block in range(32):
        name = f"layers.{block}"
        layers += [layer(f"{name}.self_attn.{part}", width, width) for part in ("q_proj", "k_proj", "v_proj", "o_proj")]
        layers += [
            layer(f"{name}.mlp.gate_proj", width, hidden),
            layer(f"{name}.mlp.up_proj", width, hidden),
            layer(f"{name}.mlp.down_proj", hidden, width),
        ]
    layers.append(layer("lm_head", width, 32000))
    kept = f"Every layer is {pruned}: a study of speed, no published pruning." if pruned else NO_PRUNING
    return Network(
        f"llama-7b{suffix}",
        f"A network of the shapes of Llama 7B, {pruned or 'not pruned'}: 32 blocks of seven linear layers, and the "
        "output head.",
        'H. Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023, section 2.2 and Table 2; '
        "vocabulary and hidden size of the published model.",
        f"One inference is one sequence of {tokens} tokens, the whole context, and the head scores each of them. "
        f"{kept} {DENSE_ACTIVATIONS}",
        [
            "embeddings",
            "rotary embeddings",
            "attention scores",
            "softmax",
            "swiglu",
            "normalisation",
            "residual additions",
        ],
        layers,
    )


def networks() -> list[Network]:
    """Every network that this script writes."""
    return [
        lenet_5(),
        alexnet(),
        vgg16(),
        squeezenet(),
        resnet_50(pruned=True),
        resnet_50(pruned=False),
        mobilenet_v2(),
        nt_lstm(),
        bert("base", 12, 768),
        bert("large", 24, 1024),
        gpt_2(),
        llama_7b(),
        llama_7b("-2to4", "pruned 2:4", 0.5, "nm:2:4"),
        llama_7b("-fine90", "pruned to a tenth of its weights one by one", 0.1),
    ]


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description="Write network files with published shapes and densities.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for network in networks():
        write_whole(options.out / f"{network.name}.toml", as_toml(network).encode())
        print(f"{network.name}: {len(network.layers)} layers")


if __name__ == "__main__":
    main()
