"""Is the specification independent of the order in which SimPy runs the processes of one cycle?"""

from __future__ import annotations

import random
from heapq import heappush
from typing import Any

import pytest
import simpy
from conftest import eie_image, run_both
from hypothesis import given
from hypothesis import strategies as st
from strategies import EieCase, eie_cases

from accelsim.engines.channel import BroadcastChannel, run_until
from accelsim.errors import DeadlockError


def shuffled(seed: int) -> type[simpy.Environment]:
    """Return an environment that breaks ties of time at random instead of by insertion."""
    ties = random.Random(seed)

    class Shuffled(simpy.Environment):
        def schedule(self, event: simpy.Event, priority: Any = 1, delay: Any = 0) -> None:
            heappush(self._queue, (self._now + delay, 0, ties.random(), event))  # type: ignore[misc]

    return Shuffled


@given(eie_cases(), st.integers(0, 2**16))
def test_ties_do_not_matter(case: EieCase, seed: int) -> None:
    image = eie_image(case.codes, case.config, bias=case.bias)
    reference, twin = run_both(case.config, image, case.activations, environment=shuffled(seed))
    assert reference.counts == twin.counts


@pytest.mark.parametrize("seed", range(20))
def test_a_push_is_seen_in_the_next_cycle_and_a_freed_slot_too(seed: int) -> None:
    env = shuffled(seed)()
    queue = BroadcastChannel(env, 1, 1, ("reader", "a letter"))
    log = []

    def writer() -> Any:
        for item in "ab":
            yield queue.room()
            queue.push(item)
            log.append(("push", item, env.now))
            yield env.timeout(1)

    def reader() -> Any:
        for _ in range(2):
            item = yield queue.pop(0)
            log.append(("pop", item, env.now))
            yield env.timeout(1)

    env.run(env.all_of([env.process(writer()), env.process(reader())]))
    # a: pushed in 0, seen and taken in 1; its slot is free in 2, when b is pushed.
    assert sorted(log, key=lambda entry: entry[2]) == [
        ("push", "a", 0), ("pop", "a", 1), ("push", "b", 2), ("pop", "b", 3)
    ]  # fmt: skip


def test_a_deadlock_says_who_waits() -> None:
    env = simpy.Environment()
    queue = BroadcastChannel(env, 2, 1, ("PE", "an activation"))

    def reader(number: int) -> Any:
        yield queue.pop(number)

    done = env.all_of([env.process(reader(k)) for k in range(2)])
    with pytest.raises(DeadlockError, match="PE 0 waits for an activation; PE 1 waits"):
        run_until(env, done, queue.describe_waiters)
