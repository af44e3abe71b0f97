"""subsequence: the bits find what the textbook's table finds, by the same way back, and in time.

Invariant: for any two strings, `length` and `runs` are those of the table, walked back as Redis walks it.
"""

from __future__ import annotations

import random
import time
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from lmdbredis import subsequence

# Few letters, so that much is common; strings longer than a digit of Python's integers (30 bits), and than two.
texts = st.one_of(
    *(st.text(letters, max_size=size).map(str.encode) for letters in ("a", "ab", "abcd") for size in (6, 40, 90)),
    st.binary(max_size=40),
)


def table(one, other):
    """Return the length and the pairs of positions, last first, by the table and its way back."""
    rows = [[0] * (len(other) + 1)]
    for byte in one:
        above, row = rows[-1], [0]
        for j, rival in enumerate(other):
            row.append(above[j] + 1 if byte == rival else max(above[j + 1], row[j]))
        rows.append(row)
    i, j = len(one), len(other)
    pairs = []
    while i and j:
        if one[i - 1] == other[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif rows[i - 1][j] > rows[i][j - 1]:
            i -= 1
        else:
            j -= 1

    return rows[-1][-1], pairs


@given(texts, texts)
@example(b"", b"")
@example(b"", b"abc")
@example(b"ab", b"ba")
@example(b"ohmytext", b"mynewtext")
@example(b"a" * 61, b"a" * 3)
def test_as_the_table(one, other):
    """The same length, the same bytes of both strings taken; and runs are as long as they can be."""
    for left, right in ((one, other), (other, one)):
        length, pairs = table(left, right)
        runs = subsequence.runs(left, right)

        assert length == subsequence.length(left, right)
        assert pairs == [(i + k, j + k) for i, j, count in runs for k in reversed(range(count))]
        assert not any(
            (i, j) == (before_i + count, before_j + count) for (i, j, _), (before_i, before_j, count) in pairwise(runs)
        )


def test_long_strings_in_time():
    """Ten thousand bytes against ten thousand, and a few against millions, take less than a second together, not minutes."""
    chance = random.Random(1)
    square = [bytes(chance.choices(range(letters), k=10_000)) for letters in (4, 4)]
    narrow = [chance.randbytes(10), chance.randbytes(5_000_000)]
    started = time.process_time()

    for one, other in (square, narrow, narrow[::-1]):
        assert subsequence.length(one, other) == sum(count for _, _, count in subsequence.runs(one, other))
    assert time.process_time() - started < 5  # measured: 0.3; the table: minutes
