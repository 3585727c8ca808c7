"""Network files with published shapes and densities, and synthetic weights.

    python workloads/make_networks.py [--out DIR]

Writes one TOML file per network, the same bytes each time. Shapes are those of the papers that are named in each
file. Densities are published ones where there are any; elsewhere every weight and activation is there (1.0).
"""

import argparse
from pathlib import Path

from network_file import write_whole
from synthetic_model import Sizes
from synthetic_network import Flow, LeftOut, Network, as_toml, conv, linear, share

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
    flow = Flow()
    flow.layer(conv("conv1", (1, 20), 5, 28, density=0.66).known_as("conv1"))
    flow.then("maxpool1", "MaxPool", kernel=2, stride=2)
    flow.layer(conv("conv2", (20, 50), 5, 12, density=0.12, input_density=0.82).known_as("conv2"))
    flow.then("maxpool2", "MaxPool", kernel=2, stride=2)
    flow.then("flatten", "Flatten")
    flow.layer(linear("fc1", 800, 500, density=0.08, input_density=0.72).known_as("ip1"))
    flow.then("relu", "Relu")
    flow.layer(linear("fc2", 500, 10, density=0.19, input_density=0.55).known_as("ip2"))
    flow.then("softmax", "Softmax")
    return Network(
        "lenet-5",
        "LeNet-5 for MNIST, whole: two convolutions and two fully connected layers, with the densities of Han et al.",
        'Shapes: Caffe\'s variant of Y. LeCun et al., "Gradient-Based Learning Applied to Document Recognition", '
        f"Proc. IEEE 1998. Densities: {HAN}, Table 3.",
        f"430,500 weights. {HAN_INPUTS} In truth most pixels of MNIST are zero.",
        ["maxpool1", "maxpool2", "relu", "softmax"],
        flow.layers,
        flow.operations,
    )


def alexnet() -> Network:
    """AlexNet in one tower, grouped."""
    flow = Flow()
    flow.layer(conv("conv1", (3, 96), 11, 227, stride=4, density=0.84).known_as("features.0", "conv1"))
    for number in (1, 2):
        flow.then(f"relu{number}", "Relu")
        flow.then(f"lrn{number}", "LRN", size=5, alpha=0.0001, beta=0.75)
        flow.then(f"maxpool{number}", "MaxPool", kernel=3, stride=2)
        if number == 1:
            conv2 = conv("conv2", (96, 256), 5, 27, padding=2, groups=2, density=0.38, input_density=0.88)
            flow.layer(conv2.known_as("features.3", "conv2"))
    # Input and output channels, groups, density of the weights and of what they see.
    shapes = [((256, 384), 1, 0.35, 0.52), ((384, 384), 2, 0.37, 0.37), ((384, 256), 2, 0.37, 0.4)]
    for number, (channels, groups, kept, seen) in enumerate(shapes, start=3):
        layer = conv(f"conv{number}", channels, 3, 13, padding=1, groups=groups, density=kept, input_density=seen)
        flow.layer(layer.known_as(f"features.{2 * number}", f"conv{number}"))
        flow.then(f"relu{number}", "Relu")
    flow.then("maxpool5", "MaxPool", kernel=3, stride=2)
    flow.then("flatten", "Flatten")
    flow.layer(linear("fc6", 9216, 4096, density=0.09, input_density=0.34).known_as("classifier.1", "fc1"))
    flow.then("relu6", "Relu")
    flow.layer(linear("fc7", 4096, 4096, density=0.09, input_density=0.36).known_as("classifier.4", "fc2"))
    flow.then("relu7", "Relu")
    flow.layer(linear("fc8", 4096, 1000, density=0.25, input_density=0.4).known_as("classifier.6", "fc3"))
    flow.then("softmax", "Softmax")
    return Network(
        "alexnet",
        "AlexNet for ImageNet, whole: five convolutions and three fully connected layers, with the densities of Han "
        "et al.",
        'Shapes: A. Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012, '
        f"in one tower as Caffe's bvlc_alexnet. Densities: {HAN}, Table 4.",
        "conv2, conv4 and conv5 are in two groups, as the weight counts of Han et al. imply: 60,954,656 weights. The "
        f"paper names the fully connected layers fc1, fc2 and fc3. {HAN_INPUTS}",
        ["lrn1", "maxpool1", "lrn2", "maxpool2", "maxpool5", "relu", "softmax"],
        flow.layers,
        flow.operations,
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
    flow = Flow()
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
            flow.layer(layer.known_as(torchvision, f"features.{normalised}", torchvision, keras))
            flow.then(f"relu{block}_{number}", "Relu")
            channels, seen, plain, normalised = out_channels, made, plain + 2, normalised + 3
        flow.then(f"maxpool{block}", "MaxPool", kernel=2, stride=2)
        hw, plain, normalised = hw // 2, plain + 1, normalised + 1
    flow.then("flatten", "Flatten")
    # torchvision's vgg16 and vgg16_bn, timm's vgg16, Keras's VGG16
    fc6 = linear("fc6", 25088, 4096, density=0.04, input_density=seen)
    flow.layer(fc6.known_as("classifier.0", "classifier.0", "pre_logits.fc1", "fc1"))
    flow.then("relu6", "Relu")
    fc7 = linear("fc7", 4096, 4096, density=0.04, input_density=0.38)
    flow.layer(fc7.known_as("classifier.3", "classifier.3", "pre_logits.fc2", "fc2"))
    flow.then("relu7", "Relu")
    fc8 = linear("fc8", 4096, 1000, density=0.23, input_density=0.42)
    flow.layer(fc8.known_as("classifier.6", "classifier.6", "head.fc", "predictions"))
    flow.then("softmax", "Softmax")
    return Network(
        "vgg16",
        "VGG-16 for ImageNet, whole: 13 convolutions and three fully connected layers, with the densities of Han et "
        "al.",
        'Shapes: K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", '
        f"ICLR 2015, configuration D. Densities: {HAN}, Table 5.",
        f"138,344,128 weights. {HAN_INPUTS}",
        [*(f"maxpool{block}" for block in range(1, 6)), "relu", "softmax"],
        flow.layers,
        flow.operations,
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
    flow = Flow()
    flow.layer(conv("conv1", (3, 96), 7, 227, stride=2, density=share(13902, 3 * 96 * 7 * 7)).known_as("features.0"))
    flow.then("relu1", "Relu")
    flow.then("maxpool1", "MaxPool", kernel=3, stride=2)
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
            flow.layer(
                layer.known_as(f"features.{places[number - 2]}.{torchvision}"),
                f"fire{number}.relu1x1_1" if torchvision.startswith("expand") else "",
            )
            flow.then(f"fire{number}.{part.replace('conv', 'relu')}", "Relu")
        flow.then(f"fire{number}.concat", "Concat", f"fire{number}.relu1x1_2", f"fire{number}.relu3x3_2", axis=0)
        if number in (4, 8):
            flow.then(f"maxpool{number}", "MaxPool", kernel=3, stride=2)
        channels = 2 * expand
    density = share(102323, channels * 1000)
    final = conv("conv_final", (channels, 1000), 1, 13, padding=1, density=density, input_density=0.12)
    flow.layer(final.known_as("classifier.1"))
    flow.then("relu_final", "Relu")
    flow.then("global_pool", "GlobalAveragePool")
    flow.then("flatten", "Flatten")
    flow.then("softmax", "Softmax")
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
        flow.layers,
        flow.operations,
    )


def resnet_50(pruned: bool) -> Network:
    """ResNet-50 v1.5, as Distiller pruned it or dense."""
    kept, kept_fc = (0.15, 0.2) if pruned else (1.0, 1.0)
    flow = Flow()
    # Names in torchvision and timm, then in transformers.
    first = conv("conv1", (3, 64), 7, 224, stride=2, padding=3)
    flow.layer(first.known_as("conv1", "embedder.embedder.convolution"))
    flow.normalised("bn1", 64)
    flow.then("relu1", "Relu")
    flow.then("maxpool1", "MaxPool", kernel=3, stride=2, padding=1)
    channels, hw = 64, 56
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            _bottleneck(flow, (stage, block), (channels, width), hw, stride, kept)
            channels, hw = 4 * width, hw // stride
    flow.then("global_pool", "GlobalAveragePool")
    flow.then("flatten", "Flatten")
    flow.layer(linear("fc", channels, 1000, density=kept_fc).known_as("fc", "classifier.1"))
    flow.then("softmax", "Softmax")
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
        flow.layers,
        flow.operations,
        pruned_from="resnet-50-dense" if pruned else "",
    )


def _bottleneck(
    flow: Flow, place: tuple[int, int], channels: tuple[int, int], hw: int, stride: int, density: float
) -> None:
    """Add three convolutions beside a shortcut, which is a convolution in the first block of a stage."""
    stage, block = place
    inputs, width = channels
    name, other = f"layer{stage}.{block}", f"encoder.stages.{stage - 1}.layers.{block}"
    before = flow.here
    convolutions = [
        conv(f"{name}.conv1", (inputs, width), 1, hw, density=density),
        conv(f"{name}.conv2", (width, width), 3, hw, stride=stride, padding=1, density=density),
        conv(f"{name}.conv3", (width, 4 * width), 1, hw // stride, density=density),
    ]
    for number, layer in enumerate(convolutions, start=1):
        flow.layer(layer.known_as(layer.name, f"{other}.layer.{number - 1}.convolution"))
        flow.normalised(f"{name}.bn{number}", 4 * width if number == 3 else width)
        if number < 3:
            flow.then(f"{name}.relu{number}", "Relu")
    if block == 0:
        shortcut = conv(f"{name}.downsample", (inputs, 4 * width), 1, hw, stride=stride, density=density)
        flow.layer(shortcut.known_as(f"{name}.downsample.0", f"{other}.shortcut.convolution"), before)
        before = flow.normalised(f"{name}.downsample_bn", 4 * width)
    flow.then(f"{name}.add", "Add", f"{name}.bn3", before)
    flow.then(f"{name}.relu3", "Relu")


def mobilenet_v2() -> Network:
    """MobileNetV2 of width 1.0."""
    # Names in torchvision, timm, transformers and Keras.
    stem = conv("conv1", (3, 32), 3, 224, stride=2, padding=1)
    flow = Flow()
    flow.layer(stem.known_as("features.0.0", "conv_stem", "conv_stem.first_conv.convolution", "Conv1"))
    flow.normalised("bn1", 32)
    flow.then("relu1", "Relu6")
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
            before = flow.here
            if expansion > 1:
                flow.layer(
                    conv(f"{name}.expand", (channels, hidden), 1, hw).known_as(
                        torchvision[0],
                        f"{timm}.conv_pw",
                        f"{transformers}.expand_1x1.convolution",
                        f"{keras}_expand",
                    )
                )
                flow.normalised(f"{name}.expand_bn", hidden)
                flow.then(f"{name}.expand_relu", "Relu6")
            flow.layer(
                conv(f"{name}.depthwise", (hidden, hidden), 3, hw, stride=stride, padding=1, groups=hidden).known_as(
                    torchvision[-2],
                    f"{timm}.conv_dw",
                    f"{transformers}.conv_3x3.convolution",
                    f"{keras}_depthwise",
                )
            )
            flow.normalised(f"{name}.depthwise_bn", hidden)
            flow.then(f"{name}.depthwise_relu", "Relu6")
            hw //= stride
            flow.layer(
                conv(f"{name}.project", (hidden, out_channels), 1, hw).known_as(
                    torchvision[-1],
                    f"{timm}.{'conv_pw' if first else 'conv_pwl'}",
                    f"{transformers}.reduce_1x1.convolution",
                    f"{keras}_project",
                )
            )
            projected = flow.normalised(f"{name}.project_bn", out_channels)
            if repetition:
                flow.then(f"{name}.add", "Add", projected, before)
            channels = out_channels
    last = conv("conv2", (channels, 1280), 1, hw)
    flow.layer(last.known_as("features.18.0", "conv_head", "conv_1x1.convolution", "Conv_1"))
    flow.normalised("bn2", 1280)
    flow.then("relu2", "Relu6")
    flow.then("global_pool", "GlobalAveragePool")
    flow.then("flatten", "Flatten")
    flow.layer(linear("fc", 1280, 1000).known_as("classifier.1", "classifier", "classifier", "predictions"))
    flow.then("softmax", "Softmax")
    return Network(
        "mobilenet-v2",
        "MobileNetV2 1.0 for ImageNet at 224 x 224, not pruned: 52 convolutions, 17 of them depthwise, and a fully "
        "connected layer.",
        'M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, Table 2.',
        f"3,469,760 weights. {NO_PRUNING} {RELU_BOUND}",
        ["batch normalisation", "relu6", "residual additions", "global average pooling", "softmax"],
        flow.layers,
        flow.operations,
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


def attention(
    flow: Flow, name: str, vectors: tuple[str, str, str], tokens: int, heads: tuple[int, int, int], causal: bool
) -> str:
    """Add scaled products of queries by keys and of what softmax makes of them by values, all tokens by all tokens.

    heads: heads of queries, heads of keys and values, features of each.
    """
    queries, keys, values = vectors
    groups, shared, width = heads
    more: dict[str, object] = {"causal": True} if causal else {}
    if shared != groups:
        more["operand_groups"] = shared
    scores = {"groups": groups, "rows": tokens, "columns": width, "vectors": tokens, **more}
    flow.then(f"{name}.scores", "AttentionScores", queries, keys, product=scores)
    flow.then(f"{name}.softmax", "Softmax")
    by_values = {**scores, "rows": width, "columns": tokens}
    return flow.then(f"{name}.values", "AttentionValues", flow.here, values, product=by_values)


def look_up(flow: Flow, name: str, places: str, width: int) -> str:
    """Add a look-up of one row of a table for each token."""
    (tokens,) = flow.inputs[places]
    return flow.then(name, "Gather", places, shape=[tokens, width], weights=tokens * width)


def bert(size: str, blocks: int, width: int) -> Network:
    """The encoder of BERT on a SQuAD question."""
    tokens = 384
    flow = Flow({name: [tokens] for name in ("input_ids", "token_type_ids", "position_ids")})
    words = look_up(flow, "embeddings.word_embeddings", "input_ids", width)
    kinds = look_up(flow, "embeddings.token_type_embeddings", "token_type_ids", width)
    kinds = flow.then("embeddings.add", "Add", words, kinds)
    places = look_up(flow, "embeddings.position_embeddings", "position_ids", width)
    flow.then("embeddings.add_positions", "Add", kinds, places)
    before = flow.then("embeddings.LayerNorm", "LayerNormalization", weights=2 * width)
    for block in range(blocks):

        def add(part: str, shape: tuple[int, int], pytorch: str, gguf: str, takes: str, block: int = block) -> str:
            """Add a layer by its names in transformers, in PyTorch's encoder and in GGUF."""
            layer = linear(f"layer.{block}.{part}", shape[0] * width, shape[1] * width, tokens=tokens)
            return flow.layer(layer.known_as(f"layers.{block}.{pytorch}", f"blk.{block}.{gguf}"), takes)

        name = f"layer.{block}"
        query = add("attention.self.query", (1, 1), "self_attn.q_proj", "attn_q", before)
        key = add("attention.self.key", (1, 1), "self_attn.k_proj", "attn_k", before)
        value = add("attention.self.value", (1, 1), "self_attn.v_proj", "attn_v", before)
        heads = width // 64
        seen = attention(flow, f"{name}.attention.self", (query, key, value), tokens, (heads, heads, 64), causal=False)
        add("attention.output.dense", (1, 1), "self_attn.out_proj", "attn_output", seen)
        flow.then(f"{name}.attention.output.add", "Add", flow.here, before)
        middle = flow.then(f"{name}.attention.output.LayerNorm", "LayerNormalization", weights=2 * width)
        add("intermediate.dense", (1, 4), "linear1", "ffn_up", middle)
        add("output.dense", (4, 1), "linear2", "ffn_down", flow.then(f"{name}.intermediate.gelu", "Gelu"))
        flow.then(f"{name}.output.add", "Add", flow.here, middle)
        before = flow.then(f"{name}.output.LayerNorm", "LayerNormalization", weights=2 * width)
    head = {"kind": "other", "shape": [tokens, 2], "weights": 2 * width, "macs": tokens * 2 * width}
    flow.then("qa_outputs", "Linear", **head)
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
            "softmax",
            "gelu",
            "normalisation",
            "residual additions",
            LeftOut("pooler.dense", "linear layer that a question does not need", width * width),
            LeftOut("qa_outputs", "linear layer, the task head: start and end", 2 * width, tokens * 2 * width),
        ],
        flow.layers,
        flow.operations,
        flow.inputs,
    )


def gpt_2() -> Network:
    """The smallest GPT-2 on a whole context."""
    blocks, width, tokens, vocabulary = 12, 768, 1024, 50257
    flow = Flow({name: [tokens] for name in ("input_ids", "position_ids")})
    words = look_up(flow, "wte", "input_ids", width)
    places = look_up(flow, "wpe", "position_ids", width)
    before = flow.then("add", "Add", words, places)
    for block in range(blocks):

        def add(part: str, shape: tuple[int, int], gguf: str, block: int = block) -> str:
            """Add a layer by its names in the published model and in GGUF; those with a tied head are the same."""
            layer = linear(f"h.{block}.{part}", shape[0] * width, shape[1] * width, tokens=tokens)
            return flow.layer(layer.known_as(f"blk.{block}.{gguf}", layer.name, f"blk.{block}.{gguf}"))

        name = f"h.{block}"
        flow.then(f"{name}.ln_1", "LayerNormalization", weights=2 * width)
        joined = add("attn.c_attn", (1, 3), "attn_qkv")
        query, key, value = (
            flow.then(f"{name}.attn.{part}", "Slice", joined, axis=-1, start=at * width, stop=(at + 1) * width)
            for at, part in enumerate(("query", "key", "value"))
        )
        attention(flow, f"{name}.attn", (query, key, value), tokens, (12, 12, 64), causal=True)
        add("attn.c_proj", (1, 1), "attn_output")
        middle = flow.then(f"{name}.add_attn", "Add", flow.here, before)
        flow.then(f"{name}.ln_2", "LayerNormalization", weights=2 * width)
        add("mlp.c_fc", (1, 4), "ffn_up")
        flow.then(f"{name}.mlp.gelu", "Gelu", approximate="tanh")
        add("mlp.c_proj", (4, 1), "ffn_down")
        before = flow.then(f"{name}.add_mlp", "Add", flow.here, middle)
    flow.then("ln_f", "LayerNormalization", weights=2 * width)
    flow.layer(linear("lm_head", width, vocabulary, tokens=tokens).known_as("output", "wte", "token_embd"))
    return Network(
        "gpt-2",
        "GPT-2 small, not pruned: 12 blocks of four linear layers, and the output head.",
        'A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, Table 2, and the published '
        "model.",
        f"One inference is one sequence of {tokens} tokens, the whole context, and the head scores each of them. The "
        f"weights of the head are those of the token embedding (50,257 x 768), and count once. {NO_PRUNING} "
        f"{DENSE_ACTIVATIONS}",
        [
            "wte",
            LeftOut("wpe", "look-up of positions", tokens * width, aliases=("position_embd",)),
            "softmax",
            "gelu",
            "normalisation",
            "residual additions",
        ],
        flow.layers,
        flow.operations,
        flow.inputs,
    )


def llama_7b(suffix: str = "", pruned: str = "", density: float = 1.0, pattern: str = "fine") -> Network:
    """A network of the shapes of Llama 7B, with its output head; `pruned` says how."""
    blocks, width, hidden, tokens, vocabulary, heads = 32, 4096, 11008, 2048, 32000, 32
    flow = Flow({"input_ids": [tokens]})
    before = look_up(flow, "embed_tokens", "input_ids", width)

    def add(name: str, shape: tuple[int, int], aliases: tuple[str, str], takes: str = "") -> str:
        """Add a layer by its names in transformers, in Meta's files and in GGUF."""
        layer = linear(name, *shape, tokens=tokens, density=density, pattern=pattern)
        return flow.layer(layer.known_as(*aliases), takes)

    for block in range(blocks):
        name, meta, gguf = f"layers.{block}", f"layers.{block}", f"blk.{block}"
        square = width, width
        seen = flow.then(f"{name}.input_layernorm", "RMSNormalization", weights=width)
        query = add(f"{name}.self_attn.q_proj", square, (f"{meta}.attention.wq", f"{gguf}.attn_q"), seen)
        key = add(f"{name}.self_attn.k_proj", square, (f"{meta}.attention.wk", f"{gguf}.attn_k"), seen)
        value = add(f"{name}.self_attn.v_proj", square, (f"{meta}.attention.wv", f"{gguf}.attn_v"), seen)
        query, key = (
            flow.then(f"{name}.self_attn.rotary_{at}", "RotaryEmbedding", part, kind="elementwise")
            for at, part in (("q", query), ("k", key))
        )
        attention(flow, f"{name}.self_attn", (query, key, value), tokens, (heads, heads, width // heads), causal=True)
        add(f"{name}.self_attn.o_proj", square, (f"{meta}.attention.wo", f"{gguf}.attn_output"))
        middle = flow.then(f"{name}.add_attn", "Add", flow.here, before)
        seen = flow.then(f"{name}.post_attention_layernorm", "RMSNormalization", weights=width)
        gate = add(f"{name}.mlp.gate_proj", (width, hidden), (f"{meta}.feed_forward.w1", f"{gguf}.ffn_gate"))
        gate = flow.then(f"{name}.mlp.silu", "Silu", gate)
        up = add(f"{name}.mlp.up_proj", (width, hidden), (f"{meta}.feed_forward.w3", f"{gguf}.ffn_up"), seen)
        flow.then(f"{name}.mlp.multiply", "Mul", gate, up)
        add(f"{name}.mlp.down_proj", (hidden, width), (f"{meta}.feed_forward.w2", f"{gguf}.ffn_down"))
        before = flow.then(f"{name}.add_mlp", "Add", flow.here, middle)
    flow.then("norm", "RMSNormalization", weights=width)
    add("lm_head", (width, vocabulary), ("output", "output"))
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
            "softmax",
            "swiglu",
            "normalisation",
            "residual additions",
        ],
        flow.layers,
        flow.operations,
        flow.inputs,
        pruned_from="llama-7b" if pruned else "",
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


MODELS = (
    Sizes(
        "llama3.2-1b",
        "Llama 3.2 1B: 16 blocks, four heads of queries to one of keys, and the embedding as output head.",
        "config.json of meta-llama/Llama-3.2-1B",
        {"layers": 16, "hidden": 2048, "ffn": 8192, "heads": 32, "kv_heads": 8, "head_features": 64},
        vocabulary=128256,
        context=131072,
        tied=True,
    ),
    Sizes(
        "llama3.2-3b",
        "Llama 3.2 3B: 28 blocks, three heads of queries to one of keys, and the embedding as output head.",
        "config.json of meta-llama/Llama-3.2-3B",
        {"layers": 28, "hidden": 3072, "ffn": 8192, "heads": 24, "kv_heads": 8, "head_features": 128},
        vocabulary=128256,
        context=131072,
        tied=True,
    ),
    Sizes(
        "qwen2.5-7b",
        "Qwen2.5 7B: 28 blocks, seven heads of queries to one of keys.",
        "config.json of Qwen/Qwen2.5-7B",
        {"layers": 28, "hidden": 3584, "ffn": 18944, "heads": 28, "kv_heads": 4, "head_features": 128},
        vocabulary=152064,
        context=131072,
    ),
    Sizes(
        "qwen2.5-14b",
        "Qwen2.5 14B: 48 blocks, five heads of queries to one of keys.",
        "config.json of Qwen/Qwen2.5-14B",
        {"layers": 48, "hidden": 5120, "ffn": 13824, "heads": 40, "kv_heads": 8, "head_features": 128},
        vocabulary=152064,
        context=131072,
    ),
    Sizes(
        "bitnet-2b",
        "BitNet b1.58 2B4T as it is served on software for Llama: 30 blocks, four heads of queries to one of keys, and "
        "the embedding as output head, without the two further norms of its blocks (sub_norms).",
        "config.json of microsoft/bitnet-b1.58-2B-4T",
        {"layers": 30, "hidden": 2560, "ffn": 6912, "heads": 20, "kv_heads": 5, "head_features": 128},
        vocabulary=128256,
        context=4096,
        tied=True,
    ),
    Sizes(
        "llama-2-70b",
        "Llama 2 70B: 80 blocks, eight heads of queries to one of keys.",
        'H. Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", 2023, Table 1; config.json of '
        "meta-llama/Llama-2-70b-hf",
        {"layers": 80, "hidden": 8192, "ffn": 28672, "heads": 64, "kv_heads": 8, "head_features": 128},
        vocabulary=32000,
        context=4096,
    ),
)
"""Language models by their sizes, as they are served."""


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description="Write network files with published shapes and densities.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for network in networks():
        write_whole(options.out / f"{network.name}.toml", as_toml(network).encode())
        print(f"{network.name}: {len(network.layers)} layers")
    (options.out / "models").mkdir(exist_ok=True)
    for model in (each for dense in MODELS for each in (dense, dense.pruned("2:4"))):
        write_whole(options.out / "models" / f"{model.name}.toml", model.toml.encode())
        print(f"{model.name}: a language model")


if __name__ == "__main__":
    main()
