"""The command ``lmdbredis-server``: started as redis-server is.

``lmdbredis-server [file.conf | -] [--option value ...]``. Every directive of a stock redis.conf is accepted; an unknown one
stops the start with its line. Exit status: 0 after an orderly shutdown, 1 for anything else.
"""

from __future__ import annotations

import asyncio
import glob
import hashlib
import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import Final

import uvloop

from lmdbredis import commands, errors, registry
from lmdbredis.config import VERSION, Config, ConfigError
from lmdbredis.directive_kinds import to_bytes
from lmdbredis.disk import CRASH_AT, CrashingDisk, Disk
from lmdbredis.errors import DiskFull, StorageError, SyncFailed
from lmdbredis.measures import clients_max
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

# The rules of a user who may do everything, as redis-server writes them; and those that must be among them.
_PLAIN_RULES: Final = frozenset(
    ("on", "sanitize-payload", "skip-sanitize-payload", "~*", "allkeys", "&*", "allchannels", "+@all", "allcommands")
)
_NEEDED_RULES: Final = ({"on"}, {"~*", "allkeys"}, {"+@all", "allcommands"})

_MARKS: Final = {logging.DEBUG: ".", logging.DEBUG + 5: "-", logging.INFO: "*"}


class _Manner(logging.Formatter):
    """Log lines in redis-server's manner: ``PID:M 01 Jan 2026 00:00:00.000 * text``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = time.strftime("%d %b %Y %H:%M:%S", time.localtime(record.created))
        line = (
            f"{os.getpid()}:M {moment}.{int(record.msecs):03d} {_MARKS.get(record.levelno, '#')} {record.getMessage()}"
        )
        return line + "\n" + self.formatException(record.exc_info) if record.exc_info else line


def _read(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


def _take_safety_seriously(config: Config) -> None:
    """Do what the configuration wants for safety's sake. Raises ConfigError for what this server would not do."""
    for user in config.users:
        name, *rules = user
        password = to_bytes(config.requirepass)
        passwords = {f">{config.requirepass}", "#" + hashlib.sha256(password).hexdigest()} if password else {"nopass"}
        given = set(rules)
        if (
            name != "default"
            or not given <= _PLAIN_RULES | passwords
            or not all(given & needed for needed in (*_NEEDED_RULES, passwords))
        ):
            raise ConfigError.at_line(*config.places[user], errors.NO_USERS % name)
    for rename in config.renames:
        try:
            registry.rename(*rename)
        except LookupError as error:
            raise ConfigError.at_line(*config.places[rename], str(error)) from None


def _is_supervised(config: Config) -> bool:
    """Tell whether systemd started this process and wants to know how it is."""
    return config.supervised in {"systemd", "auto"} and bool(os.environ.get("NOTIFY_SOCKET"))


def _tell_systemd(config: Config, state: bytes) -> None:
    """Tell the supervisor, if there is one (sd_notify)."""
    if _is_supervised(config):
        address = os.environ["NOTIFY_SOCKET"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.send(state)


def _daemonize() -> None:
    """Go on in the background, detached from the terminal."""
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def _make_directory(config: Config) -> None:
    """Make the data directory if it is not there. Raises ConfigError if it cannot be one."""
    path = Path(config.dir).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True) else "Permission denied"
    except FileExistsError:
        reason = "Not a directory"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ConfigError(f"Can't use the data directory 'dir {path}': {reason}")
    config.put("dir", str(path))


def _log_to(config: Config) -> None:
    """Log as the configuration wants. Raises ConfigError if the file cannot be written."""
    try:
        handler: logging.Handler = (
            logging.FileHandler(config.logfile) if config.logfile else logging.StreamHandler(sys.stdout)
        )
    except OSError as error:
        raise ConfigError(f"Can't open the log file: {config.logfile}: {error.strerror}") from error
    handler.setFormatter(_Manner())
    log.handlers = [handler]
    log.setLevel(LEVELS[config.loglevel])
    log.propagate = False


async def _serve(config: Config, disk: Disk) -> int:
    """Open, listen, serve. Raises StorageError, OSError."""
    _fit_clients(config)
    is_new = not (Path(config.dir) / "data.mdb").exists()
    server = RedisServer(config, asyncio.get_running_loop(), disk)
    try:
        await server.listen()
    except OSError:
        server.store.close(checkpoint=False)
        raise
    if config.pidfile:  # only now: a server that may not have the directory must not overwrite the other's
        try:
            Path(config.pidfile).write_text(f"{os.getpid()}\n", encoding="ascii")
        except OSError as error:
            log.warning("Failed to write PID file: %s", error)
    if is_new:
        log.info("New store in %s", config.dir)
    keys = sum(database.keys for database in server.keyspace.databases)
    addresses = [f"{host}:{config.port}" for host in config.bind if config.port] + (
        [config.unixsocket] if config.unixsocket else []
    )
    log.info(
        "Serving %s from %s: %d keys, %d rows from the log, opened in %.1f ms",
        ", ".join(addresses) or "nowhere", Path(config.dir).resolve(), keys, server.store.replayed_rows, server.open_ms,
    )  # fmt: skip
    log.info("Ready to accept connections")
    _tell_systemd(config, b"STATUS=Ready to accept connections\nREADY=1\n")
    status = await server.run()
    _tell_systemd(config, b"STOPPING=1\n")
    return status


def _fit_clients(config: Config) -> None:
    """Lower maxclients to what the system allows. Raises OSError if that is nobody."""
    possible = clients_max(config.maxclients)
    if possible < 1:
        raise OSError(errors.NO_FILES)
    if possible < config.maxclients:
        log.warning(
            "maxclients is %d instead of %d: the system allows no more open files. See 'ulimit -n'",
            possible,
            config.maxclients,
        )
        config.put("maxclients", str(possible))


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
        config = Config.from_argv(words, _read, glob.glob)
        commands.load()
        _take_safety_seriously(config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"Fatal error, can't open config file '{error.filename}': {error.strerror}\n")
        return 1
    try:
        config.path = config.path and str(Path(config.path).absolute())
        _make_directory(config)
        os.chdir(config.dir)  # as Redis: other paths may be relative to it
        _log_to(config)
        if config.daemonize and not _is_supervised(config):
            _daemonize()
        log.info("lmdbredis %s is starting, PID: %d", VERSION, os.getpid())
        crash_at = os.environ.get(CRASH_AT)
        return uvloop.run(_serve(config, CrashingDisk(crash_at) if crash_at else Disk()))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (StorageError, DiskFull, SyncFailed, OSError) as error:
        if log.handlers:
            log.critical("%s", error)
        else:
            sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
