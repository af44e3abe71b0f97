"""One client's state, without its socket.

Laws: a session holds what the protocol lets a client set (database, protocol, name, authentication, reply mode) and the
requests that wait to run; bytes arrive by its `parser` and leave by `send`, which the server sets. `gate` gathers everything that
takes a request off the straight way (see `executor`): it is 0 for nearly every session at nearly every moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmdbredis.resp import ENCODE2, ENCODE3, RequestParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmdbredis.database import Database


class Gate:
    """Why a session's requests cannot take the straight way: bits of `Session.gate`, plain ints, because it is looked at for each request."""

    NEEDS_AUTH: Final = 1
    REPLY_OFF: Final = 2  # CLIENT REPLY OFF: no replies until ON
    REPLY_SKIP: Final = 4  # CLIENT REPLY SKIP: no reply to the next command
    IN_MULTI: Final = 8  # between MULTI and EXEC: commands are queued
    LISTENS: Final = 16  # subscribed to something: pushes may come between the replies
    WAITS: Final = 32  # for keys: see `blocking`
    PAUSED: Final = 64  # a request of it is held by CLIENT PAUSE
    MONITORS: Final = 128  # is shown everything
    REPLICATES: Final = 256  # a replica, which gets the log


STANDS: Final = Gate.WAITS | Gate.PAUSED  # no request of the session may be run
DEFAULT_USER: Final = b"default"
NOT_LISTENING: Final[tuple[dict[bytes, None], ...]] = (
    {},
    {},
    {},
)  # what sessions share that are subscribed to nothing; never added to
NOTHING_WATCHED: Final[dict[Any, Any]] = {}  # what sessions share that watch nothing; never added to
NO_REQUESTS: Final[list[list[bytes]]] = []  # what sessions share that have none; never added to


class Session:
    """One client. Times are ms since the epoch."""

    __slots__ = (
        "aborts", "address", "closing", "created_ms", "database", "encode", "ends", "fd", "fits", "gate", "id", "is_ready", "is_stale", "kept",
        "kept_bytes", "kill", "last_ms", "last_words", "lib_name", "lib_version", "listens", "local_address", "moved_bytes", "name", "no_evict", "no_touch", "output",
        "parser", "pauses", "pending_output_bytes", "protocol", "pushed", "queued", "queued_from", "received_bytes", "requests", "run_now", "send",
        "sent_bytes", "soft_since_ms", "user", "watched",
    )  # fmt: skip

    def __init__(self, ident: int, database: Database, address: str, local_address: str, now_ms: int) -> None:
        self.id = ident
        self.database = database
        self.address = address  # "ip:port" or "/path:0"
        self.local_address = local_address
        self.created_ms = self.last_ms = now_ms
        self.parser = RequestParser()
        self.requests = NO_REQUESTS  # parsed, not run yet
        self.is_ready = False  # waits for the next tick
        self.run_now = 0  # of them, how many the batch ran
        self.output = b""  # replies of the batch
        self.kept: list[bytes] = []  # replies that wait at the barrier
        self.kept_bytes = 0
        self.fits = 16  # how many of its reads a run takes: as many as may leave together, as far as is known
        self.fd = -1  # of its socket, for CLIENT LIST
        self.closing = False  # close when the output has left; no further request runs
        self.ends = False  # close when no request is left: the client sends no more, or nothing that can be read
        self.pauses = False  # runs no further request in this batch
        self.protocol = 2
        self.encode: dict[type, Callable[[Any], bytes]] = ENCODE2
        self.gate = 0  # bits of Gate; whoever changes them in a batch leaves an undo (law 2 of `executor`)
        self.listens = NOT_LISTENING  # channels, patterns, shard channels: see `pubsub`
        self.pushed: list[bytes] = []  # messages that have not been laid between the replies yet
        self.queued: list[Any] = []  # in MULTI: (command, words), to be run by EXEC
        self.queued_from = 0  # how much it had sent when MULTI ran
        self.aborts = False  # in MULTI: a command could not be queued, so EXEC will refuse
        self.watched: dict[Any, Any] = NOTHING_WATCHED  # see `watches`
        self.is_stale = False  # something watched has changed
        self.user = DEFAULT_USER
        self.name = b""
        self.lib_name = b""
        self.lib_version = b""
        self.last_words: list[bytes] = []  # the last request, for CLIENT LIST
        self.no_evict = False
        self.no_touch = False
        self.soft_since_ms = 0  # when its output passed the soft limit
        self.moved_bytes = 0  # came and left, when it was looked at last: who is sending or reading does not idle
        self.received_bytes = 0
        self.sent_bytes = 0
        self.detach()

    def detach(self) -> None:
        """Have no socket: not yet, or no more. (What still pointed to a closed one would keep its buffers until the collector comes.)"""
        self.kept.clear()
        self.kept_bytes = 0
        self.send: Callable[[bytes], None] = _nowhere
        self.kill: Callable[[], None] = lambda: None  # cut the connection now
        self.pending_output_bytes: Callable[[], int] = lambda: 0  # what the socket has not taken yet

    def speak(self, protocol: int) -> None:
        """Answer in RESP2 or RESP3 from now on."""
        self.protocol = protocol
        self.encode = ENCODE3 if protocol == 3 else ENCODE2

    @property
    def unsent_bytes(self) -> int:
        """Return how much it has been answered that its socket has not taken."""
        return self.kept_bytes + self.pending_output_bytes()

    @property
    def is_local(self) -> bool:
        """Tell whether the client sits on this machine."""
        return self.address.startswith(("127.", "[::1]", "[::ffff:127.")) or self.address.endswith(":0")

    def kept_state(self) -> Callable[[], None]:
        """Return what gives back the state that commands can set, as it is now: for `Executor.if_undone`."""
        names = (
            "aborts",
            "closing",
            "database",
            "encode",
            "gate",
            "is_stale",
            "lib_name",
            "lib_version",
            "name",
            "no_evict",
            "no_touch",
            "protocol",
            "queued",
            "user",
        )
        state = [(name, getattr(self, name)) for name in names]
        authenticated = self.parser.authenticated

        def give_back() -> None:
            for name, value in state:
                setattr(self, name, value)
            self.parser.authenticated = authenticated

        return give_back

    def kept_transaction(self) -> Callable[[], None]:
        """As `kept_state`, for what a transaction changes: a fifth of the time."""
        gate, queued, aborts = self.gate, self.queued, self.aborts

        def give_back() -> None:
            self.gate, self.queued, self.aborts = gate, queued, aborts

        return give_back

    def end_transaction(self) -> None:
        """Be as before MULTI."""
        self.gate &= ~Gate.IN_MULTI
        self.queued = []
        self.aborts = False

    def reset(self, first: Database, *, needs_auth: bool) -> None:
        """Be as after connecting: RESET."""
        self.database = first
        self.speak(2)
        self.gate = Gate.NEEDS_AUTH if needs_auth else 0
        self.parser.authenticated = not needs_auth
        self.user = DEFAULT_USER
        self.name = b""
        self.no_evict = self.no_touch = False
        self.end_transaction()


def _nowhere(data: bytes) -> None:
    """Take bytes of a session without a socket."""


class Sessions:
    """All clients, by id, oldest first."""

    def __init__(self) -> None:
        self._by_id: dict[int, Session] = {}
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_id.values()))

    def open(self, database: Database, address: str, local_address: str, now_ms: int) -> Session:
        """Return a new session."""
        self._last_id += 1
        session = Session(self._last_id, database, address, local_address, now_ms)
        self._by_id[session.id] = session
        return session

    def get(self, ident: int) -> Session | None:
        """Return the session with this id, None if it is gone."""
        return self._by_id.get(ident)

    def close(self, session: Session) -> None:
        """Forget a session."""
        self._by_id.pop(session.id, None)
