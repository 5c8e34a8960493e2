-- KEYS: the library's key, its guard. Gives 1 if the key is as it was left by the last owner, contents and expiry; else 0.
local key, guard = KEYS[1], KEYS[2]
local left = redis.call('HMGET', guard, 'f', 'x')
local found, kind = fingerprint(key)
if left[1] ~= found then
  return 0
end
if kind == 'none' then
  return 1
end
local expires_at_ms, left_ms = tonumber(left[2] or '-1'), redis.call('PTTL', key)
if expires_at_ms < 0 or left_ms < 0 then
  return (expires_at_ms < 0 and left_ms < 0) and 1 or 0
end
return math.abs(now_ms() + left_ms - expires_at_ms) < 1000 and 1 or 0
