-- A click: its record by one write(), then the answer.
local ffi = require "ffi"
local find, gsub, format, byte = string.find, string.gsub, string.format, string.byte

ffi.cdef [[
int open(const char *path, int flags, int mode);
long write(int file, const void *bytes, size_t count);
]]

local WRITE_CREATE_APPEND = 0x441
local file = -1
local click = {}

function click.open(path)
  file = ffi.C.open(path, WRITE_CREATE_APPEND, 420)
  if file < 0 then error("cannot open " .. path) end
end

local function escaped(letter) return format("\\u%04x", byte(letter)) end

-- Most of what browsers send needs no escape.
local function json(text)
  if not text then return "" end
  if find(text, '[%c"\\]') then return (gsub(text, '[%c"\\]', escaped)) end
  return text
end

function click.answer()
  local var = ngx.var
  local id = var.request_id
  local record = '{"at":"' .. ngx.now() .. '","uri":"' .. json(var.request_uri) .. '","ip":"' .. var.remote_addr
    .. '","agent":"' .. json(var.http_user_agent) .. '","referer":"' .. json(var.http_referer)
    .. '","cookie":"' .. json(var.cookie_aff_vid) .. '","id":"' .. id .. '"}\n'
  if ffi.C.write(file, record, #record) ~= #record then return ngx.exit(500) end
  local header = ngx.header
  header["Set-Cookie"] = "aff_vid=" .. id .. "; Path=/; HttpOnly; SameSite=Lax; Max-Age=34560000"
  header["Cache-Control"] = "no-store"
  return ngx.redirect("https://shop.example/p/1?color=black&click_id=" .. id, 302)
end

return click
