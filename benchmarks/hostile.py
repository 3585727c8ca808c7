"""Hostile inputs by the thousand: `python -m benchmarks.hostile --count 100000`.

Each is a kind and a number, which make the same files on any machine; `--kind KIND --first NUMBER --keep DIR` makes one
again. Anything but success or a refusal (exit code 2) counts, and: more than 2,000 characters in a refusal, a control
character, more than 2 GB, more than 5 s of CPU beyond what was announced, a file that ran code, one left half-written.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from hostile import kinds
from hostile.harness import Result, run

MOST_SECONDS = 5.0
ANNOUNCED = re.compile(r"about ([\d,.e+]+|a) (second|minute|hour|day|year)")
"""What a command says of the time that it will take."""
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "year": 365 * 86400}
SHOWN = 3
"""Cases of a fault that are shown."""


def main() -> None:
    """Run the inputs that the command line asks for, and print each fault once with some of its cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="inputs in all")
    parser.add_argument("--kind", action="append", choices=kinds.names(), help="only this kind; may be repeated")
    parser.add_argument("--first", type=int, default=0, help="the number of the first of each kind")
    parser.add_argument("--keep", type=Path, help="only write the files of the first case here, and print its command")
    asked = parser.parse_args()
    chosen = asked.kind or kinds.names()
    if asked.keep is not None:
        asked.keep.mkdir(parents=True)
        print("cd", asked.keep, "&& accelsim", *map(repr, kinds.make(chosen[0], asked.first, asked.keep)))
        return
    found = _run(list(_cases(chosen, asked.first, asked.count)))
    sys.exit(1 if found else 0)


def _run(cases: list[tuple[str, int]]) -> dict[str, list[Result]]:
    """Run cases, print what became of them, also where Ctrl-C ends it, and return those of each fault."""
    began = time.monotonic()
    found: dict[str, list[Result]] = defaultdict(list)
    codes: dict[str, Counter[str]] = defaultdict(Counter)
    slowest = largest = longest = Result("", 0, 0, [])
    try:
        for done, result in enumerate(run(cases), 1):
            codes[result.kind][f"exit {result.code}"] += 1
            slowest = max(slowest, result, key=lambda each: each.cpu_seconds)
            largest = max(largest, result, key=lambda each: each.added_bytes)
            longest = max(longest, result, key=lambda each: len(each.said) * (each.code == 2))
            for fault in (*result.faults, *_slow(result)):
                kind = re.sub(r"[\d,.]{2,}|'.*'", "..", fault) if " at " not in fault else fault.split(": ")[0]
                if len(found[kind]) < SHOWN:
                    print(f"{result}{'' if result.faults else fault}", flush=True)
                found[kind].append(result)
            if done % 1000 == 0:
                print(f"{done:,} of {len(cases):,} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("stopped")
    print()
    for kind, of_kind in codes.items():
        print(f"{kind}: {of_kind.total():,}, {', '.join(f'{count:,} x {code}' for code, count in of_kind.items())}")
    print(f"slowest {slowest.cpu_seconds:.1f} s of CPU ({slowest.kind}:{slowest.number})")
    print(f"largest {largest.added_bytes / 2**30:.2f} GiB ({largest.kind}:{largest.number})")
    print(f"longest refusal {len(longest.said):,} characters ({longest.kind}:{longest.number})")
    for fault, results in sorted(found.items(), key=lambda item: -len(item[1])):
        print(f"{len(results):6,} x {fault}: {', '.join(f'{each.kind}:{each.number}' for each in results[:SHOWN])}")
    return found


def _cases(chosen: list[str], first: int, count: int) -> Iterator[tuple[str, int]]:
    return itertools.islice(((kind, number) for number in itertools.count(first) for kind in chosen), count)


def _slow(result: Result) -> Iterator[str]:
    said = [
        (1 if much == "a" else float(much.replace(",", ""))) * UNITS[unit]
        for much, unit in ANNOUNCED.findall(result.said)
    ]
    if result.cpu_seconds > MOST_SECONDS + max(said, default=0.0):
        yield f"took {result.cpu_seconds:.1f} s of CPU"


if __name__ == "__main__":
    main()
