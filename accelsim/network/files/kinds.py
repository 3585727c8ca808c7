"""What a file is: told by its first bytes, and only where those say nothing by its name."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Literal, NamedTuple

Container = Literal["safetensors", "npz", "torch", "gguf"]
"""What is read."""

SUFFIXES: dict[str, Container] = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".pt": "torch",
    ".pth": "torch",
    ".bin": "torch",
    ".ckpt": "torch",
    ".gguf": "gguf",
}


class Foreign(NamedTuple):
    """A format that is not read: what it is, and how one that is read is made of it; FILE stands for its name."""

    what: str
    remedy: str

    def refusal(self, path: Path) -> str:
        """Return the message for a file."""
        remedy = self.remedy.replace("FILE", path.name).replace("FOLDER", str(path.parent))
        return f"{path}: is {self.what}; {remedy}"


def save(tensors: str) -> str:
    """Return what to type to write a dict of tensors."""
    return f"in Python: torch.save({tensors}, 'net.pt')"


def savez(arrays: str) -> str:
    """Return what to type to write a dict of arrays."""
    return f"np.savez('net.npz', **{arrays})"


ORIGIN = "name the ONNX or PyTorch file that it was made from"
UNPACK = "unpack it and name the file in it"

KERAS = Foreign(
    "a Keras model",
    "in Python: m = keras.models.load_model('FILE', compile=False); "
    + savez("{v.path: np.asarray(v) for v in m.weights}")
    + "; or as a graph: python -m tf2onnx.convert --keras FILE --output net.onnx",
)
TFLITE = Foreign("a TFLite model", "convert it: python -m tf2onnx.convert --tflite FILE --output net.onnx")
TENSORFLOW = Foreign(
    "a graph of TensorFlow", "convert its folder: python -m tf2onnx.convert --saved-model FOLDER --output net.onnx"
)
TENSORFLOW_CHECKPOINT = Foreign(
    "part of a TensorFlow checkpoint",
    "in Python, PREFIX being the name less its last ending: r = tf.train.load_checkpoint(PREFIX); "
    + savez("{n: r.get_tensor(n) for n in r.get_variable_to_shape_map()}"),
)
FLAX = Foreign(
    "a MessagePack file, as Flax writes",
    "in Python: tree = flax.serialization.msgpack_restore(open('FILE', 'rb').read()); "
    + savez("flax.traverse_util.flatten_dict(tree, sep='/')"),
)
NPY = Foreign("one array without a name", "in Python: " + savez("{'fc.weight': np.load('FILE')}"))
MAT = Foreign("a MAT file of MATLAB", f"in Python: m = scipy.io.loadmat('FILE'); {savez('{name: m[name]}')}")
PICKLE = Foreign("a pickle, which is never unpickled", f"where it was made, save its arrays: {savez('arrays_by_name')}")
TORCH_EXPORT = Foreign("a program of torch.export", "save its tensors, " + save("torch.export.load('FILE').state_dict"))
TORCHSCRIPT = Foreign(
    "a TorchScript archive, whose code is never run",
    "save its tensors, "
    + save("torch.jit.load('FILE').state_dict()")
    + ", or give the model itself to Network.from_torch(model, example)",
)
TENSORRT = Foreign("an engine of TensorRT, which keeps no weights as they were", ORIGIN)
GGML = Foreign("a GGML file from before GGUF", "convert it by convert_llama_ggml_to_gguf.py of llama.cpp")
LFS = Foreign("a pointer of Git LFS and not the file itself", "fetch that: git lfs pull")
WEB_PAGE = Foreign("a web page and not the file that it is named after", "download the file itself")
JSON = Foreign(
    "JSON and no file of tensors", "name the .index.json or the folder of shards, or the file of the tensors"
)
CORE_ML = Foreign("a Core ML model", ORIGIN)
OPENVINO = Foreign("part of an OpenVINO model", ORIGIN)
NCNN = Foreign("part of an ncnn model", ORIGIN)
CAFFE = Foreign(
    "a Caffe model", "in Python, net being a caffe.Net of it: " + savez("{k: v[0].data for k, v in net.params.items()}")
)
DISTRIBUTED = Foreign(
    "part of a checkpoint of torch.distributed",
    "make one file of its folder: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER net.pt",
)
EMPTY = Foreign("empty, so not a complete file of tensors", "export or copy it again")
ARCHIVE = Foreign("an archive of other files", UNPACK)

CONTENTS = (
    (0, b"\x89HDF\r\n\x1a\n", KERAS._replace(what="an HDF5 file, as Keras writes")),
    (4, b"TFL3", TFLITE),
    (0, b"\x93NUMPY", NPY),
    (0, b"MATLAB 5.0", MAT),
    (0, b"\x1f\x8b", Foreign("packed by gzip", UNPACK)),
    (0, b"BZh", Foreign("packed by bzip2", UNPACK)),
    (0, b"\xfd7zXZ", Foreign("packed by xz", UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Foreign("packed by zstd", UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", ARCHIVE),
    (0, b"Rar!\x1a", ARCHIVE),
    (257, b"ustar", ARCHIVE),
    (0, b"lmgg", GGML),
    (0, b"tjgg", GGML),
    (0, b"ftrt", TENSORRT),
    (0, b"version https://git-lfs", LFS),
)
"""Formats that bytes tell: where they lie, the bytes, the format."""

MEMBERS = (
    (r"(^|/)constants\.pkl$|^[^/]+/code/", TORCHSCRIPT),
    (r"(^|/)(archive_format|serialized_exported_program\.json)$|(^|/)models/[^/]+\.json$", TORCH_EXPORT),
    (r"^model\.weights\.h5$", KERAS),
    (r"(^|/)data\.pkl$", "torch"),
    (r"\.npy$", "npz"),
)
"""Kinds of zip archives, by a member that they have."""

NAMES = (
    (r"\.ckpt\.meta|\.index|\.data-\d+-of-\d+|/checkpoint", TENSORFLOW_CHECKPOINT),
    (r"\.pb|\.pbtxt", TENSORFLOW),
    (r"\.tflite|\.lite", TFLITE),
    (r"\.h5|\.hdf5|\.keras", KERAS),
    (r"\.msgpack", FLAX),
    (r"\.mlmodel|\.mlpackage|\.mlmodelc", CORE_ML),
    (r"\.engine|\.plan|\.trt", TENSORRT),
    (r"\.param", NCNN),
    (r"\.xml", OPENVINO),
    (r"\.caffemodel|\.prototxt", CAFFE),
    (r"\.mat", MAT),
    (r"\.npy", NPY),
    (r"\.pkl|\.pickle|\.joblib", PICKLE),
    (r"\.pt2", TORCH_EXPORT),
    (r"\.distcp", DISTRIBUTED),
    (r"\.tgz|\.tar|\.zip|\.gz|\.bz2|\.xz|\.zst|\.7z|\.rar", ARCHIVE),
)
"""Formats that only names tell, by their ends."""


def kind_of(path: Path) -> Container | Foreign | None:
    """Return what a file is: a container that is read, a format that is not, or None where nothing tells."""
    if of_name(path) == DISTRIBUTED:  # archives of torch.save, one after another
        return DISTRIBUTED
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return EMPTY if of_name(path) else None
    return (_of_archive(path) if head[:4] == b"PK\x03\x04" else _of_head(path, head)) or of_name(path)


def of_name(path: Path) -> Container | Foreign | None:
    """Return what a file is by its name alone."""
    ending = path.suffix.lower()
    if ending in SUFFIXES:
        return SUFFIXES[ending]
    return next((what for ends, what in NAMES if re.search(f"({ends})$", f"/{path.name}", re.IGNORECASE)), None)


def _of_head(path: Path, head: bytes) -> Container | Foreign | None:
    if head[:4] == b"GGUF":
        return "gguf"
    for at, magic, what in CONTENTS:
        if head[at : at + len(magic)] == magic:
            return what
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= path.stat().st_size - 8:
        return "safetensors"
    if re.match(rb"\s*<(!doctype|html|head|\?xml)", head, re.IGNORECASE):
        return OPENVINO if path.suffix == ".xml" else WEB_PAGE
    if re.match(rb"\s*\{\s*[\"}]|\s*\[\s*[\"{\d\]]", head):
        return JSON
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and of_name(path) != PICKLE:
        return "torch"
    if path.suffix == ".bin":
        beside = ((".xml", OPENVINO), (".param", NCNN))
        return next((what for ending, what in beside if path.with_suffix(ending).is_file()), None)
    return None


def _of_archive(path: Path) -> Container | Foreign | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:
        # zipfile raises a dozen types on damaged files; the reader that the name stands for says what is wrong.
        return None
    for member, what in MEMBERS:
        if any(re.search(member, name) for name in names):
            return what  # type: ignore[return-value]
    return None if path.suffix.lower() in SUFFIXES else ARCHIVE
