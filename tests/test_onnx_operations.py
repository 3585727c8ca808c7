"""Does every kind of operation with weights become products that give its output, and is the rest named in full?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx_graphs import model_of

import accelsim
from accelsim import InputError, Layer, Network, load_network
from accelsim.network.execution import outputs_of
from accelsim.network.forward import forward

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
reference = pytest.importorskip("onnx.reference")
helper, numpy_helper, FLOAT = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
MICROSOFT = "com.microsoft"
Array = np.ndarray


def read(tmp_path: Path, model: Any, batch_dim: int | None = None) -> Network:
    """The network of a model, of whose inputs this dimension counts samples, or none."""
    onnx.save(model, tmp_path / "net.onnx")
    inputs = [value.name for value in model.graph.input]
    return load_network(tmp_path / "net.onnx", batch_dims=dict.fromkeys(inputs, batch_dim))


def run(model: Any, **inputs: Array) -> Array:
    return reference.ReferenceEvaluator(model).run(None, inputs)[0]


def integers(seed: int, *shape: int, dtype: Any = np.float32, most: int = 6) -> Array:
    return np.random.default_rng(seed).integers(-most + 1, most, shape).astype(dtype)


def products(layer: Layer, samples: Array) -> Array:
    """Outputs (vectors, out_features) of a layer for samples that hold its vectors in order."""
    rows = layer.lower(np.asarray(samples).reshape(-1, *layer.input_shape))[:]
    return rows.astype(np.float64) @ layer.matrix.T.astype(np.float64) + (0 if layer.bias is None else layer.bias)


MATMULS = {
    "matrix": ((3, 4), (2, 7, 3), [""]),
    "vector": ((3,), (2, 7, 3), [""]),
    "leading dimensions of 1": ((1, 1, 3, 4), (7, 3), [""]),
    "one for each sample's head": ((5, 3, 4), (2, 5, 7, 3), [".0", ".1", ".2", ".3", ".4"]),
    "all on the same vectors": ((5, 3, 4), (7, 3), [""]),
    "all on the same vectors of each sample": ((5, 3, 4), (2, 1, 7, 3), [""]),
    "both": ((2, 5, 3, 4), (2, 1, 7, 3), [".0", ".1"]),
    "on one vector": ((3, 4), (3,), [""]),
}


@pytest.mark.parametrize("on_right", [True, False])
@pytest.mark.parametrize("case", MATMULS)
def test_products_with_a_constant_on_either_side(tmp_path: Path, case: str, on_right: bool) -> None:
    shape, data_shape, ends = MATMULS[case]
    weight, x = integers(1, *shape), integers(2, *data_shape)
    if not on_right:  # the same product, turned: (x w)^T = w^T x^T
        weight, x = (np.swapaxes(each, -1, -2) if each.ndim > 1 else each for each in (weight, x))
    node = helper.make_node("MatMul", ["x", "w"] if on_right else ["w", "x"], ["y"], name="mul")
    model = model_of([node], {"x": x}, {"w": weight})
    network = read(tmp_path, model)
    expected = run(model, x=x)
    assert [layer.name for layer in network] == [f"mul{end}" for end in ends]
    assert sum(layer.macs for layer in network) == expected.size * 3
    assert sum(layer.weight_count for layer in network) == weight.size
    # From here on as (..., vectors, 3) times (..., 3, outputs).
    if not on_right:
        weight, x = (np.swapaxes(each, -1, -2) if each.ndim > 1 else each for each in (weight, x))
        expected = np.swapaxes(expected, -1, -2) if min(weight.ndim, x.ndim) > 1 else expected
    weight = weight[:, None] if weight.ndim == 1 else weight
    x = x[None] if x.ndim == 1 else x
    given = np.broadcast_to(x, (*np.broadcast_shapes(x.shape[:-2], weight.shape[:-2]), *x.shape[-2:]))
    expected = expected.reshape(*given.shape[:-1], weight.shape[-1])
    batch = given.ndim - 2
    for number, layer in enumerate(network):
        part, answer = given, expected
        if case == "one for each sample's head":
            part, answer = given[:, number], expected[:, number]
        elif case == "both":
            part, answer = given[number, 0], np.moveaxis(expected[number], 0, 1)
        elif case == "all on the same vectors":
            part, answer = given[0], np.moveaxis(expected, 0, 1)
        elif case == "all on the same vectors of each sample":
            part, answer = given[:, 0], np.moveaxis(expected, 1, 2)
        assert batch >= 0
        assert np.array_equal(products(layer, part), answer.reshape(-1, layer.out_features))


def test_vectors_of_a_sample_are_those_of_all_by_the_batch(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="mul")
    network = read(tmp_path, model_of([node], {"x": integers(0, 4, 7, 3)}, {"w": integers(1, 3, 5)}), batch_dim=0)
    assert [layer.tokens for layer in network] == [7]


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("data_turned", [0, 1])
def test_gemm_with_its_constant_on_the_left(tmp_path: Path, turned: int, data_turned: int) -> None:
    weight, x, column = integers(1, 4, 3), integers(2, 3, 6), integers(3, 4, 1)
    node = helper.make_node("Gemm", ["w", "x", "c"], ["y"], name="g", transA=turned, transB=data_turned, beta=2.0)
    constants = {"w": weight.T if turned else weight, "c": column}
    model = model_of([node], {"x": x.T if data_turned else x}, constants)
    (layer,) = read(tmp_path, model)
    assert np.array_equal(products(layer, x.T).T, run(model, x=x.T if data_turned else x))
    assert np.array_equal(layer.bias, 2 * column[:, 0])


def test_a_matrix_that_a_gemm_adds_is_no_bias_and_is_named(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "w", "c"], ["y"], name="g")
    network = read(
        tmp_path, model_of([node], {"x": integers(0, 6, 3)}, {"w": integers(1, 3, 4), "c": integers(2, 6, 4)})
    )
    assert network["g"].bias is None
    assert [(str(each), each.weights, each.macs) for each in network.left_out] == [("g.add (Add)", 24, 0)]


EINSUMS = {
    "ij,jk->ik": ((7, 3), (3, 4), 1),
    "bij,kj->bik": ((2, 7, 3), (4, 3), 1),
    "...j,jk": ((2, 7, 3), (3, 4), 1),
    "bshd,hdn->bsn": ((2, 7, 5, 3), (5, 3, 4), 1),
    "bsm,mhd->bshd": ((2, 7, 3), (3, 5, 2), 1),
    "bshd,hde->bshe": ((2, 7, 5, 3), (5, 3, 4), 5),
    "nchw,oc->nohw": ((2, 3, 4, 5), (6, 3), 1),
}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("equation", EINSUMS)
def test_einsum_as_products_of_matrices(tmp_path: Path, equation: str, first: bool) -> None:
    shape, weight_shape, groups = EINSUMS[equation]
    x, weight = integers(1, *shape), integers(2, *weight_shape)
    left, _, out = equation.partition("->")
    data, held = left.split(",")
    text = f"{held},{data}->{out or '...k'}" if first else equation
    names = ["w", "x"] if first else ["x", "w"]
    model = model_of([helper.make_node("Einsum", names, ["y"], name="e", equation=text)], {"x": x}, {"w": weight})
    network = read(tmp_path, model)
    expected = np.einsum(equation, x, weight)
    assert np.array_equal(run(model, x=x), expected)
    contracted = {"bshd,hdn->bsn": 15}.get(equation, 3)
    assert sum(layer.macs for layer in network) == expected.size * contracted
    assert len(network) == groups
    if equation == "bshd,hde->bshe":
        for head, layer in enumerate(network):
            assert np.array_equal(products(layer, x[:, :, head]), expected[:, :, head].reshape(-1, 4))
    elif equation == "nchw,oc->nohw":
        assert np.array_equal(
            products(network.layers[0], np.moveaxis(x, 1, 3)), np.moveaxis(expected, 1, 3).reshape(-1, 6)
        )
    else:
        rows = network.layers[0].out_features
        assert np.array_equal(products(network.layers[0], x), expected.reshape(-1, rows))


def test_equations_that_are_no_product_of_matrices_are_named_with_their_work(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Einsum", ["x", "w"], ["a"], name="scale", equation="bi,i->bi"),
        helper.make_node("Einsum", ["a", "m"], ["b"], name="diagonal", equation="bi,ii->b"),
        helper.make_node("Einsum", ["x", "x"], ["c"], name="scores", equation="bi,ci->bc"),
        helper.make_node("Einsum", ["x", "w", "m"], ["d"], name="three", equation="bi,i,ij->bj"),
        helper.make_node("MatMul", ["x", "m"], ["y"], name="mul"),
    ]
    constants = {"w": integers(1, 3), "m": integers(2, 3, 3)}
    network = read(tmp_path, model_of(nodes, {"x": integers(0, 5, 3)}, constants, ("y", "b", "c", "d")))
    assert [layer.name for layer in network] == ["mul"]
    found = {each.name: (each.kind, each.weights, each.macs) for each in network.left_out}
    assert found == {
        "Einsum": ("", 0, 0),  # nothing is summed
        "diagonal": ("Einsum", 0, 5 * 3),  # m is the layer's, too
        "scores": ("Einsum of activations", 0, 5 * 5 * 3),
        "three": ("Einsum", 0, 5 * 3 * 3),  # by the vector first, in which nothing is summed
    }


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ((4, 6, 3, 2), {"strides": [2, 3]}),
        ((4, 3, 3, 3), {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 2], "output_padding": [1, 1]}),
        ((4, 6, 2, 2), {"dilations": [2, 1]}),
        ((4, 3, 3), {"group": 4, "strides": [2]}),
    ],
)
def test_a_transposed_convolution_adds_up_to_its_output(
    tmp_path: Path, kernel: tuple[int, ...], options: dict[str, Any]
) -> None:
    dims = len(kernel) - 2
    weight, x = integers(1, *kernel), integers(2, 2, 4, *(5, 4)[:dims])
    node = helper.make_node("ConvTranspose", ["x", "up.weight"], ["y"], **options)
    model = model_of([node], {"x": x}, {"up.weight": weight})
    network = read(tmp_path, model, batch_dim=0)
    (layer,) = network
    assert (layer.name, layer.kind) == ("up", "conv_transpose2d")
    groups = options.get("group", 1)
    # in / g x out x kernel x input pixels, as every input is multiplied by all filters of its group.
    assert layer.macs == 4 // groups * kernel[1] * groups * math.prod(kernel[2:]) * math.prod(x.shape[2:])
    assert "transposed convolutions (up)" in network.assumptions[0]
    # The overlap-add, pixel by pixel.
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})[0]
    images, sides = (x, kernel[2:]) if dims == 2 else (x[:, :, None], (1, kernel[2]))
    expected = expected if dims == 2 else expected[:, :, None]
    values = products(layer, images).reshape(2, *images.shape[2:], groups * kernel[1], *sides)
    (down, right), (down_rate, right_rate) = (
        ([1] * (2 - dims) + options.get(key, [1] * dims)) for key in ("strides", "dilations")
    )
    found = np.zeros((2, groups * kernel[1], 40, 40))
    for row, column, i, j in np.ndindex(*images.shape[2:], *sides):
        found[:, :, row * down + i * down_rate, column * right + j * right_rate] += values[:, row, column, :, i, j]
    top, left = options.get("pads", [0, 0])[:2]
    assert np.array_equal(found[:, :, top : top + expected.shape[2], left : left + expected.shape[3]], expected)


def test_a_transposed_convolution_is_saved_and_read_back(tmp_path: Path) -> None:
    node = helper.make_node("ConvTranspose", ["x", "up.weight"], ["y"], strides=[2, 2])
    network = read(
        tmp_path, model_of([node], {"x": integers(0, 1, 4, 5, 4)}, {"up.weight": integers(1, 4, 3, 2, 2)}), 0
    )
    network.save(tmp_path / "n.safetensors")
    again = load_network(tmp_path / "n.safetensors")
    for one, other in zip(network, again, strict=True):
        assert (one.kind, one.products, one.convolution) == (other.kind, other.products, other.convolution)
        assert np.array_equal(one.weight, other.weight)
    assert again.assumptions == network.assumptions
    with pytest.raises(
        InputError, match=r"layer up: adding up the outputs of a transposed convolution is not done here"
    ):
        forward(again, integers(0, 1, 4, 5, 4))
    with pytest.raises(InputError, match="layer up: adding up the outputs of a transposed convolution"):
        outputs_of(again["up"], integers(0, 1, 4, 5, 4))


def test_several_images_of_one_sample_are_all_convolved(tmp_path: Path) -> None:
    weight, x = integers(1, 4, 3, 3, 3), integers(2, 6, 3, 8, 7)
    model = model_of([helper.make_node("Conv", ["x", "c.weight"], ["y"])], {"x": x}, {"c.weight": weight})
    network = read(tmp_path, model)
    (layer,) = network
    assert (layer.tokens, layer.input_shape, layer.macs) == (6, (6, 3, 8, 7), 6 * 6 * 5 * 4 * 27)
    assert np.array_equal(products(layer, x), np.moveaxis(run(model, x=x), 1, 3).reshape(-1, 4))
    network.save(tmp_path / "n.safetensors")
    assert load_network(tmp_path / "n.safetensors")["c"].tokens == 6
    # Six images of one sample cost what six samples of one image do.
    chips = ["eie-64pe-45nm", "a100-pcie"]
    together, apart = (accelsim.simulate(each, chips, x) for each in (network, read(tmp_path, model, batch_dim=0)))
    assert together["batch"].tolist() == [1, 1]
    assert together.drop(columns="batch").equals(apart.drop(columns="batch"))


def quantised(seed: int, *shape: int, dtype: Any = np.uint8) -> Array:
    info = ml_dtypes.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(dtype)


SCALE, ZERO = np.float32(0.5), np.uint8(3)


def test_quantised_products_have_their_integers(tmp_path: Path) -> None:
    x, w, zeros = quantised(0, 6, 8), quantised(1, 8, 4), quantised(2, 4)
    image, filters = quantised(3, 2, 3, 6, 5), quantised(4, 4, 3, 3, 3, dtype=np.int8)
    nodes = [
        helper.make_node("MatMulInteger", ["x", "w", "z", "zeros"], ["y"], name="integer"),
        helper.make_node("QLinearMatMul", ["x", "s", "z", "w", "s", "zeros", "s", "z"], ["b"], name="linear"),
        helper.make_node("ConvInteger", ["image", "filters", "z"], ["c"], name="conv"),
        helper.make_node("QLinearConv", ["image", "s", "z", "filters", "s", "none", "s", "z", "bias"], ["d"], name="q"),
        helper.make_node("QGemm", ["x", "s", "z", "w", "s", "zeros", "bias"], ["e"], domain=MICROSOFT, name="gemm"),
    ]
    constants = {"w": w, "zeros": zeros, "filters": filters, "s": np.asarray(SCALE), "z": np.asarray(ZERO),
                 "none": np.asarray(np.int8(-2)), "bias": np.arange(4, dtype=np.int32)}  # fmt: skip
    model = model_of(nodes, {"x": x, "image": image}, constants, ("y", "b", "c", "d", "e"))
    network = read(tmp_path, model)
    wanted = w.astype(np.int64) - zeros
    for name in ("integer", "linear", "gemm"):
        assert np.array_equal(network[name].weight, wanted.T)
        assert network[name].weight.dtype == np.int16  # beyond -128 to 127
    assert network["conv"].weight.dtype == np.int8
    assert np.array_equal(network["conv"].weight, filters)
    assert np.array_equal(network["q"].weight, filters.astype(int) + 2)
    assert np.array_equal(network["q"].bias, np.arange(4))
    assert network["gemm"].bias.dtype == np.int32
    # Integers give the integers of the output.
    answers = reference.ReferenceEvaluator(
        model_of([nodes[0], nodes[2]], {"x": x, "image": image}, constants, ("y", "c"))
    )
    product, convolved = answers.run(None, {"x": x, "image": image})
    assert np.array_equal(products(network["integer"], x.astype(int) - 3), product)
    seen = products(network["conv"], image.astype(int) - 3)
    assert np.array_equal(seen, np.moveaxis(convolved, 1, 3).reshape(-1, 4))
    assert network.scope.weights_left_out == 0


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int8", "uint8", "float8_e4m3fn"])
@pytest.mark.parametrize("scales", ["tensor", "axis", "blocks"])
def test_dequantised_weights_have_their_integers(tmp_path: Path, dtype: str, scales: str) -> None:
    if dtype.startswith("float8"):
        codes = integers(0, 8, 4).astype(ml_dtypes.float8_e4m3fn)
    else:
        codes = quantised(0, 8, 4, dtype=np.dtype(dtype) if "4" not in dtype else getattr(ml_dtypes, dtype))
    shape = {"tensor": (), "axis": (4,), "blocks": (2, 4)}[scales]
    zeros = np.random.default_rng(1).integers(0, 1 if dtype.startswith("float8") else 6, shape).astype(codes.dtype)
    options = {"tensor": {}, "axis": {"axis": 1}, "blocks": {"axis": 0, "block_size": 4}}[scales]
    nodes = [
        helper.make_node("DequantizeLinear", ["fc.weight_quantized", "s", "z"], ["w"], **options),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    scale = np.full(shape, 0.25, np.float32)
    x = integers(2, 5, 8)
    model = model_of(nodes, {"x": x}, {"fc.weight_quantized": codes, "s": scale, "z": zeros})
    network = read(tmp_path, model)
    (layer,) = network
    assert (layer.name, layer.stored_as) == ("fc", dtype)
    spread = np.repeat(zeros, 4, axis=0) if scales == "blocks" else zeros
    assert np.array_equal(layer.weight.T, codes.astype(np.float32) - spread.astype(np.float32))
    assert np.allclose(products(layer, x) / 4, run(model, x=x))
    assert layer.weight.dtype == codes.dtype if dtype.startswith("float8") else layer.weight.dtype.kind == "i"
    assert network.scope.weights_left_out == 0


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("with_zeros", [False, True])
def test_weights_in_packed_blocks(tmp_path: Path, bits: int, with_zeros: bool) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    rng = np.random.default_rng(0)
    out, columns, block = 5, 70, 32  # three blocks of which the last is not full
    codes = rng.integers(0, 2**bits, (out, 3, block), dtype=np.uint8)
    zeros = rng.integers(0, 2**bits, (out, 3), dtype=np.uint8)
    scales = (2.0 ** rng.integers(-3, 2, (out, 3))).astype(np.float32)

    def packed(values: Array) -> Array:  # the lowest bits hold the first
        if bits == 8:
            return values
        even = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, values.shape[-1] % 2)])
        return even[..., ::2] | (even[..., 1::2] << 4)

    constants = {"mlp.up.MatMul.weight_Q4": packed(codes), "scales": scales}
    constants |= {"zeros": packed(zeros)} if with_zeros else {}
    node = helper.make_node("MatMulNBits", ["x", *constants], ["y"], domain=MICROSOFT, K=columns, N=out, bits=bits,
                            block_size=block)  # fmt: skip
    x = integers(1, 3, columns)
    model = model_of([node], {"x": x}, constants)
    network = read(tmp_path, model)
    (layer,) = network
    taken = zeros if with_zeros else np.full_like(zeros, 2 ** (bits - 1))
    wanted = (codes.astype(int) - taken[:, :, None]).reshape(out, -1)[:, :columns]
    assert (layer.name, layer.stored_as) == ("mlp.up.MatMul", f"int{bits} in blocks of 32")
    assert np.array_equal(layer.weight, wanted)
    assert (layer.macs, network.scope.weights_left_out) == (3 * out * columns, 0)
    # The scale of each block makes them the values that are multiplied.
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = layer.weight * np.repeat(scales, block, axis=1)[:, :columns]
    assert np.allclose(session.run(None, {"x": x})[0], x @ values.T, atol=1e-3)


def test_weights_in_bytes_that_are_no_layer_are_counted_one_by_one(tmp_path: Path) -> None:
    """Two weights of 4 bits in each byte of a table and of a matrix whose codes stand for other numbers."""
    constants = {"table": quantised(0, 9, 8), "s": np.ones((9, 1), np.float32), "codes": quantised(1, 16 * 4 // 2),
                 "absmax": np.ones(4, np.float32), "fc.weight": integers(2, 4, 2)}  # fmt: skip
    nodes = [
        helper.make_node("GatherBlockQuantized", ["table", "index", "s"], ["a"], domain=MICROSOFT, name="embed", bits=4,
                         block_size=16, quantize_axis=1),
        helper.make_node("MatMulBnb4", ["x", "codes", "absmax"], ["b"], domain=MICROSOFT, name="nf4", K=16, N=4,
                         block_size=16, quant_type=1),
        helper.make_node("MatMul", ["z", "fc.weight"], ["y"]),
    ]  # fmt: skip
    inputs = {"index": np.arange(5), "x": integers(3, 5, 16), "z": integers(4, 5, 4)}
    network = read(tmp_path, model_of(nodes, inputs, constants, ("y", "a", "b")))
    assert [(str(each), each.weights, each.macs) for each in network.left_out] == [
        ("embed (look-up)", 9 * 16, 0),
        ("nf4 (MatMulBnb4)", 64, 5 * 64),
    ]


def test_quantised_recurrent_weights_are_turned(tmp_path: Path) -> None:
    inputs, states = quantised(0, 2, 3, 20, dtype=np.int8), quantised(1, 2, 5, 20)
    zero_in, zero_state = np.array([1, -1], np.int8), quantised(2, 2, 20)
    constants = {"w": inputs, "r": states, "b": integers(3, 2, 40), "ws": np.ones(2, np.float32), "wz": zero_in,
                 "rs": np.ones((2, 20), np.float32), "rz": zero_state}  # fmt: skip
    node = helper.make_node("DynamicQuantizeLSTM", ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"], ["y"],
                            domain=MICROSOFT, name="l", hidden_size=5, direction="bidirectional")  # fmt: skip
    network = read(tmp_path, model_of([node], {"x": integers(0, 7, 2, 3)}, constants), batch_dim=1)
    assert [layer.name for layer in network] == ["l.ih", "l.hh", "l.ih_reverse", "l.hh_reverse"]
    for side in range(2):
        ih, hh = network.layers[2 * side : 2 * side + 2]
        assert np.array_equal(ih.weight, inputs[side].T.astype(int) - zero_in[side])
        assert np.array_equal(hh.weight, states[side].T.astype(int) - zero_state[side][:, None])
    assert network.scope.weights_left_out == 0


@pytest.mark.parametrize("layout", [0, 1])
def test_recurrent_layers_of_several_samples_and_their_states(tmp_path: Path, layout: int) -> None:
    constants = {"w": integers(0, 1, 15, 3), "r": integers(1, 1, 15, 5), "h": np.zeros((1, 4, 5), np.float32)}
    node = helper.make_node("GRU", ["x", "w", "r", "", "", "h"], ["y"], name="g", hidden_size=5, layout=layout)
    x = integers(2, 4, 7, 3) if layout else integers(2, 7, 4, 3)
    whole = read(tmp_path, model_of([node], {"x": x}, constants))
    assert [(layer.tokens, layer.steps) for layer in whole] == [(28, 1), (4, 7)]
    assert whole.scope.macs == 28 * 15 * (3 + 5)
    assert whole.scope.weights_left_out == 0


def test_attention_of_onnx_runtime(tmp_path: Path) -> None:
    constants = {"qkv.weight": integers(0, 6, 24), "qkv.bias": integers(1, 24)}
    nodes = [
        helper.make_node("Attention", ["x", *constants], ["a"], domain=MICROSOFT, num_heads=2, name="att"),
        helper.make_node("MultiHeadAttention", ["q", "q", "q"], ["y"], domain=MICROSOFT, num_heads=2, name="many"),
    ]
    x = integers(2, 3, 7, 6)
    network = read(tmp_path, model_of(nodes, {"x": x, "q": integers(3, 3, 7, 8)}, constants, ("y", "a")), batch_dim=0)
    (layer,) = network
    assert (layer.name, layer.tokens, layer.in_features, layer.out_features) == ("qkv", 7, 6, 24)
    assert np.array_equal(layer.weight, constants["qkv.weight"].T)
    # Queries times keys, and those times values, 8 wide each.
    found = {each.name: (each.kind, each.macs) for each in network.left_out}
    assert found == {
        f"{name}.{product}": ("attention", 7 * 7 * 8) for name in ("att", "many") for product in ("scores", "values")
    }


def test_linear_models(tmp_path: Path) -> None:
    coefficients = integers(0, 3, 4)
    node = helper.make_node("LinearRegressor", ["x"], ["y"], domain="ai.onnx.ml", name="model", targets=3,
                            coefficients=coefficients.ravel().tolist(), intercepts=[1.0, 2.0, 3.0])  # fmt: skip
    x = integers(1, 6, 4)
    model = model_of([node], {"x": x}, {})
    (layer,) = read(tmp_path, model, batch_dim=0)
    assert (layer.name, layer.tokens) == ("model", 1)
    assert np.array_equal(products(layer, x), run(model, x=x))


def test_every_constant_is_a_layer_part_of_one_or_named(tmp_path: Path) -> None:
    """Elements of all constants of two or more dimensions, against layers and what is left out."""
    constants = {
        "embed": integers(0, 9, 6), "position": integers(1, 7, 6), "fc.weight": integers(2, 6, 6),
        "fc.bias": integers(3, 1, 6), "tied": integers(5, 6, 4),
        "filters": integers(6, 4, 4, 1, 1, 1), "unused": integers(8, 3, 5), "given": integers(7, 2, 2),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["embed", "index"], ["a"], name="tokens"),
        helper.make_node("Add", ["a", "position"], ["b"], name="positions"),
        helper.make_node("MatMul", ["b", "fc.weight"], ["c"]),
        helper.make_node("Add", ["c", "fc.bias"], ["d"], name="bias"),
        helper.make_node("MatMul", ["d", "tied"], ["e"], name="head"),
        helper.make_node("Add", ["e", "x"], ["f"], name="residual"),
        helper.make_node("Relu", ["f"], ["g"], name="first"),
        helper.make_node("Relu", ["g"], ["y"], name="second"),
        helper.make_node("Conv", ["volume", "filters"], ["z"], name="volume_conv"),
        helper.make_node("Transpose", ["x"], ["t"]),
        helper.make_node("MatMul", ["x", "t"], ["scores"], name="scores"),
        helper.make_node("Strange", ["x", "given"], ["u"], domain="of.others", name="strange"),
    ]
    inputs = {"x": integers(8, 7, 4), "index": np.arange(7), "volume": integers(9, 1, 4, 2, 3, 5)}
    network = read(tmp_path, model_of(nodes, inputs, constants, ("y", "z", "scores")))
    assert [layer.name for layer in network] == ["fc", "head"]
    assert {str(each): (each.weights, each.macs) for each in network.left_out} == {
        "tokens (look-up)": (54, 0),
        "positions (Add)": (42, 0),
        "Add": (0, 0),
        "Relu": (0, 0),
        "volume_conv (Conv of 3 dimensions)": (16, 16 * 30),
        "Transpose": (0, 0),
        "scores (MatMul of activations)": (0, 7 * 7 * 4),
        "strange (of.others.Strange)": (4, None),
        "unused (tensor that no operation uses)": (15, 0),
    }
    held = sum(each.size for each in constants.values() if each.ndim >= 2) - constants["fc.bias"].size  # that of fc
    assert network.scope.weights + network.scope.weights_left_out == held


B, S, P, H, KV, D = 2, 5, 11, 6, 3, 4
"""Samples, tokens, tokens before them, heads, heads of keys and values, width of a head."""

WORK = {
    "keys and values for several heads each": (
        ("GroupQueryAttention", MICROSOFT, {"num_heads": H, "kv_num_heads": KV}),
        [[B, S, H * D], [B, S, KV * D], [B, S, KV * D], [B, KV, P, D], [B, KV, P, D]],
        2 * B * H * S * (P + S) * D,
    ),
    "queries, keys and values in one": (
        ("GroupQueryAttention", MICROSOFT, {"num_heads": H, "kv_num_heads": KV}),
        [[B, S, (H + 2 * KV) * D]],
        2 * B * H * S * S * D,
    ),
    "packed by heads": (("MultiHeadAttention", MICROSOFT, {"num_heads": H}), [[B, S, H, 3, D]], 2 * B * H * S * S * D),
    "keys of another sequence": (
        ("MultiHeadAttention", MICROSOFT, {"num_heads": H}),
        [[B, S, H * D], [B, H, P, D], [B, H, P, 2 * D]],
        B * H * S * P * 3 * D,
    ),
    "attention of ONNX": (
        ("Attention", "", {"q_num_heads": H, "kv_num_heads": KV}),
        [[B, S, H * D], [B, P, KV * D], [B, P, KV * 2 * D]],
        B * H * S * P * 3 * D,
    ),
    "two of eight experts": (
        ("MoE", MICROSOFT, {"k": 2}),
        [[B, S, 16], [B * S, 8], [8, 32, 16], [8, 32], [8, 16, 32]],
        B * S * 2 * (32 * 16 + 16 * 32),
    ),
    "deformed windows": (("DeformConv", "", {}), [[1, 3, 6, 5], [4, 3, 3, 2]], 4 * 4 * 4 * 3 * 3 * 2),
    "three dimensions": (("Conv", "", {"group": 2}), [[B, 4, 5, 6, 7], [6, 2, 3, 3, 3]], B * 6 * 3 * 4 * 5 * 2 * 27),
    "nothing": (("Relu", "", {}), [[3, 4]], 0),
    "scales": (("BatchNormalization", "", {}), [[1, 3, 4], [3], [3], [3], [3]], 0),
    "a transform": (("DFT", "", {}), [[1, 8, 1]], None),
    "of another maker": (("Gemm", "of.others", {}), [[3, 4], [4, 5]], None),
    "sizes that do not fit": (("MatMul", "", {}), [[3, 4], [5, 6]], None),
}


@pytest.mark.parametrize("case", WORK)
def test_work_of_one_operation(case: str) -> None:
    from accelsim.network.onnx_graph.macs import macs_of

    (kind, domain, attributes), shapes, expected = WORK[case]
    names = [f"input{number}" for number in range(len(shapes))]
    node = helper.make_node(kind, names, ["y"], domain=domain, **attributes)
    assert macs_of(node, dict(zip(names, shapes, strict=True)), {}) == expected
    if expected:
        assert macs_of(node, {}, {}) is None
