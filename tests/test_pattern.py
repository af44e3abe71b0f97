"""pattern: the oracle's globs, by every engine, and in time.

Invariant: for any pattern and text, the plain walk, the engine chosen, and SSCAN MATCH on the oracle say the same.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmdbredis import pattern as patterns
from lmdbredis.pattern import compile, literal_prefix, matches  # noqa: A004

TEXTS = [
    b"", b"a", b"b", b"A", b"ab", b"ba", b"abc", b"aab", b"abab", b"hello", b"hallo", b"hllo", b"heello", b"a]", b"]", b"[",
    b"a-b", b"-", b"^", b"\\", b"a\\", b"*", b"?", b"a*b", b"a?b", b"[ab]", b"\0", b"a\0b", b"\n", b"a\nb", b"\x7f", b"\x80",
    b"\xff", b"\xffa", b"user:1", b"user:12:x", b"aaaaaaaaaaaaaaaaaaab", b"abcabcabc", b"Zz", b"z", b"_", b"@", b"{",
]  # fmt: skip
ODD = [
    b"", b"*", b"**", b"?", b"?*", b"*?", b"a", b"a*", b"*a", b"*a*", b"a*b", b"a**b", b"a*b*", b"*a*b*", b"h?llo", b"h[ae]llo",
    b"h[^e]llo", b"h[a-e]llo", b"h[e-a]llo", b"[", b"[a", b"[^", b"[^a", b"[a-", b"[a-]", b"[a-]*", b"[]", b"[]]", b"[^]", b"[^]]",
    b"[\\]]", b"[\\", b"[\\a-z]", b"[a\\-z]", b"[a-\\]", b"[-a]", b"[a-b-c]", b"[^^]", b"[*]", b"[?]", b"\\", b"\\*", b"\\\\",
    b"a\\", b"\\a", b"*\\", b"a[", b"*[", b"*[^", b"[\x00-a]", b"[a-\xff]", b"[\x80-\xff]", b"[\xff-\x00]", b"\xff*", b"[A-z]",
    b"*a*a*a*a*b", b"user:[0-9]*", b"*:*:*", b"[^a-z]*", b"a\0b", b"*\n*", b"[[]", b"[a-a]", b"ab*ab", b"aba*bab",
]  # fmt: skip
pieces = st.lists(
    st.sampled_from(
        [b"a", b"b", b"A", b"*", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"\x80", b"\0", b"[ab]", b"[^a]", b"[a-"]
    ),
    max_size=8,
).map(b"".join)
texts = st.lists(
    st.sampled_from([b"a", b"b", b"A", b"]", b"-", b"\\", b"\x80", b"\0", b"[", b"^", b"\n"]), max_size=8
).map(b"".join)


def walk(pattern, text, nocase=False):
    """The rule in its plainest form, without any engine."""
    return pattern == b"*" or patterns._walk(patterns._items(pattern, nocase), text)


def among_long(pattern, among):
    """Those of `among` that the engine for long patterns takes, one engine for all of them."""
    takes = patterns._compile_long(pattern, nocase=False)
    return {text for text in among if takes(text)}


def scan(client, among, pattern):
    """Which of `among` the oracle's stringmatchlen takes."""
    client.pipeline([("DEL", "s"), ("SADD", "s", *among)])
    _cursor, found = client.call("SSCAN", "s", 0, "MATCH", pattern, "COUNT", 1000).value

    return {reply.value for reply in found.value}


@pytest.mark.parametrize("pattern", ODD)
def test_odd_patterns(oracle, pattern):
    """Each odd pattern takes exactly the texts that the oracle takes."""
    found = scan(oracle.client(), TEXTS, pattern)

    assert found == {text for text in TEXTS if matches(pattern, text)}
    assert found == {text for text in TEXTS if walk(pattern, text)}
    assert pattern == b"*" or found == among_long(pattern, TEXTS)


@given(pieces, st.lists(texts, min_size=1, max_size=20))
@example(b"[a-\x80]*", [b"\xff", b"b", b"\0"])
def test_any_pattern(oracle, pattern, among):
    """So does any pattern, on any texts."""
    found = scan(oracle.client(), [*TEXTS, *among], pattern)

    assert found == {text for text in {*TEXTS, *among} if matches(pattern, text)}
    assert found == {text for text in {*TEXTS, *among} if walk(pattern, text)}
    assert pattern == b"*" or found == among_long(pattern, {*TEXTS, *among})


@given(
    st.lists(
        st.sampled_from([b"g", b"G", b"e", b"T", b"*", b"?", b"[a-z]", b"[A-Z]", b"[^e]", b"[Z-a]", b"[\\G]", b"s"]),
        max_size=6,
    )
)
def test_ignoring_case(oracle, parts):
    """With nocase, the oracle's own command names are filtered as COMMAND LIST filters them."""
    pattern = b"".join(parts)
    client = oracle.client()
    names = [reply.value for reply in client.call("COMMAND", "LIST").value]
    found = {reply.value for reply in client.call("COMMAND", "LIST", "FILTERBY", "PATTERN", pattern).value}

    assert found == {name for name in names if matches(pattern, name, nocase=True)}
    assert found == {name for name in names if walk(pattern, name, nocase=True)}


@given(pieces, texts)
def test_literal_prefix(pattern, text):
    """Every match starts with the literal prefix."""
    if matches(pattern, text):
        assert text.startswith(literal_prefix(pattern))


@given(st.sampled_from([b"a", b"\\a", b"[a]"]), st.integers(240, 270), pieces, texts)
def test_literal_prefix_of_a_long_pattern(item, count, pattern, text):
    """So does every match of a pattern whose prefix is not read to its end."""
    pattern = b"a" * (count - count // len(item) * len(item)) + item * (count // len(item)) + pattern
    for whole in (b"a" * count + text, b"a" * (count // len(item)) + text):
        if matches(pattern, whole):
            assert whole.startswith(literal_prefix(pattern))


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        (b"user:*", b"user:"), (b"user:1", b"user:1"), (b"*", b""), (b"?a", b""), (b"a\\*b*", b"a*b"), (b"[a]b[cd]", b"ab"),
        (b"a\\", b"a\\"), (b"", b""), (b"a[^b]", b"a"),
    ],
)  # fmt: skip
def test_literal_prefixes(pattern, prefix):
    """The prefix is as long as it can be, escapes undone."""
    assert prefix == literal_prefix(pattern)


@pytest.mark.parametrize(
    "pattern", [b"a*" * 50 + b"b", b"*a*a*a*a*a*a*a*b", b"*[ab]" * 30 + b"c", b"?*" * 40 + b"b", b"a*" * 400 + b"b"]
)
def test_abusive_patterns(pattern):
    """No pattern is exponential: sixteen thousand letters are through in a second."""
    started = time.process_time()

    assert not matches(pattern, b"a" * 16_000)
    assert matches(pattern[:-1] + b"*", b"a" * 16_000)
    assert time.process_time() - started < 1


def test_too_many_stars(oracle):
    """More than a thousand stars inside match nothing, as in Redis; a thousand do; long literals do."""
    text = b"a" * 1500
    among = [b"a*" * stars + end for stars in (999, 1000, 1001, 1002) for end in (b"", b"a")]
    client = oracle.client()

    for pattern in [*among, text, text + b"*", b"*" + text]:
        assert scan(client, [text], pattern) == ({text} if matches(pattern, text) else set()), len(pattern)


@pytest.mark.parametrize(
    "unit",
    [
        b"x", b"*", b"?", b"[a]", b"\\", b"*a", b"?*", b"\\a", b"[a-z]", b"[^a]", b"[a", b"[\\]",
        pytest.param([b"[", b"a"], id="a class"), pytest.param([b"[^", b"a-z"], id="ranges"), pytest.param([b"[", b"\\]"], id="escapes"),
        pytest.param([b"x", b"x", b"*"], id="a prefix"), pytest.param([b"*", b"x", b"?"], id="a suffix"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("nocase", [False, True])
def test_patterns_of_megabytes(unit, nocase):
    """To compile four megabytes and to try them on some hundred short texts takes a fraction of a second, whatever they are made of."""
    head, middle, *tail = unit if isinstance(unit, list) else [b"", unit]
    pattern = b"".join([head, middle * ((4 << 20) // len(middle)), *tail])
    started = time.process_time()
    takes = compile(pattern, nocase)
    found = [text for text in TEXTS for _ in range(3) if takes(text)]
    prefix = literal_prefix(pattern)

    assert (
        time.process_time() - started < 4
    )  # measured: at most 0.5, of other patterns than classes 0.04; it was 2 to 30 seconds once
    assert set(found) <= set(TEXTS)
    assert all(text.startswith(prefix) for text in found)


@pytest.mark.parametrize("nocase", [False, True])
def test_classes_of_many_words(nocase):
    """A class that is read in many portions is the same set as one that is read at once."""
    words = [bytes(word) for first in range(128) for word in ((first, 45, first ^ 1), (92, first), (first,))]
    words = [word for word in words if word[0] not in b"]\\^" and word[-1] not in b"]-"] * 40
    whole = b"[" + b"".join(words) + b"]x"
    few = b"[" + b"".join(dict.fromkeys(words)) + b"]x"

    assert patterns._read_class(few, 1, nocase)[0] == patterns._read_class(whole, 1, nocase)[0]
    assert len(whole) - 1 == patterns._read_class(whole, 1, nocase)[1]


def test_compiled_once():
    """A short pattern is translated once."""
    assert compile(b"x[ab]*") is compile(b"x[ab]*")
