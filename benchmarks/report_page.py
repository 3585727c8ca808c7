"""Size and opening time of a report: `python -m benchmarks.report_page [--layers N] [--chips N] [--keep FILE]`.

The time to open is Chromium's own, from the start of the navigation until the table can be used, and until the last
chart is drawn; medians of several openings.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import accelsim
from accelsim.report.describe import describe
from accelsim.report.frame import chart_library
from accelsim.report.html import page
from benchmarks.browser import chromium, missing, open_report

OPENINGS = 5


def many_layers(layers: int) -> accelsim.Network:
    """Return a network of this many small layers."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(8, 64, (layers, 2))
    return accelsim.Network(
        f"{layers} layers",
        [
            accelsim.Layer.linear(
                f"block{number // 8}.fc{number % 8}", draw.integers(0, 2, size), activations=draw.random(size[1])
            )
            for number, size in enumerate(sizes)
        ],
    )


def main() -> None:
    """Print size, time to write and time to open."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=1000)
    parser.add_argument("--chips", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="write the page to this file")
    given = parser.parse_args()
    network = many_layers(given.layers)
    chips = [
        accelsim.load_hardware("eie-64pe-45nm", {"name": f"depth-{depth}", "engine.fifo_depth": depth})
        for depth in range(2, 2 + given.chips)
    ]
    results = accelsim.simulate(network, chips)
    start = time.perf_counter()
    chart_library()
    bundled = time.perf_counter()
    text = page(results, [describe(chip) for chip in chips], network)
    end = time.perf_counter()
    print(f"rows                  {len(results)}")
    print(f"size                  {len(text.encode()) / 2**20:.2f} MiB")
    print(f"chart library made    {bundled - start:.1f} s")
    print(f"page written          {end - bundled:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = given.keep or Path(folder) / "report.html"
        path.write_text(text, encoding="utf-8")
        if reason := missing():
            print(f"not opened: {reason}")
            return
        with chromium() as driver:
            drawn, usable = [], []
            for _ in range(OPENINGS):
                drawn.append(open_report(driver, path))
                usable.append(
                    driver.execute_script(
                        "return performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart"
                    )
                )
    print(f"table can be used     {statistics.median(usable) / 1e3:.2f} s")
    print(f"all charts drawn      {statistics.median(drawn) / 1e3:.2f} s")


if __name__ == "__main__":
    main()
