"""What commands tell to who listens for key events, on both servers: a script, its replies and its messages.

The listener hears one pattern that matches the messages about keys and about events. A mark is published behind each command of
a pipeline, so that it is known which messages are whose; so a transaction that is discarded is none of its business.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.client import pack
from tests.comparison import equal, shape
from tests.differential import Mismatch, commands_of, show, show_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.client import RawClient, Reply
    from tests.comparison import Words
    from tests.differential import Pair

EVERYTHING = "KEAmn"
PORTION_LINES_MAX = 100
SHOWN_MAX = 20
MARK = b"__key-mark__"


class Told:
    """A speaker and a listener on one server."""

    def __init__(self, speaker: RawClient, listener: RawClient) -> None:
        self.speaker = speaker
        self.listener = listener
        self.marks = 0

    def listen(self) -> None:
        self.listener.call("PSUBSCRIBE", "__key*__:*", "__key-mark__")
        self.listener.read()

    def send(self, commands: Iterable[Words]) -> None:
        self.speaker.send(b"".join(pack(words) + pack(("PUBLISH", MARK, "")) for words in commands))

    def receive(self) -> tuple[tuple[Reply, bytes], list[bytes]]:
        """Return the reply to the next command, and what the listener heard because of it."""
        reply = self.speaker.read()
        self.speaker.read()
        heard: list[bytes] = []
        while True:
            message = [item.value for item in self.listener.read()[0].items()]
            if message[2] == MARK:
                return reply, heard
            heard.append(b" ".join(message[2:]))


def _alike(words: Words, ours: tuple[Reply, bytes], oracle: tuple[Reply, bytes]) -> bool:
    return equal(words, ours, oracle) or (words[0] == b"SPOP" and shape(words, ours[0], oracle[0]))


def told_alike(pair: Pair, script: Sequence[str], flags: str = EVERYTHING) -> None:
    """Run a script on both servers; each command must be answered alike and tell the same, in the same order."""
    lines = list(commands_of(script))
    with contextlib.ExitStack() as stack:
        ours, oracle = (
            Told(stack.enter_context(server.connect(pair.protocol)), stack.enter_context(server.connect(pair.protocol)))
            for server in (pair.ours, pair.oracle)
        )
        for side in (ours, oracle):
            assert side.speaker.call("CONFIG", "SET", "notify-keyspace-events", flags).value == b"OK"
            side.listen()
        differing = []
        for start in range(0, len(lines), PORTION_LINES_MAX):
            portion = lines[start : start + PORTION_LINES_MAX]
            for side in (oracle, ours):
                side.send(portion)
            for number, words in enumerate(portion, start):
                (my_reply, mine), (its_reply, its) = ours.receive(), oracle.receive()
                if mine != its or not _alike(words, my_reply, its_reply):
                    before = "; ".join(show_words(line) for line in lines[max(0, number - 4) : number])
                    differing.append(
                        f"{show_words(words)}   after {before}\n  ours:   {show(my_reply[0])} {mine}\n  oracle: {show(its_reply[0])} {its}"
                    )
    if differing:
        raise Mismatch("\n".join([f"{len(differing)} commands of {len(lines)} differ", *differing[:SHOWN_MAX]]))


def tried(states: Iterable[str], commands: Iterable[str]) -> list[str]:
    """Return the script of every command from every state."""
    script = []
    for state in states:
        for command in commands:
            script += ["FLUSHALL", *state.splitlines(), *command.split("; ")]
    return script
