"""From arrays by name to layers, look-ups, norms and the rest: module by module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from accelsim.errors import listed
from accelsim.network.left_out import LeftOut
from accelsim.network.reading import Reading
from accelsim.network.roles import keras
from accelsim.network.roles.folding import logical_arrays
from accelsim.network.roles.kinds import (
    EXPERTS,
    NO_WEIGHTS,
    OPTIMISER,
    OUTPUTS,
    TOKEN_TABLES,
    UNKNOWN,
    is_look_up,
    is_mask,
    is_norm,
    is_of_experts,
    is_of_optimiser,
    is_transposed,
    kind_of,
)
from accelsim.network.roles.logical import Logical, as_2d, lowered, turned
from accelsim.network.roles.names import RECURRENT, Path, natural, path_of, words
from accelsim.network.roles.orientation import Found, declared, misfit, settle, told_by_bias
from accelsim.network.roles.role import Kind, Role, Roles

if TYPE_CHECKING:
    from accelsim.network.files import TensorFile

_BIASES = ("bias", "biases", "b", "intercepts_")
_NUMBERED = re.compile(r"([Ww]|weights?|kernel|coefs_)(_?\d+)")
_ADAPTER = re.compile(r"(^|[._])lora_?([AB]|down|up)(?![a-z])")
_ALONE: dict[int, Kind] = {2: "linear", 3: "conv1d", 4: "conv2d"}
"""What a layer is called that is the whole network, by the dimensions of its weights."""


def read_roles(file: TensorFile, reading: Reading | None = None) -> Roles:
    """Return what every array of a file is, without reading one.

    What cannot be read right is in `problems`; whoever needs the whole network raises them.
    """
    return _Modules(file).roles((reading or Reading()).transpose)


class _Modules:
    """Goes through the modules of a file and tells what their arrays are."""

    def __init__(self, file: TensorFile) -> None:
        self.file = file
        self.arrays = logical_arrays(file)
        self.found: list[Found] = []
        self.left_out: list[tuple[LeftOut, list[Logical]]] = []
        self.tables: dict[str, Logical] = {}
        self.stepwise: list[str] = []
        """Modules whose steps and tokens a bare file does not give."""
        self.problems = list(self.arrays.problems)
        self.accounts = dict(self.arrays.accounts)
        logical = self.arrays.logical
        self.has_weights = any(name.endswith(".weight") and len(each.shape) > 1 for name, each in logical.items())
        self.modules: dict[str, dict[str, Logical]] = {}
        paths: dict[str, Path] = {}
        for name, each in logical.items():
            path = path_of(name)
            tails = self.modules.setdefault(path.module, {})
            # Such as kernel:0 beside kernel.
            tails[path.tail if path.tail not in tails else f"another {path.tail}, {name}"] = each
            paths.setdefault(path.module, path)
        self.outputs = [
            (paths[module].component, tails["weight"])
            for module, tails in self.modules.items()
            if "weight" in tails and words(paths[module].component) & OUTPUTS
        ]
        for module, tails in self.modules.items():
            self._module(paths[module], keras.named(module, dict(tails)))

    def _module(self, path: Path, tails: dict[str, Logical]) -> None:
        """Tell what the arrays of one module are; each leaves `tails` as it is told."""
        if is_of_optimiser(path):
            self._others(path, tails)
            return
        self._recurrent(path, tails)
        self._attention(path, tails)
        if path.module and (path.separator != "." or not self.has_weights):
            self._kernels(path, tails)
        self._numbered(path, tails)
        main = self._main(path, tails)
        if main is not None:
            weight = tails.pop(main)
            name = path.module if path.module or path.separator else _ALONE.get(len(weight.shape), main)
            self._weight(name, path._replace(tail=main), weight, tails)
        self._others(path, tails)

    def _others(self, path: Path, tails: dict[str, Logical]) -> None:
        """Tell what arrays are that belong to no layer."""
        for tail, each in tails.items():
            if len(each.shape) > 1:
                self._rest(path._replace(tail=tail), each)
            else:
                self.accounts.update(dict.fromkeys(each.parts, "one dimension or none: no weights of a layer"))

    def _main(self, path: Path, tails: dict[str, Logical]) -> str | None:
        """Return which array of a module is the weight of its layer."""
        has_bias = any(tail in tails for tail in _BIASES)
        certain = {"weight": True, "W": True, "w": has_bias, "weights": path.separator in ("/", "_") or has_bias}
        return next((tail for tail, is_so in certain.items() if is_so and len(tails.get(tail, _NONE).shape) > 1), None)

    def _add(self, found: Found, tails: dict[str, Logical]) -> None:
        """Add a layer, with its input and its shared weights where the module has them."""
        found.activations, found.codebook = tails.pop("activations", None), tails.pop("codebook", None)
        if found.weight.stored_as and found.is_turned is None:
            found.is_turned, found.proof = False, f"its packing, {found.weight.stored_as}, says so"
        self.found.append(found)

    def _lose(self, name: str, kind: str, arrays: list[Logical], macs: int | None) -> None:
        """Name arrays that are no layer."""
        weights = 0 if kind in NO_WEIGHTS else sum(each.size for each in arrays if len(each.shape) > 1)
        self.left_out.append((LeftOut(name, kind, weights, macs), arrays))
        if kind == "look-up":
            self.tables[name] = arrays[0]

    def _recurrent(self, path: Path, tails: dict[str, Logical]) -> None:
        """LSTM, GRU, RNN and their cells, as PyTorch names them."""
        own = [tail for tail in tails if RECURRENT.fullmatch(tail) and tail.startswith("weight")]
        for tail in sorted(own, key=lambda tail: natural(f".{tail}")):
            if len(tails[tail].shape) == 2:
                which = tail.removeprefix("weight_")
                weight, bias = tails.pop(tail), tails.pop(f"bias_{which}", None)
                name = _joined(path.module, which)
                self._add(Found(name, path, weight, bias, is_turned=False, proof="recurrent weights are"), {})
                self.stepwise.append(path.module or which)

    def _attention(self, path: Path, tails: dict[str, Logical]) -> None:
        """The projections of an attention that keeps them in one array, or in three of its own, as PyTorch does."""
        whole = tails.get("in_proj_weight")
        apart = [tails.get(f"{each}_proj_weight") for each in "qkv"]
        if whole is not None and len(whole.shape) == 2 and whole.shape[0] % 3 == 0:
            third = whole.shape[0] // 3
            weights = [whole.rows(at * third, (at + 1) * third) for at in range(3)]
            del tails["in_proj_weight"]
        elif all(each is not None and len(each.shape) == 2 for each in apart):
            weights = [tails.pop(f"{each}_proj_weight") for each in "qkv"]
        else:
            return
        bias = tails.pop("in_proj_bias", None)
        if bias is not None and bias.shape != (3 * weights[0].shape[0],):
            self.problems.append(misfit(_joined(path.module, "in_proj"), bias, weights[0] if whole is None else whole))
            bias = None
        third = 0 if bias is None else bias.size // 3
        for at, (each, weight) in enumerate(zip("qkv", weights, strict=True)):
            part = None if bias is None else bias.rows(at * third, (at + 1) * third)
            name = _joined(path.module, f"{each}_proj")
            self._add(Found(name, path, weight, part, is_turned=False, proof="an attention's own weights are"), {})
        self.stepwise.append(path.module or "in_proj")

    def _kernels(self, path: Path, tails: dict[str, Logical]) -> None:
        """Kernels as Keras, Flax and TensorFlow name and store them."""
        module = path.module
        recurrent = tails.get("recurrent_kernel")
        kernel = "weights" if path.separator == "/" and "weights" in tails else "kernel"
        if recurrent is not None and len(recurrent.shape) == len(tails.get("kernel", _NONE).shape) == 2:
            bias = tails.pop("bias", None)
            both = bias is not None and len(bias.shape) == 2 == bias.shape[0]  # of a GRU: one for each product
            for at, (which, tail) in enumerate((("ih", "kernel"), ("hh", "recurrent_kernel"))):
                own = bias.rows(at, at + 1).flat() if both and bias is not None else bias if at == 0 else None
                found = Found(_joined(module, which), path, tails.pop(tail), own, is_turned=True)
                self._add(found, {})
            self.stepwise.append(module)
        known = ("depthwise_kernel", "pointwise_kernel", kernel)
        kernels = [tail for tail in known if len(tails.get(tail, _NONE).shape) > 1]
        for tail in kernels:
            weight = tails.pop(tail)
            # A separable convolution has two kernels, and adds its bias last.
            bias = _bias(tails) if tail == kernels[-1] else None
            name = module if len(kernels) == 1 else _joined(module, tail.removesuffix("_kernel"))
            found = Found(name, path._replace(tail=tail), weight, bias)
            kind = keras.settle(found, self._joins_heads(path))
            if kind is not None:
                self._lose(name, kind, [weight] if bias is None else [weight, bias], None)
                continue
            if found.bias is not None and found.is_turned and not keras.has_bias(found):
                self.problems.append(misfit(name, found.bias, weight))
            self._add(found, tails)

    def _joins_heads(self, path: Path) -> bool:
        """Whether a module is the last product of an attention whose first ones stand beside it."""
        if not words(path.component) & {"out", "output"}:
            return False
        beside = path.module.removesuffix(path.component)
        return any(f"{beside}{each}" in self.modules for each in ("query", "query_dense", "key"))

    def _numbered(self, path: Path, tails: dict[str, Logical]) -> None:
        """Weights by number, W1 with b1, where a bias or the whole file says that they are that."""
        numbered = {}
        for tail, each in tails.items():
            found = _NUMBERED.fullmatch(tail)
            if found and len(each.shape) > 1:
                numbered[tail] = found[2]
        arrays = self.arrays.logical.values() if numbered else ()
        alone = sum(len(each.shape) > 1 for each in arrays) == len(numbered)
        for tail, number in numbered.items():
            own = next((f"{each}{number}" for each in _BIASES if f"{each}{number}" in tails), None)
            if own is None and not alone:
                continue
            weight, held = tails.pop(tail), {} if own is None else {"bias": tails.pop(own)}
            name = _joined(path.module, tail)
            self._weight(name, Path(name, "W", path.separator), weight, held)

    def _weight(self, name: str, path: Path, weight: Logical, tails: dict[str, Logical]) -> None:
        """Tell what the weights of a module are, of two or more dimensions, and take its bias with them."""
        dims, bias = len(weight.shape), _bias(tails)
        own = [weight] if bias is None else [weight, bias]
        is_hand_made = path.tail != "weight"
        if is_mask(path, self.file.types.get(weight.parts[0], "")):
            self._lose(name, "mask", own, 0)
        elif (bias is not None and bias.shape == weight.shape and not is_hand_made) or is_norm(path):
            self._lose(name, "normalisation", own, 0)
        elif dims > 2 and 0 in weight.shape:
            self._lose(name, "empty", own, 0)
        elif dims == 2 and bias is None and (is_look_up(path) or self._is_before_its_output(path, weight)):
            self._lose(name, "look-up", own, 0)
        elif dims == 2 and "conv1d" in path.component and self.file.path.suffix == ".gguf":
            self._lose(name, "depthwise convolution", own, None)  # whose middle dimension of 1 is not stored
        elif dims == 2:
            found = Found(name, path, weight, bias)
            if bias is not None and len(bias.shape) == 2 and 1 in bias.shape:
                # A row is added to x W, a column to W x.
                found.bias, found.is_turned = bias.flat(), bias.shape[0] == 1 and bias.shape[1] > 1
                found.proof = f"its bias {bias.shape} shows it"
            elif bias is not None and len(bias.shape) != 1:
                self.problems.append(misfit(name, bias, weight))
                found.bias = None
            self._add(found, tails)
        elif dims == 3 and is_of_experts(path):
            self._lose(name, EXPERTS, own, None)
        elif dims == 3 and "linear" in words(path.component):
            self._lose(name, "matrices side by side", own, None)
        elif dims == 3 and bias is not None and len(bias.shape) != 1:
            self._lose(name, UNKNOWN, own, None)
        elif dims == 3 and "bilinear" in words(path.component):
            self._lose(name, "bilinear layer", own, None)
        elif dims in (3, 4):
            self._convolution(Found(name, path, weight, bias), tails)
        else:
            kind = "convolution of 3 dimensions" if dims == 5 else UNKNOWN
            self._lose(name, kind, own, None)

    def _is_before_its_output(self, path: Path, weight: Logical) -> bool:
        """Whether a language model reads rows of these weights, by an output layer that shares or mirrors them.

        Shared are those of one storage; an `encoder` without a bias mirrors a `decoder` of its shape.
        """
        if words(path.component) & OUTPUTS:
            return False
        one, is_encoder = self._one(weight.parts[0]), path.component == "encoder"
        return any(
            self._one(other.parts[0]) == one or (is_encoder and component == "decoder")
            for component, other in self.outputs
            if other.shape == weight.shape
        )

    def _convolution(self, found: Found, tails: dict[str, Logical]) -> None:
        """A convolution whose weights lie as PyTorch stores them, or as its bias says."""
        out, per_group, *_, last = found.weight.shape
        length = None if found.bias is None else found.bias.size
        told = f"its bias of {length} shows it"
        divides = length is None or (length > 0 and length % per_group == 0 and out % (length // per_group) == 0)
        # PyTorch's name of weights says more than a bias that any of two dimensions fits.
        last = 0 if found.path.tail == "weight" and length == per_group else last
        if divides and (is_transposed(found.path) or length not in (None, out, last)):
            found.is_turned, found.is_transposed, found.proof = False, True, "it is of a transposed convolution"
            found.groups = None if length is None else length // per_group
        elif length in (None, out):
            found.is_turned, found.proof = (None, "") if length is None else (False, told)
        elif length == last:
            found.is_turned, found.proof = True, told
        elif found.bias is not None:
            self.problems.append(misfit(found.name, found.bias, found.weight))
        self._add(found, tails)

    def _rest(self, path: Path, array: Logical) -> None:
        """Name an array of two or more dimensions that no rule makes a layer of."""
        stored_type = self.file.types.get(array.parts[0], "")
        kind, macs = (OPTIMISER, 0) if is_of_optimiser(path) else kind_of(path, array, stored_type)
        name = path.module if kind == "look-up" and path.module else array.name
        name = array.name if name in self.tables else name
        self._lose(name, kind, [array], macs)

    def roles(self, transpose: tuple[str, ...]) -> Roles:
        """Settle which way round weights lie, and return what everything is."""
        self.problems += [problem for each in self.found if (problem := told_by_bias(each))]
        self.problems += declared(self.found, transpose)
        assumptions = [*self.arrays.assumptions, *settle(self.found, {each.shape for each in self.tables.values()})]
        roles = Roles(
            self.file,
            left_out=[*self.arrays.left_out],
            problems=self.problems,
            accounts=self.accounts,
            averages=self.arrays.averages,
            logical=self.arrays.logical,
        )
        self._name_twins()
        for found in self.found:
            role = _role(found)
            if role.name in roles.layers:
                role = role._replace(name=found.weight.name)
            if role.name in roles.layers:
                self.problems.append(f"layer {role.name}: two arrays are its weights; rename one of them")
            roles.layers[role.name] = role
        for found in self.found:
            if found.is_transposed and found.bias is not None:
                roles.accounts |= dict.fromkeys(found.bias.parts, f"bias of {found.name}")
        for role in roles.layers.values():
            for array in role.arrays.values():
                for part in array.parts:
                    before = roles.accounts.get(part)
                    roles.accounts[part] = f"{before}, {role.name}" if before else f"layer {role.name}"
        self._name_left_out(roles)
        if self.problems:
            for part in (part for each in roles.logical.values() for part in each.parts):
                roles.accounts.setdefault(part, "fits nothing, which is told as a problem")
        assumptions += self._name_others(roles)
        roles.left_open = self._assumed(roles)
        roles.assumptions = [*self.file.assumptions, *assumptions, *roles.left_open]
        return roles

    def _name_twins(self) -> None:
        """Leave out layers that are another one under a second name: modules, all of whose arrays it shares.

        Weights alone are also shared by layers that both run, as an encoder's with a decoder's.
        """
        twins: dict[tuple[str, ...], Found] = {}
        owners: dict[tuple[str, ...], Found] = {}
        once = []
        for found in self.found:
            end = found.name.removeprefix(found.path.module)
            weight = (end, *map(self._one, found.weight.parts))
            if found.bias is not None:
                one = twins.setdefault((*weight, *map(self._one, found.bias.parts)), found)
                if one is not found:
                    self._lose(found.name, f"{one.name} under another name", [found.weight, found.bias], None)
                    continue
            once.append(found)
            owner = owners.setdefault(weight, found)
            # Arrays of one name are parts of one, such as experts.
            found.owner = owner.name if owner.weight.parts != found.weight.parts else ""
        self.found = once

    def _name_left_out(self, roles: Roles) -> None:
        """Add what is left out; a table that is a layer's or another's weights, too, has none of its own."""
        counted = {self._one(part) for role in roles.layers.values() for part in role.weight.parts}
        for each, arrays in self.left_out:
            parts = {self._one(part) for array in arrays for part in array.parts}
            if parts & counted:
                what = f"{each.kind} that shares its weights" if each.macs is not None else each.kind
                each = LeftOut(each.name, what, 0, each.macs)
            counted |= parts
            roles.left_out.append(each)
            for array in arrays:
                roles.accounts |= dict.fromkeys(array.parts, f"left out: {each}")

    def _name_others(self, roles: Roles) -> list[str]:
        """Add what is not an array, such as a packed module, and return what there is to say of it, by kind."""
        kinds: dict[str, list[str]] = {}
        for name, what in self.file.others.items():
            kinds.setdefault(what, []).append(name)
            # Scale and zero point of outputs are no weights; an object may be a whole layer.
            if path_of(name).tail not in ("scale", "zero_point"):
                roles.left_out.append(LeftOut(name, "no array", 0, None))
        return [f"{listed(names)}: {what}" for what, names in kinds.items()]

    def _one(self, stored: str) -> str:
        """Return one name for an array that is stored once and has several."""
        seen: set[str] = set()
        while stored in self.file.shared and stored not in seen:
            seen.add(stored)
            stored = self.file.shared[stored]
        return stored

    def _assumed(self, roles: Roles) -> list[str]:
        """Say what is taken for granted of look-ups, of output layers that share with them, and of steps."""
        said = []
        if self.tables:
            said.append(
                f"taken for look-ups by name: {listed(self.tables)}; their rows are read and not multiplied: name them "
                "as layers in a network file if they are multiplied"
            )
        outputs = {role.weight.shape[0] for role in roles.layers.values()}
        tables = {
            table.shape[0]: name
            for name, table in reversed(self.tables.items())
            if path_of(f"{name}.").component in TOKEN_TABLES and table.shape[0] not in outputs
        }
        said += [
            f"{name}: no layer has its {rows} outputs; if the network ends in a layer that shares its weights, name "
            "that layer in a network file"
            for rows, name in tables.items()
        ]
        if adapters := [name for name in roles.layers if _ADAPTER.search(name)]:
            said.append(
                f"{listed(adapters, 2)}: factors of an adapter, multiplied apart from the weights that they change; "
                "merge them before saving (merge_and_unload() in PEFT) to simulate the network that they make"
            )
        if self.stepwise:
            said.append(
                f"{listed(dict.fromkeys(self.stepwise))}: simulated for one step of one token; a network file gives "
                "steps and tokens"
            )
        return said


_NONE = Logical("", (), (), lambda: None)  # type: ignore[arg-type, return-value]


def _bias(tails: dict[str, Logical]) -> Logical | None:
    """Take the bias of a module."""
    return next((tails.pop(tail) for tail in _BIASES if tail in tails), None)


def _joined(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def _role(found: Found) -> Role:
    """Return a layer with its weights the right way round."""
    weight = turned(found.weight) if found.is_turned else found.weight
    kind, bias = _ALONE[len(weight.shape)], found.bias
    if found.is_transposed:
        # Its bias is added when what overlaps is summed.
        kind, weight, bias = "conv_transpose2d", lowered(weight, found.groups or 1), None
    elif kind == "conv1d":
        weight = as_2d(weight)
    return Role(
        found.name,
        kind,
        weight,
        bias,
        found.activations,
        found.codebook,
        found.groups,
        bool(found.is_turned),
        found.owner,
    )
