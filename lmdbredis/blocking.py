"""Waiting: which session waits for which keys, and until when: BLPOP and its like, XREAD BLOCK.

Theory. A command that finds nothing raises `Wait`; its session is then a `Waiting` here, under each key that it waits for. When a
command has changed one of those keys (the keyspace's *news* tell), the executor runs the very same request again, as whose it
is, first come, first served; what still finds nothing keeps its place. So a blocking command is its plain twin with one line
more, and whatever way elements come (a push, a rename, a transaction, a script) is the same way.

Laws:

1. Who came first is served first, among those who wait for the same key; a place is kept over unsuccessful tries.
2. `Waiters` knows keys by database number and name: SWAPDB changes what stands there, not who waits for it.
3. Nobody pays while nobody waits, and who waits costs nothing but memory: no timer of its own, no poll.

It knows no clock: times are told, in nanoseconds of a clock that never jumps.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.news import News, What
from lmdbredis.resp import NULL_ARRAY

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from lmdbredis.registry import Command
    from lmdbredis.replication import Awaited
    from lmdbredis.session import Session

_PART: Final = 16  # of a queue that are looked at together, when the first has been tried
_BRINGS_NOTHING: Final = frozenset({What.REPLACED, What.EXPIRY, What.PERSISTED, What.MISSED})  # to who waits
_HEAP_SLACK: Final = (
    64  # deadlines of sessions that wait no more are dropped when they are more than this and half of all
)

Name = tuple[int, bytes]  # database number, key


class Wait(Exception):
    """A command has nothing to return yet. Raised before anything is given away (a consumer may have been noted as seen).

    `keys` of the type `kind` (see `format`) may bring what is wanted, within `timeout_ms` (0 = some time); `nothing` is the reply
    where nobody may wait (transactions, scripts); `words` is the request to be run again, if it is not the one that came.
    With `wakes_if_gone` it is run again, too, when one of the keys is deleted or becomes something else. `late` tells the reply when the
    time is up, if it is not just nothing. Who waits for no keys, but for copies of what was written, says which (`awaited`).
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        kind: int,
        timeout_ms: int,
        nothing: Any,
        words: list[bytes] | None = None,
        *,
        wakes_if_gone: bool = False,
        late: Callable[[], Any] | None = None,
        awaited: Awaited | None = None,
    ) -> None:
        super().__init__()
        self.keys = keys
        self.kind = kind
        self.timeout_ms = timeout_ms
        self.nothing = nothing
        self.words = words
        self.wakes_if_gone = wakes_if_gone
        self.late = late
        self.awaited = awaited


class Waiting:
    """One session that waits."""

    __slots__ = (
        "_late", "command", "deadline_ns", "is_silent", "kind", "names", "order", "session", "wakes_if_gone", "words",
    )  # fmt: skip

    def __init__(
        self, session: Session, command: Command, words: list[bytes], wait: Wait, deadline_ns: int, order: int
    ) -> None:
        self.session = session
        self.command = command
        self.words = wait.words or words
        self.kind = wait.kind
        self.wakes_if_gone = wait.wakes_if_gone
        self.names: list[Name] = [(session.database.number, key) for key in dict.fromkeys(wait.keys)]
        self.deadline_ns = deadline_ns  # 0 = never
        self.order = order  # of its coming
        self._late = wait.late
        self.is_silent = False  # CLIENT REPLY OFF or SKIP: there will be no reply

    def in_vain(self) -> Any:
        """Return the reply to one who has waited long enough."""
        return NULL_ARRAY if self._late is None else self._late()

    def __lt__(self, other: Waiting) -> bool:
        return self.order < other.order


class Waiters:
    """All who wait."""

    def __init__(self) -> None:
        # OrderedDict: what it has lost at its beginning it need not walk over to find the first.
        self._by_name: dict[Name, OrderedDict[Waiting, None]] = {}
        self._by_database: dict[int, dict[bytes, None]] = {}  # the same keys, by database
        self._by_session: dict[Session, Waiting] = {}
        self._deadlines: list[tuple[int, Waiting]] = []  # a heap; may hold some who wait no more
        self.with_deadline = 0  # how many of them still do
        self._last_order = 0
        self.wake_if_gone = 0  # how many of them are to be tried when a key is gone
        self.ready: dict[Name, None] = {}  # keys that have changed and whose waiters have not been tried yet

    def __len__(self) -> int:
        return len(self._by_session)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def in_database(self, number: int) -> Container[bytes]:
        """Return the keys of a database that somebody waits for."""
        return self._by_database.get(number, ())

    def keys(self) -> int:
        """Return for how many keys somebody waits."""
        return len(self._by_name)

    def keys_if_gone(self) -> int:
        """Return for how many of them somebody waits who must know when they are gone. O(waiters)."""
        return len({name for waiting in self._by_session.values() if waiting.wakes_if_gone for name in waiting.names})

    def next_order(self) -> int:
        """Return the place of who comes now."""
        self._last_order += 1
        return self._last_order

    def add(self, waiting: Waiting) -> None:
        """Let a session wait; if it has waited before, in its old place. O(its keys), as a rule."""
        self._by_session[waiting.session] = waiting
        for name in waiting.names:
            queue = self._by_name.setdefault(name, OrderedDict())
            is_last = not queue or next(reversed(queue)).order < waiting.order
            queue[waiting] = None
            self._by_database.setdefault(name[0], {})[name[1]] = None
            if not is_last:
                self._by_name[name] = OrderedDict.fromkeys(sorted(queue))
        self.wake_if_gone += waiting.wakes_if_gone
        if waiting.deadline_ns:
            self.with_deadline += 1
            heappush(self._deadlines, (waiting.deadline_ns, waiting))

    def remove(self, session: Session) -> Waiting | None:
        """Let a session wait no more; return what it was waiting for, None if it was not. O(its keys)."""
        waiting = self._by_session.pop(session, None)
        if waiting is None:
            return None
        for name in waiting.names:
            queue = self._by_name[name]
            del queue[waiting]
            if not queue:
                del self._by_name[name], self._by_database[name[0]][name[1]]
        self.wake_if_gone -= waiting.wakes_if_gone
        if waiting.deadline_ns:
            self.with_deadline -= 1
            if len(self._deadlines) > _HEAP_SLACK + 2 * self.with_deadline:
                self._deadlines = [item for item in self._deadlines if self._is_waiting(item[1])]
                heapify(self._deadlines)
        return waiting

    def all(self) -> list[Waiting]:
        """Return all who wait."""
        return list(self._by_session.values())

    def of(self, session: Session) -> Waiting | None:
        """Return what a session waits for, None if it does not wait."""
        return self._by_session.get(session)

    def _is_waiting(self, waiting: Waiting) -> bool:
        return self._by_session.get(waiting.session) is waiting

    def queue(self, name: Name) -> Iterator[Waiting]:
        """Yield who waits for a key, first come first; who is served meanwhile is left out. O(those that are taken), as a rule."""
        last_order, most = 0, 1
        while True:
            queue = self._by_name.get(name, ())
            part = list(islice((waiting for waiting in queue if waiting.order > last_order), most))
            for waiting in part:
                if self._is_waiting(waiting):
                    yield waiting
            if len(part) < most:
                return
            last_order, most = part[-1].order, _PART

    def note(self, news: Iterable[News]) -> None:
        """Take note of keys that have changed, if somebody waits for them; of a database that has, those that are there."""
        for what, database, key, source in news:
            if what == What.ALL:
                for name in self._by_name:
                    if name[0] == database.number and (self.wake_if_gone or database.find(name[1]) is not None):
                        self.ready[name] = None
            elif what not in _BRINGS_NOTHING and (database.number, key) in self._by_name:
                self.ready[database.number, key] = None
            if source is not None and (source[0].number, source[1]) in self._by_name:
                self.ready[source[0].number, source[1]] = None

    # --- time ---------------------------------------------------------------------------------------------------------------

    def next_deadline_ns(self) -> int:
        """Return when the first of them has waited long enough, 0 = never. O(1), amortised."""
        deadlines = self._deadlines
        while deadlines:
            deadline_ns, waiting = deadlines[0]
            if self._is_waiting(waiting):
                return deadline_ns
            heappop(deadlines)
        return 0

    def due(self, now_ns: int) -> Waiting | None:
        """Return one who has waited long enough, None if nobody has; to be removed by the caller. O(1), amortised."""
        return self._deadlines[0][1] if 0 < self.next_deadline_ns() <= now_ns else None
