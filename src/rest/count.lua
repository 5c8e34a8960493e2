-- ARGV: cursor, pattern, how many keys at once. Goes through a part of all keys, and gives where to go on and how many fit the pattern.
local part = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
return {part[1], #part[2]}
