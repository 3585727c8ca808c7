"""Published figures that the simulator is held against, each with its source. None of them is an input of the model."""

from __future__ import annotations

from typing import NamedTuple


class PublishedLayer(NamedTuple):
    """A benchmark layer of EIE (ISCA 2016) with its measured time and the densities that the paper's figures imply.

    `real_macs_pct`: real work over dense work, from the theoretical time of Table IV (entries, padding included) and
    the share of real work in Fig. 12. `activation_pct`: that, over the weight density which gives Fig. 12's padding at
    one PE. Table III's own densities are averages over images; the timed image was another.
    """

    name: str
    inputs: int
    outputs: int
    actual_us: float
    real_macs_pct: float
    activation_pct: float


EIE_LAYERS = (
    PublishedLayer("Alex-6", 9216, 4096, 30.3, 3.224, 36.0),
    PublishedLayer("Alex-7", 4096, 4096, 12.2, 2.996, 32.8),
    PublishedLayer("Alex-8", 4096, 1000, 9.9, 11.125, 49.3),
    PublishedLayer("VGG-6", 25088, 4096, 34.4, 0.925, 23.4),
    PublishedLayer("VGG-7", 4096, 4096, 8.7, 1.529, 40.2),
    PublishedLayer("VGG-8", 4096, 1000, 8.4, 9.125, 46.6),
    PublishedLayer("NT-We", 4096, 600, 8.0, 10.833, 97.9),
    PublishedLayer("NT-Wd", 600, 8791, 13.9, 10.411, 100.0),
    PublishedLayer("NT-LSTM", 1201, 2400, 7.5, 10.715, 100.0),
)
"""Table IV, row "actual time" of EIE with 64 PEs at 800 MHz."""

EIE_THEORETICAL_US = {
    "Alex-6": 28.1, "Alex-7": 11.7, "Alex-8": 8.9, "VGG-6": 28.1, "VGG-7": 7.9, "VGG-8": 7.3, "NT-We": 5.2,
    "NT-Wd": 13.0, "NT-LSTM": 6.5,
}  # fmt: skip
"""Table IV, row "theoretical time": entries, padding included, over 64 PEs x 800 MHz; its share of the actual time is
the load balance."""

EIE_REAL_WORK_PCT = {
    "Alex-6": 84.6, "Alex-7": 83.9, "Alex-8": 100.0, "VGG-6": 66.1, "VGG-7": 63.4, "VGG-8": 100.0, "NT-We": 100.0,
    "NT-Wd": 82.5, "NT-LSTM": 92.8,
}  # fmt: skip
"""Fig. 12 at 64 PEs: real work over total work."""

EIE_READ_PJ = {32: 13.7, 64: 18.8, 128: 29.2, 256: 53.6}
"""Fig. 9, right panel: energy per read of 128 KB that it implies, by width in bits."""

EIE_PE_MEMORY_MW = 5.416
"""Table II: memory of one PE."""

EIE_PE_CONSTANTS_MW = 1.874 + 1.026 + 0.841
"""Table II: clock network, registers and combinational logic of one PE."""

EIE_LNZD_MW = 21 * 0.023
"""Section VI: 21 nodes of leading-non-zero detection."""

EIE_POWER_MW = 590.0
"""Table V: 64 PEs."""

EIE_AREA_MM2 = 40.8
"""Table V: 64 PEs."""


class StreamedDram(NamedTuple):
    """What is published of a kind of DRAM that streams, pins included: pJ per bit, lowest and highest."""

    part: str
    """Ours of this kind."""
    low_pj_per_bit: float | None
    """None: nothing was found that has the pins in it."""
    high_pj_per_bit: float | None
    source: str
    """With what it is of."""


DRAM_ALL_IN = (
    StreamedDram("ddr3-1600", 54.0, 70.0, "modules of 1.5 V: Intel at IDF 2011 (press); Malladi et al., ISCA 2012"),
    StreamedDram("ddr4-2400", 20.3, 20.3, "DDR3 and DDR4: Jouppi et al., ISCA 2021 (from memory)"),
    StreamedDram("ddr4-3200", 20.3, 20.3, "DDR3 and DDR4: Jouppi et al., ISCA 2021 (from memory)"),
    StreamedDram("lpddr3-1600", None, None, "none found; LPDDR2: 40, Malladi et al. (secondary)"),
    StreamedDram("lpddr4-3200", 8.0, 14.0, "Accelergy's default; Ha, Stanford 2018, simulated (secondary)"),
    StreamedDram("lpddr5-6400", None, None, "none found"),
    StreamedDram("gddr5-6000", 14.0, 14.0, "O'Connor et al., MICRO 2017 (secondary)"),
    StreamedDram("gddr6-14000", 7.5, 7.5, 'device: Micron, "Ultra-bandwidth solutions"'),
    StreamedDram("hbm1-1000", 7.0, 7.0, "HyGCN, HPCA 2020 (secondary)"),
    StreamedDram("hbm2-2000", 3.92, 5.16, "O'Connor et al.; reading, measured on a U55C: CMU-SAFARI (both secondary)"),
)
"""Figures that were read or quoted of each kind with currents; none was used to price it."""


class TpuWorkload(NamedTuple):
    """A workload of TPU v1 (Jouppi et al., ISCA 2017) with layers that follow from what is published of it.

    `useful`: useful multiply-accumulates by peak as counters have it, Table 3, row 2; `tops`: measured in production,
    row 9, of a peak of 92. Layers are equal: weights by layers of Table 1 give their side; those of a convolution
    follow from operations per weight byte, `batch` x `board`^2.
    """

    name: str
    side: int
    """Inputs and outputs of a layer, or channels."""
    batch: int
    useful: float
    tops: float
    said: str
    board: int = 0
    """Height and width of a convolution's map; 0: fully connected."""


TPU_V1 = (
    TpuWorkload("MLP0", 2000, 200, 0.125, 12.3, "5 of 2000 x 2000 (20 M weights), batch 200"),
    TpuWorkload("MLP1", 1118, 168, 0.094, 9.7, "4 of 1118 x 1118 (5 M), batch 168"),
    TpuWorkload("LSTM0", 1472, 64, 0.082, 3.7, "24 of 1472 x 1472 (52 M), batch 64"),
    TpuWorkload("LSTM1", 959, 96, 0.063, 2.8, "37 of 959 x 959 (34 M), batch 96"),
    TpuWorkload("CNN0", 256, 8, 0.782, 86.0, "16 of 3 x 3 x 256 x 256 on 19 x 19, batch 8", board=19),
)
"""Table 1 (layers, weights, batch, operations per weight byte) and Table 3. No shape of CNN1 is known."""

EYERISS_FRAMES_PER_S, EYERISS_WORDS_PER_MAC = 35.0, 0.0029
"""AlexNet's convolutions in batches of 4 on Eyeriss: Chen et al., JSSC 2017, abstract."""
