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
