-- KEYS: a session's keys. Gives how many of them there are.
return redis.call('EXISTS', unpack(KEYS))
