-- KEYS: the library's key, its guard. ARGV: directory, epoch, how long a guard is kept, bytes and parts at most, 1 if what is found
-- becomes the owner's; else what the key was like when it was last stored stays noted, so that foreign writes since are found yet.
-- Guards the key for this owner and gives its contents: {'keys', type, expiry or -1, contents}, {'refused'} or {'unfit'}.
local key, guard = KEYS[1], KEYS[2]
local made, epoch, keep_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local bytes_max, parts_max = tonumber(ARGV[4]), tonumber(ARGV[5])
local before = redis.call('HMGET', guard, 'd', 'e')
if is_later(before, made, epoch) then
  return {'refused'}
end
local kind, contents = contents_of(key, bytes_max, parts_max)
if not contents then return {'unfit'} end
local expires_at_ms = -1
local left_ms = redis.call('PTTL', key)
if left_ms >= 0 then
  local exact = redis.pcall('PEXPIRETIME', key)
  expires_at_ms = type(exact) == 'number' and exact or (now_ms() + left_ms)
end
if ARGV[6] == '1' or redis.call('HEXISTS', guard, 'f') == 0 then
  redis.call('HSET', guard, 'f', (fingerprint(key)))
  redis.call('HSET', guard, 'x', string.format('%.0f', expires_at_ms))
end
-- A second load of the same owner must not let an older store of it through.
if tonumber(before[1] or '-1') ~= made or tonumber(before[2] or '-1') ~= epoch then
  redis.call('HSET', guard, 'd', ARGV[1])
  redis.call('HSET', guard, 'e', ARGV[2])
  redis.call('HSET', guard, 's', '0')
end
keep_guard(guard, kind ~= 'none', expires_at_ms, keep_ms)
return {'keys', kind, string.format('%.0f', expires_at_ms), contents}
