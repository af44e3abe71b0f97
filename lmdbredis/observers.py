"""Observers: who looks at what is being run: MONITOR, SLOWLOG, and the counts of INFO.

Theory. Each command counts its calls and its time (`registry.Command`); here is what belongs to no single command: the slow log, the
sessions that watch everything, and how often each error code was said.

Laws:

1. What is a secret is not shown: passwords, and settings that hold one.
2. What is kept of a slow request is bounded, however long it was.

It knows no clock and no socket: lines of MONITOR are laid into the sessions' `pushed`, and who runs the batch sends them.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lmdbredis.config import Config
from lmdbredis.resp import Simple
from lmdbredis.session import Gate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmdbredis.errors import ReplyError
    from lmdbredis.session import Session

_WORDS_MAX: Final = 32  # of a slow request are kept
_WORD_BYTES_MAX: Final = 128
# Scripts may make up codes: beyond so many, or so long, no new one is counted.
_ERROR_CODES_MAX: Final = 128
_ERROR_CODE_CHARS_MAX: Final = 64
_REDACTED: Final = b"(redacted)"

_ESCAPES: Final = {
    byte: b"\\x%02x" % byte for byte in range(256) if not 0x20 <= byte < 0x7F
} | {0x5C: b"\\\\", 0x22: b'\\"', 0x0A: b"\\n", 0x0D: b"\\r", 0x09: b"\\t", 0x07: b"\\a", 0x08: b"\\b"}  # fmt: skip


def quoted(word: bytes) -> bytes:
    r"""Return a word as MONITOR shows it.

    >>> quoted(b'a"b\x00\n')
    b'"a\\"b\\x00\\n"'
    """
    if word.isalnum():
        return b'"%b"' % word
    escapes = _ESCAPES
    return b'"%b"' % b"".join([escapes.get(byte) or bytes((byte,)) for byte in word])


def public(name: str, words: Sequence[bytes]) -> list[bytes]:
    """Return a request for the command of this name without its secrets (law 1)."""
    shown = list(words)
    if name == "auth":
        shown[1:] = [_REDACTED] * (len(shown) - 1)
    elif name == "hello":
        for at, word in enumerate(shown):
            if word.upper() == b"AUTH" and at > 1:
                shown[at + 1 : at + 3] = [_REDACTED] * len(shown[at + 1 : at + 3])
                break
    elif name.startswith("config") and len(shown) > 3 and shown[1].upper() == b"SET":
        for at in range(3, len(shown), 2):
            if Config.is_secret(shown[at - 1]):
                shown[at] = _REDACTED
    return shown


class SlowRequest(NamedTuple):
    """One line of the slow log."""

    id: int
    at_s: int  # since 1970
    elapsed_us: int
    words: list[bytes]
    address: str
    name: bytes  # of the client


class Observers:
    """See the module."""

    def __init__(self) -> None:
        self.monitors: dict[Session, None] = {}
        self.slow: deque[SlowRequest] = deque()  # the last one first
        self.errors: Counter[str] = Counter()  # by code
        self.error_replies = 0
        self.refused_passwords = 0  # since the start: no reset forgets them
        self._next_slow_id = 0

    # --- the slow log -------------------------------------------------------------------------------------------------------

    def note_slow(
        self, session: Session, name: str, words: Sequence[bytes], elapsed_ns: int, now_ms: int, length_max: int
    ) -> None:
        """Keep a slow request, without what is too long of it (law 2); a log of no length is left as it is."""
        if not length_max:
            return
        kept = [
            word if len(word) <= _WORD_BYTES_MAX
            else word[:_WORD_BYTES_MAX] + b"... (%d more bytes)" % (len(word) - _WORD_BYTES_MAX)
            for word in public(name, words)[:_WORDS_MAX]
        ]  # fmt: skip
        if len(words) > _WORDS_MAX:
            kept[-1] = b"... (%d more arguments)" % (len(words) - _WORDS_MAX + 1)
        self.slow.appendleft(
            SlowRequest(self._next_slow_id, now_ms // 1000, elapsed_ns // 1000, kept, session.address, session.name)
        )
        self._next_slow_id += 1
        self.shorten(length_max)

    def shorten(self, length_max: int) -> None:
        """Forget the oldest slow requests, but for so many; 0 = none."""
        while len(self.slow) > length_max > 0:
            self.slow.pop()

    # --- errors -------------------------------------------------------------------------------------------------------------

    def note_error(self, error: ReplyError) -> None:
        """Count an error reply."""
        self.error_replies += 1
        code = error.text.partition(" ")[0]
        if code in self.errors or (len(self.errors) < _ERROR_CODES_MAX and len(code) <= _ERROR_CODE_CHARS_MAX):
            self.errors[code] += 1

    def reset(self) -> None:
        """Set the counts to zero: CONFIG RESETSTAT."""
        self.errors.clear()
        self.error_replies = 0

    # --- MONITOR ------------------------------------------------------------------------------------------------------------

    def show(self, name: str, words: Sequence[bytes], database: int, address: str, now_us: int) -> Iterable[Session]:
        """Lay a line about a request into the `pushed` of everyone who watches; return them."""
        line = b"%d.%06d [%d %b] %b" % (
            now_us // 1_000_000, now_us % 1_000_000, database, address.encode("utf-8", "surrogateescape"),
            b" ".join(map(quoted, public(name, words))),
        )  # fmt: skip
        value: Any = Simple(line)
        shown = [session for session in self.monitors if not (session.gate & Gate.REPLY_OFF or session.closing)]
        for session in shown:
            session.pushed.append(session.encode[Simple](value))
        return shown
