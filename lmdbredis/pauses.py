"""Pauses: requests that wait for a while because somebody said so: CLIENT PAUSE, FAILOVER, SHUTDOWN.

Theory. While a pause is on, a request that it holds is not run: its session stands, with everything behind that request, until a
pause ends; then it is asked again. What does not write goes on under ``WRITE``. Keys do not expire meanwhile, so that what others
copy stands still. There is one pause for each purpose, and who ends his own ends no other.

Law: a pause that is begun while one for the same purpose is on never ends before it, and holds no less.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from lmdbredis.registry import TOLD_TO_REPLICAS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmdbredis.registry import Command
    from lmdbredis.session import Session

OF_SCRIPTS: Final = frozenset({"eval", "evalsha"})
# Commands that do not write rows, but that a replica would have to know of.
AS_WRITES: Final = TOLD_TO_REPLICAS | OF_SCRIPTS | {"fcall", "pfcount"}


class Purpose(Enum):
    """What a pause is for."""

    CLIENT = auto()  # CLIENT PAUSE
    FAILOVER = auto()
    SHUTDOWN = auto()


class Pauses:
    """The pauses that are on."""

    def __init__(self) -> None:
        self._until_ns: dict[Purpose, int] = {}  # on the executor's clock
        self._hold_all: set[Purpose] = set()  # those that hold more than writes
        self._standing: dict[Session, None] = {}

    @property
    def is_on(self) -> bool:
        """Tell whether requests may have to wait."""
        return bool(self._until_ns)

    @property
    def until_ns(self) -> int:
        """Return when the next pause ends, 0 = none is on."""
        return min(self._until_ns.values(), default=0)

    def begin(self, purpose: Purpose, until_ns: int, *, writes_only: bool) -> None:
        """Pause until then."""
        self._until_ns[purpose] = max(until_ns, self._until_ns.get(purpose, 0))
        if not writes_only:
            self._hold_all.add(purpose)

    def end(self, purpose: Purpose) -> list[Session]:
        """Pause for this purpose no more; return who stands, and is to be asked again."""
        self._until_ns.pop(purpose, None)
        self._hold_all.discard(purpose)
        standing, self._standing = list(self._standing), {}
        return standing

    def due(self, now_ns: int) -> list[Purpose]:
        """Return which pauses are over by now."""
        return [purpose for purpose, until_ns in self._until_ns.items() if until_ns <= now_ns]

    def hold(
        self,
        session: Session,
        command: Command,
        words: Sequence[bytes],
        writes_nothing: Callable[[Sequence[bytes]], bool],
    ) -> bool:
        """Hold a session if its request must wait; tell whether it must. `writes_nothing` tells whether a request runs a script that says so."""
        asked = [(command, words), *(session.queued if command.name == "exec" else ())]
        if not self._hold_all and not any(
            one.writes or (one.name in AS_WRITES and not (one.name in OF_SCRIPTS and writes_nothing(said)))
            for one, said in asked
        ):
            return False
        self._standing[session] = None
        return True

    def standing(self) -> int:
        """Return how many sessions are held."""
        return len(self._standing)

    def forget(self, session: Session) -> None:
        """Take note that a client is gone."""
        self._standing.pop(session, None)
