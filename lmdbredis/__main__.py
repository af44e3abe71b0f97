"""The command ``lmdbredis-server``: started as redis-server is.

``lmdbredis-server [file.conf | -] [--option value ...]``. Every directive of a stock redis.conf is accepted; an unknown one
stops the start with its line. Exit status: 0 after an orderly shutdown, 1 for anything else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

import uvloop

from lmdbredis import commands
from lmdbredis.config import VERSION, Config, ConfigError
from lmdbredis.disk import CRASH_AT, CrashingDisk, Disk
from lmdbredis.errors import DiskFull, StorageError, SyncFailed
from lmdbredis.server import LEVELS, RedisServer

log = logging.getLogger("lmdbredis")

HELP: Final = """Usage: lmdbredis-server [/path/to/redis.conf | -] [--option value ...]
       lmdbredis-server -v | --version
       lmdbredis-server -h | --help

Examples:
       lmdbredis-server --port 7777 --dir /var/lib/lmdbredis
       lmdbredis-server /etc/redis/redis.conf --appendfsync always
       echo 'port 7777' | lmdbredis-server -
"""

_MARKS: Final = {logging.DEBUG: ".", logging.DEBUG + 5: "-", logging.INFO: "*"}


class _Manner(logging.Formatter):
    """Log lines in redis-server's manner: ``PID:M 01 Jan 2026 00:00:00.000 * text``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = time.strftime("%d %b %Y %H:%M:%S", time.localtime(record.created))
        line = f"{os.getpid()}:M {moment}.{int(record.msecs):03d} {_MARKS.get(record.levelno, '#')} {record.getMessage()}"
        return line + "\n" + self.formatException(record.exc_info) if record.exc_info else line


def _read(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


def _daemonize() -> None:
    """Go on in the background, detached from the terminal."""
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def _log_to(config: Config) -> None:
    handler: logging.Handler = logging.FileHandler(config.logfile) if config.logfile else logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Manner())
    log.handlers = [handler]
    log.setLevel(LEVELS[config.loglevel])
    log.propagate = False


async def _serve(config: Config, disk: Disk) -> int:
    """Open, listen, serve. Raises StorageError, OSError."""
    server = RedisServer(config, asyncio.get_running_loop(), disk)
    try:
        await server.listen()
    except OSError:
        server.store.close(checkpoint=False)
        raise
    if config.pidfile:  # only now: a server that may not have the directory must not overwrite the other's
        Path(config.pidfile).write_text(f"{os.getpid()}\n", encoding="ascii")
    keys = sum(database.keys for database in server.keyspace.databases)
    addresses = [f"{host}:{config.port}" for host in config.bind if config.port] + ([config.unixsocket] if config.unixsocket else [])
    log.info(
        "Serving %s from %s: %d keys, %d rows from the log, opened in %.1f ms",
        ", ".join(addresses) or "nowhere", Path(config.dir).resolve(), keys, server.store.replayed_rows, server.open_ms,
    )  # fmt: skip
    log.info("Ready to accept connections")
    return await server.run()


def main(argv: list[str] | None = None) -> int:
    """Run the server; return its exit status."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] in (["-v"], ["--version"]):
        sys.stdout.write(f"lmdbredis server v={VERSION}\n")
        return 0
    if words[:1] in (["-h"], ["--help"]):
        sys.stdout.write(HELP)
        return 0
    try:
        config = Config.from_argv(words, _read)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"Fatal error, can't open config file '{error.filename}': {error.strerror}\n")
        return 1
    commands.load()
    if config.daemonize:
        _daemonize()
    try:
        Path(config.dir).mkdir(parents=True, exist_ok=True)
        _log_to(config)
        log.info("lmdbredis %s is starting, PID: %d", VERSION, os.getpid())
        crash_at = os.environ.get(CRASH_AT)
        return uvloop.run(_serve(config, CrashingDisk(crash_at) if crash_at else Disk()))
    except (StorageError, DiskFull, SyncFailed, OSError) as error:
        if log.handlers:
            log.critical("%s", error)
        else:
            sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
