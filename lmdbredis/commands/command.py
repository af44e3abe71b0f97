"""COMMAND: the table of commands, told. Source: the Redis 7.2 manual, group *server*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmdbredis import command_notes, pattern, syntax
from lmdbredis.arguments import Arguments
from lmdbredis.errors import KEYS_ARITY, KEYS_INVALID, KEYS_OF_UNKNOWN, NO_KEYS, SYNTAX, ReplyError
from lmdbredis.registry import (
    LOADING,
    NO_MANDATORY_KEYS,
    STALE,
    TABLE,
    Command,
    Context,
    Flag,
    command,
    container,
    find,
)
from lmdbredis.resp import Set, Simple
from lmdbredis.words import parse_int

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FLAGS = LOADING | STALE


@container("COMMAND", help_since="5.0.0", flags=_FLAGS, alone=True)
def command_(cx: Context) -> list[Any]:
    """COMMAND -- Returns detailed information about all commands. O(N) where N is the total number of commands. Since 2.8.13."""
    return [_info(found) for found in _commands()]


def _commands() -> list[Command]:
    """Return all commands, no subcommands."""
    return list(dict.fromkeys(TABLE.values()))


def _with_subcommands(commands: list[Command]) -> Iterator[Command]:
    for found in commands:
        yield found
        yield from found.subcommands.values()


def _named(name: bytes) -> Command | None:
    """Return the command or subcommand (``config|get``) with a name, in any case."""
    container_, separator, subcommand = name.partition(b"|")
    found = find([container_])
    return found.subcommands.get(subcommand.upper()) if found is not None and separator else found


# --- what a command is ------------------------------------------------------------------------------------------------------


def _statuses(names: Sequence[bytes]) -> Set:
    return Set(map(Simple, names))


def _info(found: Command) -> list[Any]:
    """Return a command's entry in COMMAND INFO."""
    uses = command_notes.uses(found)
    remark = command_notes.remark(found)
    specs = [
        remark | {b"flags": _statuses(use)} | spec
        for use, spec in zip(uses, command_notes.key_specs(found), strict=True)
    ]
    return [
        found.name.encode(),
        found.arity,
        _statuses([flag.name.lower().encode() for flag in Flag(found.flags) if flag.name]),
        *found.keys,
        _statuses([f"@{category}".encode() for category in command_notes.categories(found)]),
        Set(command_notes.tips(found)),
        Set(specs),
        [_info(subcommand) for subcommand in found.subcommands.values()],
    ]


def _docs(found: Command) -> dict[bytes, Any]:
    """Return a command's entry in COMMAND DOCS."""
    docs: dict[bytes, Any] = {
        b"summary": found.summary.encode(),
        b"since": found.since.encode(),
        b"group": command_notes.group(found).encode(),
        b"complexity": (found.complexity or "Depends on subcommand.").encode(),
    }
    if found.subcommands:
        docs[b"subcommands"] = {one.name.encode(): _docs(one) for one in found.subcommands.values()}
    else:
        name = found.name.upper().replace("|", " ")
        arguments = syntax.arguments(found.syntax.removeprefix(name))
        if arguments:
            docs[b"arguments"] = [_argument(argument) for argument in arguments]
    return docs


def _argument(node: syntax.Node) -> dict[bytes, Any]:
    """Return an argument of COMMAND DOCS."""
    shown: dict[bytes, Any] = {}
    for name, value in node.items():
        if name == "flags":
            shown[b"flags"] = _statuses([flag.encode() for flag in value])
        elif name == "arguments":
            shown[b"arguments"] = [_argument(inner) for inner in value]
        else:
            shown[name.encode()] = value.encode() if isinstance(value, str) else value
    return shown


@command("COMMAND|COUNT", flags=_FLAGS)
def command_count(cx: Context) -> int:
    """COMMAND COUNT -- Returns the number of commands. O(1). Since 2.8.13."""
    return len(_commands())


@command("COMMAND|INFO", flags=_FLAGS)
def command_info(cx: Context, *names: bytes) -> list[Any]:
    """COMMAND INFO [command-name [command-name ...]] -- Returns information about one, several or all commands. O(N) where N is the number of commands to look up. Since 2.8.13."""
    if not names:
        return command_(cx)
    return [None if (found := _named(name)) is None else _info(found) for name in names]


@command("COMMAND|DOCS", flags=_FLAGS)
def command_docs(cx: Context, *names: bytes) -> dict[bytes, Any]:
    """COMMAND DOCS [command-name [command-name ...]] -- Returns what the documentation says of one, several or all commands. O(N) where N is the number of commands to look up. Since 7.0.0."""
    wanted = [_named(name) for name in names] if names else _commands()
    return {found.name.encode(): _docs(found) for found in wanted if found is not None}


@command("COMMAND|LIST", flags=_FLAGS)
def command_list(cx: Context, *words: bytes) -> list[bytes]:
    """COMMAND LIST [FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>] -- Returns the names of all commands, or of those that pass a filter. O(N) where N is the total number of commands. Since 7.0.0."""
    options, every = Arguments(words), list(_with_subcommands(_commands()))
    if not words:
        return [found.name.encode() for found in every]
    if len(words) != 3 or not options.accept(b"FILTERBY", 2):
        raise ReplyError(SYNTAX)
    if options.accept(b"MODULE"):
        return []
    if options.accept(b"ACLCAT"):
        category = options.next().lower().decode("latin-1")
        return [found.name.encode() for found in every if category in command_notes.categories(found)]
    if options.accept(b"PATTERN"):
        return list(filter(pattern.compile(options.next(), nocase=True), (found.name.encode() for found in every)))
    raise ReplyError(SYNTAX)


# --- keys of a request ------------------------------------------------------------------------------------------------------


def _keys(words: Sequence[bytes]) -> tuple[Command, list[int]]:
    """Return the command that a request calls, and which of its words are keys. Raises ReplyError."""
    found = find(words)
    if found is None:
        raise ReplyError(KEYS_OF_UNKNOWN)
    if all(use == [b"not_key"] for use in command_notes.uses(found)):
        raise ReplyError(NO_KEYS)
    if not found.takes(len(words)):
        raise ReplyError(KEYS_ARITY)
    try:
        positions = command_notes.key_positions(found, words)
    except ReplyError:
        positions = []
    if not positions and found.flags & NO_MANDATORY_KEYS:
        return found, []
    if not positions or (command_notes.is_numbered(found) and positions[-1] != _last_of_numbered(found, words)):
        raise ReplyError(KEYS_INVALID)
    return found, positions


def _last_of_numbered(found: Command, words: Sequence[bytes]) -> int:
    """Return where the last key stands, as the word before the keys says how many follow it."""
    at = command_notes.count_position(found)
    return at + (parse_int(words[at]) or 0)


@command("COMMAND|GETKEYS", flags=_FLAGS)
def command_getkeys(cx: Context, name: bytes, *words: bytes) -> list[bytes]:
    """COMMAND GETKEYS command [arg [arg ...]] -- Returns the keys of a whole command. O(N) where N is the number of words of the command. Since 2.8.13."""
    request = (name, *words)
    return [request[position] for position in _keys(request)[1]]


@command("COMMAND|GETKEYSANDFLAGS", flags=_FLAGS)
def command_getkeysandflags(cx: Context, name: bytes, *words: bytes) -> list[Any]:
    """COMMAND GETKEYSANDFLAGS command [arg [arg ...]] -- Returns the keys of a whole command, and how it uses each. O(N) where N is the number of words of the command. Since 7.0.0."""
    request = (name, *words)
    found, positions = _keys(request)
    uses = command_notes.uses_in(found, request)
    return [
        [request[position], _statuses(uses[min(number, len(uses) - 1)])] for number, position in enumerate(positions)
    ]
