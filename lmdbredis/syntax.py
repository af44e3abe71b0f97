"""Syntax lines: the words of a command as its docstring writes them, into the arguments that COMMAND DOCS tells.

Theory. A line is written as in the manual::

    word          a value; `key` and its like are keys, some names are numbers
    WORD          a token; a value or a choice right after it belongs to it
    [ ... ]       may be left out
    < a | b >     one of; also directly inside [ ]
    a [a ...]     any number; `a b [a b ...]` any number of pairs

redis-cli shows hints from what comes out, so a line that cannot be read is an error here and a failing test, not a wrong hint.

>>> arguments("key [NX | XX] [LIMIT offset count]")[0]
{'name': 'key', 'type': 'key', 'display_text': 'key', 'key_spec_index': 0}
>>> [argument["type"] for argument in arguments("key [NX | XX] [LIMIT offset count] field value [field value ...]")]
['key', 'oneof', 'block', 'block']
"""

from __future__ import annotations

import re
from typing import Any, Final

# name, type, display_text, key_spec_index, token, flags, arguments: those that apply, in this order
Node = dict[str, Any]

_TOKEN: Final = re.compile(r"[\[\]<>|]|\.\.\.|[^\s\[\]<>|]+")
_KEYS: Final = frozenset({"key", "key1", "key2", "newkey", "source", "destination", "dst", "src"})
_TYPES: Final = {
    **dict.fromkeys(
        ("count", "cursor", "db", "destination-db", "end", "index", "index1", "index2", "len", "limit", "milliseconds", "numkeys",
         "offset", "num-matches", "protover", "rank", "seconds", "start", "stop", "client-id", "min-match-len", "version"),
        "integer",
    ),
    **dict.fromkeys(("score", "weight"), "double"),
    **dict.fromkeys(("unix-time-seconds", "unix-time-milliseconds"), "unix-time"),
    "pattern": "pattern",
}  # fmt: skip
_ORDER: Final = ("name", "type", "display_text", "key_spec_index", "token", "flags", "arguments")


def arguments(line: str) -> list[Node]:
    """Return the arguments of a syntax line without the command's name. Raises ValueError."""
    reader = _Reader(_TOKEN.findall(line))
    nodes = reader.sequence("")
    if reader.at != len(reader.words):
        raise ValueError(f"{reader.words[reader.at]!r} has no place in {line!r}")
    return [_ordered(node) for node in nodes]


def _ordered(node: Node) -> Node:
    if "arguments" in node:
        node["arguments"] = [_ordered(inner) for inner in node["arguments"]]
    return {name: node[name] for name in _ORDER if name in node}


class _Reader:
    """The words of a line, and how far they are read."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.at = 0
        self.key_specs = 0  # keys met so far that are not repetitions

    def peek(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def sequence(self, closing: str) -> list[Node]:
        """Read nodes up to ``|``, `closing` or the end, which are left."""
        nodes: list[Node] = []
        while (word := self.peek()) and word not in {"|", closing}:
            self.at += 1
            if word == "...":
                nodes[-1].setdefault("flags", []).append("multiple")
            elif word == "[":
                self.optional(nodes)
            elif word == "<":
                nodes.append(_choice(self.alternatives(">")))
            elif word in {"]", ">"}:
                raise ValueError(f"{word!r} closes nothing in {' '.join(self.words)!r}")
            elif not re.search("[a-z]", word):
                nodes.append(self.token(word))
            else:
                nodes.append(self.value(word))
        return nodes

    def alternatives(self, closing: str) -> list[list[Node]]:
        """Read sequences with ``|`` between them, and `closing`."""
        found = [self.sequence(closing)]
        while self.peek() == "|":
            self.at += 1
            found.append(self.sequence(closing))
        if self.peek() != closing:
            raise ValueError(f"{closing!r} is missing in {' '.join(self.words)!r}")
        self.at += 1
        return found

    def optional(self, nodes: list[Node]) -> None:
        """Read what follows ``[``: the repetition of the last nodes, or something that may be left out."""
        specs = self.key_specs
        found = self.alternatives("]")
        inner = found[0]
        names = [node["name"] for node in inner]
        if (
            len(found) == 1
            and "multiple" in inner[-1].get("flags", [])
            and [node["name"] for node in nodes[-len(names) :]] == names
        ):
            self.key_specs = specs
            if len(names) > 1:
                nodes[-len(names) :] = [{"name": "data", "type": "block", "arguments": nodes[-len(names) :]}]
            nodes[-1].setdefault("flags", []).append("multiple")
            return
        node = _choice(found)
        node.setdefault("flags", []).insert(0, "optional")
        nodes.append(node)

    def token(self, word: str) -> Node:
        """Return the node of a token whose word has been read, with the value or choice that belongs to it."""
        following = self.peek()
        if following == "<":
            self.at += 1
            return _choice(self.alternatives(">")) | {"name": word.lower(), "token": word}
        if following and following not in {"[", "]", ">", "|", "..."} and re.search("[a-z]", following):
            self.at += 1
            return self.value(following) | {"token": word}
        return {"name": word.lower(), "type": "pure-token", "display_text": word.lower(), "token": word}

    def value(self, word: str) -> Node:
        """Return the node of a value."""
        if word not in _KEYS:
            return {"name": word, "type": _TYPES.get(word, "string"), "display_text": word}
        self.key_specs += 1
        return {"name": word, "type": "key", "display_text": word, "key_spec_index": self.key_specs - 1}


def _choice(found: list[list[Node]]) -> Node:
    """Return the node of one sequence, or of one of several."""
    if len(found) > 1:
        return {"name": "choice", "type": "oneof", "arguments": [_block(nodes) for nodes in found]}
    return _block(found[0])


def _block(nodes: list[Node]) -> Node:
    """Return one node for a sequence; a token before several values is the block's."""
    if len(nodes) == 1:
        return nodes[0]
    block: Node = {"name": nodes[0]["name"], "type": "block", "arguments": nodes}
    if nodes[0]["type"] != "pure-token" and "token" in nodes[0] and not any("token" in node for node in nodes[1:]):
        block |= {"name": nodes[0]["token"].lower(), "token": nodes[0].pop("token")}
    return block
