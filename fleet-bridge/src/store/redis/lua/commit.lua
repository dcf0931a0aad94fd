-- All of a commit or nothing. 1 when it is applied, 0 when it conflicts, and the time.
-- KEYS: head, events, due, matches, over, applied, then documents that are expected, then documents that are put.
-- ARGV: id of the commit, id for a new history, time to remember the commit (ms), most events, number of documents
-- expected, number put; then the versions expected ('' for none); then for each put its key, its id if it is a match,
-- 'put' or 'delete', text, due time (ms or ''), time to keep (ms or ''); then for each event subject, kind, data.
local now = time_ms()
if redis.call('EXISTS', KEYS[6]) == 1 then
  return {1, now}
end
local key, arg = 6, 6
for i = 1, tonumber(ARGV[5]) do
  if (redis.call('HGET', KEYS[key + i], 'v') or '') ~= ARGV[arg + i] then
    return {0, now}
  end
end
key, arg = key + tonumber(ARGV[5]), arg + tonumber(ARGV[5])
begin_history(KEYS[1], ARGV[2], now)
for i = 1, tonumber(ARGV[6]) do
  local document = KEYS[key + i]
  local name, match, action, text, due, keep = unpack(ARGV, arg + 1, arg + 6)
  arg = arg + 6
  if action == 'put' then
    redis.call('HSET', document, 'v', ARGV[1], 'd', text)
  else
    redis.call('DEL', document)
    due, keep = '', ''
  end
  if due == '' then
    redis.call('ZREM', KEYS[3], name)
  else
    redis.call('ZADD', KEYS[3], due, name)
  end
  if match ~= '' then
    if action == 'put' then
      redis.call('ZADD', KEYS[4], 0, match)
    else
      redis.call('ZREM', KEYS[4], match)
    end
  end
  if keep == '' then
    redis.call('PERSIST', document)
    redis.call('ZREM', KEYS[5], name)
  else
    redis.call('PEXPIRE', document, keep)
    -- Redis forgets the document, but not where else its name stands.
    if due ~= '' or match ~= '' then
      redis.call('ZADD', KEYS[5], string.format('%.0f', now + tonumber(keep)), name)
    else
      redis.call('ZREM', KEYS[5], name)
    end
  end
end
for at = arg + 1, #ARGV, 3 do
  local sequence = redis.call('HINCRBY', KEYS[1], 'newest', 1)
  redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[4], string.format('%d-0', sequence),
    'at', string.format('%d', now), 'subject', ARGV[at], 'kind', ARGV[at + 1], 'data', ARGV[at + 2])
end
redis.call('SET', KEYS[6], '', 'PX', ARGV[3])
return {1, now}
