"""What a DRAM part is: geometry, timings, currents and the controller in front of it, as checked data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.config import CHECKED, Count, Hashed, NonNegative, Positive
from accelsim.errors import raise_if_any
from accelsim.parts.bandwidth import PublishedEnergy

BLOCK_BYTES = 64
"""The unit of a request: one access moves one block."""

MAX_BANKS = 1024
"""Banks of one channel, ranks included; the twin looks at each of them in turn."""

MAX_BLOCKS = 2**48
"""Blocks of all channels: an index has 63 bits, of which arithmetic on it takes some."""

MAX_CLOCKS = 2**24
"""Clocks that a timing may take: a thousand refresh intervals, far from where counters of 63 bits could overflow."""

MAX_CHANNELS = 1024
"""Each is simulated on its own, one after the other."""

Depth = Annotated[int, Field(strict=True, ge=1, le=4096)]
"""Entries of a queue."""

FIELDS = {
    "Ro": "rows",
    "Ba": "banks_per_group",
    "Bg": "bank_groups",
    "Co": "columns",
    "Ra": "ranks",
    "Ch": "channels",
}
"""Letters of an address map, and the size of the field that each stands for."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DramGeometry:
    """How many channels, ranks, bank groups, banks and rows, and the devices that work in lockstep."""

    source: str
    """Where these numbers are from."""
    channels: Annotated[int, Field(strict=True, ge=1, le=MAX_CHANNELS)] = 1
    """Independent channels of one part."""
    ranks: Count = 1
    """Ranks of a channel, which share its buses."""
    bank_groups: Count = 1
    """Bank groups of a rank."""
    banks_per_group: Count
    """Banks of a bank group."""
    rows: Count
    """Rows of a bank."""
    row_bytes: Count
    """Of a whole rank: all devices in lockstep."""
    devices: Count
    """Devices in lockstep that make up one rank of one channel."""

    def __post_init__(self) -> None:
        raise_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        for key in ("channels", "ranks", "bank_groups", "banks_per_group", "rows", "row_bytes"):
            value = getattr(self, key)
            if value & (value - 1):
                yield f"{key}: must be a power of two, since it is a field of the address (got {value})"
        if self.row_bytes < BLOCK_BYTES:
            yield f"row_bytes: must hold at least one block of {BLOCK_BYTES} bytes (got {self.row_bytes})"
        if self.banks > MAX_BANKS:
            yield f"banks_per_group: a channel has {self.banks} banks, ranks included; give it at most {MAX_BANKS}"
        if self.capacity_blocks > MAX_BLOCKS:
            most = MAX_BLOCKS * BLOCK_BYTES / 2**30
            yield f"rows: all channels together have {self.capacity_gib:g} GiB; give them at most {most:g}"

    @property
    def columns(self) -> int:
        """Blocks of one row."""
        return self.row_bytes // BLOCK_BYTES

    @property
    def groups(self) -> int:
        """Bank groups of one channel, all ranks together."""
        return self.ranks * self.bank_groups

    @property
    def banks(self) -> int:
        """Banks of one channel, all ranks together; bank b lies in group b // banks_per_group."""
        return self.groups * self.banks_per_group

    @property
    def capacity_blocks(self) -> int:
        """Blocks of all channels."""
        return self.channels * self.banks * self.rows * self.columns

    @property
    def capacity_gib(self) -> float:
        """Size of all channels."""
        return self.capacity_blocks * BLOCK_BYTES / 2**30


MOST_REFRESHES = 100
"""Within a gap between two commands: each access would wait for as many. Those of data sheets are shorter than one."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DramTiming:
    """The constraints between commands in ns, as a data sheet gives them; `_s` across bank groups, `_l` within one."""

    source: str
    """Where these numbers are from."""
    clock_ns: Positive
    """Of the command bus."""
    burst_ns: Positive
    """Data bus time of one block."""
    cl_ns: Positive
    """Read to its first data."""
    cwl_ns: Positive
    """Write to its first data."""
    t_rcd_rd_ns: Positive
    """Activate to read."""
    t_rcd_wr_ns: Positive
    """Activate to write."""
    t_rp_ns: Positive
    """Precharge to activate."""
    t_ras_ns: Positive
    """Activate to precharge."""
    t_rc_ns: Positive
    """Activate to activate of the same bank."""
    t_ccd_s_ns: Positive
    """Read to read or write to write, in another bank group."""
    t_ccd_l_ns: Positive
    """The same within one bank group."""
    t_rrd_s_ns: Positive
    """Activate to activate of a bank in another group."""
    t_rrd_l_ns: Positive
    """The same within one bank group."""
    t_faw_ns: Positive
    """Window of at most four activates of a rank."""
    t_32aw_ns: NonNegative = 0.0
    """Window of 32 activates; 0: the part has none."""
    t_rfc_ns: Positive
    """Refresh to the next command of its rank."""
    t_refi_ns: Positive
    """From one refresh to the next."""
    t_wr_ns: Positive
    """Last data written to precharge."""
    t_wtr_s_ns: NonNegative
    """Last data written to a read in another bank group."""
    t_wtr_l_ns: NonNegative
    """The same within one bank group."""
    t_rtp_ns: Positive
    """Read to precharge."""
    t_rtrs_ns: NonNegative
    """Bus turnaround: read to write, and between ranks."""
    t_ppd_ns: NonNegative = 0.0
    """Precharge to precharge of another bank; 0: the part has no such gap."""
    t_xp_ns: NonNegative = 0.0
    """From leaving power-down to the first command; 0: unknown, so that the rank cannot be powered down."""

    def __post_init__(self) -> None:
        raise_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        for low, high in (
            ("t_ras_ns", "t_rc_ns"),
            ("t_rrd_s_ns", "t_faw_ns"),
            ("t_faw_ns", "t_32aw_ns"),
            ("t_ccd_s_ns", "t_ccd_l_ns"),
            ("t_rrd_s_ns", "t_rrd_l_ns"),
            ("t_wtr_s_ns", "t_wtr_l_ns"),
        ):
            short, long = getattr(self, low), getattr(self, high)
            if short > long and not (high == "t_32aw_ns" and long == 0):
                yield f"{high}: must be at least {low} = {short:g} (got {long:g}); check both in the data sheet"
        written = self.t_rcd_wr_ns + self.cwl_ns + self.burst_ns + self.t_wr_ns
        read = self.t_rcd_rd_ns + max(self.cl_ns + self.burst_ns, self.t_rtp_ns)
        busy = self.t_rfc_ns + self.t_xp_ns + self.t_rc_ns + max(written, read) + self.t_rp_ns
        if self.t_refi_ns < busy:
            yield (
                f"t_refi_ns: must leave time for an access between refreshes, {busy:g} ns with tRFC "
                f"(got {self.t_refi_ns:g}); check t_refi_ns and t_rfc_ns in the data sheet"
            )
        for key in ("t_ccd_l_ns", "t_rrd_l_ns", "t_faw_ns", "t_32aw_ns", "t_wtr_l_ns", "t_rtrs_ns", "t_ppd_ns"):
            ns = getattr(self, key)
            if ns > MOST_REFRESHES * self.t_refi_ns:
                yield (
                    f"{key}: is more than {MOST_REFRESHES} times as long as the time between refreshes, t_refi_ns = "
                    f"{self.t_refi_ns:g} (got {ns:g}); check both in the data sheet"
                )
        for key in ("burst_ns", "cl_ns", "t_rp_ns"):
            ns = getattr(self, key)
            if ns <= self.clock_ns / 2:
                yield f"{key}: is no more than half a clock of {self.clock_ns:g} ns (got {ns:g}); is it in ns?"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DramCurrents:
    """Supply voltage and data-sheet currents of one device: what a command and a clock of standby draw."""

    vdd_v: Positive
    """Supply of the core."""
    idd0_ma: Positive
    """Activate and precharge of one bank, again and again."""
    idd2n_ma: NonNegative
    """Standby, all banks precharged."""
    idd3n_ma: NonNegative
    """Standby, a row open."""
    idd4r_ma: Positive
    """Reads, burst after burst."""
    idd4w_ma: Positive
    """Writes, burst after burst."""
    idd5_ma: Positive
    """Refreshes, one after another."""
    idd2p_ma: NonNegative | None = None
    """In precharge power-down; None: not published."""
    idd3p_ma: NonNegative | None = None
    """In active power-down."""
    source: str
    """The data sheet, or whose parameter set it is."""

    def __post_init__(self) -> None:
        raise_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        for key in ("idd4r_ma", "idd4w_ma", "idd5_ma"):
            if getattr(self, key) <= self.idd3n_ma:
                yield (
                    f"{key}: must be above idd3n_ma = {self.idd3n_ma:g} (got {getattr(self, key):g}), or the command "
                    "would cost less than nothing; check both in the data sheet"
                )
        for key, standby in (("idd2p_ma", "idd2n_ma"), ("idd3p_ma", "idd3n_ma")):
            powered_down, up = getattr(self, key), getattr(self, standby)
            if powered_down is not None and powered_down > up:
                yield f"{key}: must be at most {standby} = {up:g} (got {powered_down:g}); check both in the data sheet"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DramIo:
    """What data pay on their way over the pins, apart from the core: energies per bit, or currents of their supply.

    Energies are those of the whole interface, whichever end pays; currents those of one device during a burst.
    """

    read_pj_per_bit: NonNegative | None = None
    """Of data that are read."""
    write_pj_per_bit: NonNegative | None = None
    """Of data that are written."""
    vddq_v: Positive | None = None
    """Supply of the data pins."""
    idd4r_ma: NonNegative | None = None
    """During the burst of a read."""
    idd4w_ma: NonNegative | None = None
    """During the burst of a write."""
    derived: Annotated[bool, Field(strict=True)] = False
    """Not published for this kind of part: worked out from voltages and resistances, or taken from a kind like it."""
    source: str
    """Where these numbers are from."""

    def __post_init__(self) -> None:
        raise_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        energies, currents = ("read_pj_per_bit", "write_pj_per_bit"), ("vddq_v", "idd4r_ma", "idd4w_ma")
        given = [key for key in (*energies, *currents) if getattr(self, key) is not None]
        if given not in (list(energies), list(currents)):
            said = ", ".join(given) or "none of them"
            yield f"give either {' and '.join(energies)}, or {', '.join(currents)} (got {said})"

    def block_pj(self, burst_ns: float, devices: int) -> tuple[float, float]:
        """Return what a block that is read pays, and one that is written, in pJ.

        burst_ns: the time of its data on the bus; devices: how many move it in lockstep.
        """
        if self.vddq_v is None:
            energies = self.read_pj_per_bit or 0.0, self.write_pj_per_bit or 0.0
            return energies[0] * 8 * BLOCK_BYTES, energies[1] * 8 * BLOCK_BYTES
        pj_per_ma = self.vddq_v * devices * burst_ns
        return pj_per_ma * (self.idd4r_ma or 0.0), pj_per_ma * (self.idd4w_ma or 0.0)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DramController:
    """Queue depths and policies of the memory controller of one channel."""

    read_queue: Depth = 32
    """Reads that wait, at most."""
    write_buffer: Depth = 32
    """Writes that wait, at most."""
    write_low: Annotated[int, Field(strict=True, ge=0, le=4096)] = 8
    """Above so many buffered writes, idle bank queues start a drain."""
    bank_queue: Depth = 8
    """Requests in the queue of one bank, at most."""
    hits_before_age: Count = 4
    """Row hits served after an activate before an older request may close the row under waiting hits."""
    page_policy: Literal["open", "closed"] = "open"
    """Closed: a row that no queued request needs is precharged at once, instead of waiting for the next conflict."""
    power_down_after_cycles: Annotated[int, Field(strict=True, ge=0, le=MAX_CLOCKS)] = 0
    """Clocks without work after which a rank is powered down; 0: never."""


class Cycles(NamedTuple):
    """The timings of a part in clocks: every value the controller uses, converted once."""

    burst: int
    read_latency: int
    rcd_rd: int
    rcd_wr: int
    rp: int
    ras: int
    rc: int
    rd_rd_s: int
    rd_rd_l: int
    rd_wr: int
    wr_rd_s: int
    wr_rd_l: int
    rtp: int
    wr_pre: int
    rrd_s: int
    rrd_l: int
    faw: int
    aw32: int
    ppd: int
    rfc: int
    refi: int
    rd_rd_rank: int
    wr_rd_rank: int
    wr_wr_rank: int
    xp: int


class AddressField(NamedTuple):
    """Where one field of an address map lies in a block index."""

    shift: int
    mask: int


class AddressMap(NamedTuple):
    """The fields of a block index: field = block >> shift & mask."""

    row: AddressField
    bank: AddressField
    group: AddressField
    column: AddressField
    rank: AddressField
    channel: AddressField


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class DramPart(Hashed):
    """A memory of one or more channels of one kind of DRAM device, with its controllers."""

    model: Literal["timed"] = "timed"
    """timed: commands are simulated one by one."""
    name: str
    """What it is called in results."""
    source: str
    """Where its numbers are from."""
    description: str = ""
    """What it is, in a sentence; `accelsim list` shows it."""
    address_map: str
    """Fields of a block index, most significant first, out of Ro Ba Bg Co Ra Ch."""
    dual_command_bus: Annotated[bool, Field(strict=True)] = False
    """True: row commands have a bus of their own, so that one can be issued beside a read or write (HBM)."""
    geometry: DramGeometry
    timing: DramTiming
    currents: DramCurrents | None = None
    """None where no usable currents are published: a replay on such a part has no energy."""
    published: PublishedEnergy | None = None
    """For an engine that streams, where there are no currents to price its commands by."""
    io: DramIo | None = None
    """None where nobody says what the pins cost: they are in no energy, and tables say unknown."""
    controller: DramController = DramController()

    def __post_init__(self) -> None:
        raise_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        for field in fields(self.timing):
            ns = getattr(self.timing, field.name)
            if isinstance(ns, float) and ns > MAX_CLOCKS * self.timing.clock_ns:
                yield (
                    f"timing.{field.name}: is more than {MAX_CLOCKS} clocks of {self.timing.clock_ns:g} ns "
                    f"(got {ns:g}); is it in ns?"
                )
        yield from (f"address_map: {problem}" for problem in _map_problems(self.address_map, self.geometry))
        if self.currents is not None and self.currents.idd0_ma * self.timing.t_rc_ns < (
            self.currents.idd3n_ma * self.timing.t_ras_ns
            + self.currents.idd2n_ma * (self.timing.t_rc_ns - self.timing.t_ras_ns)
        ):
            yield (
                f"currents.idd0_ma: is below the standby current over a row cycle, so that an activate would cost less "
                f"than nothing (got {self.currents.idd0_ma:g}); check it against idd2n_ma and idd3n_ma"
            )

        if self.io is not None and self.currents is None:
            yield "io: is not used without currents, since a published energy has the pins in it; remove it"
        if self.controller.power_down_after_cycles:
            yield from self._power_down_problems()

    def _power_down_problems(self) -> Iterator[str]:
        """JESD79-4, tRDPDEN and tWRPDEN: power-down starts when the last data is through and written."""
        after, cycles = self.controller.power_down_after_cycles, self.cycles
        least = max(cycles.read_latency + 1, cycles.wr_pre)
        if after < least:
            yield (
                f"controller.power_down_after_cycles: must leave {least} clocks for the last access to end "
                f"(got {after}); give 0 for no power-down"
            )
        if cycles.xp < 1:
            yield (
                f"timing.t_xp_ns: is needed for controller.power_down_after_cycles = {after} "
                f"(got {self.timing.t_xp_ns:g}); take tXP from the data sheet, or give 0 clocks for no power-down"
            )
        for key in ("idd2p_ma", "idd3p_ma"):
            if self.currents is not None and getattr(self.currents, key) is None:
                yield (
                    f"currents.{key}: is needed for controller.power_down_after_cycles = {after}; "
                    "take it from the data sheet, or give 0 clocks for no power-down"
                )

    @property
    def peak_bytes_per_ns(self) -> float:
        """Data rate of one channel that never pauses (the same number in GB/s)."""
        return BLOCK_BYTES / (self.cycles.burst * self.timing.clock_ns)

    @cached_property
    def cycles(self) -> Cycles:
        """The timings in clocks: the nearest whole number to ns / clock."""

        def clocks(ns: float) -> int:
            return round(ns / t.clock_ns)

        t = self.timing
        grouped = self.geometry.bank_groups > 1
        burst, cl, cwl, rtrs = map(clocks, (t.burst_ns, t.cl_ns, t.cwl_ns, t.t_rtrs_ns))
        column_s = max(burst, clocks(t.t_ccd_s_ns))
        write_end = cwl + burst
        return Cycles(
            burst=burst,
            read_latency=cl + burst,
            rcd_rd=clocks(t.t_rcd_rd_ns),
            rcd_wr=clocks(t.t_rcd_wr_ns),
            rp=clocks(t.t_rp_ns),
            ras=clocks(t.t_ras_ns),
            rc=clocks(t.t_rc_ns),
            rd_rd_s=column_s,
            # Parts with one bank group keep the short distance within it.
            rd_rd_l=max(burst, clocks(t.t_ccd_l_ns)) if grouped else column_s,
            rd_wr=max(1, cl + burst - cwl + rtrs),
            wr_rd_s=write_end + clocks(t.t_wtr_s_ns),
            wr_rd_l=write_end + clocks(t.t_wtr_l_ns if grouped else t.t_wtr_s_ns),
            rtp=clocks(t.t_rtp_ns),
            wr_pre=write_end + clocks(t.t_wr_ns),
            rrd_s=clocks(t.t_rrd_s_ns),
            rrd_l=clocks(t.t_rrd_l_ns if grouped else t.t_rrd_s_ns),
            faw=clocks(t.t_faw_ns),
            aw32=clocks(t.t_32aw_ns),
            ppd=clocks(t.t_ppd_ns),
            rfc=clocks(t.t_rfc_ns),
            refi=clocks(t.t_refi_ns),
            rd_rd_rank=burst + rtrs,
            wr_rd_rank=max(1, write_end + rtrs - cl),
            wr_wr_rank=burst,
            xp=clocks(t.t_xp_ns),
        )

    def fields(self, address_map: str | None = None) -> AddressMap:
        """Return where each field lies in a block index; without a Ch in the map, channels take its lowest bits.

        Raises InputError for an unknown, repeated or missing letter.
        """
        text = self.address_map if address_map is None else address_map
        raise_if_any(f"address_map: {problem}" for problem in _map_problems(text, self.geometry))
        letters = re.findall("..", text)
        found, shift = {}, 0
        for letter in reversed(letters if "Ch" in letters else [*letters, "Ch"]):
            size = getattr(self.geometry, FIELDS[letter])
            found[letter] = AddressField(shift, size - 1)
            shift += size.bit_length() - 1
        return AddressMap(*(found.get(letter, AddressField(0, 0)) for letter in FIELDS))


def _map_problems(address_map: Any, geometry: DramGeometry) -> Iterator[str]:
    """Say what is wrong with an address map such as RoBaCoBg."""
    known = ", ".join(FIELDS)
    if not isinstance(address_map, str):
        yield f"must be text such as 'RoBaCoBg' (got {address_map!r})"
        return
    letters = re.findall("..?", address_map)
    for letter in dict.fromkeys(letters):
        if letter not in FIELDS:
            yield f"unknown field '{letter}' in '{address_map}'; write the most significant first out of {known}"
        elif letters.count(letter) > 1:
            yield f"field '{letter}' stands twice in '{address_map}'; name each once"
    for letter, size in FIELDS.items():
        if letter not in letters and letter != "Ch" and getattr(geometry, size) > 1:
            yield f"field '{letter}' is missing from '{address_map}', but the part has {getattr(geometry, size)} {size}"
