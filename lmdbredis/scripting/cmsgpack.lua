-- The library cmsgpack: MessagePack, as lua-cmsgpack 0.4.0 in Redis reads and writes it.
--
-- Numbers that are integers of 64 bits are written as such, in the fewest bytes; others as a float if that loses nothing, else as a
-- double. A table is a list if its keys are 1 to n. Lua 5.1 has doubles only, so larger integers are read as the nearest one.

local tools = ...
local fail, bad_argument, typename = tools.fail, tools.bad_argument, tools.typename
local byte, sub, char = string.byte, string.sub, string.char
local concat, floor, frexp, ldexp, huge = table.concat, math.floor, math.frexp, math.ldexp, math.huge
local next, type, tonumber, tostring, select, pcall, error, unpack = next, type, tonumber, tostring, select, pcall, error, unpack

local NESTING_MAX = 16
local TWO32, TWO63 = 4294967296, 9223372036854775808

local function big16(number)
  return char(floor(number / 256) % 256, number % 256)
end

local function big32(number)
  return char(floor(number / 16777216) % 256, floor(number / 65536) % 256, floor(number / 256) % 256, number % 256)
end

-- Return the two halves of an integer of 64 bits, in two's complement.
local function halves(number)
  local high = floor(number / TWO32)
  return high % TWO32, number - high * TWO32
end

-- --- floating point -------------------------------------------------------------------------------------------------------------

-- Return the bytes of a number with so many bits of exponent and mantissa, eight bits of it at a time.
local function float_bytes(number, exponent_bits, mantissa_bits)
  local bias = 2 ^ (exponent_bits - 1) - 1
  local sign = (number < 0 or 1 / number < 0) and 1 or 0
  if sign == 1 then number = -number end
  local exponent, mantissa
  if number ~= number then
    -- Only its text tells the sign of what is no number.
    sign, exponent, mantissa = byte(tostring(number), 1) == 45 and 1 or 0, 2 * bias + 1, 2 ^ (mantissa_bits - 1)
  elseif number == huge then
    exponent, mantissa = 2 * bias + 1, 0
  elseif number == 0 then
    exponent, mantissa = 0, 0
  else
    local fraction, power = frexp(number)
    exponent = power - 1 + bias
    if exponent > 0 then
      mantissa = (fraction * 2 - 1) * 2 ^ mantissa_bits
    else
      mantissa = ldexp(fraction, power + bias - 1 + mantissa_bits)
      exponent = 0
    end
  end
  local bytes, left = {}, mantissa
  local count = (1 + exponent_bits + mantissa_bits) / 8
  local head_bits = mantissa_bits % 8 -- of the mantissa in the second byte
  for position = count, 3, -1 do
    bytes[position] = char(left % 256)
    left = floor(left / 256)
  end
  local head = sign * 2 ^ exponent_bits + exponent -- 9 or 12 bits
  local word = head * 2 ^ head_bits + left
  bytes[1], bytes[2] = char(floor(word / 256)), char(word % 256)
  return concat(bytes)
end

local function float_of(text, at, exponent_bits, mantissa_bits)
  local count = (1 + exponent_bits + mantissa_bits) / 8
  local bias = 2 ^ (exponent_bits - 1) - 1
  local first, second = byte(text, at, at + 1)
  local word = first * 256 + second
  local head_bits = mantissa_bits % 8
  local head = floor(word / 2 ^ head_bits)
  local mantissa = word % 2 ^ head_bits
  for position = at + 2, at + count - 1 do mantissa = mantissa * 256 + byte(text, position) end
  local sign = head >= 2 ^ exponent_bits and -1 or 1
  local exponent = head % 2 ^ exponent_bits
  if exponent == 2 * bias + 1 then
    if mantissa == 0 then return sign * huge end
    return sign < 0 and 0 / 0 or -(0 / 0)
  end
  if exponent == 0 then return sign * ldexp(mantissa, 1 - bias - mantissa_bits) end
  return sign * ldexp(mantissa + 2 ^ mantissa_bits, exponent - bias - mantissa_bits)
end

-- Tell whether a number is the same as a float of 32 bits.
local function is_single(number)
  if number == 0 or number == huge or number == -huge then return true end
  if number ~= number then return false end
  local fraction, power = frexp(number)
  if power > 128 then return false end
  local scaled = power < -125 and ldexp(fraction, power + 149) or fraction * 16777216
  return scaled == floor(scaled)
end

-- --- writing --------------------------------------------------------------------------------------------------------------------

local function positive_text(number)
  if number <= 127 then return char(number) end
  if number <= 0xff then return '\204' .. char(number) end
  if number <= 0xffff then return '\205' .. big16(number) end
  if number <= 0xffffffff then return '\206' .. big32(number) end
  local high, low = halves(number)
  return '\207' .. big32(high) .. big32(low)
end

local function negative_text(number)
  if number >= -32 then return char(256 + number) end
  if number >= -128 then return '\208' .. char(256 + number) end
  if number >= -32768 then return '\209' .. big16(65536 + number) end
  if number >= -2147483648 then return '\210' .. big32(TWO32 + number) end
  local high, low = halves(number)
  return '\211' .. big32(high) .. big32(low)
end

local function number_text(number)
  if number >= -TWO63 and number < TWO63 and number == floor(number) then
    return number >= 0 and positive_text(number) or negative_text(number)
  end
  if is_single(number) then return '\202' .. float_bytes(number, 8, 23) end
  return '\203' .. float_bytes(number, 11, 52)
end

local function string_head(length)
  if length < 32 then return char(160 + length) end
  if length <= 0xff then return '\217' .. char(length) end
  if length <= 0xffff then return '\218' .. big16(length) end
  return '\219' .. big32(length)
end

local function list_head(length)
  if length <= 15 then return char(144 + length) end
  if length <= 0xffff then return '\220' .. big16(length) end
  return '\221' .. big32(length)
end

local function map_head(length)
  if length <= 15 then return char(128 + length) end
  if length <= 0xffff then return '\222' .. big16(length) end
  return '\223' .. big32(length)
end

-- Return (is it a list, how many elements it has).
local function measure(value)
  local most, count, is_list = 0, 0, true
  for key in next, value do
    count = count + 1
    if is_list then
      local number = type(key) == 'number' and key
      if not number or number < 1 or floor(number) ~= number then
        is_list = false
      elseif number > most then
        most = number
      end
    end
  end
  return is_list and most == count, count
end

local function put(out, value, level)
  local kind = type(value)
  if kind == 'string' then
    out[#out + 1] = string_head(#value)
    out[#out + 1] = value
  elseif kind == 'number' then
    out[#out + 1] = number_text(value)
  elseif kind == 'boolean' then
    out[#out + 1] = value and '\195' or '\194'
  elseif kind == 'table' and level < NESTING_MAX then
    local is_list, count = measure(value)
    if is_list then
      out[#out + 1] = list_head(count)
      for position = 1, count do put(out, value[position], level + 1) end
    else
      out[#out + 1] = map_head(count)
      for key, inner in next, value do
        put(out, key, level + 1)
        put(out, inner, level + 1)
      end
    end
  else
    out[#out + 1] = '\192'
  end
end

local library = {
  _NAME = 'cmsgpack', _VERSION = 'lua-cmsgpack 0.4.0', _COPYRIGHT = 'Copyright (C) 2012, Redis Ltd.',
  _DESCRIPTION = 'MessagePack C implementation for Lua',
}

function library.pack(...)
  local count = select('#', ...)
  if count == 0 then bad_argument(0, 'pack', 'MessagePack pack needs input.') end
  local out, values = {}, { ... }
  for position = 1, count do put(out, values[position], 0) end
  return concat(out)
end

-- --- reading --------------------------------------------------------------------------------------------------------------------

local BAD, SHORT = 'Bad data format in input.', 'Missing bytes in input.'

local function unsigned(text, at, count)
  local value = 0
  for position = at, at + count - 1 do value = value * 256 + byte(text, position) end
  return value
end

local function signed(text, at, count)
  local value = unsigned(text, at, count)
  local limit = 2 ^ (8 * count - 1)
  if value < limit then return value end
  if count < 8 then return value - 2 * limit end
  -- The halves apart: the whole would lose its last bits before the sign is taken off.
  return (unsigned(text, at, 4) - TWO32) * TWO32 + unsigned(text, at + 4, 4)
end

local function need(text, at, count)
  if at + count - 1 > #text then error({ cmsgpack = SHORT }, 0) end
end

local get

local function get_string(text, at, length)
  need(text, at, length)
  return sub(text, at, at + length - 1), at + length
end

local function get_list(text, at, count)
  local made = {}
  for position = 1, count do made[position], at = get(text, at) end
  return made, at
end

local function get_map(text, at, count)
  local made = {}
  for _ = 1, count do
    local key, value
    key, at = get(text, at)
    value, at = get(text, at)
    if key == nil then error('table index is nil', 0) end
    if key ~= key then error('table index is NaN', 0) end
    made[key] = value
  end
  return made, at
end

-- First byte -> (what to do, how many bytes say the number or the length).
local READERS = {}
for count, marks in pairs({ [1] = { 0xcc, 0xd0 }, [2] = { 0xcd, 0xd1 }, [4] = { 0xce, 0xd2 }, [8] = { 0xcf, 0xd3 } }) do
  READERS[marks[1]] = function(text, at)
    need(text, at, count)
    return unsigned(text, at, count), at + count
  end
  READERS[marks[2]] = function(text, at)
    need(text, at, count)
    return signed(text, at, count), at + count
  end
end
local function sized(work, count)
  return function(text, at)
    need(text, at, count)
    return work(text, at + count, unsigned(text, at, count))
  end
end
READERS[0xcf] = READERS[0xd3] -- Lua's integers have a sign
READERS[0xd9], READERS[0xda], READERS[0xdb] = sized(get_string, 1), sized(get_string, 2), sized(get_string, 4)
READERS[0xdc], READERS[0xdd] = sized(get_list, 2), sized(get_list, 4)
READERS[0xde], READERS[0xdf] = sized(get_map, 2), sized(get_map, 4)
READERS[0xc0] = function(_, at) return nil, at end
READERS[0xc2] = function(_, at) return false, at end
READERS[0xc3] = function(_, at) return true, at end
READERS[0xca] = function(text, at)
  need(text, at, 4)
  return float_of(text, at, 8, 23), at + 4
end
READERS[0xcb] = function(text, at)
  need(text, at, 8)
  return float_of(text, at, 11, 52), at + 8
end

-- Return the value that begins at an index, and the index after it.
get = function(text, at)
  local mark = byte(text, at)
  if not mark then error({ cmsgpack = SHORT }, 0) end
  at = at + 1
  if mark < 0x80 then return mark, at end
  if mark >= 0xe0 then return mark - 256, at end
  if mark < 0x90 then return get_map(text, at, mark - 0x80) end
  if mark < 0xa0 then return get_list(text, at, mark - 0x90) end
  if mark < 0xc0 then return get_string(text, at, mark - 0xa0) end
  local reader = READERS[mark]
  if not reader then error({ cmsgpack = BAD }, 0) end
  return reader(text, at)
end

local function get_all(text, limit, offset)
  local made, count, at = {}, 0, offset + 1
  while at <= #text and count < limit do
    count = count + 1
    made[count], at = get(text, at)
  end
  return made, count, at
end

-- Return (values, how many, the offset after them, nothing left).
local function unpack_from(name, text, limit, offset)
  if limit < 0 or offset < 0 then
    fail('Invalid request to unpack with offset of ' .. offset .. ' and limit of ' .. #text .. '.')
  end
  if offset > #text then fail('Start offset ' .. offset .. ' greater than input length ' .. #text .. '.') end
  if limit == 0 and offset == 0 then limit = huge end
  local ok, made, count, at = pcall(get_all, text, limit, offset)
  if not ok then
    if type(made) == 'table' and made.cmsgpack then fail(made.cmsgpack) end
    error(made, 0)
  end
  return made, count, at - 1
end

local function text_argument(name, ...)
  local text = ...
  if type(text) == 'number' then text = tostring(text) end
  if type(text) ~= 'string' then bad_argument(1, name, 'string expected, got ' .. typename(...)) end
  return text
end

local function integer_argument(position, name, default, ...)
  local value = ...
  if value == nil and default then return default end
  local number = tonumber(value)
  if not number then bad_argument(position, name, 'number expected, got ' .. typename(...)) end
  return number < 0 and -floor(-number) or floor(number)
end

function library.unpack(...)
  local made, count = unpack_from('unpack', text_argument('unpack', ...), 0, 0)
  return unpack(made, 1, count)
end

-- The offset after what was read comes first, -1 at the end; not so where limit and offset are 0, which asks for everything.
local function partly(name, text, limit, offset)
  local made, count, after = unpack_from(name, text, limit, offset)
  if limit == 0 and offset == 0 then return unpack(made, 1, count) end
  return after >= #text and -1 or after, unpack(made, 1, count)
end

function library.unpack_one(...)
  local offset = integer_argument(2, 'unpack_one', 0, select(2, ...))
  return partly('unpack_one', text_argument('unpack_one', ...), 1, offset)
end

function library.unpack_limit(...)
  local limit = integer_argument(2, 'unpack_limit', nil, select(2, ...))
  local offset = integer_argument(3, 'unpack_limit', 0, select(3, ...))
  return partly('unpack_limit', text_argument('unpack_limit', ...), limit, offset)
end

tools.float_bytes, tools.float_of = float_bytes, float_of
return library
