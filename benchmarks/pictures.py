"""Every picture of README.md and docs, drawn anew: `python -m benchmarks.pictures [--only NAME] [--check]`.

`--check` draws into a folder of its own what takes seconds and compares: pictures that are referred to but not listed
here, listed but not referred to, or different from what their command draws now are named, and the exit code is 1.
Without it pictures are replaced and docs/gallery.md is written.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.documents import ROOT, fill

IMAGES = ROOT / "docs" / "images"


class Picture(NamedTuple):
    """A file in docs/images, what it shows, and the commands that draw it, one after another with `&&`."""

    file: str
    caption: str
    command: str
    slow: bool = False
    """Not drawn by --check: takes long, or needs a program that not every machine has."""


STUDIES = "python -m benchmarks.eie_studies --images docs/images"
MEMORY = (
    "accelsim sweep memory-size --store memory.db && accelsim knobs memory.db "
    "--plot docs/images/exploration-effects.svg --heat-map docs/images/exploration-heat.svg"
)
CURVES = "python -m benchmarks.pruning_curves --draw --images docs/images"

STEPS = "python -m benchmarks.serving --images docs/images"

ALEXNET = "accelsim run alexnet --density 0.4 --csv r.csv --quiet"

PICTURES = (
    Picture(
        "eie-benchmarks.svg",
        "Nine pruned layers on EIE: what a processing element does with its cycles, and where the energy goes",
        "accelsim run eie-benchmarks --set engine.capacity=ignore --plot docs/images/eie-benchmarks.svg",
    ),
    Picture(
        "compare.svg",
        "Speed-up and energy saving of six granularities on a matched pair of chips",
        "accelsim compare lenet-300-100-digits-dense --hardware eie-matched-45nm,nm-matched-45nm --count-io "
        "--granularity fine,nm:2:4,vector:1x4,block:4x4,filter,channel --plot docs/images/compare.svg",
    ),
    Picture(
        "compare-squeezenet.svg",
        "Six granularities of SqueezeNet's 26 convolutions on three chips, one of which skips zero blocks",
        "accelsim compare squeezenet --hardware eie-64pe-45nm,edge-nm-16x16,edge-skip-16x16 "
        "--granularity fine,nm:2:4,vector:1x4,block:16x16,kernel,channel --plot docs/images/compare-squeezenet.svg",
        slow=True,
    ),
    Picture(
        "curve.svg",
        "Energy against sparsity of five granularities on a matched pair of chips",
        "accelsim curve lenet-300-100-digits-dense --hardware eie-matched-45nm,nm-matched-45nm --count-io "
        "--sparsity 0:0.95:0.05 --metric energy -o docs/images/curve.svg",
    ),
    Picture(
        "activations-kept.svg",
        "Energy of three pruned networks on EIE, with activations kept or computed again",
        "python -m benchmarks.activations_kept --images docs/images",
    ),
    Picture(
        "timeline.svg",
        "What the scan and six PEs do in the first cycles of a layer",
        "accelsim timeline lenet-300-100-digits --layer fc1 --to 200 --plot docs/images/timeline.svg",
    ),
    Picture(
        "cliff.svg",
        "Energy and time against sparsity where a network begins to fit on the chip",
        "python -m benchmarks.cliff --images docs/images",
        slow=True,
    ),
    Picture(
        "report.png",
        "The top of a report: SqueezeNet on two chips",
        "accelsim report squeezenet -o report.html && "
        "python -m benchmarks.browser report.html docs/images/report.png --height 1600",
        slow=True,
    ),
    Picture(
        "report-sweep.png",
        "The top of a report on a sweep: 160 variants of EIE",
        "accelsim sweep default --store results.db && accelsim report results.db --objective energy_pj,time_us && "
        "python -m benchmarks.browser report.html docs/images/report-sweep.png --height 1750",
        slow=True,
    ),
    Picture("pruning-schedules.svg", "Accuracy against sparsity: pruned in steps, at once, and not trained", CURVES),
    Picture("pruning-granularities.svg", "Accuracy against sparsity for each granularity", CURVES),
    Picture("pruning-criteria.svg", "Accuracy against sparsity for each criterion, without training", CURVES),
    Picture("accuracy-energy.svg", "Accuracy against simulated energy for each granularity", CURVES),
    Picture("accuracy-latency.svg", "Accuracy against simulated latency for each granularity", CURVES),
    Picture(
        "widths.svg",
        "Accuracy of networks of five widths against sparsity, and against the weights that are left",
        "python -m benchmarks.widths --draw --images docs/images",
    ),
    Picture(
        "chosen-ratios.svg",
        "Accuracy against latency: the same sparsity in every layer, and chosen by layer",
        "python -m benchmarks.chosen_ratios --images docs/images",
        slow=True,
    ),
    Picture(
        "zeros.svg",
        "Where the zeros of a network pruned 2:4 are, and its weights before and after",
        "accelsim prune lenet-300-100-digits-dense --granularity nm:2:4 -o pruned.safetensors && "
        "accelsim inspect pruned.safetensors --before lenet-300-100-digits-dense --plot docs/images/zeros.svg",
    ),
    Picture(
        "figure-energy.svg",
        "Energy of each layer by component",
        f"{ALEXNET} && accelsim plot r.csv energy -o docs/images/figure-energy.svg",
    ),
    Picture(
        "figure-cycles.svg",
        "Cycles of each layer by work and stall",
        f"{ALEXNET} && accelsim plot r.csv cycles -o docs/images/figure-cycles.svg",
        slow=True,
    ),
    Picture(
        "figure-roofline.svg",
        "Every layer under the ceilings of its chip",
        f"{ALEXNET} && accelsim plot r.csv roofline -o docs/images/figure-roofline.svg",
        slow=True,
    ),
    Picture(
        "silicon-measured.svg",
        "Steps of a language model on six boards, predicted against measured, and what 2:4 buys them",
        STEPS,
    ),
    Picture(
        "silicon-break-even.svg",
        "What 2:4 buys a whole language model by tokens of a step, on six boards in two formats",
        STEPS,
    ),
    Picture(
        "silicon-stack.svg",
        "What a step of a language model is made of on six boards, dense next to 2:4",
        STEPS,
    ),
    Picture(
        "figure-load-balance.svg",
        "How busy each PE is in each layer",
        "accelsim run eie-benchmarks --set engine.capacity=ignore --units u.csv --quiet "
        "&& accelsim plot u.csv load-balance -o docs/images/figure-load-balance.svg",
    ),
    Picture(
        "figure-queue.svg",
        "How full each activation queue is over time",
        "accelsim timeline lenet-300-100-digits --layer fc1 -o q.json "
        "&& accelsim plot q.json queue -o docs/images/figure-queue.svg",
    ),
    Picture(
        "figure-bandwidth.svg",
        "What moves between DRAM and the chip over time",
        "accelsim timeline alexnet-fc --layer fc8 --density 0.4 --set memory.timing=exact --to 20000 -o b.json "
        "&& accelsim plot b.json bandwidth -o docs/images/figure-bandwidth.svg",
    ),
    Picture(
        "figure-storage.svg",
        "Size of each layer in each format",
        "accelsim plot lenet-300-100-digits storage -o docs/images/figure-storage.svg",
    ),
    Picture(
        "figure-operations.svg",
        "Energy of one operation, from DRAM to an add",
        "accelsim plot eie-64pe-45nm operations -o docs/images/figure-operations.svg",
    ),
    Picture(
        "figure-pareto.svg",
        "Granularities and chips by energy and score, and the front",
        "accelsim curve lenet-300-100-digits-dense --sparsity 0.3,0.6,0.9 --evaluate digits --csv c.csv "
        "&& accelsim plot c.csv pareto --x energy_pj --y score -o docs/images/figure-pareto.svg",
    ),
    Picture(
        "figure-accuracy-energy.svg",
        "Accuracy against energy of pruned networks",
        "accelsim curve lenet-300-100-digits-dense --sparsity 0:0.95:0.05 --granularity fine,vector:1x4,channel "
        "--evaluate digits --csv a.csv "
        "&& accelsim plot a.csv accuracy-energy -o docs/images/figure-accuracy-energy.svg",
    ),
    Picture(
        "exploration-front.svg",
        "160 variants of EIE within an area, those Pareto-optimal in energy and time marked",
        "accelsim sweep default --store sweep.db && "
        "accelsim pareto sweep.db --constraint 'area_mm2 <= 20' --plot docs/images/exploration-front.svg",
    ),
    Picture("exploration-effects.svg", "Effect of memory size and sparsity on energy", MEMORY, slow=True),
    Picture("exploration-heat.svg", "Energy by memory size and sparsity: where the weights fit", MEMORY, slow=True),
    Picture("eie-fig8-queue-depth.svg", "EIE Fig. 8: load balance against queue depth", STUDIES, slow=True),
    Picture("eie-fig9-row-width.svg", "EIE Fig. 9: reads, energy of a read and of all, by width", STUDIES, slow=True),
    Picture("eie-fig11-speed-up.svg", "EIE Fig. 11: speed-up against PEs", STUDIES, slow=True),
    Picture("eie-fig12-real-work.svg", "EIE Fig. 12: real work over total work against PEs", STUDIES, slow=True),
    Picture("eie-fig13-load-balance.svg", "EIE Fig. 13: load balance against PEs", STUDIES, slow=True),
)


def references() -> dict[str, set[str]]:
    """Return the pictures that README.md and docs show, each with the documents that do; the gallery shows all."""
    found: dict[str, set[str]] = {}
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        if document.name != "gallery.md":
            for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
                picture = Path(os.path.normpath(document.parent / target))
                found.setdefault(os.path.relpath(picture, IMAGES), set()).add(document.name)
    return found


def list_problems(listed: Iterable[str], shown: dict[str, set[str]]) -> list[str]:
    """Return pictures that are shown and not listed, or listed and not shown."""
    listed = set(listed)
    unknown = [f"{name}: shown in {', '.join(sorted(shown[name]))}, not listed" for name in sorted({*shown} - listed)]
    return unknown + [f"{name}: listed, and shown nowhere" for name in sorted(listed - {*shown})]


def draw(pictures: Iterable[Picture], folder: Path) -> None:
    """Run the commands of these pictures, each once, in a folder in which they find docs/images."""
    (folder / "docs" / "images").mkdir(parents=True)
    commands = dict.fromkeys(picture.command for picture in pictures)
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda command: _run(command, folder), commands):
            print(done, flush=True)


def _run(commands: str, folder: Path) -> str:
    programs = {"accelsim": [sys.executable, "-m", "accelsim"], "python": [sys.executable]}
    paths = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
    for command in commands.split(" && "):
        program, *arguments = shlex.split(command)
        done = subprocess.run(
            [*programs[program], *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": paths},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{command}\n{done.stdout}{done.stderr}")
    return commands


NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
IDENTIFIER = re.compile(r"(?<=[\"#])[A-Za-z]*[0-9a-f]{10}(?=[\")])")
TOLERANCE_PT = 0.05


def same_drawing(one: str, other: str) -> bool:
    """Return whether two SVG of matplotlib show the same: all but rounding, or the texts if its versions differ."""
    if one == other:
        return True
    versions = {re.search(r"Matplotlib v([\d.]+)", svg)[1] for svg in (one, other)}  # type: ignore[index]
    if len(versions) > 1:
        return _texts(one) == _texts(other)
    one, other = (IDENTIFIER.sub("", svg) for svg in (one, other))
    return NUMBER.sub("", one) == NUMBER.sub("", other) and all(
        abs(float(a) - float(b)) <= TOLERANCE_PT
        for a, b in zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    )


def _texts(svg: str) -> list[str]:
    return re.findall(r"<!-- (.*?) -->", svg)


def gallery() -> str:
    """Return the pictures with their captions and commands, each command once."""
    lines: list[str] = []
    for command in dict.fromkeys(picture.command for picture in PICTURES):
        for picture in PICTURES:
            if picture.command == command:
                lines += [f"![{picture.caption}](images/{picture.file})\n", f"{picture.caption}.\n"]
        lines += ["```sh", command.replace(" --", " \\\n    --") if len(command) > 80 else command, "```\n"]
    return "\n".join(lines).rstrip()


def check(pictures: Iterable[Picture]) -> list[str]:
    """Return what is wrong with the list, the gallery, and those of these pictures that are drawn in seconds."""
    problems = list_problems((picture.file for picture in PICTURES), references())
    problems += [
        f"docs/{name}: run python -m benchmarks.pictures" for name in fill({"gallery": gallery()}, write=False)
    ]
    quick = [picture for picture in pictures if not picture.slow]
    with tempfile.TemporaryDirectory() as folder:
        draw(quick, Path(folder))
        for picture in quick:
            drawn, kept = (root / "docs" / "images" / picture.file for root in (Path(folder), ROOT))
            if not kept.is_file() or not same_drawing(*(path.read_text(encoding="utf-8") for path in (drawn, kept))):
                problems.append(f"{picture.file}: is not what this draws now: {picture.command}")
    return problems


def main() -> int:
    """Draw pictures, or check them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("--only", metavar="NAME", action="append", help="this picture of docs/images; several times")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - {picture.file for picture in PICTURES}:
        parser.error(f"--only {', '.join(unknown)}: not listed; known: {', '.join(each.file for each in PICTURES)}")
    pictures = [picture for picture in PICTURES if not options.only or picture.file in options.only]
    if options.check:
        problems = check(pictures)
        print("\n".join(problems) or "every picture is listed, shown, and as its command draws it")
        return int(bool(problems))
    with tempfile.TemporaryDirectory() as folder:
        draw(pictures, Path(folder))
        for picture in pictures:
            (IMAGES / picture.file).write_bytes((Path(folder) / "docs" / "images" / picture.file).read_bytes())
    fill({"gallery": gallery()}, write=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
