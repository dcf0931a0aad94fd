-- Begins a new epoch with a gateway's replica, unless another gateway was faster.
-- KEYS: head, log, snapshot. ARGV: epoch that ends ('' for none), new epoch, position, replica, 1 when made from nothing.
local epoch = redis.call('HGET', KEYS[1], 'epoch') or ''
if epoch ~= ARGV[1] then
  return 0
end
local time = redis.call('TIME')
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'position', ARGV[3], 'last', ARGV[2],
  'began', string.format('%d', time[1] * 1000), 'blank', ARGV[5])
redis.call('HSET', KEYS[3], 'position', ARGV[3], 'replica', ARGV[4])
return 1
