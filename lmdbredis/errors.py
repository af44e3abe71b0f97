"""Every error text the server can say, grouped by when it occurs.

Law: clients match on these strings, so each one lives here once and nowhere else, byte for byte as Redis says it.
A text starts with its code (``ERR``, ``WRONGTYPE`` ...); `ReplyError` carries a text to whoever encodes replies.
Texts that name a word of the request are ``%s`` templates, filled by `ReplyError(TEXT % word)` with a *shown* word.

This room knows nobody: everything may import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MORE_BY_CHECK: Final = (
    "; `lmdbredis check DIR` tells more"  # behind the damage of a store, except where `check` itself says it
)


class ReplyError(Exception):
    """A command refused: `text` is the error reply without its ``-`` and CRLF."""

    __slots__ = ("is_counted", "text")

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.is_counted = False  # in INFO's errorstats: it is told on from where it was counted, as out of a script

    def complete(self, words: Sequence[bytes]) -> None:
        """Put the name of the subcommand that was called with these words into a text that wants it: only who called it knows how."""
        if self.text is SUBCOMMAND_SYNTAX:
            self.text = SUBCOMMAND_SYNTAX % (shown(words[1]), shown(words[0].upper()))


class StorageError(Exception):
    """The directory cannot be used: damaged, locked by another server, or of a newer format. Says what to do."""


class NewerFormat(StorageError):
    """Nothing is broken, but it was written by a newer version."""


class DiskFull(Exception):
    """A write found no room. Nothing of the batch is kept; reads go on."""


class SyncFailed(Exception):
    """A sync failed, or a write did and not for want of room: what is on disk is unknown, so the process must end (design: final)."""


def shown(word: bytes, bytes_max: int = 128) -> str:
    """Return `word` as Redis shows it inside an error: up to a NUL and `bytes_max` bytes, one char per byte, no CR or LF."""
    return word[:bytes_max].partition(b"\0")[0].decode("latin-1").replace("\r", " ").replace("\n", " ")


# Before there is a request: the bytes cannot be read, and the connection ends.
BAD_MULTIBULK_LENGTH: Final = "ERR Protocol error: invalid multibulk length"
BAD_BULK_LENGTH: Final = "ERR Protocol error: invalid bulk length"
BAD_CRLF: Final = "ERR Protocol error: invalid CRLF in request"
BAD_QUOTES: Final = "ERR Protocol error: unbalanced quotes in request"
NO_DOLLAR: Final = "ERR Protocol error: expected '$', got '%s'"
BIG_INLINE: Final = "ERR Protocol error: too big inline request"
BIG_MULTIBULK_LINE: Final = "ERR Protocol error: too big mbulk count string"
BIG_BULK_LINE: Final = "ERR Protocol error: too big bulk count string"
STRANGER_MULTIBULK: Final = "ERR Protocol error: unauthenticated multibulk length"
STRANGER_BULK: Final = "ERR Protocol error: unauthenticated bulk length"

# Before a command runs: who is asking, and is this a command at all.
UNKNOWN_COMMAND: Final = "ERR unknown command '%s', with args beginning with: %s"
UNKNOWN_SUBCOMMAND: Final = "ERR unknown subcommand '%s'. Try %s HELP."
# Raised as it is: see `ReplyError.complete`.
SUBCOMMAND_SYNTAX: Final = "ERR unknown subcommand or wrong number of arguments for '%s'. Try %s HELP."
WRONG_ARITY: Final = "ERR wrong number of arguments for '%s' command"
NO_AUTH: Final = "NOAUTH Authentication required."
MISCONF_FULL: Final = "MISCONF The disk is full: writes are refused until there is room again. Reads go on."
INTERNAL: Final = "ERR internal error: %s. Nothing of this command was kept; the log has the details."

# Transactions.
EXEC_WITHOUT_MULTI: Final = "ERR EXEC without MULTI"
DISCARD_WITHOUT_MULTI: Final = "ERR DISCARD without MULTI"
NOT_IN_MULTI: Final = "ERR Command '%s' not allowed inside a transaction"
EXEC_ABORT: Final = "EXECABORT Transaction discarded because of previous errors."
EXEC_REFUSED: Final = "EXECABORT Transaction discarded because of: %s"

ONLY_LISTENING: Final = (
    "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
)

# Words that do not parse.
SYNTAX: Final = "ERR syntax error"
NOT_INTEGER: Final = "ERR value is not an integer or out of range"
NOT_FLOAT: Final = "ERR value is not a valid float"
NOT_POSITIVE: Final = "ERR value is out of range, must be positive"
OUT_OF_RANGE: Final = "ERR value is out of range"
INVALID_CURSOR: Final = "ERR invalid cursor"
DB_OUT_OF_RANGE: Final = "ERR DB index is out of range"

# What the words name is not there, or is of another kind.
WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
NO_SUCH_KEY: Final = "ERR no such key"
INDEX_OUT_OF_RANGE: Final = "ERR index out of range"
SAME_OBJECT: Final = "ERR source and destination objects are the same"

# The result would not be a value.
OVERFLOW: Final = "ERR increment or decrement would overflow"
DECREMENT_OVERFLOW: Final = "ERR decrement would overflow"
NAN_OR_INFINITY: Final = "ERR increment would produce NaN or Infinity"
STRING_TOO_LONG: Final = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
OFFSET_OUT_OF_RANGE: Final = "ERR offset is out of range"
INVALID_EXPIRE: Final = "ERR invalid expire time in '%s' command"

# The door.
SECURITY_ATTACK: Final = (  # for the log: who speaks HTTP is told nothing
    "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. "
    "This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis instance. "
    "Connection from %s aborted."
)
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
LCS_TOO_MUCH: Final = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"

# Lists.
NOT_IN_RANGE: Final = "ERR value is out of range, value must between %d and %d"
LPOS_RANK_ZERO: Final = (
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... "
    "or use negative to start from the end of the list"
)
LPOS_COUNT_NEGATIVE: Final = "ERR COUNT can't be negative"
LPOS_MAXLEN_NEGATIVE: Final = "ERR MAXLEN can't be negative"
NUMKEYS_NOT_POSITIVE: Final = "ERR numkeys should be greater than 0"
COUNT_NOT_POSITIVE: Final = "ERR count should be greater than 0"
LIST_EXHAUSTED: Final = (
    "ERR the list has no positions left on this side: copy it to another key (COPY), which has them all"
)

# Waiting and pausing.
TIMEOUT_NOT_FLOAT: Final = "ERR timeout is not a float or out of range"
TIMEOUT_NOT_INTEGER: Final = "ERR timeout is not an integer or out of range"
TIMEOUT_NEGATIVE: Final = "ERR timeout is negative"
TIMEOUT_OUT_OF_RANGE: Final = "ERR timeout is out of range"
UNBLOCKED: Final = "UNBLOCKED client unblocked via CLIENT UNBLOCK"
UNBLOCK_REASON: Final = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"
PAUSE_MODE: Final = "ERR CLIENT PAUSE mode must be WRITE or ALL"
MONITOR_ONLY: Final = "ERR Replica can't interact with the keyspace"  # so it is called, a monitor too
NOT_IN_ONE_GO: Final = "ERR %s isn't allowed for %sDENY BLOCKING client"  # transactions and scripts are one go
SLOWLOG_COUNT: Final = "ERR count should be greater than or equal to -1"

# Keys.
EXPIRE_OPTION: Final = "ERR Unsupported option %s"
EXPIRE_NX_AND_OTHERS: Final = "ERR NX and XX, GT or LT options at the same time are not compatible"
EXPIRE_GT_AND_LT: Final = "ERR GT and LT options at the same time are not compatible"
INVALID_FIRST_DB: Final = "ERR invalid first DB index"
INVALID_SECOND_DB: Final = "ERR invalid second DB index"
FREQ_WITHOUT_LFU: Final = (
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between "
    "policies at runtime LRU and LFU data will take some time to adjust."
)
IDLETIME_WITH_LFU: Final = (
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at "
    "runtime LRU and LFU data will take some time to adjust."
)

# Connections.
AUTH_WITHOUT_PASSWORD: Final = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"
WRONG_PASSWORD: Final = "WRONGPASS invalid username-password pair or user is disabled."
NO_PROTOCOL: Final = "NOPROTO unsupported protocol version"
NOT_PROTOCOL: Final = "ERR Protocol version is not an integer or out of range"
HELLO_OPTION: Final = "ERR Syntax error in HELLO option '%s'"
HELLO_NO_AUTH: Final = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option "
    "can be used to authenticate the client and select the RESP protocol version at the same time"
)
CLIENT_NAME: Final = "ERR Client names cannot contain spaces, newlines or special characters."
CLIENT_INFO_VALUE: Final = "ERR %s cannot contain spaces, newlines or special characters."
CLIENT_INFO_OPTION: Final = "ERR Unrecognized option '%s'"
CLIENT_TYPE: Final = "ERR Unknown client type '%s'"
CLIENT_ID: Final = "ERR Invalid client ID"
CLIENT_KILL_ID: Final = "ERR client-id should be greater than 0"
NO_SUCH_CLIENT: Final = "ERR No such client"
NO_SUCH_USER: Final = "ERR No such user '%s'"

# The start.
NO_FILES: Final = "Your current 'ulimit -n' is not enough for the server to start. Exiting."
NO_USERS: Final = (
    "user %s: access control lists come in a later release and would not be enforced in this one. The only user line that is accepted is "
    "that of a default user who may do everything, with nopass or with the password that requirepass sets. Remove the line."
)
LISTENS_NOWHERE: Final = "Configured to not listen anywhere, exiting."
CANNOT_LISTEN: Final = "Could not create server TCP listening socket %s:%d: %s"
NO_COMMAND_TO_RENAME: Final = "No such command in rename-command"
NAME_TAKEN: Final = "Target command name already exists"

# Replication.
READ_ONLY: Final = "READONLY You can't write against a read only replica."
MASTER_DOWN: Final = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
NO_REPLICAS: Final = "NOREPLICAS Not enough good replicas to write."
UNBLOCKED_BY_ROLE: Final = (
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
)
REPLICA_WAITS: Final = (
    "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable "
    "(which is not the default) writes to replicas are just local and are not propagated."
)
REPLICA_WAITS_AOF: Final = "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated."
WAIT_RANGE: Final = "ERR value is out of range, value must between 0 and 1"
NOT_FOR_REPLICAS: Final = "ERR This server ships its log, which only replicas of its own kind can read: they say so with REPLCONF capa lmdbredis"
NOT_CONNECTED_TO_MASTER: Final = "NOMASTERLINK Can't SYNC while not connected with my master"
REPLCONF_OPTION: Final = "ERR Unrecognized REPLCONF option: %s"
MASTER_PORT: Final = "ERR Invalid master port"
WAIT_POSITIVE: Final = "ERR value is out of range, must be positive"
IP_ADDRESS_LENGTH: Final = "ERR REPLCONF ip-address provided by replica instance is too long: %d bytes"
FAILOVER_TIMEOUT: Final = "ERR FAILOVER timeout must be greater than 0"
FAILOVER_FORCE: Final = "ERR FAILOVER with force option requires both a timeout and target HOST and IP."
FAILOVER_ON: Final = "ERR FAILOVER already in progress."
FAILOVER_OF_REPLICA: Final = "ERR FAILOVER is not valid when server is a replica."
FAILOVER_ALONE: Final = "ERR FAILOVER requires connected replicas."
FAILOVER_TARGET: Final = "ERR FAILOVER target HOST and PORT is not a replica."
FAILOVER_TARGET_OFFLINE: Final = "ERR FAILOVER target replica is not online."
NO_FAILOVER: Final = "ERR No failover in progress."
REPLICA_OF_IN_FAILOVER: Final = "ERR REPLICAOF not allowed while failing over."

# The server.
NO_SHUTDOWN: Final = "ERR No shutdown in progress."
NO_CONFIG_FILE: Final = "ERR The server is running without a config file"
TOO_MANY_CLIENTS: Final = "The operating system is not able to handle the specified number of clients, try with %d"
LISTENS_ALREADY: Final = "lmdbredis listens where it was told to at start: restart it to change this"
CONFIG_REWRITE: Final = "ERR Rewriting config file: %s"
SAVE_FAILED: Final = "ERR the checkpoint failed: %s. The log has everything that was acknowledged"
HOLD_TAKEN: Final = "ERR a backup holds checkpoints already%s: BACKUP STOP ends that, BACKUP STATUS tells more"
HOLD_BEGINS: Final = "ERR the checkpoint that BACKUP START begins with is being made: wait for its reply"
HOLD_NONE: Final = "ERR no backup holds checkpoints"
HOLD_ENDED: Final = "ERR the hold ended by itself, so a copy may not be whole: %s"  # with one of the next three
HOLD_OVERDUE: Final = "its time limit (backup-hold-max) was over"
HOLD_DISK_FULL: Final = "the disk was full, and a checkpoint may make room"
HOLD_BROKEN: Final = "a checkpoint was made that could not wait"
HOLD_NAME: Final = "ERR a backup's name is one word of printable ASCII characters"
SAVING_ALREADY: Final = "ERR Background save already in progress"
SAVE_HELD: Final = "ERR a backup holds checkpoints%s: BACKUP STOP ends that. The log has everything"
DEBUG_REFUSED: Final = (
    'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local connection, '
    "otherwise you need to set this option in the configuration file, and then restart the server."
)
DEBUG_SYNTAX: Final = "ERR unknown subcommand or wrong number of arguments for '%s'. Try DEBUG HELP."
DEBUG_RELOAD_OPTION: Final = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options."
BROKEN: Final = "ERR broken: %s"
NO_KEYS: Final = "ERR The command has no key arguments"
KEYS_OF_UNKNOWN: Final = "ERR Invalid command specified"
KEYS_ARITY: Final = "ERR Invalid number of arguments specified for command"
KEYS_INVALID: Final = "ERR Invalid arguments specified for command"

# Hashes and sets.
HASH_VALUE_NOT_INTEGER: Final = "ERR hash value is not an integer"
HASH_VALUE_NOT_FLOAT: Final = "ERR hash value is not a float"
INCREMENT_NOT_FINITE: Final = "ERR value is NaN or Infinity"
TOO_MANY_KEYS: Final = "ERR Number of keys can't be greater than number of args"
LIMIT_NEGATIVE: Final = "ERR LIMIT can't be negative"

# Sorted sets.
ZADD_NX_AND_XX: Final = "ERR XX and NX options at the same time are not compatible"
ZADD_GT_LT_NX: Final = "ERR GT, LT, and/or NX options at the same time are not compatible"
ZADD_INCR_MANY: Final = "ERR INCR option supports a single increment-element pair"
SCORE_NAN: Final = "ERR resulting score is not a number (NaN)"
SCORE_BOUND: Final = "ERR min or max is not a float"
NAME_BOUND: Final = "ERR min or max not valid string range item"
LIMIT_BY_INDEX: Final = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
WITHSCORES_BY_LEX: Final = "ERR syntax error, WITHSCORES not supported in combination with BYLEX"
NO_INPUT_KEY: Final = "ERR at least 1 input key is needed for '%s' command"
WEIGHT_NOT_FLOAT: Final = "ERR weight value is not a float"

# Streams.
ENTRY_ID: Final = "ERR Invalid stream ID specified as stream command argument"
ENTRY_ID_ZERO: Final = "ERR The ID specified in XADD must be greater than 0-0"
ENTRY_ID_SMALL: Final = "ERR The ID specified in XADD is equal or smaller than the target stream top item"
ENTRY_IDS_EXHAUSTED: Final = "ERR The stream has exhausted the last possible ID, unable to add more items"
ENTRY_TOO_LARGE: Final = "ERR Elements are too large to be stored"
INTERVAL_START: Final = "ERR invalid start ID for the interval"
INTERVAL_END: Final = "ERR invalid end ID for the interval"
TRIM_TWICE: Final = "ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
TRIM_MAXLEN_NEGATIVE: Final = "ERR The MAXLEN argument must be >= 0."
TRIM_LIMIT_NEGATIVE: Final = "ERR The LIMIT argument must be >= 0."
TRIM_LIMIT_ALONE: Final = "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"
TRIM_LIMIT_EXACT: Final = "ERR syntax error, LIMIT cannot be used without the special ~ option"
TRIM_NOTHING: Final = "ERR syntax error, XTRIM must be called with a trimming strategy"
SETID_ADDED_NEGATIVE: Final = "ERR entries_added must be positive"
SETID_BELOW_GIVEN: Final = "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id"
SETID_BELOW_DELETED: Final = "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"
SETID_BELOW_TOP: Final = "ERR The ID specified in XSETID is smaller than the target stream top item"
SETID_ADDED_SMALL: Final = "ERR The entries_added specified in XSETID is smaller than the target stream length"
STREAMS_UNBALANCED: Final = "ERR Unbalanced '%s' list of streams: for each stream key an ID or '%s' must be specified."
ONLY_XREADGROUP: Final = "ERR The %s option is only supported by XREADGROUP. You called XREAD instead."
GROUP_MISSING: Final = "ERR Missing GROUP option for XREADGROUP"
MEANINGLESS_ID: Final = (
    "ERR The %s ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a "
    "proper ID, or use the > ID to get new messages. The %s ID would just return an empty result set."
)
NEW_WITHOUT_GROUP: Final = (
    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."
)
NO_GROUP_TO_READ: Final = "NOGROUP No such key '%s' or consumer group '%s' in XREADGROUP with GROUP option"
NO_KEY_OR_GROUP: Final = "NOGROUP No such key '%s' or consumer group '%s'"
NO_GROUP: Final = "NOGROUP No such consumer group '%s' for key name '%s'"
GROUP_EXISTS: Final = "BUSYGROUP Consumer Group name already exists"
GROUP_NO_KEY: Final = (
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create "
    "an empty stream automatically."
)
ENTRIES_READ_NEGATIVE: Final = "ERR value for ENTRIESREAD must be positive or -1"
CLAIM_NOT_INTEGER: Final = "ERR Invalid %s argument for %s"
CLAIM_OPTION: Final = "ERR Unrecognized XCLAIM option '%s'"
CLAIM_COUNT: Final = "ERR COUNT must be > 0"
CLAIM_COUNT_TOO_HIGH: Final = "ERR Insufficient memory, failed allocating transient memory, COUNT too high."

# Scripts: around them. What a script itself raises ends in SCRIPT_ERROR.
NO_SCRIPT: Final = "NOSCRIPT No matching script."
NEGATIVE_KEYS: Final = "ERR Number of keys can't be negative"
SCRIPT_NOT_COMPILED: Final = "ERR Error compiling script (new function): %s"
SCRIPT_ERROR: Final = "%s script: on %s:%d."
SHEBANG_WITHOUT_END: Final = "ERR Invalid script shebang"
SHEBANG_UNREADABLE: Final = "ERR Invalid engine in script shebang"
SHEBANG_ENGINE: Final = "ERR Could not find scripting engine '%s'"
SHEBANG_OPTION: Final = "ERR Unknown lua shebang option: %s"
SHEBANG_FLAG: Final = "ERR Unexpected flag in script shebang: %s"
SCRIPT_MAY_WRITE: Final = "ERR Can not execute a script with write flag using *_ro command."
SCRIPT_FLUSH_OPTION: Final = "ERR SCRIPT FLUSH only support SYNC|ASYNC option"
SCRIPT_MEMORY: Final = "ERR not enough memory: the script, or what it was given, takes more than scripts may have"
SCRIPT_KILLED: Final = "ERR Script killed by user with SCRIPT KILL."
BUSY: Final = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
NOT_BUSY: Final = "NOTBUSY No scripts in execution right now."
UNKILLABLE: Final = (
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script "
    "termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
)

# Scripts: what their calls raise.
CALL_WITHOUT_WORDS: Final = "ERR Please specify at least one argument for this call"
CALL_WORD_TYPES: Final = "ERR Command arguments must be strings or integers"
CALL_UNKNOWN: Final = "ERR Unknown command called from script"
CALL_ARITY: Final = "ERR Wrong number of args calling command from script"
CALL_REFUSED: Final = "ERR This Redis command is not allowed from script"
CALL_STALE: Final = "ERR Can not execute the command on a stale replica"
CALL_WRITES: Final = "ERR Write commands are not allowed from read-only scripts."
# By the names that sandbox.lua calls them.
SCRIPT_TEXTS: Final = {
    "readonly": "Attempt to modify a readonly table",
    "no_global": "Script attempted to access nonexistent global variable ",
    "unknown_error": "ERR unknown error",
    "too_deep": "ERR reached lua stack limit",
    "argument_types": "ERR wrong number or type of arguments",
    "argument_count": "ERR wrong number of arguments",
    "log_arguments": "ERR server.log() requires two arguments or more.",
    "log_level_type": "ERR First argument must be a number (log level).",
    "log_level": "ERR Invalid log level.",
    "setresp_argument": "ERR server.setresp() requires one argument.",
    "setresp_version": "ERR RESP version must be 2 or 3.",
    "set_repl_argument": "ERR server.set_repl() requires one argument.",
    "set_repl_flags": "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
    "no_command": CALL_WITHOUT_WORDS,
    "word_types": CALL_WORD_TYPES,
    "acl_unknown": "ERR Invalid command passed to server.acl_check_cmd()",
}
