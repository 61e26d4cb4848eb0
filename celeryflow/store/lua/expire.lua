#!lua flags=allow-oom
-- expire: close a run whose time to be kept is over; the caller deletes what is left of it.
--
-- KEYS[1]  prefix
-- ARGV     run; the seconds since its end, where those decide
-- Returns  1 if it is closed, now or before; 0 if it is to be kept, since it was resumed, say

local run = ARGV[1]
local due = tonumber(redis.call('ZSCORE', P .. 'expiring', run) or math.huge)
if ARGV[2] then
  local is_over = RUN_OVER[meta(run, 'status')]
  due = is_over and tonumber(meta(run, 'finished_at')) + tonumber(ARGV[2]) or math.huge
end
if due > NOW then return 0 end
redis.call('ZADD', P .. 'expiring', NOW, run)  -- until all of it is deleted
local job = meta(run, 'job')
if job and redis.call('HGET', P .. 'jobs', job) == run then redis.call('HDEL', P .. 'jobs', job) end
for _, wanted in ipairs(quotas_of(run)) do redis.call('HDEL', quota_key(wanted[2]), run .. '|' .. wanted[1]) end
redis.call('DEL', rk(run, 'meta'))
redis.call('ZREM', P .. 'runs', run)
return 1
