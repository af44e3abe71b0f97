-- The library struct: numbers and strings as the bytes of C, by a format.
--
--   > < =   byte order: big, little      b B h H l L T   integers of 1, 2, 8 and 8 bytes, small letters with a sign
--   !n      alignment, a power of 2      i In            integers of 4 or n bytes, up to 32
--   x       a byte of padding            f d             floating point
--   s       a string and its NUL         cn c0           n bytes; as many as the string has, or as the number before says

local tools = ...
local fail, bad_argument, typename = tools.fail, tools.bad_argument, tools.typename
local byte, sub, char, find, rep, reverse = string.byte, string.sub, string.char, string.find, string.rep, string.reverse
local concat, floor, frexp, huge = table.concat, math.floor, math.frexp, math.huge
local type, tonumber, tostring, select, unpack = type, tonumber, tostring, select, unpack

local SIZES = { b = 1, B = 1, h = 2, H = 2, l = 8, L = 8, T = 8, f = 4, d = 8, x = 1 }
local INTEGERS = { b = true, B = false, h = true, H = false, l = true, L = false, T = false, i = true, I = false } -- with a sign?
local SIZE_MAX, ALIGN_DEFAULT, INT_MAX = 32, 8, 2147483647
local TWO63, TWO64 = 9223372036854775808, 18446744073709551616
local INTEGER_BYTES = 8 -- of a number

-- Where a format is read, and what it has set so far.
local function open(name, format)
  return { name = name, format = format, at = 1, little = true, align = 1 }
end

local function number_after(state, default)
  local first, last = find(state.format, '^%d+', state.at)
  if not first then return default end
  local number = tonumber(sub(state.format, first, last))
  if number > INT_MAX then fail('integral size overflow') end
  state.at = last + 1
  return number
end

-- Return the next option and its size in bytes, 0 if it has none.
local function option(state)
  local letter = sub(state.format, state.at, state.at)
  state.at = state.at + 1
  if letter == 'c' then return letter, number_after(state, 1) end
  if letter == 'i' or letter == 'I' then
    local size = number_after(state, 4)
    if size > SIZE_MAX then fail('integral size ' .. size .. ' is larger than limit of ' .. SIZE_MAX) end
    return letter, size
  end
  return letter, SIZES[letter] or 0
end

local function is_power_of_two(number)
  while number > 1 and number % 2 == 0 do number = number / 2 end
  return number == 1
end

local function control(state, letter)
  if letter == ' ' then return end
  if letter == '>' or letter == '<' then
    state.little = letter == '<'
  elseif letter == '!' then
    local align = number_after(state, ALIGN_DEFAULT)
    if not is_power_of_two(align) then fail('alignment ' .. align .. ' is not a power of 2') end
    state.align = align
  else
    bad_argument(1, state.name, "invalid format option '" .. letter .. "'")
  end
end

-- Return how many bytes come before an option of this size.
local function padding(state, length, letter, size)
  if size == 0 or letter == 'c' then return 0 end
  if size > state.align then size = state.align end
  -- as with masks: for sizes that are no power of 2 too
  local mask = size - 1
  local low = is_power_of_two(size) and length % size or tools.host.band(length, mask)
  return is_power_of_two(size) and (size - low) % size or tools.host.band(size - low, mask)
end

local function ordered(state, bytes)
  return state.little and bytes or reverse(bytes)
end

-- Return an integer's lowest bytes, little end first.
local function integer_bytes(number, size)
  if number ~= number or number >= TWO64 or number < -TWO63 then
    number = (number ~= number or number < 0) and TWO63 or 0 -- what the processor gives for what has no 64 bits
  end
  number = number < 0 and -floor(-number) or floor(number)
  local made = {}
  local high = floor(number / 4294967296)
  local low = number - high * 4294967296
  high = high % 4294967296
  for position = 1, size < INTEGER_BYTES and size or INTEGER_BYTES do
    local half = position <= 4 and low or high
    local shift = 256 ^ ((position - 1) % 4)
    made[position] = char(floor(half / shift) % 256)
  end
  -- C shifts the 64 bits out: what is left is nothing, whatever the sign.
  return concat(made) .. rep('\0', size - INTEGER_BYTES)
end

local function string_argument(position, name, ...)
  local value = ...
  if type(value) == 'number' then value = tostring(value) end
  if type(value) ~= 'string' then bad_argument(position, name, 'string expected, got ' .. typename(...)) end
  return value
end

local function number_argument(position, name, ...)
  local number = type((...)) ~= 'table' and tonumber((...))
  if not number then bad_argument(position, name, 'number expected, got ' .. typename(...)) end
  return number
end

local library = {}

-- Return a double as the nearest float: half of the last bit to the even one.
local function to_single(number)
  if number == 0 or number ~= number or number == huge or number == -huge then return number end
  local _, power = frexp(number)
  local unit = 2 ^ ((power < -125 and -125 or power) - 24)
  local scaled = number / unit
  local rounded = scaled + 6755399441055744 - 6755399441055744
  local made = rounded * unit
  if made == 0 and number < 0 then return -made end -- too small to be anything, it keeps its sign
  if made >= 2 ^ 128 then return huge end
  if made <= -2 ^ 128 then return -huge end
  return made
end

function library.pack(...)
  local format = string_argument(1, 'pack', ...)
  local state, out, total, argument = open('pack', format), {}, 0, 2
  local words = { ... }
  local function put(bytes)
    out[#out + 1] = bytes
    total = total + #bytes
  end
  while state.at <= #format and byte(format, state.at) ~= 0 do
    local letter, size = option(state)
    put(rep('\0', padding(state, total, letter, size)))
    if INTEGERS[letter] ~= nil then
      put(ordered(state, integer_bytes(number_argument(argument, 'pack', words[argument]), size)))
      argument = argument + 1
    elseif letter == 'x' then
      put('\0')
    elseif letter == 'f' or letter == 'd' then
      local number = number_argument(argument, 'pack', words[argument])
      argument = argument + 1
      local bytes = letter == 'f' and tools.float_bytes(to_single(number), 8, 23) or tools.float_bytes(number, 11, 52)
      put(ordered(state, reverse(bytes)))
    elseif letter == 'c' or letter == 's' then
      local text = string_argument(argument, 'pack', words[argument])
      argument = argument + 1
      if size == 0 then size = #text end
      if #text < size then bad_argument(argument, 'pack', 'string too short') end
      put(sub(text, 1, size))
      if letter == 's' then put('\0') end
    else
      control(state, letter)
    end
  end
  return concat(out)
end

local function read_integer(bytes, has_sign)
  local size = #bytes
  local count = size < INTEGER_BYTES and size or INTEGER_BYTES
  local low, high = 0, 0
  for position = count, 1, -1 do
    if position > 4 then high = high * 256 + byte(bytes, position) else low = low * 256 + byte(bytes, position) end
  end
  if has_sign and size > 0 and size <= INTEGER_BYTES and byte(bytes, size) >= 128 then
    if size > 4 then high = high - 256 ^ (size - 4) else low = low - 256 ^ size end
  elseif has_sign and size > INTEGER_BYTES then
    -- The processor takes the bit of the sign modulo 64, and any bit from there on for it.
    local bit = (size * 8 - 1) % 64
    if bit < 32 and (high > 0 or low >= 2 ^ bit) then
      low, high = low % 2 ^ bit - 2 ^ bit, 0
    elseif bit >= 32 and high >= 2 ^ (bit - 32) then
      high = high % 2 ^ (bit - 32) - 2 ^ (bit - 32)
    end
  end
  return high * 4294967296 + low
end

function library.unpack(...)
  local format = string_argument(1, 'unpack', ...)
  local data = string_argument(2, 'unpack', select(2, ...))
  local _, _, from = ...
  local position = from == nil and 0 or floor(number_argument(3, 'unpack', from)) - 1
  if position == -1 then bad_argument(3, 'unpack', 'offset must be 1 or greater') end
  if position < 0 then position = huge end -- an unsigned number in C
  local state, made, count = open('unpack', format), {}, 0
  local function check(size)
    if size > #data or position > #data - size then bad_argument(2, 'unpack', 'data string too short') end
  end
  while state.at <= #format and byte(format, state.at) ~= 0 do
    local letter, size = option(state)
    if position ~= huge then position = position + padding(state, position, letter, size) end
    check(size)
    local value
    if INTEGERS[letter] ~= nil then
      value = read_integer(ordered(state, sub(data, position + 1, position + size)), INTEGERS[letter])
    elseif letter == 'f' or letter == 'd' then
      local bytes = ordered(state, sub(data, position + 1, position + size))
      value = letter == 'f' and tools.float_of(reverse(bytes), 1, 8, 23) or tools.float_of(reverse(bytes), 1, 11, 52)
    elseif letter == 'c' then
      if size == 0 then
        local before = count > 0 and tonumber(made[count])
        if not before then fail("format 'c0' needs a previous size") end
        size = floor(before)
        made[count] = nil
        count = count - 1
        if size < 0 then size = huge end
        check(size)
      end
      value = sub(data, position + 1, position + size)
    elseif letter == 's' then
      local last = find(data, '%z', position + 1)
      if not last then fail('unfinished string in data') end
      value = sub(data, position + 1, last - 1)
      size = last - position
    elseif letter ~= 'x' then
      control(state, letter)
    end
    if value ~= nil then
      count = count + 1
      made[count] = value
    end
    position = position + size
  end
  made[count + 1] = position + 1
  return unpack(made, 1, count + 1)
end

function library.size(...)
  local format = string_argument(1, 'size', ...)
  local state, total = open('size', format), 0
  while state.at <= #format and byte(format, state.at) ~= 0 do
    local letter, size = option(state)
    total = total + padding(state, total, letter, size)
    if letter == 's' then bad_argument(1, 'size', "option 's' has no fixed size") end
    if letter == 'c' and size == 0 then bad_argument(1, 'size', "option 'c0' has no fixed size") end
    if not find(letter, '^%w') then control(state, letter) end
    total = total + size
  end
  return total
end

return library
