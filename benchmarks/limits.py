"""A memory limit for one server: a control group that is always a child of the group we are in.

A child keeps every limit that already binds us and adds one; nothing is ever moved to the root or to a
stranger's group. Two ways, first that works: memory controller v1 and v2 (mkdir, write the limit, the server
joins between fork and exec), then `systemd-run --scope` where systemd runs. The group is removed at
the end, and the server dies with us, so that no group outlives its benchmark.

The limit covers the process's own pages *and* the page cache of the files it touches, which is the
point: a data set four times the limit cannot hide in the kernel's cache. RLIMIT_AS is no way out: it
limits addresses, and LMDB maps a tebibyte.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


class NoLimitError(Exception):
    """This machine permits no memory limit; the text says what was tried."""


@dataclass
class Limit:
    """How to start a process under the limit, and what the kernel counted."""

    limit_bytes: int
    way: str
    prefix: list[str] = field(default_factory=list)  # words before the server's command line
    directory: Path | None = None  # the control group, where we made it ourselves
    events: tuple[str, ...] = ()  # the group's files worth reporting

    def join(self) -> Callable[[], None] | None:
        """What the server's process runs between fork and exec; None if the prefix does it."""
        if self.directory is None:
            return None
        procs = os.fspath(self.directory / "cgroup.procs")

        def enter() -> None:
            descriptor = os.open(procs, os.O_WRONLY)
            os.write(descriptor, b"0")  # 0 = the process that writes
            os.close(descriptor)

        return enter

    def counters(self) -> dict[str, str]:
        """The group's own figures, as the kernel words them."""
        found = {}
        for name in self.events:
            with contextlib.suppress(OSError):
                assert self.directory is not None
                found[name] = (self.directory / name).read_text().strip()
        return found


def _own_group(controller: str) -> str:
    """Our group's path in the hierarchy that has `controller` ("" = version 2)."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    reason = f"no hierarchy named {controller or 'v2'!r}"
    raise NoLimitError(reason)


def _mount(kind: str, option: str) -> Path:
    """Where the hierarchy is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, mounted, options = line.split()[:4]
        if mounted == kind and (not option or option in options.split(",")):
            return Path(where)
    reason = f"{kind} {option} is not mounted"
    raise NoLimitError(reason)


def _version_1(limit_bytes: int) -> Limit:
    group = _mount("cgroup", "memory") / _own_group("memory").lstrip("/")
    directory = group / f"lmdbredis-bench-{os.getpid()}"
    directory.mkdir()
    (directory / "memory.limit_in_bytes").write_text(str(limit_bytes))
    events = ("memory.max_usage_in_bytes", "memory.failcnt")
    return Limit(limit_bytes, "cgroup v1", directory=directory, events=events)


def _version_2(limit_bytes: int) -> Limit:
    group = _mount("cgroup2", "") / _own_group("").lstrip("/")
    if "memory" not in (group / "cgroup.controllers").read_text().split():
        reason = "cgroup v2 has no memory controller here"
        raise NoLimitError(reason)
    # refused by the kernel (EBUSY) when the group has processes and is not the root: then systemd's turn
    if "memory" not in (group / "cgroup.subtree_control").read_text().split():
        (group / "cgroup.subtree_control").write_text("+memory")
    directory = group / f"lmdbredis-bench-{os.getpid()}"
    directory.mkdir()
    (directory / "memory.max").write_text(str(limit_bytes))
    return Limit(limit_bytes, "cgroup v2", directory=directory, events=("memory.peak", "memory.events"))


def _systemd(limit_bytes: int) -> Limit:
    if shutil.which("systemd-run") is None or not Path("/run/systemd/system").is_dir():
        reason = "systemd does not run here"
        raise NoLimitError(reason)
    words = ["systemd-run", "--scope", "--quiet", "-p", f"MemoryMax={limit_bytes}", "-p", "MemorySwapMax=0"]
    return Limit(limit_bytes, "systemd-run --scope", prefix=words if os.geteuid() == 0 else [*words, "--user"])


def _remove(directory: Path | None) -> None:
    """Remove the group; its last process may take a moment to leave."""
    if directory is None:
        return
    for _ in range(50):
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return


@contextlib.contextmanager
def memory_limit(limit_bytes: int) -> Iterator[Limit]:
    """A limit for one server, started and stopped inside the block. Raises NoLimitError with the reasons."""
    reasons = []
    for way in (_version_1, _version_2, _systemd):
        try:
            limit = way(limit_bytes)
        except (NoLimitError, OSError) as refused:
            reasons.append(f"{way.__name__.strip('_').replace('_', ' ')}: {refused}")
            continue
        try:
            yield limit
        finally:
            _remove(limit.directory)
        return
    raise NoLimitError("; ".join(reasons))
