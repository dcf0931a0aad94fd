-- Replaces an older snapshot of the same epoch and forgets old entries.
-- KEYS: head, log, snapshot. ARGV: epoch, position, replica, first entry to keep.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return 0
end
local saved = redis.call('HGET', KEYS[3], 'position')
if saved and tonumber(saved) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[3], 'position', ARGV[2], 'replica', ARGV[3])
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[4] .. '-0')
return 1
