"""Does a language model in a phase multiply, read and score what that many tokens of that many sequences take?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Run

import accelsim
from accelsim import Density, Layer, Network
from accelsim.errors import InputError
from accelsim.network.graph import ActivationProduct, Graph, Operation
from accelsim.network.left_out import LeftOut

TOKENS, WIDTH, HEADS, SHARED, HEAD, HIDDEN, WORDS = 5, 12, 6, 3, 2, 20, 30
"""One block of grouped-query attention and a gated MLP: three heads of keys and values for six of queries."""


def operation(name: str, kind: str, inputs: tuple[str, ...], *shape: int, **more: Any) -> Operation:
    return Operation(name=name, kind=kind, inputs=inputs, shape=shape, **more)


def attention(*, causal: bool) -> tuple[Operation, ...]:
    scores = ActivationProduct(HEADS, TOKENS, HEAD, TOKENS, causal, SHARED)
    values = ActivationProduct(HEADS, HEAD, TOKENS, TOKENS, causal, SHARED)
    made = HEADS, TOKENS, TOKENS
    return (
        operation("scores", "attention", ("q", "k"), *made, product=scores, macs=scores.macs),
        operation("softmax", "softmax", ("scores",), *made, reads=HEADS * TOKENS * TOKENS),
        operation("values", "attention", ("softmax", "v"), TOKENS, WIDTH, product=values, macs=values.macs),
    )


def model(*, causal: bool = True, head: bool = True, seen: Any = None) -> Network:
    """A language model of one block, whose head has the weights of its embedding."""
    shapes = {
        "q": (WIDTH, WIDTH),
        "k": (SHARED * HEAD, WIDTH),
        "v": (SHARED * HEAD, WIDTH),
        "o": (WIDTH, WIDTH),
        "gate": (HIDDEN, WIDTH),
        "up": (HIDDEN, WIDTH),
        "down": (WIDTH, HIDDEN),
    }
    shapes |= {"head": (WORDS, WIDTH)} if head else {}
    layers = [Layer.linear(name, np.ones(shape), tokens=TOKENS, activations=seen) for name, shape in shapes.items()]
    size = TOKENS * WIDTH
    operations = (
        operation("embedding", "embedding", ("ids",), TOKENS, WIDTH, weights=size, reads=TOKENS),
        operation("norm", "normalisation", ("embedding",), TOKENS, WIDTH, weights=WIDTH, reads=size),
        *attention(causal=causal),
        operation("add", "elementwise", ("o", "embedding"), TOKENS, WIDTH, reads=2 * size),
        operation("silu", "activation", ("gate",), TOKENS, HIDDEN, reads=TOKENS * HIDDEN),
        operation("multiply", "elementwise", ("silu", "up"), TOKENS, HIDDEN, reads=2 * TOKENS * HIDDEN),
        operation("add2", "elementwise", ("down", "add"), TOKENS, WIDTH, reads=2 * size),
        operation("norm2", "normalisation", ("add2",), TOKENS, WIDTH, weights=WIDTH, reads=size),
        *((operation("logits", "softmax", ("head",), TOKENS, WORDS, reads=TOKENS * WORDS),) if head else ()),
    )
    sources = {"q": "norm", "k": "norm", "v": "norm", "o": "values", "gate": "add", "up": "add", "down": "multiply"}
    sources |= {"head": "norm2"} if head else {}
    graph = Graph({"ids": (TOKENS,)}, {name: (source,) for name, source in sources.items()}, operations)
    left_out = [LeftOut("embedding", "look-up", 0 if head else WORDS * WIDTH)]
    left_out += [LeftOut(each.name, "attention", macs=each.macs) for each in operations if each.product]
    return Network("tiny", layers, graph=graph, not_simulated=left_out)


def graph_of(network: Network) -> Graph:
    assert network.graph is not None
    return network.graph


def by_name(network: Network) -> dict[str, Operation]:
    return graph_of(network).by_name


def product_of(network: Network, name: str) -> ActivationProduct:
    product = by_name(network)[name].product
    assert product is not None
    return product


PROJECTIONS = 2 * WIDTH * WIDTH + 2 * SHARED * HEAD * WIDTH + 3 * WIDTH * HIDDEN
"""Weights of the block: each is multiplied once by every token that runs."""


@pytest.mark.parametrize(("tokens", "context"), [(7, 7), (3, 9), (1, 4)])
def test_prefill_runs_every_token_and_scores_the_last(tokens: int, context: int) -> None:
    network = model().in_phase("prefill", tokens=tokens, context=context)
    assert [layer.tokens for layer in network] == [*[tokens] * 7, 1]
    assert network.scope.macs == tokens * PROJECTIONS + WORDS * WIDTH
    # Each query meets the whole context in each head, in both products.
    assert network.scope.macs_left_out == 2 * HEADS * tokens * context * HEAD
    made = by_name(network)
    assert made["scores"].shape == made["softmax"].shape == (HEADS, tokens, context)
    assert made["values"].shape == made["add"].shape == (tokens, WIDTH)
    assert made["logits"].shape == (1, WORDS)
    assert made["embedding"].weights == tokens * WIDTH
    assert made["norm"].weights == WIDTH
    assert made["multiply"].reads == 2 * tokens * HIDDEN
    assert made["embedding"].reads == tokens


def test_decode_runs_one_token_and_reads_what_is_kept() -> None:
    network = model().in_phase("decode", context=9)
    assert {layer.tokens for layer in network} == {1}
    assert network.scope.macs == PROJECTIONS + WORDS * WIDTH
    made = by_name(network)
    assert made["scores"].product == ActivationProduct(HEADS, 9, HEAD, 1, False, SHARED)
    assert made["values"].product == ActivationProduct(HEADS, HEAD, 9, 1, False, SHARED)
    # Keys and values of three heads, which six heads of queries share.
    assert made["scores"].reads == WIDTH + 9 * SHARED * HEAD
    assert made["values"].reads == HEADS * 9 + 9 * SHARED * HEAD


def test_decode_meets_as_many_as_the_network_was_made_for() -> None:
    assert by_name(model().in_phase("decode"))["scores"].shape == (HEADS, 1, TOKENS)


def test_as_many_tokens_and_every_one_scored_is_the_network_itself() -> None:
    network = model()
    same = network.in_phase(tokens=TOKENS)
    assert graph_of(same).order == graph_of(network).order
    for one, other in zip(graph_of(same).operations, graph_of(network).operations, strict=True):
        assert replace(one, reads=0) == replace(other, reads=0)
    assert [layer.tokens for layer in same] == [layer.tokens for layer in network]
    assert same.left_out == network.left_out


def test_a_mask_stays_where_several_tokens_run() -> None:
    assert product_of(model().in_phase("prefill", tokens=3, context=9), "scores").causal


def test_without_a_head_the_last_layer_sees_every_token() -> None:
    network = model(head=False).in_phase("prefill", tokens=7)
    assert network["down"].tokens == 7
    assert by_name(network)["norm2"].shape == (7, WIDTH)


def test_a_batch_costs_as_many_samples() -> None:
    chip = accelsim.load_hardware("eie-64pe-45nm")
    for network in (model(seen=Density(0.5)).in_phase("decode", batch=4), model(seen=Density(0.5)).in_batch(4)):
        table = accelsim.simulate(network, chip)
        of_layers = table[table["kind"] == "linear"]
        assert set(of_layers["batch"]) == {4}
        assert list(of_layers["vectors"]) == [4 * layer.tokens for layer in network]
        assert set(accelsim.simulate(network, chip, 0.25)["batch"].dropna()) == {4}


@pytest.mark.parametrize(("batch", "context"), [(1, 1000), (4, 1000), (4, 3000)])
def test_keys_of_every_sequence_are_read_in_decode(batch: int, context: int) -> None:
    network = model(seen=Density(1.0)).in_phase("decode", context=context, batch=batch)
    rows = accelsim.simulate(network, "a100-pcie").set_index("layer")
    # Half floats of three heads of keys; the query of a sequence, 12 of them, fills a sector of 32 bytes.
    assert rows.loc["scores", "dram_read_bytes"] == batch * (context * SHARED * HEAD * 2 + 32)
    assert rows.loc["scores", "macs"] == batch * context * HEADS * HEAD


def test_samples_of_a_batch_have_places_of_their_own_and_the_first_is_that_of_one() -> None:
    one, four = Density(0.3, 7), Density(0.3, 7, 4)
    drawn = four.draw(50).reshape(4, 50)
    assert np.array_equal(drawn[0], one.draw(50))
    assert (np.count_nonzero(drawn, axis=1) == 15).all()
    assert len({sample.tobytes() for sample in drawn != 0}) == 4


def test_captured_activations_are_drawn_by_their_share_of_zeros() -> None:
    seen = np.zeros((TOKENS, WIDTH))
    seen[:, :3] = 1
    layers = [replace(layer, activations=seen) if layer.in_features == WIDTH else layer for layer in model()]
    network = replace(model(), layers=layers).in_phase("decode", batch=2)
    assert network["q"].activations == Density(0.25, 0, 2)


def test_a_saved_batch_is_read_back(tmp_path: Any) -> None:
    Network("net", [Layer.linear("fc", np.ones((2, 3)), activations=Density(0.5, 3, 4))]).save(
        tmp_path / "net.safetensors"
    )
    assert accelsim.load_network(tmp_path / "net.safetensors")["fc"].activations == Density(0.5, 3, 4)


def chain() -> Network:
    return Network("chain", [Layer.linear("fc", np.ones((2, 3)))])


@pytest.mark.parametrize(
    ("network", "asked", "said"),
    [
        (chain(), {"phase": "decode"}, "phase decode: chain is not known to be a language model: what stands "
         "between its layers is not known"),
        (model(causal=False), {"phase": "prefill"}, "phase prefill: tiny is not a language model that generates text: "
         "its queries see tokens that are still to come; leave the phase out and give tokens alone"),
        (model(), {"phase": "train"}, "phase: must be prefill or decode (got 'train')"),
        (model(), {"phase": "decode", "context": 0}, "context: must be a whole number, at least 1 and "
         "at most 2,147,483,647 (got 0)"),
        (model(), {"phase": "prefill", "tokens": 4, "context": 3}, "context: 3 is less than the 4 tokens that run"),
        (model(), {"tokens": 4, "batch": 10**23}, "batch: must be a whole number, at least 1 and at most "),
        (model(), {"tokens": 4, "batch": 0}, "batch: must be a whole number, at least 1 and at most "
         "2,147,483,647 (got 0)"),
    ],
)  # fmt: skip
def test_what_cannot_be(network: Network, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        network.in_phase(**asked)
    assert any(problem.startswith(said) for problem in caught.value.problems)


def test_a_sequence_as_long_as_a_layer_is_wide_is_refused() -> None:
    short = model()
    long = replace(short, graph=model_of_length(WIDTH), layers=[replace(layer, tokens=WIDTH) for layer in short])
    with pytest.raises(InputError, match=f"has {WIDTH} tokens, and a layer or its heads as many"):
        long.in_phase("decode")


def model_of_length(tokens: int) -> Graph:
    """Only the attention of the model, on so many tokens."""
    scores = ActivationProduct(HEADS, tokens, HEAD, tokens, True)
    found = operation("scores", "attention", ("q", "k"), HEADS, tokens, tokens, product=scores)
    return Graph({"ids": (tokens,)}, dict.fromkeys(("q", "k"), ("ids",)), (found,))


def test_a_mask_that_is_added_to_scores_may_hide_what_comes() -> None:
    network = model(causal=False)
    graph = graph_of(network)
    mask = operation("mask", "elementwise", ("scores",), HEADS, TOKENS, TOKENS, does="Add")
    behind = [replace(each, inputs=("mask",)) if each.name == "softmax" else each for each in graph.operations]
    masked = replace(network, graph=Graph(graph.inputs, graph.sources, (*behind, mask)))
    assert by_name(masked.in_phase("decode", context=9))["mask"].shape == (HEADS, 1, 9)
    # Nobody knows what it hides: all of it is multiplied.
    assert not product_of(masked.in_phase("prefill", tokens=3), "scores").causal


def test_encoders_take_other_numbers_of_tokens() -> None:
    network = model(causal=False).in_phase(tokens=7)
    assert network.scope.macs == 7 * (PROJECTIONS + WORDS * WIDTH)
    assert by_name(network)["softmax"].shape == (HEADS, 7, 7)


def test_a_phase_has_no_inputs_of_its_own() -> None:
    with pytest.raises(InputError, match="in a phase its activations are drawn; leave the inputs out"):
        model().in_phase("decode").with_samples({"ids": np.zeros((1, TOKENS), np.int64)})


def test_a_batch_of_given_samples_is_refused() -> None:
    network = Network("net", [Layer.linear("fc", np.ones((2, 3)), activations=np.ones(3))])
    with pytest.raises(InputError, match="batch: fc of net: their activations are given; leave the batch out"):
        network.in_batch(2)


def test_a_phase_that_cannot_be_is_told_beside_other_problems(accelsim: Run) -> None:
    said = accelsim("run", "bert-base", "--phase", "decode", "--inputs", "none.npz", "--hardware", "eie-64pe-45")
    assert said.code == 2
    assert [error.partition(":")[0] for error in said.errors] == ["--phase decode", "'eie-64pe-45'"]


def test_a_phase_on_the_command_line_is_that_of_python(accelsim: Run, tmp_path: Path) -> None:
    model(seen=Density(0.5)).save(tmp_path / "tiny.safetensors")
    out = tmp_path / "out.csv"
    asked = ("--phase", "decode", "--context", "9", "--batch", "3", "--hardware", "a100-pcie", "--csv", out)
    said = accelsim("run", tmp_path / "tiny.safetensors", *asked)
    assert said.code == 0, said.err
    assert "decode: 3 sequences, of their tokens 1 at once, context 9" in said.err
    rows = pd.read_csv(out).set_index("layer")
    assert list(rows.loc[["q", "down", "head"], "vectors"]) == [3, 3, 3]
    assert rows.loc["scores", "macs"] == 3 * HEADS * 9 * HEAD
