-- Looks visitors up, and the positions of the same moment.
-- KEYS: w, g. ARGV: tag, most to be read of one visitor, and of each visitor its key and the first day.
-- Answers {positions, visitor, ...}; a visitor is {cut, day, records, ...}. Those behind one that took more than a share
-- are not answered and are to be asked for again.
local now, most, enough = tonumber(call('TIME')[1]), tonumber(ARGV[2]), 16384
local days = {}
local known = call('HGETALL', KEYS[2])
for at = 1, #known, 2 do
  local day = read_day(known[at + 1])
  if day.expires > now then
    day.number, day.name = tonumber(known[at]), known[at]
    days[#days + 1] = day
  end
end
table.sort(days, function(a, b) return a.number > b.number end)

local function find(visitor, since)
  local found, left = { 0 }, most
  for _, day in ipairs(days) do
    if day.number < since then
      break
    end
    local key, value = look(day.name, day, visitor)
    if value and left <= 0 then
      found[1] = 1
      break
    end
    if value and value:byte(1) ~= 0 then
      found[#found + 1] = day.number
      found[#found + 1] = whole(key, visitor, value)
      -- No more than that fit: it bounds what is read, and need not be exact.
      left = left - 13
    elseif value then
      local ids = call('HKEYS', own_key(day.name, visitor))
      if #value > 1 or #ids > left then
        found[1] = 1
      end
      for at = 1, math.min(#ids, left) do
        ids[at] = string.char(#ids[at]) .. ids[at]
      end
      found[#found + 1] = day.number
      found[#found + 1] = table.concat(ids, '', 1, math.max(0, math.min(#ids, left)))
      left = left - #ids
    end
  end
  return found, most - left
end

local answer, read = { call('HGETALL', KEYS[1]) }, 0
for at = 3, #ARGV, 2 do
  local found, count = find(ARGV[at], tonumber(ARGV[at + 1]))
  answer[#answer + 1] = found
  read = read + count
  if read >= enough then
    break
  end
end
return answer
