"""Is what of a network is not simulated told with its size, by every command, in every row, page and picture?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Run
from safetensors.numpy import save_file

import accelsim
from accelsim.compare import compare, totals
from accelsim.curves import CURVE_COLUMNS, curve
from accelsim.divisions import divisions
from accelsim.explore import Space, sweep
from accelsim.explore import totals as totals_of_points
from accelsim.explore.space import subset
from accelsim.network import Layer, LeftOut, Network, load_network, load_weights
from accelsim.network.left_out import LINE, by_kind, sentence
from accelsim.report import plots
from accelsim.report.html import page
from accelsim.results import OF_NETWORK
from accelsim.totals import not_simulated, over_layers

EIE, CORE = "eie-64pe-45nm", "edge-nm-16x16"


def layer(name: str, outputs: int = 8, inputs: int = 16, tokens: int = 1) -> Layer:
    weight = np.arange(1, outputs * inputs + 1, dtype=np.float32).reshape(outputs, inputs) % 7
    return Layer.linear(name, weight, tokens=tokens, activations=accelsim.Density(0.5, 1))


def network(*left: LeftOut | str) -> Network:
    """One layer of 128 weights, which 3 vectors of a sample go through: 384 multiply-accumulates."""
    return Network("part", [layer("fc", tokens=3)], not_simulated=left)


WHOLE = (
    LeftOut("emb", "look-up", weights=384),
    LeftOut("h.0.scores", "product of activations", macs=96),
    LeftOut("h.1.scores", "product of activations", macs=160),
    "relu",
    "softmax",
)
"""384 of 512 weights, 256 of 640 multiply-accumulates."""
SHARES = (128 / 512, 384 / 640, 0)
SAID = "not simulated: 75.0 % of the weights, 40.0 % of the multiply-accumulates"


# Weights that several layers multiply by


@pytest.mark.needs("torch")
def test_weights_that_are_stored_once_count_once(tmp_path: Path) -> None:
    """One convolution for two images of different size, and weights under two names: 2 x 9 + 4 x 4 = 34."""
    torch = pytest.importorskip("torch")

    class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 2, 3, bias=False)
            self.one, self.other = (torch.nn.Linear(4, 4, bias=False) for _ in range(2))
            self.other.weight = self.one.weight

        def forward(self, image: Any, vector: Any) -> Any:
            return self.conv(image).sum() + self.conv(image[..., :3]).sum() + self.one(self.other(vector))

    captured = Network.from_torch(Model(), (torch.ones(1, 1, 4, 4), torch.ones(1, 4)))
    assert [layer.name for layer in captured] == ["conv", "conv.call2", "other", "one"]
    assert [layer.weight_count for layer in captured] == [18, 18, 16, 16]
    captured.save(tmp_path / "saved.safetensors")
    torch.save(Model().state_dict(), tmp_path / "tied.pt")
    saved = load_network(tmp_path / "saved.safetensors")
    # 2 x 2 and 2 x 1 pixels of 18, and twice 16.
    assert [(each.scope.weights, each.scope.macs) for each in (captured, saved)] == [(34, 140), (34, 140)]
    assert [np.array_equal(one.weight, other.weight) for one, other in zip(captured, saved, strict=True)] == [True] * 4
    assert load_weights(tmp_path / "tied.pt").scope.weights == 34
    rest = subset(captured, ["conv"])
    assert (rest.scope.weights, rest.scope.weights_left_out) == (18, 16)


def test_layers_that_a_network_file_gives_the_same_weights_share_them(tmp_path: Path) -> None:
    save_file({"fc.weight": np.eye(4, dtype=np.float32)}, tmp_path / "w.safetensors")
    layers = "".join(f'[[layer]]\nname = "{name}"\nweight = "w.safetensors:fc.weight"\n' for name in "ab")
    (tmp_path / "net.toml").write_text(f'name = "net"\n{layers}')
    assert load_network(tmp_path / "net.toml").scope.weights == 16


def test_weights_that_differ_are_saved_apart_whatever_is_said_of_them(tmp_path: Path) -> None:
    """As where two calls of a module were pruned by what each of them sees."""
    one, other = (replace(layer(name), weights_key="fc") for name in "ab")
    pruned = replace(other, weight_source=lambda: one.weight * (one.weight > 3))
    Network("net", [one, pruned]).save(tmp_path / "net.safetensors")
    assert np.array_equal(load_network(tmp_path / "net.safetensors")["b"].weight, pruned.weight)


def test_nodes_that_take_one_tensor_share_its_weights(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    vector = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])
    nodes = [onnx.helper.make_node("MatMul", [given, "fc.weight"], [made]) for given, made in (("x", "y"), ("y", "z"))]
    weight = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "fc.weight")
    result = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 4])
    onnx.save(
        onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [vector], [result], [weight])), tmp_path / "g.onnx"
    )
    loaded = load_network(tmp_path / "g.onnx")
    assert ([layer.name for layer in loaded], loaded.scope.weights) == (["fc", "fc.call2"], 16)


def test_parts_of_one_array_are_weights_of_their_own(tmp_path: Path) -> None:
    """Three projections (4, 4) in one array."""
    save_file({"in_proj_weight": np.ones((12, 4), np.float32)}, tmp_path / "net.safetensors")
    assert load_network(tmp_path / "net.safetensors").scope.weights == 48


def test_two_things_of_one_name_and_size_are_two() -> None:
    twice = network(LeftOut("table", "look-up", 384), LeftOut("table", "look-up", 384), "relu", "relu")
    assert (twice.scope.weights_left_out, len(twice.left_out)) == (768, 3)


# The words


def test_a_share_is_never_rounded_to_nothing_or_all() -> None:
    assert sentence(0, 1) == "not simulated: 0 % of the weights, 100 % of the multiply-accumulates"
    assert sentence(1e-9, 1 - 1e-9) == "not simulated: <0.1 % of the weights, >99.9 % of the multiply-accumulates"
    assert sentence(0.0332, 0.9989) == "not simulated: 3.3 % of the weights, 99.9 % of the multiply-accumulates"
    assert sentence(0, 0.5, 1) == "not simulated: 0 % of the weights, 50.0 % of the known MACs; 1 has unknown MACs"
    assert sentence(0, 0, 2) == "not simulated: 0 % of the weights; 2 have unknown MACs"


def test_what_is_largest_stands_first_and_kinds_are_told_together() -> None:
    assert network(*WHOLE).told_left_out == [
        SAID,
        "  384 weights in look-up: emb",
        "  256 MACs in product of activations: h.1.scores, h.0.scores",
        "  without weights or multiply-accumulates: relu, softmax",
    ]


def test_what_nobody_knows_is_told_first() -> None:
    lines = network(*WHOLE, LeftOut("loop", "Loop", macs=None)).told_left_out
    assert lines[0] == "not simulated: 75.0 % of the weights, 40.0 % of the known MACs; 1 has unknown MACs"
    assert lines[1] == "  unknown MACs in Loop: loop"


def test_a_file_of_tensors_claims_nothing_of_what_has_no_weights(tmp_path: Path) -> None:
    """24 of 40 weights are looked up, and whether an attention follows, no file of tensors says."""
    tensors = {"fc.weight": np.ones((4, 4), np.float32), "emb.weight": np.ones((6, 4), np.float32)}
    save_file(tensors, tmp_path / "net.safetensors")
    network = accelsim.load_network(tmp_path / "net.safetensors")
    assert network.told_left_out == [
        "not simulated: 60.0 % of the weights; a file of tensors does not tell operations without weights",
        "  24 weights in look-up: emb",
    ]
    network.save(tmp_path / "saved.safetensors")
    assert accelsim.load_network(tmp_path / "saved.safetensors").told_left_out == network.told_left_out
    del tensors["emb.weight"]
    save_file(tensors, tmp_path / "fc.safetensors")
    alone = accelsim.load_network(tmp_path / "fc.safetensors")
    assert alone.told_left_out == ["not simulated: operations without weights, which a file of tensors does not tell"]
    assert (alone.scope.weights_share, len(alone.scope.unknown)) == (1, 1)


def test_nothing_and_names_alone_are_short() -> None:
    assert network().told_left_out == []
    assert network("relu").told_left_out == ["not simulated: relu (no weights, no MACs)"]


def test_a_large_network_is_told_in_a_few_lines() -> None:
    many = [LeftOut(f"block.{n}.of.a.deep.network.attention.{n}", f"kind {n % 9}", n, 10 * n) for n in range(1, 400)]
    lines = network(*many, *(f"operation.number.{n}" for n in range(300)), "x" * 200).told_left_out
    assert len(lines) == 6
    assert max(map(len, lines)) <= LINE
    assert " more" in lines[1]
    # 44 or 45 of each of 9 kinds; 6 kinds are in the line of the others.
    others = [each for _, members in by_kind(network(*many).scope, many)[3:] for each in members]
    assert lines[4] == f"  {sum(each.weights for each in others) / 1000:.3g} k weights, " + (
        f"{sum(each.macs or 0 for each in others) / 1000:.3g} k MACs in {len(others)} more"
    )


def test_sizes_have_units() -> None:
    left = [
        LeftOut("a", "look-up", weights=38_597_376),
        LeftOut("b", "head", macs=39_523_713_024),
        LeftOut("c", "", 9999),
    ]
    lines = network(*left).told_left_out
    assert {"  38.6 M weights in look-up: a", "  39.5 G MACs in head: b", "  9,999 weights in c"} == set(lines[1:])


# The rows


def test_every_row_says_how_much_of_the_network_it_is_of(tmp_path: Path, accelsim: Run) -> None:
    """The same in every kind of file, and also of a layer that its chip cannot run."""
    network(*WHOLE).save(tmp_path / "part.safetensors")
    files = {kind: tmp_path / f"out.{kind}" for kind in ("csv", "json", "parquet")}
    given = [each for kind, path in files.items() for each in (f"--{kind}", path)]
    said = accelsim("run", tmp_path / "part.safetensors", "--hardware", f"{EIE},{CORE}", *given)
    assert said.code == 0
    assert SAID in said.out.splitlines()
    read = {
        "csv": pd.read_csv(files["csv"]),
        "json": pd.DataFrame(json.loads(files["json"].read_text(encoding="utf-8"))),
        "parquet": pd.read_parquet(files["parquet"]),
    }
    for table in read.values():
        assert [tuple(row) for row in table[list(OF_NETWORK)].to_numpy()] == [SHARES] * 2


def test_a_layer_that_a_chip_cannot_run_says_it_too() -> None:
    """A PE has a row of 128 weights in its share of 8 x 128, which is more than 72 entries."""
    net = Network("two", [layer("fc"), layer("wide", 8, 128)], not_simulated=[LeftOut("emb", weights=8 * 144)])
    chip = accelsim.load_hardware(EIE, {"memory.residency": "resident", "engine.spmat_bytes": 72})
    with pytest.warns(UserWarning, match="layer wide on"):
        table = accelsim.simulate(net, chip)
    assert table["executed_as"].tolist() == ["sparse", "unsupported"]
    assert table["simulated_weights_share"].tolist() == [0.5, 0.5]


def test_totals_say_the_least_of_their_networks() -> None:
    tables = [accelsim.simulate(replace(network(*left), name=name), EIE) for name, left in (("a", WHOLE), ("b", ()))]
    rows = pd.concat(tables, ignore_index=True)
    total = over_layers(rows, "hardware").iloc[0]
    assert tuple(total[name] for name in OF_NETWORK) == SHARES
    assert not_simulated(rows) == [SAID]
    assert not_simulated(tables[1]) == []
    both = pd.concat([tables[0], tables[0].assign(network="c", left_out_unknown=1)])
    assert [text.partition(":")[0] for text in not_simulated(both)] == ["a", "c"]
    assert not_simulated(rows.drop(columns=["simulated_macs_share"])) == []


def test_a_gemm_is_whole() -> None:
    assert tuple(accelsim.gemm(16, 16, 16, CORE).iloc[0][list(OF_NETWORK)]) == (1, 1, 0)


def test_taking_channels_out_leaves_the_share_of_the_network_as_it_was_given() -> None:
    """Half of the channels are gone, and the layer with them: not half of what is left out."""
    net = network(*WHOLE)
    compared = compare(net, [EIE, CORE], ["channel", "fine"], 0.5, ends=True)
    assert set(map(tuple, compared[list(OF_NETWORK)].to_numpy())) == {SHARES}
    assert set(map(tuple, totals(compared)[list(OF_NETWORK)].to_numpy())) == {SHARES}
    drawn = curve(net, [EIE], ["channel"], [0.5, 0.75], ends=True)
    assert list(drawn.columns) == [column.name for column in CURVE_COLUMNS]
    assert set(map(tuple, drawn[list(OF_NETWORK)].to_numpy())) == {SHARES}
    assert drawn["storage_bits"].nunique() > 1  # something was taken out
    both = divisions(replace(net, provenance={"accuracy_dense": 0.9}), [EIE], evaluate=lambda _: 0.5)
    assert set(map(tuple, both[list(OF_NETWORK)].to_numpy())) == {SHARES}


def test_points_of_a_sweep_say_it_and_layers_that_are_not_chosen_are_left_out(tmp_path: Path) -> None:
    net = Network("two", [layer("fc"), layer("head", 16, 8)], not_simulated=["relu"])
    space = {"network": net, "layers": ["fc"], "vary": {"sparsity": [0.0, 0.5], "granularity": ["fine"]}}
    rows = sweep(space, tmp_path / "out.db", jobs=1)
    assert set(map(tuple, rows[list(OF_NETWORK)].to_numpy())) == {(0.5, 0.5, 0)}
    assert set(map(tuple, totals_of_points(rows)[list(OF_NETWORK)].to_numpy())) == {(0.5, 0.5, 0)}
    (chosen,) = Space(space).networks.values()
    assert chosen.left_out == (LeftOut("relu"), LeftOut("head", "layer that was not chosen", 128, 128))


def test_what_is_left_out_is_part_of_the_key_of_a_point(tmp_path: Path) -> None:
    for left, share in (((), 1.0), (WHOLE, 0.6)):  # or rows of the first network would be those of the second
        rows = sweep({"network": network(*left), "vary": {"engine.pes": [64]}}, tmp_path / "out.db", jobs=1)
        assert rows["simulated_macs_share"].tolist() == [share]


# The commands


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    replace(network(*WHOLE), assumptions=["fc: taken as it is stored; say --transpose fc if it is not"]).save(
        "part.safetensors"
    )
    (tmp_path / "part.toml").write_text(
        'name = "two"\nassumptions = ["fc: taken as it is stored"]\n[[not_simulated]]\nname = "emb"\nkind = "look-up"\n'
        'weights = 128\n[[not_simulated]]\nname = "scores"\nmacs = 128\n[[layer]]\nname = "fc"\nout_features = 8\n'
        "in_features = 16\nsynthetic = { density = 0.5 }\nactivations = { density = 0.5 }\n"
    )
    return "part.safetensors"


@pytest.mark.thorough(keep=6)
@pytest.mark.parametrize(
    "command",
    [
        ("run",),
        ("energy",),
        ("compare", "--granularity", "fine"),
        ("curve", "--sparsity", "0.5", "--granularity", "fine"),
        ("prune", "--sparsity", "0.5"),
        ("sensitivity", "--sparsity", "0.5", "--evaluate", "zeros.py:score"),
        ("allocate", "--evaluate", "zeros.py:score", "--budget", "cycles=99%"),
        ("divisions",),
        ("timeline",),
        ("report",),
        ("inspect",),
        ("check",),
    ],
    ids=lambda command: command[0],
)
def test_every_command_says_it_and_what_was_taken_for_granted(
    accelsim: Run, part: str, command: tuple[str, ...]
) -> None:
    Path("zeros.py").write_text(
        "def score(network):\n    return -sum((layer.weight == 0).sum() for layer in network)\n"
    )
    said = accelsim(command[0], part, *command[1:])
    assert said.code == 0, said.err
    assert said.out.count(SAID) == 1
    assert "emb" in said.out
    assert "note: fc: taken as it is stored; say --transpose fc if it is not" in said.err


def test_exploring_says_it_too(accelsim: Run, part: str) -> None:
    text = 'network = "part.toml"\nobjectives = ["energy_pj", "time_us"]\n[vary]\nengine.clock_mhz = [400.0, 800.0]\n'
    Path("space.toml").write_text(text)
    said = "not simulated: 50.0 % of the weights, 50.0 % of the multiply-accumulates"
    for command in (
        ("sweep", "space.toml", "--store", "out.db", "--jobs", "1"),
        (
            "search",
            "space.toml",
            "--store",
            "out.db",
            "--jobs",
            "1",
            "--trials",
            "2",
            "--objective",
            "energy_pj,time_us",
        ),
        ("pareto", "out.db", "--plot", "front.svg"),
        ("knobs", "out.db"),
    ):
        found = accelsim(*command)
        assert found.code == 0, found.err
        assert found.out.count(said) == 1, command
        assert ("taken as it is stored" in found.err) == (command[0] in ("sweep", "search"))


def test_quiet_is_quiet(accelsim: Run, part: str) -> None:
    said = accelsim("run", part, "-q", "--csv", "out.csv")
    assert (said.code, said.out, said.err) == (0, "", "")


def test_check_lists_everything(accelsim: Run, part: str) -> None:
    lines = [" ".join(line.split()) for line in accelsim("check", part).out.splitlines()]
    for line in (
        "emb look-up 384 0",
        "h.0.scores product of activations 0 96",
        "h.1.scores product of activations 0 160",
        "not simulated, without weights or multiply-accumulates: relu, softmax",
    ):
        assert line in lines


def test_check_takes_a_folder_of_shards(accelsim: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shards").mkdir()
    weights = {"fc1.weight": "a.safetensors", "fc2.weight": "b.safetensors"}
    for name, file in weights.items():
        save_file({name: np.ones((4, 4), np.float32)}, tmp_path / "shards" / file)
    (tmp_path / "shards" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    monkeypatch.chdir(tmp_path)
    for name in ("shards", "./shards"):
        said = accelsim("check", name)
        assert said.out.startswith("shards: a valid network: shards, 2 layers"), said


def test_check_counts_weights_apart_from_a_bias(accelsim: Run, tmp_path: Path) -> None:
    """256 x 256 weights and 256 biases: not 65,792 of 65,536."""
    dense = Layer.linear("fc", np.ones((256, 256), np.float32), np.ones(256, np.float32))
    pruned = Layer.linear("half", np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1], np.float32))
    Network("biased", [dense, pruned, layer("no bias")]).save(tmp_path / "biased.safetensors")
    lines = [" ".join(line.split()) for line in accelsim("check", tmp_path / "biased.safetensors").out.splitlines()]
    assert "fc 256 x 256 float32 65,536 65,536 256" in lines
    assert "half 4 x 4 float32 16 4 2" in lines
    zeros = sum((n % 7) == 0 for n in range(1, 129))
    assert f"no bias 8 x 16 float32 128 {128 - zeros} -" in lines


# Pages and pictures


def test_the_page_has_the_shares_and_a_list() -> None:
    net = network(*WHOLE)
    table = accelsim.simulate(net, EIE)
    text = page(table, network=net)
    assert f"N{SAID[1:]}." in text
    for name, kind, weights, macs in (
        ("emb", "look-up", "384", "0"),
        ("h.1.scores", "product of activations", "0", "160"),
        ("relu", "-", "0", "0"),
    ):
        row = f'<th scope="row" class="text">{name}</th><td class="text">{kind}</td><td>{weights}</td><td>{macs}</td>'
        assert row in text
    assert f"N{SAID[1:]}." in page(table)  # of results alone: what the rows know
    assert 'href="#left-out"' not in page(table)
    assert "Not simulated" not in page(accelsim.simulate(network(), EIE), network=network())


def test_pictures_say_it() -> None:
    net = network(*WHOLE)
    compared, drawn = compare(net, [EIE], ["fine"], 0.5), curve(net, [EIE], ["fine"], [0.5])
    table = accelsim.simulate(net, EIE)

    def texts(figure: object) -> str:
        legends = [legend.get_title().get_text() for legend in figure.legends]  # type: ignore[attr-defined]
        return " ".join([*legends, figure.get_supxlabel()]).replace("\n", " ")  # type: ignore[attr-defined]

    for figure in (
        plots.comparison(totals(compared)),
        plots.curve(drawn, "energy_pj"),
        plots.overview(table),
        plots.figure(table, "energy"),
    ):
        assert SAID in texts(figure)
    assert "simulated" not in texts(plots.overview(accelsim.simulate(network(), EIE)))


def test_a_picture_of_stored_weights_says_it(accelsim: Run, part: str) -> None:
    said = accelsim("plot", part, "storage", "-o", "storage.svg")
    assert said.code == 0, said.err
    assert "taken as it is stored" in said.err
    assert "not simulated: 75.0" in Path("storage.svg").read_text(encoding="utf-8")


def test_networks_that_ship_know_what_they_leave_out() -> None:
    """Of GPT-2 the look-up of positions and both products of an attention; the head is that of the words."""
    scope = load_network("gpt-2").scope
    assert not scope.unknown
    layers = 12 * 12 * 768**2 + 50257 * 768  # per block 3 + 1 + 4 + 4 squares of the width, and the head
    assert scope.macs_share == pytest.approx(1024 * layers / (1024 * layers + 12 * 2 * 1024**2 * 768))
    assert scope.weights_share == pytest.approx(layers / (layers + 1024 * 768))
