"""The command table: what a command is, and the decorator that makes one.

Theory. A command is one function: its signature is its arity, its docstring is its documentation, its flags are said beside
it. ``@command`` turns it into a `Command` and puts it into `TABLE`; COMMAND, COMMAND DOCS and the README's table are read from
there. A container (``CONFIG``) is a command whose subcommands (``CONFIG|GET``) are commands themselves.

Laws: a handler takes the `Context` and the words after its name, and returns a plain value (see `resp`); it raises
`ReplyError` only before its first write (what a script wrote before it failed stays); it never encodes, never sends, never asks the clock.

The docstring's first line is ``NAME words -- Summary. Complexity. Since version.``
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntFlag, auto
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from lmdbredis.cursors import Cursors
from lmdbredis.errors import (
    NAME_TAKEN,
    NO_COMMAND_TO_RENAME,
    UNKNOWN_SUBCOMMAND,
    WRONG_ARITY,
    ReplyError,
    shown,
)
from lmdbredis.resp import Simple

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from lmdbredis.config import Config
    from lmdbredis.database import Database
    from lmdbredis.keyspace import Keyspace
    from lmdbredis.replication import Following, Replica
    from lmdbredis.session import Session, Sessions


class Flag(IntFlag):
    """What a command does, in the words of COMMAND INFO."""

    WRITE = auto()
    READONLY = auto()
    DENYOOM = auto()
    ADMIN = auto()
    PUBSUB = auto()
    NOSCRIPT = auto()
    BLOCKING = auto()
    LOADING = auto()
    STALE = auto()
    SKIP_MONITOR = auto()
    SKIP_SLOWLOG = auto()
    FAST = auto()
    NO_AUTH = auto()
    NO_ASYNC_LOADING = auto()
    NO_MULTI = auto()
    NO_MANDATORY_KEYS = auto()
    MOVABLEKEYS = auto()
    ALLOW_BUSY = auto()


WRITE: Final = int(Flag.WRITE)
READ: Final = int(Flag.READONLY)
DENYOOM: Final = int(Flag.DENYOOM)
FAST: Final = int(Flag.FAST)
ADMIN: Final = int(Flag.ADMIN)
NOSCRIPT: Final = int(Flag.NOSCRIPT)
LOADING: Final = int(Flag.LOADING)
STALE: Final = int(Flag.STALE)
NO_AUTH: Final = int(Flag.NO_AUTH)
NO_MULTI: Final = int(Flag.NO_MULTI)
BLOCKING: Final = int(Flag.BLOCKING)
PUBSUB: Final = int(Flag.PUBSUB)
SKIP_SLOWLOG: Final = int(Flag.SKIP_SLOWLOG)
SKIP_MONITOR: Final = int(Flag.SKIP_MONITOR)
ALLOW_BUSY: Final = int(Flag.ALLOW_BUSY)
MOVABLEKEYS: Final = int(Flag.MOVABLEKEYS)
NO_ASYNC_LOADING: Final = int(Flag.NO_ASYNC_LOADING)
NO_MANDATORY_KEYS: Final = int(Flag.NO_MANDATORY_KEYS)

Handler = Callable[..., Any]
AHandler = TypeVar("AHandler", bound=Handler)
KeysOf = Callable[[Sequence[bytes]], list[int]]

RunHandler = Callable[["Context", Sequence[Sequence[bytes]]], list[Any] | None]

ANY_NUMBER: Final = 1 << 30
NO_FLAGS: Final = 0


class Role(Protocol):
    """What handlers may ask of what this server is to others (see `role`)."""

    @property
    def following(self) -> Following | None:
        """The server that this one copies, and how the link to it is; None if it copies none."""

    @property
    def failover(self) -> Any:
        """The failover that is on, if one is: `begin`, `abort`, `is_on`, `state`."""

    def replicate(self, address: tuple[str, int] | None) -> None:
        """Copy the server at this address, or none any more. As the next two, for `after_batch`."""

    def take_place(self, session: Session, replid: str) -> None:
        """Be a server of its own, because the one that is copied wants that."""

    def feed(self, session: Session, replid: str, lsn: int, last: list[int] | None) -> None:
        """Let a replica have what it lacks, whose log ends at `lsn` with the record `last`."""

    def apply(self) -> None:
        """Let the executor know what this server is. For `after_batch`, as the next."""

    def follow_events(self) -> None:
        """Tell the server that this one copies which key events are wanted."""

    def acknowledge(self, replica: Replica, lsn: int, synced_lsn: int) -> None:
        """Take note of how far a replica is."""

    def sync_soon_for(self, *, replicas: int, local: int) -> None:
        """Let the log be synced here, and by replicas. For `after_batch`."""


class Measures(Protocol):
    """What handlers may ask of what is measured (see `measures`, `info`). One question for each price: the first is cheap."""

    def facts(self) -> dict[str, Any]:
        """Return what only the operating system and the server know: cpu, addresses, counters."""

    def traffic(self) -> dict[str, float]:
        """Return how much has come and gone, in commands and bytes, and how much a second of late. O(clients)."""

    def memory(self) -> dict[str, int]:
        """Return what the process has of the machine's memory, and what that has, in bytes."""

    def reset(self) -> None:
        """Set the counters that INFO shows to zero."""


class Server(Protocol):
    """What handlers may ask of the process: everything impure."""

    sessions: Sessions
    run_id: str
    started_ms: int

    @property
    def measures(self) -> Measures:
        """What is measured."""

    def apply_config(self, changed: Iterable[str]) -> None:
        """Let the process follow settings that were changed."""

    @property
    def is_ending(self) -> bool:
        """Tell whether it waits for replicas, and then ends."""

    @property
    def role(self) -> Role:
        """What this server is to others."""

    def shutdown(self, *, save: bool, now: bool = False) -> None:
        """End the process in order when the batch is logged; unless `now`, when replicas have everything."""

    def abort_shutdown(self) -> None:
        """Do not end after all."""

    def sleep(self, seconds: float) -> None:
        """Stop everything for a while (DEBUG SLEEP)."""

    def reload(self) -> None:
        """Close and reopen the store. As the others below that change it, for `after_batch`."""

    def save(self, session: Session) -> None:
        """Make a checkpoint, here and now; the session's last reply says whether it was made."""

    def begin_save(self) -> None:
        """Make a checkpoint in the background."""

    def change_replid(self) -> None:
        """Give the store's history another name."""

    def set_active_expire(self, *, on: bool) -> None:
        """Let keys expire that nobody asks for, or not."""

    def rewrite_config(self) -> None:
        """Write the settings into the file they were read from. Raises OSError."""

    def while_script_runs(self, *, is_first: bool) -> bool:
        """Look after the other clients if a script runs for long: called often while it does; True ends it."""


class Context:
    """What a handler may know, beside its words. One object, told anew for each session and batch."""

    __slots__ = ("config", "cursors", "db", "executor", "keyspace", "now_ms", "now_us", "random", "server", "session")

    def __init__(
        self, keyspace: Keyspace, config: Config, random: random.Random, server: Server, executor: Any
    ) -> None:
        self.keyspace = keyspace
        self.config = config
        self.random = random  # chance, handed down so that a run can be repeated
        self.cursors = Cursors(random)  # of SCAN and its like
        self.server = server  # what only the process can do
        self.executor = executor  # its `after_batch`, and who waits, listens, watches
        self.now_ms = 0  # the batch's time, ms since the epoch
        self.now_us = 0
        self.db: Database = keyspace.databases[0]  # the session's database
        self.session: Session = None  # type: ignore[assignment] # told before any handler runs


class Command:
    """One command, or one subcommand of a container."""

    __slots__ = (
        "arity", "calls", "complexity", "container", "elapsed_ns", "failed_calls", "flags", "group", "handler", "is_queued", "keys",
        "keys_of", "name", "name_words", "rejected_calls", "run", "run_words", "since", "subcommands", "summary", "syntax", "words_max", "words_min", "writes",
    )  # fmt: skip

    def __init__(
        self, name: str, handler: Handler, flags: int, keys: tuple[int, int, int], keys_of: KeysOf | None
    ) -> None:
        self.name = name  # lower case, "config|get" for a subcommand
        self.handler = handler
        self.flags = int(flags)  # of `Flag`; an int, because what an enum answers takes half a microsecond
        self.writes = bool(flags & WRITE)
        self.keys = keys  # first, last, step
        self.keys_of = keys_of  # finds the keys where positions do not tell
        self.group = handler.__module__.rpartition(".")[2]
        self.container = name.partition("|")[0]
        self.subcommands: dict[bytes, Command] = {}  # of a container, by name in upper case
        self.run: RunHandler | None = None
        self.is_queued = True  # between MULTI and EXEC; False: it runs there and then, or is refused
        self.name_words = 2 if "|" in name else 1  # of a request are the name
        self.words_min, self.words_max = _words_of(handler, self.name_words)  # whole requests, the name included
        self.run_words = self.words_min  # of each request of a run
        self.arity = self.words_min if self.words_min == self.words_max else -self.words_min
        self.syntax, self.summary, self.complexity, self.since = _parse_docstring(handler)
        self.reset_counts()

    def reset_counts(self) -> None:
        """Have been called by nobody: CONFIG RESETSTAT."""
        self.calls = 0
        self.elapsed_ns = 0  # by all calls together
        self.failed_calls = 0  # of them, how many were refused by the handler
        self.rejected_calls = 0  # refused before the handler was asked

    def subcommand(self, words: Sequence[bytes]) -> Command:
        """Return the command or subcommand that a request calls. Raises ReplyError: unknown, or wrong arity."""
        if not self.subcommands or len(words) == 1:
            if not self.takes(len(words)):
                raise self.wrong_arity()
            return self
        found = self.subcommands.get(words[1]) or self.subcommands.get(words[1].upper())
        if found is None:
            raise ReplyError(UNKNOWN_SUBCOMMAND % (shown(words[1]), self.name.upper()))
        if not found.takes(len(words)):
            raise found.wrong_arity()
        return found

    def takes(self, words: int) -> bool:
        """Tell whether a request may have so many words."""
        return self.words_min <= words <= (self.words_max or ANY_NUMBER)

    def wrong_arity(self) -> ReplyError:
        """Return the error for a wrong number of words."""
        return ReplyError(WRONG_ARITY % self.name)


TABLE: Final[dict[bytes, Command]] = {}  # by name in upper case and in lower case: clients use both


def command(
    name: str,
    *,
    flags: int = NO_FLAGS,
    keys: tuple[int, int, int] | None = None,
    keys_of: KeysOf | None = None,
    run: RunHandler | None = None,
    run_words: int | None = None,
    is_queued: bool = True,
) -> Callable[[AHandler], AHandler]:
    """Make the function the handler of `name` (``"SET"``, ``"CONFIG|GET"``).

    `keys` is (first, last, step) as in COMMAND INFO; by default (1, 1, 1) if the first word is called ``key``, else none.
    `keys_of` returns the positions of the keys in a request, for commands whose words must be read to know. `run` does what the
    handler does for a run of requests, all of this name and of `run_words` words (by default the least number), and returns their
    replies, a ReplyError where one is refused; or None, before it has written anything, if they must be run one by one. With
    `is_queued` False it runs at once even between MULTI and EXEC.
    """

    def register(handler: AHandler) -> AHandler:
        made = Command(name.lower(), handler, flags, keys or _keys_of_signature(name, handler), keys_of)
        made.run = run
        made.run_words = run_words or made.words_min
        made.is_queued = is_queued and not flags & NO_MULTI
        container, _, subcommand = name.partition("|")
        if subcommand:
            holder = TABLE.get(container.encode())
            if holder is None:
                raise LookupError(f"{name}: its container is not declared")
            holder.subcommands[subcommand.encode()] = made
        else:
            TABLE[name.encode()] = TABLE[name.lower().encode()] = made
        return handler

    return register


def alike(handler: Handler) -> Handler:
    """Let a registered command that only reads be run once for all clients that ask for the very same in a batch.

    A page that everybody looks at is read and encoded once. Above ``@command``.
    """
    found = next(one for one in TABLE.values() if one.handler is handler)

    def run(cx: Context, requests: Sequence[Sequence[bytes]]) -> list[Any]:
        values: dict[tuple[bytes, ...], Any] = {}
        asked = [tuple(words[1:]) for words in requests]
        keyspace = cx.keyspace
        for arguments, times in Counter(asked).items():
            hits, misses = keyspace.hits, keyspace.misses
            try:
                values[arguments] = handler(cx, *arguments)
            except ReplyError as error:
                values[arguments] = error
            keyspace.hits += (keyspace.hits - hits) * (times - 1)
            keyspace.misses += (keyspace.misses - misses) * (times - 1)
        return [values[arguments] for arguments in asked]

    found.run = run
    return handler


def by_key(work: Callable[[Context, bytes, list[Sequence[bytes]]], Sequence[Any]]) -> RunHandler:
    """Return a run that does `work` once for each series of requests with the same key.

    `work` returns the replies, or refuses all of them, before it has written anything: then it would refuse each.
    """

    def run(cx: Context, requests: Sequence[Sequence[bytes]]) -> list[Any]:
        replies: list[Any] = []
        for key, series in groupby(requests, itemgetter(1)):
            same = list(series)
            try:
                replies += work(cx, key, same)
            except ReplyError as error:
                replies += [error] * len(same)
        return replies

    return run


def container(
    name: str, *, help_since: str, flags: int = NO_FLAGS, alone: bool = False
) -> Callable[[AHandler], AHandler]:
    """Make `name` a command whose subcommands are commands: ``@command("NAME|SUB")`` adds one. HELP is added here.

    The decorated function's docstring documents the container; it is called only if `alone` is true and no subcommand is
    named (COMMAND).
    """

    def register(handler: AHandler) -> AHandler:
        made = Command(name.lower(), handler, flags, (0, 0, 0), None)

        made.words_min, made.words_max = (
            (1 if alone else 2),
            0,
        )  # so no request is the container's own on the straight way
        made.arity = -made.words_min
        TABLE[name.encode()] = TABLE[name.lower().encode()] = made
        _add_help(name, made, handler.__module__, help_since)
        return handler

    return register


def _add_help(name: str, holder: Command, module: str, since: str) -> None:
    """Add ``NAME|HELP``, which says what the other subcommands' docstrings say."""

    def help_(cx: Context) -> list[Simple]:
        lines = [f"{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
        for _, found in sorted(holder.subcommands.items()):
            if found.handler is not help_:
                lines += [found.syntax.removeprefix(f"{name} "), f"    {found.summary}"]
        return [Simple(line.encode()) for line in (*lines, "HELP", "    Print this help.")]

    help_.__doc__ = f"{name} HELP -- Returns helpful text about the different subcommands. O(1). Since {since}."
    help_.__module__ = module
    command(f"{name}|HELP", flags=LOADING | STALE)(help_)


def rename(name: bytes, new_name: bytes) -> None:
    """Let a command be called `new_name` only, by nobody if that is empty: rename-command. Raises LookupError with Redis's text."""
    found = TABLE.pop(name.upper(), None)
    if found is None:
        raise LookupError(NO_COMMAND_TO_RENAME)
    del TABLE[name.lower()]
    if new_name.upper() in TABLE:
        raise LookupError(NAME_TAKEN)
    if new_name:
        TABLE[new_name.upper()] = TABLE[new_name.lower()] = found


# Commands that write no rows, and that a replica hears of all the same.
TOLD_TO_REPLICAS: Final = frozenset({"publish", "spublish"})


def called(word: bytes) -> Command | None:
    """Return the command that a word calls, in any case, None if there is none."""
    return TABLE.get(word) or TABLE.get(word.upper())


def find(words: Sequence[bytes]) -> Command | None:
    """Return the command or subcommand that the words call, None if there is none; for words in any case."""
    found = called(words[0])
    if found is not None and found.subcommands and len(words) > 1:
        return found.subcommands.get(words[1].upper())
    return found


def name_of(word: bytes) -> str:
    """Return the name of the command that a word calls, which rename-command may have given it; "" if there is none."""
    found = called(word)
    return found.name if found is not None else ""


def spellings(name: str) -> frozenset[bytes]:
    """Return the words in TABLE that call the command of this name."""
    return frozenset(word for word, command in TABLE.items() if command.name == name)


def _words_of(handler: Handler, words: int) -> tuple[int, int]:
    """Return the least and the greatest number of words of a request, from the handler's signature."""
    least = most = words
    for parameter in list(inspect.signature(handler).parameters.values())[1:]:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            most = ANY_NUMBER
        else:
            most += 1
            least += parameter.default is inspect.Parameter.empty
    return least, most


def _keys_of_signature(name: str, handler: Handler) -> tuple[int, int, int]:
    names = list(inspect.signature(handler).parameters)
    at = 2 if "|" in name else 1
    return (at, at, 1) if len(names) > 1 and names[1] == "key" else (0, 0, 0)


_DOCSTRING: Final = re.compile(
    r"(?P<syntax>.+?) -- (?P<summary>.+?)(?: (?P<complexity>O\(.+?)\.?)? Since (?P<since>[\d.]+)\.", re.DOTALL
)


def _parse_docstring(handler: Handler) -> tuple[str, str, str, str]:
    """Return (syntax, summary, complexity, since) from a handler's docstring."""
    text = " ".join((inspect.getdoc(handler) or "").split())
    match = _DOCSTRING.match(text)
    if match is None:
        raise ValueError(
            f"{handler.__qualname__}: the docstring must read 'NAME words -- Summary. Complexity. Since version.'"
        )
    return (
        match["syntax"],
        match["summary"].strip(),
        (match["complexity"] or "").strip().rstrip("."),
        match["since"].rstrip("."),
    )
