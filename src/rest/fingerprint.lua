-- What a key holds, in a few bytes: equal for equal contents, whatever the order of a hash and however it is encoded.
-- Beyond these limits only type and size are compared, so that no script blocks the server for long.
local BYTES_MAX = 1048576
local PARTS_MAX = 4096
local function sum_of(parts, step)
  local sum = 0
  for i = 1, #parts, step do
    local name = parts[i]
    local digest = redis.sha1hex(#name .. ':' .. name .. (step == 2 and parts[i + 1] or ''))
    sum = (sum + tonumber(string.sub(digest, 1, 12), 16)) % 281474976710656
  end
  return string.format('%.0f', sum)
end
local function is_large(key, size)
  if size > PARTS_MAX then return true end
  local bytes = 0
  for _, name in ipairs(redis.call('HKEYS', key)) do
    bytes = bytes + redis.call('HSTRLEN', key, name)
    if bytes > BYTES_MAX then return true end
  end
  return false
end
local function fingerprint(key)
  local kind = redis.call('TYPE', key)['ok']
  if kind == 'none' then
    return 'none', kind
  elseif kind == 'string' then
    local size = redis.call('STRLEN', key)
    return 's' .. size .. (size > BYTES_MAX and '' or redis.sha1hex(redis.call('GET', key))), kind
  elseif kind == 'hash' then
    local size = redis.call('HLEN', key)
    return 'h' .. size .. ':' .. (is_large(key, size) and '' or sum_of(redis.call('HGETALL', key), 2)), kind
  elseif kind == 'set' then
    local size = redis.call('SCARD', key)
    return 'u' .. size .. ':' .. (size > PARTS_MAX and '' or sum_of(redis.call('SMEMBERS', key), 1)), kind
  elseif kind == 'zset' then
    local size = redis.call('ZCARD', key)
    return 'z' .. size .. ':' .. (size > PARTS_MAX and '' or sum_of(redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'), 2)), kind
  elseif kind == 'list' then
    local size = redis.call('LLEN', key)
    if size > PARTS_MAX then return 'l' .. size, kind end
    local digest = ''
    for _, element in ipairs(redis.call('LRANGE', key, 0, -1)) do
      digest = redis.sha1hex(digest .. element)
    end
    return 'l' .. size .. ':' .. digest, kind
  end
  return kind, kind
end
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
-- Whether another owner (a later one of the same directory, or one of a later directory) has been here.
local function is_later(guard, made, epoch)
  local g_made, g_epoch = tonumber(guard[1] or '-1'), tonumber(guard[2] or '-1')
  return g_made > made or (g_made == made and g_epoch > epoch)
end
-- The guard stays for a while after its key, and for as long as a key without expiry.
local function keep_guard(guard, exists, expires_at_ms, keep_ms)
  if not exists then
    redis.call('PEXPIRE', guard, keep_ms)
  elseif expires_at_ms < 0 then
    redis.call('PERSIST', guard)
  else
    redis.call('PEXPIREAT', guard, string.format('%.0f', expires_at_ms + keep_ms))
  end
end
