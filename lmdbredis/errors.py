"""Every error text the server can say, grouped by when it occurs.

Law: clients match on these strings, so each one lives here once and nowhere else, byte for byte as Redis says it.
A text starts with its code (``ERR``, ``WRONGTYPE`` ...); `ReplyError` carries a text to whoever encodes replies.
Texts that name a word of the request are ``%s`` templates, filled by `ReplyError(TEXT % word)` with a *shown* word.

This room knows nobody: everything may import it.
"""

from __future__ import annotations

from typing import Final


class ReplyError(Exception):
    """A command refused: `text` is the error reply without its ``-`` and CRLF."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class StorageError(Exception):
    """The directory cannot be used: damaged, locked by another server, or of a newer format. Says what to do."""


class DiskFull(Exception):
    """A write found no room. Nothing of the batch is kept; reads go on."""


class SyncFailed(Exception):
    """An fdatasync failed: what is on disk is unknown from here on, so the process must end (design: final)."""


def shown(word: bytes, bytes_max: int = 128) -> str:
    """Return `word` as Redis shows it inside an error: at most `bytes_max` bytes, one char per byte, no CR or LF."""
    return word[:bytes_max].decode("latin-1").replace("\r", " ").replace("\n", " ")


# Before a command runs: who is asking, and is this a command at all.
UNKNOWN_COMMAND: Final = "ERR unknown command '%s', with args beginning with: %s"
UNKNOWN_SUBCOMMAND: Final = "ERR unknown subcommand '%s'. Try %s HELP."
WRONG_ARITY: Final = "ERR wrong number of arguments for '%s' command"
NO_AUTH: Final = "NOAUTH Authentication required."
MISCONF_FULL: Final = "MISCONF The disk is full: writes are refused until there is room again. Reads go on."
INTERNAL: Final = "ERR internal error: %s. Nothing of this command was kept; the log has the details."

# Words that do not parse.
SYNTAX: Final = "ERR syntax error"
NOT_INTEGER: Final = "ERR value is not an integer or out of range"
NOT_FLOAT: Final = "ERR value is not a valid float"
NOT_POSITIVE: Final = "ERR value is out of range, must be positive"
OUT_OF_RANGE: Final = "ERR value is out of range"
INVALID_CURSOR: Final = "ERR invalid cursor"
INVALID_DB_INDEX: Final = "ERR invalid DB index"
DB_OUT_OF_RANGE: Final = "ERR DB index is out of range"

# What the words name is not there, or is of another kind.
WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
NO_SUCH_KEY: Final = "ERR no such key"
INDEX_OUT_OF_RANGE: Final = "ERR index out of range"
SAME_OBJECT: Final = "ERR source and destination objects are the same"

# The result would not be a value.
OVERFLOW: Final = "ERR increment or decrement would overflow"
NAN_OR_INFINITY: Final = "ERR increment would produce NaN or Infinity"
STRING_TOO_LONG: Final = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
OFFSET_OUT_OF_RANGE: Final = "ERR offset is out of range"
INVALID_EXPIRE: Final = "ERR invalid expire time in '%s' command"

# The door.
MAX_CLIENTS: Final = "ERR max number of clients reached"
PROTECTED_MODE: Final = (
    "DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. "
    "In this mode connections are only accepted from the loopback interface. "
    "If you want to connect from external computers to Redis you may adopt one of the following solutions: "
    "1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same host the server is running, "
    "however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. "
    "2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting the server. "
    "3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. "
    "4) Set up an authentication password for the default user. "
    "NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside."
)

# LCS.
LCS_LEN_AND_IDX: Final = "ERR If you want both the length and indexes, please just use IDX."
LCS_NOT_STRINGS: Final = "ERR The specified keys must contain string values"
