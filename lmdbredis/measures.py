"""Measures: what INFO shows of the process and its traffic, and how many clients the system allows.

It belongs to the server's room: it asks the operating system.
Counters of sessions that are gone are added up here; those of living ones stay with them until they are asked for.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.registry import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmdbredis.registry import Command
    from lmdbredis.server import RedisServer
    from lmdbredis.session import Session

# Open files that are no client's: the store's, the loop's, those of clients who are being refused.
_OWN_FILES: Final = 64


def clients_max(wanted: int) -> int:
    """Let the process have as many open files as `wanted` clients need; return for how many clients there is room."""
    needed = wanted + _OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (needed, hard):
        if soft == resource.RLIM_INFINITY or soft >= needed:
            break
        with suppress(OSError, ValueError):  # more than the hard limit is for root only
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, max(most, hard)))
            soft = most
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - _OWN_FILES)


def now_us() -> int:
    """Return the wall clock in microseconds since the epoch."""
    return time.time_ns() // 1000


def clock_ms() -> int:
    """Return a clock in ms that never jumps."""
    return time.monotonic_ns() // 1_000_000


clock_ns: Final = time.perf_counter_ns  # a clock in ns that never jumps


class Measures:
    """Counters, and what they were a second ago."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.connections_received = 0
        self.rejected_connections = 0
        self.query_disconnections = self.output_disconnections = 0  # clients that were cut off at their limits
        self._gone_sent_bytes = 0  # of sessions that are gone
        self._gone_received_bytes = 0
        self._startup_bytes = self._peak_bytes = 0
        self._counted = (0, 0, 0)  # commands, bytes received, bytes sent when they were sampled last
        self._per_s = (0.0, 0.0, 0.0)

    def begin(self) -> None:
        """Take note that the store is open and nobody has come yet."""
        self._startup_bytes = self._peak_bytes = memory_bytes()["RssAnon"]

    def forget(self, session: Session) -> None:
        """Add up a session that is gone."""
        self._gone_sent_bytes += session.sent_bytes
        self._gone_received_bytes += session.received_bytes

    def _counts(self) -> tuple[int, int, int]:
        """Return how many commands have run, bytes come and bytes gone."""
        sessions = list(self._server.sessions)
        received = self._gone_received_bytes + sum(session.received_bytes for session in sessions)
        sent = self._gone_sent_bytes + sum(session.sent_bytes for session in sessions)
        return sum(command.calls for command in _all_commands()), received, sent

    def sample(self, seconds: float) -> None:
        """Work out the rates of the last `seconds`."""
        counted = self._counts()
        commands, received, sent = ((now - then) / seconds for now, then in zip(counted, self._counted, strict=True))
        self._counted, self._per_s = counted, (commands, received, sent)
        self._peak_bytes = max(self._peak_bytes, memory_bytes()["RssAnon"])

    def reset(self) -> None:
        """Set all counters to zero: CONFIG RESETSTAT."""
        server = self._server
        self.connections_received = self.rejected_connections = self._gone_sent_bytes = self._gone_received_bytes = 0
        for session in server.sessions:
            session.sent_bytes = session.received_bytes = 0
        self.output_disconnections = self.query_disconnections = 0
        server.executor.observers.reset()
        for command in _all_commands():
            command.reset_counts()
        server.keyspace.hits = server.keyspace.misses = server.keyspace.expired_keys = 0
        server.upkeep.saves = server.upkeep.reclaimed_rows = 0
        server.role.feeds.reset_counts()
        if server.role.link is not None:
            server.role.link.reset_counts()
        self._counted, self._per_s = (0, 0, 0), (0.0, 0.0, 0.0)

    def memory(self) -> dict[str, int]:
        """Return what the process has of the machine's memory, and what that has. It reads a file: for who asks for memory only."""
        memory = memory_bytes()
        return {
            "rss_bytes": memory["VmRSS"],
            "anonymous_bytes": memory["RssAnon"],
            "peak_bytes": max(self._peak_bytes, memory["RssAnon"]),
            "startup_bytes": self._startup_bytes,
            "memory_total_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        }

    def traffic(self) -> dict[str, float]:
        """Return how much has come and gone, in commands and bytes, and how much a second of late. O(clients)."""
        commands, received, sent = self._counts()
        return {
            "commands": commands,
            "received_bytes": received,
            "sent_bytes": sent,
            "commands_per_s": self._per_s[0],
            "received_bytes_per_s": self._per_s[1],
            "sent_bytes_per_s": self._per_s[2],
        }

    def facts(self) -> dict[str, Any]:
        """Return what else only the operating system and the server know."""
        server, config = self._server, self._server.config
        usage, system = resource.getrusage(resource.RUSAGE_SELF), os.uname()
        listeners = [f"name=tcp,bind={host.lstrip('-')},port={config.port}" for host in config.bind if config.port]
        if config.unixsocket:
            listeners.append(f"name=unix,bind={config.unixsocket}")
        return {
            "pid": os.getpid(),
            "os": f"{system.sysname} {system.release} {system.machine}",
            "executable": sys.executable,
            "listeners": listeners,
            "cpu_user_s": usage.ru_utime,
            "cpu_sys_s": usage.ru_stime,
            "connections_received": self.connections_received,
            "rejected_connections": self.rejected_connections,
            "query_disconnections": self.query_disconnections,
            "output_disconnections": self.output_disconnections,
            "saved_at_ms": server.upkeep.saved_at_ms or server.started_ms,
            "is_saving": server.upkeep.is_saving,
            "saves": server.upkeep.saves,
            "reclaimed_rows": server.upkeep.reclaimed_rows,
            "open_ms": server.open_ms,
            "clock_ms": clock_ms(),
            "full_syncs": server.role.feeds.full_syncs,
            "partial_syncs": server.role.feeds.partial_syncs,
            "refused_partial_syncs": server.role.feeds.refused_partial_syncs,
            "replicated_bytes_out": server.role.feeds.sent_bytes,
            "replicated_bytes_in": server.role.link.received_bytes if server.role.link is not None else 0,
        }


def _all_commands() -> Iterator[Command]:
    """Yield all commands and subcommands."""
    for command in set(TABLE.values()):
        yield command
        yield from command.subcommands.values()


def memory_bytes() -> dict[str, int]:
    """Return bytes of memory by the kernel's names: VmRSS, and RssAnon without the pages of files."""
    lines = [line.split() for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()]
    found = {
        words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words and words[0] in {"VmRSS:", "RssAnon:"}
    }
    return {"VmRSS": 0, "RssAnon": 0} | found
