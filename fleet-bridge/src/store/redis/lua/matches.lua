-- Ids, versions and texts of matches, whether there may be more, and the time. Ids whose documents are gone are removed.
-- KEYS: matches. ARGV: what the keys of matches start with, most matches, ids to look at, the id before the first.
local ids = redis.call('ZRANGEBYLEX', KEYS[1], '(' .. ARGV[4], '+', 'LIMIT', 0, ARGV[3])
local found, limit = {}, tonumber(ARGV[2])
for _, id in ipairs(ids) do
  if #found == limit then
    break
  end
  local document = redis.call('HMGET', ARGV[1] .. id, 'v', 'd')
  if document[1] then
    table.insert(found, {id, document[1], document[2]})
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return {found, #ids == tonumber(ARGV[3]), time_ms()}
