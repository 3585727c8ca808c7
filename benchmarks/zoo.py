"""A zoo of models from file to table, by two roads: `python -m benchmarks.zoo [--only NAME...] [--csv FILE] [--write]`.

Each model has random weights of a seed, half of those of its linear layers and convolutions pruned by
`torch.nn.utils.prune`, and one random sample. It is captured from PyTorch, and exported to ONNX and read from there.
Compared are layers, multiply-accumulates, densities and cycles of the two roads, the time and the bytes of operations
by their kind, the multiply-accumulates with a count that is not the package's own, and whether each layer and operation
lies between inputs and outputs. Files that Python packages ship have one road. Needs torchvision, transformers,
onnxruntime and onnxscript; what is missing is left out. `--write` puts the table into docs/whole_networks.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import accelsim
from accelsim.network.network import Network
from benchmarks.documents import fill

CHIPS = ["nm-matched-45nm", "a100-pcie"]
BILLED = "a100-pcie"
"""The chip on which operations are compared: it runs them all."""
ROUNDED = 1e-9
"""To which sums of the same numbers in another order agree."""
TESTS = Path(__file__).resolve().parents[1] / "tests"

IMAGES = (
    "alexnet", "vgg16", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
    "squeezenet1_0", "squeezenet1_1", "densenet121", "efficientnet_b0", "shufflenet_v2_x1_0", "mnasnet1_0",
    "regnet_y_400mf", "resnext50_32x4d", "convnext_tiny", "vit_b_16", "swin_t",
)  # fmt: skip
"""Models of torchvision that take an image of 224 x 224 and nothing else."""

PACKAGED: dict[str, dict[str, Any]] = {
    "silero_vad/data/silero_vad.onnx": {
        "input_shapes": {"input": (1, 576), "state": (2, 1, 128)}, "input_values": {"sr": 16000}
    },
    "magika/models/standard_v3_3/model.onnx": {},
    "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx": {"input_shapes": {"x": (1, 3, 48, 192)}},
    "rapidocr/models/PP-OCRv6_det_small.onnx": {"input_shapes": {"x": (1, 3, 224, 224)}},
    "basic_pitch/saved_models/icassp_2022/nmp.onnx": {},
}  # fmt: skip
"""ONNX files that Python packages ship, and what their files leave open."""
BYTES = 256
"""Whole numbers that enter a packaged file are below it: bytes."""


class Model(NamedTuple):
    """A model with random weights, and one sample as the arguments of its call."""

    name: str
    make: Callable[[], Any]
    sample: Callable[[], tuple[Any, ...]]


class Road(NamedTuple):
    """What one road gives of a model, layers in order."""

    network: Network
    macs: int
    """Of one sample, what is not simulated included."""
    layers: list[tuple[int, int]]
    """Weights and multiply-accumulates of each."""
    weights: list[float]
    """Density of each layer's weights."""
    inputs: list[float]
    """Density of what enters each layer."""
    cycles: dict[str, list[int]]
    """Of each layer on each chip."""
    bill: pd.DataFrame
    """Operations by their kind on BILLED: how many, `time_us`, and `bytes` from and to DRAM."""
    lost: list[str]
    """Layers and operations that do not lie between the inputs and the outputs."""


def image(size: int = 224) -> Callable[[], tuple[Any, ...]]:
    """Return what makes a random image of a seed."""

    def make() -> tuple[Any, ...]:
        import torch

        return (torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1)),)

    return make


def tokens(count: int) -> Callable[[], tuple[Any, ...]]:
    """Return what makes a sequence of token numbers."""

    def make() -> tuple[Any, ...]:
        import torch

        return (torch.randint(0, 1000, (1, count), generator=torch.Generator().manual_seed(1)),)

    return make


def vision() -> Iterator[Model]:
    """Go through the models of torchvision."""
    from torchvision import models

    for name in IMAGES:
        yield Model(name, lambda name=name: getattr(models, name)(weights=None), image())
    plain = {"weights": None, "aux_logits": False, "init_weights": False}
    yield Model("inception_v3", lambda: models.inception_v3(**plain), image(299))
    yield Model("googlenet", lambda: models.googlenet(**plain), image())


def language() -> Iterator[Model]:
    """Go through small configurations of the models of transformers."""
    import torch
    import transformers as t

    class Answer(torch.nn.Module):
        """A model of tokens that gives its first output alone."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Any) -> Any:
            return self.model(input_ids=tokens, **given)[0]

    given = {"use_cache": False}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 1000}
    bert = {"hidden_size": 256, "intermediate_size": 1024, **heads}
    llama = {"hidden_size": 256, "intermediate_size": 688, "num_key_value_heads": 2, **heads}
    made: dict[str, Callable[[], Any]] = {
        "bert": lambda: t.BertForSequenceClassification(t.BertConfig(**bert)),
        "roberta": lambda: t.RobertaForSequenceClassification(t.RobertaConfig(**bert)),
        "distilbert": lambda: t.DistilBertModel(
            t.DistilBertConfig(dim=256, n_layers=2, n_heads=4, hidden_dim=1024, vocab_size=1000)
        ),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(n_embd=256, n_layer=2, n_head=4, vocab_size=1000)),
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**llama)),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**llama)),
    }
    for name, make in made.items():
        yield Model(name, lambda make=make: Answer(make()), tokens(64))


def pruned(model: Any) -> Any:
    """Prune half the weights of linear layers and convolutions by magnitude, masks left in place."""
    import torch
    from torch.nn.utils import prune

    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) or type(module).__name__ == "Conv1D":  # of GPT-2
            prune.l1_unstructured(module, "weight", 0.5)
    return model.eval()


def macs_counted(model: Any, sample: tuple[Any, ...]) -> int:
    """Return the multiply-accumulates of one forward pass as PyTorch's FlopCounterMode counts them."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # FlopCounterMode knows no fused attention of a CPU
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(*sample)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops()) // 2


def not_between(network: Network) -> list[str]:
    """Return layers and operations that no input leads to, constants aside, or that lead to no output."""
    graph = network.graph
    if graph is None:
        return [layer.name for layer in network]
    needed, fed = set(graph.outputs), set(graph.inputs)
    for name in reversed(graph.order):
        if name in needed:
            needed.update(graph.takes(name))
    for name in graph.order:
        if fed.intersection(graph.takes(name)) or not graph.takes(name):
            fed.add(name)
    sized = {each.name for each in network.left_out if each.macs}
    names = dict.fromkeys([*(layer.name for layer in network), *graph.order, *sized])
    return [name for name in names if name not in needed or name not in fed]


def road(network: Network, samples: Mapping[str, Any] | None) -> Road:
    """Simulate the layers of a network; samples: where it does not have them yet, and None where there are none."""
    given = network if samples is None else network.with_samples(samples)
    table = accelsim.simulate(given, CHIPS)
    names = [layer.name for layer in network]
    layers = table[table["layer"].isin(names)]
    tables = {chip: layers[layers["hardware"] == chip].set_index("layer") for chip in CHIPS}
    first = tables[CHIPS[0]]
    scope = network.scope
    return Road(
        network=network,
        macs=scope.macs + scope.macs_left_out,
        layers=[(layer.weight_count, layer.macs) for layer in network],
        weights=first["weight_density"].reindex(names).tolist(),
        inputs=first["activation_density"].reindex(names).tolist(),
        cycles={chip: tables[chip]["cycles"].reindex(names).tolist() for chip in CHIPS},
        bill=bill_of(table[~table["layer"].isin(names) & (table["hardware"] == BILLED)]),
        lost=not_between(network),
    )


def bill_of(operations: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of operations by their kind."""
    whole = operations.assign(bytes=operations[["dram_read_bytes", "dram_write_bytes"]].sum(axis=1), count=1)
    return whole.groupby("kind")[["count", "time_us", "bytes"]].sum()


def gaps(one: pd.DataFrame, two: pd.DataFrame) -> pd.DataFrame:
    """Return by how much the second of two bills differs from the first, by kind: 0.1 is a tenth more."""
    mine, theirs = one.align(two, fill_value=0)
    ratio = theirs[["time_us", "bytes"]] / mine[["time_us", "bytes"]] - 1
    return ratio.where(~np.isclose(mine[["time_us", "bytes"]], theirs[["time_us", "bytes"]], rtol=ROUNDED), 0)


def differences(one: Road, two: Road) -> list[str]:
    """Return in a few words each what the two roads do not have in common; of densities and cycles, the largest gap."""
    found = []
    if one.macs != two.macs:
        found.append(f"MACs {one.macs} and {two.macs}")
    found += [
        f"{named} of {kind} by {gap:+.1g}"
        for column, named in (("time_us", "time"), ("bytes", "bytes"))
        for kind, gap in gaps(one.bill, two.bill)[column].items()
        if gap
    ]
    if one.layers != two.layers:
        return [*found, f"{len(one.layers)} layers and {len(two.layers)}, or others or in another order"]
    if one.weights != two.weights:
        gap = np.abs(np.subtract(one.weights, two.weights))
        found.append(f"weights by {np.nanmax(gap):.1g} in {np.count_nonzero(gap > 0)} layers")
    gap = np.abs(np.subtract(one.inputs, two.inputs))
    if gap.any():
        found.append(f"inputs by {np.nanmax(gap):.1g} in {np.count_nonzero(gap > 0)} layers")
    for chip in CHIPS:
        first, second = (np.array(each.cycles[chip], float) for each in (one, two))
        if not np.array_equal(first, second, equal_nan=True):
            found.append(f"cycles on {chip} by {abs(np.nansum(second) / np.nansum(first) - 1):.1g}")
    return found


def row_of(model: Model, folder: Path) -> dict[str, Any]:
    """Return what both roads give of a model, and where they differ."""
    import torch

    torch.manual_seed(0)
    made, sample = pruned(model.make()), model.sample()
    counted = macs_counted(made, sample)
    one = road(Network.from_torch(made, sample), None)
    path = folder / f"{model.name}.onnx"
    torch.onnx.export(made, sample, path, dynamo=True, verbose=False)
    read = accelsim.load_network(path)
    two = road(read, dict(zip(read.runtime.expected, (each.numpy() for each in sample), strict=True)))
    return _row(model.name, one, counted, two)


def row_of_file(name: str) -> dict[str, Any]:
    """Return what a file gives that a package ships, on random samples of a seed."""
    sys.path.append(str(TESTS))
    from independent_macs import macs_that_ran

    package, _, file = name.partition("/")
    (place, *_) = importlib.util.find_spec(package).submodule_search_locations  # type: ignore[union-attr,misc]
    path, said = Path(place, file), PACKAGED[name]
    counted = macs_that_ran(path, said.get("input_shapes", {}), said.get("input_values", {}))
    read = accelsim.load_network(path, **said)
    return _row(name, road(read, samples_of(read)), counted)


def samples_of(network: Network) -> dict[str, Any]:
    """Return one random sample of a seed for each input of a network: numbers from 0 to 1, whole ones below BYTES."""
    random = np.random.default_rng(1)
    return {
        name: random.random((1, *each.shape), np.float32).astype(each.dtype)
        if np.dtype(each.dtype).kind == "f"
        else random.integers(0, BYTES, (1, *each.shape)).astype(each.dtype)
        for name, each in network.runtime.expected.items()
    }


def _row(name: str, one: Road, counted: int, two: Road | None = None) -> dict[str, Any]:
    """Return a row of the table."""
    differs = [] if two is None else differences(one, two)
    if counted != one.macs:
        differs.append(f"counted {counted} MACs")
    for of, each in (("PyTorch", one), ("ONNX", two)) if two is not None else (("ONNX", one),):
        if each is not None and each.lost:
            differs.append(f"{len(each.lost)} outside the graph of {of}, such as {each.lost[0]}")
    operations = [len(each.network.graph.operations) for each in (one, two) if each and each.network.graph]
    return {
        "model": name,
        "layers": len(one.layers),
        "operations": " / ".join(map(str, operations)),
        "operations, us": " / ".join(dict.fromkeys(f"{each.bill['time_us'].sum():.1f}" for each in (one, two) if each)),
        "operations, MB": " / ".join(
            dict.fromkeys(f"{each.bill['bytes'].sum() / 1e6:.2f}" for each in (one, two) if each)
        ),
        "MACs": one.macs,
        "weights not 0": float(np.nanmean(one.weights)),
        "inputs not 0": float(np.nanmean(one.inputs)),
        **{f"cycles {chip}": int(np.nansum(one.cycles[chip])) for chip in CHIPS},
        "differs": "; ".join(differs) or "-",
    }


def zoo() -> dict[str, Model | str]:
    """Return the models, and the files of packages, of what is installed, by their names."""
    families = (("torchvision", vision), ("transformers", language))
    models = [model for package, family in families if importlib.util.find_spec(package) for model in family()]
    files = [name for name in PACKAGED if importlib.util.find_spec(name.partition("/")[0])]
    return {model.name: model for model in models} | {name: name for name in files}


def rows(only: list[str], known: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """Go through the rows of the models with one of `only` in their names; one that fails is a row that says so.

    known: names of models that are not run again.
    """
    for name, model in zoo().items():
        if name in known or not any(part in name for part in only):
            continue
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield row_of_file(model) if isinstance(model, str) else row_of(model, Path(folder))
            except Exception as error:
                traceback.print_exc()
                yield {"model": name, "differs": f"{type(error).__name__}: {str(error)[:200]}"}


def cells(row: Mapping[str, Any]) -> str:
    """Return a row as a line of a table."""
    texts = (
        f"{value:.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        for value in row.values()
    )
    return f"| {' | '.join(texts)} |"


def table_of(found: list[dict[str, Any]]) -> str:
    """Return the table as it stands in docs/whole_networks.md."""
    columns = max(found, key=len)
    said = [{name: row.get(name, "") for name in columns} for row in found]
    return "\n".join([
        f"| {' | '.join(columns)} |", "|---" * len(columns) + "|",
        *(cells({**row, "model": f"`{row['model']}`"}) for row in said),
    ])  # fmt: skip


def main() -> None:
    """Run the models one by one and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="NAME", help="models with one of these in their names"
    )
    parser.add_argument("--csv", type=Path, help="write the table to this file, row by row; go on with what it lacks")
    parser.add_argument("--write", action="store_true", help="put the table into docs/whole_networks.md")
    options = parser.parse_args()
    if options.write and options.only != [""]:
        parser.error("--write: is of all models; leave --only out")
    found = []
    if options.csv and options.csv.is_file():
        found = pd.read_csv(options.csv, dtype={"operations, us": str, "operations, MB": str}).to_dict("records")
    for row in rows(options.only, {row["model"] for row in found}):
        found.append(row)
        print(cells(row), flush=True)
        if options.csv:
            pd.DataFrame(found).to_csv(options.csv, index=False)
    if options.write:
        order = list(zoo())
        fill({"zoo": table_of(sorted(found, key=lambda row: order.index(row["model"])))}, write=True)


if __name__ == "__main__":
    main()
