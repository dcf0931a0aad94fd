-- Names of documents that are due, whether there may be more, and the time. Names whose documents are gone are removed.
-- KEYS: due. ARGV: what the keys of documents start with, most names, names to look at.
local now = time_ms()
local names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])
local found, limit = {}, tonumber(ARGV[2])
for _, name in ipairs(names) do
  if #found == limit then
    break
  elseif redis.call('EXISTS', ARGV[1] .. name) == 1 then
    table.insert(found, name)
  else
    redis.call('ZREM', KEYS[1], name)
  end
end
return {found, #names == tonumber(ARGV[3]), now}
