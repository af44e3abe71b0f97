r"""One script, several connections, two servers: what each connection gets, replies and pushes, in order, must be the same.

    converse(pair, '''
        a~ BLPOP k 0              # `~`: it blocks; the script goes on once the server shows the client as blocked
        b: RPUSH k 1 2            # `:`: it is answered
        a: LRANGE k 0 -1
        c: CLIENT KILL ID {a}     # {a}: the id of connection a, {a.address}: its address
        * close b                 # the client goes away, and the server has seen it
        * until EXISTS k is 0     # said again and again, by nobody in the script, until the answer is this
        * free c                  # c is not blocked any more (its time was up)
        * hold c                  # c is not looked at, since what comes to him comes at no time in particular,
        * heed c                  # until now
        d! CLIENT REPLY OFF       # `!`: nothing will be answered; d is not looked at before its next line with `:`
        a~ BLPOP k 0
        a! ECHO behind            # behind a blocked command: it waits in line, and so do we not
        e? BLPOP k 0              # `?`: it blocks or is answered, as the oracle decides
    ''')

Laws:
- Nothing is left to luck: after every line each connection that can speak says PING with a word that was never said before,
  and what comes until the answer is what it got. One that cannot speak (blocked, in MULTI, silent) is read later.
- What a connection is (blocked, queueing, gone) is asked of the servers, with CLIENT LIST; ours has to become what the oracle is.
- Bytes are compared by the rules of `differential`. MONITOR's lines are told apart from replies by their form; time and
  addresses in them are replaced by the names of connections, and what this file itself says is left out.
- Whoever takes part is closed at the end, and both servers have seen it: the next test finds nobody waiting.
- Then both servers hold the same keys.

The order of what *different* connections get is not compared: nobody can see it.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import select
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.client import Disconnected, Incomplete, RawClient, Reply, pack, parse
from tests.comparison import equal
from tests.differential import Mismatch, line_words, same_keys, show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.comparison import Words
    from tests.differential import Pair

    Got = list[tuple[Reply, bytes]]

WAIT_SECONDS_MAX = 5.0
POLL_SECONDS = 0.0005
SHOWN_LINES_MAX = 40
OURS, ORACLE = SIDES = (0, 1)

_LINE = re.compile(r"(\w+)([:~!?]) +(.*)")
_UNTIL = re.compile(r"until (.*) is (.*)")
_NAME = re.compile(r"\{(\w+)(\.address)?\}")
_MONITORED = re.compile(rb"\d+\.\d{6} \[(\d+) ([^\]]*)\] (.*)", re.DOTALL)
_CLIENT = re.compile(rb"id=(\d+) .*? flags=(\w+) ")
_TOKENS = itertools.count()
_TOKEN = b"barrier-%d-of-the-script"
_ANSWERED_BY_PUSHES = {kind + name for kind in (b"", b"P", b"S") for name in (b"SUBSCRIBE", b"UNSUBSCRIBE")}


@dataclass(eq=False)
class Voice:
    """One connection of the script: one to each server."""

    name: str
    clients: tuple[RawClient, RawClient]
    ids: tuple[int, int]
    addresses: tuple[bytes, bytes]
    words: Words = (b"",)  # what it said last
    got: tuple[Got, Got] = field(default_factory=lambda: ([], []))  # since the last comparison
    is_silent: bool = False  # it gets no answers
    state: str = "open"  # or "blocked", "queues", "gone": the oracle's view after the last line


def wait_until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Return when the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise Mismatch(f"{what} does not come to hold")
        time.sleep(POLL_SECONDS)


def _readable(client: RawClient, seconds: float) -> bool:
    return bool(client.buffer) or bool(select.select([client.socket], [], [], seconds)[0])


def _read_what_came(client: RawClient) -> Got:
    """Return the whole replies that have come; wait for nothing."""
    while select.select([client.socket], [], [], 0)[0]:
        client._receive()
    got, at = [], 0
    with contextlib.suppress(Incomplete):
        while at < len(client.buffer):
            reply, end = parse(client.buffer, at)
            got.append((reply, bytes(client.buffer[at:end])))
            at = end
    del client.buffer[:at]
    return got


def _is_monitored(reply: Reply) -> re.Match[bytes] | None:
    return _MONITORED.fullmatch(reply.value) if reply.kind == "+" else None


class Talk:
    """Connections to both servers, opened when they are first named. `say` and `do` for one line, `run` for a script."""

    def __init__(
        self,
        pair: Pair,
        *,
        rules: Callable[[Words, Reply, Reply], bool] | None = None,
        wait_seconds_max: float = WAIT_SECONDS_MAX,
    ) -> None:
        self.pair = pair
        self.wait_seconds_max = wait_seconds_max
        self.voices: dict[str, Voice] = {}
        self.history: list[str] = []
        self.rules = rules  # of this test alone: may two replies that differ differ?
        self.control = pair.clients()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # --- the script ---------------------------------------------------------------------------------------------------------------

    def run(self, script: str | Sequence[str]) -> None:
        """Say the lines of a script."""
        lines = [line.strip() for line in (script.splitlines() if isinstance(script, str) else script)]
        for line in lines:
            found = _LINE.match(line)
            if found:
                self.voice(found[1])
        for line in lines:
            if line and not line.startswith("#"):
                self.line(line)

    def line(self, line: str) -> None:
        """Say one line, see the module."""
        if line.startswith("* "):
            self.history.append(line)
            self.do(line[2:])
            return
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"no line of a script: {line!r}")
        name, mark, text = found.groups()
        self.say(name, mark, *(line_words(_NAME.sub(self._named(side), text)) for side in SIDES))

    def _named(self, side: int) -> Callable[[re.Match[str]], str]:
        def value(found: re.Match[str]) -> str:
            voice = self.voice(found[1])
            return voice.addresses[side].decode() if found[2] else str(voice.ids[side])

        return value

    def voice(self, name: str) -> Voice:
        """Return a connection, opened now if nobody named it before."""
        if name not in self.voices:
            clients = self.pair.fresh()
            for client in clients:
                client.socket.settimeout(self.wait_seconds_max)
            ids = [client.call("CLIENT", "ID").value for client in clients]
            addresses = [
                b"%b:%d" % (host.encode(), port) for host, port in (one.socket.getsockname() for one in clients)
            ]
            self.voices[name] = Voice(name, clients, tuple(ids), tuple(addresses))
        return self.voices[name]

    def say(self, name: str, mark: str, ours: Words, theirs: Words | None = None) -> None:
        """Let a connection say words (to the oracle `theirs`, where ids are in them), and compare what everybody gets."""
        voice = self.voice(name)
        voice.words = ours
        self.history.append(f"{name}{mark} " + " ".join(ascii(word.decode("latin-1"))[1:-1] or '""' for word in ours))
        self._guarded(voice, lambda: self._say(voice, mark, (ours, theirs or ours)))
        self.settle()

    def _say(self, voice: Voice, mark: str, words: tuple[Words, Words]) -> None:
        for client, said in zip(voice.clients, words, strict=True):
            client.send(pack(said))
        if mark == "!":
            voice.is_silent |= voice.state != "blocked"
            return
        if mark == "~":
            self._wait(
                lambda: self._states(ORACLE)[voice.name] == "blocked", f"{voice.name} does not block in the oracle"
            )
            return
        voice.is_silent = False
        if mark == "?":
            is_answered = False
            while not is_answered:  # what can be read may be pushes of its own doing, to one who waits
                is_answered = _readable(voice.clients[ORACLE], POLL_SECONDS)
                if self._states(ORACLE)[voice.name] == "blocked":
                    return
        for side in reversed(SIDES):
            self._read_answer(voice, side)

    def _read_answer(self, voice: Voice, side: int) -> None:
        """Read until the answer to what was said; pushes and monitored lines may come before it."""
        while True:
            item = voice.clients[side].read()
            voice.got[side].append(item)
            kind = item[0].kind
            if kind == ">" and voice.words[0].upper() not in _ANSWERED_BY_PUSHES:
                continue
            if not _is_monitored(item[0]):
                return

    def do(self, directive: str) -> None:
        """Follow a line that begins with a star."""
        word, _, name = directive.partition(" ")
        if word == "close":
            voice = self.voices.pop(name)
            for client in voice.clients:
                client.close()
            self._wait_gone([voice])
        elif word == "free":
            self._wait(lambda: all(self._states(side)[name] != "blocked" for side in SIDES), f"{name} stays blocked")
        elif word in ("hold", "heed"):
            self.voices[name].is_silent = word == "hold"
        elif found := _UNTIL.fullmatch(directive):
            words, wanted = line_words(found[1]), found[2].encode()
            for client in self.control:
                self._wait(lambda client=client: b"%a" % client.call(*words).plain() == wanted, directive)
        else:
            raise ValueError(f"no directive of a script: {directive!r}")
        self.settle()

    # --- what everybody gets --------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Return when everything that must come has come to everybody, and is the same."""
        seen: list[dict[str, str]] = []

        def agree() -> bool:
            seen[:] = [self._states(side) for side in SIDES]
            return seen[OURS] == seen[ORACLE]

        self._wait(agree, "the connections are not in the same states:", lambda: self._differing(*seen))
        for name, state in seen[ORACLE].items():
            self.voices[name].state = state
        token = _TOKEN % next(_TOKENS)
        ready = [voice for voice in self.voices.values() if voice.state == "open" and not voice.is_silent]
        for voice in ready:
            self._guarded(voice, lambda voice=voice: [client.send(pack(("PING", token))) for client in voice.clients])
        for voice in ready:
            self._guarded(voice, lambda voice=voice: self._read_until(voice, token))
            self._compare(voice)
        for voice in list(self.voices.values()):
            if voice.state == "gone":
                self._bury(voice)
            elif voice.state in ("blocked", "queues") and not voice.is_silent:
                self._compare_unasked(voice)

    def _read_until(self, voice: Voice, token: bytes) -> None:
        answers = []
        for side in reversed(SIDES):
            while True:
                item = voice.clients[side].read()
                if item[0].kind in "$*" and token in (item[0].value, *(one.value for one in item[0].items())):
                    break
                voice.got[side].append(item)
            answers.append(item[1])
        if answers[0] != answers[1]:
            raise Mismatch(
                self._explain(f"{voice.name}: PING is answered {answers[1]!r}, by the oracle {answers[0]!r}")
            )

    def _compare_unasked(self, voice: Voice) -> None:
        """Compare what came to one that cannot be asked whether that is all: as much here as there."""

        def same_number() -> bool:
            for side in SIDES:
                voice.got[side].extend(_read_what_came(voice.clients[side]))
            return len(voice.got[OURS]) == len(voice.got[ORACLE])

        with contextlib.suppress(Mismatch):  # it is told with what was got
            self._guarded(voice, lambda: self._wait(same_number, "pushes"))
        self._compare(voice)

    def _bury(self, voice: Voice) -> None:
        """The server closed a connection: what came until then must be the same."""
        for side in SIDES:
            client = voice.clients[side]
            with contextlib.suppress(Disconnected):
                while True:
                    voice.got[side].append(client.read())
        self._compare(voice)
        del self.voices[voice.name]

    def _compare(self, voice: Voice) -> None:
        """Raise Mismatch unless both servers sent the same since the last time."""
        ours, theirs = (self._shown_by_monitor(side, voice.got[side]) for side in SIDES)
        same = len(ours) == len(theirs) and all(
            self._is_equal(voice.words, mine, its) for mine, its in zip(ours, theirs, strict=True)
        )
        if not same:
            got = [
                f"{name} {' '.join(show(reply) for reply, _ in side)}"
                for name, side in (("ours:  ", ours), ("oracle:", theirs))
            ]
            raise Mismatch(self._explain("\n".join([f"{voice.name} got", *got])))
        for side in SIDES:
            voice.got[side].clear()

    def _is_equal(self, words: Words, mine: tuple[Reply, bytes], its: tuple[Reply, bytes]) -> bool:
        return equal(words, mine, its) or (self.rules is not None and self.rules(words, mine[0], its[0]))

    def _shown_by_monitor(self, side: int, got: Got) -> Got:
        """Return what was got; in monitored lines there are names for addresses, and none of our own doing."""
        result = []
        for reply, raw in got:
            found = _is_monitored(reply)
            if found:
                database, address, rest = found.groups()
                if address == b"%b:%d" % _address(self.control[side]) or b'"barrier-' in rest:
                    continue
                names = [voice.name.encode() for voice in self.voices.values() if voice.addresses[side] == address]
                raw = b"+now [%b %b] %b\r\n" % (database, names[0] if names else address, rest)
                reply = Reply("+", raw[1:-2])
            result.append((reply, raw))
        return result

    # --- what the servers say of them -----------------------------------------------------------------------------------------------

    def _states(self, side: int) -> dict[str, str]:
        """Return name -> what a server shows a connection as."""
        listed = self.control[side].call("CLIENT", "LIST").value
        flags = dict(_CLIENT.findall(listed))
        states = {}
        for name, voice in self.voices.items():
            found = flags.get(b"%d" % voice.ids[side])
            if found is None or b"c" in found or b"A" in found:
                states[name] = "gone"
            elif b"b" in found:
                states[name] = "blocked"
            else:
                states[name] = "queues" if b"x" in found else "open"
        return states

    def _wait(self, condition: Callable[[], bool], what: str, details: Callable[[], str] = str) -> None:
        deadline = time.monotonic() + self.wait_seconds_max
        while not condition():
            if time.monotonic() > deadline:
                raise Mismatch(self._explain(f"{what} {details()}"))
            time.sleep(POLL_SECONDS)

    def _differing(self, ours: dict[str, str], theirs: dict[str, str]) -> str:
        """Return which connections are something else here than there, and what has come to them."""
        lines = []
        for voice in self.voices.values():
            if ours[voice.name] != theirs[voice.name]:
                for side, state in zip(SIDES, (ours, theirs), strict=True):
                    with contextlib.suppress(Disconnected, OSError, ValueError):
                        voice.got[side].extend(_read_what_came(voice.clients[side]))
                    got = " ".join(show(reply) for reply, _ in voice.got[side])
                    lines.append(
                        f"{voice.name} is {state[voice.name]} {('here', 'there')[side]}, got: {got or 'nothing'}"
                    )
        return "\n".join(lines)

    def _wait_gone(self, voices: Sequence[Voice]) -> None:
        for side in SIDES:
            wanted = {b"%d" % voice.ids[side] for voice in voices}

            def gone(side: int = side, wanted: set[bytes] = wanted) -> bool:
                return not wanted & dict(_CLIENT.findall(self.control[side].call("CLIENT", "LIST").value)).keys()

            self._wait(gone, "closed connections are not forgotten")

    def _guarded(self, voice: Voice, work: Callable[[], object]) -> None:
        """Do work on a connection; if one server is gone or silent, say where in the script."""
        try:
            work()
        except Disconnected as error:
            ours, theirs = (len(side) for side in voice.got)
            raise Mismatch(
                self._explain(f"{voice.name}: {error}; replies so far: ours {ours}, oracle {theirs}")
            ) from error

    def _explain(self, what: str) -> str:
        return "\n".join(["", what, "after", *(f"  {line}" for line in self.history[-SHOWN_LINES_MAX:])])

    def close(self) -> None:
        """Close everybody, and wait until both servers have seen it."""
        voices = list(self.voices.values())
        self.voices.clear()
        for voice in voices:
            for client in voice.clients:
                client.close()
        self._wait_gone(voices)


def _address(client: RawClient) -> tuple[bytes, int]:
    host, port = client.socket.getsockname()
    return host.encode(), port


def converse(
    pair: Pair,
    script: str | Sequence[str],
    *,
    databases: Sequence[int] = (0,),
    rules: Callable[[Words, Reply, Reply], bool] | None = None,
) -> None:
    """Run a script of several connections against both servers; then both must hold the same keys in `databases`."""
    __tracebackhide__ = True
    with Talk(pair, rules=rules) as talk:
        talk.run(script)
    if databases:
        same_keys(*pair.clients(), databases)
