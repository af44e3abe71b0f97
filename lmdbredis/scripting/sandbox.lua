-- The sandbox: the globals a script sees, how it calls commands, and how it begins and ends.
--
-- Theory. Lua 5.1 has no tables that cannot be written, so what a script must not change is shown to it as a proxy: an empty
-- table whose metatable reads from the real one and refuses writes. The few functions that would look behind a metatable (rawget,
-- rawset, pairs, next, table.insert ...) know the proxies. The globals of a script are such a proxy; the real globals of the
-- state are reached by nothing that a script can name.
--
-- Laws:
--
-- 1. A script that must end, ends: `dead` is set, and every function that catches errors raises again.
-- 2. What the host returns is (value, kind): see `take`. The host never raises.
-- 3. An error says where the script was, not where the sandbox was: frames of this source are passed over (`where`).

local host, texts, limits = ...

local raw_pcall, raw_xpcall, raw_error, raw_next, raw_pairs = pcall, xpcall, error, next, pairs
local raw_rawget, raw_rawset, raw_getmetatable, raw_setmetatable = rawget, rawset, getmetatable, setmetatable
local raw_loadstring, raw_setfenv, insert, rep = loadstring, setfenv, table.insert, string.rep
local raw_create, raw_wrap, raw_resume, running = coroutine.create, coroutine.wrap, coroutine.resume, coroutine.running
local raw_collect, gcinfo, type, tostring, tonumber, select, unpack = collectgarbage, gcinfo, type, tostring, tonumber, select, unpack
local byte, sub, find, match, floor, concat = string.byte, string.sub, string.find, string.match, math.floor, table.concat
local gsub, gmatch, foreach = string.gsub, string.gmatch, table.foreach
local getinfo, sethook = debug.getinfo, debug.sethook

local OWN = '@lmdbredis' -- the name of our sources in Lua's debug information
local STOP = 'the script was stopped'
local MEMORY = 'not enough memory'
local WORDS_AT_ONCE = 64 -- Python takes more words in portions: each one more would copy all before it

-- JSON's null. In Redis it is a null pointer, and its text says so.
local null = newproxy(true)
raw_getmetatable(null).__tostring = function() return 'userdata: (nil)' end

local dead = false -- the script must end
local globals = {} -- what a script's globals are read from
local locked = {} -- proxy -> the real table
local environment -- the proxy of `globals`
local outermost -- the line of this source from which on nothing is between a script and the host

-- --- errors ---------------------------------------------------------------------------------------------------------------------

-- Return the first frame from `level` on that is not ours.
local function frame(level)
  local found = getinfo(level, 'Sl')
  while found and (found.source == OWN or found.what == 'tail') do
    level = level + 1
    found = getinfo(level, 'Sl')
  end
  return found
end

-- Return "source:line: " of whoever called into the sandbox, as luaL_where would.
local function where()
  local found = frame(3)
  if found and found.currentline > 0 then return found.short_src .. ':' .. found.currentline .. ': ' end
  return ''
end

local function fail(text)
  raw_error(where() .. text, 0)
end

local function typename(...)
  return select('#', ...) == 0 and 'no value' or type((...))
end

-- Return how the script has called the function of ours in which it is: the name it used, nil if Lua knows none, and what sort of name
-- that is. `fallback`: the name if the frame that called is gone.
local function called(fallback)
  local level, is_gone, last = 3, false, nil
  local found = getinfo(level, 'nS')
  while found and (found.source == OWN or found.what == 'tail') do
    is_gone = found.what == 'tail'
    if not is_gone then last = found end
    level = level + 1
    found = getinfo(level, 'nS')
  end
  if is_gone or not last then return fallback, '' end
  return last.name, last.namewhat
end

-- As luaL_argerror: a method's arguments are counted from the one behind self.
local function bad_argument(position, name, text)
  local name_used, what = called(name)
  if what == 'method' then position = position - 1 end
  if what == 'method' and position == 0 then fail("calling '" .. name_used .. "' on bad self (" .. text .. ")") end
  fail("bad argument #" .. position .. " to '" .. (name_used or '?') .. "' (" .. text .. ")")
end

local function expect_table(position, name, ...)
  if type((...)) ~= 'table' then bad_argument(position, name, 'table expected, got ' .. typename(...)) end
end

local function expect_string(position, name, ...)
  local kind = type((select(position, ...)))
  if kind == 'string' or kind == 'number' then return end
  bad_argument(position, name, 'string expected, got ' .. typename(select(position, ...)))
end

local function expect_number(position, name, ...)
  if tonumber((select(position, ...))) then return end
  bad_argument(position, name, 'number expected, got ' .. typename(select(position, ...)))
end

local function expect_any(position, name, ...)
  if select('#', ...) < position then bad_argument(position, name, 'value expected') end
end

local function refuse_write()
  fail(texts.readonly)
end

-- Return an error's value with the script's position where Lua has put ours: a function of Lua's refused the words that one of ours
-- had handed on. To be called by what handles the error where it is raised; `unwound`: it is too late to know the position. Beyond the
-- script, where a level told `error` to look, there is `run`; in Redis there is nothing.
local function placed(value, unwound)
  if type(value) ~= 'string' then return value end
  local _, last, line = find(value, '^lmdbredis:(%d+): ')
  if not last then return value end
  local found = not unwound and tonumber(line) < outermost and frame(5)
  local position = found and found.currentline > 0 and found.short_src .. ':' .. found.currentline .. ': ' or ''
  return position .. sub(value, last + 1)
end

-- What Python would raise never gets here; were it to, a script must not hold the object.
local function safe(value)
  if type(value) == 'userdata' and value ~= null then return 'internal error' end
  return value
end

-- --- proxies --------------------------------------------------------------------------------------------------------------------

local function lock(real)
  local proxy = {}
  locked[proxy] = real
  raw_setmetatable(proxy, { __index = real, __newindex = refuse_write, __metatable = false })
  return proxy
end

local function copy(real)
  local made = {}
  for key, value in raw_next, real do made[key] = value end
  return made
end

-- The functions of the base library that look behind a metatable.

function globals.rawget(...)
  local target, key = ...
  expect_table(1, 'rawget', ...)
  expect_any(2, 'rawget', ...)
  return raw_rawget(locked[target] or target, key)
end

function globals.rawset(...)
  local target, key, value = ...
  expect_table(1, 'rawset', ...)
  expect_any(2, 'rawset', ...)
  expect_any(3, 'rawset', ...)
  if locked[target] then raw_error(texts.readonly, 0) end
  if key == nil then raw_error('table index is nil', 0) end
  if key ~= key then raw_error('table index is NaN', 0) end
  return raw_rawset(target, key, value)
end

function globals.next(...)
  local target, key = ...
  expect_table(1, 'next', ...)
  return raw_next(locked[target] or target, key)
end

function globals.pairs(...)
  local target = ...
  expect_table(1, 'pairs', ...)
  local real = locked[target]
  if real then target = copy(real) end
  return raw_next, target, nil
end

function globals.getmetatable(...)
  if select('#', ...) == 0 then bad_argument(1, 'getmetatable', 'value expected') end
  local target = ...
  if target == null then return nil end
  if target ~= nil and locked[target] then
    return target == environment and host.globals_metatable or nil
  end
  return raw_getmetatable(target)
end

function globals.setmetatable(...)
  local target, metatable = ...
  expect_table(1, 'setmetatable', ...)
  if select('#', ...) < 2 or (metatable ~= nil and type(metatable) ~= 'table') then
    bad_argument(2, 'setmetatable', 'nil or table expected')
  end
  if locked[target] then raw_error(texts.readonly, 0) end
  local old = raw_getmetatable(target)
  if type(old) == 'table' and raw_rawget(old, '__metatable') ~= nil or old ~= nil and type(old) ~= 'table' then
    fail('cannot change a protected metatable')
  end
  return raw_setmetatable(target, metatable)
end

-- --- catching errors ------------------------------------------------------------------------------------------------------------

local catcher -- what handles an error before it is caught, where the script is: nil if the script as a whole would end

local function untouched(value)
  return value
end

-- As Redis: a script's own pcall sees the text of an error table, as it did before errors were tables. `outer`: the catcher before.
local function caught(outer, ok, ...)
  catcher = outer
  if ok then return true, ... end
  if dead then raw_error(STOP, 0) end
  local value = placed(safe((...)), true)
  if type(value) == 'table' then
    local text = value.err
    if type(text) == 'string' or type(text) == 'number' then value = text end
  end
  return false, value
end

function globals.pcall(...)
  if select('#', ...) == 0 then return false, 'attempt to call a boolean value' end -- as Redis, which calls its first result
  local outer = catcher
  catcher = untouched
  return caught(outer, raw_pcall(...))
end

local function handled(outer, ok, ...)
  catcher = outer
  if dead then raw_error(STOP, 0) end
  return ok, ...
end

function globals.xpcall(...)
  local body, handler = ...
  if select('#', ...) < 2 then bad_argument(2, 'xpcall', 'value expected') end
  local outer = catcher
  catcher = handler
  return handled(outer, raw_xpcall(body, function(value)
    if dead then return STOP end
    return handler(placed(safe(value)))
  end))
end

-- --- coroutines: each has a hook of its own ------------------------------------------------------------------------------------

local hook

-- No coroutine begins with a function of C, for which all of ours stand but one.
local function hooked(name, body)
  local found = type(body) == 'function' and getinfo(body, 'S')
  if not found or found.what == 'C' or found.source == OWN and body ~= globals.__redis__err__handler then
    bad_argument(1, name, 'Lua function expected')
  end
  return function(...)
    sethook(hook, '', limits.instructions)
    return body(...)
  end
end

local function resumed(ok, ...)
  if ok then return true, ... end
  if dead then raw_error(STOP, 0) end
  return false, placed(safe((...)), true)
end

local coroutines = {
  create = function(body) return raw_create(hooked('create', body)) end,
  wrap = function(body) return raw_wrap(hooked('wrap', body)) end,
  resume = function(...)
    if type((...)) ~= 'thread' then bad_argument(1, 'resume', 'coroutine expected') end
    return resumed(raw_resume(...))
  end,
  running = running,
  status = coroutine.status,
  yield = coroutine.yield,
}

-- --- loading --------------------------------------------------------------------------------------------------------------------

-- Text only: a blank before the mark of compiled code makes the compiler say what it says of any other odd character.
local function compile(text, name)
  if byte(text, 1) == 27 then text = ' ' .. text end
  local made, problem = raw_loadstring(text, name)
  if not made then return nil, problem end
  raw_setfenv(made, environment)
  return made
end

function globals.loadstring(...)
  local text, name = ...
  if type(text) == 'number' then text = tostring(text) end
  if type(text) ~= 'string' then bad_argument(1, 'loadstring', 'string expected, got ' .. typename(...)) end
  if name ~= nil and type(name) ~= 'string' then bad_argument(2, 'loadstring', 'string expected, got ' .. type(name)) end
  return compile(text, name or text)
end

local function gather(reader, place)
  local pieces, count = {}, 0
  while true do
    local piece = reader()
    if piece == nil or piece == '' then return concat(pieces) end
    if type(piece) ~= 'string' and type(piece) ~= 'number' then raw_error(place .. 'reader function must return a string', 0) end
    count = count + 1
    pieces[count] = piece
  end
end

-- What an error of a reader becomes, where it is raised: Lua asks whoever handles errors around `load`, though `load` catches it. Around
-- the script as a whole that is Redis, which makes a table of it.
local function unread(value)
  if dead then return STOP end
  value = placed(safe(value))
  if running() then return value end
  if catcher then return catcher(value) end
  if type(value) ~= 'table' then value = { err = 'ERR ' .. tostring(value) } end
  local level, found = 2, getinfo(2, 'Sl')
  while found and (found.currentline < 1 or found.source == OWN) do
    level = level + 1
    found = getinfo(level, 'Sl')
  end
  if found and not locked[value] then
    raw_rawset(value, 'source', found.source)
    raw_rawset(value, 'line', found.currentline)
  end
  return value
end

function globals.load(...)
  local reader, name = ...
  if type(reader) ~= 'function' then bad_argument(1, 'load', 'function expected, got ' .. typename(...)) end
  local place = where()
  local ok, text = raw_xpcall(function() return gather(reader, place) end, unread)
  if dead then raw_error(STOP, 0) end
  if not ok then return nil, text end
  return compile(text, name or '=(load)')
end

-- --- the other libraries --------------------------------------------------------------------------------------------------------

local strings = copy(string)
local REP_BLOCK = 256

strings.rep = function(...)
  local text, count = ...
  if type(text) ~= 'string' or type(count) ~= 'number' then
    expect_string(1, 'rep', ...)
    expect_number(2, 'rep', ...)
    return rep(...)
  end
  if #text * count > limits.soft_kb * 1024 then raw_error(MEMORY, 0) end
  if count < 2 * REP_BLOCK then return rep(text, count) end
  -- Lua copies a repeated byte byte by byte: blocks of them it copies at once.
  count = floor(count)
  return rep(rep(text, REP_BLOCK), floor(count / REP_BLOCK)) .. rep(text, count % REP_BLOCK)
end

-- Lua matches by recursion, as deep as the pattern has items that may match in several ways; the stack of C has an end.
local PATTERN_ITEMS_MAX = 5000

local function check_pattern(pattern)
  local _, items = gsub(pattern, '[%(%)%*%+%-%?]', '')
  if items > PATTERN_ITEMS_MAX then fail('pattern too complex') end
end

-- What Lua would refuse of the words is refused here: it would name our call, not the script's.
local function check_texts(name, ...)
  expect_string(1, name, ...)
  expect_string(2, name, ...)
end

strings.find = function(...)
  local text, pattern, first, plain = ...
  if type(text) ~= 'string' or type(pattern) ~= 'string' then
    check_texts('find', ...)
  elseif #pattern > PATTERN_ITEMS_MAX and not plain then
    check_pattern(pattern)
  end
  if first ~= nil and type(first) ~= 'number' then expect_number(3, 'find', ...) end
  return find(...)
end
strings.match = function(...)
  local text, pattern, first = ...
  if type(text) ~= 'string' or type(pattern) ~= 'string' then
    check_texts('match', ...)
  elseif #pattern > PATTERN_ITEMS_MAX then
    check_pattern(pattern)
  end
  if first ~= nil and type(first) ~= 'number' then expect_number(3, 'match', ...) end
  return match(...)
end

local REPLACEMENTS = { string = true, number = true, ['function'] = true, table = true }

strings.gsub = function(...)
  local text, pattern, replacement, count = ...
  if type(text) ~= 'string' or type(pattern) ~= 'string' then
    check_texts('gsub', ...)
  elseif #pattern > PATTERN_ITEMS_MAX then
    check_pattern(pattern)
  end
  if count ~= nil and type(count) ~= 'number' then expect_number(4, 'gsub', ...) end
  if not REPLACEMENTS[type(replacement)] then bad_argument(3, 'gsub', 'string/function/table expected') end
  return gsub(...)
end
strings.gmatch = function(...)
  local text, pattern = ...
  if type(text) ~= 'string' or type(pattern) ~= 'string' then
    check_texts('gmatch', ...)
  elseif #pattern > PATTERN_ITEMS_MAX then
    check_pattern(pattern)
  end
  return gmatch(...)
end
strings.gfind = strings.gmatch

-- Lua counts the results in an int, which overflows.
local UNPACK_MAX = 1000000

function globals.unpack(...)
  local list, first, last = ...
  expect_table(1, 'unpack', ...)
  first = first == nil and 1 or tonumber(first) or bad_argument(2, 'unpack', 'number expected, got ' .. type(first))
  last = last == nil and #list or tonumber(last) or bad_argument(3, 'unpack', 'number expected, got ' .. type(last))
  if not (last - first < UNPACK_MAX and first > -2147483649 and last < 2147483648) then fail('too many results to unpack') end
  return unpack(...) -- no words more than the script's: they take the stack's room from what is unpacked
end

local tables = copy(table)
tables.insert = function(...)
  local target, position = ...
  expect_table(1, 'insert', ...)
  local count = select('#', ...)
  if count ~= 2 and count ~= 3 then fail("wrong number of arguments to 'insert'") end
  if count == 3 and not tonumber(position) then bad_argument(2, 'insert', 'number expected, got ' .. type(position)) end
  if locked[target] then raw_error(texts.readonly, 0) end
  insert(...)
end
tables.foreach = function(...)
  local target, work = ...
  expect_table(1, 'foreach', ...)
  if type(work) ~= 'function' then bad_argument(2, 'foreach', 'function expected, got ' .. typename(select(2, ...))) end
  return foreach(locked[target] and copy(locked[target]) or target, work)
end

-- Random numbers: 48 bits as drand48's, so that a seed gives the same numbers everywhere.
local high, low = 0, 0x330E -- of the state: 24 bits each

local function seed(number)
  number = number % 4294967296
  high, low = floor(number / 256), (number % 256) * 65536 + 0x330E
end

local function chance()
  -- times 0x5DEECE66D plus 0xB, in halves that a double holds exactly
  local carried = low * 0xE66D + 0xB
  local middle = low * 0x5DEEC -- counts for 2^16
  carried = carried + (middle % 256) * 65536
  local above = floor(carried / 16777216) + floor(middle / 256)
  low = carried % 16777216
  high = (above + high * 0xE66D + (high * 0x5DEEC % 256) * 65536) % 16777216
  return floor((high * 16777216 + low) / 131072)
end

local mathematics = copy(math)
mathematics.randomseed = function(...)
  local number = tonumber((...))
  if not number then bad_argument(1, 'randomseed', 'number expected, got ' .. typename(...)) end
  seed(floor(number))
end
mathematics.random = function(...)
  local share = chance() % 2147483647 / 2147483647
  local count = select('#', ...)
  if count == 0 then return share end
  local least, most = ...
  if count == 1 then least, most = 1, least end
  if count > 2 then fail('wrong number of arguments') end
  if not tonumber(least) then bad_argument(1, 'random', 'number expected, got ' .. type(least)) end
  if not tonumber(most) then bad_argument(count, 'random', 'number expected, got ' .. type(most)) end
  if tonumber(least) > tonumber(most) then bad_argument(count, 'random', 'interval is empty') end
  return floor(share * (most - least + 1)) + least
end

local tuned = false -- a script has set the collector: it is set back
local COLLECTING = {
  stop = true, restart = true, collect = true, count = true, step = true, setpause = true, setstepmul = true,
}

function globals.collectgarbage(...)
  local option, number = ...
  if option ~= nil then expect_string(1, 'collectgarbage', ...) end
  if option ~= nil and not COLLECTING[option] then bad_argument(1, 'collectgarbage', "invalid option '" .. option .. "'") end
  if number ~= nil then expect_number(2, 'collectgarbage', ...) end
  tuned = true
  return raw_collect(option, number)
end

-- --- commands -------------------------------------------------------------------------------------------------------------------

local command, feed, fed = host.command, host.feed, host.fed

-- Kinds of what the host returns: nil a plain value; 1 a status; 2 a list, its elements following; 3 a table; 4 an error; 5 the
-- script must end; 6 an error that INFO's errorstats has not counted, because no command has said it.
local function take(raises, value, kind, ...)
  if kind == nil then return value end
  if kind == 1 then return { ok = value } end
  if kind == 2 then return { ... } end
  if kind == 3 then return value end
  if kind == 5 then
    dead = true
    raw_error(STOP, 0)
  end
  local made = { err = value, ignore_error_stats_update = kind == 4 or nil }
  if raises then raw_error(made, 0) end
  return made
end

local function check_memory()
  if gcinfo() > limits.soft_kb then
    raw_collect()
    if gcinfo() > limits.soft_kb then raw_error(MEMORY, 0) end
  end
end

local function call_many(raises, ...)
  local words, count = { ... }, select('#', ...)
  for first = 1, count, WORDS_AT_ONCE do
    feed(unpack(words, first, first + WORDS_AT_ONCE > count and count or first + WORDS_AT_ONCE - 1))
  end
  return take(raises, fed())
end

local soft_kb = limits.soft_kb

-- The ninth word is looked at before they are counted, which costs more.
local function call(...)
  if gcinfo() > soft_kb then check_memory() end
  local _, _, _, _, _, _, _, _, ninth = ...
  if ninth ~= nil and select('#', ...) > WORDS_AT_ONCE then return call_many(true, ...) end
  return take(true, command(...))
end

local function protected_call(...)
  if gcinfo() > soft_kb then check_memory() end
  local _, _, _, _, _, _, _, _, ninth = ...
  if ninth ~= nil and select('#', ...) > WORDS_AT_ONCE then return call_many(false, ...) end
  return take(false, command(...))
end

local function raise(text)
  raw_error({ err = text }, 0)
end

local function one_field(name, ...)
  local text = ...
  if select('#', ...) ~= 1 or type(text) ~= 'string' then return { err = texts.argument_types } end
  return { [name] = text }
end

local redis = copy(host.constants)
redis.call = call
redis.pcall = protected_call

function redis.error_reply(...)
  local made = one_field('err', ...)
  local text = made.err
  if text == texts.argument_types then return made end
  text = match(text, '^%-?(%Z*)') -- up to a NUL, as C has it
  local code, message = match(text, '^([^ ]*) (.*)$')
  if not code then code, message = 'ERR', text end
  made.err = code .. ' ' .. match(message, '^[\r\n]*(.-)[\r\n]*$')
  return made
end

function redis.status_reply(...)
  return one_field('ok', ...)
end

-- The text of a word as lua_tolstring gives it: nothing for what is neither string nor number.
local function text_of(value)
  if type(value) == 'string' then return value end
  return type(value) == 'number' and tostring(value) or ''
end

function redis.sha1hex(...)
  if select('#', ...) ~= 1 then raise(texts.argument_count) end
  return (host.sha1hex(text_of((...))))
end

function redis.log(...)
  local level = ...
  if select('#', ...) < 2 then raise(texts.log_arguments) end
  if type(level) ~= 'number' then raise(texts.log_level_type) end
  if not (level >= redis.LOG_DEBUG and level <= redis.LOG_WARNING) then raise(texts.log_level) end -- NaN is neither
  local words = { ... }
  for position = 1, select('#', ...) do words[position] = text_of(words[position]) end
  host.log(level, concat(words, ' ', 2))
end

function redis.setresp(...)
  if select('#', ...) ~= 1 then raise(texts.setresp_argument) end
  local version = floor(tonumber((...)) or 0) -- C's cast, of what may be allowed
  if version ~= 2 and version ~= 3 then raise(texts.setresp_version) end
  host.setresp(version)
end

function redis.set_repl(...)
  if select('#', ...) ~= 1 then raise(texts.set_repl_argument) end
  local flags = tonumber((...)) or 0
  if flags < 0 or flags > redis.REPL_ALL then raise(texts.set_repl_flags) end
end

function redis.replicate_commands() return true end
function redis.breakpoint() return false end
function redis.debug() end

function redis.acl_check_cmd(...)
  if select('#', ...) == 0 then raise(texts.no_command) end
  for position = 1, select('#', ...) do
    local kind = type((select(position, ...)))
    if kind ~= 'string' and kind ~= 'number' then raise(texts.word_types) end
  end
  if not host.exists((...)) then raise(texts.acl_unknown) end
  return true
end

-- --- the globals ----------------------------------------------------------------------------------------------------------------

for _, name in ipairs({
  'assert', 'error', 'gcinfo', 'ipairs', 'rawequal', 'select', 'tonumber', 'tostring', 'type', '_VERSION',
}) do
  globals[name] = _G[name]
end

local libraries = {
  string = strings,
  table = tables,
  math = mathematics,
  coroutine = coroutines,
  os = { clock = os.clock },
  redis = redis,
}
local tools = {
  fail = fail, bad_argument = bad_argument, typename = typename, null = null, host = host, lock = lock, unpack = unpack,
}
for _, name in ipairs({ 'cjson', 'cmsgpack', 'struct', 'bit' }) do libraries[name] = host.libraries[name](tools) end
for name, library in raw_next, libraries do globals[name] = lock(library) end
globals.server = globals.redis
globals.KEYS, globals.ARGV = {}, {}

environment = lock(globals)
globals._G = environment
host.globals_metatable = lock({})
raw_setmetatable(globals, {
  __index = function(_, name)
    fail(texts.no_global .. "'" .. tostring(name) .. "'")
  end,
})
-- What strings read their methods from: real, and shown to scripts as a proxy.
local of_strings = raw_getmetatable('')
of_strings.__index = strings
of_strings.__metatable = lock({ __index = globals.string })

-- --- running --------------------------------------------------------------------------------------------------------------------

local failure, failed_at, is_counted -- of the script that runs: the text, its frame, and whether errorstats has counted it

function globals.__redis__err__handler(value)
  return value
end
globals.__server__err__handler = globals.__redis__err__handler

-- Called where the error is raised: notes what it says and where the script was.
local function note(value)
  if dead then return STOP end
  value = placed(safe(value))
  is_counted = false
  local found = getinfo(2, 'Sl')
  found = frame(found and found.what == 'C' and 4 or 3) -- one more: it is counted from there
  if type(value) == 'table' and found and not locked[value] then
    -- As Redis. Where a metatable raises an error at that, this is called for that error, which is then the script's.
    value.source = found.source
    value.line = found.currentline
  end
  failed_at = found
  if type(value) == 'table' then
    local text = value.err
    is_counted = value.ignore_error_stats_update and true or false
    failure = (type(text) == 'string' or type(text) == 'number') and tostring(text) or texts.unknown_error
  else
    failure = 'ERR ' .. tostring(value)
  end
end

hook = function()
  if dead then raw_error(STOP, 0) end
  check_memory()
  if host.tick() then
    dead = true
    failed_at = frame(3)
    raw_error(STOP, 0)
  end
end
sethook(hook, '', limits.instructions)

-- What a script returns, flat: each node is a mark and what belongs to it. Marks: 0 nil, 1 true, 2 false, 3 string, 4 number, 5 list
-- and its length, 6 map and its length, 7 set and its length, 8 error, 9 status, 10 double, 11 big number, 12 verbatim: kind, text,
-- 13 error that errorstats has counted.
local out, written

local function put(mark, value)
  out[written + 1] = mark
  out[written + 2] = value
  written = written + (value == nil and 1 or 2)
end

local SIMPLE = { string = 3, number = 4 }
local flatten

local function flatten_pairs(real, mark, depth)
  local count = 0
  for _ in raw_next, real do count = count + 1 end
  put(mark, count)
  for key, value in raw_next, real do
    flatten(key, depth)
    if mark == 6 then flatten(value, depth) end
  end
end

local function flatten_table(value, depth)
  if depth > limits.depth then return put(8, texts.too_deep) end
  local err, ok, double = raw_rawget(value, 'err'), raw_rawget(value, 'ok'), raw_rawget(value, 'double')
  if type(err) == 'string' then return put(raw_rawget(value, 'ignore_error_stats_update') and 13 or 8, err) end
  if type(ok) == 'string' then return put(9, ok) end
  if type(double) == 'number' then return put(10, double == 0 and 1 / double < 0 and '-0' or double) end -- the host has one 0
  local map, set = raw_rawget(value, 'map'), raw_rawget(value, 'set')
  if type(map) == 'table' then return flatten_pairs(locked[map] or map, 6, depth + 1) end
  if type(set) == 'table' then return flatten_pairs(locked[set] or set, 7, depth + 1) end
  local big, verbatim = raw_rawget(value, 'big_number'), raw_rawget(value, 'verbatim_string')
  if type(big) == 'string' then return put(11, big) end
  if type(verbatim) == 'table' then
    local kind, text = raw_rawget(verbatim, 'format'), raw_rawget(verbatim, 'string')
    if type(kind) == 'string' and type(text) == 'string' then
      put(12, kind)
      written = written + 1
      out[written] = text
      return
    end
  end
  local count = 0
  while raw_rawget(value, count + 1) ~= nil do count = count + 1 end
  put(5, count)
  for position = 1, count do flatten(raw_rawget(value, position), depth + 1) end
end

flatten = function(value, depth)
  local kind = type(value)
  local mark = SIMPLE[kind]
  if mark then
    put(mark, value)
  elseif kind == 'table' then
    flatten_table(value, depth)
  elseif kind == 'boolean' then
    put(value and 1 or 2)
  else
    put(0)
  end
end

-- Kinds of what `run` returns: one plain value by itself; or several, the first telling what they are: 1 the script failed: whether
-- errorstats has counted it, text, source, line; 2 it was stopped; 3 a list of plain values; 4 a flat form; 5 a flat form too long for the stack, as a table.
local AT_ONCE = 4000

local function returned(value)
  if type(value) ~= 'table' then
    local kind = type(value)
    if kind == 'string' or kind == 'number' or kind == 'boolean' then return value end
    return nil
  end
  out, written = {}, 0
  flatten(value, 1)
  local made, count = out, written
  out = nil
  if count > AT_ONCE then return 5, made, count end
  return 4, unpack(made, 1, count)
end

-- To lay a reply flat may take long or much memory, too: the hook may raise.
local function laid(ok, ...)
  if ok then return ... end
  out = nil
  if dead then
    dead, failed_at = false, nil
    return 2, '@user_script', 1
  end
  return 1, false, 'ERR ' .. tostring(safe((...)))
end

local function leave(ok, value)
  catcher = nil
  if tuned then
    tuned = false
    raw_collect('restart')
    raw_collect('setpause', 200)
    raw_collect('setstepmul', 200)
  end
  if gcinfo() > limits.idle_kb then raw_collect() end
  if dead then
    dead = false
    local found = failed_at
    failure, failed_at = nil, nil
    if found and found.currentline > 0 then return 2, found.source, found.currentline end
    return 2, '@user_script', 1
  end
  if ok then return laid(raw_pcall(returned, value)) end
  -- Out of memory nobody is told where.
  local text, found = failure or 'ERR ' .. tostring(safe(value)), failed_at
  failure, failed_at = nil, nil
  if found and found.currentline > 0 then return 1, is_counted, text, found.source, found.currentline end
  return 1, is_counted, text, found and '@user_script' or nil, found and 1 or nil
end

outermost = getinfo(1, 'l').currentline

local function run(body, count, ...)
  if count == 0 then
    globals.KEYS, globals.ARGV = {}, { ... }
  elseif count == 1 then
    globals.KEYS = { (...) }
    globals.ARGV = { select(2, ...) }
  else
    local keys = { ... }
    local words = { select(count + 1, ...) }
    for position = count + 1, count + #words do keys[position] = nil end
    globals.KEYS, globals.ARGV = keys, words
  end
  return leave(raw_xpcall(body, note))
end

-- The same for more words than the stack holds.
local function run_many(body, keys, words)
  globals.KEYS, globals.ARGV = keys, words
  return leave(raw_xpcall(body, note))
end

local function slice(list, first, last)
  return unpack(list, first, last)
end

local function prepare(body)
  return raw_setfenv(body, environment)
end

return run, run_many, slice, prepare, seed, raw_loadstring, string.dump
