#!lua flags=allow-oom
-- renew: a supervisor's beat. It prolongs leases, moves on what is due, and says what there is to do.
--
-- KEYS[1]  prefix
-- ARGV     worker, group, slots, number of drainers, drainers …, then what its drainers work on (`run|node`) …
-- Returns  {expired drainers, what of that work need not go on, ids of the tickets to send, lanes of gathers that are due}
--
-- Where the last beat of any supervisor is over 3 s old, the server or the machine slept: every lease is prolonged and
-- none is called expired, and the deadlines of gathers move by as much.

local worker, group, slots, drainers = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
assert(slots and drainers, 'slots and drainers must be numbers')
local leases = P .. 'leases'

redis.call('ZADD', P .. 'workers', NOW + LEASE_S, worker)
redis.call('SADD', P .. 'groups', group)
redis.call('HSET', gk(group, 'slots'), worker, slots)
for i = 5, 4 + drainers do redis.call('ZADD', leases, 'XX', NOW + LEASE_S, ARGV[i]) end

local last = number(redis.call('GET', P .. 'beat') or NOW)
redis.call('SET', P .. 'beat', string.format('%.6f', NOW))
if NOW - last > ASLEEP_S then
  redis.call('SET', P .. 'asleep', string.format('%.6f', asleep() + NOW - last))
  for _, drainer in ipairs(redis.call('ZRANGE', leases, 0, -1)) do redis.call('ZADD', leases, NOW + LEASE_S, drainer) end
end
local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', NOW, 'LIMIT', 0, 100)

for _, gone in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', '-inf', NOW)) do
  redis.call('ZREM', P .. 'workers', gone)
  for _, name in ipairs(redis.call('SMEMBERS', P .. 'groups')) do
    redis.call('HDEL', gk(name, 'slots'), gone)
    if redis.call('EXISTS', gk(name, 'slots')) == 0 then redis.call('SREM', P .. 'groups', name) end
  end
end
local total = 0
for _, count in ipairs(redis.call('HVALS', gk(group, 'slots'))) do total = total + count end
redis.call('SET', gk(group, 'total'), total)

local over = {}
for i = 5 + drainers, #ARGV do
  local run, node = string.match(ARGV[i], '^(.*)|(%-?%d+)$')
  node = tonumber(node)
  local is_ended = is_over(run) or node >= 0 and (get_state(run, node) == 'c' or cancel_orphan(run, node))
  if is_ended then over[#over + 1] = ARGV[i] end
end

end_late_runs()
for _, timer in ipairs(redis.call('ZRANGEBYSCORE', P .. 'timers', '-inf', NOW - asleep(), 'LIMIT', 0, 100)) do
  redis.call('ZREM', P .. 'timers', timer)
  local run, gather = read_entry(timer)
  if run and get_state(run, gather) == '.' then
    set_state(run, gather, 'r')
    redis.call('HSET', rk(run, 'map'), gather .. ':due', 1)
    local queue = DUE .. pool_of(plan_of(run, gather)[QUEUE])
    redis.call('LPUSH', lane_key(run, queue, 9), gather)
    redis.call('ZADD', P .. 'queue:' .. queue, 'NX', score(9), run .. '|9')
    table.insert(todo, { run, gather, 'l', 0 })
  end
end
work()
work_pending()
work_delayed()
wake()

local tickets, ready = {}, 0
redis.call('ZREMRANGEBYSCORE', gk(group, 'tickets'), '-inf', NOW)
local free = total - redis.call('SCARD', gk(group, 'drainers')) - redis.call('ZCARD', gk(group, 'tickets'))
for _, queue in ipairs(queues_of(group)) do ready = ready + depth(queue, 1000) end
for i = 1, math.min(ready, free) do
  tickets[i] = string.format('%s-%.6f-%d', worker, NOW, i)
  redis.call('ZADD', gk(group, 'tickets'), NOW + TICKET_S, tickets[i])
end
return { expired, over, tickets, redis.call('ZRANGE', P .. 'queue:' .. DUE .. pool_of(group), 0, 0) }
