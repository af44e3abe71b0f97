"""Failover: a replica takes this server's place because somebody wants it to, and nothing is lost: FAILOVER.

Theory. Writes wait (a pause), until a replica has the whole log; then this server becomes that replica's replica, and says so in its
first PSYNC, which is what makes the other one a server of its own. When that has been answered, writes go on: there, and refused here.

Laws: if the other says no, or cannot be asked, everything is as before. Once it has been asked, and its answer is lost, nobody knows
what it is now: this server takes no writes and asks again, until it is answered or told to give up (FAILOVER ABORT); two servers that
take writes would be worse than none.

It belongs to the server's room: one room, several files.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from lmdbredis import errors
from lmdbredis.errors import ReplyError
from lmdbredis.measures import clock_ms
from lmdbredis.pauses import Purpose
from lmdbredis.replication import ONLINE, Replica

if TYPE_CHECKING:
    from lmdbredis.server import RedisServer

log = logging.getLogger("lmdbredis")

NONE: Final = "no-failover"
WAITING: Final = "waiting-for-sync"
IN_PROGRESS: Final = "failover-in-progress"
_LONG_MS: Final = 1 << 40

Address = tuple[str, int]


class Failover:
    """The failover that is on, if one is."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.state = NONE
        self._target: Address | None = None  # None: whichever replica is first to have everything
        self._forces = False  # when the time is up, the target takes over with what it has
        self._until_ms = 0  # 0 = no limit
        self._asked = 0  # how often the target was told to take over

    @property
    def is_on(self) -> bool:
        """Tell whether there is one."""
        return self.state != NONE

    def begin(self, target: Address | None, timeout_ms: int, *, forces: bool) -> None:
        """Begin at the end of the batch. Raises ReplyError."""
        server = self._server
        if self.is_on:
            raise ReplyError(errors.FAILOVER_ON)
        if server.role.following is not None:
            raise ReplyError(errors.FAILOVER_OF_REPLICA)
        replicas = list(server.executor.replicas)
        if not replicas:
            raise ReplyError(errors.FAILOVER_ALONE)
        if forces and (target is None or not timeout_ms):
            raise ReplyError(errors.FAILOVER_FORCE)
        if target is not None:
            meant = [replica for replica in replicas if (replica.address, replica.port) == target]
            if not meant:
                raise ReplyError(errors.FAILOVER_TARGET)
            if meant[0].state != ONLINE:
                raise ReplyError(errors.FAILOVER_TARGET_OFFLINE)
        server.executor.if_undone.append(self._forget)
        self.state, self._target, self._forces = WAITING, target, forces
        self._until_ms = clock_ms() + timeout_ms if timeout_ms else 0
        server.executor.after_batch.append(self._start)

    def _forget(self) -> None:
        self.state = NONE

    def _start(self) -> None:
        log.warning("FAILOVER requested.")
        self._server.executor.pause(Purpose.FAILOVER, _LONG_MS, writes_only=True)
        self.look()

    def abort(self) -> None:
        """Give it up, at the end of the batch. Raises ReplyError if there is none."""
        if not self.is_on:
            raise ReplyError(errors.NO_FAILOVER)
        self._server.executor.after_batch.append(self._give_up)

    def look(self) -> None:
        """Find out whether a replica has everything by now, or the time is up. Between batches."""
        if self.state != WAITING:
            return
        server = self._server
        replicas = [replica for replica in server.executor.replicas if self._is_meant(replica)]
        end_lsn = server.store.wal.end_lsn
        # Whose write waits for a replica's disk is to hear that it is there before he is told that this server takes no more.
        is_strict = server.store.record_flags != 0
        ready = next((one for one in replicas if (one.synced_lsn if is_strict else one.lsn) >= end_lsn), None)
        if ready is not None:
            self._hand_over((ready.address, ready.port))
        elif self._until_ms and clock_ms() >= self._until_ms:
            if self._forces and self._target is not None:
                log.warning("Failover target did not catch up in time: forced")
                self._hand_over(self._target)
            else:
                log.warning("Failover attempt timed out")
                self._give_up()

    def _is_meant(self, replica: Replica) -> bool:
        return replica.is_known and self._target in {None, (replica.address, replica.port)}

    def _hand_over(self, address: Address) -> None:
        log.warning("Failover target is %s:%d", *address)
        self.state = IN_PROGRESS
        self._server.role.replicate(address, takes_over=True)

    def asks(self) -> None:
        """Take note that the other server is about to be told to take over."""
        self._asked += 1

    def succeeded(self) -> None:
        """Take note that the other server has taken over."""
        if self.state == IN_PROGRESS:
            log.warning("Failover complete: this server is a replica now")
            self._end()

    def refused(self, answer: str) -> None:
        """Take note that the other server has answered with an error.

        If an earlier answer was lost, it may have taken over since and be merely busy: then only a replica's word tells that it has not.
        """
        if self._asked <= 1 or answer.startswith(f"-{errors.NOT_CONNECTED_TO_MASTER}"):
            self._failed()

    def link_ended(self) -> None:
        """Take note that the link to the other server has ended: if that was not asked yet, it cannot be."""
        if not self._asked:
            self._failed()

    def _failed(self) -> None:
        """Be as before."""
        if self.state == IN_PROGRESS:
            log.warning("Failover target refused or cannot be reached: this server stays what it was")
            self._server.role.replicate(None)
            if (
                self._server.role.following is None
            ):  # else there is no room for that: the link goes on, and ends here again
                self._end()

    def _give_up(self) -> None:
        if self.state == IN_PROGRESS:
            self._failed()
        elif self.state == WAITING:
            log.warning("Failover aborted")
            self._end()

    def _end(self) -> None:
        self.state, self._asked = NONE, 0
        self._server.executor.unpause(Purpose.FAILOVER)
        self._server.wake()
