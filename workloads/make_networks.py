"""Network files with published shapes and densities, and synthetic weights.

    python workloads/make_networks.py [--out DIR]

Writes one TOML file per network, the same bytes each time. Shapes are those of the papers that are named in each
file. Densities are published ones where there are any; elsewhere every weight and activation is there (1.0).
"""

import argparse
from pathlib import Path

from network_file import write_whole
from synthetic_network import Layer, LeftOut, Network, as_toml, conv, linear, share

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
        conv("conv1", (1, 20), 5, 28, density=0.66).known_as("conv1"),
        conv("conv2", (20, 50), 5, 12, density=0.12, input_density=0.82).known_as("conv2"),
        linear("fc1", 800, 500, density=0.08, input_density=0.72).known_as("ip1"),
        linear("fc2", 500, 10, density=0.19, input_density=0.55).known_as("ip2"),
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
        conv("conv1", (3, 96), 11, 227, stride=4, density=0.84).known_as("features.0", "conv1"),
        conv("conv2", (96, 256), 5, 27, padding=2, groups=2, density=0.38, input_density=0.88).known_as(
            "features.3", "conv2"
        ),
        conv("conv3", (256, 384), 3, 13, padding=1, density=0.35, input_density=0.52).known_as("features.6", "conv3"),
        conv("conv4", (384, 384), 3, 13, padding=1, groups=2, density=0.37, input_density=0.37).known_as(
            "features.8", "conv4"
        ),
        conv("conv5", (384, 256), 3, 13, padding=1, groups=2, density=0.37, input_density=0.4).known_as(
            "features.10", "conv5"
        ),
        linear("fc6", 9216, 4096, density=0.09, input_density=0.34).known_as("classifier.1", "fc1"),
        linear("fc7", 4096, 4096, density=0.09, input_density=0.36).known_as("classifier.4", "fc2"),
        linear("fc8", 4096, 1000, density=0.25, input_density=0.4).known_as("classifier.6", "fc3"),
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
    plain = normalised = 0  # places in torchvision's features, where ReLU, pooling and normalisation count too
    for block, (out_channels, densities) in enumerate(blocks, start=1):
        for number, (kept, made) in enumerate(densities, start=1):
            layer = conv(
                f"conv{block}_{number}",
                (channels, out_channels),
                3,
                hw,
                padding=1,
                density=kept,
                input_density=seen,
            )
            torchvision = f"features.{plain}"
            keras = f"block{block}_conv{number}"
            layers.append(layer.known_as(torchvision, f"features.{normalised}", torchvision, keras))
            channels, seen, plain, normalised = out_channels, made, plain + 2, normalised + 3
        hw, plain, normalised = hw // 2, plain + 1, normalised + 1
    # torchvision's vgg16 and vgg16_bn, timm's vgg16, Keras's VGG16
    layers += [
        linear("fc6", 25088, 4096, density=0.04, input_density=seen).known_as(
            "classifier.0", "classifier.0", "pre_logits.fc1", "fc1"
        ),
        linear("fc7", 4096, 4096, density=0.04, input_density=0.38).known_as(
            "classifier.3", "classifier.3", "pre_logits.fc2", "fc2"
        ),
        linear("fc8", 4096, 1000, density=0.23, input_density=0.42).known_as(
            "classifier.6", "classifier.6", "head.fc", "predictions"
        ),
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
    places = [3, 4, 5, 7, 8, 9, 10, 12]  # in torchvision's features, where pooling counts too
    layers = [conv("conv1", (3, 96), 7, 227, stride=2, density=share(13902, 3 * 96 * 7 * 7)).known_as("features.0")]
    channels = 96
    for number, (squeeze, expand, hw, kept, (seen, squeezed)) in enumerate(fires, start=2):
        parts = [
            ("conv1x1_1", "squeeze", (channels, squeeze), 1, kept[0], seen),
            ("conv1x1_2", "expand1x1", (squeeze, expand), 1, kept[1], squeezed),
            ("conv3x3_2", "expand3x3", (squeeze, expand), 3, kept[2], squeezed),
        ]
        for part, torchvision, (inputs, outputs), kernel, left, sees in parts:
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
            layers.append(layer.known_as(f"features.{places[number - 2]}.{torchvision}"))
        channels = 2 * expand
    density = share(102323, channels * 1000)
    final = conv("conv_final", (channels, 1000), 1, 13, padding=1, density=density, input_density=0.12)
    layers.append(final.known_as("classifier.1"))
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
    # Names in torchvision and timm, then in transformers.
    layers = [conv("conv1", (3, 64), 7, 224, stride=2, padding=3).known_as("conv1", "embedder.embedder.convolution")]
    channels, hw = 64, 56
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            after = hw // stride
            convolutions = [
                conv(f"{name}.conv1", (channels, width), 1, hw, density=kept),
                conv(f"{name}.conv2", (width, width), 3, hw, stride=stride, padding=1, density=kept),
                conv(f"{name}.conv3", (width, 4 * width), 1, after, density=kept),
            ]
            other = f"encoder.stages.{stage - 1}.layers.{block}"
            layers += [
                layer.known_as(layer.name, f"{other}.layer.{number}.convolution")
                for number, layer in enumerate(convolutions)
            ]
            if block == 0:
                shortcut = conv(f"{name}.downsample", (channels, 4 * width), 1, hw, stride=stride, density=kept)
                layers.append(shortcut.known_as(f"{name}.downsample.0", f"{other}.shortcut.convolution"))
            channels, hw = 4 * width, after
    layers.append(linear("fc", channels, 1000, density=kept_fc).known_as("fc", "classifier.1"))
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
    # Names in torchvision, timm, transformers and Keras.
    stem = conv("conv1", (3, 32), 3, 224, stride=2, padding=1)
    layers = [stem.known_as("features.0.0", "conv_stem", "conv_stem.first_conv.convolution", "Conv1")]
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
    for stage, (expansion, out_channels, repetitions, first_stride) in enumerate(bottlenecks):
        for repetition in range(repetitions):
            number += 1
            stride = first_stride if repetition == 0 else 1
            hidden = expansion * channels
            name = f"block{number}"
            timm = f"blocks.{stage}.{repetition}"
            first = number == 1
            transformers = "conv_stem" if first else f"layer.{number - 2}"
            keras = "expanded_conv" if first else f"block_{number - 1}"
            torchvision = [
                f"features.{number}.conv.{place}" for place in (["0.0", "1"] if first else ["0.0", "1.0", "2"])
            ]
            if expansion > 1:
                layers.append(
                    conv(f"{name}.expand", (channels, hidden), 1, hw).known_as(
                        torchvision[0],
                        f"{timm}.conv_pw",
                        f"{transformers}.expand_1x1.convolution",
                        f"{keras}_expand",
                    )
                )
            layers.append(
                conv(f"{name}.depthwise", (hidden, hidden), 3, hw, stride=stride, padding=1, groups=hidden).known_as(
                    torchvision[-2],
                    f"{timm}.conv_dw",
                    f"{transformers}.conv_3x3.convolution",
                    f"{keras}_depthwise",
                )
            )
            hw //= stride
            layers.append(
                conv(f"{name}.project", (hidden, out_channels), 1, hw).known_as(
                    torchvision[-1],
                    f"{timm}.{'conv_pw' if first else 'conv_pwl'}",
                    f"{transformers}.reduce_1x1.convolution",
                    f"{keras}_project",
                )
            )
            channels = out_channels
    last = conv("conv2", (channels, 1280), 1, hw)
    layers += [
        last.known_as("features.18.0", "conv_head", "conv_1x1.convolution", "Conv_1"),
        linear("fc", 1280, 1000).known_as("classifier.1", "classifier", "classifier", "predictions"),
    ]
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
        linear("LSTM", 1201, 2400, density=0.1).known_as("WLSTM"),
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
        [LeftOut("Ws", "look-up of words", weights=8791 * 600), "gates of the LSTM", "softmax"],
        layers,
    )


def attention(blocks: int, tokens: int, width: int) -> list[LeftOut]:
    """The products of an attention over all tokens, causal or not; heads split the width, so each takes as many."""
    macs = blocks * tokens * tokens * width
    kind = "product of activations"
    return [LeftOut("attention scores", kind, macs=macs), LeftOut("attention values", kind, macs=macs)]


def bert(size: str, blocks: int, width: int) -> Network:
    """The encoder of BERT on a SQuAD question."""
    tokens = 384
    # By their names in transformers: what they see, what they make, and their names in PyTorch's encoder and in GGUF.
    parts = {
        "attention.self.query": (1, 1, "self_attn.q_proj", "attn_q"),
        "attention.self.key": (1, 1, "self_attn.k_proj", "attn_k"),
        "attention.self.value": (1, 1, "self_attn.v_proj", "attn_v"),
        "attention.output.dense": (1, 1, "self_attn.out_proj", "attn_output"),
        "intermediate.dense": (1, 4, "linear1", "ffn_up"),
        "output.dense": (4, 1, "linear2", "ffn_down"),
    }
    layers = [
        linear(f"layer.{block}.{part}", inputs * width, outputs * width, tokens=tokens).known_as(
            f"layers.{block}.{pytorch}", f"blk.{block}.{gguf}"
        )
        for block in range(blocks)
        for part, (inputs, outputs, pytorch, gguf) in parts.items()
    ]
    return Network(
        f"bert-{size}",
        f"The encoder of BERT-{size}, not pruned: {blocks} blocks of six linear layers.",
        'J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL '
        "2019, section 3.",
        f"One inference is one sequence of {tokens} tokens, as in MLPerf's question answering on SQuAD. {NO_PRUNING} "
        f"{DENSE_ACTIVATIONS}",
        [
            LeftOut("embeddings.word_embeddings", "look-up", 30522 * width, aliases=("token_embd",)),
            LeftOut("embeddings.position_embeddings", "look-up", 512 * width, aliases=("position_embd",)),
            LeftOut("embeddings.token_type_embeddings", "look-up", 2 * width, aliases=("token_types",)),
            *attention(blocks, tokens, width),
            "softmax",
            "gelu",
            "normalisation",
            "residual additions",
            LeftOut("pooler.dense", "linear layer that a question does not need", width * width),
            LeftOut("qa_outputs", "linear layer, the task head: start and end", 2 * width, tokens * 2 * width),
        ],
        layers,
    )


def gpt_2() -> Network:
    """The blocks of the smallest GPT-2 on a whole context."""
    blocks, width, tokens, vocabulary = 12, 768, 1024, 50257
    # By their names in the published model: what they see, what they make, and their names in GGUF.
    parts = {
        "attn.c_attn": (1, 3, "attn_qkv"),
        "attn.c_proj": (1, 1, "attn_output"),
        "mlp.c_fc": (1, 4, "ffn_up"),
        "mlp.c_proj": (4, 1, "ffn_down"),
    }
    layers = [
        linear(f"h.{block}.{part}", inputs * width, outputs * width, tokens=tokens).known_as(f"blk.{block}.{gguf}")
        for block in range(blocks)
        for part, (inputs, outputs, gguf) in parts.items()
    ]
    return Network(
        "gpt-2",
        "The blocks of GPT-2 small, not pruned: 12 blocks of four linear layers.",
        'A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, Table 2, and the published '
        "model.",
        f"One inference is one sequence of {tokens} tokens, the whole context. The output head is the token embedding "
        f"(50,257 x 768), and left out with it. {NO_PRUNING} {DENSE_ACTIVATIONS}",
        [
            LeftOut("wte", "look-up of tokens", vocabulary * width, aliases=("token_embd",)),
            LeftOut("wpe", "look-up of positions", tokens * width, aliases=("position_embd",)),
            *attention(blocks, tokens, width),
            "softmax",
            "gelu",
            "normalisation",
            "residual additions",
            LeftOut("lm_head", "output head, by the weights of wte", 0, tokens * vocabulary * width, ("output",)),
        ],
        layers,
    )


def llama_7b(suffix: str = "", pruned: str = "", density: float = 1.0, pattern: str = "fine") -> Network:
    """A network of the shapes of Llama 7B, with its output head; `pruned` says how."""
    blocks, width, hidden, tokens, vocabulary = 32, 4096, 11008, 2048, 32000

    def layer(name: str, inputs: int, outputs: int) -> Layer:
        return linear(name, inputs, outputs, tokens=tokens, density=density, pattern=pattern)

    # By their names in transformers: what they see, what they make, and their names in Meta's files and in GGUF.
    parts = {
        "self_attn.q_proj": (width, width, "attention.wq", "attn_q"),
        "self_attn.k_proj": (width, width, "attention.wk", "attn_k"),
        "self_attn.v_proj": (width, width, "attention.wv", "attn_v"),
        "self_attn.o_proj": (width, width, "attention.wo", "attn_output"),
        "mlp.gate_proj": (width, hidden, "feed_forward.w1", "ffn_gate"),
        "mlp.up_proj": (width, hidden, "feed_forward.w3", "ffn_up"),
        "mlp.down_proj": (hidden, width, "feed_forward.w2", "ffn_down"),
    }
    layers = [
        layer(f"layers.{block}.{part}", inputs, outputs).known_as(f"layers.{block}.{meta}", f"blk.{block}.{gguf}")
        for block in range(blocks)
        for part, (inputs, outputs, meta, gguf) in parts.items()
    ]
    layers.append(layer("lm_head", width, vocabulary).known_as("output", "output"))
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
            LeftOut("embed_tokens", "look-up", vocabulary * width, aliases=("tok_embeddings", "token_embd")),
            "rotary embeddings",
            *attention(blocks, tokens, width),
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
