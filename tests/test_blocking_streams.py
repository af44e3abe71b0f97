"""Commands that wait for entries of a stream, against the oracle: XREAD BLOCK, XREADGROUP BLOCK.

Law: a reader gets what is newer than he named, everybody the same; a group gives each entry to the one of its consumers who has
waited longest; a reader of a group that is no more is told so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.differential import FLOATS, INTEGERS, STATES, from_each, lines_of
from tests.several import converse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.differential import Pair

READERS = lines_of(r"""
    XREAD BLOCK 0 STREAMS k $
    XREAD BLOCK 0 STREAMS k "$\x00"
    XREAD BLOCK 0 STREAMS k 5-0
    XREAD BLOCK 0 COUNT 2 STREAMS j k $ 5-1
    XREAD BLOCK 0 STREAMS k k $ 5-0
    XREAD BLOCK 0 STREAMS k 18446744073709551615-18446744073709551615
""")
GROUP_READERS = lines_of(r"""
    XREADGROUP GROUP g c BLOCK 0 STREAMS k >
    XREADGROUP GROUP g c BLOCK 0 STREAMS k ">\x00"
    XREADGROUP GROUP g c COUNT 1 BLOCK 0 STREAMS k >
    XREADGROUP GROUP g c BLOCK 0 NOACK STREAMS k >
    XREADGROUP GROUP g c BLOCK 0 COUNT 2 STREAMS j k > >
""")
BEFORE = ["", "XADD k 1-1 f v", "XADD k 1-1 f v; XDEL k 1-1"]
GROUPS_BEFORE = [
    "XGROUP CREATE k g $ MKSTREAM; XGROUP CREATE j g $ MKSTREAM; XGROUP CREATE k h 0",
    "XADD k 1-1 f v; XGROUP CREATE k g $; XGROUP CREATE j g $ MKSTREAM; XGROUP CREATE k h 0; XGROUP CREATECONSUMER k g c",
]
WAKERS = lines_of("""
    XADD k 9-1 f v
    XADD k 3-1 f v
    XADD k 9-1 f v; XADD k 9-2 f v
    XADD j 9-1 f v
    XADD k NOMKSTREAM 9-1 f v
    XADD k MAXLEN 0 9-1 f v
    XADD k MAXLEN 1 9-1 f v g w
    XADD other 9-1 f v
    XSETID k 100-0
    XADD k 3-1 f v; XDEL k 3-1; XADD k 9-1 f v
    XTRIM k MAXLEN 0
    XDEL k 1-1
    MULTI; XADD k 9-1 f v; XADD k 9-2 f w; XADD k 9-3 f x; EXEC
    MULTI; XADD k 9-1 f v; XADD j 9-1 f w; EXEC
    MULTI; XADD k 9-1 f v; XDEL k 9-1; EXEC
    MULTI; XADD k 9-1 f v; DEL k; EXEC
    MULTI; XADD k 9-1 f v; RENAME k j; EXEC
    MULTI; DEL k; XADD k 9-1 f v; EXEC
    MULTI; DEL k; RPUSH k x; EXEC
    MULTI; DEL k; XGROUP CREATE k g $ MKSTREAM; XADD k 9-1 f v; EXEC
    XADD s 9-1 f v; RENAME s k
    XADD s 9-1 f v; COPY s k REPLACE
    XADD s 9-1 f v; XGROUP CREATE s g 0; RENAME s k
    XADD s 9-1 f v; XGROUP CREATE s g 0; COPY s k REPLACE
    XADD s 9-1 f v; XGROUP CREATE s g $; RENAME s k; XADD k 9-2 f v
    SELECT 1; XADD k 9-1 f v; MOVE k 0; SELECT 0
    SELECT 1; XADD k 9-1 f v; SWAPDB 0 1; SELECT 0
    SELECT 1; XADD k 9-1 f v; XGROUP CREATE k g 0; SWAPDB 0 1; SELECT 0
    SELECT 1; SET k v; SWAPDB 0 1; SELECT 0
    SWAPDB 0 1
    RENAME k other
    RENAME k other; XADD k 9-1 f v
    MOVE k 1
    DEL k
    UNLINK k
    DEL k; XADD k 9-1 f v
    DEL k; XADD k 1-1 f v
    SET k v
    SET k v; DEL k; XADD k 9-1 f v
    DEL k; RPUSH k x
    SET j v; XADD k 9-1 f v
    PEXPIRE k -1
    PEXPIREAT k 1; XADD k 9-1 f v
    FLUSHALL
    FLUSHDB; XADD k 9-1 f v
    XGROUP DESTROY k g
    XGROUP DESTROY k h
    XGROUP DESTROY k g; XADD k 9-1 f v
    XGROUP DESTROY k g; XGROUP CREATE k g 0; XADD k 9-1 f v
    MULTI; XGROUP DESTROY k g; XGROUP CREATE k g $; EXEC; XADD k 9-1 f v
    XGROUP SETID k g 0
    XGROUP SETID k g 0; XADD k 9-1 f v
    XGROUP SETID k g 100-0; XADD k 9-1 f v
    XGROUP DELCONSUMER k g c; XADD k 9-1 f v
    XGROUP CREATECONSUMER k g d; XADD k 9-1 f v
    XADD k 9-1 f v; XREADGROUP GROUP g d STREAMS k >; XADD k 9-2 f v
    XGROUP SETID k g 0; EXPIRE k 100; PERSIST k
    XGROUP SETID k g 0; XSETID k 100-0
    XGROUP SETID k g 0; XGROUP CREATE k n 0
    XADD k 9-1 f v; XADD k 9-2 f w; XGROUP SETID k g 0; XDEL k 9-1; XTRIM k MAXLEN 1
""")
TAIL = ("b: TYPE k", "b: XRANGE k - +", "b: XPENDING k g", "b: XPENDING k h", "b: XINFO GROUPS k")


def woken(readers: Iterable[str], states: Iterable[str], wakers: Iterable[str]) -> list[str]:
    """Return the script of every reader, waiting from every state, met by every waker."""
    script = []
    for reader in readers:
        for state in states:
            for waker in wakers:
                script += ["b: FLUSHALL", *said("b", state), f"a~ {reader}", *said("b", waker), *TAIL, "* close a"]
    return script


def said(who: str, commands: str) -> list[str]:
    """Return the lines in which somebody says commands that `;` separates."""
    return [f"{who}: {command.strip()}" for command in commands.split(";") if command.strip()]


@pytest.mark.parametrize("reader", READERS)
def test_readers(pair: Pair, reader: str):
    """Whatever brings newer entries to the key serves the reader; whatever does not, does not."""
    converse(pair, woken([reader], BEFORE, WAKERS[:45]), databases=())


@pytest.mark.parametrize("reader", GROUP_READERS)
def test_group_readers(pair: Pair, reader: str):
    """The same for consumers; a consumer whose key or group goes is told so."""
    converse(pair, woken([reader], GROUPS_BEFORE, WAKERS), databases=())


# --- words -------------------------------------------------------------------------------------------------------------------------

SYNTAX = lines_of("""
    XREAD BLOCK 10 STREAMS
    XREAD BLOCK 10 STREAMS k
    XREAD BLOCK 10 STREAMS k j $
    XREAD BLOCK 10 k $
    XREAD BLOCK STREAMS k $
    XREAD BLOCK 10 STREAMS k >
    XREAD BLOCK 10 STREAMS k x
    XREAD BLOCK 10 STREAMS k -
    XREAD BLOCK 10 STREAMS k 0-0
    XREAD BLOCK 10 STREAMS k j 0 0
    XREAD BLOCK 10 STREAMS j k 0 0
    XREAD BLOCK 0 BLOCK 10 STREAMS k 0
    XREAD COUNT 0 BLOCK 10 STREAMS k 0
    XREAD COUNT -1 BLOCK 10 STREAMS k 0
    XREAD COUNT a BLOCK 10 STREAMS k 0
    XREAD BLOCK 10 NOACK STREAMS k 0
    XREAD BLOCK 10 GROUP g c STREAMS k 0
    XREADGROUP GROUP g c BLOCK 10 STREAMS k 0
    XREADGROUP GROUP g c BLOCK 10 STREAMS k $
    XREADGROUP GROUP g c BLOCK 10 STREAMS k >
    XREADGROUP GROUP none c BLOCK 10 STREAMS k >
    XREADGROUP GROUP g c BLOCK 10 STREAMS k j > >
    XREADGROUP GROUP g c BLOCK 10 STREAMS k k 0 >
    XREADGROUP BLOCK 10 STREAMS k >
    XREADGROUP GROUP g BLOCK 10 STREAMS k >
    XREADGROUP GROUP g c BLOCK 10 NOACK STREAMS k 0
""")
STREAM_STATES = [
    *STATES.values(),
    "XADD k 1-1 f v\nXADD k 2-1 g w",
    "XADD k 1-1 f v\nXDEL k 1-1",
    "XADD k 1-1 f v\nXGROUP CREATE k g 0",
    "XADD k 1-1 f v\nXGROUP CREATE k g $",
    "XADD k 1-1 f v\nXADD k 2-1 g w\nXGROUP CREATE k g 0\nXREADGROUP GROUP g c COUNT 1 STREAMS k >",
]


def test_syntax(pair: Pair):
    """From every type at the key: entries, an error, or a null once the time is up."""
    pair.run(from_each(STREAM_STATES, SYNTAX), databases=())


def test_timeouts(pair: Pair):
    """A timeout is a whole number of milliseconds; it is judged before the key is looked at."""
    words = [*FLOATS, *INTEGERS, "9223372036854775", "9223372036854775000"]
    states = ["XADD k 1-1 f v\nXGROUP CREATE k g 0", "SET k v"]
    commands = [
        form.format(word)
        for word in words
        for form in ("XREAD BLOCK {} STREAMS k 0", "XREADGROUP GROUP g c BLOCK {} STREAMS k >")
    ]
    pair.run(from_each(states, commands), databases=())


# --- one conversation each -----------------------------------------------------------------------------------------------------

ORDER = """
    w: XGROUP CREATE k g $ MKSTREAM
    w: XGROUP CREATE k h $
    a~ XREADGROUP GROUP g a COUNT 1 BLOCK 0 STREAMS k >
    b~ XREADGROUP GROUP g b BLOCK 0 STREAMS k >
    c~ XREAD BLOCK 0 STREAMS k $
    d~ XREADGROUP GROUP h d BLOCK 0 STREAMS k >
    e~ XREAD COUNT 1 BLOCK 0 STREAMS k 0-0
    w: MULTI
    w: XADD k 1-1 f v
    w: XADD k 1-2 f v
    w: XADD k 1-3 f v
    w: EXEC
    w: XPENDING k g
    w: XPENDING k h
    a~ XREADGROUP GROUP g a BLOCK 0 STREAMS k >
    b~ XREADGROUP GROUP g b BLOCK 0 STREAMS k >
    w: XADD k 1-4 f v
    w: XADD k 1-5 f v
    w: XINFO GROUPS k
"""
SEVERAL_STREAMS = """
    a~ XREAD BLOCK 0 STREAMS x y z $ $ $
    w: MULTI
    w: XADD z 1-1 f v
    w: XADD x 1-1 f v
    w: EXEC
    w: XADD y 1-1 f v
    w: XGROUP CREATE x g $
    w: XGROUP CREATE y g $
    a~ XREADGROUP GROUP g c BLOCK 0 STREAMS x y > >
    b~ XREADGROUP GROUP g d BLOCK 0 STREAMS y x > >
    w: MULTI
    w: XADD y 2-1 f v
    w: XADD x 2-1 f v
    w: EXEC
    w: XPENDING x g
    w: XPENDING y g
    a~ XREADGROUP GROUP g c BLOCK 0 STREAMS x y > >
    w: XGROUP DESTROY y g
    a: XREADGROUP GROUP g c BLOCK 0 STREAMS x y > >
"""
IN_MULTI = """
    a: MULTI
    a: XREAD BLOCK 0 STREAMS k $
    a: XREADGROUP GROUP g c BLOCK 0 STREAMS k >
    a: XGROUP CREATE k g $ MKSTREAM
    a: XREADGROUP GROUP g c BLOCK 0 STREAMS k >
    a: XADD k 1-1 f v
    a: XREADGROUP GROUP g c BLOCK 0 STREAMS k >
    a: XREAD BLOCK 0 STREAMS k 0
    a: XREAD BLOCK 0 STREAMS k $
    a: EXEC
"""
TIMES = """
    a: XREAD BLOCK 1 STREAMS k $
    a: XREAD BLOCK 1 STREAMS k j $ 0
    w: XGROUP CREATE k g $ MKSTREAM
    a: XREADGROUP GROUP g c BLOCK 1 STREAMS k >
    w: XINFO GROUPS k
    a~ XREADGROUP GROUP g c2 BLOCK 100000 STREAMS k >
    w: XINFO GROUPS k
    w: CLIENT UNBLOCK {a}
    a~ XREAD BLOCK 100000 STREAMS k $
    w: CLIENT UNBLOCK {a} TIMEOUT
    a~ XREAD BLOCK 100000 STREAMS k $
    w: CLIENT UNBLOCK {a} ERROR
    a~ XREADGROUP GROUP g c BLOCK 100000 STREAMS k >
    w: CLIENT UNBLOCK {a} ERROR
    a~ XREAD BLOCK 30 STREAMS k $
    * free a
    a~ XREAD BLOCK 0 STREAMS k $
    * close a
    w: XADD k 1-1 f v
    b: XREADGROUP GROUP g c BLOCK 0 STREAMS k j > >
    w: XLEN k
"""
AWAY = """
    w: XGROUP CREATE k g $ MKSTREAM
    a~ XREADGROUP GROUP g a BLOCK 0 STREAMS k >
    b~ XREADGROUP GROUP g b BLOCK 0 STREAMS k >
    c~ XREADGROUP GROUP g c BLOCK 0 STREAMS k >
    * close a
    w: CLIENT KILL ID {b}
    w: XADD k 1-1 f v
    w: XPENDING k g
    c~ XREADGROUP GROUP g c BLOCK 0 STREAMS k >
    c! ECHO behind
    c! XLEN k
    w: XADD k 1-2 f v
    c~ XREADGROUP GROUP g c BLOCK 0 STREAMS k >
    c! PING
    w: DEL k
    w: SET k v
    c: XREADGROUP GROUP g c BLOCK 0 STREAMS k >
    c: XREAD BLOCK 0 STREAMS k 0
    d: SELECT 1
    d~ XREAD BLOCK 0 STREAMS k $
    w: DEL k
    w: XADD k 1-1 f v
    w: SELECT 1
    w: XADD k 1-2 f v
"""
EXPIRY = """
    w: XGROUP CREATE k g $ MKSTREAM
    w: PEXPIRE k 1000
    a~ XREADGROUP GROUP g c BLOCK 0 STREAMS k >
    b~ XREAD BLOCK 0 STREAMS k $
    * free a
    w: XADD k 1-1 f v
    w: XADD k 1-2 f v
"""
MIXED = """
    a~ BLPOP k 0
    b~ XREAD BLOCK 0 STREAMS k $
    c~ BZPOPMIN k 0
    w: XADD k 1-1 f v
    w: DEL k
    w: ZADD k 1 m
    w: RPUSH k x
    b~ XREAD BLOCK 0 STREAMS k $
    w: SET k v
    w: DEL k
    w: XADD k 0-1 f v
    w: XADD k 0-2 f v
"""
NOTHING_NEW = """
    w: XADD k 1-1 f v
    w: XADD j 1-1 f v
    w: XADD j 1-2 f v
    b~ XREAD BLOCK 0 STREAMS k j $ $
    w: SET k v
    w: XGROUP CREATE j g $
    w: XSETID j 5-5
    w: XDEL j 1-1
    w: XTRIM j MAXLEN 0
    w: EXPIRE j 100
    w: PERSIST j
    w: XADD j 9-1 f v
"""
CONVERSATIONS = {
    "order": ORDER,
    "several streams": SEVERAL_STREAMS,
    "in MULTI": IN_MULTI,
    "times": TIMES,
    "away": AWAY,
    "expiry": EXPIRY,
    "mixed": MIXED,
    "nothing new": NOTHING_NEW,
}


@pytest.mark.parametrize("script", CONVERSATIONS.values(), ids=list(CONVERSATIONS))
def test_conversations(pair: Pair, script: str):
    """Everybody gets the oracle's replies: who is served, by which entries, and who waits on."""
    converse(pair, script, databases=())
