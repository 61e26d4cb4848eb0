#!lua
-- submit: publish a staged graph as a run.
--
-- KEYS[1]  prefix
-- ARGV     run, nodes (count), fail_fast (0 or 1), job or '', the job's run as the caller saw it or '', number of further
--          parts that were staged, these parts …, then pairs of further meta fields
-- Returns  1; 0 if the run was there already, or the job has another run than the caller saw: nothing is changed then
--
-- A run that takes over results of earlier ones has them staged, with its first events; `left` and `seq` say so.
-- O(1) in the graph's size: the first 500 nodes that wait for nothing become ready here, the rest by way of `pending`.
-- Everything that waits for nothing depends on an imaginary node, numbered after the last one. The field `quotas` has what
-- the run's nodes want to have in flight (see `reserve`).

local run, nodes, job, seen, parts = ARGV[1], tonumber(ARGV[2]), ARGV[4], ARGV[5], tonumber(ARGV[6])
assert(nodes and nodes > 0 and parts, 'nodes must be a positive number')
if redis.call('EXISTS', rk(run, 'meta')) == 1 then return 0 end
if job ~= '' then
  if (redis.call('HGET', P .. 'jobs', job) or '') ~= seen then return 0 end
  redis.call('HSET', P .. 'jobs', job, run)
end
for _, part in ipairs({ 'plan', 'spec', 'dependents', 'missing', 'state', 'map' }) do
  redis.call('PERSIST', rk(run, part))
end
for i = 7, 6 + parts do redis.call('PERSIST', rk(run, ARGV[i])) end
redis.call('HSET', rk(run, 'meta'), 'status', 'pending', 'generation', 1, 'nodes', nodes, 'left', nodes, 'top', nodes + 1,
  'fail_fast', ARGV[3], 'submitted_at', string.format('%.6f', NOW), unpack(ARGV, 7 + parts))
redis.call('ZADD', P .. 'runs', NOW, run)
if not meta(run, 'seq') then emit(run, 'submitted', 'status', 'pending') end
set_limit(run, 'deadline_s')
if meta(run, 'left') == '0' then end_run(run, 'success') end
reserve(run)
table.insert(todo, { run, nodes, 's', 0 })
work()
wake()
return 1
