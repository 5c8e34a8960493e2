-- What is done to one key under its guard.
-- args: directory, epoch, sequence, how long a guard is kept, expiry or -1, what, type, parts to set (count), them, parts gone.
-- Gives 'written', 'over' (written, somebody else's write is gone), 'foreign', 'vanished' or 'refused' (nothing was changed).
local function is_refused(before, made, epoch, sequence)
  if is_later(before, made, epoch) then return true end
  local same = tonumber(before[1] or '-1') == made and tonumber(before[2] or '-1') == epoch
  return same and tonumber(before[3] or '-1') >= sequence
end
local function store(key, guard, args)
  local made, epoch, sequence, keep_ms = tonumber(args[1]), tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  local expires_at_ms, what, kind, count = tonumber(args[5]), args[6], args[7], tonumber(args[8])
  local before = redis.call('HMGET', guard, 'd', 'e', 's', 'f', 'x')
  if is_refused(before, made, epoch, sequence) then
    return 'refused'
  end
  local found, found_kind = fingerprint(key)
  local had_expiry = tonumber(before[5] or '-1')
  local expired = found_kind == 'none' and had_expiry >= 0 and had_expiry <= now_ms()
  local foreign = before[4] and found ~= before[4] and not expired
  if what == 'fields' or what == 'expiry' then
    if foreign then
      -- It is counted once: the whole write that follows finds what was found here.
      redis.call('HSET', guard, 'f', found)
      return 'foreign'
    end
    if found_kind == 'none' then return 'vanished' end
  end
  local verbs = {hash = 'HSET', set = 'SADD', zset = 'ZADD', list = 'RPUSH'}
  local function set(from, to)
    -- In pieces: Lua passes a bounded number of arguments.
    for at = from, to, 1000 do
      redis.call(verbs[kind], key, unpack(args, at, math.min(at + 999, to)))
    end
  end
  local last = 8 + count
  if what == 'gone' then
    redis.call('DEL', key)
  elseif what == 'whole' then
    if kind == 'string' then
      redis.call('SET', key, args[9])
    else
      redis.call('DEL', key)
      set(9, last)
    end
  elseif what == 'merge' then
    local stays = {}
    for at = 9, last, 2 do stays[args[at]] = true end
    for at = last + 1, #args do stays[args[at]] = true end
    if found_kind ~= 'hash' then redis.call('DEL', key) end
    for _, name in ipairs(redis.call('HKEYS', key)) do
      if not stays[name] then redis.call('HDEL', key, name) end
    end
    set(9, last)
  elseif what == 'fields' then
    set(9, last)
    for at = last + 1, #args do
      redis.call('HDEL', key, args[at])
    end
  end
  if what ~= 'gone' and redis.call('EXISTS', key) == 1 then
    if expires_at_ms < 0 then
      redis.call('PERSIST', key)
    else
      redis.call('PEXPIREAT', key, args[5])
    end
  end
  local left, left_kind = fingerprint(key)
  redis.call('HSET', guard, 'd', args[1])
  redis.call('HSET', guard, 'e', args[2])
  redis.call('HSET', guard, 's', args[3])
  redis.call('HSET', guard, 'f', left)
  redis.call('HSET', guard, 'x', args[5])
  keep_guard(guard, left_kind ~= 'none', expires_at_ms, keep_ms)
  if foreign then return 'over' end
  return 'written'
end
