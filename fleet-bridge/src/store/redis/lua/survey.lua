-- Which history this is, and its newest event.
-- KEYS: head. ARGV: id for a new history.
local now = time_ms()
begin_history(KEYS[1], ARGV[1], now)
local head = redis.call('HMGET', KEYS[1], 'id', 'newest')
return {head[1], tonumber(head[2]), now}
