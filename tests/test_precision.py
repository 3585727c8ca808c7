"""Is a score that of the network as the chip computes it, and is it computed once for every precision?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_sweeps import EIE, TENSOR_CORE, tiny

import accelsim
from accelsim import curves, load_hardware, load_network
from accelsim.allocation import uniform
from accelsim.divisions import divisions
from accelsim.engines import Asked, engine_of
from accelsim.engines.eie.row import codes_of
from accelsim.evaluation import accuracy, as_computed, digits, fidelity
from accelsim.explore import Space, Store, sweep, totals
from accelsim.explore.sweeping import Plan, estimate_seconds, setup_of
from accelsim.formats.counting import WeightMatrix
from accelsim.formats.precision import Precision, in_format
from accelsim.network.forward import forward
from accelsim.number_formats import NUMBER_FORMATS, integer

RNG = np.random.default_rng(0)
SPREAD = (RNG.standard_normal(20_000) * 2.0 ** RNG.integers(-30, 20, 20_000)).astype(np.float32)
LENET = "lenet-300-100-digits"


def chip(base: str = EIE, **changes: Any) -> accelsim.Hardware:
    return load_hardware(base, {f"engine.{key}": value for key, value in changes.items()})


def precision(base: str = EIE, **changes: Any) -> Precision:
    made = chip(base, **changes)
    return engine_of(made).precision(made)


@pytest.mark.parametrize(("name", "largest"), [("fp8", 448.0), ("fp8_e5m2", 57344.0)])
def test_eight_bits_round_to_the_nearest_of_all_codes(name: str, largest: float) -> None:
    form = NUMBER_FORMATS[name]
    codes = np.arange(256, dtype=np.uint8)
    known = form.values(codes).astype(np.float64)
    finite = np.isfinite(known)
    assert form.largest == known[finite].max() == largest
    order = np.argsort(known[finite], kind="stable")
    table, even = known[finite][order], (codes[finite] % 2 == 0)[order]
    values = np.concatenate([SPREAD[:2000], (table[1:] + table[:-1]) / 2, [1e9, -1e9, 0.0]])
    far = np.abs(values[:, None] - table)
    ties = far == far.min(axis=1, keepdims=True)
    wanted = table[np.argmax(ties * (1 + even), axis=1)]  # of two codes that are as near, the even one
    assert np.array_equal(form.nearest(values), wanted)


def test_sixteen_bits_round_as_numpy_and_as_the_bits_say() -> None:
    half = np.clip(SPREAD, -65504, 65504).astype(np.float16)
    assert np.array_equal(NUMBER_FORMATS["fp16"].nearest(SPREAD), half.astype(np.float64))
    assert NUMBER_FORMATS["fp16"].largest == np.finfo(np.float16).max
    for name, dropped in (("bf16", 16), ("tf32", 13)):  # upper bits of float32, rounded to even
        bits = SPREAD.view(np.uint32)
        odd = bits >> dropped & 1
        upper = bits + odd + np.uint32(2 ** (dropped - 1) - 1) >> dropped << dropped
        assert np.array_equal(NUMBER_FORMATS[name].nearest(SPREAD), upper.view(np.float32).astype(np.float64))
    for name in ("fp32", "fp64"):
        assert np.array_equal(NUMBER_FORMATS[name].nearest(SPREAD), SPREAD.astype(np.float64))


def test_tensors_are_scaled_where_their_format_is_narrow() -> None:
    values = np.array([0.001, -0.0021, 0.0001])
    # 448 / 0.0021 lies between 2^17 and 2^18; 4 significant bits of each number stay.
    scaled = np.array([0.001, -0.0021, 0.0001]) * 2**17
    units = np.array([2.0**4, 2.0**5, 2.0**0])  # 131.072 -> 128, -275.25 -> -288, 13.1072 -> 13
    assert np.array_equal(
        in_format(values, NUMBER_FORMATS["fp8"]), (np.rint(scaled / units) * units / 2**17).astype("f")
    )
    assert np.array_equal(in_format(values, NUMBER_FORMATS["fp16"]), values.astype(np.float16).astype(np.float32))
    # int4: the largest, 0.9, takes 7 units of 1/8; a weight that is not zero keeps at least one.
    assert in_format(np.array([0.9, -0.4, 0.01, 0.0]), integer(4)).tolist() == [7 / 8, -3 / 8, 1 / 8, 0.0]
    assert not in_format(np.zeros(3), NUMBER_FORMATS["fp8"]).any()


def test_activations_are_rounded_where_they_flow_into_a_layer() -> None:
    """By hand: 3 bits hold -3 to 3 units; units are 1/2 for weights up to 1.5 and 2 for inputs up to 6."""
    net = accelsim.Network(
        "net", [accelsim.Layer.linear("one", np.float32([[1.5, 0.5], [-1.0, 1.5]]), np.float32([1, 0]))]
    )
    made = as_computed(net, Precision(integer(3), integer(3)))
    assert forward(made, np.float32([[6.0, 0.9], [2.9, 5.1]])).tolist() == [
        [1.5 * 6 + 0.5 * 2 + 1, -6 + 1.5 * 2],  # 0.9 is not zero, and takes a unit
        [1.5 * 2 + 0.5 * 6 + 1, -2 + 1.5 * 6],
    ]
    assert np.array_equal(forward(net, np.float32([[6.0, 0.9]])), np.float32([[1.5 * 6 + 0.45 + 1, -6 + 1.35]]))
    assert as_computed(net, Precision()) is net


@pytest.mark.parametrize(
    "changes", [{}, {"code_bits": 2}, {"weight_sharing": False, "code_bits": 8}, {"weight_bits": 5}]
)
def test_weights_are_those_of_the_verified_product(changes: dict[str, Any]) -> None:
    """What `--verify` multiplies, zeros and bias included, is what is scored."""
    net = load_network(LENET)
    for layer, made in zip(net, as_computed(net, precision(**changes)), strict=True):
        codes, table = codes_of(
            WeightMatrix(layer.matrix, layer.bias), layer, chip(**changes).engine, Asked(verify=True)
        )
        assert codes is not None
        assert table is not None
        assert made.bias is not None
        assert np.array_equal(np.column_stack([made.matrix, made.bias]), table.real[codes])
        assert np.array_equal(made.weight == 0, layer.weight == 0)


def test_a_codebook_of_the_layer_is_used_where_codes_reach_it() -> None:
    book = np.array([0.0, 0.5, -0.5, 0.25])
    weight = book[RNG.integers(0, 4, (6, 8))]
    layer = accelsim.Layer.linear("one", weight, codebook=book * 1.001)
    for bits in (2, 1):
        (made,) = as_computed(accelsim.Network("net", [layer]), precision(code_bits=bits))
        if bits == 2:
            assert np.abs(made.weight - weight * 1.001).max() < 2**-15
        else:  # one code is left for what is not zero
            assert len(np.unique(made.weight[weight != 0])) == 1


def independent(layer: accelsim.Layer, code_bits: int) -> accelsim.Layer:
    """Share the weights of a layer by scikit-learn's k-means, into 16-bit steps of the largest."""
    from sklearn.cluster import KMeans

    values = np.append(layer.weight.ravel(), layer.bias).astype(np.float64)
    kept = values[values != 0]
    clusters = 2**code_bits - 1
    start = np.linspace(kept.min(), kept.max(), clusters)[:, None]
    model = KMeans(clusters, init=start, n_init=1, random_state=0).fit(kept[:, None])
    step = np.abs(kept).max() / 2**15
    values[values != 0] = np.rint(model.cluster_centers_[model.labels_, 0] / step) * step
    weight = values[: layer.weight_count].reshape(layer.weight.shape).astype(np.float32)
    return replace(layer, weight_source=lambda: weight, bias=values[layer.weight_count :].astype(np.float32))


def test_one_bit_codes_lose_what_four_bits_keep() -> None:
    net = load_network(LENET)
    given = accuracy(net, *digits("test"))
    for bits in (1, 4):
        ours = accuracy(as_computed(net, precision(code_bits=bits)), *digits("test"))
        theirs = accuracy(replace(net, layers=[independent(layer, bits) for layer in net]), *digits("test"))
        assert abs(ours - theirs) <= 0.01
        assert (given - ours > 0.5) if bits == 1 else (abs(given - ours) <= 0.01)


def test_a_narrower_number_never_keeps_outputs_better() -> None:
    net = load_network(LENET)
    score = fidelity(net)
    found = [score(as_computed(net, precision(TENSOR_CORE, dtype=dtype))) for dtype in ("int4", "int8", "fp16", "tf32")]
    assert found == sorted(found)
    assert found[0] < 0.999 < found[1] < 1
    by_bits = [score(as_computed(net, precision(activation_bits=bits, code_bits=12))) for bits in (2, 4, 8, 16)]
    assert by_bits == sorted(by_bits)


def counting(folder: Path) -> str:
    """Return a score, the number of different weights of the first layer, which notes every call in a file."""
    (folder / "score.py").write_text(
        "from pathlib import Path\nimport numpy as np\n\ndef score(network):\n"
        f"    with open({str(folder / 'calls')!r}, 'a') as calls:\n        calls.write('x')\n"
        "    return len(np.unique(network.layers[0].weight))\n"
    )
    return f"{folder / 'score.py'}:score"


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text())


def test_a_sweep_scores_every_precision_once(tmp_path: Path) -> None:
    space = {
        "network": tiny(), "evaluate": counting(tmp_path),
        "vary": {"sparsity": [0.5, 0.8], "engine.clock_mhz": [400.0, 800.0], "engine.code_bits": [1, 2, 3],
                 "engine.fifo_depth": [4, 8]},
    }  # fmt: skip
    table = totals(sweep(space, tmp_path / "r.db", jobs=1))
    assert calls(tmp_path) == 2 * 3  # neither clock nor queue changes a number
    assert table["score"].tolist() == [2.0**bits for bits in table["engine.code_bits"]]
    assert table["precision"].tolist() == [f"{bits}-bit codes of int16 x int16" for bits in table["engine.code_bits"]]
    sweep(space, tmp_path / "r.db", jobs=1)
    assert calls(tmp_path) == 6
    without = sweep({**space, "evaluate": None}, tmp_path / "r.db", jobs=1)
    assert set(without["precision"]) == {""}
    assert without["score"].isna().all()


def test_an_estimate_knows_how_often_is_scored(tmp_path: Path) -> None:
    """A score takes far longer than the rest: it is the number of precisions that counts, not that of points."""
    (tmp_path / "score.py").write_text("import time\n\ndef score(network):\n    time.sleep(0.2)\n    return 1.0\n")

    def seconds(vary: dict[str, Any]) -> float:
        space = Space({"network": tiny(), "evaluate": f"{tmp_path / 'score.py'}:score", "vary": vary})
        with Store(":memory:") as store:
            return estimate_seconds(Plan.begin(space, setup_of(space), store).whole())

    clocks = seconds({"engine.clock_mhz": [100.0 * n for n in range(1, 9)]})
    codes = seconds({"engine.code_bits": list(range(1, 9))})
    assert codes > 1.2 > 8 * 0.2 / 2 > clocks


def test_curves_divisions_and_allocations_score_what_each_chip_computes(tmp_path: Path) -> None:
    net, evaluate = tiny(), counting(tmp_path)
    chips = [replace(chip(code_bits=bits), name=f"of {bits}, {n}") for bits in (1, 2) for n in range(2)]
    chips.append(load_hardware(TENSOR_CORE))
    table = curves.curve(net, chips, ["fine"], [0.8], evaluate=evaluate).set_index(["hardware", "granularity"])
    assert calls(tmp_path) == 2 * 3
    fine = table.xs("fine", level="granularity")
    assert fine["score"].tolist()[:4] == [2, 2, 4, 4]
    assert fine["score"].iloc[4] > 100
    assert fine["precision"].tolist() == ["1-bit codes of int16 x int16"] * 2 + ["2-bit codes of int16 x int16"] * 2 + [
        "fp16"
    ]
    with pytest.warns(UserWarning, match="accuracy unknown for closed"):
        both = divisions(net, chips, evaluate=evaluate).set_index(["division", "hardware"])["accuracy"]
    assert both.loc["open"].tolist()[:4] == [2, 2, 4, 4]
    store = tmp_path / "scores.json"
    for bits in (1, 2):
        found = uniform(net, chip(code_bits=bits), 1e9, evaluate=evaluate, store=store)
        assert (found.score, found.precision) == (2**bits, f"{bits}-bit codes of int16 x int16")
        assert len(np.unique(found.network.layers[0].weight)) > 4  # the network itself keeps its weights
