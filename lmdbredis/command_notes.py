"""What COMMAND tells of commands that their flags and signatures do not: how keys are used, tips, categories, groups.

Theory. A command's flags and positions stand beside it (`registry`); most of the rest follows from them, and what does not is a
table here. Source: the JSON files of Redis 7.2's commands, condensed.

Laws: a table names only what differs from the rule; the tests compare every command with the oracle's COMMAND INFO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmdbredis.registry import ADMIN, BLOCKING, FAST, PUBSUB, READ, WRITE, Command

if TYPE_CHECKING:
    from collections.abc import Sequence

# Where the number of keys stands in a request, if not right behind the name.
_NUMKEYS_AT: Final = {"blmpop": 2, "bzmpop": 2}


def _by_name(groups: dict[str, str]) -> dict[str, str]:
    """Return name -> group, from group -> names."""
    return {name: group for group, names in groups.items() for name in names.split()}


# --- how keys are used ------------------------------------------------------------------------------------------------------

# The use of each key specification, "," between them. RO: reads; RW: reads and writes; OW: overwrites; RM: removes. Not named here:
# what reads is "RO access"; what writes is "RW access update".
_USES: Final = _by_name(
    {
        "RO": "exists touch type strlen hexists hlen hstrlen llen scard sismember zcard xlen object|encoding object|freq object|idletime "
        "object|refcount memory|usage watch",
        "RM delete": "del unlink",
        "OW insert": "setnx msetnx",
        "OW update": "mset setex psetex",
        "RW access update variable_flags": "set",
        "RW access delete": "getdel lpop rpop lmpop spop zpopmin zpopmax zmpop blpop brpop blmpop bzpopmin bzpopmax bzmpop",
        "RW delete": "hdel lrem ltrim srem zrem zremrangebylex zremrangebyrank zremrangebyscore xdel xtrim xautoclaim "
        "xgroup|destroy xgroup|delconsumer",
        "RW insert": "append hsetnx linsert lpush lpushx rpush rpushx sadd xgroup|create xgroup|createconsumer",
        "RW update": "setrange hmset hset lset zadd expire expireat persist pexpire pexpireat xadd xsetid xack xclaim xgroup|setid",
        "RW access delete,OW update": "rename",
        "RW access delete,OW insert": "renamenx",
        "RW access delete,RW insert": "lmove rpoplpush smove blmove brpoplpush",
        "RO access,OW update": "copy",
        "RO access": "xreadgroup",
        "not_key": "spublish ssubscribe sunsubscribe",
        "OW update,RO access": "sdiffstore sinterstore sunionstore zdiffstore zinterstore zunionstore zrangestore",
    }
)


# Where the keys of a command follow a word, and from which word on that is looked for.
_KEYWORDS: Final = {"xread": (b"STREAMS", 1), "xreadgroup": (b"STREAMS", 4)}


def is_numbered(command: Command) -> bool:
    """Tell whether a word of the request says how many keys follow."""
    return command.keys_of is not None and command.name not in _KEYWORDS


def uses(command: Command) -> list[list[bytes]]:
    """Return how a command uses its keys: the flags of each of its key specifications."""
    if not command.keys[0] and command.keys_of is None:
        return []
    text = _USES.get(command.name) or ("RO access" if command.flags & READ else "RW access update")
    return [use.encode().split() for use in text.split(",")]


def uses_in(command: Command, words: Sequence[bytes]) -> list[list[bytes]]:
    """Return `uses` as they are in this request: SET reads only with GET."""
    if command.name == "set":
        reads = any(word.upper() == b"GET" for word in words[3:])
        return [[b"RW", b"access", b"update"] if reads else [b"OW", b"update"]]
    return uses(command)


# What COMMAND INFO remarks on a key specification.
_REMARKS: Final = {
    "eval": b"We cannot tell how the keys will be used so we assume the worst, RW and UPDATE",
    "eval_ro": b"We cannot tell how the keys will be used so we assume the worst, RO and ACCESS",
    "getex": b"RW and UPDATE because it changes the TTL",
    "set": b"RW and ACCESS due to the optional `GET` argument",
    "xadd": b"UPDATE instead of INSERT because of the optional trimming feature",
}


def remark(command: Command) -> dict[bytes, Any]:
    """Return what is remarked on a command's key specifications, as the first of their fields."""
    text = _REMARKS.get(command.name)
    return {} if text is None else {b"notes": text}


def count_position(command: Command) -> int:
    """Return which word says how many keys follow it, of a command that has such a word."""
    return _NUMKEYS_AT.get(command.name) or (2 if command.group == "scripting" else command.keys[1] + 1)


def key_specs(command: Command) -> list[dict[bytes, Any]]:
    """Return a command's key specifications, without their flags: where the keys of each begin, and which words are keys."""
    first, last, step = command.keys
    count = len(uses(command))
    specs: list[dict[bytes, Any]] = []
    for number in range(count):
        is_last = number == count - 1
        if command.name in _KEYWORDS:
            specs.append(_after_keyword(*_KEYWORDS[command.name]))
            continue
        if is_last and command.keys_of is not None:
            kind, spec = b"keynum", {b"keynumidx": 0, b"firstkey": 1, b"keystep": 1}
            index = count_position(command)
        else:
            index = first + number
            reach = 0 if not is_last else last if last < 0 else last - first - number
            kind, spec = b"range", {b"lastkey": reach, b"keystep": step, b"limit": 0}
        specs.append(
            {
                b"begin_search": {b"type": b"index", b"spec": {b"index": index}},
                b"find_keys": {b"type": kind, b"spec": spec},
            }
        )
    return specs


def _after_keyword(keyword: bytes, start: int) -> dict[bytes, Any]:
    """Return the key specification of XREAD: the first half of what follows a word."""
    return {
        b"begin_search": {b"type": b"keyword", b"spec": {b"keyword": keyword, b"startfrom": start}},
        b"find_keys": {b"type": b"range", b"spec": {b"lastkey": -1, b"keystep": 1, b"limit": 2}},
    }


def key_positions(command: Command, words: Sequence[bytes]) -> list[int]:
    """Return which words of a request are keys. Raises ReplyError if the words are none that the command understands."""
    if command.keys_of is not None:
        return command.keys_of(words)
    first, last, step = command.keys
    if not first:
        return []
    return list(range(first, (last if last >= 0 else len(words) + last) + 1, step))


# --- tips -------------------------------------------------------------------------------------------------------------------

_ALL_SHARDS: Final = "request_policy:all_shards"
_TIPS: Final = _by_name(
    {
        f"nondeterministic_output,{_ALL_SHARDS},response_policy:special": "info memory|doctor memory|malloc-stats memory|stats",
        "nondeterministic_output,request_policy:special,response_policy:special": "scan",
        "nondeterministic_output": "hrandfield hscan spop srandmember sscan zrandmember zscan xadd xtrim xpending xclaim xautoclaim xinfo|consumers object|encoding object|freq object|idletime "
        "object|refcount pttl ttl client|info client|list lastsave time",
        "nondeterministic_output_order": "hgetall hkeys hvals sdiff sinter smembers sunion command command|docs command|info command|list",
        "request_policy:all_nodes,response_policy:all_succeeded": "client|setinfo client|setname config|resetstat config|rewrite config|set "
        "script|flush script|load slowlog|reset",
        "request_policy:all_nodes,nondeterministic_output": "slowlog|get",
        "request_policy:all_nodes,response_policy:agg_sum,nondeterministic_output": "slowlog|len",
        f"{_ALL_SHARDS},nondeterministic_output_order": "keys",
        f"{_ALL_SHARDS},response_policy:agg_sum": "dbsize",
        f"{_ALL_SHARDS},response_policy:all_succeeded": "ping flushall flushdb memory|purge",
        f"{_ALL_SHARDS},response_policy:special,nondeterministic_output": "randomkey",
        "request_policy:multi_shard,response_policy:agg_sum": "del exists touch unlink",
        "request_policy:multi_shard,response_policy:all_succeeded": "mset",
        "request_policy:multi_shard": "mget",
        f"{_ALL_SHARDS},response_policy:agg_logical_and": "script|exists",
        f"{_ALL_SHARDS},response_policy:agg_min": "wait waitaof",
        f"{_ALL_SHARDS},response_policy:one_succeeded": "script|kill",
    }
)


def tips(command: Command) -> list[bytes]:
    """Return a command's tips for clients and proxies."""
    text = _TIPS.get(command.name)
    return text.encode().split(b",") if text else []


# --- groups and categories --------------------------------------------------------------------------------------------------

# The first part of a command's room -> its group in the manual.
_GROUPS: Final = {
    "keys": "generic",
    "strings": "string",
    "hashes": "hash",
    "lists": "list",
    "sets": "set",
    "zsets": "sorted-set",
    "streams": "stream",
    "transactions": "transactions",
    "pubsub": "pubsub",
    "scripting": "scripting",
    "connection": "connection",
    "client": "connection",
    "server": "server",
    "watching": "server",
    "config": "server",
    "command": "server",
    "debug": "server",
    "backup": "server",
    "replication": "server",
}
_SERVER: Final = frozenset({"dbsize", "flushall", "flushdb", "swapdb"})  # stand with the keys
_OF_GROUP: Final = {
    "generic": "keyspace",
    "string": "string",
    "hash": "hash",
    "list": "list",
    "set": "set",
    "sorted-set": "sortedset",
    "stream": "stream",
    "transactions": "transaction",
    "connection": "connection",
    "scripting": "scripting",
}
_WAITS: Final = frozenset({"wait", "waitaof"})  # stand with replication
_ADMIN: Final = frozenset({"lastsave", "role"})  # not by their flags
_DANGEROUS: Final = frozenset({"keys", "flushall", "flushdb", "swapdb", "info", "lastsave"})
# All categories, in the order of COMMAND INFO.
CATEGORIES: Final = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo", "stream", "pubsub",
    "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
)  # fmt: skip


def group(command: Command) -> str:
    """Return a command's group in the manual."""
    if command.name in _WAITS:
        return "generic"
    return "server" if command.name in _SERVER else _GROUPS[command.group.partition("_")[0]]


def categories(command: Command) -> list[str]:
    """Return a command's ACL categories, in their order."""
    flags = command.flags
    found = {"fast" if flags & FAST else "slow"}
    for flag, name in ((WRITE, "write"), (READ, "read"), (PUBSUB, "pubsub"), (BLOCKING, "blocking")):
        if flags & flag and not (flag == READ and command.group == "scripting"):
            found.add(name)
    if flags & ADMIN or command.name in _ADMIN:
        found |= {"admin", "dangerous"}
    if command.name in _DANGEROUS:
        found.add("dangerous")
    if command.name in _SERVER:
        found.add("keyspace")
    elif command.container == "command" or command.name in _WAITS:
        found.add("connection")
    elif not command.subcommands:
        found |= {_OF_GROUP[group(command)]} if group(command) in _OF_GROUP else set()
    return [name for name in CATEGORIES if name in found]
