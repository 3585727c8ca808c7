"""Does a cluster return the same as this process, whatever happens to its workers?"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from tiny_sweeps import SPACE, tiny

from accelsim.errors import InputError
from accelsim.explore import Space, Store, load, runners, search, sweep
from accelsim.explore.sweeping import Crew, Plan, run_missing, setup_of
from accelsim.network.writer import save

distributed = pytest.importorskip("distributed", reason="the extra explore is not installed")

pytestmark = [
    pytest.mark.filterwarnings("default"),  # of a third party's servers as they end
]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that is there answers, but on a busy machine nobody knows when."""
    monkeypatch.setattr(runners, "CONNECT_SECONDS", 600)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    made = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    )
    yield made
    made.close()


def test_a_cluster_returns_what_this_process_returns(cluster: Any, tmp_path: Path) -> None:
    given = {**SPACE, "network": tiny()}
    wanted = sweep(given, tmp_path / "here.db", jobs=1)
    assert sweep(given, tmp_path / "r.db", scheduler=cluster.scheduler_address).equals(wanted)
    found = search({**given, "objectives": ["time_us"]}, tmp_path / "s.db", 4, scheduler=cluster.scheduler_address)
    assert found.equals(search({**given, "objectives": ["time_us"]}, tmp_path / "t.db", 4, jobs=1))


def test_weights_of_files_are_sent_or_read_from_a_shared_path(cluster: Any, tmp_path: Path) -> None:
    save(tiny(), tmp_path / "net.safetensors")
    given = {**SPACE, "network": str(tmp_path / "net.safetensors")}
    wanted = sweep(given, tmp_path / "here.db", jobs=1)
    shared = sweep(given, tmp_path / "shared.db", scheduler=cluster.scheduler_address, shared_path=True)
    assert shared.equals(wanted)
    space = Space(given)
    sent = setup_of(space, shared_path=False)
    (tmp_path / "net.safetensors").unlink()  # so that a worker that looks for it fails
    with Store(tmp_path / "sent.db") as store:
        plan = Plan.begin(space, sent, store).whole()
        with Crew(sent, store, None, cluster.scheduler_address) as crew:
            run_missing(plan, store, crew)
        assert (store.read(plan.keys)["error"] == "").all()
    assert load(tmp_path / "sent.db").equals(load(tmp_path / "here.db"))


def test_weights_are_sent_to_each_worker_once(cluster: Any, tmp_path: Path) -> None:
    space = Space({**SPACE, "network": tiny(), "vary": {"engine.fifo_depth": list(range(2, 42))}})
    setup = setup_of(space)
    with Store(tmp_path / "r.db") as store:
        plan = Plan.begin(space, setup, store).whole()
        sent: list[Any] = []
        with Crew(setup, store, None, cluster.scheduler_address) as crew:
            client: Any = crew.runner(1)._client  # type: ignore[attr-defined]
            scatter, client.scatter = client.scatter, lambda *a, **k: sent.append(a) or scatter(*a, **k)
            run_missing(plan, store, crew)
            has = client.has_what()
    assert not sent  # but for the one time when it connected
    assert all(any("Setup" in str(key) for key in keys) for keys in has.values())


SLOW = """
import time

def score(network):
    time.sleep(0.1)
    return 1.0
"""


@pytest.mark.thorough
def test_workers_that_are_killed_lose_nothing(cluster: Any, tmp_path: Path) -> None:
    """Both die at once, and the weights with them."""
    (tmp_path / "slow.py").write_text(SLOW)
    given = {
        "network": tiny(), "evaluate": str(tmp_path / "slow.py:score"),
        "vary": {"density": {"from": 0.02, "to": 1.0, "step": 0.02}},
    }  # fmt: skip
    killed: list[int] = []

    def kill(done: int, _: int) -> None:
        if done >= 8 and not killed:
            killed.extend(int(info["process"]) for info in workers(cluster))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    found = sweep(given, tmp_path / "r.db", scheduler=cluster.scheduler_address, progress=kill)
    assert len(killed) == 2
    assert found.equals(sweep(given, tmp_path / "here.db", jobs=1))


DEADLY = """
import os, signal

def score(network):
    if network.layers[0].activations.density == 0.99:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0
"""


@pytest.mark.thorough
def test_a_point_that_kills_each_worker_has_failed_and_no_other(cluster: Any, tmp_path: Path, accelsim: Run) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    (tmp_path / "space.toml").write_text(
        'network = "net.safetensors"\nevaluate = "deadly.py:score"\nset.engine.pes = 4\n'
        "vary.density = [0.5, 0.99, 0.7]\n"
    )
    save(tiny(), tmp_path / "net.safetensors")
    asked = "sweep", tmp_path / "space.toml", "--store", tmp_path / "r.db", "--trust"
    said = accelsim(*asked, "--scheduler", cluster.scheduler_address)
    assert said.code == 0
    why = "its worker was killed, twice with nothing beside it: out of memory?"
    assert f"a point failed, point 1: {why}" in " ".join(said.err.split())
    found = load(tmp_path / "r.db")
    assert found.loc[found["error"] != "", ["density", "error"]].to_numpy().tolist() == [[0.99, why]]
    (tmp_path / "deadly.py").write_text(DEADLY.replace("SIGKILL", "SIGCONT"))
    assert accelsim(*asked, "--jobs", "1", "--retry-failed").code == 0
    assert (load(tmp_path / "r.db")["error"] == "").all()


def workers(cluster: Any) -> list[dict[str, Any]]:
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        return [{"process": pid} for pid in client.run(os.getpid).values()]


def test_a_worker_of_another_version_is_refused(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelsim.explore.sweeping.engine_version", lambda: "another")
    with pytest.raises(InputError, match=r"the worker has another accelsim .* install the same version on both"):
        sweep({**SPACE, "network": tiny()}, tmp_path / "r.db", scheduler=cluster.scheduler_address)


def test_ctrl_c_leaves_the_cluster_usable(cluster: Any, tmp_path: Path) -> None:
    given = {**SPACE, "network": tiny()}

    def interrupted(done: int, _: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(given, tmp_path / "r.db", scheduler=cluster.scheduler_address, progress=interrupted)
    wanted = sweep(given, tmp_path / "here.db", jobs=1)
    assert sweep(given, tmp_path / "r.db", scheduler=cluster.scheduler_address).equals(wanted)


@pytest.mark.thorough(keep=1)
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x"])
def test_a_scheduler_that_cannot_be_reached_is_told(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match=f"--scheduler {address}: cannot be reached in 1 seconds"):
        sweep({**SPACE, "network": tiny()}, tmp_path / "r.db", scheduler=address)


@pytest.mark.thorough
def test_a_scheduler_without_workers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = distributed.Client.wait_for_workers
    monkeypatch.setattr(distributed.Client, "wait_for_workers", lambda client, n, timeout: wait(client, n, timeout=1))
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as empty,
        pytest.raises(InputError, match="has no workers"),
    ):
        sweep({**SPACE, "network": tiny()}, tmp_path / "r.db", scheduler=empty.scheduler_address)


@pytest.mark.thorough
def test_a_scheduler_that_is_lost_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "CONNECT_SECONDS", 20)  # so long the client looks for one that is gone
    given = {"network": tiny(), "vary": {"engine.fifo_depth": list(range(2, 202))}}
    made = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, host="127.0.0.1")
    ended: list[int] = []

    def end(done: int, _: int) -> None:
        if not ended:
            ended.append(done)
            made.close()
            monkeypatch.setattr(runners, "CONNECT_SECONDS", 1)

    with pytest.raises(InputError, match="the scheduler or its last worker was lost; what was finished is stored"):
        sweep(given, tmp_path / "r.db", scheduler=made.scheduler_address, progress=end)
    assert len(sweep(given, tmp_path / "r.db", jobs=1)) == 400
