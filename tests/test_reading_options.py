"""Do the options for what a file leaves open reach its reader from every command, and only the file they belong to?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Run
from onnx_models import save_product
from safetensors.numpy import save_file

from accelsim.cli.reading import ReadingOptions
from accelsim.errors import InputError
from accelsim.network import load_network
from accelsim.network.reading import OPTIONS, Reading

COMMANDS = (
    "run", "energy", "compare", "curve", "prune", "sensitivity", "allocate", "divisions", "timeline", "report",
    "inspect", "check",
)  # fmt: skip


def test_options_are_keywords_of_the_reader() -> None:
    typed = ReadingOptions(
        key="model.ema",
        transpose=["h.*", "fc"],
        input_shape=["x=1,3,224,224", "seq_len=128", "a=b=7,", "input:0 = 1, 2", "y=1x3x8"],
        batch_dim=["x=0", "y=none", "z=-1"],
        input_value=["sr=16000", "flag=true", "p=0.5", "other=-2"],
    )
    assert typed.keywords() == {
        "key": "model.ema",
        "transpose": ["h.*", "fc"],
        "input_shapes": {"x": (1, 3, 224, 224), "seq_len": 128, "a=b": (7,), "input:0": (1, 2), "y": (1, 3, 8)},
        "batch_dims": {"x": 0, "y": None, "z": -1},
        "input_values": {"sr": 16000, "flag": 1, "p": 0.5, "other": -2},
    }
    assert ReadingOptions().keywords() == {}


@pytest.mark.parametrize(
    ("option", "text"),
    [
        *(("input_shape", text) for text in ("x=", "x=1.5", "x=0,3", "=3", "x", "x=1,,2", "x=-1", "x=1e3", "x=²")),
        *(("batch_dim", text) for text in ("x=", "x=a", "x=1.0", "x=0,1", "x=--1")),
        *(("input_value", text) for text in ("x=", "x=nan", "x=inf", "x=yes", "x=1,2")),
    ],
)
def test_a_bad_value_is_told_with_its_option_and_form(option: str, text: str) -> None:
    with pytest.raises(InputError) as error:
        ReadingOptions(**{option: [text]}).keywords()
    (problem,) = error.value.problems
    assert problem.startswith(f"--{option.replace('_', '-')} {text}: write an input")


def test_all_bad_values_are_told_at_once_with_all_else(accelsim: Run) -> None:
    said = accelsim(
        "run", "lenet-5", "--input-shape", "x=0", "--batch-dim", "x=y", "--batch-dim", "a=0", "--batch-dim", "a=1",
        "--input-value", "x", "--hardware", "eie-64pe-45n", "--csv", "/nowhere/x.csv",
    )  # fmt: skip
    assert (said.code, said.out) == (2, "")
    beginnings = ["--input-shape x=0", "--batch-dim x=y", "--batch-dim a=1: a is given twice", "--input-value x",
                  "'eie-64pe-45n'", "/nowhere/x.csv"]  # fmt: skip
    assert len(said.errors) == len(beginnings)
    for beginning, error in zip(beginnings, said.errors, strict=True):
        assert error.removeprefix("error: ").startswith(beginning)


ALL = {"--key": "k", "--transpose": "fc*", "--input-shape": "x=1,4", "--batch-dim": "x=0", "--input-value": "s=1"}


@pytest.mark.thorough(keep=6)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_them(accelsim: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str) -> None:
    """The reader is told what was typed; it ends here, with a word of its own."""

    def told(**keywords: Any) -> Reading:
        raise InputError(f"with {sorted((name, value) for name, value in keywords.items() if value)}")

    monkeypatch.setattr(Reading, "of", told)
    np.savez(tmp_path / "net.npz", **{"fc.weight": np.ones((4, 4), np.float32)})
    said = accelsim(command, tmp_path / "net.npz", *(each for option in ALL.items() for each in option))
    keywords = {
        "batch_dims": {"x": 0},
        "input_shapes": {"x": (1, 4)},
        "input_values": {"s": 1},
        "key": "k",
        "transpose": ["fc*"],
    }
    assert said.code == 2
    assert any(error.endswith(f"with {sorted(keywords.items())}") for error in said.errors), said
    help_text = accelsim(command, "--help").out
    assert "Reading files" in help_text
    assert all(option in help_text for option in ALL)


@pytest.mark.needs("torch")
def test_a_key_that_nothing_is_under_is_told(accelsim: Run, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    plain, wrapped = tmp_path / "plain.pt", tmp_path / "wrapped.pt"
    tensors = {"fc.weight": torch.ones(4, 4)}
    torch.save(tensors, plain)
    torch.save({"model": tensors, "epoch": 3}, wrapped)
    assert accelsim("check", wrapped, "--key", "model").code == 0
    assert accelsim("check", wrapped, "--key", "modle").errors == [
        f"{wrapped}: --key 'modle': no tensors are there; did you mean 'model'?"
    ]
    assert accelsim("check", plain, "--key", "model").errors == [
        f"{plain}: --key 'model': the tensors are under no key; leave it out"
    ]


def test_every_keyword_has_an_option() -> None:
    assert set(OPTIONS.values()) == set(ALL)
    assert set(OPTIONS) == set(vars(Reading()))


@pytest.mark.parametrize("kind", ["a file of tensors", "an ONNX graph", "a network file"])
def test_what_belongs_to_another_kind_of_file_is_refused(kind: Any) -> None:
    reading = Reading.of(
        key="k", transpose=["fc"], input_shapes={"x": 1}, batch_dims={"x": None}, input_values={"x": 0.0}
    )
    with pytest.raises(InputError) as error:
        reading.check_belongs("net", kind)
    belongs = {"--key": "a file of tensors", "--transpose": "a file of tensors"}
    assert list(error.value.problems) == [
        f"net: {option} ({keyword}=): belongs to {owner}, and this is {kind}; leave it out"
        for keyword, option in OPTIONS.items()
        if (owner := belongs.get(option, "an ONNX graph")) != kind
    ]
    Reading.of().check_belongs("net", kind)


def test_options_that_belong_elsewhere_are_told_by_commands(accelsim: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", **{"fc.weight": np.ones((4, 4), np.float32)})
    said = accelsim("run", tmp_path / "net.npz", "--batch-dim", "x=0")
    belongs = "belongs to an ONNX graph, and this is a file of tensors; leave it out"
    assert said.errors == [f"{tmp_path}/net.npz: --batch-dim: {belongs}"]
    for arguments, named in (
        (("check", "eie-64pe-45nm", "--key", "k"), "--key: is of no use with eie-64pe-45nm, which is a chip"),
        (("check", "ddr4-2400", "--key", "k"), "--key: is of no use with ddr4-2400, which is a DRAM part"),
        (("energy", "eie-64pe-45nm", "--transpose", "f"), "--transpose: is of no use with eie-64pe-45nm"),
        (("plot", "eie-64pe-45nm", "operations", "--key", "k"), "--key: is of no use with eie-64pe-45nm, which is no"),
        (("plot", "lenet-5", "storage", "--key", "k"), "lenet-5.toml: --key: belongs to a file of tensors"),
        (("run", "lenet-5", "--key", "k"), "lenet-5.toml: --key: belongs to a file of tensors"),
    ):
        result = accelsim(*arguments)
        assert result.code == 2
        assert any(named in error for error in result.errors), result


def test_what_is_told_of_weights_is_not_told_of_the_network(
    accelsim: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """lenet-5 comes along as a network file, which has no key; the file of weights has."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("accelsim.network.with_weights", lambda net, path, **told: asked.append(told) or net)
    file = tmp_path / "w.pt"
    said = accelsim("prune", "lenet-300-100-digits-dense", "--weights", file, "--key", "k", "--transpose", "fc*",
                    "--sparsity", "0.5", "-o", tmp_path / "out.safetensors")  # fmt: skip
    assert said.code == 0, said.err
    assert asked == [{"key": "k", "transpose": ["fc*"]}]
    typed = ReadingOptions(key="k", input_shape=["x=1"])
    assert typed.keywords_beside(file, "net.onnx") == ({"input_shapes": {"x": 1}}, {"key": "k"})
    assert typed.keywords_beside(file, "net.pt") == ({"input_shapes": {"x": 1}, "key": "k"}, {"key": "k"})
    assert typed.keywords_beside(None, "lenet-5") == ({"input_shapes": {"x": 1}, "key": "k"}, {})


def test_a_transposed_weight_runs_turned_and_the_page_says_how_to_make_it_again(
    accelsim: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stored = np.ones((16, 4), np.float32)  # (in, out)
    save_file({"fc.weight": stored, "head.weight": np.ones((8, 4), np.float32)}, "net.safetensors")
    arguments = ("net.safetensors", "--transpose", "f*", "--density", "0.5")
    assert accelsim("run", *arguments, "-q", "--csv", "out.csv").code == 0
    table = pd.read_csv("out.csv").set_index("layer")
    assert table.loc["fc", ["out_features", "in_features"]].tolist() == [4, 16]
    assert table.loc["head", ["out_features", "in_features"]].tolist() == [8, 4]
    assert accelsim("report", *arguments, "-o", "page.html").code == 0
    text = Path("page.html").read_text(encoding="utf-8").replace("&#39;", "'")
    assert "--transpose 'f*'" in text
    line = "network = accelsim.load_network('net.safetensors', transpose=['f*'])"
    assert line in text
    made = load_network("net.safetensors", transpose=["f*"])
    assert [layer.weight_shape for layer in made] == [(4, 16), (8, 4)]


@pytest.mark.needs("onnx")
def test_an_input_of_a_graph_is_told(accelsim: Run, tmp_path: Path) -> None:
    save_product(tmp_path / "g.onnx", "x", [1, "length", 8])
    given = ("--density", "0.5", "-q", "--csv", tmp_path / "out.csv")
    for told in (("--input-shape", "length=5"), ("--input-shape", "x=1,5,8")):
        said = accelsim("run", tmp_path / "g.onnx", *told, "--batch-dim", "x=0", *given)
        assert said.code == 0, said.err
        assert pd.read_csv(tmp_path / "out.csv")["vectors"].tolist() == [5]
