-- Waking: idle drainers first, then the supervisors, who send tickets.

local function groups_of(queue)
  local groups = {}
  for _, group in ipairs(redis.call('SMEMBERS', P .. 'groups')) do
    if serves(group, queue) then groups[#groups + 1] = group end
  end
  return groups
end

-- Units ready in a queue, as far as its first lanes tell, at most `most`; of async steps, the processes that they need.
-- An event loop that has just begun takes as many as it may run: they call for no other process.
local function depth(queue, most)
  local found, each = 0, tonumber(string.match(queue, '~(%d+)')) or 1
  for _, member in ipairs(redis.call('ZRANGE', P .. 'queue:' .. queue, 0, 3)) do
    local run, priority = string.match(member, '^(.*)|(%d)$')
    local lane = lane_key(run or '', queue, priority or 0)
    found = found + redis.call('LLEN', lane)
    local node = first_of(lane)
    local range = node and redis.call('LINDEX', rk(run, 'ranges:' .. node), 0)
    if range then found = found + tonumber(string.match(range, ':(%d+)$')) - 1 end
    if found >= (most + 1) * each then break end
  end
  if each > 1 and redis.call('EXISTS', gk(queue, 'opened')) == 1 then found = math.max(0, found - each) end
  return math.min(math.ceil(math.min(found, (free_places(queue))) / each), most)
end

-- Drainers that are at work find by themselves what is ready.
local function has_free_slots(group)
  return redis.call('SCARD', gk(group, 'drainers')) < number(redis.call('GET', gk(group, 'total')))
end

local function wake()
  for queue in pairs(woken) do
    local ready = depth(queue, 1000)
    for _, group in ipairs(groups_of(queue)) do
      local idle = ready > 0 and redis.call('SPOP', gk(group, 'idle'), ready) or {}
      for _, drainer in ipairs(idle) do
        redis.call('RPUSH', P .. 'wake:' .. drainer, 1)
        redis.call('PEXPIRE', P .. 'wake:' .. drainer, 5000)
      end
      ready = ready - #idle
      if ready > 0 and has_free_slots(group) and redis.call('EXISTS', gk(group, 'nudge')) == 0 then
        redis.call('RPUSH', gk(group, 'nudge'), 1)
      end
    end
  end
end

local function forget_drainer(drainer)
  leave_place(drainer)
  local group = group_of(drainer)
  redis.call('ZREM', P .. 'leases', drainer)
  redis.call('SREM', gk(group, 'drainers'), drainer)
  redis.call('SREM', gk(group, 'idle'), drainer)
  redis.call('DEL', P .. 'claim:' .. drainer)
end

-- Results as the worker sends them: a msgpack array of arrays without the bytes, then two ARGV each (record, durations).
local FIELDS = { 'node', 'start', 'count', 'outcome', 'attempt', 'seconds', 'waited_s', 'output_bytes', 'kind', 'error',
  'delay_s', 'length', 'number' }

local function read_results(packed, first, worker)
  local results = cmsgpack.unpack(packed)
  for i, values in ipairs(results) do
    local r = { worker = worker, record = ARGV[first + 2 * i - 2], durations = ARGV[first + 2 * i - 1] }
    for j, name in ipairs(FIELDS) do r[name] = values[j] end
    assert(r.record and r.durations, 'a result without its bytes')
    results[i] = r
  end
  return results
end
