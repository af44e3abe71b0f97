"""The Lua state: compiles scripts, runs them, and runs the commands they call.

Theory. One state serves all scripts, as in Redis; it is made when the first one comes. What crosses between the two languages is
counted: one crossing begins a script (with its keys and words), one each command, none ends it. Half a microsecond each, so the ways
through here are as short as those of the executor; what needs more thought goes through `_permit`.

Memory. Lua's allocator refuses what exceeds `_HARD_BYTES`, and Lua raises then. But when the host pushes a value, nothing could
catch that, and the process would end. So scripts are held to `_SOFT_BYTES` before each crossing (sandbox.lua), and a reply that
might not fit into what is left between the two is refused (`_has_room`).

Laws: `command` is the one way from a script to a command. It never raises; what must not be swallowed by a script's pcall is
kept in `stopped_by` and raised by `run`, as it was, so that the executor undoes the batch.

lupa is imported when the first state is made: it costs ten milliseconds.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import errors
from lmdbredis.blocking import Wait
from lmdbredis.errors import ReplyError
from lmdbredis.registry import NOSCRIPT, STALE, TABLE, TOLD_TO_REPLICAS, Command, Context, called, find, name_of
from lmdbredis.resp import OK
from lmdbredis.scripting import bits, convert
from lmdbredis.scripting.bytecode import keep_frames
from lmdbredis.scripting.convert import ERROR, STOP, UNCOUNTED, FromLua, ToLua
from lmdbredis.scripting.scripts import Script, Scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
log = logging.getLogger("lmdbredis")

_SOFT_BYTES: Final = 512 << 20
_HARD_BYTES: Final = 768 << 20
_SURELY_FITS_BYTES: Final = 16 << 20
_IDLE_BYTES: Final = 64 << 20  # what may stay in use between scripts before the collector is asked
_INSTRUCTIONS: Final = 100_000  # between two looks at the clock
_REPLY_DEPTH_MAX: Final = 128  # of tables in tables
_WORDS_AT_ONCE: Final = 4000  # more would not fit on Lua's stack
_SLICE: Final = 1000  # elements taken out of a long table at once
_HERE: Final = Path(__file__).parent
_LIBRARIES: Final = ("cjson", "cmsgpack", "struct", "bit")
_CHUNK: Final = b"@user_script"
_OWN_CHUNK: Final = b"@lmdbredis"
_LEVELS: Final = (logging.DEBUG, logging.DEBUG + 5, logging.INFO, logging.WARNING)
# Functions of the sandbox that scripts call by field or by name: their tail calls keep a frame (see `bytecode`).
_FRAMED: Final = frozenset(
    b"call pcall error_reply status_reply sha1hex log setresp set_repl acl_check_cmd encode decode pack unpack unpack_one "
    b"unpack_limit size insert rep find match gsub gmatch gfind foreach create wrap resume random randomseed xpcall rawget rawset next pairs getmetatable "
    b"encode_max_depth decode_max_depth encode_number_precision encode_keep_buffer encode_invalid_numbers decode_invalid_numbers encode_sparse_array "
    b"setmetatable loadstring load collectgarbage tobit bnot band bor bxor lshift rshift arshift rol ror bswap tohex".split()
)
_VERSION: Final = b"7.2.0"
_CONSTANTS: Final = {
    b"LOG_DEBUG": 0,
    b"LOG_VERBOSE": 1,
    b"LOG_NOTICE": 2,
    b"LOG_WARNING": 3,
    b"REPL_NONE": 0,
    b"REPL_AOF": 1,
    b"REPL_SLAVE": 2,
    b"REPL_REPLICA": 2,
    b"REPL_ALL": 3,
    b"REDIS_VERSION": _VERSION,
    b"REDIS_VERSION_NUM": 0x70200,
}

# What stands in the way of a command, as bits of its entry.
_REFUSED, _WRITES, _CONTAINER, _MAY_BE_STALE, _REPLICATES = 1, 2, 4, 8, 16
_NO_CALL: Final = frozenset((errors.CALL_WITHOUT_WORDS, errors.CALL_WORD_TYPES))
_OK: Final = (b"OK", convert.STATUS)  # to Lua, the most common reply that is no plain value
Entry = tuple[Command, int]


class Stopped(Exception):
    """The script was ended from outside: SCRIPT KILL."""


class Runtime:
    """One Lua state, and the script that runs in it."""

    def __init__(self, cx: Context, tick: Callable[[], bool]) -> None:
        """`tick` is called now and then while a script runs; True ends the script."""
        lupa = importlib.import_module("lupa.lua51")
        self._cx = cx
        self._executor = cx.executor
        self._lua: Any = lupa.LuaRuntime(
            encoding=None, source_encoding="latin-1", register_eval=False, register_builtins=False,
            unpack_returned_tuples=True, max_memory=0,
        )  # fmt: skip
        self._entries: dict[bytes, Entry] = {}
        self._forbidden = 0  # bits that the running script may not call
        self._fed: list[Any] = []
        self.stopped_by: BaseException | None = None
        self.has_written = False  # the running script has called a command that writes
        self._tick = tick
        self._array = self._lua.eval(b"function(...) return {...} end")
        self._to_lua2, self._to_lua3 = (
            ToLua(self._lua.table_from, self._array_of, protocol, self._has_room, errors.SCRIPT_MEMORY.encode())
            for protocol in (2, 3)
        )
        self._to_lua = self._to_lua2
        self._resp3 = False
        self._open()

    # --- the state ------------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Load the sandbox and its libraries."""
        lua = self._lua
        function = lua.eval(b"python.as_function")
        table = lua.table_from
        host = {
            name.encode(): function(work)
            for name, work in {
                "command": self.command,
                "feed": self._feed,
                "fed": self._run_fed,
                "tick": self._on_tick,
                "sha1hex": _sha1hex,
                "log": _log,
                "setresp": self._setresp,
                "exists": self._exists,
                **bits.FUNCTIONS,
            }.items()
        }
        libraries = {name.encode(): self._load(f"{name}.lua") for name in _LIBRARIES}
        host |= {b"libraries": table(libraries), b"constants": table(_CONSTANTS)}
        texts = table({name.encode(): text.encode() for name, text in errors.SCRIPT_TEXTS.items()})
        limits = table(
            {
                b"instructions": _INSTRUCTIONS,
                b"depth": _REPLY_DEPTH_MAX,
                b"soft_kb": _SOFT_BYTES >> 10,
                b"idle_kb": _IDLE_BYTES >> 10,
            }
        )
        made = self._load("sandbox.lua")(table(host), texts, limits)
        self._run, self._run_many, self._slice, self._prepare, seed, self._compile, self._dump = made
        seed(self._cx.random.getrandbits(32))
        lua.execute(
            b"local real = _G; for name in pairs(real) do real[name] = nil end"
        )  # nobody needs what is not in the sandbox
        lua.set_max_memory(_HARD_BYTES)

    def _load(self, name: str) -> Any:
        """Return the function that a source of ours is."""
        return self._lua.compile((_HERE / name).read_bytes(), name=_OWN_CHUNK)

    @property
    def used_bytes(self) -> int:
        """Return how much memory Lua uses."""
        return int(self._lua.get_memory_used(total=True))

    def _has_room(self, size_bytes: int) -> bool:
        """Tell whether Lua surely has so many bytes: below the hard limit, or after a script was held to the soft one."""
        return size_bytes < _SURELY_FITS_BYTES or self.used_bytes + 2 * size_bytes < _HARD_BYTES

    def _array_of(self, values: list[Any]) -> Any:
        """Return a table of values some of which are null, with room for all of them as long as they fit on Lua's stack."""
        if len(values) <= _WORDS_AT_ONCE:
            with suppress(Exception):  # what ends a script may come up in here as well: it will again
                return self._array(*values)
        return self._lua.table_from(values)

    # --- scripts --------------------------------------------------------------------------------------------------------------

    def compile(self, script: Script) -> None:
        """Make a script ready to run. Raises ReplyError: it is no Lua."""
        body = script.body
        if body[:1] == b"\x1b":  # compiled code: to be read as text, which it is not
            body = b" " + body
        if not self._has_room(4 * len(body)):
            raise ReplyError(errors.SCRIPT_MEMORY)
        made = self._compile(body, _CHUNK)
        if made.__class__ is tuple:
            raise ReplyError(errors.SCRIPT_NOT_COMPILED % made[1].decode("latin-1"))
        script.compiled = self._prepare(self._compile(keep_frames(self._dump(made), _FRAMED), _CHUNK))

    def run(self, script: Script, count: int, words: Sequence[bytes], *, read_only: bool) -> Any:
        """Run a script, the first `count` words of which are keys; return its reply. Raises what must not be kept in a script's hands."""
        cx = self._cx
        database, session_database = cx.db, cx.session.database
        self._forbidden = _REFUSED | _CONTAINER | (_WRITES | _REPLICATES if read_only or script.no_writes else 0)
        if self._executor.masks_all:
            self._forbidden |= _MAY_BE_STALE
        self._to_lua, self._resp3 = self._to_lua2, False
        self.stopped_by, self.has_written = None, False
        size_bytes = sum(map(len, words))
        is_small = size_bytes < _SURELY_FITS_BYTES and len(words) < _WORDS_AT_ONCE
        if not is_small and not self._has_room(64 * len(words) + size_bytes):
            raise ReplyError(errors.SCRIPT_MEMORY)
        self._executor.in_script = True
        if is_small:
            result = self._run(script.compiled, count, *words)
        else:
            tables = self._lua.table_from
            result = self._run_many(script.compiled, tables(list(words[:count])), tables(list(words[count:])))
        self._executor.in_script = False
        cx.db, cx.session.database = database, session_database
        kind = result.__class__
        if kind is bytes:
            return result
        if kind is int or kind is float:
            return convert.integer(result)
        if kind is tuple or self.stopped_by is not None:
            return self._finish(result)
        return result if result is None else convert.boolean(result, resp3=self._resp3)

    def _finish(self, result: Any) -> Any:
        """Return the reply that a tuple stands for."""
        if self.stopped_by is not None:
            stopped, self.stopped_by = self.stopped_by, None
            if stopped.__class__ is Stopped:
                return ReplyError(_failed(errors.SCRIPT_KILLED.encode(), *result[1:]))
            raise stopped
        kind = result[0]
        if kind == 1:
            error = ReplyError(_failed(*result[2:]))
            error.is_counted = result[1]
            return error
        flat: Sequence[Any] = result[1:]
        if kind == 5:
            table, count = flat
            flat = []
            for first in range(1, count + 1, _SLICE):
                last = min(first + _SLICE - 1, count)
                part = self._slice(table, first, last)
                flat += part if part.__class__ is tuple else (part,)
        return FromLua(flat, self._executor.observers.note_error, resp3=self._resp3).reply()

    # --- what Lua calls: nothing here may raise -----------------------------------------------------------------------------------

    def command(self, *words: Any) -> Any:
        """Run a command that a script calls; return what `take` in sandbox.lua understands."""
        try:
            for word in words:
                if word.__class__ is not bytes:
                    words = tuple(map(_word, words))
                    break
            entry = self._entries.get(words[0] if words else b"")
            if entry is None:
                entry = self._entry(words)
            command, bits_ = entry
            if bits_ & self._forbidden:
                command = self._permit(command, words)
                bits_ = _bits(command)
            elif not command.words_min <= len(words) <= command.words_max:
                raise ReplyError(errors.CALL_ARITY)
            executor = self._executor
            if bits_ & _WRITES:
                if executor.no_writes is not None:
                    raise ReplyError(executor.no_writes)
                self.has_written = True
            value = executor.perform(command, words)
            kind = value.__class__
            if kind is int or (kind is bytes and len(value) < _SURELY_FITS_BYTES):
                return value
            if value is OK:
                return _OK
            return self._to_lua(value)
        except ReplyError as error:
            return convert.error_text(error), ERROR if error.is_counted or self._reject(words, error) else UNCOUNTED
        except Wait as wait:
            command.calls += 1
            return self._to_lua(wait.nothing)
        except BaseException as error:  # noqa: BLE001 -- raised again by `run`: what it is, the executor decides
            self.stopped_by = error
            return None, STOP

    def _entry(self, words: Sequence[bytes]) -> Entry:
        """Return what is known of a command, and remember it. Raises ReplyError."""
        if not words:
            raise ReplyError(errors.CALL_WITHOUT_WORDS)
        found = called(words[0])
        if found is None:
            raise ReplyError(errors.CALL_UNKNOWN)
        entry = (found, _bits(found))
        if words[0] in TABLE:  # not every way to write it
            self._entries[words[0]] = entry
        return entry

    def _permit(self, found: Command, words: Sequence[bytes]) -> Command:
        """Return the command or subcommand that a script may call after all. Raises ReplyError."""
        if not found.takes(len(words)):
            raise ReplyError(errors.CALL_ARITY)
        if found.subcommands and len(words) > 1:
            found = found.subcommands.get(words[1].upper()) or found.subcommand(words)
            if not found.takes(len(words)):
                raise ReplyError(errors.CALL_ARITY)
        stands = _bits(found) & self._forbidden
        if stands & _REFUSED:
            raise ReplyError(errors.CALL_REFUSED)
        if stands & (_WRITES | _REPLICATES):
            raise ReplyError(errors.CALL_WRITES)
        if stands & _MAY_BE_STALE:
            raise ReplyError(errors.CALL_STALE)
        return found

    def _reject(self, words: Sequence[bytes], error: ReplyError) -> bool:
        """Count a call that was refused before its handler was asked; tell whether it is one that counts: it has words."""
        if error.text in _NO_CALL:
            return False
        command = find(words)
        if command is not None:
            command.rejected_calls += 1
        self._executor.observers.note_error(error)
        return True

    def _feed(self, *words: Any) -> None:
        """Take a portion of many words."""
        self._fed += words

    def _run_fed(self) -> Any:
        """Run the command whose words have been fed."""
        words, self._fed = self._fed, []
        return self.command(*words)

    def _on_tick(self) -> bool:
        try:
            if self._tick():
                self.stopped_by = Stopped()
                return True
        except BaseException as error:  # noqa: BLE001 -- as in `command`
            self.stopped_by = error
            return True
        return False

    def _setresp(self, protocol: int) -> None:
        self._resp3 = protocol == 3
        self._to_lua = self._to_lua3 if self._resp3 else self._to_lua2

    def _exists(self, name: Any) -> bool:
        """Tell whether there is a command with this name, which is a string or a number."""
        return name.__class__ is bytes and name.upper() in TABLE


def _bits(command: Command) -> int:
    """Return what may stand in a command's way."""
    return (
        (_REFUSED if command.flags & NOSCRIPT else 0)
        | (_WRITES if command.writes else 0)
        | (_REPLICATES if command.name in TOLD_TO_REPLICAS else 0)
        | (_CONTAINER if command.subcommands else 0)
        | (0 if command.flags & STALE else _MAY_BE_STALE)
    )


def _word(value: Any) -> bytes:
    """Return a value as a word of a command. Raises ReplyError."""
    kind = value.__class__
    if kind is bytes:
        return bytes(value)
    if kind is int or kind is float:
        return convert.number_word(value)
    raise ReplyError(errors.CALL_WORD_TYPES)


def _failed(text: bytes, source: bytes | None = None, line: int | None = None) -> str:
    """Return the error reply of a script that raised."""
    said = convert.line(text).decode("latin-1")
    if source is None:
        return said
    return errors.SCRIPT_ERROR % (said, source.decode("latin-1"), line)


def _sha1hex(text: bytes) -> bytes:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


def _log(level: float, text: bytes) -> None:
    log.log(_LEVELS[int(level)], "%s", text.decode("utf-8", "replace"))


class Scripting:
    """What the server knows of scripts: their texts, and the state that runs them."""

    def __init__(self, cx: Context) -> None:
        self._cx = cx
        self.scripts = Scripts()
        self._ticks = 0
        self._runtime: Runtime | None = None  # until the first script comes

    @property
    def runtime(self) -> Runtime:
        """Return the state, which is made at the first call."""
        if self._runtime is None:
            self._runtime = Runtime(self._cx, self._tick)
        return self._runtime

    @property
    def lua_bytes(self) -> int:
        """Return how much memory Lua uses."""
        return 0 if self._runtime is None else self._runtime.used_bytes

    def of_text(self, text: bytes) -> Script:
        """Return the script with this text, compiled and known from now on. Raises ReplyError."""
        script = self.scripts.of_text(text)
        if script is None:
            script = Script(text)
            self.runtime.compile(script)
            self.scripts.add(script)
        return script

    def script_of(self, words: Sequence[bytes]) -> Script | None:
        """Return the script that a request of EVAL or EVALSHA names, None if it is not known, or none."""
        if name_of(words[0]) == "evalsha":
            return self.scripts.of_sha(words[1])
        try:
            return Script(words[1])
        except ReplyError:
            return None

    def writes_nothing(self, words: Sequence[bytes]) -> bool:
        """Tell whether the script that a request names is known to say that it writes nothing."""
        script = self.script_of(words)
        return script is not None and script.no_writes

    def run(self, script: Script, count: int, words: Sequence[bytes], *, read_only: bool) -> Any:
        """Run a script, the first `count` words of which are keys; return its reply, which is a ReplyError if it raised. Raises what its commands must not raise."""
        runtime = self._runtime or self.runtime
        if script.compiled is None:  # it is from before the state was made anew
            runtime.compile(script)
        self._ticks = 0
        return runtime.run(script, count, words, read_only=read_only)

    def take_over(self, scripts: Scripts) -> None:
        """Know these scripts, which another has known: DEBUG RELOAD."""
        self.scripts = scripts
        for script in scripts:
            script.compiled = None

    def flush(self) -> None:
        """Forget all scripts, and the state that ran them."""
        self.scripts = Scripts()
        self._runtime = None

    @property
    def has_written(self) -> bool:
        """Tell whether the script that runs has called a command that writes."""
        return self._runtime is not None and self._runtime.has_written

    def _tick(self) -> bool:
        self._ticks += 1
        server = self._cx.server
        return server is not None and bool(server.while_script_runs(is_first=self._ticks == 1))
