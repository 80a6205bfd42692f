-- Takes visitors out, or only counts their touches. KEYS: w, g. ARGV: tag, '1' to take them out, and visitors. The position
-- stays: who reads the topic on does not read it again. Answers how many touches it were.
local known, count = call('HGETALL', KEYS[2]), 0
for at = 1, #known, 2 do
  local number, day = known[at], read_day(known[at + 1])
  for place = 3, #ARGV do
    local visitor = ARGV[place]
    local key, value = look(number, day, visitor)
    -- In one depth mostly; in none it was not.
    while value do
      local text, own = whole(key, visitor, value), own_key(number, visitor)
      count = count + (value:byte(1) == 0 and call('HLEN', own) or #records(text))
      if ARGV[2] ~= '1' then
        break
      end
      call('DEL', own)
      call('HDEL', key, visitor)
      for part = 1, math.floor((#text - 1) / PART) do
        call('HDEL', key, visitor .. string.char(part))
      end
      key, value = look(number, day, visitor)
    end
  end
end
return count
