"""Does the command line say what a step of a language model is made of, what 2:4 buys, and what to change?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Run

from accelsim.cli.serving import _on
from accelsim.errors import InputError
from accelsim.hardware import load_hardware
from accelsim.network.decoder import load_model
from accelsim.serving import PARTS, Request, load_serving
from accelsim.serving.answer import Answer, Point, _made, _where, answer, sentences

ASKED = ("--phase", "decode", "--batch", 64, "--prompt", 16, "--output-tokens", 32)


def test_run_prints_the_stack_and_the_answer(accelsim: Run, tmp_path: Path) -> None:
    path = tmp_path / "step.csv"
    result = accelsim("run", "llama3.2-1b", "--hardware", "a100-pcie", "--dtype", "int8", *ASKED, "--csv", path)
    assert result.code == 0
    rows = pd.read_csv(path)
    assert rows["pattern"].tolist() == ["dense", "2:4"]
    for _, row in rows.iterrows():
        assert row["time_us"] == pytest.approx(sum(row[part] for part in PARTS))
        assert f"{row['time_us'] / 1000:,.3f}" in result.out
    assert re.search(r"a100-pcie: 2:4 (makes steps (slower, )?\d\.\d\dx|does not change the time of steps)", result.out)
    assert re.search(r"products are \d+ % of the dense step", result.out)
    assert re.search(r"2:4 (begins to pay at|pays at|does not pay at)", result.out)
    assert result.err.count("note: energy is not known: kernels between products have no price") == 1


def test_nothing_is_printed_while_the_progress_bar_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed beside a bar, on another stream, ends up in its line."""
    asked = Request(phase="decode", sequences=64, prompt=16, output=32)
    file, chip = load_model("llama3.2-1b-2to4"), load_hardware("h100-pcie")
    table, said = _on(file, chip, "fp8", asked, load_serving("vllm"), quiet=False)
    assert len(table) == 2
    assert all(line.startswith("h100-pcie: ") for line in said)
    assert capsys.readouterr() == ("", "")


def test_sequences_that_wait_are_told_with_the_room_that_others_keep(accelsim: Run) -> None:
    """Prompts and outputs of 200 + 24 tokens; more sequences than tokens of a step, so that some wait."""
    asked = ("--phase", "decode", "--batch", 512, "--prompt", 200, "--output-tokens", 24)
    result = accelsim("run", "llama3.2-1b", "--hardware", "rtx4090", "--dtype", "fp8", *asked)
    said = (
        r"not all sequences run at once: a token takes \d+\.\d\d steps, and each sequence keeps room for all of its 224"
    )
    assert re.search(said, " ".join(result.err.split()))


def test_several_boards_are_put_in_order_and_those_that_cannot_are_told(accelsim: Run) -> None:
    result = accelsim("run", "llama3.2-1b", "--hardware", "a100-pcie,rtx4090,h100-pcie", "--dtype", "fp8", *ASKED)
    assert result.code == 0
    table = result.out[result.out.rindex("board ") :]
    assert table.index("h100-pcie") < table.index("rtx4090")
    assert "note: a100-pcie: dtype: a100-pcie does not multiply fp8" in result.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("llama3.2-1b", "--hardware", "a100-pcie", "--dtype", "fp8", *ASKED),
            "does not multiply fp8; it multiplies fp16, bf16",
        ),
        (("llama3.2-1b", "--hardware", "a100-pcie", "--prompt", 16), "--phase: is missing; give prefill or decode"),
        (("llama3.2-1b", "--hardware", "a100-pcie", *ASKED, "--seed", 1), "--seed: is of no use for a step"),
        (("llama3.2-1b", "--hardware", "a100-pcie", *ASKED, "--pattern", "2-4"), "--pattern: write N:M, as in 2:4"),
        (("llama3.2-1b", "--hardware", "a100-pcie", *ASKED, "--serving", "sglang"), "--serving: 'sglang' is not known"),
        (("llama3.2-1b", "--phase", "decode", "--batch", 0, "--prompt", 16), "--batch: must be a whole number"),
        (
            ("llama3.2-1b", "--phase", "prefill", "--prompt", 16, "--output-tokens", 2),
            "--output-tokens: belongs to decode",
        ),
        (("lenet-5", *ASKED), "'lenet-5': no language model of this name is shipped"),
        (("lenet-5", "--dtype", "fp8"), "--dtype: belongs to a step of a language model; give --prompt, too"),
    ],
)
def test_what_makes_no_step_is_told(accelsim: Run, arguments: Any, said: str) -> None:
    result = accelsim("run", *arguments)
    assert result.code == 2
    assert said in result.err


@pytest.fixture(scope="module")
def prefill() -> Answer:
    model = load_model("llama3.2-1b-2to4").language_model
    asked = Request(phase="prefill", sequences=16, prompt=1024)
    return answer(model, load_hardware("rtx4090"), "bf16", asked, load_serving("vllm"))


def test_an_answer_says_where_pruning_pays_and_what_bounds_it(prefill: Answer) -> None:
    points = prefill.points()
    assert [point.tokens for point in points] == [2**i for i in range(4, 17)]
    pays = prefill.pays_from()
    assert pays is not None
    assert all((point.speed_up >= 1.005) or point.tokens < pays for point in points)
    bound = prefill.dense.time_us / (prefill.dense.time_us - prefill.dense.gemm_us)
    said = list(sentences(prefill))
    assert f"it would be {bound:.2f}x as fast" in said[1]
    assert f"2:4 makes steps {prefill.speed_up:.2f}x as fast" in said[0]
    assert prefill.speed_up < bound


def test_less_than_half_a_percent_is_no_change() -> None:
    assert _made("steps", 1000.0, 1003.0) == "does not change the time of steps (1 ms)"
    assert _made("steps", 1000.0, 500.0) == "makes steps 2.00x as fast (1 ms to 0.5 ms)"
    assert _made("steps", 1000.0, 2000.0) == "makes steps slower, 0.50x (1 ms to 2 ms)"


def test_products_that_stay_dense_are_dense(prefill: Answer) -> None:
    from dataclasses import replace

    every = replace(prefill.model, dense=("qkv", "o", "gate_up", "down"))
    same = prefill.of(model=every)
    assert same.pruned == same.dense == prefill.dense
    one = prefill.of(model=replace(prefill.model, dense=("down",)))
    assert prefill.pruned.gemm_us < one.pruned.gemm_us < prefill.dense.gemm_us
    if left := prefill.left_dense():
        assert left[1].pruned.time_us < prefill.pruned.time_us


@pytest.mark.parametrize(
    ("speed_ups", "said"),
    [
        ((0.9, 0.9, 1.0), "does not pay at any size up to 4"),
        ((1.1, 1.2, 1.3), "pays at every size from 1 to 4"),
        ((0.9, 1.2, 1.3), "begins to pay at 2"),
        ((0.9, 1.2, 0.9), "pays at 2, and at no other size up to 4"),
        ((1.1, 1.2, 0.9), "pays from 1 to 2, and at no other size up to 4"),
        ((1.1, 0.9, 1.2, 0.9), "pays at 1, 4, and at no other size up to 8"),
    ],
)
def test_where_pruning_pays_is_said(speed_ups: tuple[float, ...], said: str) -> None:
    assert _where([Point(2**i, speed_up) for i, speed_up in enumerate(speed_ups)]) == said


def test_a_format_that_a_board_lacks_raises(prefill: Answer) -> None:
    with pytest.raises(InputError, match="does not multiply int2"):
        prefill.of(dtype="int2")
