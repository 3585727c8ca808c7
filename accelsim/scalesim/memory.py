"""The memories of SCALE-Sim 3.0.0, compiled: what its array asks for in which order, what is fetched, what waits.

Source: the tool's behaviour at version 3.0.0. A word is a number; -1 is a hole, which nobody asks for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from accelsim.kernels import njit, step

STATIONARY, SKEWED, ROW_WISE = range(3)
"""How an operand enters the array: row by row from the last, along anti-diagonals, or in blocks along them."""


class Entry(NamedTuple):
    """How an operand enters the array, fold by fold. Its words are a matrix, cut into blocks of columns."""

    kind: int
    by_row: int
    """Whether its columns go with the row folds (1) or with the column folds (0); of what stays, its rows do."""
    first: int
    """Cycle of a fold in which its first word, or the first row if it is full, is asked for."""
    width: int
    """Columns of a block."""
    block: int
    """Of row-wise sparsity: reduction rows of a block."""


class Folds(NamedTuple):
    """The passes of a layer over the array: column folds outside, row folds inside."""

    rows: int
    """Extent along the rows of the array, and along its columns."""
    columns: int
    array_rows: int
    array_columns: int
    cycles: int
    """Of one fold."""


# What of an on-chip memory changes, and what it is: one array of integers
AT, END, FETCHES, WINDOW, LINES, MOVE, FETCH, TIMES = range(8)
# The same of the output buffer
FREE, OPEN, CLOSED, DRAINED, BUSY, WRITTEN, START, STOP, SIZE, HALF, LINE, PORTION, HEAD, TAIL, SENT, TOTAL, FIRST = (
    range(17)
)


@njit(cache=True, nogil=True)
def lines_of(ids, width, diagonal, line, starts, lines):
    """Fill `lines` with the on-chip lines of each word, those of word w from starts[w] on; (words + 1,) and (n,).

    Blocks of `width` columns are stacked and read row by row, or by anti-diagonals from the lowest row up.
    """
    rows, columns = ids.shape
    starts[:] = 0
    for row in range(rows):
        for column in range(columns):
            if ids[row, column] >= 0:
                starts[ids[row, column] + 1] += 1
    for word in range(len(starts) - 1):
        starts[word + 1] += starts[word]
    height = rows * -(-columns // width)
    place = 0
    steps = height + width - 1 if diagonal else height
    for number in range(steps):
        low, high = (max(0, number - height + 1), min(number, width - 1)) if diagonal else (0, width - 1)
        for inner in range(low, high + 1):
            stacked = number - inner if diagonal else number
            column = stacked // rows * width + inner
            if column < columns:
                word = ids[stacked % rows, column]
                if word >= 0:
                    lines[starts[word]] = place // line
                    starts[word] += 1
                    place += 1
    for word in range(len(starts) - 1, 0, -1):  # each start has moved to its end, where the next one began
        starts[word] = starts[word - 1]
    starts[0] = 0


@step
def asked_of(word, starts, lines, memory, clock, offset):
    """Return the offset of an operand once a word is on the chip: what is late is added twice, as the tool does."""
    if word < 0 or memory[MOVE] == 0:
        return offset
    while True:
        for place in range(starts[word], starts[word + 1]):
            ahead = lines[place] - memory[AT]
            if ahead < 0:
                ahead += memory[LINES]
            if ahead < memory[WINDOW]:
                return offset
        memory[AT] = (memory[AT] + memory[MOVE]) % memory[LINES]
        memory[FETCHES] += 1
        memory[END] += memory[FETCH] + 1
        late = memory[END] - (clock + offset)
        offset += late
        if late > 0:
            offset += (memory[TIMES] - 1) * late


@step
def bounds_of(entry, folds, column_fold, row_fold):
    """Return first column and used columns of a fold's block; of what is stationary its first row and rows, too."""
    row, column = row_fold * folds.array_rows, column_fold * folds.array_columns
    rows, columns = min(folds.array_rows, folds.rows - row), min(folds.array_columns, folds.columns - column)
    if entry.kind == STATIONARY:
        return column, columns, row, rows
    if entry.by_row:
        return row, rows, row, rows
    return column, columns, row, rows


@step
def stalls_of(operand, bounds, folds, cycle, memory, clock):
    """Return the stall of one operand in a cycle of a fold."""
    entry, ids, starts, lines = operand
    offset = 1
    first, used, row, rows = bounds
    if entry.kind == STATIONARY:
        number = folds.array_rows - 1 - cycle
        if 0 <= number < rows:
            for column in range(first, first + used):
                offset = asked_of(ids[row + number, column], starts, lines, memory, clock, offset)
    elif entry.kind == SKEWED:
        number = cycle - entry.first
        for index in range(max(0, number - len(ids) + 1), min(used, number + 1)):
            offset = asked_of(ids[number - index, first + index], starts, lines, memory, clock, offset)
    else:
        number, half = cycle - entry.first, entry.block // 2
        for index in range(max(0, number - len(ids) + 1), min(folds.array_rows, number + 1)):
            begin = 2 * row + entry.block * (index // half)
            for column in range(begin, min(begin + entry.block, ids.shape[1])):
                offset = asked_of(ids[number - index, column], starts, lines, memory, clock, offset)
    return offset - 1


@step
def close_line(out, short):
    """Close the open line of the output buffer, if there is anything in it; short ones are remembered."""
    if out[OPEN] > 0:
        if out[OPEN] < out[LINE]:
            short[out[TAIL] % len(short), 0] = out[CLOSED]
            short[out[TAIL] % len(short), 1] = out[OPEN]
            out[TAIL] += 1
        out[CLOSED] += 1
        out[OPEN] = 0


@step
def drain(out, short, clock):
    """Send a portion of closed lines to DRAM; of these only what is missing in the last is not counted."""
    lines = min(out[PORTION], out[CLOSED] - out[DRAINED])
    last, missing = out[DRAINED] + lines - 1, 0
    while out[HEAD] < out[TAIL] and short[out[HEAD] % len(short), 0] <= last:
        place = out[HEAD] % len(short)
        missing = out[LINE] - short[place, 1] if short[place, 0] == last else 0
        out[HEAD] += 1
    count = lines * out[LINE] - missing
    out[DRAINED] += lines
    out[FREE] += count
    out[WRITTEN] += count
    if out[START] < 0:
        out[START] = clock
    out[BUSY] = clock + lines - 1
    out[STOP] = max(out[STOP], out[BUSY])


@step
def take(out, words):
    """Take words into the output buffer."""
    out[FREE] -= words
    out[OPEN] += words
    out[CLOSED] += out[OPEN] // out[LINE]
    out[OPEN] %= out[LINE]


@step
def waits_of(out, short, words, clock):
    """Return the wait of the words that leave the array in a cycle."""
    waits = 0
    while words > 0:
        if clock + waits < out[BUSY]:
            calm = out[FREE] - 1
            if calm > 0:
                calm = min(calm, words)
                take(out, calm)
                words -= calm
                continue
            take(out, 1)
            waits += out[BUSY] - clock - waits
        else:
            calm = out[FREE] - (out[SIZE] - out[HALF])
            if calm > 0:
                calm = min(calm, words)
                take(out, calm)
                words -= calm
                continue
            take(out, 1)
            close_line(out, short)
            drain(out, short, clock + waits)
        words -= 1
    return waits


@step
def left(width, height, cycle):
    """Return how many words leave in a cycle: column c of `width` sends its `height` words from cycle c on."""
    return max(0, min(width, cycle + 1) - max(0, cycle - height + 1))


@step
def note(came, marks, cycle, clock):
    """Put down when what is asked for in the cycle of a mark (2,) has come."""
    for end in range(2):
        if cycle == marks[end]:
            came[end] = clock


@njit(cache=True, nogil=True)
def user(folds, inputs, weights, leaves, memories, out, short, marks):
    """Run a layer cycle by cycle; returns all stalls, or -1 where `short` is too small.

    marks (2, 2): the first and the last cycle, without stalls, in which inputs and weights are asked for; then the
    cycles in which these come.
    inputs, weights: Entry, words (rows, columns), and `starts`, `lines` of `lines_of`; leaves: the cycle of a fold in
    which the first output leaves if all rows are used, outputs of a column (0: one for each used row).
    memories (2, 8), out (17,): as they are at first, and then at the end, the rest drained.
    """
    first, height = leaves
    stalls, start, waits, clock = 0, 0, 0, 0
    came = marks.copy()
    row_folds = -(-folds.rows // folds.array_rows)
    for column_fold in range(-(-folds.columns // folds.array_columns)):
        columns = min(folds.array_columns, folds.columns - column_fold * folds.array_columns)
        for row_fold in range(row_folds):
            rows = min(folds.array_rows, folds.rows - row_fold * folds.array_rows)
            tall = height if height > 0 else rows
            begin = first if height > 0 else first + folds.array_rows - rows
            ours = bounds_of(inputs[0], folds, column_fold, row_fold)
            theirs = bounds_of(weights[0], folds, column_fold, row_fold)
            for cycle in range(folds.cycles):
                clock = start + cycle + stalls
                most, late, waits = 0, 0, 0
                if memories[0, MOVE] > 0:
                    late = stalls_of(inputs, ours, folds, cycle, memories[0], clock)
                    most = max(most, late)
                note(came[0], marks[0], start + cycle, clock + late + 1)
                late = 0
                if memories[1, MOVE] > 0:
                    late = stalls_of(weights, theirs, folds, cycle, memories[1], clock)
                    most = max(most, late)
                note(came[1], marks[1], start + cycle, clock + late + 1)
                words = left(columns, tall, cycle - begin)
                if words > 0:
                    waits = waits_of(out, short, words, clock)
                    most = max(most, waits)
                    out[SENT] = clock + waits
                    if out[FIRST] < 0:
                        out[FIRST] = clock + waits
                    if out[TAIL] - out[HEAD] > len(short):
                        return -1
                stalls += most
            start += folds.cycles
    finish(out, short, clock + waits)
    marks[:] = came
    return stalls


@step
def finish(out, short, clock):
    """Drain what is left from the last cycle on, portion by portion."""
    out[TOTAL] = clock
    close_line(out, short)
    while out[CLOSED] > out[DRAINED]:
        drain(out, short, clock)
        clock = out[BUSY] + 1


@step
def sent(width, height, cycles):
    """Return how many words have left by the end of so many cycles, of `width` columns that send `height` each."""
    total = 0
    for sign, gone in ((1, 0), (-1, width), (-1, height), (1, width + height)):
        least = max(0, cycles - gone)
        total += sign * (least * (least + 1) // 2)
    return total


@step
def cycle_of(width, height, word):
    """Return the cycle in which a word leaves, counted from the first; words of a cycle leave together."""
    low, high = 0, width + height - 2
    while low < high:
        middle = (low + high) // 2
        if sent(width, height, middle + 1) > word:
            high = middle
        else:
            low = middle + 1
    return low


@njit(cache=True, nogil=True)
def outputs(folds, leaves, out, short, marks):
    """Run the outputs of a layer whose operands never wait; returns all stalls, as `user` does, or -1.

    From event to event: a drain, or a wait. Between two the buffer only fills.
    """
    first, height = leaves
    stalls, start = 0, 0
    came = marks + 1
    row_folds = -(-folds.rows // folds.array_rows)
    for column_fold in range(-(-folds.columns // folds.array_columns)):
        columns = min(folds.array_columns, folds.columns - column_fold * folds.array_columns)
        for row_fold in range(row_folds):
            rows = min(folds.array_rows, folds.rows - row_fold * folds.array_rows)
            tall = height if height > 0 else rows
            begin = start + (first if height > 0 else first + folds.array_rows - rows)
            word, words = 0, columns * tall
            while word < words:
                before = min(words, sent(columns, tall, out[BUSY] - begin - stalls))  # they leave while a drain runs
                full = word + max(1, out[FREE]) - 1
                due = max(word + max(0, out[FREE] - (out[SIZE] - out[HALF])), before)
                event = min(full if full < before else due, words)
                take(out, event - word)
                word = event
                if word < words:
                    cycle = cycle_of(columns, tall, word)
                    now = sent(columns, tall, cycle + 1) - word
                    waits = waits_of(out, short, now, begin + cycle + stalls)
                    for mark in range(4):
                        if marks[mark // 2, mark % 2] > begin + cycle:
                            came[mark // 2, mark % 2] += waits
                    stalls += waits
                    word += now
                    if out[TAIL] - out[HEAD] > len(short):
                        return -1
            out[SENT] = begin + columns + tall - 2 + stalls
            start += folds.cycles
    finish(out, short, start - 1 + stalls)
    marks[:] = came
    return stalls


@njit(cache=True, nogil=True)
def misses(folds, entry, ids, room, seen):
    """Return how many words a cache fetches that is emptied whenever `room` are in it, and the cycle of the last time.

    -1 where it was never full; seen (words,): all -1.
    """
    missed, filling, last = 0, 0, -1
    row_folds = -(-folds.rows // folds.array_rows)
    for column_fold in range(-(-folds.columns // folds.array_columns)):
        for row_fold in range(row_folds):
            first, used, row, rows = bounds_of(entry, folds, column_fold, row_fold)
            for cycle in range(folds.cycles):
                low, high, wide = 0, 0, 1
                number = cycle - entry.first
                if entry.kind == STATIONARY:
                    number = folds.array_rows - 1 - cycle
                    if 0 <= number < rows:
                        high = used
                else:
                    high = min(used if entry.kind == SKEWED else folds.array_rows, number + 1)
                    low = max(0, number - len(ids) + 1)
                for index in range(low, high):
                    begin = first + index
                    line = row + number if entry.kind == STATIONARY else number - index
                    if entry.kind == ROW_WISE:
                        begin = 2 * row + entry.block * (index // (entry.block // 2))
                        wide = min(entry.block, ids.shape[1] - begin)
                    for column in range(begin, begin + wide):
                        word = ids[line, column]
                        if word >= 0 and seen[word] != filling:
                            seen[word] = filling
                            missed += 1
                            if missed % room == 0:
                                filling += 1
                                last = (column_fold * row_folds + row_fold) * folds.cycles + cycle
    return missed, last


def output_buffer(size: int, line: int) -> np.ndarray:
    """Return an output buffer of so many words that leaves in lines of so many, empty: (17,)."""
    out = np.zeros(17, np.int64)
    half = size // 2
    out[[FREE, BUSY, START, STOP, FIRST, SIZE, HALF, LINE, PORTION]] = (
        size,
        -1,
        -1,
        -1,
        -1,
        size,
        half,
        line,
        -(-half // line),
    )
    return out


def read_memory(size: int, bandwidth: int, positions: int, words: int, times: int) -> np.ndarray:
    """Return an operand's memory: (8,). `positions`: of its prefetch order, holes among them; `words`: without.

    `times`: how often what is late is added.
    """
    memory = np.zeros(8, np.int64)
    half, line = size // 2, -(-size // 100)
    lines = words // line + 1
    window = min(-(-half // line), lines)
    memory[[END, WINDOW, LINES, MOVE, FETCH, TIMES]] = (
        -1, window, lines, min(-(-half // line), lines - window), -(-half // bandwidth), times,
    )  # fmt: skip
    return memory
