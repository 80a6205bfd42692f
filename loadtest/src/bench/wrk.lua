-- Visitors who come back, each by turns to one of the links; at the end what wrk.rs reads.
-- Arguments: how many links there are; "close" for a new connection for each click.
local requests, turn, total = {}, 0, 4096

function init(arguments)
  local links, close = tonumber(arguments[1]), arguments[2] == "close"
  for number = 0, total - 1 do
    local headers = {
      ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
      ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
      ["Accept-Language"] = "fa-IR,fa;q=0.9,en-US;q=0.8,en;q=0.7",
      ["Accept-Encoding"] = "gzip, deflate, br, zstd",
      ["Upgrade-Insecure-Requests"] = "1",
      ["Sec-Fetch-Site"] = "cross-site",
      ["Sec-Fetch-Mode"] = "navigate",
      ["Sec-Fetch-User"] = "?1",
      ["Sec-Fetch-Dest"] = "document",
      ["Referer"] = "https://blog.example/phones/",
      -- 22 letters of base64url, 16 bytes.
      ["Cookie"] = ("aff_vid=visitor-%012d0A"):format(number),
    }
    if close then headers["Connection"] = "close" end
    requests[number] = wrk.format("GET", ("/l%d?sub1=bench"):format(number % links), headers)
  end
end

function request()
  turn = turn + 1
  if turn == total then turn = 0 end
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  print(("afflux-total %d %d %d %d"):format(summary.requests, summary.duration, errors.status, broken))
  for place = 1, #latency do
    local micros, count = latency(place)
    print(("afflux-latency %d %d"):format(micros, count))
  end
end
