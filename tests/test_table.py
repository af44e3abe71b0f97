"""The command table against the oracle's: what COMMAND tells of every command, and the documentation of each.

Clients route by arity, keys and flags, so these are equal to the oracle's where the oracle has the command. EXCEPTIONS says where
not, and why.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from lmdbredis import command_notes, commands, syntax
from lmdbredis.registry import TABLE, Command
from tests.differential import table

if TYPE_CHECKING:
    from tests.differential import Pair

commands.load()
COMMANDS: list[Command] = list(dict.fromkeys(TABLE.values()))
ALL: list[Command] = [one for found in COMMANDS for one in (found, *found.subcommands.values())]
FIELDS = ("name", "arity", "flags", "first key", "last key", "step", "categories", "tips", "key specifications")

# (command, field) -> why the oracle's answer is not ours.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("exec", "flags"): "skip_slowlog has the name skip_commandlog in valkey 9",
}
# Commands of ours, which the oracle cannot know: COMMAND lists them all the same.
OURS_ALONE = {b"backup", *(b"backup|" + name for name in (b"help", b"start", b"stop", b"status"))}
# Whose syntax lines tell how many words they take: not containers, nor KILL, which has two forms.
PLAIN = [found for found in ALL if not found.subcommands and found.name != "client|kill"]


def entry(reply: Any) -> dict[str, Any]:
    """Return an entry of COMMAND INFO by field."""
    found = dict(zip(FIELDS, reply.plain(), strict=False))
    specs = []
    for spec in found["key specifications"]:
        pairs = spec if isinstance(spec, dict) else dict(zip(spec[::2], spec[1::2], strict=True))
        specs.append({name: pairs.get(name) for name in (b"notes", b"flags", b"begin_search", b"find_keys")})
    return found | {"key specifications": specs, "tips": sorted(found["tips"])}


def test_command_info(pair: Pair):
    """Every command and subcommand has the oracle's arity, flags, keys, categories, tips and key specifications."""
    words = [("COMMAND", "INFO", found.name) for found in ALL]
    answers = zip(*(client.pipeline(words) for client in pair.clients()), strict=True)
    differing = {}
    for found, (ours, theirs) in zip(ALL, answers, strict=True):
        if theirs.items()[0].value is None:
            continue
        mine, wanted = entry(ours.items()[0]), entry(theirs.items()[0])
        differing |= {
            (found.name, field): (mine[field], wanted[field])
            for field in FIELDS
            if mine[field] != wanted[field] and (found.name, field) not in EXCEPTIONS
        }

    assert differing == {}


def test_exceptions_are_needed(pair: Pair):
    """An exception names a command that is there, and a field in which it differs."""
    for name, field in EXCEPTIONS:
        ours, theirs = (client.call("COMMAND", "INFO", name).items()[0] for client in pair.clients())

        assert entry(ours)[field] != entry(theirs)[field], name


def test_subcommands_are_listed(pair: Pair):
    """A container lists its subcommands, each as COMMAND INFO tells it by itself."""
    client = pair.clients()[0]
    for found in COMMANDS:
        if found.subcommands:
            listed = client.call("COMMAND", "INFO", found.name).items()[0].items()[9].items()

            assert [one.items()[0].value.decode() for one in listed] == [one.name for one in found.subcommands.values()]
            for one in listed:
                assert client.call("COMMAND", "INFO", one.items()[0].value).items()[0] == one


@pytest.mark.parametrize("found", ALL, ids=[found.name for found in ALL])
def test_documentation(found: Command):
    """A command is documented: a syntax line that begins with its name and can be read, a summary, a complexity, a version."""
    words = found.name.upper().replace("|", " ")

    assert found.syntax == words or found.syntax.startswith(words + " ")
    assert found.summary.endswith(".")
    assert found.complexity.startswith("O(") or found.subcommands or found.name == "debug"
    assert re.fullmatch(r"\d+\.\d+\.\d+", found.since), found.since
    assert isinstance(syntax.arguments(found.syntax.removeprefix(words)), list)


@pytest.mark.parametrize("found", PLAIN, ids=[found.name for found in PLAIN])
def test_syntax_and_arity_agree(found: Command):
    """The least number of words that the syntax line asks for is the least that the command takes."""

    def least(node: syntax.Node) -> int:
        flags = node.get("flags", [])
        own = int("token" in node and node["type"] != "pure-token")
        if "optional" in flags:
            return 0
        inner = [least(one) for one in node.get("arguments", [])]
        return own + (min(inner) if node["type"] == "oneof" else sum(inner) if inner else 1)

    words = found.name.upper().replace("|", " ")
    count = len(words.split()) + sum(map(least, syntax.arguments(found.syntax.removeprefix(words))))

    assert count == found.words_min


def test_command_docs(pair: Pair):
    """COMMAND DOCS tells the oracle's group and first version of every command, in the oracle's shape."""
    words = [("COMMAND", "DOCS", found.name) for found in COMMANDS]
    for found, ours, theirs in zip(COMMANDS, *(client.pipeline(words) for client in pair.clients()), strict=True):
        mine, wanted = docs(ours), docs(theirs)
        for name in set(wanted) & set(mine):
            for field in (b"group", b"since"):
                assert (name, field, mine[name][field]) == (name, field, wanted[name][field])

        assert ours.kind == theirs.kind
        assert list(mine)[:1] == [found.name.encode()]


def docs(reply: Any) -> dict[bytes, dict[bytes, Any]]:
    """Return name -> fields of a reply to COMMAND DOCS, subcommands as entries of their own."""

    def pairs(node: Any) -> dict[bytes, Any]:
        items = node.items()
        return {key.value: value for key, value in zip(items[::2], items[1::2], strict=True)}

    found: dict[bytes, dict[bytes, Any]] = {}
    for name, value in pairs(reply).items():
        fields = pairs(value)
        found[name] = {field: inner.value for field, inner in fields.items()}
        if b"subcommands" in fields:
            found |= {
                inner: {f: v.value for f, v in pairs(one).items()}
                for inner, one in pairs(fields[b"subcommands"]).items()
            }
    return found


def test_count_and_list(pair: Pair):
    """COMMAND, COMMAND COUNT, INFO, DOCS and LIST tell of the same commands, and filters as the oracle filters."""
    client, oracle = pair.clients()
    listed = {item.value for item in client.call("COMMAND", "LIST").items()}
    names = {name for name in listed if b"|" not in name}

    assert len(names) == client.call("COMMAND", "COUNT").value == len(COMMANDS)
    assert {one.items()[0].value for one in client.call("COMMAND").items()} == names
    assert {one.items()[0].value for one in client.call("COMMAND", "INFO").items()} == names
    assert set(docs(client.call("COMMAND", "DOCS"))) >= names
    every = {found.name.encode() for found in ALL}
    assert listed - OURS_ALONE == {item.value for item in oracle.call("COMMAND", "LIST").items()} & every
    filters = [("ACLCAT", name) for name in (*command_notes.CATEGORIES, "bogus", "@read", "READ")]
    filters += [("PATTERN", name) for name in ("*", "*get*", "config|*", "CONFIG*", "z*store", "")] + [("module", "x")]
    for words in filters:
        mine, theirs = (
            {item.value for item in one.call("COMMAND", "LIST", "FILTERBY", *words).items()} for one in (client, oracle)
        )

        assert mine - OURS_ALONE == theirs & every, words


def test_refusals(pair: Pair):
    """COMMAND's subcommands refuse what the oracle refuses, with its words."""
    pair.run([
        "COMMAND LIST FILTERBY", "COMMAND LIST FILTERBY BOGUS x", "COMMAND LIST FILTERBY PATTERN", "COMMAND LIST BOGUS",
        "COMMAND LIST FILTERBY PATTERN a b", "COMMAND INFO bogus", "COMMAND INFO get|x", "COMMAND INFO client|bogus",
        "COMMAND DOCS bogus", "COMMAND COUNT x", "COMMAND GETKEYS", "COMMAND BOGUS",
    ])  # fmt: skip


def test_keys_of_requests(pair: Pair):
    """COMMAND GETKEYS and GETKEYSANDFLAGS find the keys of whole requests of every form, and refuse the others."""
    requests = """
        get k
        GET
        get k k
        set k v
        set k v GET
        SET k v EX 5
        set k
        mset a 1 b 2
        mset a 1 b
        msetnx a 1
        mget a b c
        del a b
        ping
        bogus k
        ""
        object encoding k
        object help
        object bogus k
        object
        memory usage k
        memory usage
        config get x
        lmove a b left right
        rename a b
        copy a b db 1
        lmpop 2 a b left
        lmpop 3 a b left
        lmpop 0 a left
        lmpop x a left
        lmpop -1 a left
        zmpop 1 a min
        zunion 2 a b
        zunion 2 a
        zinter 2 a b WITHSCORES
        zdiff 1 a
        zinterstore d 2 a b
        zunionstore d 3 a b
        zunionstore d 1 a WEIGHTS 2
        zdiffstore d x a
        zrangestore d s 0 1
        sinterstore d a b
        sintercard 2 a b LIMIT 1
        sintercard 1 a b
        smove a b m
        getex k PERSIST
        lcs a b
        expire k 1
        scan 0
        command getkeys get k
        subscribe a
        ssubscribe a
        ssubscribe
        sunsubscribe
        spublish a b
        spublish a
        publish a b
    """
    pair.run(table("COMMAND", ["GETKEYS", "GETKEYSANDFLAGS"], requests))
