-- The library cjson: JSON, as lua-cjson 2.1.0 in Redis reads and writes it, error texts included.
--
-- Writing goes by Lua type; a table is a list if all its keys are positive integers and it is not too sparse, else an object.
-- Reading is one pass with an index: `skip` finds the next token, and what is told of a token that is not expected is its
-- name, or why it is none (`describe`), and where it begins.

local tools = ...
local fail, bad_argument, typename, null = tools.fail, tools.bad_argument, tools.typename, tools.null
local byte, sub, find, format, gsub, char, lower = string.byte, string.sub, string.find, string.format, string.gsub, string.char, string.lower
local concat, floor, huge = table.concat, math.floor, math.huge
local next, type, tonumber, tostring, rawget, select, pcall, error = next, type, tonumber, tostring, rawget, select, pcall, error

local ESCAPES = {
  ['"'] = '\\"', ['\\'] = '\\\\', ['/'] = '\\/', ['\b'] = '\\b', ['\f'] = '\\f', ['\n'] = '\\n', ['\r'] = '\\r', ['\t'] = '\\t',
  ['\127'] = '\\u007f',
}
for code = 0, 31 do
  local one = char(code)
  ESCAPES[one] = ESCAPES[one] or format('\\u%04x', code)
end
local ESCAPED = { ['"'] = '"', ['\\'] = '\\', ['/'] = '/', b = '\b', f = '\f', n = '\n', r = '\r', t = '\t' }
local PRECISION_MAX = 14
local INTEGER_MIN, INTEGER_MAX = -2147483648, 2147483647
local UNSAFE = '[%z\1-\31"\\/\127]'

-- --- writing --------------------------------------------------------------------------------------------------------------------

local function refuse(value, reason)
  error({ cjson = 'Cannot serialise ' .. type(value) .. ': ' .. reason }, 0)
end

local function quoted(text)
  if find(text, UNSAFE) then text = gsub(text, UNSAFE, ESCAPES) end
  return '"' .. text .. '"'
end

local function number_text(settings, number)
  if number ~= number or number == huge or number == -huge then
    if settings.encode_invalid == 'null' then return 'null' end
    if not settings.encode_invalid then refuse(number, 'must not be NaN or Inf') end
    if number ~= number then return 'nan' end
  end
  return format(settings.number_format, number)
end

-- Return the length of a table as a list, nil if it is an object.
local function list_length(settings, value)
  local most, count = 0, 0
  for key in next, value do
    if type(key) ~= 'number' or key < 1 or floor(key) ~= key then return nil end
    if key > most then most = key <= INTEGER_MAX and key or INTEGER_MIN end -- as an int of C
    count = count + 1
  end
  if settings.sparse_ratio > 0 and most > count * settings.sparse_ratio and most > settings.sparse_safe then
    if not settings.sparse_convert then refuse(value, 'excessively sparse array') end
    return nil
  end
  return most > 0 and most or nil
end

local function encoder(settings)
  local out, length

  local function put(text)
    length = length + 1
    out[length] = text
  end

  local encode

  local function encode_list(value, count, depth)
    put('[')
    for position = 1, count do
      if position > 1 then put(',') end
      encode(rawget(value, position), depth)
    end
    put(']')
  end

  local function encode_object(value, depth)
    put('{')
    local comma = false
    for key, inner in next, value do
      if comma then put(',') end
      comma = true
      if type(key) == 'string' then
        put(quoted(key))
      elseif type(key) == 'number' then
        put('"' .. number_text(settings, key) .. '"')
      else
        refuse(key, 'table key must be a number or string')
      end
      put(':')
      encode(inner, depth)
    end
    put('}')
  end

  encode = function(value, depth)
    local kind = type(value)
    if kind == 'string' then
      put(quoted(value))
    elseif kind == 'number' then
      put(number_text(settings, value))
    elseif kind == 'boolean' then
      put(value and 'true' or 'false')
    elseif value == nil or value == null then
      put('null')
    elseif kind == 'table' then
      depth = depth + 1
      if depth > settings.encode_depth then error({ cjson = 'Cannot serialise, excessive nesting (' .. depth .. ')' }, 0) end
      local count = list_length(settings, value)
      if count then encode_list(value, count, depth) else encode_object(value, depth) end
    else
      refuse(value, 'type not supported')
    end
  end

  return function(...)
    if select('#', ...) ~= 1 then bad_argument(1, 'encode', 'expected 1 argument') end
    out, length = {}, 0
    local ok, problem = pcall(encode, (...), 0)
    local made = out
    out = nil
    if not ok then
      if type(problem) == 'table' and problem.cjson then fail(problem.cjson) end
      error(problem, 0)
    end
    return concat(made)
  end
end

-- --- reading --------------------------------------------------------------------------------------------------------------------

local NAMES = {
  ['{'] = 'T_OBJ_BEGIN', ['}'] = 'T_OBJ_END', ['['] = 'T_ARR_BEGIN', [']'] = 'T_ARR_END', [':'] = 'T_COLON', [','] = 'T_COMMA',
  ['"'] = 'T_STRING', t = 'T_BOOLEAN', f = 'T_BOOLEAN', n = 'T_NULL', ['0'] = 'T_NUMBER', [''] = 'T_END',
}

local function invalid_number(text, at)
  if sub(text, at, at) == '+' then return true end
  local digits = sub(text, at, at) == '-' and at + 1 or at
  local first = sub(text, digits, digits)
  if first == '0' then return find(text, '^[xX0-9]', digits + 1) ~= nil end
  if first <= '9' then return false end
  local word = lower(sub(text, digits, digits + 2))
  return word == 'inf' or word == 'nan'
end

-- Return the number that begins at an index as strtod reads it, and the index after it; nil if none begins there.
local function read_number(text, at)
  local _, last = find(text, '^[+-]?%d+%.?%d*', at)
  if not last then _, last = find(text, '^[+-]?%.%d+', at) end
  local _, hex = find(text, '^[+-]?0[xX]%x+%.?%x*', at)
  if not hex then _, hex = find(text, '^[+-]?0[xX]%.%x+', at) end
  last = hex or last
  if last then
    local _, exponent = find(text, hex and '^[pP][+-]?%d+' or '^[eE][+-]?%d+', last + 1)
    last = exponent or last
    return tonumber(sub(text, at, last)), last + 1
  end
  local _, start = find(text, '^[+-]?', at)
  local negative = sub(text, at, at) == '-'
  local word = lower(sub(text, start + 1, start + 8))
  if sub(word, 1, 3) == 'nan' then return negative and 0 / 0 or -(0 / 0), start + 4 end
  if sub(word, 1, 3) == 'inf' then return negative and -huge or huge, start + (word == 'infinity' and 9 or 4) end
  return nil
end

local function utf8(code)
  if code < 128 then return char(code) end
  if code < 2048 then return char(192 + floor(code / 64), 128 + code % 64) end
  if code < 65536 then return char(224 + floor(code / 4096), 128 + floor(code / 64) % 64, 128 + code % 64) end
  return char(240 + floor(code / 262144), 128 + floor(code / 4096) % 64, 128 + floor(code / 64) % 64, 128 + code % 64)
end

local function hex4(text, at)
  local digits = sub(text, at, at + 3)
  return find(digits, '^%x%x%x%x$') and tonumber(digits, 16) or nil
end

-- Return what the escape \u at an index means, and the index after it; nil if nothing.
local function read_unicode(text, at)
  local code = hex4(text, at + 2)
  if not code then return nil end
  if code < 0xD800 or code > 0xDFFF then return utf8(code), at + 6 end
  if code >= 0xDC00 or sub(text, at + 6, at + 7) ~= '\\u' then return nil end
  local second = hex4(text, at + 8)
  if not second or second < 0xDC00 or second > 0xDFFF then return nil end
  return utf8((code - 0xD800) * 1024 + (second - 0xDC00) + 0x10000), at + 12
end

-- Return (token, its value, index after it, its index). The token is the key of its name in NAMES, nil with the reason if it is none.
local function decoder(settings)
  local text, length

  local function read_string(at)
    local plain = find(text, '["\\%z]', at)
    if plain and byte(text, plain) == 34 then return '"', sub(text, at, plain - 1), plain + 1 end
    local parts, count, position = {}, 0, at
    while true do
      local stop = find(text, '["\\%z]', position)
      if not stop or byte(text, stop) == 0 then return nil, 'unexpected end of string', nil, stop or length + 1 end
      count = count + 1
      parts[count] = sub(text, position, stop - 1)
      if byte(text, stop) == 34 then return '"', concat(parts), stop + 1 end
      local mark = sub(text, stop + 1, stop + 1)
      local meant = ESCAPED[mark]
      if mark == 'u' then
        meant, position = read_unicode(text, stop)
        if not meant then return nil, 'invalid unicode escape code', nil, stop end
      else
        if not meant then return nil, 'invalid escape code', nil, stop end
        position = stop + 2
      end
      count = count + 1
      parts[count] = meant
    end
  end

  local function token(at)
    at = find(text, '[^ \t\r\n]', at) or length + 1
    local mark = sub(text, at, at)
    if mark == '\0' then mark = '' end -- a C string ends there
    if mark == '"' then
      local kind, value, after, wrong_at = read_string(at + 1)
      return kind, value, after, wrong_at or at
    end
    if find(mark, '^[-0-9]') then
      if not settings.decode_invalid and invalid_number(text, at) then return nil, 'invalid number', nil, at end
      local value, after = read_number(text, at)
      if not value then return nil, 'invalid number', nil, at end
      return '0', value, after, at
    end
    if mark == 't' and sub(text, at, at + 3) == 'true' then return 't', true, at + 4, at end
    if mark == 'f' and sub(text, at, at + 4) == 'false' then return 'f', false, at + 5, at end
    if mark == 'n' and sub(text, at, at + 3) == 'null' then return 'n', null, at + 4, at end
    if find(mark, '^[{}%[%]:,]') or mark == '' then return mark, nil, at + 1, at end
    if settings.decode_invalid and find(mark, '^[+iInN]') and invalid_number(text, at) then
      local value, after = read_number(text, at)
      if not value then return nil, 'invalid number', nil, at end
      return '0', value, after, at
    end
    return nil, 'invalid token', nil, at
  end

  local function wrong(expected, kind, value, at)
    local found = kind and NAMES[kind] or value
    error({ cjson = 'Expected ' .. expected .. ' but found ' .. found .. ' at character ' .. at }, 0)
  end

  local value_of

  local function deeper(depth, at)
    if depth > settings.decode_depth then
      error({ cjson = 'Found too many nested data structures (' .. depth .. ') at character ' .. at }, 0)
    end
  end

  local function read_object(after, depth)
    deeper(depth, after - 1)
    local made = {}
    local kind, value, at
    kind, value, after, at = token(after)
    if kind == '}' then return made, after end
    while true do
      if kind ~= '"' then wrong('object key string', kind, value, at) end
      local key = value
      kind, value, after, at = token(after)
      if kind ~= ':' then wrong('colon', kind, value, at) end
      made[key], after = value_of(depth, token(after))
      kind, value, after, at = token(after)
      if kind == '}' then return made, after end
      if kind ~= ',' then wrong('comma or object end', kind, value, at) end
      kind, value, after, at = token(after)
    end
  end

  local function read_list(after, depth)
    deeper(depth, after - 1)
    local made, count = {}, 0
    local kind, value, at, next_after
    kind, value, next_after, at = token(after)
    if kind == ']' then return made, next_after end
    while true do
      count = count + 1
      made[count], after = value_of(depth, kind, value, next_after, at)
      kind, value, after, at = token(after)
      if kind == ']' then return made, after end
      if kind ~= ',' then wrong('comma or array end', kind, value, at) end
      kind, value, next_after, at = token(after)
    end
  end

  value_of = function(depth, kind, value, after, at)
    if kind == '"' or kind == '0' or kind == 't' or kind == 'f' or kind == 'n' then return value, after end
    if kind == '{' then return read_object(after, depth + 1) end
    if kind == '[' then return read_list(after, depth + 1) end
    return wrong('value', kind, value, at)
  end

  local function read_all()
    local made, after = value_of(0, token(1))
    local kind, value, _, at = token(after)
    if kind ~= '' then wrong('the end', kind, value, at) end
    return made
  end

  return function(...)
    if select('#', ...) ~= 1 then bad_argument(1, 'decode', 'expected 1 argument') end
    local given = ...
    if type(given) == 'number' then given = tostring(given) end
    if type(given) ~= 'string' then bad_argument(1, 'decode', 'string expected, got ' .. typename(...)) end
    if #given >= 2 and (byte(given, 1) == 0 or byte(given, 2) == 0) then
      fail('JSON parser does not support UTF-16 or UTF-32')
    end
    text, length = given, #given
    local ok, made = pcall(read_all)
    text = nil
    if not ok then
      if type(made) == 'table' and made.cjson then fail(made.cjson) end
      error(made, 0)
    end
    return made
  end
end

-- --- settings -------------------------------------------------------------------------------------------------------------------

local function integer_setting(settings, name, field, least, most, position)
  return function(...)
    local value = ...
    if select('#', ...) > 1 then bad_argument(2, name, 'found too many arguments') end
    if value ~= nil then
      local number = tonumber(value)
      if not number then bad_argument(position, name, 'number expected, got ' .. type(value)) end
      number = number < 0 and -floor(-number) or floor(number)
      number = (number + 2147483648) % 4294967296 - 2147483648 -- as an int of C
      if number < least or number > most then
        bad_argument(1, name, 'expected integer between ' .. least .. ' and ' .. format('%d', most))
      end
      settings[field] = number
      if field == 'precision' then settings.number_format = '%.' .. number .. 'g' end
    end
    return settings[field]
  end
end

local function choice_setting(settings, name, field, choices)
  return function(...)
    local value = ...
    if select('#', ...) > 1 then bad_argument(2, name, 'found too many arguments') end
    if value ~= nil then
      if type(value) == 'boolean' then
        settings[field] = value
      elseif choices[value] ~= nil then
        settings[field] = choices[value]
      elseif type(value) ~= 'string' and type(value) ~= 'number' then
        bad_argument(1, name, 'string expected, got ' .. type(value))
      else
        bad_argument(1, name, "invalid option '" .. value .. "'")
      end
    end
    return settings[field]
  end
end

local new
new = function()
  local settings = {
    encode_depth = 1000, decode_depth = 1000, sparse_convert = false, sparse_ratio = 2, sparse_safe = 10, precision = PRECISION_MAX,
    number_format = '%.14g', encode_invalid = false, decode_invalid = true, keep_buffer = true,
  }
  local library = {
    null = null, _NAME = 'cjson', _VERSION = '2.1.0', new = new,
    encode = encoder(settings), decode = decoder(settings),
    encode_max_depth = integer_setting(settings, 'encode_max_depth', 'encode_depth', 1, INTEGER_MAX, 1),
    decode_max_depth = integer_setting(settings, 'decode_max_depth', 'decode_depth', 1, INTEGER_MAX, 1),
    encode_number_precision = integer_setting(settings, 'encode_number_precision', 'precision', 1, PRECISION_MAX, 1),
    encode_keep_buffer = choice_setting(settings, 'encode_keep_buffer', 'keep_buffer', { off = false, on = true }),
    encode_invalid_numbers = choice_setting(
      settings, 'encode_invalid_numbers', 'encode_invalid', { off = false, on = true, null = 'null' }
    ),
    decode_invalid_numbers = choice_setting(settings, 'decode_invalid_numbers', 'decode_invalid', { off = false, on = true }),
  }
  local ratio = integer_setting(settings, 'encode_sparse_array', 'sparse_ratio', 0, INTEGER_MAX, 2)
  local safe = integer_setting(settings, 'encode_sparse_array', 'sparse_safe', 0, INTEGER_MAX, 3)
  local convert = choice_setting(settings, 'encode_sparse_array', 'sparse_convert', { off = false, on = true })
  function library.encode_sparse_array(...)
    local convert_to, ratio_to, safe_to = ...
    if select('#', ...) > 3 then bad_argument(4, 'encode_sparse_array', 'found too many arguments') end
    return convert(convert_to), ratio(ratio_to), safe(safe_to)
  end
  return library
end

return new()
