"""Every directive of redis.conf as data: its kind, what it starts as, when it may change, what it means here.

Theory: `TABLE` is the union of what a stock redis.conf of Redis 7.2 may hold, what `CONFIG GET *` of Redis 7 and Valkey 9.1
answers, and our own. Defaults, bounds and the moment of change are Redis 7.2's (the exceptions: appendonly is yes and save
is empty, since that is what the write-ahead log amounts to); the tests compare them with the real servers. Rows stand in
groups, and a group says once what its rows have in common: the README's list is made from that.

Laws:

1. A row that has no meaning yet, or none at all, says why in one phrase.
2. Who asks for what cannot be had (TLS, a cluster) is told so at start, not served something else: `Directive.only`.
3. Adding a directive is adding a row; one with a meaning also gets an annotation in `config.Config`.

This room knows no file, no command and no line number: `config` does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from lmdbredis.directive_kinds import (
    INT_MAX,
    LONG_MAX,
    WRONG_COUNT,
    Addresses,
    Integer,
    KeyEvents,
    Kind,
    Limits,
    Memory,
    Octal,
    OneOf,
    OomValues,
    Percentiles,
    Refused,
    ReplicaOf,
    Save,
    ShutdownFlags,
    Text,
    Words,
    YesNo,
)

# What is said of a text that breaks its directive's rule. The last three are ours.
BAD_TEMPLATE: Final = "template format is invalid or contains unknown variables"
BAD_HOSTNAME: Final = "Hostnames may only contain alphanumeric characters, hyphens or dots"
BAD_NODENAME: Final = "Announced human node name contained invalid character"
BAD_IPV4: Final = "Invalid IPv4 address"
BAD_IPV6: Final = "Invalid IPv6 address"
NO_RDMA: Final = "No RDMA building support."
NO_TLS: Final = (
    "lmdbredis has no TLS of its own: leave this at its default and put a TLS proxy (stunnel, HAProxy) in front"
)
NO_OWN_WRITES: Final = "a replica here has its primary's log, address for address, and no room for writes of its own: leave this at its default"
NO_CLUSTER: Final = "lmdbredis is no cluster node: leave this at its default"
NO_ACL: Final = (
    "access control lists come in a later release and would not be enforced in this one: leave this at its default"
)


class Change(Enum):
    """When a directive may be changed."""

    RUNTIME = "at any time"
    PROTECTED = "at any time, if enable-protected-configs allows"
    START = "at start"
    RESTART = "at start; CONFIG SET reads the words as Redis does, and then the server refuses"


class Effect(Enum):
    """What a directive does here."""

    LIVE = "has its meaning"
    LATER = "read and kept; its meaning comes in a later release"
    NONE = "read and kept, so that a stock redis.conf works; has no meaning here"


@dataclass(frozen=True)
class Directive:
    """One row. `attribute` is its name in `Config`: underscores, and its unit last."""

    name: str  # as in redis.conf, lower case
    kind: Kind
    default_text: str  # as CONFIG GET shows it
    aliases: tuple[str, ...] = ()
    change: Change = Change.RUNTIME
    unit: str = ""  # of a bare number: s, ms, us
    secret: bool = False  # its value belongs in no log
    hidden: bool = False  # CONFIG GET finds it by its whole name only
    only: str = ""  # not empty: nothing but the default is accepted, and this is said
    effect: Effect = Effect.LIVE
    why: str = ""  # one phrase for the README; a row that is not LIVE has one
    default: Any = None  # `default_text` as a value

    @property
    def attribute(self) -> str:
        """Return the attribute's name: ``tcp-keepalive`` is ``tcp_keepalive_s``."""
        plain, unit = self.name.replace("-", "_"), self.unit or self.kind.unit
        return plain if not unit or plain.endswith(f"_{unit}") else f"{plain}_{unit}"

    def read(self, words: Words, old: Any) -> Any:
        """Return the value of `words`, which come after the value `old`. Raises Refused."""
        if not self.kind.many and len(words) != 1:
            raise Refused(WRONG_COUNT)
        value = self.kind.add(words, old)
        if self.only and value != self.default:
            raise Refused(self.only)
        return value


YES_NO, TEXT, INTEGER, MEMORY, PORT = YesNo(), Text(), Integer(), Memory(), Integer(0, 65535)
FROM_ONE, LONG = Integer(1), Integer(0, LONG_MAX)
EVICTION = OneOf(
    (
        *("volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"),
        *("allkeys-lru", "allkeys-lfu", "allkeys-random", "noeviction"),
    )
)
TRUST = OneOf(("no", "yes", "local"))
START, PROTECTED = Change.START, Change.PROTECTED


def _row(name: str, kind: Kind, default_text: str, *aliases: str, **more: Any) -> Directive:
    words = [word for word in default_text.split(" ") if word] if kind.many else [default_text]
    default = None if isinstance(kind, ReplicaOf) else kind.read(words)
    return Directive(name, kind, default_text, aliases, default=default, **more)


def _group(effect: Effect, why: str, *rows: Directive) -> tuple[Directive, ...]:
    return tuple(replace(row, effect=effect, why=row.why or why) for row in rows)


def _rows(names: str, kind: Kind, default_text: str, **more: Any) -> tuple[Directive, ...]:
    return tuple(_row(name, kind, default_text, **more) for name in names.split())


def _file_name(name: str, noun: str) -> Text:
    return Text(((".+", f"{name} can't be empty"), (r"[^/\\]*", f"{name} can't be a path, just a {noun}")))


# TABLE: the order is the README's.

_LIVE = (
    _group(
        Effect.LIVE,
        "",
        _row("port", PORT, "6379", change=Change.RESTART),
        _row("bind", Addresses(), "* -::*", change=Change.RESTART),
        _row("protected-mode", YES_NO, "yes"),
        _row("unixsocket", TEXT, "", change=START),
        _row("unixsocketperm", Octal(), "0", change=START),
        _row("tcp-backlog", INTEGER, "511", change=START),
        _row("tcp-keepalive", INTEGER, "300", unit="s"),
        _row("timeout", INTEGER, "0", unit="s"),
        _row("busy-reply-threshold", LONG, "5000", "lua-time-limit", unit="ms"),
        _row("maxclients", Integer(1, 2**32 - 1), "10000"),
        _row("client-query-buffer-limit", Memory(2**20), "1073741824"),
        _row("proto-max-bulk-len", Memory(2**20), "536870912"),
        _row(
            "client-output-buffer-limit",
            Limits(),
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        ),
        _row("requirepass", TEXT, "", secret=True),
        _row("enable-debug-command", TRUST, "no", change=START),
        _row("enable-protected-configs", TRUST, "no", change=START),
        _row("daemonize", YES_NO, "no", change=START),
        _row("pidfile", TEXT, "", change=START),
        _row(
            "supervised",
            OneOf(("upstart", "systemd", "auto", "no")),
            "no",
            change=START,
            why="systemd is told, upstart is not",
        ),
        _row("logfile", TEXT, "", change=START),
        _row("loglevel", OneOf(("debug", "verbose", "notice", "warning")), "notice"),
        _row("databases", FROM_ONE, "16", change=START),
        _row("dir", TEXT, ".", change=PROTECTED, why="the data directory; it is not moved at runtime"),
        _row("appendfsync", OneOf(("everysec", "always", "no")), "everysec"),
        _row(
            "map-size",
            Memory(2**20, tera=True),
            "1099511627776",
            change=START,
            why="ours: address space, not file size",
        ),
        _row("wal-segment-size", Memory(2**16), "67108864", change=START, why="ours: one file of the write-ahead log"),
        _row("checkpoint-interval", FROM_ONE, "1000", unit="ms", why="ours: the longest time between checkpoints"),
        _row(
            "checkpoint-dirty",
            FROM_ONE,
            "100000",
            why="ours: rows changed that start a checkpoint early; so do 64 MB of the log, and rows on about 128 MB of pages",
        ),
        _row(
            "backup-hold-max", FROM_ONE, "3600", unit="s", why="ours: how long BACKUP START holds checkpoints at most"
        ),
        _row("hot-layer-size", MEMORY, "67108864", why="ours: memory for decoded entries; 0 turns it off"),
    ),
    _group(
        Effect.LIVE,
        "decides what OBJECT ENCODING says",
        _row("hash-max-listpack-entries", LONG, "512", "hash-max-ziplist-entries"),
        _row("hash-max-listpack-value", MEMORY, "64", "hash-max-ziplist-value"),
        _row("list-max-listpack-size", Integer(-INT_MAX - 1), "-2", "list-max-ziplist-size"),
        _row("set-max-intset-entries", LONG, "512"),
        _row("set-max-listpack-entries", LONG, "128"),
        _row("set-max-listpack-value", LONG, "64", unit="bytes"),
        _row("zset-max-listpack-entries", LONG, "128", "zset-max-ziplist-entries"),
        _row("zset-max-listpack-value", MEMORY, "64", "zset-max-ziplist-value"),
    ),
    _group(
        Effect.LIVE,
        "shown by INFO and OBJECT; nothing is evicted, the data is on disk",
        _row("maxmemory", Memory(0, 2**64 - 1), "0"),
        _row("maxmemory-policy", EVICTION, "noeviction"),
    ),
    _group(
        Effect.LIVE,
        "",
        _row("notify-keyspace-events", KeyEvents(), ""),
        _row("slowlog-log-slower-than", Integer(-1, LONG_MAX), "10000", "commandlog-execution-slower-than", unit="us"),
        _row("slowlog-max-len", LONG, "128", "commandlog-slow-execution-max-len"),
    ),
)

_LATER = (
    _group(
        Effect.LATER,
        "latency",
        _row("latency-monitor-threshold", LONG, "0", unit="ms"),
        _row("latency-tracking", YES_NO, "yes"),
        _row("latency-tracking-info-percentiles", Percentiles(), "50 99 99.9"),
    ),
    _group(Effect.LATER, "HyperLogLog", _row("hll-sparse-max-bytes", MEMORY, "3000")),
    _group(
        Effect.LATER,
        "access frequency",
        _row("lfu-log-factor", INTEGER, "10"),
        _row("lfu-decay-time", INTEGER, "1"),
    ),
    _group(Effect.LATER, "client tracking", _row("tracking-table-max-keys", LONG, "1000000")),
    _group(
        Effect.LATER,
        "access control lists",
        _row("aclfile", TEXT, "", change=START, only=NO_ACL),
        _row("acllog-max-len", LONG, "128"),
        _row("acl-pubsub-default", OneOf(("allchannels", "resetchannels")), "resetchannels"),
    ),
    _group(
        Effect.LIVE,
        "",
        _row("replicaof", ReplicaOf(), "", "slaveof", change=START),
        _row("masterauth", TEXT, "", "primaryauth", secret=True),
        _row("masteruser", TEXT, "", "primaryuser", secret=True),
        _row("repl-backlog-size", Memory(1), "1048576"),
        _row("repl-timeout", FROM_ONE, "60", unit="s"),
        _row("repl-ping-replica-period", FROM_ONE, "10", "repl-ping-slave-period", unit="s"),
        _row("repl-disable-tcp-nodelay", YES_NO, "no"),
        _row("replica-serve-stale-data", YES_NO, "yes", "slave-serve-stale-data"),
        _row("replica-read-only", YES_NO, "yes", "slave-read-only", only=NO_OWN_WRITES),
        _row("replica-priority", INTEGER, "100", "slave-priority"),
        _row("replica-announced", YES_NO, "yes"),
        _row("replica-announce-ip", TEXT, "", "slave-announce-ip"),
        _row("replica-announce-port", PORT, "0", "slave-announce-port"),
        _row("min-replicas-to-write", INTEGER, "0", "min-slaves-to-write"),
        _row("min-replicas-max-lag", INTEGER, "10", "min-slaves-max-lag", unit="s"),
        _row("synchronous-replicas", INTEGER, "0"),
    ),
    _group(Effect.LIVE, "", _row("shutdown-timeout", INTEGER, "10", unit="s")),
)

_NONE = (
    _group(
        Effect.NONE,
        "the write-ahead log is always on and keeps itself short",
        _row("appendonly", YES_NO, "yes"),
        _row("appendfilename", _file_name("appendfilename", "filename"), "appendonly.aof", change=START),
        _row("appenddirname", _file_name("appenddirname", "dirname"), "appendonlydir", change=START),
        *_rows("no-appendfsync-on-rewrite aof-timestamp-enabled aof-disable-auto-gc", YES_NO, "no"),
        *_rows("aof-load-truncated aof-use-rdb-preamble aof-rewrite-incremental-fsync", YES_NO, "yes"),
        _row("auto-aof-rewrite-percentage", INTEGER, "100"),
        _row("auto-aof-rewrite-min-size", MEMORY, "67108864"),
    ),
    _group(
        Effect.NONE,
        "no snapshots by fork: the data is on disk already",
        _row("save", Save(), ""),
        _row(
            "dbfilename",
            Text(((r"[^/\\]*", "dbfilename can't be a path, just a filename"),)),
            "dump.rdb",
            change=PROTECTED,
        ),
        _row("rdbchecksum", YES_NO, "yes", change=START),
        *_rows("rdbcompression rdb-save-incremental-fsync stop-writes-on-bgsave-error", YES_NO, "yes"),
        _row("rdb-del-sync-files", YES_NO, "no"),
        _row("rdb-version-check", OneOf(("strict", "relaxed")), "strict"),
        _row("sanitize-dump-payload", OneOf(("no", "yes", "clients")), "no"),
        *_rows("rdb-key-save-delay key-load-delay", Integer(-INT_MAX - 1), "0", hidden=True),
        _row("loading-process-events-interval-bytes", Integer(1024), "2097152", hidden=True),
    ),
    _group(
        Effect.NONE,
        "the log is there whether or not there are replicas, and a snapshot is sent from data.mdb as it stands",
        _row("repl-backlog-ttl", LONG, "3600"),
        _row("repl-diskless-sync", YES_NO, "yes"),
        _row("repl-diskless-sync-delay", INTEGER, "5", unit="s"),
        _row("repl-diskless-sync-max-replicas", INTEGER, "0"),
        _row("repl-diskless-load", OneOf(("disabled", "on-empty-db", "swapdb")), "disabled"),
        _row("replica-ignore-maxmemory", YES_NO, "yes", "slave-ignore-maxmemory"),
        *_rows("replica-ignore-disk-write-errors dual-channel-replication-enabled", YES_NO, "no"),
        _row("repl-mptcp", YES_NO, "no", change=START),
        _row("propagation-error-behavior", OneOf(("ignore", "panic", "panic-on-replicas")), "ignore"),
    ),
    _group(
        Effect.NONE,
        "deleting is always lazy: one row now, the rest in small steps",
        *_rows("lazyfree-lazy-eviction lazyfree-lazy-expire lazyfree-lazy-server-del", YES_NO, "no"),
        *_rows("lazyfree-lazy-user-del lazyfree-lazy-user-flush", YES_NO, "no"),
        _row("replica-lazy-flush", YES_NO, "no", "slave-lazy-flush"),
    ),
    _group(
        Effect.NONE,
        "memory holds a bounded hot layer (hot-layer-size), the data is on disk",
        _row("maxmemory-samples", FROM_ONE, "5"),
        _row("maxmemory-eviction-tenacity", Integer(0, 100), "10"),
        _row("maxmemory-clients", Memory(percent=True), "0"),
        _row("activedefrag", YES_NO, "no"),
        _row("active-defrag-cycle-min", Integer(1, 99), "1"),
        _row("active-defrag-cycle-max", Integer(1, 99), "25"),
        _row("active-defrag-cycle-us", Integer(0, 100000), "500"),
        _row("active-defrag-threshold-lower", Integer(0, 1000), "10"),
        _row("active-defrag-threshold-upper", Integer(0, 1000), "100"),
        _row("active-defrag-max-scan-fields", Integer(1, LONG_MAX), "1000"),
        _row("active-defrag-ignore-bytes", Memory(1), "104857600"),
        *_rows("activerehashing jemalloc-bg-thread", YES_NO, "yes"),
        _row("disable-thp", YES_NO, "yes", change=START),
    ),
    _group(
        Effect.NONE,
        "one row for each element, whatever their number",
        _row("list-compress-depth", INTEGER, "0"),
        _row("stream-node-max-bytes", MEMORY, "4096"),
        _row("stream-node-max-entries", LONG, "100"),
    ),
    _group(
        Effect.NONE,
        "an ordered index finds what expires, timers keep their own pace",
        _row("hz", Integer(clamp=(1, 500)), "10"),
        _row("dynamic-hz", YES_NO, "yes"),
        _row("active-expire-effort", Integer(1, 10), "1"),
        _row("watchdog-period", INTEGER, "0", hidden=True),
    ),
    _group(
        Effect.NONE,
        "one loop and a few helpers: no threads or processors to assign",
        _row("io-threads", Integer(1, 256), "1", change=START),
        _row("io-threads-do-reads", YES_NO, "no", change=START),
        _row("prefetch-batch-max-size", Integer(0, 128), "16"),
        _row("max-new-connections-per-cycle", Integer(1, 1000), "10"),
        _row("max-new-tls-connections-per-cycle", Integer(1, 1000), "1"),
        _row("server-cpulist", TEXT, "", "server_cpulist", change=START),
        _row("bio-cpulist", TEXT, "", "bio_cpulist", change=START),
        _row("aof-rewrite-cpulist", TEXT, "", "aof_rewrite_cpulist", change=START),
        _row("bgsave-cpulist", TEXT, "", "bgsave_cpulist", change=START),
    ),
    _group(
        Effect.NONE,
        "leave it to the supervisor: process title, oom score, syslog, crash log, signals",
        _row("set-proc-title", YES_NO, "yes", change=START),
        _row(
            "proc-title-template",
            Text(
                (
                    (
                        r"(?:[^{}]|\{(?:title|listen-addr|server-mode|port|tls-port|unixsocket|config-file)\})+",
                        BAD_TEMPLATE,
                    ),
                )
            ),
            "{title} {listen-addr} {server-mode}",
        ),
        _row("oom-score-adj", OneOf(("no", "yes", "relative", "absolute"), (("relative", "yes"),)), "no"),
        _row("oom-score-adj-values", OomValues(), "0 200 800"),
        _row("syslog-enabled", YES_NO, "no", change=START),
        _row("syslog-ident", TEXT, "redis", change=START),
        _row("syslog-facility", OneOf(("user", *(f"local{n}" for n in range(8)))), "local0", change=START),
        *_rows("crash-log-enabled crash-memcheck-enabled", YES_NO, "yes"),
        *_rows("use-exit-on-panic lua-enable-deprecated-api", YES_NO, "no", hidden=True),
        *_rows("shutdown-on-sigint shutdown-on-sigterm", ShutdownFlags(), "default"),
        _row("always-show-logo", YES_NO, "no", change=START),
        _row("ignore-warnings", TEXT, ""),
        _row("log-format", OneOf(("legacy", "logfmt", "json")), "legacy"),
        _row("log-timestamp-format", OneOf(("legacy", "iso8601", "milliseconds")), "legacy"),
        _row("hide-user-data-from-log", YES_NO, "yes"),
    ),
    _group(
        Effect.NONE,
        "no such listener, socket option or place",
        _row("bind-source-addr", TEXT, ""),
        _row("socket-mark-id", Integer(0, 2**32 - 1), "0", change=START),
        _row("mptcp", YES_NO, "no", change=START),
        _row("unixsocketgroup", TEXT, "", change=START),
        _row("rdma-bind", Text((("", NO_RDMA),)), ""),
        _row("rdma-port", PORT, "0", only=NO_RDMA),
        _row("rdma-rx-size", MEMORY, "1048576", change=START),
        _row("rdma-completion-vector", Integer(-1), "-1", change=START),
        _row("availability-zone", TEXT, ""),
    ),
    _group(
        Effect.NONE,
        "no such feature",
        _row("enable-module-command", TRUST, "no", change=START),
        *_rows("extended-redis-compatibility import-mode", YES_NO, "no"),
        _row("locale-collate", TEXT, ""),
        _row("hash-seed", TEXT, "", change=START),
        *_rows("commandlog-large-reply-max-len commandlog-large-request-max-len", LONG, "128"),
        *_rows("commandlog-reply-larger-than commandlog-request-larger-than", Integer(-1, LONG_MAX), "1048576"),
    ),
    _group(
        Effect.NONE,
        "no cluster: one server owns all keys",
        _row("cluster-enabled", YES_NO, "no", change=START, only=NO_CLUSTER),
        _row("cluster-config-file", TEXT, "nodes.conf", change=START),
        _row("cluster-config-save-behavior", OneOf(("sync", "best-effort")), "sync"),
        _row("cluster-databases", FROM_ONE, "1", change=START),
        _row("cluster-port", PORT, "0", change=START),
        _row("cluster-node-timeout", LONG, "15000", unit="ms"),
        _row("cluster-migration-barrier", INTEGER, "1"),
        _row("cluster-replica-validity-factor", INTEGER, "10", "cluster-slave-validity-factor"),
        _row("cluster-replica-no-failover", YES_NO, "no", "cluster-slave-no-failover"),
        *_rows("cluster-require-full-coverage cluster-allow-pubsubshard-when-down", YES_NO, "yes"),
        _row("cluster-allow-replica-migration", YES_NO, "yes"),
        *_rows("cluster-allow-reads-when-down cluster-slot-stats-enabled", YES_NO, "no"),
        _row("cluster-link-sendbuf-limit", Memory(0, 2**64 - 1), "0"),
        _row("cluster-announce-hostname", Text(((r"[A-Za-z0-9.-]*", BAD_HOSTNAME),)), ""),
        _row("cluster-announce-human-nodename", Text(((r"[A-Za-z0-9._-]*", BAD_NODENAME),)), ""),
        _row("cluster-announce-ip", TEXT, ""),
        _row("cluster-announce-client-ipv4", Text(((r"(?:\d+(?:\.\d+){3})?", BAD_IPV4),)), ""),
        _row("cluster-announce-client-ipv6", Text(((r"[0-9A-Fa-f:.]*", BAD_IPV6),)), ""),
        *_rows("cluster-announce-port cluster-announce-bus-port cluster-announce-tls-port", PORT, "0"),
        *_rows("cluster-announce-client-port cluster-announce-client-tls-port", PORT, "0"),
        _row("cluster-preferred-endpoint-type", OneOf(("ip", "hostname", "unknown-endpoint")), "ip"),
        _row("cluster-blacklist-ttl", LONG, "60", unit="s"),
        _row("cluster-manual-failover-timeout", FROM_ONE, "5000", unit="ms"),
        _row("cluster-slot-migration-log-max-len", LONG, "1000"),
        _row("slot-migration-max-failover-repl-bytes", MEMORY, "0"),
    ),
    _group(
        Effect.NONE,
        "no TLS: put a TLS proxy in front",
        _row("tls-port", PORT, "0", only=NO_TLS),
        *_rows("tls-replication tls-cluster", YES_NO, "no", only=NO_TLS),
        _row("tls-prefer-server-ciphers", YES_NO, "no"),
        _row("tls-session-caching", YES_NO, "yes"),
        _row("tls-session-cache-size", INTEGER, "20480"),
        _row("tls-session-cache-timeout", INTEGER, "300"),
        _row("tls-auto-reload-interval", INTEGER, "0"),
        _row("tls-auth-clients", OneOf(("no", "yes", "optional")), "yes"),
        _row("tls-auth-clients-user", OneOf(("CN", "URI", "off")), "off"),
        *_rows("tls-cert-file tls-key-file tls-client-cert-file tls-client-key-file tls-dh-params-file", TEXT, ""),
        *_rows("tls-key-file-pass tls-client-key-file-pass", TEXT, "", secret=True),
        *_rows("tls-ca-cert-file tls-ca-cert-dir tls-protocols tls-ciphers tls-ciphersuites", TEXT, ""),
    ),
)

TABLE: Final[tuple[Directive, ...]] = tuple(row for group in (*_LIVE, *_LATER, *_NONE) for row in group)

# Name or alias -> row.
BY_NAME: Final[dict[str, Directive]] = {name: row for row in TABLE for name in (row.name, *row.aliases)}

# Directives of older versions: one word, read and forgotten, as Redis 7 does.
FORGOTTEN: Final = frozenset({"list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"})
