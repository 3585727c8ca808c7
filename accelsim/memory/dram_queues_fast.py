"""The queues of a DRAM channel, part of the compiled twin of `dram.py`: how a request goes from one to the next."""

from __future__ import annotations

from accelsim.kernels import inlined
from accelsim.memory.dram_state_fast import (
    ACCEPTED,
    AFTER,
    AGE,
    BEFORE,
    BLOCK,
    BLOCK_ROW,
    BUCKETS,
    CHAIN,
    FIRST_READ,
    FIRST_WRITE,
    FREE,
    HEAD,
    HITS,
    IN_BANKS,
    LENGTH,
    LIKELY,
    MAY_CLOSE,
    MOVABLE,
    NEVER,
    NEWEST,
    NONE,
    OLDEST,
    QUEUED,
    QUEUED_WRITES,
    READ_IS_OLDER,
    READERS,
    READS,
    ROW,
    TAIL,
    WAITING,
    WRITES,
)


@inlined
def _bucket(block):
    return ((block * 0x9E3779B1) >> 16) & (BUCKETS - 1)


@inlined
def pending(queues, block, is_write):
    """Return the pending request of this kind to this block, or NONE."""
    requests = queues.requests
    r = queues.pending[_bucket(block)]
    while r >= 0 and not (requests[r, BLOCK] == block and (requests[r, READERS] == 0) == is_write):
        r = requests[r, CHAIN]
    return r


@inlined
def _forget(queues, request):
    """Take a request out of the table of pending blocks."""
    requests, heads = queues.requests, queues.pending
    bucket = _bucket(requests[request, BLOCK])
    if heads[bucket] == request:
        heads[bucket] = requests[request, CHAIN]
        return
    before = heads[bucket]
    while requests[before, CHAIN] != request:
        before = requests[before, CHAIN]
    requests[before, CHAIN] = requests[request, CHAIN]


@inlined
def add(queues, number, block, row, bank, is_write, clock):
    """Put a new request at the end of its transaction queue."""
    requests, banks, sizes = queues.requests, queues.banks, queues.sizes
    r = sizes[FREE]
    sizes[FREE] = requests[r, CHAIN]
    bucket = _bucket(block)
    requests[r, BLOCK] = block
    requests[r, BLOCK_ROW] = row
    requests[r, READERS] = 1 - is_write
    requests[r, ACCEPTED] = clock
    requests[r, AGE] = number
    requests[r, AFTER] = NONE
    requests[r, CHAIN] = queues.pending[bucket]
    queues.pending[bucket] = r
    if banks[bank, WAITING + is_write] == 0:
        banks[bank, OLDEST + is_write] = r
    else:
        requests[banks[bank, NEWEST + is_write], AFTER] = r
    banks[bank, NEWEST + is_write] = r
    banks[bank, WAITING + is_write] += 1
    sizes[LENGTH + is_write] += 1
    if banks[bank, QUEUED] < queues.rules.bank_room:
        sizes[MOVABLE + is_write] += 1
        sizes[LIKELY] = bank


@inlined
def oldest_with_room(queues, is_write):
    """Return the bank of the oldest transaction of a kind whose bank queue has room; there is one."""
    # Specification: Controller.oldest_with_room.
    banks, sizes = queues.banks, queues.sizes
    likely = sizes[LIKELY]
    if (
        banks[likely, WAITING + is_write] == sizes[MOVABLE + is_write]
        and banks[likely, QUEUED] < queues.rules.bank_room
    ):
        return likely
    found = likely
    age = NEVER
    for bank in range(banks.shape[0]):
        r = banks[bank, OLDEST + is_write]
        if r >= 0 and banks[bank, QUEUED] < queues.rules.bank_room and queues.requests[r, AGE] < age:
            age = queues.requests[r, AGE]
            found = bank
    return found


@inlined
def move(queues, bank, is_write):
    """Move the oldest transaction of a bank and kind to the bank queue; return whether the bank may do more now.

    Only the first entry, or the first hit of its kind, changes what a bank may do next.
    """
    requests, banks, sizes = queues.requests, queues.banks, queues.sizes
    r = banks[bank, OLDEST + is_write]
    banks[bank, OLDEST + is_write] = requests[r, AFTER]
    sizes[LENGTH + is_write] -= 1
    banks[bank, WAITING + is_write] -= 1
    sizes[MOVABLE + is_write] -= 1
    tail = banks[bank, TAIL]
    is_first = banks[bank, QUEUED] == 0
    if is_first:
        banks[bank, HEAD] = r
    else:
        requests[tail, AFTER] = r
    requests[r, BEFORE] = NONE if is_first else tail
    requests[r, AFTER] = NONE
    banks[bank, TAIL] = r
    banks[bank, QUEUED] += 1
    banks[bank, QUEUED_WRITES] += is_write
    sizes[IN_BANKS] += 1
    if banks[bank, QUEUED] == queues.rules.bank_room:
        sizes[MOVABLE + READS] -= banks[bank, WAITING + READS]
        sizes[MOVABLE + WRITES] -= banks[bank, WAITING + WRITES]
    is_hit = banks[bank, ROW] >= 0 and requests[r, BLOCK_ROW] == banks[bank, ROW]
    return is_first or (is_hit and banks[bank, FIRST_WRITE if is_write else FIRST_READ] < 0)


@inlined
def remove(queues, bank, request):
    """Take a request out of its bank queue: its command is issued."""
    requests, banks, sizes = queues.requests, queues.banks, queues.sizes
    if banks[bank, QUEUED] == queues.rules.bank_room:
        sizes[MOVABLE + READS] += banks[bank, WAITING + READS]
        sizes[MOVABLE + WRITES] += banks[bank, WAITING + WRITES]
        sizes[LIKELY] = bank
    banks[bank, QUEUED] -= 1
    banks[bank, QUEUED_WRITES] -= requests[request, READERS] == 0
    sizes[IN_BANKS] -= 1
    before, after = requests[request, BEFORE], requests[request, AFTER]
    if before >= 0:
        requests[before, AFTER] = after
    else:
        banks[bank, HEAD] = after
    if after >= 0:
        requests[after, BEFORE] = before
    else:
        banks[bank, TAIL] = before
    _forget(queues, request)
    requests[request, CHAIN] = sizes[FREE]
    sizes[FREE] = request


@inlined
def plan(queues, bank):
    """Note what an open bank may do next: its first read hit and first write hit, whether it may close."""
    # Specification: Controller.first_ready, but for the constraints of the bus.
    requests, banks = queues.requests, queues.banks
    row = banks[bank, ROW]
    head = banks[bank, HEAD]
    writes = banks[bank, QUEUED_WRITES]
    first_read = NONE
    first_write = NONE
    read_is_older = False
    r = head
    while r >= 0 and (first_read < 0 or (first_write < 0 and writes > 0)):
        if requests[r, BLOCK_ROW] == row:
            if requests[r, READERS] > 0:
                if first_read < 0:
                    first_read = r
                    read_is_older = first_write < 0
            elif first_write < 0:
                # A write waits for an earlier read of its block.
                other = head
                while other != r and not (
                    requests[other, BLOCK] == requests[r, BLOCK] and requests[other, READERS] > 0
                ):
                    other = requests[other, AFTER]
                if other == r:
                    first_write = r
        r = requests[r, AFTER]
    banks[bank, FIRST_READ] = first_read
    banks[bank, FIRST_WRITE] = first_write
    banks[bank, READ_IS_OLDER] = read_is_older
    if head < 0:
        banks[bank, MAY_CLOSE] = queues.rules.closed_page
    else:
        hits_wait = first_read >= 0 or first_write >= 0
        old_enough = not hits_wait or banks[bank, HITS] >= queues.rules.hits_before_age
        banks[bank, MAY_CLOSE] = old_enough and requests[head, BLOCK_ROW] != row
