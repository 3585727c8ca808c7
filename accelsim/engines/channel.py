"""The clock discipline of the specifications: processes talk through registered channels and nothing else.

A cycle number names the state after a clock edge. What a process decides on the state of cycle t acts at the edge into
t + 1: an item pushed in t is seen in t + 1, a slot freed in t is free in t + 1. Nothing that happens within a cycle can
be seen in it, so the order in which SimPy runs the processes of one cycle never matters.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import simpy

from accelsim.errors import DeadlockError


class BroadcastChannel:
    """A bounded queue per reader, written together: an item is pushed to all of them or to none."""

    def __init__(self, env: simpy.Environment, readers: int, slots: int, names: tuple[str, str]) -> None:
        """`names`: of a reader and of an item, as in ("PE", "an activation"), for the message of a deadlock."""
        self.env = env
        self._reader, self._item = names
        self.slots = slots
        self._queues = [_Queue() for _ in range(readers)]
        self._waiting: list[simpy.Event | None] = [None] * readers
        self._writer: simpy.Event | None = None

    def is_full(self) -> bool:
        """Return whether any queue is full, as seen in this cycle."""
        return any(queue.occupancy(self._now) >= self.slots for queue in self._queues)

    def room(self) -> simpy.Event:
        """Return an event that happens in the first cycle, this one included, in which no queue is seen full."""
        event = self.env.event()
        if self.is_full():
            self._writer = event
            self._next_cycle(self._admit)  # a slot may already have been freed in this cycle
        else:
            event.succeed()
        return event

    def push(self, item: Any) -> None:
        """Put an item into every queue at the next clock edge."""
        for reader, queue in enumerate(self._queues):
            queue.push(item, self._now)
            if self._waiting[reader] is not None:
                self._next_cycle(lambda reader=reader: self._deliver(reader))

    def pop(self, reader: int) -> simpy.Event:
        """Return an event that happens, with the oldest item, in the first cycle in which the queue is seen filled."""
        event = self.env.event()
        self._waiting[reader] = event
        if self._queues[reader].occupancy(self._now, visible=True):
            self._deliver(reader)
        elif self._queues[reader].pushed_in(self._now):
            self._next_cycle(lambda: self._deliver(reader))
        return event

    def occupancy(self, reader: int) -> int:
        """Return the slots of one queue that are in use, as seen in this cycle."""
        return self._queues[reader].occupancy(self._now)

    def describe_waiters(self) -> list[str]:
        """Who waits for what, for the message of a deadlock."""
        waiters = [
            f"{self._reader} {k} waits for {self._item}" for k, event in enumerate(self._waiting) if event is not None
        ]
        return (["the broadcast waits for room in a full queue"] if self._writer is not None else []) + waiters

    @property
    def _now(self) -> int:
        return int(self.env.now)

    def _deliver(self, reader: int) -> None:
        event = self._waiting[reader]
        if event is None:
            return
        self._waiting[reader] = None
        event.succeed(self._queues[reader].pop(self._now))
        if self._writer is not None:
            self._next_cycle(self._admit)

    def _admit(self) -> None:
        if self._writer is not None and not self.is_full():
            event, self._writer = self._writer, None
            event.succeed()

    def _next_cycle(self, action: Any) -> None:
        edge = self.env.timeout(1)
        edge.callbacks.append(lambda _: action())


class _Queue:
    """Items with the cycle of the last push and pop, so that a look within that cycle sees the state before it."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._last_push: int | None = None
        self._last_pop: int | None = None

    def push(self, item: Any, now: int) -> None:
        self._items.append(item)
        self._last_push = now

    def pop(self, now: int) -> Any:
        self._last_pop = now
        return self._items.popleft()

    def pushed_in(self, now: int) -> bool:
        """Whether an item was pushed in this cycle, to be seen in the next."""
        return self._last_push == now

    def occupancy(self, now: int, *, visible: bool = False) -> int:
        """Slots in use as seen in cycle `now`; `visible`: items that a reader can take."""
        pushed_now = self._last_push == now
        freed_now = self._last_pop == now and not visible
        return len(self._items) - pushed_now + freed_now


def run_until(env: simpy.Environment, done: simpy.Event, describe: Any) -> None:
    """Run until the event; an empty schedule before it is a deadlock, and an error that says who waits for what."""
    try:
        env.run(until=done)
    except RuntimeError as error:
        if "No scheduled events left" not in str(error):
            raise
        raise DeadlockError(f"deadlock in cycle {env.now}: " + "; ".join(describe())) from None
