"""Is the graph of a network read as its file describes it, derived where it may be, saved whole, and shown?"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Run
from safetensors.numpy import save_file

from accelsim import InputError, Layer, Network, load_network
from accelsim.inspection import inspect_graph
from accelsim.network import LeftOut
from accelsim.network.graph import ActivationProduct, Graph, Operation, in_order
from accelsim.network.operations import OPERATORS
from accelsim.network.topology import chain

LAYER = """
[[layer]]
name = "{name}"
in_features = {inputs}
out_features = {outputs}
synthetic = {{ density = 0.5 }}
{more}
"""

CONV = """
[[layer]]
name = "{name}"
kind = "conv2d"
in_channels = {inputs}
out_channels = {outputs}
kernel = 3
padding = 1
input_hw = {hw}
synthetic = {{ density = 0.5 }}
{more}
"""

BRANCHES = """
name = "branches"
not_simulated = ["softmax"]
operation = [
    { name = "relu", does = "Relu", inputs = ["stem"] },
    { name = "pool", does = "max_pool", inputs = ["relu"], kernel = 3, stride = 2, padding = 1 },
    { name = "add", does = "Add", inputs = ["branch", "pool"] },
    { name = "joined", does = "Concat", inputs = ["add", "pool"], axis = 0 },
    { name = "flat", does = "Flatten", inputs = ["joined"] },
    { name = "softmax", does = "Softmax", inputs = ["fc"] },
]
[inputs]
image = [3, 9, 9]
""" + "".join(
    [
        CONV.format(name="stem", inputs=3, outputs=4, hw=9, more=""),
        CONV.format(name="branch", inputs=4, outputs=4, hw=5, more='inputs = ["pool"]'),
        LAYER.format(name="fc", inputs=200, outputs=7, more='inputs = ["flat"]'),
    ]
)

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "net.toml"
        path.write_text(text)
        return path

    return written


def test_what_a_file_need_not_say_is_derived(write: Write) -> None:
    """Shapes by hand: 9 x 9 padded by 1 holds (9 + 2 - 3) // 2 + 1 = 5 windows of 3; 8 maps of 5 x 5 are 200."""
    graph = load_network(write(BRANCHES)).graph
    assert graph is not None
    assert graph.inputs == {"image": (3, 9, 9)}
    assert graph.sources == {"stem": ("image",), "branch": ("pool",), "fc": ("flat",)}
    assert graph.outputs == ("softmax",)
    assert graph.order == ("stem", "relu", "pool", "branch", "add", "joined", "flat", "fc", "softmax")
    told = {each.name: (each.kind, each.shape, each.channels, each.reads) for each in graph.operations}
    assert told == {
        "relu": ("activation", (4, 9, 9), "same", 324),
        "pool": ("pooling", (4, 5, 5), "same", 324),
        "add": ("elementwise", (4, 5, 5), "same", 200),
        "joined": ("concat", (8, 5, 5), "joined", 200),
        "flat": ("reshape", (200,), "flattened", 200),
        "softmax": ("softmax", (7,), "mixed", 7),
    }


def test_a_file_that_says_nothing_of_it_has_no_graph(write: Write) -> None:
    assert load_network(write('name = "n"' + LAYER.format(name="a", inputs=3, outputs=2, more=""))).graph is None


def test_an_attention_is_told_by_its_products(write: Write) -> None:
    """4 heads of 2 features, 5 tokens: 4 x 5 x 5 x 2 = 200 multiply-accumulates for each of its two products."""
    text = (
        """
name = "attention"
operation = [
    { name = "scores", does = "AttentionScores", inputs = ["q", "k"], product = PRODUCT },
    { name = "softmax", does = "Softmax", inputs = ["scores"] },
    { name = "values", does = "AttentionValues", inputs = ["softmax", "v"], product = VALUES },
    { name = "turned", does = "RotaryEmbedding", kind = "elementwise", inputs = ["values"] },
]
""".replace("PRODUCT", "{ groups = 4, rows = 5, columns = 2, vectors = 5, causal = true, operand_groups = 2 }").replace(
            "VALUES", "{ groups = 4, rows = 2, columns = 5, vectors = 5, operand_groups = 2 }"
        )
        + "".join(
            LAYER.format(name=name, inputs=3, outputs=outputs, more='tokens = 5\ninputs = ["input"]')
            for name, outputs in (("q", 8), ("k", 4), ("v", 4))
        )
    )
    network = load_network(write(text))
    operations = network.graph.by_name
    assert operations["scores"].product == ActivationProduct(4, 5, 2, 5, True, 2)
    assert (operations["scores"].shape, operations["values"].shape) == ((4, 5, 5), (5, 8))
    assert operations["turned"].shape == (5, 8)  # that of what it takes, where nothing is known of it
    assert network.left_out == (LeftOut("scores", "attention", 0, 200), LeftOut("values", "attention", 0, 200))
    named = text.replace('name = "attention"', 'name = "attention"\nnot_simulated = [{ name = "scores", macs = 1 }]')
    assert [each.macs for each in load_network(write(named)).left_out] == [1, 200]
    unknown = network.with_samples
    with pytest.raises(InputError, match=r"operation turned: NumPy does not know 'RotaryEmbedding'"):
        unknown(np.zeros((1, 5, 3)))


@pytest.mark.parametrize(
    ("was", "is_now", "said"),
    [
        (
            'inputs = ["relu"]',
            'inputs = ["rel"]',
            r"operation pool: inputs: nothing is called 'rel'; did you mean 'relu'",
        ),
        ('inputs = ["pool"]', 'inputs = ["poo"]', r"layer branch: inputs: nothing is called 'poo'"),
        ('inputs = ["pool"]', 'inputs = ["flat"]', r"'\w+' needs its own output; break the circle"),
        ("kernel = 3, ", "", r"operation pool: kernel: is missing; add it"),
        ("stride = 2", "stride = [2, 2, 2]", r"operation pool: stride: must be a whole number or two of them"),
        ("padding = 1 }", "padding = [1, 1, 1] }", r"operation pool: padding: must be one, two or four"),
        (
            "stride = 2",
            "shape = [4, 4, 4]",
            r"operation pool: shape: is \(4, 4, 4\), but max_pool of \(4, 9, 9\) gives",
        ),
        ("kernel = 3, ", "kernel = 12, ", r"operation pool: kernel: is larger than its input"),
        ("axis = 0", "axis = 3", r"operation joined: axis: there is no 3 in a sample of shape \(4, 5, 5\)"),
        (
            '"branch", "pool"',
            '"branch", "relu"',
            r"operation add: inputs: shapes \(4, 5, 5\) and \(4, 9, 9\) do not go",
        ),
        ('"add", "pool"', '"add", "relu"', r"operation joined: inputs: shapes .* cannot be joined along axis 0"),
        ('["flat"]', '["pool"]', r"layer fc: inputs: pool gives \(4, 5, 5\), and the layer takes \(200,\)"),
        ("image = [3, 9, 9]", "image = [1, 9, 9]", r"layer stem: inputs: image gives \(1, 9, 9\)"),
        ('does = "Flatten"', 'does = "Flaten"', r"operation flat: kind: is missing, and 'Flaten' does not tell it"),
        (
            'inputs = ["joined"]',
            'inputs = ["joined", "add"]',
            r"operation flat: inputs: Flatten takes 1 \(got 2: joined, add",
        ),
        ('does = "Flatten"', 'does = "x", kind = "y"', r"operation flat: kind: "),
        ('name = "relu"', 'name = "stem"', r"operation stem: name: is used 2 times; give each"),
        ('name = "relu"', 'name = ""', r"net.toml: operation 1: name: must be text that is not empty \(got \"\"\)"),
        ('name = "stem"', 'name = ""', r"net.toml: layer 1: name: is empty; give it a name"),
        ('name = "branches"', 'name = "branches"\noutputs = ["image"]', r"outputs: 'image' is an input of the network"),
        ('name = "branches"', 'name = "branches"\noutputs = ["fc", "fc"]', r"outputs: 'fc' stands there 2 times"),
        ("image = [3, 9, 9]", '"" = [3, 9, 9]', r"net.toml: inputs: a name is empty; give it a name of its own"),
        ("image = [3, 9, 9]", "add = [3, 9, 9]", r"operation add: name: is used 2 times; give each"),
        ('name = "softmax", ', 'name = "softmax", kernels = 3, ', r"operation softmax: kernels: unknown key"),
        ('name = "branches"', 'name = "branches"\noutputs = ["x"]', r"outputs: nothing is called 'x'"),
        ("axis = 0", "axis = [0, 1]", r"operation joined: axis: must be a single one for Concat \(got \[0, 1\]\)"),
        ("axis = 0", "axis = []", r"operation joined: axis: must name one axis or more, each once \(got \[\]\)"),
        ("axis = 0", "axis = 0, macs = 9007199254740993", r"operation joined: macs: makes 9.01e\+15, and at most"),
    ],
)
def test_a_mistake_is_told_with_its_place(write: Write, was: str, is_now: str, said: str) -> None:
    assert was in BRANCHES
    with pytest.raises(InputError, match=said):
        load_network(write(BRANCHES.replace(was, is_now)))


def test_a_file_that_was_edited_is_read_anew_and_nobody_changes_what_another_reads(write: Write) -> None:
    path = write(BRANCHES + "[provenance]\nseeds = [1]\n")
    load_network(path).provenance["seeds"].append(2)
    assert load_network(path).provenance == {"seeds": [1]}
    path.write_text(path.read_text().replace("seeds = [1]", "seeds = [3]"))
    assert load_network(path).provenance == {"seeds": [3]}


ALONE = """
name = "one"
operation = [{ name = "op", inputs = ["conv"], %s }]
[[layer]]
name = "conv"
kind = "conv2d"
out_channels = 8
in_channels = 3
kernel = 1
input_hw = 4
synthetic = { density = 0.5 }
"""


@pytest.mark.parametrize(
    ("op", "said"),
    [
        ('does = "Slice", axis = 0, start = 8', r"start, stop: leave nothing of \(8, 4, 4\); correct them"),
        ('does = "Slice", axis = [0, 1], stop = 1', r"axis: must be a single one for Slice"),
        ('does = "Softmax", axis = [0, 1]', r"axis: must be a single one for Softmax"),
        ('does = "ReduceMean", axis = [1, -2]', r"axis: must name one axis or more, each once"),
        ('does = "GroupNormalization", groups = 3', r"groups: 3 do not divide the 8 channels"),
        ('does = "LRN", size = 1000000000', r"size: 1000000000 channels reach beyond all 8"),
        (
            'does = "AttentionScores", inputs = ["conv", "conv"], '
            "product = { groups = 3, operand_groups = 2, rows = 4, columns = 4, vectors = 4 }",
            r"product.operand_groups: 2 do not divide 3 groups",
        ),
        (
            'does = "AttentionScores", inputs = ["conv", "conv"], '
            "product = { groups = 1, rows = 4, columns = 4, vectors = 5, causal = true }",
            r"product.causal: the first of 5 queries meet none of the 4 keys",
        ),
        (
            'does = "AttentionScores", inputs = ["conv", "conv"], '
            "product = { groups = 2, rows = 1000000000, columns = 1000000000, vectors = 1000000000 }",
            r"product: makes 2e\+27, and at most 9.01e\+15 can be counted",
        ),
        ('does = "x", kind = "other", shape = [2147483647, 2147483647]', r"shape: makes 4.61e\+18, and at most"),
        (
            'does = "MaxPool", attributes = { kernel = 3 }',
            r"attributes.kernel: is a key of its own; write it as kernel =",
        ),
        ('does = "Relu", attributes = 3', r"attributes: must be a table \(got 3\)$"),
        ('does = "Relu", kind = "x"', r"kind: must be of the form \^\(activation\|"),
        ('does = "Relu", reads = 1000000000000000000000', "reads: must be at most 4611686018427387904"),
    ],
)
def test_an_operation_that_cannot_be_is_refused(write: Write, op: str, said: str) -> None:
    text = ALONE % op if "inputs" not in op else ALONE.replace('inputs = ["conv"], %s', op)
    with pytest.raises(InputError, match=f"operation op: {said}"):
        load_network(write(text))


def test_layers_stand_in_the_order_in_which_they_run(write: Write) -> None:
    layers = [
        LAYER.format(name="second", inputs=2, outputs=2, more='inputs = ["first"]'),
        LAYER.format(name="first", inputs=3, outputs=2, more='inputs = ["x"]'),
    ]
    with pytest.raises(InputError, match=r"layer second: takes what layer first leads to, and stands before it"):
        load_network(write('name = "n"\n[inputs]\nx = [3]' + "".join(layers)))


def test_operations_stand_close_behind_what_they_need() -> None:
    takes = {"a": ("x",), "b": ("r",), "c": ("r",), "r": ("a",), "s": ("b", "c"), "t": ("r",)}
    assert in_order(takes, dict.fromkeys("abc")) == ("a", "r", "t", "b", "c", "s")
    circle = takes | {"a": ("s",)}
    assert set(in_order(circle, dict.fromkeys("abc"))) == set(takes)


def test_arrays_and_constants_lie_beside_the_file(write: Write, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"bn.{key}": rng.random(4, np.float32) + 0.5 for key in ("scale", "shift", "mean", "variance")}
    save_file({**arrays, "place": np.full((4, 5, 5), 2, np.float32)}, tmp_path / "arrays.safetensors")
    keys = ", ".join(f'{key.removeprefix("bn.")} = "arrays.safetensors:{key}"' for key in arrays)
    text = f"""
name = "normal"
operation = [
    {{ name = "bn", does = "BatchNormalization", inputs = ["conv"], epsilon = 0, {keys} }},
    {{ name = "place", does = "Add", inputs = ["bn"], value = "arrays.safetensors:place" }},
    {{ name = "half", does = "Mul", inputs = ["place"], value = 0.5 }},
]
""" + CONV.format(name="conv", inputs=2, outputs=4, hw=5, more="")
    network = load_network(write(text))
    assert [each.weights for each in network.graph.operations] == [16, 100, 1]
    image = rng.normal(size=(2, 2, 5, 5)).astype(np.float32)
    given = network.with_samples(image)
    ((_, _, seen),) = given.seen(outputs=True)
    scale, shift, mean, variance = (each[:, None, None].astype(float) for each in arrays.values())
    wanted = ((seen - mean) / np.sqrt(variance) * scale + shift + 2) / 2
    np.testing.assert_allclose(given.runtime.answers(given, given.samples), wanted, rtol=1e-4, atol=1e-5)

    network.save(tmp_path / "saved.safetensors")
    again = load_network(tmp_path / "saved.safetensors").with_samples(image)
    np.testing.assert_array_equal(
        again.runtime.answers(again, again.samples), given.runtime.answers(given, given.samples)
    )
    with pytest.raises(InputError, match=r"operation place: value: .*no tensor is called 'plce'"):
        load_network(write(text.replace("safetensors:place", "safetensors:plce")))


def test_a_saved_network_keeps_its_graph(write: Write, tmp_path: Path) -> None:
    network = load_network(write(BRANCHES))
    network.save(tmp_path / "saved.safetensors")
    assert load_network(tmp_path / "saved.safetensors").graph == network.graph
    # Without one of its layers it is another network.
    replace(network, layers=network.layers[:2]).save(tmp_path / "part.safetensors")
    assert load_network(tmp_path / "part.safetensors").graph is None


def test_operations_of_other_runtimes_are_saved_as_they_are(tmp_path: Path) -> None:
    """What means something else there than here comes back as it was, with what JSON has words for."""
    odd = [
        Operation(
            name="turn", kind="reshape", inputs=("fc",), shape=(2, 5), does="Transpose", reads=7, channels="same",
            attributes={"perm": (0, 2, 1), "model": object(), "axis": np.int64(1)},
        ),
        Operation(name="mix", kind="other", inputs=("turn", "fc"), shape=(3,), does="Add", macs=None, weights=5),
    ]  # fmt: skip
    graph = Graph({"x": (4,)}, {"fc": ("x",)}, tuple(odd), ("mix",), runtime="PyTorch")
    network = Network("odd", [Layer.linear("fc", np.ones((10, 4), np.float32))], graph=graph)
    network.save(tmp_path / "odd.safetensors")
    again = load_network(tmp_path / "odd.safetensors")
    first, second = again.graph.operations
    assert first == replace(odd[0], attributes={"perm": [0, 2, 1], "axis": 1})
    assert second == odd[1]
    with pytest.raises(InputError, match="network odd: is run by PyTorch, whose operations NumPy does not know"):
        again.with_samples(np.ones((1, 4)))


def test_layers_that_fit_are_a_chain() -> None:
    layers = [
        Layer.conv2d("conv", np.ones((2, 1, 3, 3)), input_hw=6),
        Layer.linear("a", np.ones((8, 32))),
        Layer.linear("b", np.ones((2, 4)), tokens=2),
    ]
    graph = chain(layers)
    assert graph.order == ("conv", "conv.relu", "conv.reshape", "a", "a.relu", "a.reshape", "b")
    assert [each.shape for each in graph.operations] == [(2, 4, 4), (32,), (8,), (2, 4)]
    with pytest.raises(InputError, match=r"layer b: takes \(2, 4\), what comes before it gives \(2, 4, 4\)"):
        chain([layers[0], layers[2]])


def test_the_graph_is_shown(write: Write, accelsim: Run, tmp_path: Path) -> None:
    path = write(BRANCHES)
    shown = accelsim("inspect", path, "--graph", "--csv", tmp_path / "graph.csv")
    assert shown.code == 0
    printed = shown.out.splitlines()
    lines = {line.split()[0]: line for line in printed if line[:1].strip()}
    assert "max_pool (pooling)" in lines["pool"]
    assert "branch" in lines["add"]
    assert printed[printed.index(lines["add"]) + 1].strip() == "pool"  # one name a line
    assert "stem" not in lines["relu"]  # it stands in the line above
    assert max(len(line) for line in printed if not line.startswith("wrote")) <= 80
    table = pd.read_csv(tmp_path / "graph.csv")
    assert list(table["name"]) == ["image", *load_network(path).graph.order]
    # conv 3 x 3: 9 x 9 pixels x 4 filters x 27 weights.
    assert table.set_index("name")["macs"]["stem"] == 9 * 9 * 4 * 27


def test_the_graph_of_a_chain_is_shown_with_what_is_taken_for_granted(accelsim: Run, tmp_path: Path) -> None:
    layers = [Layer.linear(f"fc{number}", np.ones((4, 4), np.float32)) for number in (1, 2)]
    Network("chain", layers).save(tmp_path / "chain.safetensors")
    shown = accelsim("inspect", tmp_path / "chain.safetensors", "--graph")
    assert shown.code == 0
    assert "fc1.relu" in shown.out
    assert "taken to be one ReLU between each two" in " ".join(shown.err.split())
    Network("heads", [Layer.linear(name, np.ones((2, 4), np.float32)) for name in "ab"]).save(
        tmp_path / "h.safetensors"
    )
    refused = accelsim("inspect", tmp_path / "h.safetensors", "--graph")
    assert refused.code == 2
    assert "layer b: takes (4,), what comes before it gives (2,)" in " ".join(refused.err.split())


def test_the_docs_list_every_operation() -> None:
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    listed = {name.lower() for row in re.findall(r"^\| \w+ \| (.*) \|$", page, re.MULTILINE) for name in
              re.findall(r"`([A-Z]\w+)`", row)}  # fmt: skip
    assert listed == set(OPERATORS)


def test_every_operation_has_a_row() -> None:
    odd = Operation(name="o", kind="other", inputs=("fc",), shape=(3,), does="", macs=None)
    graph = Graph({"x": (4,)}, {"fc": ("x",)}, (odd,), ("o",))
    table = inspect_graph(Network("n", [Layer.linear("fc", np.ones((2, 4)))], graph=graph))
    assert list(table["name"]) == ["x", "fc", "o"]
    assert pd.isna(table["macs"].iloc[2])
