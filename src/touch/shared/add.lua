-- Adds touches and moves the position of a partition, if it is what the writer believes.
-- KEYS: w, g. ARGV: tag, partition, from, to, the mark of the part before this one, the mark that this part leaves,
-- alone, most of a visitor and day, kept seconds, and of each touch its day, visitor and record. Answers {1, touches left
-- out} or {0}.
--
-- What one script should not write at once comes in parts. Each leaves its mark behind the position, and only where that
-- stands the next goes on: a part that was lost in between, with the position unchanged, would be a hole.
local stands = call('HGET', KEYS[1], ARGV[2]) or ''
local base, mark = stands:match('^([^+]*)%+?(.*)$')
local from, to = ARGV[3], ARGV[4]
local function next_of(position)
  return tonumber(position:match('^%d+') or -1)
end
-- Of several buckets one may be ahead of the others, as it was written before a crash. It gets all of it again.
local ahead = ARGV[7] == '0' and next_of(base) > next_of(from)
if ARGV[5] ~= '' then
  if mark ~= ARGV[5] then
    return { 0 }
  end
elseif base ~= from and base ~= to and not ahead then
  return { 0 }
end

local most, kept = tonumber(ARGV[8]), tonumber(ARGV[9])
local now = tonumber(call('TIME')[1])
local days, left_out = {}, 0
local DAY, FILL, AIM = 86400, 80, 40

local function begin_day(number)
  -- Days that are over are forgotten when a new one begins.
  local known = call('HGETALL', KEYS[2])
  for at = 1, #known, 2 do
    if read_day(known[at + 1]).expires < now - DAY then
      call('HDEL', KEYS[2], known[at])
    end
  end
  local fields, depth = 0, 0
  local before = call('HGET', KEYS[2], string.format('%d', number - 1))
  if before then
    for _, level in ipairs(read_day(before).levels) do
      fields = fields + level[2]
    end
  end
  while 2 ^ depth * AIM < fields and depth < 24 do
    depth = depth + 1
  end
  -- A click from the future goes when one of today would, but for the two days that a clock may be wrong.
  local expires = math.min((number + 1) * DAY, now + 2 * DAY) + kept
  return { expires = expires, levels = { { depth, 0 } } }
end

local function day_of(number)
  local day = days[number]
  if not day then
    local text = call('HGET', KEYS[2], number)
    day = text and read_day(text)
    if not day or day.expires <= now then
      day = begin_day(tonumber(number))
    end
    days[number] = day
  end
  return day
end

-- Writes a visitor's day from the first part that is new or longer.
local function write(key, visitor, text, first, level)
  local new = 0
  for part = first, math.floor((#text - 1) / PART) do
    local field = part == 0 and visitor or visitor .. string.char(part)
    new = new + call('HSET', key, field, text:sub(part * PART + 1, part * PART + PART))
  end
  level[2] = level[2] + new
  return new
end

-- Over an hour, so that not all of a day goes at once.
local function expire(key, day, spread)
  call('EXPIREAT', key, string.format('%d', day.expires + spread % 3600))
end

local function add_own(own, key, visitor, id, value)
  if call('HEXISTS', own, id) == 1 then
    return
  end
  if call('HLEN', own) >= most then
    call('HSET', key, visitor, '\0\1')
    left_out = left_out + 1
  else
    call('HSET', own, id, value)
  end
end

local function move_out(own, day, key, visitor, text)
  for _, record in ipairs(records(text)) do
    call('HSET', own, record[1], record[2])
  end
  for part = 1, math.floor((#text - 1) / PART) do
    call('HDEL', key, visitor .. string.char(part))
  end
  call('HSET', key, visitor, '\0')
end

local function add(number, visitor, record)
  local day = day_of(number)
  if day.expires <= now then
    return
  end
  local key, value, at = look(number, day, visitor)
  local text, level = '', day.levels[at or #day.levels]
  if value then
    text = value:byte(1) == 0 and value or whole(key, visitor, value)
  else
    local group
    key, group = group_key(number, level[1], visitor)
    if #record <= WHOLE then
      if call('HLEN', key) == 0 then
        write(key, visitor, record, 0, level)
        expire(key, day, group)
      else
        write(key, visitor, record, 0, level)
      end
    else
      write(key, visitor, '\0', 0, level)
      expire(key, day, group)
      value, text = '\0', '\0'
    end
  end
  if value then
    local id = record:sub(2, 1 + record:byte(1) % 32)
    local own = own_key(number, visitor)
    local own_already = text:byte(1) == 0
    if not own_already then
      -- An ID is signed: its bytes stand nowhere else.
      if text:find(id, 1, true) then
        return
      end
      -- A record has more than 18 bytes.
      local many = most * 18 < WHOLE and #records(text) >= most
      if #text + #record <= WHOLE and not many then
        write(key, visitor, text .. record, math.floor(#text / PART), level)
        return
      end
      move_out(own, day, key, visitor, text)
    end
    add_own(own, key, visitor, id, records(record)[1][2])
    expire(own, day, visitor:byte(8) * 14)
  end
end

for at = 10, #ARGV, 3 do
  add(ARGV[at], ARGV[at + 1], ARGV[at + 2])
  local day = days[ARGV[at]]
  local deepest = day.levels[#day.levels]
  if deepest[2] > FILL * 2 ^ deepest[1] and deepest[1] < 24 then
    day.levels[#day.levels + 1] = { deepest[1] + 2, 0 }
  end
end
for number, day in pairs(days) do
  if day.expires > now then
    local levels = {}
    for at, level in ipairs(day.levels) do
      levels[at] = level[1] .. ':' .. level[2]
    end
    call('HSET', KEYS[2], number, string.format('%d', day.expires) .. ';' .. table.concat(levels, ','))
  end
end
if ARGV[6] ~= '' then
  base = base .. '+' .. ARGV[6]
elseif next_of(to) >= next_of(base) or (ARGV[7] == '0' and from == '') then
  -- Where it is made anew, what a bucket kept of the time before is of no worth.
  base = to
end
if base ~= stands then
  call('HSET', KEYS[1], ARGV[2], base)
end
return { 1, left_out }
