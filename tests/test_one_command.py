"""What a stranger with an ONNX file and samples types, and what the answer has to say at 80 columns."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from accelsim.evaluation import digits

MODEL = Path(__file__).parents[1] / "docs" / "data" / "residual-digits.onnx"
CHIPS = "eie-64pe-45nm,a100-pcie"
SAMPLES = 16


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Digits that the network has not seen, with their classes."""
    pixels, classes = digits("test")
    np.savez(tmp_path / "samples.npz", image=pixels[:SAMPLES].reshape(-1, 1, 8, 8), labels=classes[:SAMPLES])
    return tmp_path / "samples.npz"


def test_prune_with_chips_says_it_all_and_writes_the_file(accelsim: Run, tmp_path: Path, samples: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    target = tmp_path / "pruned.onnx"
    said = accelsim(
        "prune", MODEL, "--sparsity", 0.8, "--inputs", samples, "--hardware", CHIPS, "-o", target
    ).out  # fmt: skip
    score = re.findall(r"activations: real, .*; accuracy ([\d.]+) %, as the chip computes it", said)
    assert len(score) == 2
    assert "pruned against residual-digits" in said or "pruned against main_graph" in said
    assert "of the time of" in said
    assert "eie-64pe-45nm leaves" in said
    assert f"{SAMPLES} samples" in said
    with np.load(samples) as arrays:
        held = dict(arrays)
    answers = ort.InferenceSession(target, providers=["CPUExecutionProvider"]).run(None, {"image": held["image"]})[0]
    right = 100 * np.mean(answers.argmax(axis=1) == held["labels"])
    assert float(score[1]) == pytest.approx(right, abs=100 / SAMPLES)  # of fp16, within a digit
    again = accelsim("run", target, "--inputs", samples, "--against", MODEL, "--hardware", CHIPS).out
    table = re.compile(r"^.*(?:layers only|all operations|faster|x  ).*$", re.MULTILINE)
    assert table.findall(again) == table.findall(said)[-len(table.findall(again)) :]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch", 16), "--batch: with --inputs there are as many samples as they hold"),
        (("--density", 0.5), "--density: draws activations, and with --inputs they are real"),
        (("--against", "alexnet"), "--against alexnet: alexnet takes 154,587 numbers of a sample, and"),
    ],
)
def test_what_does_not_go_with_samples_is_refused_by_its_option(
    accelsim: Run, samples: Path, options: tuple[object, ...], message: str
) -> None:
    pytest.importorskip("onnxruntime")
    assert message in accelsim("run", MODEL, "--inputs", samples, *options).err


def test_a_batch_that_is_too_large_is_one_problem_with_its_option(accelsim: Run) -> None:
    """2^53 multiply-accumulates can be counted: of the head, 4096 x 32000, for 68,719,476 sequences."""
    err = accelsim(
        "run", "llama-7b", "--hardware", "a100-pcie", "--phase", "decode", "--batch", 10**9
    ).err  # fmt: skip
    assert len(re.findall("^error:", err, re.MULTILINE)) == 1
    assert f"give at most {2**53 // (4096 * 32000):,}" in err
    err = accelsim("run", "alexnet", "--batch", 10**7).err
    assert re.search(r"error: --batch: 10,000,000: needs [\d,.]+ GiB .* this machine has [\d.]+ GiB; give at most", err)


def test_a_space_runs_in_a_phase_and_a_batch(accelsim: Run, tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text(
        'hardware = "a100-pcie"\nnetwork = "gpt-2"\nlayers = ["h.0.attn.c_attn"]\nphase = "decode"\nbatch = 4\n'
        "[vary]\n"
        '"engine.clock_mhz" = [1000.0]\n'
    )
    table = tmp_path / "points.csv"
    for typed, batch in (((), 4), (("--batch", 8), 8)):
        accelsim("sweep", space, "--store", tmp_path / "r.db", "--jobs", 1, "--csv", table, *typed)
        row = table.read_text().splitlines()
        columns = row[0].split(",")
        assert row[1].split(",")[columns.index("vectors")] == str(batch)
    err = accelsim("sweep", space, "--store", tmp_path / "r.db", "--phase", "training").err
    assert "network: phase: must be prefill or decode" in err
