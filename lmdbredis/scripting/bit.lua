-- The library bit: operations on numbers as 32 bits. Here the words are looked at; host (bits.py) does the arithmetic.

local tools = ...
local host, bad_argument, typename, tonumber, select, type = tools.host, tools.bad_argument, tools.typename, tonumber, select, type

-- Return the words from the first to the last as numbers; fails at the first that is none.
local function numbers(name, first, count, ...)
  local value = ...
  local number = tonumber(value)
  if not number or type(value) == 'table' then bad_argument(first, name, 'number expected, got ' .. typename(...)) end
  if count > 1 then return number, numbers(name, first + 1, count - 1, select(2, ...)) end
  return number
end

local library = {}

for name, count in pairs({ tobit = 1, bnot = 1, bswap = 1, lshift = 2, rshift = 2, arshift = 2, rol = 2, ror = 2 }) do
  local work = host[name]
  library[name] = function(...)
    local one, other = ...
    if type(one) ~= 'number' or (count == 2 and type(other) ~= 'number') then
      return (work(numbers(name, 1, count, ...)))
    end
    if count == 1 then return (work(one)) end
    return (work(one, other))
  end
end

for _, name in ipairs({ 'band', 'bor', 'bxor' }) do
  local work = host[name]
  library[name] = function(...)
    local count = select('#', ...)
    return (work(numbers(name, 1, count > 1 and count or 1, ...)))
  end
end

function library.tohex(...)
  if select('#', ...) < 2 then return (host.tohex(numbers('tohex', 1, 1, ...), 8)) end
  return (host.tohex(numbers('tohex', 1, 2, ...)))
end

return library
