"""Longest common subsequences: LCS.

Theory. Of the textbook's table, L(i, j) = the length for the first i bytes of one string and the first j of the other, a row
grows by 0 or 1 with every column. So a row is one integer with a bit for each byte of the longer string: bit j is *clear*
where the row grows, L(i, j + 1) = L(i, j) + 1. The next row follows from it by an addition, whose carry moves each step to
the first match after the step before (Hyyro, "Bit-parallel LCS-length computation revisited", 2004):

    V = (V + (V & M)) | (V & ~M)        M: where the longer string has this row's byte

Python's integers do 30 columns at once: 10,000 x 10,000 bytes take some hundredths of a second and an eighth of a byte a
cell, where a table takes half a minute and eight bytes.

Laws:

1. The rows go along the shorter string, so there are at most as many as the square root of the cells.
2. Of all longest subsequences `runs` finds Redis's: from the ends backwards it takes equal bytes where both strings have
   them, else it leaves a byte of `one` if L(i - 1, j) > L(i, j - 1), else a byte of `other`.
3. The way back costs O(len(longer) / 30) for each row, not for each cell.

This room knows bytes only: no key, no reply, no limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def length(one: bytes, other: bytes) -> int:
    """Return how long a longest common subsequence is. O(len(one) * len(other) / 30) time, O(longer + shorter) memory."""
    shorter, longer = sorted((one, other), key=len)
    for last in _rows(shorter, longer):
        row = last
    return len(longer) - row.bit_count()


def runs(one: bytes, other: bytes) -> list[tuple[int, int, int]]:
    """Return the runs (position in one, position in other, length) of a longest common subsequence, last first.

    A run is as long as it can be: bytes next to each other in both. O(len(one) * len(other) / 30) time, a bit for each
    cell of memory.
    """
    swapped = len(one) > len(other)
    found: list[tuple[int, int, int]] = []
    for pair in _matches(other, one, swapped) if swapped else _matches(one, other, swapped):
        i, j = reversed(pair) if swapped else pair
        if found and found[-1][:2] == (i + 1, j + 1):
            found[-1] = (i, j, found[-1][2] + 1)
        else:
            found.append((i, j, 1))
    return found


def _ones(count: int) -> int:
    return (1 << count) - 1


def _rows(shorter: bytes, longer: bytes) -> Iterator[int]:
    """Yield the rows for the first 0, 1, 2, ... bytes of `shorter`."""
    ones = _ones(len(longer))
    backwards = longer[::-1]  # the first digit is the highest
    places = {byte: int(backwards.translate(_DIGITS[255 - byte : 511 - byte]), 2) for byte in set(shorter)}
    row = ones
    yield row
    for byte in shorter:
        steps = row & places[byte]
        row = ((row + steps) | (row - steps)) & ones
        yield row


_DIGITS = b"0" * 255 + b"1" + b"0" * 255  # from 255 - byte on: 256 digits, 1 for that byte


def _matches(shorter: bytes, longer: bytes, swapped: bool) -> Iterator[tuple[int, int]]:
    """Yield the positions of the bytes taken, last first; `swapped` if `shorter` is LCS's second string.

    In a row the way goes on along `longer` to the next match, at most to the place `end` where it leaves the row without
    one. Away from a match L(i, j) is the greater of its two neighbours, so one bit tells them apart. If `longer` is `other`,
    going on is what an even choice means: the row is left where it has just grown, for there L(i - 1, j) is the greater one.
    If `longer` is `one`, an even choice leaves the row: it is left where the row before has grown as much as this one.
    """
    rows = list(_rows(shorter, longer))
    i, j = len(shorter), len(longer)
    while i and j:
        if swapped:
            # The bits that differ, in turn: this row gets one ahead, the one before makes up for it.
            apart = (rows[i] ^ rows[i - 1]) & _ones(j)
            end = apart.bit_length() - 1 if apart.bit_count() % 2 else j
        else:
            end = (~rows[i] & _ones(j)).bit_length()
        i -= 1
        match = longer.rfind(shorter[i], max(end - 1, 0), j)
        if match < 0:
            j = end
        else:
            j = match
            yield i, j
