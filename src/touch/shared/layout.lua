-- How touches lie in Redis, for all scripts of the index.
--
-- A visitor's day is a byte string of records, kept in fields of at most 64 bytes (`visitor`, `visitor` .. 1, ...) of a
-- hash that it shares with other visitors of the day: a hash of up to 128 such fields is one block of memory, where a
-- key of its own would cost a hundred bytes. Beyond 256 bytes the day moves into a hash of its own, a field for each
-- click ID, and a byte 0 stays in its place; a byte 1 behind it says that touches were left out.
--
-- How many hashes share a day is its `depth`: 2^depth. A day begins with what the day before it needed and goes two
-- deeper when its hashes fill up; what lies in the shallower ones stays there. `g` tells of each day when it expires and
-- its depths with their fields, the deepest last.
--
-- A record: a byte (length of the ID, and 32, 64, 128 for each label that follows), the ID, and each label with a byte
-- of length before it.
local PART, WHOLE = 64, 256
local call, tag = redis.call, ARGV[1]

local function read_day(text)
  local expires, list = text:match('^(%d+);(.*)$')
  local day = { expires = tonumber(expires), levels = {} }
  for depth, count in list:gmatch('(%d+):(%d+)') do
    day.levels[#day.levels + 1] = { tonumber(depth), tonumber(count) }
  end
  return day
end

local function group_key(number, depth, visitor)
  local a, b, c = visitor:byte(6, 8)
  local group = (a * 65536 + b * 256 + c) % 2 ^ depth
  return 't:' .. tag .. ':' .. number .. ':' .. depth .. ':' .. group, group
end

local function own_key(number, visitor)
  return 'v:' .. tag .. ':' .. number .. ':' .. visitor
end

-- The key, first field and level in which a visitor's day is, the deepest first.
local function look(number, day, visitor)
  for level = #day.levels, 1, -1 do
    local key = group_key(number, day.levels[level][1], visitor)
    local value = call('HGET', key, visitor)
    if value then
      return key, value, level
    end
  end
end

-- All of a visitor's day, given its first field.
local function whole(key, visitor, value)
  local text, part = value, 0
  while #value == PART do
    part = part + 1
    value = call('HGET', key, visitor .. string.char(part))
    if not value then
      break
    end
    text = text .. value
  end
  return text
end

-- The records of a visitor's day, each as {ID, head with labels}.
local function records(text)
  local at, all = 1, {}
  while at <= #text do
    local head = text:byte(at)
    local id = text:sub(at + 1, at + head % 32)
    local begins = at + 1 + #id
    at = begins
    for _ = 1, ({ [0] = 0, 1, 1, 2, 1, 2, 2, 3 })[math.floor(head / 32)] do
      at = at + 1 + text:byte(at)
    end
    -- Labels keep their head; a touch without labels has an empty value.
    all[#all + 1] = { id, at > begins and string.char(head) .. text:sub(begins, at - 1) or '' }
  end
  return all
end
