-- Appends commands to the log, all or none.
-- KEYS: head, log. ARGV: epoch, position the caller has read, latest time (ms), most entries, then id and command, ...
local head = redis.call('HMGET', KEYS[1], 'epoch', 'position', 'last')
if head[1] ~= ARGV[1] then
  return {'epoch', 0}
end
local position = tonumber(head[2])
if position < tonumber(ARGV[2]) then
  return {'behind', 0}
end
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
-- Whoever sent this has given up since: nobody would hear what became of it.
if at > tonumber(ARGV[3]) then
  return {'late', at}
end
local last = head[3]
for i = 5, #ARGV, 2 do
  position = position + 1
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], string.format('%d-0', position),
    'at', string.format('%d', at), 'after', last, 'id', ARGV[i], 'command', ARGV[i + 1])
  last = ARGV[i]
end
redis.call('HSET', KEYS[1], 'position', string.format('%d', position), 'last', last)
return {'ok', at}
