"""The invariants that are absences: what a room must not know. The order of the rooms is import-linter's (pyproject.toml).

Read from the source, not from running modules, so that an import inside a function counts as well. An import for types only
(``if TYPE_CHECKING``) is no knowledge at run time: it does not count.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lmdbredis import format as fmt

PACKAGE = Path(fmt.__file__).resolve().parent

# The rooms at the top, which alone know the outside world: sockets, clocks, chance.
IMPURE = {
    "__main__",
    "server",
    "barrier",
    "compaction",
    "connection",
    "busy",
    "failover",
    "feeds",
    "link",
    "measures",
    "role",
    "wire",
}
OUTSIDE_WORLD = {
    "asyncio",
    "uvloop",
    "socket",
    "selectors",
    "time",
    "datetime",
    "random",
    "secrets",
    "uuid",
    "subprocess",
}
CHANCE_CALLS = {"urandom", "getrandom"}
# Who may import what nobody else may.
ONLY = {
    "lmdb": {"snapshots", "store"},
    "struct": {"control_file", "format"},
    "msgpack": {"format"},
    "hiredis": {"resp", "requests"},
    "lupa": set(),  # imported by name, when the first script comes: test_scripting
    "lmdbredis.wal": {"compaction", "feeds", "install", "link", "shipping", "store"},
    "lmdbredis.disk": {"__main__", "install", "server", "snapshots", "store", "wal", "wire"},
}
SUB_DATABASES = {
    "META", "KEYS", "EXPIRES", "HASHES", "SETS", "LISTS", "ZSETS", "SCORES", "CHUNKS", "COUNTS", "GARBAGE", "STREAMS", "GROUPS",
    "CONSUMERS", "PENDING", "OWNED", "TABLE_NAMES",
}  # fmt: skip
# What a command may not name: rows and whatever holds them.
BELOW_COMMANDS = {"lmdb", "lmdbredis.store", "lmdbredis.table", "lmdbredis.ranks", "lmdbredis.wal", "lmdbredis.disk"}
# What a datatype may not name: replies, words, sessions, the table of commands.
ABOVE_DATATYPES = {
    "lmdbredis.resp",
    "lmdbredis.requests",
    "lmdbredis.registry",
    "lmdbredis.session",
    "lmdbredis.arguments",
}
# The refusals that come from rows, not from words.
DATATYPE_ERRORS = {"ReplyError", "StorageError", "WRONG_TYPE", "LIST_EXHAUSTED"}
# An error text as a client sees it: a code in capitals and words.
ERROR_TEXT = re.compile(r"(?:ERR|WRONGTYPE|NOAUTH|NOPROTO|MISCONF|WRONGPASS|DENIED|BUSYKEY|OOM|READONLY) \w")
ERROR_TEXT_ROOMS = {
    "errors": "the room of error texts",
    "requests": "protocol errors, beside the parser's specification",
    "config": "CONFIG SET's, filled with directives' own",
}


@dataclass
class Room:
    """One module: what it imports at run time, and its syntax tree."""

    name: str  # "commands.zsets"
    tree: ast.Module
    modules: dict[str, int] = field(default_factory=dict)  # absolute name -> line
    names: dict[str, int] = field(default_factory=dict)  # "lmdbredis.errors.SYNTAX" -> line, of from-imports

    def imported(self, module: str) -> int:
        """Return the line that imports `module` or something in it, 0 if none does."""
        return next((line for name, line in self.modules.items() if f"{name}.".startswith(f"{module}.")), 0)

    def attributes(self) -> list[tuple[str, int]]:
        """Return (name after the dot, line) of every attribute that the room uses."""
        return [(node.attr, node.lineno) for node in ast.walk(self.tree) if isinstance(node, ast.Attribute)]


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _look(room: Room, node: ast.AST) -> None:
    """Gather the imports below `node`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            room.modules |= {alias.name: child.lineno for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, f"{room.name}:{child.lineno}: a relative import"
            found = {f"{child.module}.{alias.name}": child.lineno for alias in child.names}
            room.names |= found
            room.modules |= {child.module or "": child.lineno} | found
        elif not _is_for_types(child):
            _look(room, child)


def read_rooms() -> list[Room]:
    """Return every module of the package."""
    rooms = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        room = Room(name, ast.parse(path.read_text(encoding="utf-8")))
        _look(room, room.tree)
        rooms.append(room)
    return rooms


ROOMS = read_rooms()
COMMANDS = [room for room in ROOMS if room.name.startswith("commands.")]
DATATYPES = [room for room in ROOMS if room.name.startswith("datatypes.")]


def test_the_reader_sees():
    """The tests below find nothing because there is nothing, not because they are blind."""
    by_name = {room.name: room for room in ROOMS}

    assert by_name["server"].imported("asyncio")
    assert by_name["store"].imported("lmdb")
    assert "lmdbredis.registry.command" in by_name["commands.zsets"].names
    assert not by_name["registry"].imported("random"), "imported for types only"
    assert len(COMMANDS) > 5 <= len(DATATYPES)


def test_below_the_server_all_is_pure():
    """No room below the server knows a loop, a socket, a clock or chance: they are handed down, so every run can be repeated."""
    found = [
        f"{room.name}:{line} imports {module}"
        for room in ROOMS
        if room.name not in IMPURE
        for module in OUTSIDE_WORLD
        if (line := room.imported(module))
    ]
    found += [
        f"{room.name}:{line} calls {name}"
        for room in ROOMS
        if room.name not in IMPURE
        for name, line in room.attributes()
        if name in CHANCE_CALLS
    ]

    assert found == []


@pytest.mark.parametrize("module", ONLY)
def test_one_room_for_each_tool(module: str):
    """LMDB, the packing of bytes, the log and the disk have one door each."""
    found = {room.name for room in ROOMS if room.imported(module)}

    assert found <= ONLY[module]


def test_no_command_knows_rows():
    """No command names a sub-database, a table or the store: rows are the datatypes' affair."""
    assert {getattr(fmt, name) for name in SUB_DATABASES - {"TABLE_NAMES"}} == set(fmt.TABLE_NAMES)

    found = []
    for room in COMMANDS:
        found += [
            f"{room.name}:{room.imported(module)} imports {module}"
            for module in BELOW_COMMANDS
            if room.imported(module)
        ]
        found += [
            f"{room.name}:{line} uses .{name}" for name, line in room.attributes() if name in SUB_DATABASES | {"tables"}
        ]
        found += [
            f"{room.name}:{line} imports {name}"
            for name, line in room.names.items()
            if name.startswith("lmdbredis.format.") and name.rpartition(".")[2] in SUB_DATABASES
        ]

    assert found == []


def test_no_command_encodes():
    """Handlers return values: nothing in commands makes the bytes of a reply."""
    found = [
        f"{room.name}:{line} imports {name}"
        for room in COMMANDS
        for name, line in room.names.items()
        if name.startswith("lmdbredis.resp.") and re.match(r"(?i)encode|raw$|.*parser$", name.rpartition(".")[2])
    ]

    assert found == []


def test_no_datatype_knows_a_reply():
    """No datatype knows replies, words, sessions or commands; of the error texts only those that come from rows."""
    found = []
    for room in DATATYPES:
        found += [
            f"{room.name}:{room.imported(module)} imports {module}"
            for module in ABOVE_DATATYPES
            if room.imported(module)
        ]
        found += [
            f"{room.name}:{line} imports {name}"
            for name, line in room.names.items()
            if name.startswith("lmdbredis.errors.") and name.rpartition(".")[2] not in DATATYPE_ERRORS
        ]

    assert found == []


def test_error_texts_have_one_room():
    """What clients match on stands in `errors`, or in a room named here with the reason."""
    found = [
        f"{room.name}:{node.lineno}: {node.value!r}"
        for room in ROOMS
        if room.name not in ERROR_TEXT_ROOMS
        for node in ast.walk(room.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ERROR_TEXT.match(node.value)
    ]

    assert found == []
