"""Cursors: tokens stand for positions, are bounded, and a scan in progress is never driven out by another's steps."""

from __future__ import annotations

import random

import pytest

from lmdbredis import cursors
from lmdbredis.cursors import TOKENS_MAX, Cursors, cursor
from lmdbredis.errors import INVALID_CURSOR, ReplyError


def made(seed: int = 1) -> Cursors:
    return Cursors(random.Random(seed))


def test_a_token_stands_for_its_position():
    """A token gives its position back, again and again; None is the end, and the end is 0."""
    held = made()
    token = held.token(b"here")

    assert [held.position(token), held.position(token)] == [b"here", b"here"]
    assert held.token(None) == 0
    assert held.position(0) == b""


def test_tokens_are_positive_and_differ():
    """Tokens are no more than 63 bits, never 0, and never given twice in a row of many."""
    held = made()
    tokens = [held.token(b"x") for _ in range(1000)]

    assert len(set(tokens)) == 1000
    assert all(0 < token < 1 << 63 for token in tokens)


def test_running_numbers_begin_again():
    """After the last running number comes the first one, never 0."""
    held = made()
    held._number = (1 << 32) - 2
    numbers = [held.token(b"x") & 0xFFFFFFFF for _ in range(3)]

    assert numbers == [(1 << 32) - 1, 1, 2]


def test_unknown_tokens_are_the_beginning():
    """A token of another process, or none at all, starts anew."""
    token = made(1).token(b"here")

    assert made(2).position(token) == b""
    assert made().position(12345) == b""


def test_what_is_held_is_bounded():
    """The oldest tokens go first; one that was used lately stays."""
    held = made()
    first, second = held.token(b"first"), held.token(b"second")
    for n in range(TOKENS_MAX - 2):
        held.token(b"%d" % n)
    held.position(first)
    held.token(b"one more")

    assert held.position(first) == b"first"
    assert held.position(second) == b""
    assert len(held._held) == TOKENS_MAX


def test_a_scan_holds_two_tokens():
    """However many steps a scan takes, its last two tokens are held, and none when it has ended."""
    held = made()
    token, before = held.token(b"0"), 0
    for step in range(1000):
        held.position(token)
        token, before = held.token(b"%d" % step, token), token

    assert len(held._held) == 2
    assert held.position(before) == b"998"

    held.token(None, token)

    assert len(held._held) == 0


def test_a_slow_scan_is_not_driven_out_by_a_fast_one():
    """A token survives more steps of another scan than there are tokens."""
    held = made()
    slow, fast = held.token(b"slow"), held.token(b"fast")
    for _ in range(TOKENS_MAX + 10):
        fast = held.token(b"fast", fast)

    assert held.position(slow) == b"slow"


@pytest.mark.parametrize(
    ("word", "number"),
    [
        (b"0", 0),
        (b"18446744073709551615", 2**64 - 1),
        (b"+1", 1),
        (b"007", 7),
        (b" \t1", 1),
        (b"-0", 0),
        (b"-05", 2**64 - 5),
        (b"1\x00abc", 1),
        (b"0" * 5000 + b"1", 1),
        (b"-9223372036854775809", 2**63 - 1),
    ],
)
def test_words_that_are_cursors(word: bytes, number: int):
    """Cursors are read as C's strtoull reads numbers; valkey-server 9.1 takes all of these."""
    assert cursor(word) == number


@pytest.mark.parametrize(
    "word", [b"", b"a", b"-1", b"1.5", b"1 ", b"--1", b"0x1", b"18446744073709551616", b"9" * 5000, b"\x00"]
)
def test_words_that_are_no_cursors(word: bytes):
    """Whatever else is said is refused."""
    with pytest.raises(ReplyError) as refused:
        cursor(word)

    assert refused.value.text == INVALID_CURSOR


def test_options_in_any_order_and_case():
    """MATCH and COUNT may come in any order, any case and more than once; `*` matches everything."""
    assert cursors.scan_options([]) == (None, cursors.COUNT_DEFAULT)
    assert cursors.scan_options([b"count", b"5", b"Match", b"a*", b"COUNT", b"6"]) == (b"a*", 6)
    assert cursors.scan_options([b"MATCH", b"*"]) == (None, cursors.COUNT_DEFAULT)
