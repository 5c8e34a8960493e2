-- KEYS: a library's key. ARGV: bytes and parts at most. Gives what is there as load.lua does, and changes nothing.
local key, bytes_max, parts_max = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local kind = redis.call('TYPE', key)['ok']
local contents = ''
if kind == 'string' then
  if redis.call('STRLEN', key) > bytes_max then return {'unfit'} end
  contents = redis.call('GET', key)
elseif kind == 'hash' then
  if redis.call('HLEN', key) > parts_max then return {'unfit'} end
  contents = redis.call('HGETALL', key)
elseif kind == 'set' then
  if redis.call('SCARD', key) > parts_max then return {'unfit'} end
  contents = redis.call('SMEMBERS', key)
elseif kind == 'zset' then
  if redis.call('ZCARD', key) > parts_max then return {'unfit'} end
  contents = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
elseif kind == 'list' then
  if redis.call('LLEN', key) > parts_max then return {'unfit'} end
  contents = redis.call('LRANGE', key, 0, -1)
elseif kind ~= 'none' then
  return {'unfit'}
end
return {'keys', kind, '-1', contents}
