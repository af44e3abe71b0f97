"""The sandbox holds: what a script tries against the server, the other scripts, or Python leaves all of them as they were.

Every attack runs against the real process. Law: whatever it answers, afterwards the server answers PING, what it kept is there,
a plain script works, and nothing the attack left behind is seen by the next one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.servers import Server

# Each returns what it got hold of; "safe" if nothing.
ESCAPES = {
    "string metatable": "getmetatable('').__index = {upper = function() return 'mine' end}",
    "string metatable, raw": "rawset(getmetatable(''), '__index', {})",
    "string metatable, replaced": "setmetatable(getmetatable(''), {__newindex = 1})",
    "string functions": "string.upper = function() return 'mine' end",
    "string functions, raw": "rawset(string, 'upper', 1)",
    "string functions, by index": "getmetatable('').__index.upper = 1",
    "string functions, rawget of the index": "rawset(rawget(getmetatable(''), '__index') or string, 'upper', 1)",
    "table.insert into a library": "table.insert(string, 'mine')",
    "table.insert into the globals": "table.insert(_G, 1, 'mine')",
    "table.sort of a library": "table.sort(redis) table.remove(redis) return 'safe'",
    "globals": "mine = 1",
    "globals, raw": "rawset(_G, 'mine', 1)",
    "globals, by their metatable": "getmetatable(_G).__index = function() return 'mine' end",
    "globals, another metatable": "setmetatable(_G, {__index = function() return 'mine' end})",
    "globals, a field": "_G.redis.call = function() return 'mine' end",
    "globals, _G itself": "_G._G = {}",
    "redis": "redis.call = function() return 'mine' end",
    "redis, raw": "rawset(redis, 'call', function() return 'mine' end)",
    "cjson": "cjson.encode = function() return 'mine' end",
    "cjson's null": "getmetatable(cjson.null).__index = function() return 'mine' end",
    "cjson's null, set": "setmetatable(cjson.null, {})",
    "pairs gives copies": "for name, value in pairs(string) do if name == 'upper' then return 'safe' end end",
    "what pairs returns": "local iterate, real = pairs(string) real.upper = function() return 'mine' end return ('a'):upper() == 'A' and 'safe'",
    "what pairs of globals returns": "local iterate, real = pairs(_G) real.mine = 1 return rawget(_G, 'mine') == nil and 'safe'",
    "next": "local name, value = next(string) return type(value) == 'function' and 'safe'",
    "foreach": "table.foreach(string, function(name) if name == 'upper' then string[name] = 1 end end)",
    "getfenv": "return getfenv(1) ~= nil",
    "getfenv of a function": "return getfenv(redis.call)",
    "setfenv": "setfenv(1, {})",
    "debug": "return debug.getregistry()",
    "debug, required": "return require('debug')",
    "package": "return package.loaded",
    "module": "module('mine')",
    "newproxy": "return newproxy(true)",
    "io": "return io.open('/etc/passwd')",
    "os.execute": "return os.execute('id')",
    "os.getenv": "return os.getenv('HOME')",
    "os.exit": "os.exit(1)",
    "dofile": "return dofile('/etc/passwd')",
    "loadfile": "return loadfile('/etc/passwd')",
    "print": "print('x')",
    "python": "return python.eval('1')",
    "python, by load": "return loadstring('return python')()",
    "python, in loaded text": "return load(function() local said = done and '' or 'return python.builtins' return said end)",
    "bytecode": "return loadstring(string.dump(function() return 1 end)) == nil and 'safe'",
    "bytecode, by load": (
        "local parts, at = {string.dump(function() return 1 end)}, 0 "
        "local made = load(function() at = at + 1 return parts[at] end) return made == nil and 'safe'"
    ),
    "bytecode, byte by byte": (
        "local text, at = string.dump(function() return 1 end), 0 "
        "local made = load(function() at = at + 1 return text:sub(at, at) end) return made == nil and 'safe'"
    ),
    "bytecode as a number": "return loadstring(27) == nil and 'safe'",
    "globals of loaded text": "return loadstring('mine = 1')()",
    "globals of loaded text, read": "return loadstring('return io')()",
    "globals of a coroutine": "return coroutine.wrap(function() return io end)()",
    "globals of a callback": "return (('a'):gsub('a', function() return io end))",
    "tostring": "return tostring(redis.call):match('^function') and 'safe'",
    "type": "return type(redis.call) == 'function' and type(redis) == 'table' and 'safe'",
    "a command's attributes": "return redis.call.__class__",
    "a method of a function": "return (redis.call):__init__()",
    "error objects of the host": "local ok, problem = pcall(redis.call, {}) return type(problem) == 'string' and 'safe'",
    "error objects of the host, xpcall": (
        "local seen xpcall(function() redis.call({}) end, function(problem) seen = type(problem) end) return seen == 'table' and 'safe'"
    ),
    "error objects of a host function": (
        "for _, words in ipairs({{}, {{}}, {true}, {function() end}, {coroutine.create(function() end)}, {cjson.null}}) do "
        "for _, work in ipairs({redis.call, redis.pcall, redis.sha1hex, redis.log, bit.band, bit.tohex, redis.acl_check_cmd}) do "
        "local ok, problem = pcall(work, unpack(words)) if type(problem) == 'userdata' then return 'got one' end end end return 'safe'"
    ),
    "error objects with a metatable": (
        "local ok, problem = pcall(error, setmetatable({}, {__index = function() error('inner') end})) return 'safe'"
    ),
    "an error in tostring": "error(setmetatable({}, {__tostring = function() error('inner') end}))",
    "an error in a handler": "xpcall(error, function() error('again') end) return 'safe'",
    "an error in a collected object": "setmetatable({}, {__gc = function() error('late') end}) collectgarbage() return 'safe'",
    "a metatable that calls itself": "local t = {} setmetatable(t, {__index = t}) return t.x == nil and 'safe'",
    "metatables in the reply": "return setmetatable({}, {__index = function() error('in the reply') end, __len = error})",
    "metatables in words": "redis.call(setmetatable({}, {__tostring = function() return 'PING' end}))",
    "metatables in json": "return cjson.encode(setmetatable({}, {__index = function() error('x') end})) == '{}' and 'safe'",
    "the collector": "collectgarbage('stop') collectgarbage('setpause', 100000) return 'safe'",
    "KEYS": "KEYS = setmetatable({}, {__index = function() return 'mine' end})",
    "KEYS for the next": "KEYS[1] = 'mine' ARGV[7] = 'mine' return 'safe'",
    "the error handler": "__redis__err__handler = error",
    "select with a negative": "return select(-1000000, 1)",
    "unpack of a lot": "return unpack({}, 1, 1e8)",
    "unpack of what overflows": "return unpack({}, -2147483648, 2147483647)",
    "string.format with a width": "return ('%99999d'):format(1)",
    "string.format of a table": "return ('%s'):format({})",
    "string.byte of a lot": "return ('x'):rep(1000000):byte(1, -1)",
    "string.char of what is none": "return string.char(-1)",
    "yield from the script": "coroutine.yield(1)",
    "yield over a call": "coroutine.wrap(function() redis.call(coroutine.yield()) end)() return 'safe'",
    "resume of itself": "return coroutine.resume(coroutine.running() or coroutine.create(function() end)) and 'safe'",
    "a coroutine left behind": "co = coroutine.create(function() end)",
    "wrap of a command": "return coroutine.wrap(redis.call)('PING').ok == 'PONG' and 'safe'",
    "a refused command": "return redis.call('DEBUG', 'SEGFAULT')",
    "a script in a script": "return redis.call('EVAL', 'return 1', 0)",
    "names with a NUL": "return redis.call('PI\\0NG')",
    "subcommands of none": "return redis.call('CONFIG', '\\0')",
}
# What takes too much of something: must end with an error, soon.
HUNGER = {
    "a long string": "return #string.rep('x', 1e10)",
    "a string of strings": "return #string.rep(string.rep('x', 1e6), 1e6)",
    "a string that doubles": "local s = 'x' while true do s = s .. s end",
    "a string that doubles, caught": "local s = 'x' while true do if not pcall(function() s = s .. s end) then error('enough') end end",
    "a table that grows": "local t = {} for i = 1, 1e12 do t[i] = i end",
    "tables that grow": "local t = {} while true do t[#t + 1] = {} end",
    "a table of strings": "local t = {} for i = 1, 1e12 do t[i] = ('x'):rep(1e7) .. i end",
    "a table that grows, with commands": "local t = {} for i = 1, 1e12 do t[i] = ('x'):rep(1e7) .. i redis.call('PING') end",
    "gsub that grows": "return #(('x'):rep(1e6):gsub('x', ('y'):rep(1e6)))",
    "concat that grows": "local t = {} for i = 1, 1e4 do t[i] = 'x' end return #table.concat(t, ('y'):rep(1e6))",
    "json that grows": "local s = ('x'):rep(1e6) local t = {} for i = 1, 1e6 do t[i] = 1 end t.s = s return #cjson.encode(t):rep(1e6)",
    "a pack that grows": "local t = {} for i = 1, 1e4 do t[i] = ('x'):rep(1e5) end return #cmsgpack.pack(t)",
    "words without end": "local s = ('x'):rep(2e8) return redis.call('ECHO', s .. s .. s .. s)",
    "recursion": "local function f() return 1 + f() end return f()",
    "recursion over pcall": "local function f() return pcall(f) end local ok = f() error(tostring(ok))",
    "recursion over metatables": "local t = {} setmetatable(t, {__index = function(t, k) return t[k + 1] end}) return t[1]",
    "recursion in gsub": "local function f() return (('x'):gsub('x', f)) end return f()",
    "recursion in sort": "local function f() table.sort({1, 2, 3}, f) return true end return f()",
    "coroutines in coroutines": "local function f() return coroutine.wrap(f)() end return f()",
    "coroutines without end": "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
    "nested parentheses": "return loadstring('return ' .. ('('):rep(1e6))() ",
    "a pattern too deep": "return ('x'):rep(3e5):find(('.-'):rep(3e5) .. 'y')",
}


def alive(server: Server) -> None:
    """Fail unless the server goes on as if nothing had happened."""
    with server.connect() as client:
        assert client.call("PING").value == b"PONG"
        assert client.call("GET", "secret").value == b"kept"
        reply = client.call(
            "EVAL", "return {KEYS[1], #ARGV, ('a'):upper(), #string, tostring(rawget(_G, 'mine'))}", 1, "k"
        )

        assert [b"k", 0, b"A", 0, b"nil"] == reply.plain()
        assert client.call("EVAL", "return redis.call('ECHO', cjson.encode({1}))", 0).value == b"[1]"


@pytest.mark.parametrize("attack", ESCAPES)
def test_escape(ours: Server, attack: str):
    """Nothing is got hold of: the attack ends in an error of Redis's kind, or finds what is harmless."""
    with ours.connect() as client:
        client.call("SET", "secret", "kept")
        reply = client.call("EVAL", ESCAPES[attack], 2, "a", "b")

        assert reply.is_error or reply.value in {None, b"safe", ()}, reply
        assert not re.search(
            rb"internal error|Traceback|python|lupa|<class|lmdbredis", str(reply.value).encode()
        ) or attack.startswith("python")
    alive(ours)


@pytest.mark.parametrize("attack", HUNGER)
def test_hunger(ours: Server, attack: str):
    """Whoever wants too much gets an error, and the server its memory back."""
    with ours.connect(timeout_seconds=60) as client:
        client.call("SET", "secret", "kept")
        client.call("CONFIG", "SET", "busy-reply-threshold", 0)
        reply = client.call("EVAL", HUNGER[attack], 0)
        client.call("CONFIG", "SET", "busy-reply-threshold", 5000)

        assert reply.is_error, reply
    alive(ours)
    with ours.connect() as client:
        text = client.call("INFO", "memory").value

        assert int(re.search(rb"used_memory_lua:(\d+)", text)[1]) < 80 << 20


def test_attacks_are_many():
    """The list is as long as was asked for."""
    assert len(ESCAPES) + len(HUNGER) >= 100


def test_settings_of_the_collector_do_not_last(ours: Server):
    """A script that stops the collector stops it for itself."""
    with ours.connect() as client:
        client.call("SCRIPT", "FLUSH")  # what earlier scripts left behind is not this one's
        client.call("EVAL", "collectgarbage('stop') return 1", 0)
        grown = client.call(
            "EVAL", "for i = 1, 2e5 do local t = {i, i, i} end return math.floor(collectgarbage('count'))", 0
        )

        assert grown.value < 8000
