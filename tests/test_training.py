"""Do masks hold while a model is trained, does pruning go step by step, and does a seed give the same result?"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from accelsim import InputError, Network
from accelsim.pruning import prune, ratios

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn
torch_prune = pytest.importorskip("torch.nn.utils.prune")
training = pytest.importorskip("accelsim.pruning.training")
weights_of = pytest.importorskip("accelsim.torch_weights").weights_of


class Everything(nn.Module):
    """Each kind of layer that can be pruned, for images (1, 8, 8) in ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.flat = nn.Conv1d(4, 6, 3)
        self.lstm = nn.LSTM(6, 5, bidirectional=True)
        self.attention = nn.MultiheadAttention(10, 2)
        self.cross = nn.MultiheadAttention(10, 2, kdim=5, vdim=5)
        self.cell = nn.GRUCell(10, 8)
        self.fc = nn.Linear(8, 10)

    def forward(self, images: Any) -> Any:
        flat = self.flat(torch.relu(self.depthwise(self.norm(self.conv(images))).flatten(2)))
        states, _ = self.lstm(flat.permute(2, 0, 1))
        states, _ = self.attention(states, states, states)
        states, _ = self.cross(states, states[:, :, :5], states[:, :, 5:])
        return self.fc(self.cell(states[0], states[1, :, :8]))


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return Everything()


@pytest.fixture(scope="module")
def images() -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(24, 1, 8, 8, generator=generator), torch.randint(0, 10, (24,), generator=generator)


def random_masks(model: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.random(tuple(each.weight.shape)) < 0.4 for name, each in weights_of(model).items()}


def pruned_are_zero(model: Any, masks: dict[str, np.ndarray]) -> bool:
    return all(not weights_of(model)[name].weight.numpy()[~mask].any() for name, mask in masks.items())


def step(model: Any, optimizer: Any, images: tuple[Any, Any]) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images[0]), images[1]).backward()
    optimizer.step()


def test_weights_are_called_as_the_layers_that_are_captured(model: Any, images: tuple[Any, Any]) -> None:
    network, weights = Network.from_torch(model, images[0]), weights_of(model)
    assert {layer.name for layer in network} == set(weights)
    assert all(np.array_equal(layer.weight, weights[layer.name].weight.numpy()) for layer in network)


OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda parameters: torch.optim.Adam(parameters, 0.01, amsgrad=True),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, 0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masks_hold_with_weights_and_the_optimizers_state(name: str, model: Any, images: tuple[Any, Any]) -> None:
    masks, optimizer = random_masks(model), OPTIMIZERS[name](model.parameters())
    step(model, optimizer, images)  # fills the optimizer's state before anything is pruned
    before = {name: each.weight.clone() for name, each in weights_of(model).items()}
    held = training.apply_masks(model, masks)
    assert pruned_are_zero(model, masks)
    for layer, mask in masks.items():
        assert np.array_equal(weights_of(model)[layer].weight.numpy()[mask], before[layer].numpy()[mask])
    for _ in range(3):
        step(model, optimizer, images)
        assert pruned_are_zero(model, masks)
    for layer, mask in masks.items():
        weight = weights_of(model)[layer]
        parameter = getattr(weight.module, weight.weight_name)
        states = [each for each in optimizer.state[parameter].values() if each.shape == parameter.shape]
        assert states
        for state in states:
            assert not state[weight.rows].reshape(mask.shape).numpy()[~mask].any()
        assert not np.array_equal(weight.weight.numpy(), before[layer].numpy() * mask)
    held.remove()
    assert pruned_are_zero(model, masks)
    assert type(model.fc.weight) is nn.Parameter
    for _ in range(2):
        step(model, optimizer, images)
    assert not pruned_are_zero(model, masks)


def test_no_zero_is_negative_and_others_train_as_ever(model: Any, images: tuple[Any, Any]) -> None:
    masks = {"fc": random_masks(model)["fc"]}
    with training.apply_masks(model, masks):
        step(model, torch.optim.SGD(model.parameters(), 0.1), images)
        other = nn.Linear(8, 10)
        optimizer = torch.optim.SGD(other.parameters(), 0.1)
        other(torch.ones(1, 8)).sum().backward()
        optimizer.step()
    assert not np.signbit(model.fc.weight.detach().numpy()[~masks["fc"]]).any()
    assert other.weight.detach().numpy()[~masks["fc"]].all()


def test_masks_of_a_captured_network_go_back_to_the_model(model: Any, images: tuple[Any, Any]) -> None:
    network = Network.from_torch(copy.deepcopy(model), images[0])
    masks = {layer.name: prune(layer.weight, "fine", 0.75) for layer in network}
    training.apply_masks(model, masks).remove()
    for layer in Network.from_torch(model, images[0]):
        assert np.array_equal(layer.weight, network[layer.name].weight * masks[layer.name])


def test_masks_that_do_not_fit_are_all_named(model: Any) -> None:
    torch_prune.l1_unstructured(model.fc, "weight", 0.5)
    before = model.conv.weight.detach().clone()
    with pytest.raises(InputError) as error:
        training.apply_masks(
            model,
            {"conv": np.zeros((4, 1, 3, 3), bool), "lstm.ih_l1": [True], "cell.ih": np.zeros((2, 2), bool),
             "cell.hh": np.ones((24, 8)), "fc": np.zeros((10, 8), bool)},
        )  # fmt: skip
    said = [
        "masks: the model has no layer 'lstm.ih_l1'; did you mean 'lstm.ih_l0'?",
        "layer cell.ih: mask: must be of bool and shape (24, 10), as the weight is (got bool (2, 2))",
        "layer cell.hh: mask: must be of bool and shape (24, 8), as the weight is (got float64 (24, 8))",
        "layer fc: weight: is made from another parameter",
    ]
    assert all(problem.startswith(words) for words, problem in zip(said, error.value.problems, strict=True))
    assert torch.equal(model.conv.weight, before)


@pytest.fixture(scope="module")
def task() -> Any:
    """Half of scikit-learn's digits to train on, and the other half to judge by."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs, labels = torch.tensor(digits.data / 16.0, dtype=torch.float32), torch.tensor(digits.target)
    return training.Training(
        inputs=inputs[:900], labels=labels[:900], validation=(inputs[900:], labels[900:]), epochs=20
    )


def digits_model() -> Any:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))


def test_a_seed_gives_the_same_weights_and_another_one_others(task: Any) -> None:
    results = []
    for seed in (0, 0, 1):
        model = digits_model()
        state, threads = torch.get_rng_state(), torch.get_num_threads()
        losses = replace(task, seed=seed, epochs=4).fit(model)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == threads
        assert not torch.are_deterministic_algorithms_enabled()
        assert losses == sorted(losses, reverse=True)
        masks = training.prune_and_train(
            model, replace(task, seed=seed, epochs=1), "fine", 0.8, schedule="linear", steps=3
        )
        results.append((model[0].weight.detach().clone(), masks["3"], training.accuracy(model, *task.validation)))
    assert torch.equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])
    assert results[0][2] == results[1][2]
    assert not torch.equal(results[0][0], results[2][0])


def test_the_three_curves_come_in_the_order_of_the_literature(task: Any) -> None:
    """Han et al. (NIPS 2015, Figure 5): pruning alone, with retraining, and iterative pruning, at one sparsity."""
    dense, reached = digits_model(), {}
    task.fit(dense)
    for name, trained, options in [
        ("pruned", None, {}),
        ("fine-tuned", task, {}),
        ("iterative", task, {"schedule": "cubic", "steps": 6}),
    ]:
        model = digits_model()
        model.load_state_dict(dense.state_dict())
        masks = training.prune_and_train(model, trained, "fine", 0.96, **options)
        assert all(1 - mask.mean() == pytest.approx(0.96, abs=1 / mask.size) for mask in masks.values())
        assert pruned_are_zero(model, masks)
        reached[name] = training.accuracy(model, *task.validation)
    # A standard error of 897 images is 0.015 at most.
    assert reached["pruned"] + 0.05 < reached["fine-tuned"]
    assert reached["fine-tuned"] + 0.05 < reached["iterative"]


def test_masks_of_each_step_follow_the_schedule(monkeypatch: pytest.MonkeyPatch, task: Any) -> None:
    asked: list[tuple[str, float | None]] = []
    real = training.prune

    def listening(weight: Any, granularity: Any, sparsity: float | None, *rest: Any, **options: Any) -> Any:
        asked.append((str(granularity), sparsity))
        return real(weight, granularity, sparsity, *rest, **options)

    monkeypatch.setattr(training, "prune", listening)
    training.prune_and_train(digits_model(), None, "fine", {"0": 0.8}, schedule="cubic", steps=4)
    assert asked == [("fine", share * 0.8) for share in ratios("cubic", 4)]
    asked.clear()
    training.prune_and_train(digits_model(), None, "nm:1:4", schedule="linear", steps=3, layers=["0"])
    assert asked == [("nm:3:4", None), ("nm:2:4", None), ("nm:1:4", None)]


def test_the_learning_rate_and_the_data_of_the_criterion(monkeypatch: pytest.MonkeyPatch, task: Any) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(training.Training, "fit", lambda self, model: seen.append((self.learning_rate, self.seed)))
    monkeypatch.setattr(
        training, "prune", lambda weight, *rest, pad, **given: seen.append(given) or np.ones(weight.shape, bool)
    )
    options = {"schedule": "linear", "steps": 2, "learning_rate_factor": 0.01, "layers": ["3"]}
    training.prune_and_train(digits_model(), task, "fine", 0.5, data=lambda name: {"said": name}, **options)
    assert seen == [{"said": "3"}, (task.learning_rate / 100, 1), {"said": "3"}, (task.learning_rate / 100, 2)]


def test_training_stops_early_and_takes_the_best_weights_back(monkeypatch: pytest.MonkeyPatch, task: Any) -> None:
    accuracies = iter([0.5, 0.7, 0.6, 0.7, 0.1])
    states: list[Any] = []

    def judged(model: Any, *_: Any) -> float:
        states.append(model[0].weight.detach().clone())
        return next(accuracies)

    monkeypatch.setattr(training, "accuracy", judged)
    model = digits_model()
    losses = replace(task, patience=2).fit(model)
    assert len(losses) == 4
    assert torch.equal(model[0].weight, states[1])


def test_a_penalty_on_scales_makes_them_smaller(task: Any) -> None:
    scales = []
    for penalty in (0.0, 0.01):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
        replace(task, scale_penalty=penalty, epochs=5).fit(model)
        scales.append(model[1].weight.abs().sum().item())
    assert scales[1] < 0.8 * scales[0]


def test_mistakes_are_all_named(task: Any) -> None:
    with pytest.raises(InputError) as error:
        training.Training(inputs=torch.ones(3, 2), labels=torch.ones(2), epochs=-1, learning_rate=0, optimizer="adem",
                          batch_size=0, patience=3)  # fmt: skip
    keys = [problem.split(":")[0] for problem in error.value.problems]
    assert keys == ["epochs", "batch_size", "learning_rate", "optimizer", "labels", "patience"]
    model = digits_model()
    before = model[0].weight.detach().clone()
    with pytest.raises(InputError) as error:
        training.prune_and_train(model, task, "blok:4x4", {"O": 0.5}, schedule="cubick", learning_rate_factor=2)
    keys = [problem.split(":")[0] for problem in error.value.problems]
    assert keys == ["granularity 'blok", "schedule", "learning_rate_factor", "layers"]
    with pytest.raises(InputError, match=r"^layer 0: granularity 'kernel'.*\nlayer 3: granularity 'kernel'"):
        training.prune_and_train(model, task, "kernel", 0.5)
    assert torch.equal(model[0].weight, before)
