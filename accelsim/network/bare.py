"""Networks from bare files of tensors: layers found by the roles of the arrays alone."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelsim.config import build
from accelsim.errors import LONGEST_MESSAGE, MAX_KNOWN, InputError, collecting, listed, raise_if_any
from accelsim.network.described import FileArray, layer_of
from accelsim.network.files import TensorFile, open_tensors
from accelsim.network.left_out import WITHOUT_WEIGHTS
from accelsim.network.network import Network
from accelsim.network.reading import Reading
from accelsim.network.roles import Role, Roles, read_roles
from accelsim.network.roles.kinds import UNKNOWN
from accelsim.network.specs import LayerSpec
from accelsim.network.writer import GRANULARITY_KEY, claimed, described, parent_of


def network_of(path: Path, file: TensorFile, reading: Reading, *, guess: bool) -> Network:
    """Return the network of a tensor file; `guess`: convolutions without a geometry get a single window."""
    roles = read_roles(file, reading)
    raise_if_any(f"{path}: {problem}" for problem in roles.problems)
    if any(role.kind != "linear" for role in roles.layers.values()) and not guess:
        raise InputError(_convolution_help(path, roles, reading))
    problems: list[str] = []
    layers = []
    for role in roles.layers.values():
        tensors = {key: FileArray(file, each, f"layer {role.name}: {key}") for key, each in role.arrays.items()}
        geometry: dict[str, Any] = {}
        if role.kind != "linear":
            geometry = {"kind": role.spec_kind, "input_hw": list(role.weight.shape[2:]), "groups": role.groups}
            tensors.pop("activations", None)  # of an input that is larger than the window
        said = {"name": role.name, "weight": f"{role.owner or role.name}.weight", **geometry}
        with collecting(problems):
            layers.append(layer_of(build(LayerSpec, said, f"layer {role.name}"), tensors, problems))
    raise_if_any(f"{path}: {problem}" for problem in problems)
    if not layers:
        raise InputError(f"{path}: {_no_layers(file, roles)}")
    return Network(
        path.stem,
        claimed([layer for layer in layers if layer], file.metadata.get(GRANULARITY_KEY, "")),
        source=path.name,
        not_simulated=[*roles.left_out, WITHOUT_WEIGHTS],
        assumptions=roles.assumptions,
        provenance=parent_of(file.path, file.metadata),
    )


def _no_layers(file: TensorFile, roles: Roles) -> str:
    """Say why a tensor file is not a network."""
    if any(re.fullmatch(r"arr_\d+", name) for name in file.shapes):
        return (
            f"its arrays have the names that np.savez makes up ({', '.join(list(file.shapes)[:MAX_KNOWN])}), which do "
            'not say what they are; save them by name: np.savez(path, **{"fc1.weight": weight, "fc1.bias": bias})'
        )
    remedy = "rename the tensors, or name them in a network file, as `accelsim schema network` describes"
    known = [str(each) for each in roles.left_out if each.kind != UNKNOWN]
    if known:
        return f"holds no layer that can be simulated: {listed(known)}; {remedy}"
    if file.shapes and all(0 in shape for shape in file.shapes.values()):
        return (
            "its tensors are all empty, as DeepSpeed leaves them that splits a network among processors (ZeRO, stage "
            "3); put them together first: python zero_to_fp32.py FOLDER pytorch_model.bin, which lies beside"
        )
    held = ", ".join(f"{name} {shape}" for name, shape in list(file.shapes.items())[:MAX_KNOWN])
    return f"has no 2-D tensor whose name ends in '.weight' (it holds {held or 'nothing'}); {remedy}"


def _convolution_help(path: Path, roles: Roles, reading: Reading) -> str:
    """Say that a bare file does not give the geometry of convolutions, with a network file to fill in."""
    said = (
        f"{path}: holds convolutions (weights of 3 or 4 dimensions), and a bare tensor file gives neither stride nor "
        "padding nor input size"
    )
    text = _network_file(path.stem, path.parent, roles)
    if len(said) + len(text) < LONGEST_MESSAGE - 100:
        return f"{said}. Save this as {path.stem}.toml beside it and fill it in.\n\n{text}"
    options = "".join(f" --{key} {shlex.quote(text)}" for key, text in _as_options(reading))
    return (
        f"{said}; fill in the file of its {len(roles.layers)} layers that this writes: "
        f"accelsim new network --base {shlex.quote(str(path))}{options} -o {shlex.quote(f'{path.stem}.toml')}"
    )


def _as_options(reading: Reading) -> list[tuple[str, str]]:
    """Return what was told of a file of tensors, as a command takes it."""
    given = [] if reading.key is None else [("key", reading.key)]
    return given + [("transpose", pattern) for pattern in reading.transpose]


def to_fill_in(path: Path, reading: Reading, target: Path) -> str:
    """Return the text of a network file, to lie at a target, that describes the layers of a file of tensors.

    What the file does not say, strides, paddings and sizes of inputs, is there to be filled in. Raises InputError.
    """
    file = open_tensors(path, reading)
    roles = read_roles(file, reading)
    raise_if_any(f"{path}: {problem}" for problem in roles.problems)
    if not roles.layers:
        raise InputError(f"{path}: {_no_layers(file, roles)}")
    return _network_file(target.stem, target.parent, roles)


def _network_file(name: str, folder: Path, roles: Roles) -> str:
    """Return the text of a network file, to lie in a folder, of layers whose geometry is to be filled in."""
    head = [f"name = {json.dumps(name)}"]
    tables = ",\n".join(f"  {_toml(described(each))}" for each in (*roles.left_out, WITHOUT_WEIGHTS))
    head.append(f"not_simulated = [\n{tables},\n]")
    if roles.assumptions:
        head.append("assumptions = [\n" + "".join(f"  {json.dumps(each)},\n" for each in roles.assumptions) + "]")
    place = os.path.relpath(roles.file.path, folder) + "/" * roles.file.path.is_dir()
    reference = f"{place}:{roles.file.prefix}"
    blocks = ["\n".join(head), *(_block(reference, role, roles) for role in roles.layers.values())]
    return "\n\n".join(blocks) + "\n"


def _toml(value: str | Mapping[str, Any]) -> str:
    """Return a text or a table of texts, numbers and flags as TOML, on one line."""
    if isinstance(value, str):
        return json.dumps(value)
    return f"{{ {', '.join(f'{key} = {json.dumps(each)}' for key, each in value.items())} }}"


def _block(reference: str, role: Role, roles: Roles) -> str:
    """Return one layer of a network file to fill in."""
    kind = f'kind = "{role.spec_kind}"' + _maybe_transposed(role)
    lines = ["[[layer]]", f"name = {json.dumps(role.name)}", kind]
    lines += [f"{key} = {json.dumps(f'{reference}{role.name}.{key}')}" for key in role.arrays]
    stored = roles.logical.get(f"{role.name}.weight")
    if role.is_turned and stored is not None:
        lines.append("transpose = true")
    shape = role.weight.shape if stored is None else stored.shape
    if role.kind == "conv2d":
        lines += [f"stride = 1  # weight of shape {shape}", "padding = 0"]
    if role.kind == "conv1d":
        lines += [f"stride = [1, 1]  # weight of shape {shape}, 1-D: the first of each pair stays", "padding = [0, 0]"]
    if role.kind != "linear":
        lines.append(f"groups = {role.groups or 1}" + _depthwise(role))
        lines.append("input_hw = [1, 0]  # 1, length" if len(shape) == 3 else "input_hw = [0, 0]  # height, width")
    return "\n".join(lines)


def _maybe_transposed(role: Role) -> str:
    """Return a remark where as many channels go in as come out and the window is even: either kind looks so."""
    out, per_group, *window = role.weight.shape if role.kind in ("conv1d", "conv2d") else (0, 1)
    is_open = out == per_group and window[-1] % 2 == 0
    return '  # "conv_transpose2d" if it is transposed' if is_open else ""


def _depthwise(role: Role) -> str:
    out, per_group = role.weight.shape[:2]
    is_open = role.groups is None and role.kind != "conv_transpose2d"
    return f"  # {out} if it is depthwise" if is_open and per_group == 1 < out else ""
