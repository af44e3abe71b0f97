"""The generated parts of the README: what the code says of itself, written between markers.

``python -m tests.readme`` (`make docs`) writes them anew; tests/test_readme.py fails where they are stale.

Law: a part is made from the code alone and is the same on every machine, so it changes only if the code does.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lmdbredis import command_notes, commands
from lmdbredis.directives import TABLE as DIRECTIVES
from lmdbredis.directives import Change, Directive, Effect
from lmdbredis.registry import TABLE, Command
from tools.main import parser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- begin {}: written by `make docs` -->", "<!-- end {} -->"
GROUPS = {  # of the manual, in the order of this README
    "string": "Strings",
    "hash": "Hashes",
    "list": "Lists",
    "set": "Sets",
    "sorted-set": "Sorted sets",
    "stream": "Streams",
    "transactions": "Transactions",
    "scripting": "Scripts",
    "pubsub": "Publish and subscribe",
    "generic": "Keys",
    "connection": "Connections",
    "server": "Server",
}
CHANGES = {
    Change.RUNTIME: "CONFIG SET",
    Change.PROTECTED: "CONFIG SET, if allowed",
    Change.START: "at start",
    Change.RESTART: "at start",
}


def code(text: str) -> str:
    """Return `text` as code inside a table's cell."""
    return f"`{text.replace('|', chr(92) + '|')}`"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table."""
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


def command_rows(found: Command) -> list[tuple[str, str, str]]:
    """Return a row for the command, or one for each of its subcommands."""
    if found.subcommands:
        return [row for _, one in sorted(found.subcommands.items()) for row in command_rows(one)]
    return [(code(found.syntax), found.complexity, found.since)]


def command_table() -> list[str]:
    """Return every command by its group in the manual: syntax, complexity, and the version of Redis it came with."""
    commands.load()
    every = sorted(set(TABLE.values()), key=lambda found: found.name)
    lines = []
    for group, title in GROUPS.items():
        rows = [row for found in every if command_notes.group(found) == group for row in command_rows(found)]
        summary = f"<details><summary>{title} ({len(rows)})</summary>"
        lines += [summary, "", *table(("Command", "Complexity", "Since"), rows), "", "</details>", ""]
    return lines[:-1]


def live_directives() -> list[str]:
    """Return the directives that have a meaning here, with their default and when they can be changed."""
    rows = [
        (code(one.name), code(one.default_text) if one.default_text else "empty", CHANGES[one.change], one.why)
        for one in DIRECTIVES
        if one.effect is Effect.LIVE
    ]
    return table(("Directive", "Default", "Changed by", "Note"), rows)


def kept_directives(effect: Effect) -> Callable[[], list[str]]:
    """Return what makes the list of directives that are kept without a meaning, by reason."""

    def lines() -> list[str]:
        by_reason: dict[str, list[Directive]] = {}
        for one in DIRECTIVES:
            if one.effect is effect:
                by_reason.setdefault(one.why, []).append(one)
        return [f"- {reason}: {', '.join(map(directive_name, rows))}" for reason, rows in by_reason.items()]

    return lines


def directive_name(one: Directive) -> str:
    """Return the name as the lists show it; a star where nothing but the default is accepted."""
    return code(one.name) + ("*" if one.only else "")


def tool() -> list[str]:
    """Return the operator's tool from its command line's definition: each command, its words, an example."""
    lines = []
    for one in tool_commands(parser()):
        lines += [f"**{code(usage(one))}**", "", one.description, ""]
        rows = [
            (code(words(action, is_every=True)), action.help)
            for action in one._actions
            if not isinstance(action, argparse._HelpAction)
        ]
        lines += [*table(("", ""), rows), "", "```", one.epilog.removeprefix("example: "), "```", ""]
    return lines[:-1]


def tool_commands(made: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Return the commands of a command line, those of groups too, in the order of its help."""
    if made._subparsers is None:
        return [made]
    inner = made._subparsers._group_actions[0].choices.values()
    return [one for group in inner for one in tool_commands(group)]


def words(action: argparse.Action, *, is_every: bool = False) -> str:
    """Return how an option or an argument is written: an option by its long name, or by every name it has."""
    value = action.metavar or action.dest.upper()
    if not action.option_strings:
        return value
    names = action.option_strings if is_every else action.option_strings[-1:]
    return ", ".join(names) + (f" {value}" if action.nargs != 0 else "")


def usage(one: argparse.ArgumentParser) -> str:
    """Return a command's line in one line, on every version of Python the same."""
    given = [action for action in one._actions if not isinstance(action, argparse._HelpAction)]
    shown = [words(action) if action.required else f"[{words(action)}]" for action in given]
    return " ".join([one.prog, *shown])


PARTS: dict[str, Callable[[], list[str]]] = {
    "commands": command_table,
    "tool": tool,
    "directives": live_directives,
    "later directives": kept_directives(Effect.LATER),
    "directives without meaning": kept_directives(Effect.NONE),
}


def renewed(text: str) -> str:
    """Return the README's text with every part made anew. Raises ValueError if a part has no markers."""
    for name, lines in PARTS.items():
        begin, end = BEGIN.format(name), END.format(name)
        pattern = re.compile(rf"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"the README must have the markers of {name!r} once")
        body = "\n".join([begin, "", *lines(), "", end])
        text = pattern.sub(lambda _found, body=body: body, text)  # type: ignore[misc]
    return text


def main() -> int:
    """Write the README; return 0."""
    old = README.read_text(encoding="utf-8")
    new = renewed(old)
    if new != old:
        README.write_text(new, encoding="utf-8")
    sys.stdout.write(f"{README.name}: {'written' if new != old else 'up to date'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
