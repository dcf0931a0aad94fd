-- What every script starts with.
local function time_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Begins a history where there is none. Its numbers are greater than those of every history before it.
local function begin_history(head, id, now)
  if redis.call('HSETNX', head, 'id', id) == 1 then
    redis.call('HSET', head, 'newest', string.format('%d', now))
  end
end

