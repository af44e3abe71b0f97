"""Publish and subscribe: who listens to what.

Theory. Three kinds of subscription: channels, patterns over channels, and shard channels, which are channels in a world of their
own. The hub holds for each name who listens, a session holds what it listens to; both are dictionaries used as ordered sets, and
always changed together. A message is encoded once for each protocol and laid into the sessions' `pushed` (see `lobby`).

Laws:

1. The hub knows no words, no replies and no sockets.
2. What a session listens to ends with the session and with RESET.
3. Nobody pays who does not listen: without subscribers PUBLISH is two lookups.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from lmdbredis import pattern
from lmdbredis.session import NOT_LISTENING, Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from lmdbredis.session import Session


class Kind(IntEnum):
    """What a name names."""

    CHANNEL = 0
    PATTERN = 1
    SHARD = 2


_KINDS: Final = tuple(Kind)


class Hub:
    """All subscriptions of all sessions."""

    def __init__(self) -> None:
        self._listeners: tuple[dict[bytes, dict[Session, None]], ...] = ({}, {}, {})  # by kind: name -> who listens
        self._matchers: dict[bytes, Callable[[bytes], bool]] = {}  # by pattern

    def subscribe(self, session: Session, kind: Kind, name: bytes) -> bool:
        """Let the session listen; tell whether it did not before. O(1)."""
        if session.listens is NOT_LISTENING:
            session.listens = ({}, {}, {})
            session.gate |= Gate.LISTENS
        names = session.listens[kind]
        if name in names:
            return False
        names[name] = None
        self._listeners[kind].setdefault(name, {})[session] = None
        if kind == Kind.PATTERN and name not in self._matchers:
            self._matchers[name] = pattern.compile(name)
        return True

    def unsubscribe(self, session: Session, kind: Kind, name: bytes) -> bool:
        """Let the session listen no more; tell whether it did. O(1)."""
        names, listeners = session.listens[kind], self._listeners[kind]
        if name not in names:
            return False
        del names[name], listeners[name][session]
        if not listeners[name]:
            del listeners[name]
            if kind == Kind.PATTERN:
                del self._matchers[name]
        if not any(session.listens):
            session.listens = NOT_LISTENING
            session.gate &= ~Gate.LISTENS
        return True

    def forget(self, session: Session) -> None:
        """Let the session listen to nothing."""
        for kind in _KINDS:
            for name in list(session.listens[kind]):
                self.unsubscribe(session, kind, name)

    def receivers(self, kind: Kind, channel: bytes) -> Iterator[tuple[tuple[bytes, ...], Collection[Session]]]:
        """Yield what comes before a message to a channel, (b"message", channel) and the like, and who gets it so."""
        listeners = self._listeners
        sessions = listeners[kind].get(channel)
        if sessions:
            yield (b"smessage" if kind == Kind.SHARD else b"message", channel), sessions
        if kind == Kind.CHANNEL:
            for name, matches in self._matchers.items():
                if matches(channel):
                    yield (b"pmessage", name, channel), listeners[Kind.PATTERN][name]

    def names(self, kind: Kind) -> list[bytes]:
        """Return the names that somebody listens to. O(names)."""
        return list(self._listeners[kind])

    def count(self, kind: Kind, name: bytes) -> int:
        """Return how many sessions listen to a name. O(1)."""
        return len(self._listeners[kind].get(name, ()))

    def sessions(self) -> int:
        """Return how many sessions listen to anything. O(subscriptions)."""
        return len({session for listeners in self._listeners for who in listeners.values() for session in who})
