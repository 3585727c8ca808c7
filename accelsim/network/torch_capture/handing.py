"""What a function hands over one by one, to whoever takes it: the function waits until the next is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Semaphore, Thread
from typing import TypeVar

T = TypeVar("T")


class _Stopped(BaseException):
    """Nobody wants more."""


def handed_over(run: Callable[[Callable[[T], None]], None]) -> Iterator[T]:
    """Yield what `run` gives to the function that it is called with.

    It runs in a thread of its own, and only while the next one is waited for, so that one item exists at a time. What
    it raises is raised here; it is ended where the iteration is.
    """
    wanted, made = Semaphore(0), Semaphore(0)
    items: list[T] = []
    errors: list[BaseException] = []
    stopped = False

    def put(item: T) -> None:
        items.append(item)
        del item
        made.release()
        wanted.acquire()
        if stopped:
            raise _Stopped

    def work() -> None:
        wanted.acquire()
        try:
            if not stopped:
                run(put)
        except _Stopped:
            pass
        except BaseException as error:
            errors.append(error)
        finally:
            made.release()

    thread = Thread(target=work, name="forward pass", daemon=True)
    thread.start()
    try:
        while True:
            wanted.release()
            made.acquire()
            if not items:
                break
            yield items.pop()
    finally:
        stopped = True
        wanted.release()
        thread.join()
    if errors:
        raise errors[0]
