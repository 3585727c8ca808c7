"""A network beside the one that it was pruned from: ratios of totals, derived here; activations stay as they were."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from safetensors.numpy import save_file

from accelsim import InputError, Layer, Network, load_network, simulate
from accelsim.against import gains, other, stated_accuracy, unpruned
from accelsim.network.writer import way_to
from accelsim.pruned import prune_network


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def written(path: Path, tensors: dict[str, np.ndarray]) -> None:
    match path.suffix:
        case ".npz":
            np.savez(path, **tensors)
        case ".safetensors":
            save_file(tensors, path)
        case _:
            import torch

            torch.save({name: torch.from_numpy(each) for name, each in tensors.items()}, path)


PRUNED, PARENT = "lenet-300-100-digits", "lenet-300-100-digits-dense"
CHIPS = ["eie-64pe-45nm", "a100-pcie"]


def test_the_parent_is_the_one_that_the_network_states() -> None:
    found = other(load_network(PRUNED))
    assert found is not None
    assert found.name == PARENT
    assert other(load_network(PARENT)) is None
    with pytest.warns(
        UserWarning, match=r"not compared with what it was pruned from \('nowhere'.*\); name that: against="
    ):
        assert other(replace(load_network(PRUNED), provenance={"pruned_from": "nowhere"})) is None


def test_gains_are_ratios_of_what_whole_networks_take() -> None:
    net = load_network(PRUNED)
    parent = other(net)
    assert parent is not None
    mine, theirs = simulate(net, CHIPS), simulate(parent, CHIPS)
    found = gains(mine, theirs, net, parent)
    assert found["hardware"].tolist() == CHIPS
    for _, row in found.iterrows():
        one, two = (table[table["hardware"] == row["hardware"]] for table in (mine, theirs))
        assert row["speed_up"] == pytest.approx(two["time_us"].sum() / one["time_us"].sum())
        assert row["energy_saving"] == pytest.approx(two["energy_pj"].sum() / one["energy_pj"].sum())
        assert row["size_saving"] == pytest.approx(two["storage_bits"].sum() / one["storage_bits"].sum())
    assert found["accuracy"].tolist() == [0.98, 0.98]
    assert found["accuracy_against"].tolist() == [0.9822, 0.9822]
    assert np.isnan(found["bytes_saving"].iloc[0])  # everything lies on the chip


def test_a_network_with_every_weight_there_computes_the_same() -> None:
    net = load_network(PRUNED)
    given = net.with_samples(net.layers[0].activations)
    whole = unpruned(given)
    assert all(np.all(layer.weight != 0) for layer in whole)
    for one, two in zip(given.seen(outputs=True), whole.seen(outputs=True), strict=True):
        np.testing.assert_array_equal(one.inputs == 0, two.inputs == 0)
        np.testing.assert_allclose(one.outputs, two.outputs, rtol=1e-5, atol=1e-5)  # in another order of sums


def test_what_enters_a_network_enters_the_one_that_it_is_held_against(tmp_path: Path) -> None:
    net = load_network(PRUNED)
    given = net.with_samples(net.layers[0].activations)
    found = other(given)
    assert found is not None
    np.testing.assert_array_equal(found.samples["input"], given.samples["input"])
    other_inputs = Network("wide", [Layer.linear("fc", np.ones((2, 65), np.float32))])
    other_inputs.save(tmp_path / "wide.safetensors")
    with pytest.raises(InputError, match="wide takes 65 numbers of a sample, and lenet-300-100-digits 64"):
        other(given, tmp_path / "wide.safetensors")


def test_a_network_is_held_against_what_was_asked_for() -> None:
    net = load_network(PRUNED)
    assert other(net, "none") is None
    whole = other(net, "dense")
    assert whole is not None
    assert all(np.all(layer.weight != 0) for layer in whole)
    named = other(net, "convnet-digits-dense")
    assert named is not None
    assert named.name == "convnet-digits-dense"


def test_of_weights_that_nobody_trained_no_labels_tell_the_accuracy() -> None:
    net = load_network(PRUNED)
    samples = net.layers[0].activations
    given = net.with_samples(samples, np.zeros(len(samples), np.int64))
    whole = unpruned(given)
    (row,) = gains(*(simulate(each, CHIPS[0]) for each in (given, whole)), given, whole).to_dict("records")
    *_, last = given.seen(outputs=True)
    assert row["accuracy"] == pytest.approx(np.mean(np.argmax(last.outputs.reshape(len(samples), -1), axis=1) == 0))
    assert row["accuracy_against"] == 0.9822  # as the file states it of its parent


def test_what_is_pruned_again_states_no_accuracy_of_the_pruning_before() -> None:
    again = prune_network(load_network(PARENT), "fine", 0.5)
    assert again.provenance["pruned_from"] == PARENT
    assert np.isnan(stated_accuracy(again, "accuracy_pruned"))


def test_run_says_what_the_network_takes_less(accelsim: Run) -> None:
    said = accelsim("run", PRUNED)
    assert said.code == 0
    assert f"{PRUNED} against {PARENT}" in said.out
    net = load_network(PRUNED)
    parent = other(net)
    assert parent is not None
    (row,) = gains(simulate(net, CHIPS[0]), simulate(parent, CHIPS[0]), net, parent).to_dict("records")
    line = next(line for line in said.out.splitlines() if line.split()[:1] == [CHIPS[0]] and "x" in line)
    assert line.split() == [
        CHIPS[0], f"{row['speed_up']:.2f}x", f"{row['energy_saving']:.2f}x", "-", f"{row['size_saving']:.2f}x",
        "98.0", "%", "98.2", "%",
    ]  # fmt: skip
    assert "against" not in accelsim("run", PRUNED, "--against", "none").out
    assert f"{PRUNED} against {PRUNED} (dense)" in accelsim("run", PRUNED, "--against", "dense").out


def test_a_network_to_be_held_against_that_cannot_be_read(accelsim: Run) -> None:
    said = accelsim("run", PRUNED, "--against", "lenet-300")
    assert said.code == 2
    assert said.err.startswith("error: --against lenet-300: 'lenet-300': no network of this name is shipped")
    said = accelsim("run", "lenet-30", "--against", "lenet-300")
    assert said.code == 2
    assert [line.split(": ")[1] for line in said.err.splitlines()] == ["'lenet-30'", "--against lenet-300"]
    meant = accelsim("run", PRUNED, "--against", "dens")
    assert (meant.code, meant.err) == (2, "error: --against dens: 'dens': did you mean 'dense'?\n")


def test_a_report_has_the_table_and_how_to_make_it_again(accelsim: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert accelsim("report", PRUNED, "--hardware", CHIPS[0], "-o", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert f"<h3>{PRUNED} against {PARENT}</h3>" in text
    code = text.partition("<pre><code>import accelsim")[2].partition("</code>")[0]
    printed: list[Any] = []
    exec("import accelsim" + html.unescape(code), {"print": printed.append})  # noqa: S102
    (row,) = printed[0].to_dict("records")
    net = load_network(PRUNED)
    parent = other(net)
    assert parent is not None
    expected = gains(simulate(net, CHIPS[0]), simulate(parent, CHIPS[0]), net, parent)
    assert row["speed_up"] == expected["speed_up"].iloc[0]
    without = accelsim("report", PRUNED, "--hardware", CHIPS[0], "--against", "none", "-o", page)
    assert without.code == 0
    assert f"against {PARENT}" not in page.read_text(encoding="utf-8")


@pytest.mark.needs("onnx")
def test_a_pruned_onnx_file_is_held_against_the_one_that_it_came_from(
    accelsim: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    from onnx import helper
    from onnx_graphs import model_of, reals

    nodes = [
        helper.make_node("Gemm", ["x", "one.weight"], ["a"], transB=1, name="one"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Gemm", ["b", "two.weight"], ["y"], transB=1, name="two"),
    ]
    weights = {"one.weight": reals(0, 64, 32), "two.weight": reals(1, 10, 64)}
    model = model_of(nodes, {"x": reals(2, 1, 32)}, weights)
    model.graph.name = "main_graph"  # as exporters call all of theirs
    (tmp_path / "models").mkdir()
    onnx.save(model, tmp_path / "models" / "mine.onnx")
    np.savez(tmp_path / "samples.npz", x=reals(3, 4, 32), labels=np.arange(4))
    monkeypatch.chdir(tmp_path)
    arguments = ["models/mine.onnx", "--granularity", "fine", "--sparsity", "0.9", "-o", "less.onnx"]
    assert accelsim("prune", *arguments).code == 0
    assert load_network("less.onnx").provenance["pruned_from"] == "models/mine.onnx"
    assert "less against mine" in accelsim("run", "less.onnx", "--inputs", "samples.npz").out
    moved = (tmp_path / "less.onnx").rename(tmp_path / "models" / "less.onnx")  # where it came from is elsewhere now
    alone = accelsim("run", moved)
    assert "less against" not in alone.out
    assert "note: less: not compared with what it was pruned from (" in alone.err
    assert alone.err.count("pruned from") == 1
    over = ["models/mine.onnx", "--granularity", "fine", "--sparsity", "0.5", "-o", "models/mine.onnx"]
    assert accelsim("prune", *over).code == 0
    assert "pruned_from" not in load_network("models/mine.onnx").provenance


@pytest.mark.parametrize("ending", [".safetensors", ".npz", pytest.param(".pt", marks=pytest.mark.needs("torch"))])
@pytest.mark.parametrize("form", ["own", "state dict"])
def test_a_pruned_state_dict_is_held_against_the_one_that_it_came_from(
    accelsim: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, ending: str
) -> None:
    tensors = {"one.weight": drawn(0, 64, 32), "one.bias": drawn(1, 64), "two.weight": drawn(2, 10, 64)}
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    written(Path(f"models/mine{ending}"), tensors)
    source, target = f"models/mine{ending}", f"less{ending}"
    if form == "own":
        target = "less.safetensors"
        load_network(source).save(Path("models/own.safetensors"))
        source = "models/own.safetensors"
    assert accelsim("prune", source, "--sparsity", "0.9", "-o", target).code == 0
    assert load_network(target).provenance["pruned_from"] == source
    said = accelsim("run", target)
    name = "mine" if form == "own" else "less"
    assert ("this mine against the other" if name == "mine" else f"{name} against mine") in said.out
    (row,) = re.findall(r"eie\S+ +1.00x +([\d.]+)x +- +([\d.]+)x", said.out)
    assert min(map(float, row)) > 1.1  # a tenth of the weights, of layers so small that they take no less time
    # What is saved again elsewhere in the folder still says where it came from, and nothing of this machine.
    load_network(target).save(Path("models/again.safetensors"))
    assert load_network("models/again.safetensors").provenance["pruned_from"] == source
    assert str(tmp_path) not in Path("models/again.safetensors").read_bytes().decode("latin-1")


def test_a_path_says_no_more_than_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("work/models", "work/out", "private"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    parent = tmp_path / "work" / "models" / "net.npz"
    assert way_to(parent, Path("models/less.npz")) == "net.npz"
    assert way_to(parent, Path("less.npz")) == "models/net.npz"
    assert way_to(parent, Path("out/less.npz")) == "../models/net.npz"
    assert way_to(tmp_path / "private" / "net.npz", Path("less.npz")) == "net.npz"
    assert way_to(parent, parent) == ""


def test_weights_put_into_a_network_are_held_against_those_of_their_parent(
    accelsim: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = load_network("convnet-digits-dense")
    tensors = {f"{layer.name}.weight": layer.weight for layer in net}
    tensors |= {f"{layer.name}.bias": layer.bias for layer in net if layer.bias is not None}
    written(Path("mine.npz"), tensors)
    command = ["convnet-digits-dense", "--weights"]
    assert accelsim("prune", *command, "mine.npz", "--sparsity", "0.9", "-o", "less.npz").code == 0
    said = " ".join(accelsim("run", *command, "less.npz").out.split())
    assert "convnet-digits-dense against convnet-digits-dense (mine.npz)" in said


def test_a_network_of_another_task_is_refused_also_without_samples() -> None:
    """By what both take and give, and never by itself of what a network says that it was pruned from."""
    net = load_network("alexnet")
    with pytest.raises(InputError, match="lenet-5 takes 784 numbers of a sample, and alexnet") as caught:
        other(net, "lenet-5")
    assert "lenet-5 gives 10 numbers of a sample, and alexnet 1,000" in caught.value.problems[1]
    narrowed = replace(load_network("lenet-5"), provenance={"pruned_from": "alexnet"})
    assert other(narrowed, "alexnet") is not None
