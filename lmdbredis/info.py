"""INFO: what the server tells of itself, as a table of sections. Source: the Redis 7.2 manual, INFO.

Theory. Monitors read INFO by field name, so every field of Redis 7.2 is here, those of features that this server does not have
at their resting value; `Storage` is ours. A section is a function of what only the process knows (`registry.Measures`) and
of the context; SECTIONS is the order of the reply.

Law: nothing here costs more than a few reads of counters, whatever the number of keys.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.config import VERSION
from lmdbredis.pubsub import Kind
from lmdbredis.registry import TABLE
from lmdbredis.replication import SYNC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lmdbredis.registry import Context

REDIS_VERSION: Final = "7.2.0"  # clients choose their commands by it

Facts = dict[str, Any]
Fields = dict[str, Any]


def human(size_bytes: int) -> str:
    """Return a size as Redis writes it for people.

    >>> human(1023), human(1024), human(3 << 30)
    ('1023B', '1.00K', '3.00G')
    """
    for power, unit in enumerate("BKMGT"):
        if size_bytes < 1024 ** (power + 1) or unit == "T":
            break
    return f"{size_bytes / 1024**power:.2f}{unit}" if power else f"{size_bytes}B"


def _zeros(names: str) -> Fields:
    """Return the fields of features that are not there."""
    return dict.fromkeys(names.split(), 0)


def _ratio(part: float, whole: float) -> str:
    return f"{part / whole if whole else 0:.2f}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0:.2f}%"


# --- sections ---------------------------------------------------------------------------------------------------------------


def _server(cx: Context, facts: Facts) -> Fields:
    uptime_s = (cx.now_ms - cx.server.started_ms) // 1000
    listeners = {f"listener{number}": text for number, text in enumerate(facts["listeners"])}
    return {
        "redis_version": REDIS_VERSION,
        "lmdbredis_version": VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": "0",
        "redis_mode": "standalone",
        "os": facts["os"],
        "arch_bits": 64 if sys.maxsize > 1 << 32 else 32,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "uvloop",
        "atomicvar_api": "none",
        "gcc_version": "0.0.0",
        "python_version": ".".join(map(str, sys.version_info[:3])),
        "process_id": facts["pid"],
        "process_supervised": cx.config.supervised,
        "run_id": cx.server.run_id,
        "tcp_port": cx.config.port,
        "server_time_usec": cx.now_us,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86400,
        "hz": cx.config.get("hz"),
        "configured_hz": cx.config.get("hz"),
        "lru_clock": cx.now_ms // 1000 % (1 << 24),
        "executable": facts["executable"],
        "config_file": cx.config.path or "",
        "io_threads_active": 0,
        **listeners,
    }


def _clients(cx: Context, facts: Facts) -> Fields:
    sessions, waiters = list(cx.server.sessions), cx.executor.waiters
    return {
        "connected_clients": len(sessions) - len(cx.executor.replicas),
        "cluster_connections": 0,
        "maxclients": cx.config.maxclients,
        "client_recent_max_input_buffer": max((session.parser.buffered_bytes for session in sessions), default=0),
        "client_recent_max_output_buffer": max((session.unsent_bytes for session in sessions), default=0),
        "blocked_clients": len(waiters) + cx.executor.pauses.standing(),
        "tracking_clients": 0,
        "pubsub_clients": cx.executor.hub.sessions(),
        "watching_clients": sum(bool(session.watched) for session in sessions),
        "clients_in_timeout_table": waiters.with_deadline,
        "total_watched_keys": sum(len(session.watched) for session in sessions),
        "total_blocking_keys": waiters.keys(),
        "total_blocking_keys_on_nokey": waiters.keys_if_gone(),
    }


def _memory(cx: Context, facts: Facts) -> Fields:
    """Tell of memory: `used` is what the process holds of its own, `rss` has the data file's pages in it as well."""
    memory = cx.server.measures.memory()
    used, resident, peak = memory["anonymous_bytes"], memory["rss_bytes"], memory["peak_bytes"]
    startup = min(memory["startup_bytes"], used)
    total, maxmemory = memory["memory_total_bytes"], cx.config.maxmemory_bytes
    scripting = cx.executor.scripting
    lua, texts = scripting.lua_bytes, scripting.scripts.size_bytes
    return {
        "used_memory": used,
        "used_memory_human": human(used),
        "used_memory_rss": resident,
        "used_memory_rss_human": human(resident),
        "used_memory_peak": peak,
        "used_memory_peak_human": human(peak),
        "used_memory_peak_perc": _percent(used, peak),
        "used_memory_overhead": startup,
        "used_memory_startup": startup,
        "used_memory_dataset": used - startup,
        "used_memory_dataset_perc": _percent(used - startup, used),
        "allocator_allocated": used,
        "allocator_active": used,
        "allocator_resident": used,
        "total_system_memory": total,
        "total_system_memory_human": human(total),
        "used_memory_lua": lua,
        "used_memory_vm_eval": lua,
        "used_memory_lua_human": human(lua),
        "used_memory_scripts_eval": texts,
        "number_of_cached_scripts": len(scripting.scripts),
        **_zeros("number_of_functions number_of_libraries used_memory_vm_functions"),
        "used_memory_vm_total": lua,
        "used_memory_vm_total_human": human(lua),
        "used_memory_functions": 0,
        "used_memory_scripts": texts,
        "used_memory_scripts_human": human(texts),
        "maxmemory": maxmemory,
        "maxmemory_human": human(maxmemory),
        "maxmemory_policy": cx.config.maxmemory_policy,
        "allocator_frag_ratio": "1.00",
        "allocator_frag_bytes": 0,
        "allocator_rss_ratio": "1.00",
        "allocator_rss_bytes": 0,
        "rss_overhead_ratio": _ratio(resident, used),
        "rss_overhead_bytes": resident - used,
        "mem_fragmentation_ratio": _ratio(resident, used),
        "mem_fragmentation_bytes": resident - used,
        **_zeros("mem_not_counted_for_evict mem_replication_backlog mem_total_replication_buffers mem_clients_slaves"),
        "mem_clients_normal": sum(
            session.unsent_bytes + session.parser.buffered_bytes for session in cx.server.sessions
        ),
        **_zeros("mem_cluster_links mem_aof_buffer"),
        "mem_allocator": "libc",
        **_zeros("active_defrag_running lazyfree_pending_objects"),
        "lazyfreed_objects": facts["reclaimed_rows"],
    }


def _persistence(cx: Context, facts: Facts) -> Fields:
    """Tell of durability in Redis's words: the log is the append-only file, a checkpoint is a background save."""
    store, is_full = cx.keyspace.store, cx.executor.refusal is not None
    status = "err" if is_full else "ok"
    return {
        **_hold(cx),
        **_zeros("loading async_loading current_cow_peak current_cow_size current_cow_size_age"),
        "current_fork_perc": "0.00",
        **_zeros("current_save_keys_processed current_save_keys_total"),
        "rdb_changes_since_last_save": store.dirty_rows,
        "rdb_bgsave_in_progress": int(facts["is_saving"] or store.is_committing),
        "rdb_last_save_time": facts["saved_at_ms"] // 1000,
        "rdb_last_bgsave_status": status,
        "rdb_last_bgsave_time_sec": -1,
        "rdb_current_bgsave_time_sec": -1,
        "rdb_saves": facts["saves"],
        **_zeros("rdb_last_cow_size rdb_last_load_keys_expired rdb_last_load_keys_loaded"),
        "aof_enabled": 1,
        **_zeros("aof_rewrite_in_progress aof_rewrite_scheduled"),
        "aof_last_rewrite_time_sec": -1,
        "aof_current_rewrite_time_sec": -1,
        "aof_last_bgrewrite_status": "ok",
        **_zeros("aof_rewrites aof_rewrites_consecutive_failures"),
        "aof_last_write_status": status,
        **_zeros("aof_last_cow_size module_fork_in_progress module_fork_last_cow_size"),
        "aof_current_size": store.wal.size_bytes(),
        "aof_base_size": 0,
        "aof_pending_rewrite": 0,
        "aof_buffer_length": 0,
        "aof_pending_bio_fsync": 0,
        "aof_delayed_fsync": 0,
    }


def _hold(cx: Context) -> Fields:
    """Tell of checkpoints that BACKUP START holds; as seconds since 1970, and seconds."""
    hold = cx.executor.hold
    fields = {"backup_in_progress": int(hold.is_on)}
    if hold.is_on:
        fields |= {
            "backup_name": hold.name.decode(),
            "backup_since": hold.since_ms // 1000,
            "backup_seconds_left": hold.left_ms // 1000,
        }
    return fields


def _storage(cx: Context, facts: Facts) -> Fields:
    """Tell what no Redis has: the data file, the log, checkpoints, the hot layer."""
    store = cx.keyspace.store
    sizes = store.info()
    return {
        "data_file_bytes": sizes["data_bytes"],
        "data_used_bytes": sizes["used_bytes"],
        "wal_bytes": sizes["wal_bytes"],
        "wal_lsn": store.wal.end_lsn,
        "wal_synced_lsn": store.wal.synced_lsn,
        "appendfsync": cx.config.appendfsync,
        "commits": store.commits,
        "committed_lsn": store.committed_lsn,
        "checkpoint_lsn": store.control.lsn,
        "checkpoint_txnid": store.control.txnid,
        "dirty_rows": store.dirty_rows,
        "replayed_rows": store.replayed_rows,
        "reclaimed_rows": facts["reclaimed_rows"],
        "hot_layer_entries": len(cx.keyspace.cache),
        "open_ms": f"{facts['open_ms']:.1f}",
        "writes_refused": int(cx.executor.refusal is not None),
    }


def _stats(cx: Context, facts: Facts) -> Fields:
    traffic = cx.server.measures.traffic()
    return {
        "total_connections_received": facts["connections_received"],
        "total_commands_processed": traffic["commands"],
        "instantaneous_ops_per_sec": round(traffic["commands_per_s"]),
        "total_net_input_bytes": traffic["received_bytes"] + facts["replicated_bytes_in"],
        "total_net_output_bytes": traffic["sent_bytes"] + facts["replicated_bytes_out"],
        "total_net_repl_input_bytes": facts["replicated_bytes_in"],
        "total_net_repl_output_bytes": facts["replicated_bytes_out"],
        "instantaneous_input_kbps": f"{traffic['received_bytes_per_s'] / 1024:.2f}",
        "instantaneous_output_kbps": f"{traffic['sent_bytes_per_s'] / 1024:.2f}",
        "instantaneous_input_repl_kbps": "0.00",
        "instantaneous_output_repl_kbps": "0.00",
        "rejected_connections": facts["rejected_connections"],
        "sync_full": facts["full_syncs"],
        "sync_partial_ok": facts["partial_syncs"],
        "sync_partial_err": facts["refused_partial_syncs"],
        "expired_keys": cx.keyspace.expired_keys,
        "expired_stale_perc": "0.00",
        **_zeros("expired_time_cap_reached_count expire_cycle_cpu_milliseconds evicted_keys evicted_clients"),
        **_zeros("total_eviction_exceeded_time current_eviction_exceeded_time"),
        "keyspace_hits": cx.keyspace.hits,
        "keyspace_misses": cx.keyspace.misses,
        "pubsub_channels": len(cx.executor.hub.names(Kind.CHANNEL)),
        "pubsub_patterns": len(cx.executor.hub.names(Kind.PATTERN)),
        "pubsubshard_channels": len(cx.executor.hub.names(Kind.SHARD)),
        **_zeros("latest_fork_usec total_forks migrate_cached_sockets"),
        **_zeros("slave_expires_tracked_keys active_defrag_hits active_defrag_misses active_defrag_key_hits"),
        **_zeros("active_defrag_key_misses total_active_defrag_time current_active_defrag_time tracking_total_keys"),
        **_zeros("tracking_total_items tracking_total_prefixes unexpected_error_replies"),
        "total_error_replies": cx.executor.observers.error_replies,
        **_zeros("dump_payload_sanitizations io_threaded_reads_processed io_threaded_writes_processed"),
        # Reads, writes and turns of the loop are not counted: a number for each costs more than anybody would have of it.
        "client_query_buffer_limit_disconnections": facts["query_disconnections"],
        "client_output_buffer_limit_disconnections": facts["output_disconnections"],
        **_zeros("reply_buffer_shrinks reply_buffer_expands"),
        "acl_access_denied_auth": cx.executor.observers.refused_passwords,
        **_zeros("acl_access_denied_cmd acl_access_denied_key acl_access_denied_channel"),
    }


def _replication(cx: Context, facts: Facts) -> Fields:
    store, config, clock_ms = cx.keyspace.store, cx.config, facts["clock_ms"]
    following = cx.server.role.following
    fields: Fields = {"role": "master" if following is None else "slave"}
    if following is not None:
        is_coming = following.state == SYNC
        fields |= {
            "master_host": following.host,
            "master_port": following.port,
            "master_link_status": "up" if following.is_up else "down",
            "master_last_io_seconds_ago": (clock_ms - following.heard_ms) // 1000 if following.is_up else -1,
            "master_sync_in_progress": int(is_coming),
            "slave_read_repl_offset": store.wal.end_lsn,
            "slave_repl_offset": store.wal.end_lsn,
        }
        if is_coming:
            total, read = following.copy_bytes, following.copied_bytes
            fields |= {
                "master_sync_total_bytes": total,
                "master_sync_read_bytes": read,
                "master_sync_left_bytes": max(total - read, 0),
                "master_sync_perc": f"{100 * read / total if total else 0:.2f}",
                "master_sync_last_io_seconds_ago": (clock_ms - following.heard_ms) // 1000,
            }
        if not following.is_up:
            fields["master_link_down_since_seconds"] = (clock_ms - following.down_since_ms) // 1000
        fields |= {
            "slave_priority": config.replica_priority,
            "slave_read_only": 1,
            "replica_announced": int(config.replica_announced),
        }
    replicas = list(cx.executor.replicas)
    fields["connected_slaves"] = len(replicas)
    if following is None and config.min_replicas_to_write and config.min_replicas_max_lag_s:
        fields["min_slaves_good_slaves"] = cx.executor.replicas.good(clock_ms, config.min_replicas_max_lag_s * 1000)
    for number, replica in enumerate(replicas):
        fields[f"slave{number}"] = (
            f"ip={replica.address},port={replica.port},state={replica.state},offset={replica.lsn},"
            f"lag={replica.lag_ms(clock_ms) // 1000},synced={replica.synced_lsn}"
        )
    return fields | {
        "master_failover_state": cx.server.role.failover.state,
        "master_replid": store.control.replid,
        "master_replid2": store.control.replid2,
        "master_repl_offset": store.wal.end_lsn,
        "second_repl_offset": store.control.replid2_lsn or -1,
        "repl_backlog_active": 1,
        "repl_backlog_size": config.repl_backlog_size_bytes,
        "repl_backlog_first_byte_offset": store.wal.end_lsn - store.wal.size_bytes(),
        "repl_backlog_histlen": store.wal.size_bytes(),
    }


def _cpu(cx: Context, facts: Facts) -> Fields:
    system, user = f"{facts['cpu_sys_s']:.6f}", f"{facts['cpu_user_s']:.6f}"
    none = f"{0:.6f}"
    return {
        "used_cpu_sys": system,
        "used_cpu_user": user,
        "used_cpu_sys_children": none,
        "used_cpu_user_children": none,
        "used_cpu_sys_main_thread": system,
        "used_cpu_user_main_thread": user,
    }


def _commandstats(cx: Context, facts: Facts) -> Fields:
    """Tell of each command that was called, and how long its calls took."""
    fields = {}
    for found in dict.fromkeys(TABLE.values()):
        for one in (found, *found.subcommands.values()):
            if one.calls or one.rejected_calls:
                usec = one.elapsed_ns // 1000
                fields[f"cmdstat_{one.name}"] = (
                    f"calls={one.calls},usec={usec},usec_per_call={_ratio(one.elapsed_ns / 1000, one.calls)},"
                    f"rejected_calls={one.rejected_calls},failed_calls={one.failed_calls}"
                )
    return fields


def _errorstats(cx: Context, facts: Facts) -> Fields:
    return {f"errorstat_{code}": f"count={count}" for code, count in sorted(cx.executor.observers.errors.items())}


def _nothing(cx: Context, facts: Facts) -> Fields:
    return {}


def _cluster(cx: Context, facts: Facts) -> Fields:
    return {"cluster_enabled": 0}


def _keyspace(cx: Context, facts: Facts) -> Fields:
    fields = {}
    for database in cx.keyspace.databases:
        if database.keys:
            average_ms = max(database.expire_sum_ms // database.volatile - cx.now_ms, 0) if database.volatile else 0
            fields[f"db{database.number}"] = f"keys={database.keys},expires={database.volatile},avg_ttl={average_ms}"
    return fields


SECTIONS: Final[dict[str, Callable[[Context, Facts], Fields]]] = {
    "Server": _server,
    "Clients": _clients,
    "Memory": _memory,
    "Persistence": _persistence,
    "Storage": _storage,
    "Stats": _stats,
    "Replication": _replication,
    "CPU": _cpu,
    "Modules": _nothing,
    "Commandstats": _commandstats,
    "Errorstats": _errorstats,
    "Latencystats": _nothing,
    "Cluster": _cluster,
    "Keyspace": _keyspace,
}
_ON_REQUEST: Final = {"Commandstats", "Latencystats"}  # not among the sections that INFO alone shows
_GROUPS: Final = {
    b"DEFAULT": {title for title in SECTIONS if title not in _ON_REQUEST},
    b"ALL": set(SECTIONS),
    b"EVERYTHING": set(SECTIONS),
} | {title.upper().encode(): {title} for title in SECTIONS}


def render(cx: Context, names: Iterable[bytes]) -> bytes:
    """Return the text of the sections named, in any case; of the default ones if none is. Unknown names are passed over."""
    titles: set[str] = set()
    for name in names:
        titles |= _GROUPS.get(name.upper(), set())
    facts = cx.server.measures.facts()
    parts = []
    for title, section in SECTIONS.items():
        if title in titles:
            lines = [f"{name}:{value}\r\n" for name, value in section(cx, facts).items()]
            parts.append(f"# {title}\r\n" + "".join(lines))
    return "\r\n".join(parts).encode("utf-8", "surrogateescape")
