"""Pauses: requests that wait for a while because somebody said so: CLIENT PAUSE.

Theory. While a pause is on, a request that it holds is not run: its session stands, with everything behind that request, until the
pause ends. What does not write goes on under ``WRITE``. Keys do not expire meanwhile, so that what others copy stands still.

Law: a pause that is begun while another is on never ends before it, and holds no less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmdbredis.registry import Command
    from lmdbredis.session import Session

# Commands that do not write rows, but that a replica would have to know of.
_AS_WRITES: Final = frozenset(
    {"publish", "spublish", "eval", "evalsha", "fcall", "pfcount", "script|load", "script|flush"}
)
_OF_SCRIPTS: Final = frozenset({"eval", "evalsha"})


class Pauses:
    """The pause that is on, if one is."""

    def __init__(self) -> None:
        self.until_ns = 0  # on the executor's clock; 0 = no pause is on
        self._writes_only = False
        self._standing: dict[Session, None] = {}

    @property
    def is_on(self) -> bool:
        """Tell whether requests may have to wait."""
        return self.until_ns != 0

    def begin(self, until_ns: int, *, writes_only: bool) -> None:
        """Pause until then."""
        self._writes_only = writes_only and (self._writes_only or not self.is_on)
        self.until_ns = max(until_ns, self.until_ns)

    def end(self) -> list[Session]:
        """Pause no more; return who stands."""
        self.until_ns = 0
        standing, self._standing = list(self._standing), {}
        return standing

    def hold(
        self,
        session: Session,
        command: Command,
        words: Sequence[bytes],
        writes_nothing: Callable[[Sequence[bytes]], bool],
    ) -> bool:
        """Hold a session if its request must wait; tell whether it must. `writes_nothing` tells whether a request runs a script that says so."""
        if self._writes_only and not (
            command.writes
            or (command.name in _AS_WRITES and not (command.name in _OF_SCRIPTS and writes_nothing(words)))
            or (command.name == "exec" and any(found.writes or found.name in _AS_WRITES for found, _ in session.queued))
        ):
            return False
        self._standing[session] = None
        return True

    def forget(self, session: Session) -> None:
        """Take note that a client is gone."""
        self._standing.pop(session, None)
