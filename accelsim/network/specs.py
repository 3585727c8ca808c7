"""What a network file may say, and how it is checked."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, JsonValue
from pydantic.dataclasses import dataclass

from accelsim.config import CHECKED
from accelsim.defaults import MOST_SEED
from accelsim.errors import did_you_mean
from accelsim.kinds import KINDS
from accelsim.network.graph import Channels
from accelsim.network.left_out import LeftOut

Size = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
Pair = list[Size]
NonNegativeInt = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
NonNegativeCount = Annotated[int, Field(strict=True, ge=0, le=2**62)]
Seed = Annotated[int, Field(strict=True, ge=0, le=MOST_SEED)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]
Name = Annotated[str, Field(min_length=1)]


DIMENSIONS = {
    "linear": ("out_features", "in_features"),
    "conv2d": ("out_channels", "in_channels", "kernel"),
    "conv_transpose2d": ("out_channels", "in_channels", "kernel"),
}
"""What synthetic weights need, by kind of layer."""

GEOMETRY = ("stride", "padding", "dilation", "groups")
"""What a convolution may leave out."""

KEYS = {
    "linear": (*DIMENSIONS["linear"], "tokens", "steps"),
    "conv2d": (*DIMENSIONS["conv2d"], *GEOMETRY, "input_hw", "tokens"),
    "conv_transpose2d": (*DIMENSIONS["conv2d"], *GEOMETRY, "input_hw", "tokens"),
}
"""What belongs to one kind of layer."""

TENSOR_KEYS = ("weight", "bias", "activations", "codebook")
"""What a layer takes from tensors: keys of a network file, endings of names in a bare one."""

ARRAY_KEYS = ("scale", "shift", "mean", "variance", "value")
"""What an operation takes from tensors."""

ATTRIBUTE_KEYS = (
    *("kernel", "stride", "padding", "dilation", "ceil", "count_padding", "axis", "start", "stop", "order"),
    *("epsilon", "groups", "size", "alpha", "beta", "bias", "min", "max", "approximate", "factor"),
)
"""What an operation needs to know beside its inputs: each belongs to those that its meaning names."""

METADATA_KEY = "accelsim"
"""Of a tensor file: the same keys as JSON, each tensor by its name in that file."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SyntheticSpec:
    """Weights drawn from a seed."""

    density: Annotated[float, Field(strict=True, ge=0, le=1)]
    """Share of weights that are not zero."""
    pattern: str = "fine"
    """fine, or nm:N:M, of a convolution with channels fastest; the density is then N / M."""
    seed: Seed = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        """Check what the keys say together; raises ValueError."""
        if self.pattern == "fine":
            return
        n, m = self.n_of_m
        if not 1 <= n <= m <= 32:
            raise ValueError(f'pattern: must be "fine" or "nm:N:M" with 1 <= N <= M <= 32 (got "{self.pattern}")')
        if abs(self.density - n / m) > 1e-9:
            raise ValueError(f"density: of {self.pattern} is {n / m:g} (got {self.density:g}); correct one of them")

    @property
    def claimed(self) -> str | None:
        """The granularity that these weights have by construction, where it is a pattern."""
        return None if self.pattern == "fine" else self.pattern

    @property
    def n_of_m(self) -> tuple[int, int]:
        """N and M of the pattern, 0 and 0 if it has none."""
        found = re.fullmatch(r"nm:(\d{1,3}):(\d{1,3})", self.pattern, re.ASCII)
        return (int(found[1]), int(found[2])) if found else (0, 0)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DensitySpec:
    """Activations drawn from a seed."""

    density: Share
    """Share of activations that are not zero."""
    seed: Seed = 0
    """Of the draws."""
    batch: Size = 1
    """Samples that are drawn."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LayerSpec:
    """One [[layer]] of a network file."""

    name: str
    """What it is called in results; each layer its own."""
    inputs: tuple[str, ...] = ()
    """Name of the layer, operation or input of the network that it takes, a list of one: maps are flattened, channel
    first, where it takes vectors. The layer before it where it is left out, of the first the network's first input."""
    kind: Literal["linear", "conv2d", "conv_transpose2d"] = "linear"
    """linear: a matrix; conv2d: a convolution; conv_transpose2d: a transposed one, as it is computed: the 1 x 1
    convolution of its input with filters (out x kh x kw, in / groups, 1, 1). Its weight may be stored as that or as
    (in, out / groups, kh, kw)."""
    weight: str | None = None
    """`file.safetensors:tensor`, the file relative to this one."""
    transpose: Annotated[bool, Field(strict=True)] = False
    """true: the weight is stored the other way round, (in, out), or (kh, kw, in / groups, out) of a convolution."""
    synthetic: SyntheticSpec | None = None
    out_features: Size | None = None
    """Outputs of a linear layer."""
    in_features: Size | None = None
    """Inputs of a linear layer."""
    bias: str | None = None
    """`file.safetensors:tensor` (out_features,)."""
    activations: str | DensitySpec | None = None
    """`file:tensor`, one sample or a batch of them; or a table with a density to draw them by."""
    codebook: str | None = None
    """The weights that a layer shares, `file:tensor`, the first of them 0."""
    granularity: str | None = None
    """Which weights were pruned together, as in fine or nm:2:4; said in results."""
    tokens: Size | None = None
    """Vectors of one sample, each multiplied by the same weights; of a convolution, images of one sample."""
    steps: Size | None = None
    """Times that the product runs one after another, as that of an LSTM's recurrent weights; tokens are of one step."""
    out_channels: Size | None = None
    """Filters of a convolution."""
    in_channels: Size | None = None
    """Channels of its input."""
    kernel: Size | Pair | None = None
    """Height and width of its filters."""
    stride: Size | Pair | None = None
    """Of its windows, downwards and to the right; 1 where it is left out."""
    padding: NonNegativeInt | list[NonNegativeInt] | None = None
    """Rows and columns of zeros on every side of its input; 0 where it is left out."""
    dilation: Size | Pair | None = None
    """Distance of the elements of a window; 1 where it is left out."""
    groups: Size | None = None
    """Groups of channels with filters of their own; 1 where it is left out."""
    input_hw: Size | Pair | None = None
    """Height and width of a convolution's input, as kernel, stride, padding and dilation may give them too."""

    def __post_init__(self) -> None:
        """Check what the keys say together; raises ValueError."""
        belongs = {key: kind for kind, keys in reversed(KEYS.items()) for key in keys}
        problems = [
            f'{key}: belongs to kind = "{kind}"; leave it out, or correct the kind'
            for key, kind in belongs.items()
            if key not in KEYS[self.kind] and getattr(self, key) is not None
        ]
        if (self.weight is None) == (self.synthetic is None):
            problems.append('give either weight = "file:tensor" or synthetic = { density = ... }')
        elif self.synthetic is not None:
            missing = [key for key in DIMENSIONS[self.kind] if getattr(self, key) is None]
            if missing:
                problems.append(f"synthetic weights need {' and '.join(missing)}; add them")
        if self.transpose and self.weight is None:
            problems.append("transpose: turns the weight of a file, and there is none; leave it out")
        if self.kind != "linear" and self.input_hw is None:
            problems.append("input_hw: is missing; add the height and width of the input, as in [224, 224]")
        if problems:
            raise ValueError(*problems)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LeftOutSpec:
    """An operation or a tensor that is named and not simulated."""

    name: str
    """Where it is."""
    kind: str = ""
    """What it is, such as "look-up" or "attention"."""
    weights: NonNegativeCount = 0
    """Elements of its tensors of two or more dimensions."""
    macs: NonNegativeCount = 0
    """Multiply-accumulates of one sample."""
    macs_unknown: bool = False
    """true: nobody knows how many multiply-accumulates; leave `macs` out then."""

    @property
    def left_out(self) -> LeftOut:
        """What it describes."""
        return LeftOut(self.name, self.kind, self.weights, None if self.macs_unknown else self.macs)


Axis = Annotated[int, Field(strict=True, ge=-8, le=7)]
Number = Annotated[float, Field(strict=True, ge=-3.5e38, le=3.5e38, allow_inf_nan=False)]
Index = Annotated[int, Field(strict=True, ge=-(2**31), le=2**31 - 1)]
Kind = Annotated[str, Field(pattern=f"^({'|'.join(KINDS)})$")]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ProductSpec:
    """A product of activations by activations of one sample, such as that of queries by keys."""

    groups: Size
    """Products side by side, such as heads of queries."""
    rows: Size
    """Outputs of each vector: keys that a query meets, or features of a value."""
    columns: Size
    """Inputs of each: features of a key, or keys."""
    vectors: Size
    """Vectors of each group: queries."""
    causal: Annotated[bool, Field(strict=True)] = False
    """Whether each query meets only keys up to its own place."""
    operand_groups: NonNegativeInt = 0
    """Second operands that there are, as many as heads of keys and values where several groups share one; 0: groups."""

    def __post_init__(self) -> None:
        """Check what the keys say together; raises ValueError."""
        if self.operand_groups and self.groups % self.operand_groups:
            raise ValueError(f"operand_groups: {self.operand_groups} do not divide {self.groups} groups; correct one")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class OperationSpec:
    """One [[operation]] of a network file: what stands between layers, said of one sample.

    Axis 0 is the first dimension behind the one that counts samples.
    """

    name: Name
    """Used by no layer, input or other operation."""
    inputs: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the layers, operations and inputs of the network whose outputs it takes, in order."""
    does: str = ""
    """What ONNX calls it, as in Relu or MaxPool, in capitals or not; AttentionScores and AttentionValues are the two
    products of an attention. Of those that docs/networks.md lists, kind, shape, reads and channels follow."""
    kind: Kind | None = None
    """What results call it: activation, attention, concat, elementwise, embedding, normalisation, pooling, reshape,
    softmax or other; of other operations than those listed it must be given."""
    shape: Annotated[list[Size], Field(max_length=8)] | None = None
    """Of its output; of operations that are not listed, that of its first input where it is left out."""
    product: ProductSpec | None = None
    """What an attention multiplies."""
    channels: Channels | None = None
    """How the channels of what it takes become those that it gives: same, joined, flattened, or mixed."""
    reads: NonNegativeCount | None = None
    """Elements of activations that it reads; all of its inputs once where it is left out."""
    weights: NonNegativeCount | None = None
    """Elements of its own tensors that it reads, of a look-up the rows; those of its arrays where it is left out."""
    macs: NonNegativeCount = 0
    """Multiply-accumulates, where no product tells them."""
    macs_unknown: Annotated[bool, Field(strict=True)] = False
    """true: nobody knows how many multiply-accumulates; leave `macs` out then."""
    kernel: Size | Pair | None = None
    """Of MaxPool and AveragePool: height and width of windows."""
    stride: Size | Pair | None = None
    """Of windows, downwards and to the right; 1 where it is left out."""
    padding: NonNegativeInt | list[NonNegativeInt] | None = None
    """Around maps that are pooled: on every side, [height, width], or [top, left, bottom, right]; 0 where left out."""
    dilation: Size | Pair | None = None
    """Distance of the elements of a window; 1 where it is left out."""
    ceil: Annotated[bool, Field(strict=True)] | None = None
    """true: windows may reach over the end of maps; false where it is left out."""
    count_padding: Annotated[bool, Field(strict=True)] | None = None
    """true: zeros of the padding count in the mean of AveragePool; false where it is left out."""
    axis: Axis | list[Axis] | None = None
    """Of Softmax, Concat, Split, Slice, LayerNormalization and ReduceMean; -1 where the first and the last may do."""
    start: Index | None = None
    """Of Split and Slice: the first index that stays; 0 where it is left out."""
    stop: Index | None = None
    """Of Split and Slice: the first index that goes; none where it is left out."""
    order: list[Axis] | None = None
    """Of Transpose: the axes of its input in their new order; the other way round where it is left out."""
    epsilon: Number | None = None
    """Of normalisations: what is added to a variance; 1e-5 where it is left out."""
    groups: Size | None = None
    """Of GroupNormalization: groups of channels."""
    size: Size | None = None
    """Of LRN: channels that are added up."""
    alpha: Number | None = None
    """Of LRN, 1e-4 where it is left out; of LeakyRelu, the slope below 0, 0.01."""
    beta: Number | None = None
    """Of LRN: the exponent; 0.75 where it is left out."""
    bias: Number | None = None
    """Of LRN: what is added to the sum; 1 where it is left out."""
    min: Number | None = None
    """Of Clip: the smallest value."""
    max: Number | None = None
    """Of Clip: the largest value."""
    approximate: Literal["none", "tanh"] | None = None
    """Of Gelu: whether a tanh stands for the error function; none where it is left out."""
    factor: Number | None = None
    """Of AttentionScores: what products are multiplied by; 1 / sqrt(columns) where it is left out."""
    scale: str | None = None
    """Of normalisations, `file:tensor` as of a layer: by which channels are multiplied."""
    shift: str | None = None
    """Of normalisations, `file:tensor`: what is added to channels."""
    mean: str | None = None
    """Of BatchNormalization, `file:tensor`."""
    variance: str | None = None
    """Of BatchNormalization, `file:tensor`."""
    value: str | Number | None = None
    """Of Add, Sub, Mul and Div: a second operand, a number or `file:tensor`; of Gather the table."""
    attributes: dict[str, JsonValue] = Field(default_factory=dict)
    """What else is known of it, by any name."""

    def __post_init__(self) -> None:
        """Check what the keys say together; raises ValueError."""
        pairs = {key: getattr(self, key) for key in ("kernel", "stride", "dilation")}
        problems = [
            f"{key}: must be a whole number or two of them, [height, width] (got {value})"
            for key, value in pairs.items()
            if isinstance(value, list) and len(value) != 2
        ]
        if isinstance(self.padding, list) and len(self.padding) not in (2, 4):
            problems.append(f"padding: must be one, two or four whole numbers (got {self.padding})")
        if problems:
            raise ValueError(*problems)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class NetworkSpec:
    """A network file."""

    name: str
    """What it is called in results."""
    layer: Annotated[list[LayerSpec], Field(min_length=1)]
    operation: list[OperationSpec] = Field(default_factory=list)
    """What stands between layers; without it, and without `inputs` of layers, nothing is said of that."""
    inputs: dict[str, Annotated[list[Size], Field(min_length=1, max_length=8)]] = Field(default_factory=dict)
    """Shapes of what the network takes, of one sample, by name; the input of the first layer where it is left out."""
    runtime: str = ""
    """Whose words operations are said in where they come from elsewhere, as in a saved network: NumPy runs none."""
    order: tuple[str, ...] = ()
    """Names of all layers and operations in the order in which they run, as in a saved network; operations close behind
    what they take where it is left out."""
    outputs: tuple[str, ...] = ()
    """Names of what the network gives, the answer first; what nothing else takes where it is left out."""
    not_simulated: tuple[str | LeftOutSpec, ...] = ()
    """Operations without weights, such as "maxpool1", by name; others as tables with their size."""
    assumptions: tuple[str, ...] = ()
    """What was taken for granted where the network comes from."""
    aliases: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Names under which files of weights keep a layer, or what is not simulated, by its name here; the n-th of all
    layers belong together, as those of one library."""
    description: str = ""
    """What it is, in a sentence or two; `accelsim list` shows it."""
    source: str = ""
    """Where it is from."""
    notes: str = ""
    """What else a reader should know."""
    provenance: dict[str, JsonValue] = Field(default_factory=dict)
    """Where the weights come from: criterion, sparsity, accuracy, seed and the like."""

    def __post_init__(self) -> None:
        """Check that aliases are of something; raises ValueError."""
        known = {layer.name for layer in self.layer}
        known |= {each if isinstance(each, str) else each.name for each in self.not_simulated}
        unknown = [
            f"aliases: no layer is called '{name}'{did_you_mean(name, known)}"
            for name in self.aliases
            if name not in known
        ]
        if unknown:
            raise ValueError(*unknown)
