#!lua flags=allow-oom
-- drop_code: delete a function that no run needs.
--
-- KEYS[1]  prefix
-- ARGV     digest, seconds for which a run that is not there may still be about to be submitted
-- Returns  1 if it was deleted, else 0

local users, grace = P .. 'users:' .. ARGV[1], tonumber(ARGV[2])
assert(grace, 'seconds must be a number')
for _, run in ipairs(redis.call('HKEYS', users)) do
  local is_new = number(redis.call('HGET', users, run)) >= NOW - grace
  if not is_new and redis.call('EXISTS', rk(run, 'meta')) == 0 then redis.call('HDEL', users, run) end
end
if redis.call('EXISTS', users) == 1 then return 0 end
redis.call('UNLINK', P .. 'code:' .. ARGV[1])
return 1
