-- Removes names of documents that Redis has forgotten. How many it looked at.
-- KEYS: over, due, matches. ARGV: what the keys of documents start with, most names.
local names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time_ms(), 'LIMIT', 0, ARGV[2])
for _, name in ipairs(names) do
  if redis.call('EXISTS', ARGV[1] .. name) == 0 then
    redis.call('ZREM', KEYS[1], name)
    redis.call('ZREM', KEYS[2], name)
    if string.sub(name, 1, 6) == 'match:' then
      redis.call('ZREM', KEYS[3], string.sub(name, 7))
    end
  end
end
return #names
