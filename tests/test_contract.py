"""Do the invariants hold for every machine and layer?"""

from __future__ import annotations

import numpy as np
from conftest import eie_image, run_both
from hypothesis import given
from strategies import EieCase, eie_cases


@given(eie_cases())
def test_every_cycle_of_every_pe_has_a_cause(case: EieCase) -> None:
    image = eie_image(case.codes, case.config, bias=case.bias)
    for outcome in run_both(case.config, image, case.activations):
        counts = outcome.counts
        assert len(counts.busy_cycles) == case.config.pes
        for k, busy in enumerate(counts.busy_cycles):
            stalls = [per_pe[k] for per_pe in counts.stall_cycles.values()]
            assert min(stalls) >= 0
            assert busy + sum(stalls) == counts.cycles


@given(eie_cases())
def test_work_is_conserved(case: EieCase) -> None:
    """Every weight of a non-zero input is multiplied once, whatever the machine."""
    image = eie_image(case.codes, case.config, bias=case.bias)
    _, twin = run_both(case.config, image, case.activations)
    work = sum(int(np.count_nonzero(case.codes[:, vector != 0])) for vector in case.activations)
    assert twin.counts.macs == twin.counts.actions["mac"] == work
    assert sum(twin.counts.busy_cycles) == work + twin.counts.padding_macs
    assert image.nonzeros == np.count_nonzero(case.codes)


@given(eie_cases())
def test_never_faster_than_a_roofline(case: EieCase) -> None:
    image = eie_image(case.codes, case.config, bias=case.bias)
    _, twin = run_both(case.config, image, case.activations)
    counts, actions = twin.counts, twin.counts.actions
    pes = case.config.pes
    assert counts.cycles >= max(counts.busy_cycles)  # one entry per PE and cycle
    assert counts.cycles * pes >= actions["ptr_reads"]  # one column per PE and cycle
    assert counts.cycles * pes >= actions["spmat_reads"]  # one row per PE and cycle
    assert actions["spmat_reads"] * case.config.entries_per_row >= sum(counts.busy_cycles)


@given(eie_cases())
def test_faster_hardware_is_never_slower(case: EieCase) -> None:
    """A deeper queue only ever removes a wait; it changes no count but stalls."""
    from dataclasses import replace

    deeper = replace(case.config, fifo_depth=case.config.fifo_depth + 3)
    _, before = run_both(case.config, eie_image(case.codes, case.config, bias=case.bias), case.activations)
    _, after = run_both(deeper, eie_image(case.codes, deeper, bias=case.bias), case.activations)
    assert after.counts.cycles <= before.counts.cycles
    assert after.counts.actions == before.counts.actions
