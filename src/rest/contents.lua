-- The type of a key and what it holds; the second is nil for a type that no session has, and beyond so many bytes or parts.
local function contents_of(key, bytes_max, parts_max)
  local kind = redis.call('TYPE', key)['ok']
  if kind == 'none' then return kind, '' end
  if kind == 'string' then
    return kind, redis.call('STRLEN', key) <= bytes_max and redis.call('GET', key) or nil
  elseif kind == 'hash' then
    return kind, redis.call('HLEN', key) <= parts_max and redis.call('HGETALL', key) or nil
  elseif kind == 'set' then
    return kind, redis.call('SCARD', key) <= parts_max and redis.call('SMEMBERS', key) or nil
  elseif kind == 'zset' then
    return kind, redis.call('ZCARD', key) <= parts_max and redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') or nil
  elseif kind == 'list' then
    return kind, redis.call('LLEN', key) <= parts_max and redis.call('LRANGE', key, 0, -1) or nil
  end
  return kind, nil
end
