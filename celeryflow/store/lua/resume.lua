#!lua
-- resume: begin the next generation of a run that is over, or parked. Its state was staged under `<place>:<part>`.
--
-- KEYS[1]  prefix
-- ARGV     run, generation as the caller saw it, place, owner, nodes to run (count), number of parts that are replaced
--          where they are staged and dropped where not, these parts …, then lanes to drop …
-- Returns  'resumed'; 'running' if it is not over, 'other' if it is in another generation: nothing is changed then
--
-- O(parts): what the generation begins with depends on an imaginary node, as at the submit.

local run, generation, place, owner = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local again, parts = tonumber(ARGV[5]), tonumber(ARGV[6])
assert(generation and again and parts, 'numbers')
if generation_of(run) ~= generation then return 'other' end
if not is_over(run) then return 'running' end
assert(redis.call('EXISTS', rk(run, place .. ':state')) == 1, 'nothing is staged')

local function replace(part)
  local staged = rk(run, place .. ':' .. part)
  if redis.call('EXISTS', staged) == 0 then return redis.call('UNLINK', rk(run, part)) end
  redis.call('RENAME', staged, rk(run, part))
  redis.call('PERSIST', rk(run, part))
end
for _, part in ipairs({ 'state', 'missing', 'map' }) do replace(part) end
for i = 7, 6 + parts do replace(ARGV[i]) end
for i = 7 + parts, #ARGV do redis.call('UNLINK', rk(run, ARGV[i])) end
redis.call('UNLINK', rk(run, 'tries'))
redis.call('ZREM', P .. 'expiring', run)

local root = redis.call('HINCRBY', rk(run, 'meta'), 'top', 1) - 1
redis.call('HSET', rk(run, 'dependents'), root, redis.call('GET', rk(run, place .. ':roots')))
redis.call('UNLINK', rk(run, place .. ':roots'))
redis.call('HSET', rk(run, 'meta'), 'status', 'running', 'generation', generation + 1, 'left', again, 'bad', 0,
  'owner', owner, 'started_at', string.format('%.6f', NOW))
redis.call('HDEL', rk(run, 'meta'), 'parked', 'finished_at')
over[run], states, generations[run] = nil, {}, nil
emit(run, 'started', 'status', 'running', 'generation', generation + 1)
set_limit(run, 'timeout_s')
set_limit(run, 'deadline_s')
if again == 0 then end_run(run, 'success') end
reserve(run)
table.insert(todo, { run, root, 's', 0 })
work()
wake()
return 'resumed'
