"""Networks whose tensors are in several files, with an index beside them or numbers in their names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from accelsim.config import existing_file
from accelsim.errors import MAX_KNOWN, InputError, listed, raise_if_any, reason_of
from accelsim.network.files.containers import open_file
from accelsim.network.files.kinds import SUFFIXES, TENSORFLOW, Foreign, of_name
from accelsim.network.files.tensor_file import TensorFile, Written
from accelsim.network.reading import Reading

INDEX = ".index.json"
MAX_INDEX_BYTES = 64 * 2**20
NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.\w+)")
"""How shards are named, `model-00001-of-00002.safetensors`."""

BESIDE = re.compile(
    r"training_args|optimizer|scheduler|rng_state|random_states|scaler|tokenizer|.*_optim_states\.pt$", re.IGNORECASE
)
"""What training and text need beside a network, by how their files' names begin."""

RANK = re.compile(r"(?P<before>.*mp_rank_)(?P<number>\d+)(?P<after>_model_states\.pt)")
"""How DeepSpeed calls the files of a network whose layers are split among processors."""

MERGE_RANKS = (
    "merge them first, by the zero_to_fp32.py that DeepSpeed puts beside them, or as the program does that trained it"
)

USUAL = ("model", "pytorch_model", "diffusion_pytorch_model", "adapter_model")
"""Names of the one file of a network in a folder, in the order in which they are taken."""


class Shards(TensorFile):
    """The tensors of several files as those of one; each is read from its own when it is asked for."""

    def __init__(self, path: Path, files: list[TensorFile]) -> None:
        super().__init__(path)
        self._holders: dict[str, TensorFile] = {}
        problems = []
        for file in files:
            for name in file.shapes:
                if name in self._holders:
                    problems.append(f"'{name}' is in {self._holders[name].path.name} and in {file.path.name}, too")
                self._holders[name] = file
            self.shapes |= file.shapes
            self.types |= file.types
            self.unusable |= file.unusable
            self.metadata |= file.metadata
            self.shared |= file.shared
            self.others |= file.others
            self.assumptions += [each for each in file.assumptions if each not in self.assumptions]
        self.order_is_given = all(file.order_is_given for file in files)
        raise_if_any(f"{path}: {problem}; name one of the files" for problem in _first(problems))

    def _now(self) -> tuple[int, ...]:
        """Return nothing: each file tells for itself, and a folder changes with every file that is put there."""
        return ()

    def _read(self, name: str) -> NDArray[Any]:
        return self._holders[name][name]

    def write(self, target: Path, arrays: Sequence[Written]) -> None:
        """Write a folder of such files under the same names, with an index where there is one."""
        held: dict[Path, list[Written]] = {}
        for each in arrays:
            held.setdefault(self._holders[each.stored].path, []).append(each)
        for file in dict.fromkeys(self._holders.values()):
            file.metadata = {**file.metadata, **self.metadata}
            file.write(target / file.path.name, held.get(file.path, []))
        indices = [self.path] if is_index(self.path) else sorted(self.path.glob(f"*{INDEX}"))
        for index in indices:
            data = json.loads(index.read_bytes())
            places = {each.name: file.name for file, written in held.items() for each in written}
            data["weight_map"] = {name: places[name] for name in sorted(places)}
            (target / index.name).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def is_index(path: Path) -> bool:
    """Return whether a path is named as the index of shards."""
    return path.name.endswith(INDEX)


def of_index(path: Path, reading: Reading) -> TensorFile:
    """Return the tensors that an index lists, of files in its folder; raises InputError with every problem."""
    held = _tensors_by_file(existing_file(path))
    problems = [
        f"lists '{name}', which is not in its folder; correct the index"
        for name in held
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name
    ]
    raise_if_any(f"{path}: {problem}" for problem in problems)
    missing = [name for name in held if not (path.parent / name).is_file()]
    problems = [f"shard {name} of {len(held)} is not in the folder; copy or download it" for name in missing]
    raise_if_any(f"{path}: {problem}" for problem in _first(problems))
    files = []
    for name, tensors in held.items():
        file = open_file(path.parent / name, reading)
        files.append(file)
        found = file.shapes.keys() | file.others.keys()
        problems += [f"'{each}' is not in {name}, where the index has it" for each in tensors if each not in found]
    raise_if_any(f"{path}: {problem}; copy or download the shard again" for problem in _first(problems))
    return Shards(path, files)


def of_folder(path: Path, reading: Reading) -> TensorFile:
    """Return the tensors of a folder with an index, numbered shards or one file of tensors in it."""
    names = sorted(each.name for each in path.iterdir() if each.is_file())
    indices = [name for name in names if name.endswith(INDEX)]
    held = [name for name in names if Path(name).suffix in SUFFIXES and not BESIDE.match(name)]
    if indices:
        chosen = _chosen(path, indices)
        named = {chosen, *_tensors_by_file(path / chosen)}
        others = [name for name in [*indices, *held] if name not in named]
        return _noting(of_index(path / chosen, reading), path, others, chosen)
    check_ranks(path, held)
    numbered = {name: match for name in held if (match := NUMBERED.fullmatch(name))}
    sets = sorted({(match["stem"], match["count"], match["ending"]) for match in numbered.values()})
    whole = [name for name in held if name not in numbered]
    if len(sets) == 1 and not whole:
        stem, count, ending = sets[0]
        wanted = [f"{stem}-{at + 1:05}-of-{count}{ending}" for at in range(int(count))]
        problems = [
            f"shard {name} is not in the folder; copy or download it" for name in wanted if name not in numbered
        ]
        raise_if_any(f"{path}: {problem}" for problem in _first(problems))
        return Shards(path, [open_file(path / name, reading) for name in wanted])
    if not held:
        raise InputError(f"{path}: {_without_tensors(path, names)}")
    chosen = _chosen(path, held)
    return _noting(open_file(path / chosen, reading), path, [name for name in held if name != chosen], chosen)


def check_whole(path: Path) -> None:
    """Raise InputError for one shard of several, with what to name in its place."""
    numbered = NUMBERED.fullmatch(path.name)
    if RANK.fullmatch(path.name):
        check_ranks(path, [each.name for each in path.parent.iterdir()])
    indices = [each for each in sorted(path.parent.glob(f"*{INDEX}")) if each.is_file()]
    for index in indices:
        try:
            held = _tensors_by_file(index)
        except InputError:
            continue
        if path.name in held and len(held) > 1:
            at = list(held).index(path.name) + 1 if numbered is None else int(numbered["number"])
            raise InputError(f"{path}: is shard {at} of {len(held)} of one network; name its index, {index}")
    if numbered is not None and int(numbered["count"]) > 1:
        at, count = int(numbered["number"]), int(numbered["count"])
        raise InputError(f"{path}: is shard {at} of {count} of one network; name the folder of all, {path.parent}/")


def check_ranks(path: Path, names: list[str]) -> None:
    """Raise InputError where several of the files of a folder each hold a part of every layer."""
    ranks = sorted(name for name in names if RANK.fullmatch(name))
    if len(ranks) > 1:
        raise InputError(f"{path}: {', '.join(ranks[:MAX_KNOWN])} are parts of one network; {MERGE_RANKS}")


def _tensors_by_file(path: Path) -> dict[str, list[str]]:
    """Return the tensors of an index by the names of their files; raises InputError where it is none."""
    if path.stat().st_size > MAX_INDEX_BYTES:
        raise InputError(f"{path}: is larger than {MAX_INDEX_BYTES} bytes; is it the index of shards?")
    try:
        data = json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({reason_of(error)}); copy or download it again") from None
    places = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(each, str) for each in places.values()):
        raise InputError(f'{path}: has no "weight_map" of tensors and their files; copy or download it again')
    held: dict[str, list[str]] = {}
    for name, file in places.items():
        held.setdefault(file, []).append(name)
    return dict(sorted(held.items()))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' is in it twice")
    return found


def _chosen(path: Path, names: list[str]) -> str:
    """Return the only name, or that by which the network of a folder usually goes; raises InputError."""
    if len(names) == 1:
        return names[0]
    usual = [f"{stem}{ending}" for stem in USUAL for ending in (".safetensors", ".bin")]
    found = [name for each in usual for name in (f"{each}{INDEX}", each) if name in names]
    if not found:
        raise InputError(f"{path}: holds several files of tensors, {listed(names, MAX_KNOWN)}; name one")
    return found[0]


def _noting(file: TensorFile, folder: Path, others: list[str], chosen: str) -> TensorFile:
    """Note what else a folder and those in it hold, which may be parts of the network."""
    beside = others + [f"{each}/" for each in _folders(folder)]
    if beside:
        verb = "is" if len(beside) == 1 else "are"
        file.assumptions.append(
            f"of the files in the folder, the network is {chosen}; {listed(beside)} {verb} not read"
        )
    return file


def _folders(path: Path) -> list[str]:
    """Return the folders in one that hold files of tensors."""
    return sorted({each.parent.name for each in path.glob("*/*") if each.suffix in SUFFIXES or is_index(each)})


def _without_tensors(path: Path, names: list[str]) -> str:
    """Say what a folder without a file of tensors is."""
    foreign = {what for name in names if isinstance(what := of_name(Path(name)), Foreign)}
    whole = of_name(path)
    if isinstance(whole, Foreign):
        foreign = {whole}
    if "saved_model.pb" in names:
        foreign = {TENSORFLOW}
    if foreign:
        what = sorted(foreign)[0]
        return f"holds {what.what}; {what.remedy.replace('FOLDER', str(path)).replace('FILE', path.name)}"
    networks = [name for name in names if name.endswith((".onnx", ".toml"))]
    if networks:
        return f"is a directory; name a file in it, such as {networks[0]}"
    if folders := _folders(path):
        return f"is a directory whose folders hold files of tensors; name one: {listed(folders)}"
    return f"is a directory without a file of tensors ({', '.join(SUFFIXES)}) or an {INDEX}; name a file"


def _first(problems: list[str]) -> list[str]:
    """Return the problems that a message lists, and how many more there are."""
    more = len(problems) - MAX_KNOWN
    return problems if more <= 0 else [*problems[:MAX_KNOWN], f"and {more} more of these"]
