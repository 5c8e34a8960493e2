-- KEYS: the library's key, its guard. ARGV and what it gives: see guarded.lua.
return store(KEYS[1], KEYS[2], ARGV)
