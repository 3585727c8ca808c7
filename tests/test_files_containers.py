"""Files of tensors of every container: what is read is what was saved, and what is not read says what it is."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import struct
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from accelsim import InputError, load_network
from accelsim.network import with_weights
from accelsim.network.files import is_tensors, open_tensors
from accelsim.network.reading import Reading
from accelsim.network.specs import METADATA_KEY

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn

DTYPES = (
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32", "int16", "int8",
    "uint64", "uint32", "uint16", "uint8", "bool",
)  # fmt: skip


def quiet() -> Any:
    """Return a block in which PyTorch may say that what it makes is deprecated or in beta."""
    return warnings.catch_warnings(action="ignore")


def saved(path: Path, held: Any, **options: Any) -> Path:
    torch.save(held, path, **options)
    return path


def refused(path: Path, **reading: Any) -> str:
    with pytest.raises(InputError) as caught:
        open_tensors(path, Reading(**reading))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    assert not re.search("weights_only|UnpicklingError|Traceback", problem)
    return problem.removeprefix(f"{path}: ")


def weights() -> dict[str, Any]:
    return {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.ones(3)}


@pytest.mark.parametrize("legacy", [False, True])
def test_every_layout_of_a_tensor_is_read_as_pytorch_reads_it(tmp_path: Path, legacy: bool) -> None:
    torch.manual_seed(0)
    base = torch.randn(6, 8)
    held = {name: (base * 9).to(getattr(torch, name)) for name in DTYPES}
    held |= {
        "turned": base.t(),
        "part": base[1:5, ::3],
        "repeated": base[:1].expand(5, 8),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "parameter": nn.Parameter(base + 1),
        "negated": torch.complex(base, base).conj().imag,
        "coo": (base * (base > 0)).to_sparse(),
    }
    with quiet():
        held |= {
            "twice": torch.sparse_coo_tensor([[1, 1, 0], [2, 2, 3]], [1.0, 2.0, 4.0], (3, 4)),
            "rows of a sparse one": (base * (base > 0)).to_sparse(1),
            "csr": (base * (base > 0)).to_sparse_csr(),
            "csc": (base * (base > 0)).to_sparse_csc(),
            "bsr": (base * (base > 0)).to_sparse_bsr((3, 2)),
            "bsc": (base * (base > 0)).to_sparse_bsc((2, 4)),
        }
    file = open_tensors(saved(tmp_path / "net.pt", held, _use_new_zipfile_serialization=not legacy))
    assert list(file.shapes) == list(held)
    assert not file.unusable
    for name, tensor in held.items():
        dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
        wide = dense.float() if dense.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2) else dense
        expected = wide.resolve_neg().numpy()
        array = file[name]
        assert array.dtype == expected.dtype, name
        assert file.shapes[name] == array.shape
        np.testing.assert_array_equal(array, expected, err_msg=name)


def test_numbers_are_the_pages_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelsim.network.files.tensor_file.LEAST_MAPPED_BYTES", 0)
    for path in (saved(tmp_path / "a.pt", weights()), tmp_path / "a.safetensors"):
        if path.suffix == ".safetensors":
            save_file({name: tensor.numpy() for name, tensor in weights().items()}, path)
        array = open_tensors(path)["fc.weight"]
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_most_bytes_first(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.pt", weights())
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if "/data/" in name:
                content = np.frombuffer(content, "<f4").astype(">f4").tobytes()
            new.writestr(name, b"big" if name.endswith("byteorder") else content)
    np.testing.assert_array_equal(open_tensors(tmp_path / "b.pt")["fc.weight"], weights()["fc.weight"])


def test_quantised_tensors_are_integers_of_which_zero_is_zero(tmp_path: Path) -> None:
    real = torch.tensor([[-0.5, 0.0, 0.25, 1.0], [0.0, 2.0, -1.0, 0.5]])
    with quiet():
        held = {
            "signed": torch.quantize_per_tensor(real, 0.25, 0, torch.qint8),
            "unsigned": torch.quantize_per_tensor(real, 0.25, 128, torch.quint8),
            "beyond": torch.quantize_per_tensor(real.abs(), 2 / 255, 0, torch.quint8),
            "wide": torch.quantize_per_tensor(real, 0.25, 7, torch.qint32),
            "channels": torch.quantize_per_channel(
                real, torch.tensor([0.25, 0.5]), torch.tensor([3, -2]), 0, torch.qint8
            ),
        }
    file = open_tensors(saved(tmp_path / "net.pt", held))
    for name, scales in (("signed", 0.25), ("unsigned", 0.25), ("wide", 0.25), ("channels", [[0.25], [0.5]])):
        np.testing.assert_array_equal(file[name] * np.array(scales), real, err_msg=name)
    assert file["signed"].dtype == np.int8
    # The smallest type that holds them, as of ONNX graphs and of captured models; 255 less 0 is beyond int8.
    assert (file["unsigned"].dtype, file["beyond"].dtype) == (np.int8, np.int16)
    assert file.types["signed"] == "qint8"


def test_packed_modules_have_weight_and_bias(tmp_path: Path) -> None:
    with quiet():
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    path = saved(tmp_path / "net.pt", model.state_dict())
    network = load_network(path)
    assert [layer.name for layer in network] == ["0", "2"]
    for layer in network:
        module = model[int(layer.name)]
        np.testing.assert_array_equal(layer.weight, module.weight().int_repr())
        np.testing.assert_array_equal(layer.bias, module.bias().detach())
    assert not [name for name in open_tensors(path).shapes if name.endswith(("scale", "zero_point"))]


def test_tensors_that_share_their_numbers_are_said_to(tmp_path: Path) -> None:
    table = torch.randn(5, 4)
    held = {"wte.weight": table, "head.weight": table, "turned.weight": table.t(), "own.weight": table.clone()}
    assert open_tensors(saved(tmp_path / "net.pt", held)).shared == {"head.weight": "wte.weight"}


OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3, 4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


@pytest.mark.parametrize(
    "key",
    [
        "state_dict", "model_state_dict", "model_state", "model", "net", "network", "params_ema", "params", "ema",
        "ema_state_dict", "module", "generator", "weights", "model.state_dict", "G.weights",
    ],
)  # fmt: skip
def test_tensors_are_found_under_a_key(tmp_path: Path, key: str) -> None:
    held: Any = OrderedDict(weights())
    for step in reversed(key.split(".")):
        held = {step: held}
    held |= {"optimizer": OPTIMIZER, "optimizer_states": [OPTIMIZER], "lr_scheduler": {"x": torch.ones(2, 2)}}
    held |= {"epoch": 3, "args": argparse.Namespace(lr=0.1), "rng_state": torch.ones(2, 2, dtype=torch.uint8)}
    file = open_tensors(saved(tmp_path / "net.ckpt", held, pickle_protocol=2 + len(key) % 4))
    assert list(file.shapes) == ["fc.weight", "fc.bias"]


def test_an_unusual_key_is_said(tmp_path: Path) -> None:
    file = open_tensors(saved(tmp_path / "net.pth", {"student": weights(), "step": 3}))
    assert file.assumptions == ["read: the tensors under the key 'student', the only ones; --key names another"]
    assert load_network(tmp_path / "net.pth").assumptions == tuple(file.assumptions)
    assert not open_tensors(saved(tmp_path / "net.pth", {"state_dict": weights()})).assumptions


def test_several_keys_are_asked_for(tmp_path: Path) -> None:
    held = {"params": weights(), "params_ema": {"fc.weight": torch.ones(2, 2)}, "optimizer": OPTIMIZER}
    path = saved(tmp_path / "net.pth", held)
    assert refused(path).startswith(
        "holds tensors under 2 keys, 'params' (2 tensors), 'params_ema' (1 tensors); say which is the network with "
        '--key NAME (in Python key="NAME")'
    )
    assert load_network(path, key="params_ema")["fc"].weight.shape == (2, 2)
    assert list(open_tensors(path, Reading(key="params")).shapes) == ["fc.weight", "fc.bias"]
    assert refused(path, key="params_em").endswith("no tensors are there; did you mean 'params_ema'?")
    assert "known: params, params_ema" in refused(path, key="x")
    nested = saved(tmp_path / "nested.pt", {"a": {"g.x": {"enc": weights(), "dec": weights()}}, "b": weights()})
    assert list(open_tensors(nested, Reading(key="a.g.x")).shapes) == [
        "enc.fc.weight", "enc.fc.bias", "dec.fc.weight", "dec.fc.bias",
    ]  # fmt: skip
    assert len(open_tensors(nested, Reading(key=".")).shapes) == 6


def test_a_network_file_names_tensors_of_one_of_several_keys(tmp_path: Path) -> None:
    held = {name: nn.Conv2d(1, 2, 3).state_dict() for name in ("params", "params_ema")}
    path = saved(tmp_path / "net.pth", {name: {f"c.{key}": each[key] for key in each} for name, each in held.items()})
    with pytest.raises(InputError, match="Save this as") as error:
        load_network(path, key="params_ema")
    text = str(error.value).split("\n\n", 1)[1].replace("[0, 0]", "[5, 5]")
    assert 'weight = "net.pth:params_ema.c.weight"' in text
    (tmp_path / "net.toml").write_text(text)
    np.testing.assert_array_equal(load_network(tmp_path / "net.toml")["c"].weight, held["params_ema"]["weight"])


def test_weights_for_a_network_are_found_under_a_key(tmp_path: Path) -> None:
    network = load_network(saved(tmp_path / "plain.pt", weights()))
    path = saved(tmp_path / "net.pth", {"params": {"fc.weight": torch.zeros(3, 4)}, "ema": weights()})
    replaced = with_weights(network, path, key="ema")
    np.testing.assert_array_equal(replaced["fc"].weight, network["fc"].weight)


class Settings:
    """An object of a class that another machine may not have."""

    def __init__(self) -> None:
        self.table = torch.ones(2, 2)


def test_what_is_no_tensor_is_named(tmp_path: Path) -> None:
    held = {"state_dict": {**weights(), "extra": Settings(), "pair": [torch.ones(2, 2)], "epoch": 3}, "x": Settings()}
    path = saved(tmp_path / "net.pt", held)
    file = open_tensors(path)
    assert file.others == {
        "extra": f"object of {Settings.__module__}.Settings, which is never unpickled",
        "pair": "list of tensors without names of their own",
    }
    assert [each.name for each in load_network(path).left_out[:-1]] == ["extra", "pair"]


def test_modules_and_programs_are_refused_with_what_to_type(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    for held in (model, {"model": model, "epoch": 3}, {"model": model, "optimizer": OPTIMIZER}):
        for legacy in (True, False):
            with quiet():
                told = refused(saved(tmp_path / "a.pt", held, _use_new_zipfile_serialization=not legacy))
            assert "a whole module, torch.nn.modules.container.Sequential" in told
            assert "torch.save(model.state_dict(), path), or give the model itself to Network.from_torch(" in told
    with quiet():
        torch.jit.save(torch.jit.trace(model, torch.ones(1, 4)), tmp_path / "script.pt")
        torch.export.save(torch.export.export(model, (torch.ones(1, 4),)), tmp_path / "program.pt2")
    told = refused(tmp_path / "script.pt")
    assert told.startswith(
        "is a TorchScript archive, whose code is never run; save its tensors, in Python: torch.save("
    )
    assert "torch.export.load('program.pt2').state_dict" in refused(tmp_path / "program.pt2")


def test_a_pickle_names_nothing_that_is_imported(tmp_path: Path) -> None:
    """A module that does not exist cannot be imported, and one that does is not."""
    body = b"\x80\x02cno_such_module\nthing\n)R."
    (tmp_path / "a.pt").write_bytes(body)
    assert "holds Python objects (no_such_module.thing)" in refused(tmp_path / "a.pt")
    script = (
        "import sys, accelsim, pathlib\nfrom accelsim.network.files import open_tensors\n"
        "open_tensors(pathlib.Path(sys.argv[1]))\nassert 'torch' not in sys.modules\n"
    )
    path = saved(tmp_path / "b.pt", weights())
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x02.", b"\x80\x02(.", b"\x80\x02]q\x00a.", b"\x80\x02h\x05.", b"\x80\x02}K\x01K\x02K\x03u.", b"\x80\x02",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", b"\x80\x02Q.",
        b"\x80\x02X\xff\xff\xff\x7fab.", b"\x80\x02\x82\x01.",
        b"\x80\x02((((t" + b"t" * 9000 + b".", b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x00K\x01K\x02K\x03tR.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02}(" + b"(" * 100000 + b"t" * 100000 + b"K\x01u.",
    ],
)  # fmt: skip
def test_a_pickle_that_makes_no_sense_is_a_message(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(body)
    assert len(refused(path)) < 400
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", body)
    assert len(refused(path)) < 400


def pickled_tensor(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, numbers: int) -> bytes:
    """Return a file of torch.save of 1.5 whose tensor claims what it is told."""
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04NtQ"
    sizes = [pickle.dumps(each, 2)[2:-1] for each in (offset, shape, strides)]
    body = b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n(" + storage + b"".join(sizes) + b"\x89}tRs."
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return head + body + pickle.dumps(["0"], 2) + struct.pack("<Q", numbers) + np.arange(4, dtype="<f4").tobytes()


def test_a_tensor_that_claims_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(pickled_tensor((2, 2), (2, 1), 0, 4))
    np.testing.assert_array_equal(open_tensors(path)["a"], [[0, 1], [2, 3]])
    for claim in (((2, 3), (3, 1), 0, 4), ((2, 2), (2, 1), 1, 4), ((2, 2), (2**40, 1), 0, 4)):
        path.write_bytes(pickled_tensor(*claim))
        with pytest.raises(InputError, match=r"'a' lies outside of what the file holds of it \(16 bytes\)"):
            open_tensors(path)["a"]
    for claim in (((-2, 2), (2, 1), 0, 4), ((2, 2), (-2, 1), 0, 4), ((2, 2), (2, 1), -1, 4), ((2, 2), (1,), 0, 4)):
        path.write_bytes(pickled_tensor(*claim))
        assert "not a complete file of torch.save: has a tensor of shape" in refused(path)
    path.write_bytes(pickled_tensor((2, 2), (2, 1), 0, 5))
    assert "storage 0 claims 20 bytes, the file has 16" in refused(path)
    path.write_bytes(pickled_tensor((0, 2**62), (1, 1), 0, 4))
    with pytest.raises(InputError, match="which no array can have"):
        open_tensors(path)["a"]


def test_sparse_tensors_whose_indices_lie_outside_are_refused_when_read(tmp_path: Path) -> None:
    with quiet():
        coo = torch.sparse_coo_tensor([[0, 9], [0, 1]], [1.0, 2.0], (10, 2))
        csr = torch.eye(4).to_sparse_csr()
    path = saved(tmp_path / "a.pt", {"coo": coo, "csr": csr})
    content = path.read_bytes()
    for found, other, name in ((9, 10, "coo"), (9, -1, "coo"), (4, 5, "csr")):
        at = content.index(np.array([0, found] if name == "coo" else [3, found], "<i8").tobytes()) + 8
        path.write_bytes(content[:at] + struct.pack("<q", other) + content[at + 8 :])
        with pytest.raises(InputError, match=f"'{name}' is not a complete sparse tensor: "):
            open_tensors(path)[name]


def sharded(folder: Path, *, index: bool = True, count: int = 2, ending: str = "safetensors") -> Path:
    folder.mkdir()
    places = {}
    for at in range(count):
        name = f"model-{at + 1:05}-of-{count:05}.{ending}"
        arrays = {f"layers.{at}.weight": np.full((2, 3), at, np.float32)}
        if ending == "safetensors":
            save_file(arrays, folder / name)
        else:
            torch.save({key: torch.tensor(array) for key, array in arrays.items()}, folder / name)
        places |= dict.fromkeys(arrays, name)
    if index:
        (folder / f"model.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "config.json").write_text("{}")
    (folder / "training_args.bin").write_bytes(b"\x80\x02cx\ny\n.")
    return folder


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards_are_one_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: bool, ending: str) -> None:
    monkeypatch.setattr("accelsim.network.files.tensor_file.LEAST_MAPPED_BYTES", 0)
    folder = sharded(tmp_path / "net", index=index, ending=ending)
    for path in [folder, *folder.glob("*.index.json")]:
        network = load_network(path)
        assert [layer.name for layer in network] == ["layers.0", "layers.1"]
        np.testing.assert_array_equal(network["layers.1"].weight, np.ones((2, 3)))
        assert isinstance(network["layers.1"].weight, np.memmap)
    alone = folder / f"model-00002-of-00002.{ending}"
    assert refused(alone).startswith("is shard 2 of 2 of one network; name ")
    assert refused(alone).endswith(str(folder / f"model.{ending}.index.json") if index else f"{folder}/")
    (folder / "net.toml").write_text(
        f'name = "n"\n[[layer]]\nname = "a"\nkind = "linear"\nweight = "{alone.name}:layers.1.weight"'
    )
    assert load_network(folder / "net.toml")["a"].weight.shape == (2, 3)
    (tmp_path / "net.toml").write_text(
        'name = "n"\n[[layer]]\nname = "a"\nkind = "linear"\nweight = "net/:layers.1.weight"'
    )
    assert load_network(tmp_path / "net.toml")["a"].weight.shape == (2, 3)


def test_what_is_wrong_with_shards(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "net", count=3)
    index = folder / "model.safetensors.index.json"
    right = json.loads(index.read_text())

    def listing(**places: str) -> None:
        index.write_text(
            json.dumps({"weight_map": right["weight_map"] | {n.replace("__", "."): p for n, p in places.items()}})
        )

    listing(layers__3__weight="model-00003-of-00003.safetensors")
    assert "'layers.3.weight' is not in model-00003-of-00003.safetensors, where the index has it" in refused(index)
    for place in ("../net/model-00003-of-00003.safetensors", "/etc/passwd", "a\\..\\b"):
        listing(x=place)
        assert refused(index).startswith(f"lists '{place}', which is not in its folder")
    for text in ("[]", "{", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"a": 1, "a": 2}', "[" * 90000):
        index.write_text(text)
        assert re.search("weight_map|is not JSON", refused(index))
    listing()
    save_file(
        {"layers.0.weight": np.ones((2, 2)), "layers.2.weight": np.ones(2)}, folder / "model-00003-of-00003.safetensors"
    )
    told = refused(index)
    assert told.startswith("'layers.0.weight' is in model-00001-of-00003.safetensors and in model-00003-of-00003.saf")
    for name in ("model-00003-of-00003.safetensors", "model-00002-of-00003.safetensors"):
        (folder / name).unlink()
    with pytest.raises(InputError) as caught:
        open_tensors(folder)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        f"shard model-0000{at}-of-00003.safetensors of 3 is not in the folder; copy or download it" for at in (2, 3)
    ]
    index.unlink()
    with pytest.raises(InputError, match=r"shard model-00002-of-00003\.safetensors is not in the folder"):
        open_tensors(folder)


def test_a_folder_with_one_file(tmp_path: Path) -> None:
    save_file({"fc.weight": np.ones((2, 2))}, tmp_path / "model.safetensors")
    assert list(open_tensors(tmp_path).shapes) == ["fc.weight"]
    saved(tmp_path / "pytorch_model.bin", weights())
    file = open_tensors(tmp_path)
    assert file["fc.weight"].shape == (2, 2)
    (told,) = file.assumptions
    assert told == "of the files in the folder, the network is model.safetensors; pytorch_model.bin is not read"
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "b.bin")
    assert refused(tmp_path) == "holds several files of tensors, a.safetensors, b.bin; name one"
    empty = tmp_path / "empty.safetensors"
    empty.mkdir()
    assert refused(empty).startswith("is a directory without a file of tensors (.safetensors, ")
    (empty / "saved_model.pb").write_bytes(b"\x08\x01")
    assert f"tf2onnx.convert --saved-model {empty}" in refused(empty)


HDF5 = b"\x89HDF\r\n\x1a\n"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.h5", HDF5, "an HDF5 file, as Keras writes; in Python: m = keras.models.load_model('a.h5', compile=False)"),
        ("a.keras", b"?", "a Keras model"),
        ("a.hdf5", b"?", "a Keras model"),
        ("a.safetensors", HDF5, "an HDF5 file"),
        ("a.tflite", b"\x1c\0\0\0TFL3", "a TFLite model; convert it: python -m tf2onnx.convert --tflite a.tflite"),
        ("a.bin", b"\x1c\0\0\0TFL3", "a TFLite model"),
        ("a.ckpt.index", b"?", "part of a TensorFlow checkpoint"),
        ("a.ckpt.data-00000-of-00001", b"?", "part of a TensorFlow checkpoint"),
        ("saved_model.pb", b"?", "a graph of TensorFlow"),
        ("flax_model.msgpack", b"?", "a MessagePack file, as Flax writes"),
        ("a.mlmodel", b"?", "a Core ML model"),
        ("a.engine", b"ftrt", "an engine of TensorRT"),
        ("a.plan", b"?", "an engine of TensorRT"),
        ("a.xml", b"<?xml version='1.0'?>", "part of an OpenVINO model"),
        ("a.param", b"7767517", "part of an ncnn model"),
        ("a.caffemodel", b"?", "a Caffe model"),
        ("a.mat", b"MATLAB 5.0 MAT-file", "a MAT file of MATLAB"),
        ("a.npy", b"\x93NUMPY\x01\0", "one array without a name; in Python: np.savez('net.npz', **{'fc.weight': np."),
        ("a.tar.gz", b"\x1f\x8b", "packed by gzip"),
        ("a.pt", b"\x1f\x8b", "packed by gzip"),
        ("a.tar", b"\0" * 257 + b"ustar", "an archive of other files"),
        ("a.pkl", b"\x80\x04N.", "a pickle, which is never unpickled"),
        ("a.bin", b"lmgg", "a GGML file from before GGUF"),
        ("a.safetensors", b"<!DOCTYPE html><html>", "a web page and not the file that it is named after"),
        ("a.pt", b"\n<html>", "a web page"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        ("a.bin", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("a.npz", b"", "empty"),
        ("a.bin", b"", "empty"),
        ("a.safetensors", b'{"weight_map": {}}', "JSON and no file of tensors"),
    ],
)  # fmt: skip
def test_other_formats_are_told_as_what_they_are(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert is_tensors(path)
    assert refused(path).startswith(f"is {what}")
    with pytest.raises(InputError, match=re.escape(what)):
        load_network(path)


def test_archives_are_told_by_what_is_in_them(tmp_path: Path) -> None:
    for name, member, what in (
        ("a.keras", "model.weights.h5", "is a Keras model"),
        ("a.zip", "readme.txt", "is an archive of other files"),
        ("a.bin", "readme.txt", "not a complete file of torch.save"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, b"x")
        assert refused(tmp_path / name).startswith(what)
    (tmp_path / "net.bin").write_bytes(b"\0" * 64)
    (tmp_path / "net.xml").write_text("<net/>")
    assert refused(tmp_path / "net.bin").startswith("is part of an OpenVINO model")


def test_a_file_is_read_as_what_it_is_and_not_as_it_is_named(tmp_path: Path) -> None:
    arrays = {"fc.weight": np.ones((2, 2), np.float32)}
    for name in ("a.bin", "a.pt", "a.npz", "a.weights"):
        save_file(arrays, tmp_path / name)
        assert list(open_tensors(tmp_path / name).shapes) == ["fc.weight"]
    for name in ("b.safetensors", "b.npz", "b.pth.tar", "b.pkl"):
        saved(tmp_path / name, weights())
        assert list(open_tensors(tmp_path / name).shapes) == ["fc.weight", "fc.bias"]
    np.savez(tmp_path / "c.npz", **arrays)
    (tmp_path / "c.npz").rename(tmp_path / "c.safetensors")
    assert list(open_tensors(tmp_path / "c.safetensors").shapes) == ["fc.weight"]


def test_halves_of_characters_are_escaped_or_refused(tmp_path: Path) -> None:
    """Pickles and JSON allow halves of surrogate pairs, which no terminal and no file of results can hold."""
    file = open_tensors(saved(tmp_path / "a.pt", {"\ud800.weight": torch.zeros(1, 2)}))
    assert list(file.shapes) == ["\\ud800.weight"]
    assert not file["\\ud800.weight"].any()
    said = json.dumps({"name": "\ud800", "layer": [{"name": "fc", "weight": "fc.weight"}]})
    save_file({"fc.weight": np.ones((2, 2))}, tmp_path / "a.safetensors", {METADATA_KEY: said})
    with pytest.raises(InputError, match="is not text in UTF-8"):
        load_network(tmp_path / "a.safetensors")


def test_npz_of_other_orders(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez_compressed(tmp_path / "a.npz", **{"f.weight": np.asfortranarray(array), "b.weight": array.astype(">f4")})
    file = open_tensors(tmp_path / "a.npz")
    for name in ("f.weight", "b.weight"):
        np.testing.assert_array_equal(file[name], array)
        assert file[name].dtype == np.dtype("<f4")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive, archive.open("w.npy", "w", force_zip64=True) as member:
        np.save(member, array)
    np.testing.assert_array_equal(open_tensors(tmp_path / "b.npz")["w"], array)
    assert "--key is for checkpoints of PyTorch" in refused(tmp_path / "a.npz", key="x")


def gguf_file(path: Path) -> dict[str, Any]:
    """Write a file with llama.cpp's own package and return what its reader and its dequantisation say."""
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", ""])
    writer.add_array("numbers", [1, 2, 3])
    real = rng.standard_normal((6, 256)).astype(np.float32)
    real[:, ::2] = 0
    writer.add_tensor("output_norm.weight", real[0])
    writer.add_tensor("blk.0.attn_q.weight", real)
    writer.add_tensor("blk.0.half.weight", real.astype(np.float16))
    for name in ("Q8_0", "Q4_0", "Q5_1", "BF16"):
        kind = gguf.GGMLQuantizationType[name]
        writer.add_tensor(f"blk.0.{name}.weight", gguf.quants.quantize(real, kind), raw_dtype=kind)
    kind = gguf.GGMLQuantizationType.Q6_K
    blocks = rng.integers(0, 60, (6, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    writer.add_tensor("blk.1.ffn_up.weight", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {each.name: gguf.quants.dequantize(each.data, each.tensor_type) for each in gguf.GGUFReader(path).tensors}


def test_gguf_is_read_as_llama_cpp_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelsim.network.files.tensor_file.LEAST_MAPPED_BYTES", 0)
    path = tmp_path / "a.gguf"
    expected = gguf_file(path)
    file = open_tensors(path)
    assert list(file.shapes) == list(expected)
    assert file.metadata["general.name"] == "tiny"
    assert file.types["blk.0.Q4_0.weight"] == "Q4_0"
    for name, values in expected.items():
        array = file[name]
        assert array.shape == file.shapes[name] == values.shape
        np.testing.assert_array_equal(np.asarray(array, np.float32), values, err_msg=name)
    assert np.count_nonzero(file["blk.0.Q8_0.weight"][:, ::2]) == 0
    assert isinstance(file["blk.0.attn_q.weight"], np.memmap)


def test_a_damaged_gguf_file_is_numbers_or_a_message(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    gguf_file(path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    header = content.index(b"output_norm.weight")
    for length in [4, *range(5, header, 29), len(content) - 32]:
        path.write_bytes(content[:length])
        assert "not a complete GGUF file" in refused(path)
    for place in rng.integers(0, header + 200, 200):
        damaged = bytearray(content)
        damaged[place : place + 8] = rng.integers(0, 256, 8, np.uint8).tobytes()
        path.write_bytes(bytes(damaged))
        try:
            file = open_tensors(path)
            for name in file.shapes:
                file[name]
        except InputError:
            continue  # any other exception fails the test


def test_gguf_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.delitem(sys.modules, "accelsim.network.files.gguf_file", raising=False)
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setitem(sys.modules, "gguf.constants", None)
    with pytest.raises(InputError, match=r"pip install 'accelsim\[gguf\]'"):
        open_tensors(path)


@pytest.mark.parametrize("key", ["masks", "mask", "pruning_masks"])
def test_masks_that_lie_beside_the_network_are_applied(tmp_path: Path, key: str) -> None:
    """A network under one key and masks under another are no two networks, and never the first without the second."""
    kept = torch.tensor([[1.0, 0, 1, 0], [0, 0, 1, 1], [1, 1, 1, 0]])
    for name in ("fc", "fc.weight"):
        path = saved(tmp_path / "net.pt", {"state_dict": {"fc.weight": torch.ones(3, 4)}, key: {name: kept.bool()}})
        for network in (load_network(path), load_network(path, key="state_dict")):
            np.testing.assert_array_equal(network["fc"].weight, kept.numpy())
    apart = {"a": {"fc.weight": torch.ones(3, 4)}, key: {"other": kept}}
    assert "--key" in refused(saved(tmp_path / "net.pt", apart))


def test_masks_of_a_sparsifier_are_applied(tmp_path: Path) -> None:
    """torch.ao.pruning keeps originals in the model, and each mask in its own state."""
    kept = torch.tensor([[1.0, 0, 1, 0], [0, 0, 1, 1], [1, 1, 1, 0]])
    held = {
        "model": {"fc.parametrizations.weight.original": torch.ones(3, 4), "fc.bias": torch.zeros(3)},
        "sparsifier": {"state": {"fc.weight": {"mask": kept}}, "groups": [{"module_fqn": "fc"}]},
    }
    np.testing.assert_array_equal(load_network(saved(tmp_path / "net.pt", held))["fc"].weight, kept.numpy())


def test_parts_of_layers_and_distributed_checkpoints_are_no_network(tmp_path: Path) -> None:
    first = saved(tmp_path / "mp_rank_00_model_states.pt", {"module": weights()})
    state = {"optimizer_state_dict": {"fp32": torch.ones(3, 3)}}
    saved(tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt", state)
    assert len(load_network(first)) == len(load_network(tmp_path)) > 0
    saved(tmp_path / "mp_rank_01_model_states.pt", {"module": weights()})
    for path in (first, tmp_path):
        assert "parts of one network; merge them first" in refused(path)
    shards = tmp_path / "dcp"
    shards.mkdir()
    saved(shards / "__0_0.distcp", {"module": weights()})
    for path in (shards, shards / "__0_0.distcp"):
        assert f"dcp_to_torch {shards} net.pt" in refused(path)
    empty = saved(tmp_path / "zero.pt", {"module": {name: torch.empty(0) for name in weights()}})
    with pytest.raises(InputError, match=r"all empty.*zero_to_fp32\.py"):
        load_network(empty)


def test_what_folders_hold_beside_the_network_is_said(tmp_path: Path) -> None:
    """As the dense layer of a sentence transformer, the parts of a pipeline, and checkpoints of a training."""
    for folder in ("2_Dense", "checkpoint-5"):
        (tmp_path / folder).mkdir()
        saved(tmp_path / folder / "pytorch_model.bin", weights())
    assert "name one: 2_Dense, checkpoint-5" in refused(tmp_path)
    saved(tmp_path / "pytorch_model.bin", weights())
    (said,) = load_network(tmp_path).assumptions
    assert said.endswith("the network is pytorch_model.bin; 2_Dense/, checkpoint-5/ are not read")
