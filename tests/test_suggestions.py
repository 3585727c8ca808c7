"""Does "did you mean" propose only names of the kind that was asked for?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from onnx_models import save_product
from safetensors.numpy import save_file

import accelsim
from accelsim.errors import InputError
from accelsim.explore import Space, pareto
from accelsim.network.files import open_tensors
from accelsim.network.reading import Reading
from accelsim.report import plots

CHIP = 'base = "eie-64pe-45nm"\nname = "mine"\n'
NETWORK = '[[layer]]\nname = "fc"\nout_features = 4\nin_features = 4\nsynthetic = { density = 1.0 }\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file of each kind, all of them called nearly alike."""
    (tmp_path / "mine1.toml").write_text(CHIP)
    (tmp_path / "mine2.toml").write_text(f'name = "mine"\n{NETWORK}')
    (tmp_path / "mine3.csv").write_text("a\n1\n")
    (tmp_path / "part4.onnx").write_bytes(b"")
    (tmp_path / "mine5.json").write_text("{}")
    return tmp_path


def problem(action: object, *arguments: object, **keywords: object) -> str:
    with pytest.raises(InputError) as error:
        action(*arguments, **keywords)  # type: ignore[operator]
    return str(error.value)


def test_a_file_of_another_kind_is_not_proposed(folder: Path) -> None:
    for name, load, meant in (
        ("mine1x.toml", accelsim.load_hardware, "mine1.toml"),
        ("mine1x.toml", accelsim.load_network, "mine2.toml"),
        ("mine2x.toml", accelsim.load_hardware, "mine1.toml"),
        ("part4.onx", accelsim.load_network, "part4.onnx"),
    ):
        assert problem(load, folder / name) == f"{folder / name}: no such file; did you mean '{meant}'?"
    for name in ("mine3.npz", "mine5.onnx"):  # beside mine3.csv and mine5.json, which hold no network
        assert problem(accelsim.load_network, folder / name) == f"{folder / name}: no such file"


def test_a_chip_is_based_on_a_chip(folder: Path) -> None:
    (folder / "other.toml").write_text('base = "mine2x.toml"\nname = "other"\n')
    assert "did you mean 'mine1.toml'?" in problem(accelsim.load_hardware, folder / "other.toml")


def test_a_shipped_name_of_another_kind_is_not_proposed() -> None:
    """ddr4-2400 is a DRAM part, eie-64pe-45nm a chip, gpt-2 a network: each close to what is asked for."""
    for load, name, kind in (
        (accelsim.load_network, "eie-64pe-45n", "network"),
        (accelsim.load_hardware, "ddr4-240", "chip"),
        (accelsim.load_hardware, "resnet-5", "chip"),
    ):
        said = problem(load, name)
        assert f"no {kind} of this name is shipped" in said
        assert not any(f"did you mean '{other}" in said for other in ("eie-64pe", "ddr4", "resnet"))


def test_a_weight_is_not_proposed_a_bias(tmp_path: Path) -> None:
    tensors = {"fc1.bias": np.ones(4, np.float32), "head.weight": np.ones((4, 4), np.float32)}
    save_file(tensors, tmp_path / "t.safetensors")
    asked = 'name = "n"\n[[layer]]\nname = "fc1"\nweight = "t.safetensors:fc1.weight"\n'
    (tmp_path / "n.toml").write_text(asked)
    said = problem(accelsim.load_network, tmp_path / "n.toml")
    assert "fc1.weight" in said
    assert "fc1.bias" not in said
    file = open_tensors(tmp_path / "t.safetensors")
    said = problem(file.__getitem__, "fc1.weight")
    assert said.endswith("no tensor is called 'fc1.weight'; did you mean 'head.weight'?")


def test_a_key_of_one_machine_is_not_proposed_for_another() -> None:
    assert "did you mean 'pes'" in problem(accelsim.load_hardware, "eie-64pe-45nm", {"engine.pess": 1})
    said = problem(accelsim.load_hardware, "edge-nm-16x16", {"engine.pess": 1})
    assert "engine.pess: unknown key" in said
    assert "'pes'" not in said
    assert " pes" not in said


def test_a_constraint_is_of_numbers() -> None:
    table = pd.DataFrame({"point": [0], "hardware": ["a"], "hardware_mm2": [1.0], "energy_pj": [1.0], "time_us": [1.0]})
    table = table.assign(error="", score=np.nan)
    said = problem(pareto, table, ["energy_pj", "time_us"], ["hardwar <= 2"])
    assert "did you mean 'hardware_mm2'" in said
    space = {"vary": {"network": ["lenet-300-100-digits"], "engine.pes": [64]}, "constraints": ["network_ <= 4"]}
    said = problem(Space, space)
    assert "no column 'network_'" in said
    assert "did you mean 'network'" not in said


def test_an_axis_is_of_numbers() -> None:
    table = pd.DataFrame({"time_us": [1.0], "energy_pj": [2.0], "layer": ["fc"], "layers": [1]})
    said = problem(plots.figure, table, "pareto", x="layerr", y="energy_pj")
    assert "did you mean 'layers'" in said


@pytest.mark.needs("onnx")
def test_an_input_of_a_graph_is_not_proposed_a_dimension(tmp_path: Path) -> None:
    save_product(tmp_path / "g.onnx", "image", ["images", 4])
    from accelsim.network.onnx_graph.prepared import prepared

    said = problem(prepared, tmp_path / "g.onnx", Reading.of(input_shapes={"imagess": (1, 4)}))
    assert "did you mean 'image'?" in said
    said = problem(prepared, tmp_path / "g.onnx", Reading.of(input_shapes={"imagess": 1}))
    assert "did you mean 'images'?" in said


@pytest.mark.needs("onnx")
def test_data_beside_a_graph_is_not_proposed_a_graph(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from accelsim.network.onnx_graph.constants import _file_beside

    (tmp_path / "big.onnx").write_bytes(b"")
    (tmp_path / "big.data").write_bytes(b"")
    assert "did you mean" not in problem(_file_beside, "big.onn", "w", tmp_path)
    assert "did you mean 'big.data'?" in problem(_file_beside, "bigg.data", "w", tmp_path)
