-- KEYS: a library's key. ARGV: bytes and parts at most. Gives what is there as load.lua does, and changes nothing.
local kind, contents = contents_of(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
if not contents then return {'unfit'} end
return {'keys', kind, '-1', contents}
