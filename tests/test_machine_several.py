"""Random conversations of several connections, with crashes in between, against the oracle.

Laws:
- What is drawn is a line of a table, filled from few hot keys, and who says it: one of four connections, that may be waiting,
  queueing, watching or listening. Whoever waits can be spoken to (it stands behind what he waits for), unblocked, killed, closed.
- What each of them gets, replies and pushes, key events among them, is the same in the same order, after every line.
- Nothing depends on how long a line takes: who waits, waits for ever, or is waited for.
- kill -9 happens to our server alone. Then everybody has to come back, to both, and both hold the same.

`make fuzz` runs thousands of these; the default profile some tens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.differential import Mismatch, lines_of, same_keys
from tests.several import Talk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.differential import Pair

NAMES = ("a", "b", "c", "d")
FEEDER = "w"  # never waits, so that what others wait for can come
WAIT_SECONDS_MAX = 2.0  # for what does not come at all: shrinking a mismatch meets it often
DATABASES = (0, 1)
SHORT = "0.002"  # seconds to wait: long enough to be seen waiting, and waited for
EXAMPLES_MAX = 100  # of the quick suite
KILLS_MAX = 1  # in one example: each costs a start of the interpreter

# A slot of a line -> the phrases that fill it.
SLOTS: dict[str, tuple[str, ...]] = {
    "{k}": ("k", "k", "k", "j", "q"),
    "{v}": ("1", "2", "three", '""', '"\\x00\\r\\n"'),
    "{n}": ("0", "1", "-2.5", "inf"),
    "{side}": ("LEFT", "RIGHT"),
    "{db}": ("0", "0", "1"),
    "{t}": ("0", "0", "0", SHORT),
    "{channel}": ("one", "two", "p"),
    "{pattern}": ("p*", "__key*"),
    "{how}": ("", "TIMEOUT", "ERROR"),
}
LINES = lines_of("""
    RPUSH {k} {v}
    RPUSH {k} {v} {v} {v}
    LPUSH {k} {v} {v}
    LPOP {k}
    LRANGE {k} 0 -1
    LMOVE {k} {k} {side} {side}
    LMPOP 2 {k} {k} {side} COUNT 2
    ZADD {k} {n} {v}
    ZADD {k} {n} {v} {n} {v}
    ZPOPMAX {k}
    ZRANGE {k} 0 -1 WITHSCORES
    ZUNIONSTORE {k} 2 {k} {k}
    SET {k} {v}
    SET {k} 1 EX 1000
    GET {k}
    INCR {k}
    APPEND {k} {v}
    SADD {k} {v} {v}
    HSET {k} f {v}
    DEL {k}
    DEL {k} {k}
    EXISTS {k} {k}
    RENAME {k} {k}
    COPY {k} {k} REPLACE
    MOVE {k} {db}
    EXPIRE {k} 1000
    PEXPIREAT {k} 1
    PERSIST {k}
    SELECT {db}
    SWAPDB 0 1
    FLUSHALL
    FLUSHDB
    PING
""")
FOOD = lines_of("""
    RPUSH {k} {v}
    RPUSH {k} {v} {v} {v}
    LPUSH {k} {v} {v}
    ZADD {k} {n} {v} {n} {v}
    DEL {k}
""")
WAITING = lines_of("""
    BLPOP {k} {t}
    BLPOP {k} {k} {t}
    BRPOP {k} {k} {k} {t}
    BLMOVE {k} {k} {side} {side} {t}
    BRPOPLPUSH {k} {k} {t}
    BLMPOP {t} 2 {k} {k} {side} COUNT 2
    BZPOPMIN {k} {k} {t}
    BZPOPMAX {k} {t}
    BZMPOP {t} 2 {k} {k} MAX COUNT 2
""")
TOGETHER = lines_of("""
    MULTI
    MULTI
    EXEC
    EXEC
    EXEC
    DISCARD
    WATCH {k}
    WATCH {k} {k}
    UNWATCH
    NOSUCH
    CLIENT UNBLOCK {other} {how}
    CLIENT UNBLOCK {other} {how}
    RESET
""")
TALKING = lines_of("""
    SUBSCRIBE {channel}
    UNSUBSCRIBE {channel}
    PSUBSCRIBE {pattern}
    PUNSUBSCRIBE {pattern}
    SSUBSCRIBE {channel}
    SUNSUBSCRIBE {channel}
    PUBLISH {channel} {v}
    PUBLISH {channel} {v}
    SPUBLISH {channel} {v}
""")
STREAMS = lines_of("""
    XADD s {id} f {v}
    XADD s {id} f {v}
    XLEN s
    XTRIM s MAXLEN 1
    DEL s
    RENAME s k
    XGROUP CREATE s g $ MKSTREAM
    XGROUP DESTROY s g
    XREAD BLOCK 0 STREAMS s $
    XREAD COUNT 2 BLOCK 0 STREAMS s 3-0
    XREADGROUP GROUP g c BLOCK 0 STREAMS s >
    XREADGROUP GROUP g d COUNT 1 BLOCK 0 STREAMS s >
    XPENDING s g
""")


Turn = tuple[str, str, str]  # who says it, who is meant by `{other}`, the line


@st.composite
def lines(draw: st.DrawFn, templates: list[str]) -> str:
    """Draw a line of a table and fill its slots; who is meant by `{other}` is filled in later."""
    words = draw(st.sampled_from(templates)).split()
    return " ".join(draw(st.sampled_from(SLOTS[word])) if word in SLOTS else word for word in words)


def turns(templates: list[str], most: int = 5) -> st.SearchStrategy[list[Turn]]:
    """Return the strategy of some turns of a conversation."""
    turn = st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), lines(templates))
    return st.lists(turn, min_size=1, max_size=most)


class Machine(RuleBasedStateMachine):
    """Both servers and four connections to each. A subclass carries the pair."""

    pair: ClassVar[Pair]

    @initialize()
    def begin(self) -> None:
        self.kills = 0
        self.entries = 0
        self.said = 0
        self.broken = False  # a mismatch was seen: what follows proves nothing
        self.pair.flush()
        self.meet()
        found = self.pair.ours.client().call("COMMAND", "INFO", "XADD").items()
        self.knows_streams = bool(found and found[0].items())

    def meet(self) -> None:
        """Let everybody come."""
        for client in self.pair.clients():
            client.call("CONFIG", "SET", "notify-keyspace-events", "KEA")
        self.talk = Talk(self.pair, wait_seconds_max=WAIT_SECONDS_MAX)

    def checked(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException:
            self.broken = True
            raise

    def say(self, name: str, other: str, line: str) -> None:
        """Let somebody say a line; behind what he waits for, if he waits."""
        if other == name:  # nobody kills himself: who answers then is open
            other = NAMES[NAMES.index(name) - 1] if name in NAMES else NAMES[0]
        line = line.replace("{other}", f"{{{other}}}")
        if "{id}" in line:
            self.entries += 1
            line = line.replace("{id}", f"{self.entries}-1")
        if self.talk.voice(name).state == "blocked":
            mark, line = (
                "!",
                line.replace(SHORT, "0"),
            )  # it would run out when it is this line's turn, at no time in particular
        else:
            mark = ":" if SHORT in line else "?"
        self.said += 1
        self.checked(lambda: self.talk.line(f"{name}{mark} {line}"))

    # Who speaks and what of: hypothesis favours some of these rules in each example.

    @rule(turns=turns(LINES))
    def change(self, turns: list[Turn]) -> None:
        """Keys are changed and read."""
        self.converse(turns)

    @rule(turns=turns(WAITING))
    def wait(self, turns: list[Turn]) -> None:
        """Some may have to wait."""
        self.converse(turns)

    @rule(turns=turns(FOOD, most=2))
    def feed(self, turns: list[Turn]) -> None:
        """Those who wait get something, from one who never waits."""
        self.converse([(FEEDER, other, line) for _, other, line in turns])

    @rule(turns=turns([*TOGETHER, *LINES, *WAITING, *FOOD]))
    def together(self, turns: list[Turn]) -> None:
        """Transactions begin and end, keys are watched, one deals with another."""
        self.converse(turns)

    @rule(name=st.sampled_from([*NAMES, FEEDER]), turns=turns([*LINES, *WAITING, *FOOD, *TALKING]))
    def transaction(self, name: str, turns: list[Turn]) -> None:
        """Somebody says a whole transaction."""
        self.converse([(name, name, line) for line in ("MULTI", *(line for _, _, line in turns), "EXEC")])

    @rule(turns=turns([*TALKING, *FOOD]))
    def listen(self, turns: list[Turn]) -> None:
        """Some listen or publish."""
        self.converse(turns)

    @precondition(lambda self: self.knows_streams)
    @rule(turns=turns(STREAMS))
    def stream(self, turns: list[Turn]) -> None:
        """Some read a stream, wait for it, or add to it."""
        self.converse(turns)

    def converse(self, turns: list[Turn]) -> None:
        """Let some say lines in turn."""
        for turn in turns:
            self.say(*turn)

    @rule(name=st.sampled_from(NAMES))
    def close(self, name: str) -> None:
        """Somebody goes away."""
        if name in self.talk.voices:
            self.checked(lambda: self.talk.line(f"* close {name}"))

    @rule(key=st.sampled_from(["k", "j"]), ms=st.integers(1, 10))
    def expire(self, key: str, ms: int) -> None:
        """A key's time comes, on both."""

        def work() -> None:
            for client in self.pair.clients():
                client.call("PEXPIRE", key, ms)
            self.talk.line(f"* until EXISTS {key} is 0")

        self.checked(work)

    @precondition(lambda self: self.kills < KILLS_MAX and self.said > 5)
    @rule(now=st.integers(0, 7))
    def kill9(self, now: int) -> None:
        """Our process dies and starts again: everybody comes back, and nothing that was answered is lost."""
        if now != 7:
            return
        self.kills += 1

        def work() -> None:
            self.talk.close()
            self.pair.ours.kill9()
            self.pair.ours.restart()
            same_keys(*self.pair.clients(), DATABASES)
            history = self.talk.history
            self.meet()
            self.talk.history = [*history, "* kill -9"]

        self.checked(work)

    def teardown(self) -> None:
        """Both hold the same keys, and our rows obey the format."""
        if hasattr(self, "talk"):
            history = self.talk.history
            self.talk.close()
            if self.broken:
                return
            try:
                same_keys(*self.pair.clients(), DATABASES)
            except Mismatch as error:
                raise Mismatch("\n".join([str(error), "after", *history])) from error
        self.pair.check()


def test_machine_of_several(pair: Pair):
    """Whoever says what in whatever order, through crashes, everybody gets the oracle's replies and pushes in its order."""

    class Bound(Machine):
        pass

    Bound.pair = pair
    # No shrinking: every step is two servers' time, and a failing example is as long as a conversation anyway. The same
    # conversations each time; `make fuzz` has others.
    is_fuzz = settings.default is not None and settings.default.max_examples > EXAMPLES_MAX
    chosen = settings(phases=(Phase.explicit, Phase.reuse, Phase.generate), derandomize=not is_fuzz)
    run_state_machine_as_test(Bound, settings=chosen)
