-- KEYS: the key that goes, its guard, the key that comes, its guard. ARGV: how many arguments the first has, its arguments, those of
-- the second. Gives what became of each; if one is refused, both are, and nothing was changed.
local of = {{}, {}}
local count = tonumber(ARGV[1])
for at = 2, #ARGV do
  local args = at - 1 <= count and of[1] or of[2]
  args[#args + 1] = ARGV[at]
end
for which = 1, 2 do
  local args = of[which]
  local before = redis.call('HMGET', KEYS[which * 2], 'd', 'e', 's')
  if is_refused(before, tonumber(args[1]), tonumber(args[2]), tonumber(args[3])) then
    return {'refused', 'refused'}
  end
end
-- What may fail for want of memory comes first.
local comes = store(KEYS[3], KEYS[4], of[2])
return {store(KEYS[1], KEYS[2], of[1]), comes}
