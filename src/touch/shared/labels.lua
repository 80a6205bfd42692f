-- What lies with clicks. KEYS: w, g. ARGV: tag, and of each click its day, visitor and ID. Answers of each click nothing,
-- or {0, records of the visitor's day}, or {1, its labels}.
local now, days, answer = tonumber(call('TIME')[1]), {}, {}
for at = 2, #ARGV, 3 do
  local number, visitor = ARGV[at], ARGV[at + 1]
  if days[number] == nil then
    local text = call('HGET', KEYS[2], number)
    days[number] = text and read_day(text) or false
  end
  local found, day = false, days[number]
  if day and day.expires > now then
    local key, value = look(number, day, visitor)
    if value and value:byte(1) == 0 then
      local labels = call('HGET', own_key(number, visitor), ARGV[at + 2])
      found = labels and { 1, labels }
    elseif value then
      found = { 0, whole(key, visitor, value) }
    end
  end
  answer[#answer + 1] = found
end
return answer
