"""Is a network trained in PyTorch the one that NumPy runs, and do its zeros stay while it is pruned in steps?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

import accelsim
from accelsim import InputError, Layer, Network
from accelsim.cli.pruning import prune as prune_command
from accelsim.evaluation import accuracy, digits
from accelsim.network.forward import forward
from accelsim.network.graph import Graph, Operation
from accelsim.network.operations import operator_of
from accelsim.pruning import ratios

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
trainable = pytest.importorskip("accelsim.network.trainable")
gradual = pytest.importorskip("accelsim.gradual")

RNG = np.random.default_rng(3)
DENSE = "lenet-300-100-digits-dense"
WITH: dict[str, list[dict[str, Any]]] = {
    "leakyrelu": [{}, {"alpha": 0.2}],
    "clip": [{"min": -0.5, "max": 0.5}, {"min": 0.0}],
    "gelu": [{}, {"approximate": "tanh"}],
    "softmax": [{}, {"axis": 0}],
    "logsoftmax": [{"axis": -1}],
    "maxpool": [{"kernel": 2, "stride": 2}, {"kernel": [3, 2], "stride": [2, 1], "padding": 1},
                {"kernel": 2, "stride": 2, "ceil": True}, {"kernel": 2, "dilation": 2}],
    "averagepool": [{"kernel": 2, "stride": 2}, {"kernel": 3, "stride": 2, "padding": 1},
                    {"kernel": 3, "stride": 2, "padding": 1, "count_padding": True},
                    {"kernel": 2, "stride": 2, "ceil": True}],
    "reducemean": [{"axis": [1, 2]}, {"axis": 0}],
    "concat": [{"axis": 0}, {"axis": 2}],
    "add": [{}, {"value": [[[1.0]], [[2.0]], [[3.0]]]}],
    "batchnormalization": [{"mean": [0.1, 0.2, 0.3], "variance": [1.0, 2.0, 3.0]},
                           {"mean": [0.1, 0.2, 0.3], "variance": [1.0, 2.0, 3.0], "scale": [2.0, 1.0, 0.5],
                            "shift": [1.0, 0.0, -1.0], "epsilon": 0.01}],
}  # fmt: skip
"""Attributes of operations that have any."""
CASES = [(name, given) for name in trainable.OPERATORS for given in WITH.get(name, [{}])]


@pytest.mark.parametrize(("name", "given"), CASES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(CASES)])
def test_operations_are_those_of_numpy(name: str, given: dict[str, Any]) -> None:
    takes = 2 if name in ("add", "sub", "mul", "concat") and "value" not in given else 1
    arrays = [RNG.normal(size=(2, 3, 7, 5)).astype(np.float32) for _ in range(takes)]
    operator = operator_of(name)
    assert operator is not None
    shape = {"reshape": (15, 7), "flatten": (105,)}.get(name, ())
    said = Operation(name="it", kind=operator.kind, inputs=("x",) * takes, shape=shape, does=name, attributes=given)
    expected = operator.run(said, arrays)
    made = trainable.OPERATORS[name](said, [torch.from_numpy(array) for array in arrays])
    assert made.shape == expected.shape
    np.testing.assert_allclose(made.numpy(), expected, rtol=2e-5, atol=2e-6)


def test_what_enters_a_softmax_at_the_end_is_what_is_trained() -> None:
    layer = Layer.linear("fc", RNG.normal(size=(4, 6)))
    softmax = Operation(name="p", kind="softmax", inputs=("fc",), shape=(4,), does="Softmax")
    network = Network("net", [layer], graph=Graph({"x": (6,)}, {"fc": ("x",)}, (softmax,), ("p",)))
    model, samples = trainable.TrainableNetwork(network), RNG.random((5, 6)).astype(np.float32)
    np.testing.assert_allclose(
        torch.softmax(model(torch.from_numpy(samples)), 1).detach(), forward(network, samples), rtol=1e-5
    )


@pytest.mark.parametrize("name", [DENSE, "convnet-digits-dense"])
def test_shipped_networks_give_what_numpy_gives(name: str) -> None:
    network, (images, _) = accelsim.load_network(name), digits("test")
    model = trainable.TrainableNetwork(network)
    found = model(torch.from_numpy(images[:16])).detach().numpy()
    np.testing.assert_allclose(found, forward(network, images[:16]), rtol=1e-4, atol=1e-4)
    again = model.network(network)
    assert all(np.array_equal(mine.weight, layer.weight) for mine, layer in zip(again, network, strict=True))


@pytest.fixture(scope="module")
def found() -> Any:
    shares = {"fc1": 0.95, "fc2": 0.9}
    return gradual.prune_gradually(accelsim.load_network(DENSE), shares, schedule="cubic", steps=3, epochs=1)


def test_zeros_follow_the_schedule_and_stay_while_it_is_trained(found: Any) -> None:
    sizes = {"fc1": 64 * 300, "fc2": 300 * 100}
    for way in ("cubic", "pruned", "one-shot"):
        mine = found.curve[found.curve["schedule"] == way]
        assert mine["step"].tolist() == [1, 2, 3]
        expected = [
            sum(round(share * final * sizes[name]) for name, final in (("fc1", 0.95), ("fc2", 0.9))) / 49200
            for share in ratios("cubic", 3)
        ]
        assert mine["sparsity"].tolist() == pytest.approx(expected, abs=1e-3)
    for name, share in (("fc1", 0.95), ("fc2", 0.9), ("fc3", 0.0)):
        assert np.mean(found.network[name].weight == 0) == pytest.approx(share, abs=1e-3)
    before = accelsim.load_network(DENSE)
    assert not np.array_equal(found.network["fc3"].weight, before["fc3"].weight)  # trained, not pruned
    assert not np.array_equal(found.network["fc1"].bias, before["fc1"].bias)


def test_accuracies_are_those_of_the_networks(found: Any) -> None:
    table = found.curve.set_index(["schedule", "step"])["accuracy"]
    assert table["cubic", 3] == accuracy(found.network, *digits("test"))
    assert table["none", 0] == accuracy(accelsim.load_network(DENSE), *digits("test"))
    assert found.network.provenance["accuracy_pruned"] == table["cubic", 3]
    assert table["pruned", 3] < table["one-shot", 3]
    assert table["pruned", 3] < table["cubic", 3]
    assert found.curve.set_index(["schedule", "step"]).loc[[("cubic", 2), ("one-shot", 2)], "epochs"].tolist() == [2, 2]


def test_a_seed_gives_the_same_network(found: Any) -> None:
    again = gradual.prune_gradually(
        accelsim.load_network(DENSE), {"fc1": 0.95, "fc2": 0.9}, schedule="cubic", steps=3, epochs=1
    )
    pd.testing.assert_frame_equal(again.curve, found.curve)
    assert all(np.array_equal(a.weight, b.weight) for a, b in zip(again.network, found.network, strict=True))


def test_own_samples_a_quarter_held_back() -> None:
    images, labels = digits("train")
    network = accelsim.load_network(DENSE).with_samples(images[:80], labels[:80])
    trained, held_back = gradual.samples_of(network, "labels")
    assert held_back.labels.tolist() == labels[3:80:4].tolist()
    assert len(trained.labels) == 60
    made = gradual.prune_gradually(network, None, "nm:2:4", schedule="one-shot", steps=1, train="labels", epochs=1)
    assert all(((layer.weight.reshape(len(layer.weight), -1, 4) != 0).sum(axis=2) <= 2).all() for layer in made.network)
    assert set(made.curve["schedule"]) == {"none", "pruned", "one-shot"}


def test_every_problem_is_named() -> None:
    network = accelsim.load_network(DENSE)
    with pytest.raises(InputError) as raised:
        gradual.prune_gradually(network, None, "filter", "obd", schedule="cubik", train="digts")
    said = raised.value.problems
    assert [problem.partition(":")[0] for problem in said] == [
        "schedule",
        "train",
        "granularity",
        "criterion",
        "sparsity",
    ]
    with pytest.raises(InputError, match=r"sparsity: network .* has no layer 'fc4'; did you mean"):
        gradual.prune_gradually(network, {"fc4": 0.5})
    with pytest.raises(InputError, match="no labels are known"):
        gradual.prune_gradually(network, 0.5, train="labels")
    with pytest.raises(InputError, match="a sample has 64 numbers, and the network takes"):
        gradual.prune_gradually(Network("n", [Layer.linear("fc", np.ones((10, 7)))]), 0.5)
    with pytest.raises(InputError, match="there are 10 classes, and the network gives 3"):
        gradual.prune_gradually(Network("n", [Layer.linear("fc", np.ones((3, 64)))]), 0.5)
    erf = Operation(name="e", kind="elementwise", inputs=("fc",), shape=(10,), does="Erf")
    graph = Graph({"x": (64,)}, {"fc": ("x",)}, (erf,), ("e",))
    with pytest.raises(InputError, match="operation Erf: cannot be trained here"):
        gradual.prune_gradually(Network("n", [Layer.linear("fc", np.ones((10, 64)))], graph=graph), 0.5)


def test_the_command_writes_network_curve_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    prune_command(
        DENSE, sparsity="0.9", schedule="cubic", train="digits", steps=2, epochs=1, plot=Path("it.svg"),
        output=Path("it.safetensors"), csv=Path("it.csv"),
    )  # fmt: skip
    curve = pd.read_csv("it.csv")
    assert [column.name for column in gradual.SCHEDULE_COLUMNS] == list(curve)
    assert curve["schedule"].tolist() == ["none", *["pruned", "one-shot", "cubic"] * 2]
    network = accelsim.load_network("it.safetensors")
    assert accuracy(network, *digits("test")) == curve["accuracy"].iloc[-1]
    said = capsys.readouterr().out
    assert f"{100 * curve['accuracy'].iloc[-1]:.1f} %" in said
    assert "in steps" in said
    drawn = Path("it.svg").read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->" in drawn for name in ("not trained", "at once, trained as long", "cubic, in steps"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"schedule": "cubic", "steps": 3}, ["--schedule: is of training", "--steps: is of training"]),
        ({"train": "digits", "update": True}, ["--update: does not go with --train"]),
        ({"train": "digits", "schedule": "one-shot", "steps": 4}, ["steps: 'one-shot' has one (got 4)"]),
    ],
)
def test_options_that_do_not_go_together(given: dict[str, Any], said: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        prune_command(DENSE, sparsity="0.5", output=tmp_path / "x.safetensors", **given)
    assert all(any(problem.startswith(text) for problem in raised.value.problems) for text in said)
    assert not (tmp_path / "x.safetensors").exists()


def test_a_state_dict_comes_back_trained(tmp_path: Path) -> None:
    network = accelsim.load_network(DENSE)
    named = (("weight", lambda layer: layer.weight), ("bias", lambda layer: layer.bias))
    arrays = {f"{layer.name}.{key}": np.ascontiguousarray(take(layer)) for layer in network for key, take in named}
    save_file(arrays, tmp_path / "model.safetensors")
    prune_command(
        str(tmp_path / "model.safetensors"), sparsity="0.9", train="digits", epochs=1, json=tmp_path / "c.json",
        output=tmp_path / "out.safetensors",
    )  # fmt: skip
    written = load_file(tmp_path / "out.safetensors")
    assert set(written) == set(arrays)
    assert not np.array_equal(written["fc3.bias"], arrays["fc3.bias"])
    reached = pd.read_json(tmp_path / "c.json")["accuracy"].iloc[-1]
    assert accuracy(accelsim.load_network(tmp_path / "out.safetensors"), *digits("test")) == pytest.approx(reached)
