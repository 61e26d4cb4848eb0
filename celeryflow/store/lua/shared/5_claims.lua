-- Claims: one a drainer, in `claim:<drainer>` {token, previous, run, generation, queue, units}; a unit is {node, start, count}.

local function read_claim(drainer)
  local fields = redis.call('HMGET', P .. 'claim:' .. drainer, 'token', 'previous', 'run', 'queue', 'units', 'generation')
  return { token = fields[1], previous = fields[2], run = fields[3], queue = fields[4],
    units = fields[5] and cmsgpack.unpack(fields[5]) or {}, generation = tonumber(fields[6]) }
end

-- Whether a claim still counts: its run is not over, and is not in a later generation.
local function does_count(claim)
  return claim.token and not is_over(claim.run) and claim.generation == generation_of(claim.run)
end

-- What of a claim the results do not cover, as units.
local function rest_of(units, results)
  local rest = {}
  for _, unit in ipairs(units) do
    local node, from, stop = unit[1], unit[2], unit[2] + unit[3]
    for _, r in ipairs(results) do
      if r.node == node and r.start >= from and r.start < stop then
        if r.start > from then table.insert(rest, { node, from, r.start - from }) end
        from = r.start + r.count
      end
    end
    if from < stop then table.insert(rest, { node, from, stop - from }) end
  end
  return rest
end

local function hand_back(run, units, event, ...)
  if is_over(run) then return end
  for i = #units, 1, -1 do
    local node, start, count = unpack(units[i])
    if not TERMINAL[get_state(run, node)] then
      emit(run, event, 'node', node, 'start', start, 'count', count, ...)
      put_back(run, node, start, count)
    end
  end
end

local function is_cheap(run, cost)
  local estimate = estimate_of(run, cost)
  return estimate and estimate >= 0 and estimate < CHUNK_S / 2 and math.max(estimate, 1e-6)
end

-- How many of `left` are for one claim: not so many that others would go without, where that is worth a claim.
local function fair_share(kind, estimate, left, slots)
  return math.max(math.ceil(left / (2 * slots)), math.floor(ROUND_S / (estimate + OVERHEAD_S[kind])))
end

-- Items for one claim: some 50 ms of them at most.
local function share(run, cost, left, slots)
  local estimate = is_cheap(run, cost)
  if not estimate then return 1 end
  return math.max(1, math.min(math.floor(CHUNK_S / estimate), fair_share('m', estimate, left, slots), CLAIM_ITEMS))
end

local function take_map(run, node, lane, slots, units)
  local plan = plan_of(run, node)
  if not length_of(run, node) and plan[PLANNED] then
    unlist_first(run, lane)
    set_state(run, node, 'x')
    units[1] = { node, -1, 1 }
    return
  end
  local key = rk(run, 'ranges:' .. node)
  local start, count = string.match(redis.call('LINDEX', key, 0), '^(%d+):(%d+)$')
  start, count = tonumber(start), tonumber(count)
  local left = length_of(run, node) - number(redis.call('HGET', rk(run, 'map'), node .. ':ended'))
  local size = math.min(count, share(run, plan[COST], left, slots))
  if size < count then
    redis.call('LSET', key, 0, (start + size) .. ':' .. (count - size))
  else
    redis.call('LPOP', key)
    if redis.call('EXISTS', key) == 0 then unlist_first(run, lane) end
  end
  set_state(run, node, 'x')
  units[1] = { node, start, size }
end

-- The only user of a cheap step, where nothing else is missing for it: it can run in the same claim.
local function next_in_chain(run, node, lane)
  local packed = redis.call('HGET', rk(run, 'dependents'), node)
  if not packed or #packed ~= 4 then return end
  local code = struct.unpack('<I4', packed)
  local user, plan = math.floor(code / 8), nil
  if code % 8 ~= WHOLE or missing(run, user) ~= 1 or get_state(run, user) ~= '.' then return end
  plan = plan_of(run, user)
  if plan[KIND] ~= 's' or lane_key(run, plan[QUEUE], plan[PRIORITY]) ~= lane then return end
  return user
end

-- The first node of a lane that can still run: one may have been skipped while it lay there.
local function head_of(run, lane)
  local node = first_of(lane)
  while node and (TERMINAL[get_state(run, node)] or cancel_orphan(run, node)) do
    unlist_first(run, lane)
    node = first_of(lane)
  end
  return node
end

local function take_steps(run, node, lane, slots, units)
  local seconds, heads, limit = 0, 0, nil
  while node do
    local plan = plan_of(run, node)
    local estimate = plan[KIND] == 's' and is_cheap(run, plan[COST])
    if #units > 0 and (not estimate or seconds + estimate > CHUNK_S) then return end
    limit = limit or fair_share('s', estimate or CHUNK_S, redis.call('LLEN', lane), slots)
    unlist_first(run, lane)
    heads = heads + 1
    while node do
      set_state(run, node, 'x')
      units[#units + 1] = { node, 0, 1 }
      if not estimate then return end
      seconds = seconds + estimate
      node = #units < CLAIM_NODES and seconds < CHUNK_S and next_in_chain(run, node, lane)
      estimate = node and is_cheap(run, plan_of(run, node)[COST])
      if not estimate then node = nil end
    end
    node = heads < limit and #units < CLAIM_NODES and head_of(run, lane) or nil
  end
end

-- The pool at the end of a queue's or group's name, with its `@`; empty if there is none.
local function pool_of(name) return string.match(name, '@[^,@]*$') or '' end

-- A queue's name is `name[%step%max_running][~concurrency][@pool]`. Capped steps lie apart, so that they stand in nobody's
-- way, and async steps for the event loops of drainers, which serve just them. `*` serves every queue, `*@pool` those of
-- its own pool and those of none, `a,b` those with these names. `*@pool=versions` also serves `@=versions`: what was
-- submitted from elsewhere, and needs workers of these versions.
local function serves(group, queue)
  local pool, wanted = string.match(group, '^%*(.*)$'), pool_of(queue)
  if pool then return pool == '' or wanted == '' or string.sub(pool, 1 - #wanted) == string.sub(wanted, 2) end
  local name = string.gsub(queue, '[%%~][^@]*', '')
  local list = ',' .. group .. ','
  return queue == group or string.find(list, ',' .. name .. ',', 1, true) ~= nil
end

local function queues_of(group)
  local queues, is_named = {}, string.sub(group, 1, 1) ~= '*'
  if is_named then
    for queue in string.gmatch(group, '[^,]+') do queues[#queues + 1] = queue end
  end
  for _, queue in ipairs(redis.call('SMEMBERS', P .. 'queues')) do
    local is_listed = is_named and (queue == group or not string.find(queue, '[%%~]'))
    if not is_listed and serves(group, queue) then queues[#queues + 1] = queue end
  end
  return queues
end

-- Places of a capped step: `running:<step>` is the set of drainers that have a claim of it, in whatever run.
local function free_places(queue)
  local step, most = string.match(queue, '%%(.-)%%(%d+)')
  return step and tonumber(most) - redis.call('SCARD', P .. 'running:' .. step) or math.huge, step
end

-- The drainer's claim, if any, has ended, and so has its execution.
local function leave_place(drainer)
  local queue = redis.call('HGET', P .. 'claim:' .. drainer, 'queue')
  local _, step = free_places(queue or '')
  if not step then return end
  redis.call('SREM', P .. 'running:' .. step, drainer)
  woken[queue] = true
end

local function best_lane(group)
  local best, best_score, best_queue
  for _, queue in ipairs(queues_of(group)) do
    local top = free_places(queue) > 0 and redis.call('ZRANGE', P .. 'queue:' .. queue, 0, 0, 'WITHSCORES') or {}
    if top[1] and (not best or tonumber(top[2]) < best_score) then
      best, best_score, best_queue = top[1], tonumber(top[2]), queue
    end
  end
  return best, best_queue
end

-- Items that are ready in a lane, as far as its first node tells.
local function items_in(run, queue, priority)
  local lane = lane_key(run, queue, priority)
  local node = first_of(lane)
  local range = node and redis.call('LINDEX', rk(run, 'ranges:' .. node), 0)
  return redis.call('LLEN', lane) - 1 + (range and tonumber(string.match(range, ':(%d+)$')) or 1)
end

local function has_quotas(run) return redis.call('HEXISTS', rk(run, 'meta'), 'quotas') == 1 end

-- Runs with quotas are to leave each other's waiting time alone: three of four of their turns are the shortest lane's.
local function whose_turn(queue, top)
  local run, priority = string.match(top, '^(.*)|(%d)$')
  if not run or is_over(run) or not has_quotas(run) then return top end
  if number(redis.call('GET', P .. 'served')) % 4 == 0 then return top end
  local best, least = top, items_in(run, queue, priority)
  for _, member in ipairs(redis.call('ZRANGE', P .. 'queue:' .. queue, 1, NEIGHBOURS)) do
    local other, of_other = string.match(member, '^(.*)|(%d)$')
    if of_other ~= priority then break end
    local items = not is_over(other) and has_quotas(other) and items_in(other, queue, priority)
    if items and items < least then best, least = member, items end
  end
  return best
end

local function input_records(run, unit)
  local node, start, count = unpack(unit)
  local plan, fields, records = plan_of(run, node), {}, {}
  for _, input in ipairs(plan[STEPS]) do fields[#fields + 1] = input .. ':0' end
  local item = node .. ':' .. start
  local part = extra(run, node).role == 'expand' and redis.call('HGET', rk(run, 'rounds'), item)
  if part then
    fields[#fields + 1] = part .. ':0'
    records = { item, redis.call('HGET', rk(run, 'expansions'), item) }
  end
  if start >= 0 then
    for _, source in ipairs(plan[SOURCES]) do
      local marks, last = redis.call('GETRANGE', rk(run, 'at:' .. source), start * 4, (start + count) * 4 - 1), 0
      for i = 1, #marks, 4 do
        local at = struct.unpack('<I4', marks, i)
        if at > 0 and at ~= last then fields[#fields + 1], last = source .. ':' .. (at - 1), at end
      end
    end
  end
  if #fields == 0 then return records end
  local values = redis.call('HMGET', rk(run, 'out'), unpack(fields))
  for i, field in ipairs(fields) do
    if values[i] then records[#records + 1], records[#records + 2] = field, values[i] end
  end
  return records
end

-- Exceptions and losses that an item has had. One that has had any is alone in its claim, or first in it.
local retried = {}
local function tries_of(run, unit)
  if retried[run] == nil then retried[run] = redis.call('EXISTS', rk(run, 'tries')) == 1 end
  if not retried[run] then return 0, 0 end
  local item = unit[1] .. ':' .. unit[2]
  local tries = redis.call('HMGET', rk(run, 'tries'), item .. ':e', item .. ':l')
  return number(tries[1]), number(tries[2])
end

local function reply(claim)
  if not claim.run then return {} end
  local units = {}
  for i, unit in ipairs(claim.units) do
    local exceptions, losses = tries_of(claim.run, unit)
    units[i] = { unit[1], unit[2], unit[3], exceptions, losses,
      redis.call('HGET', rk(claim.run, 'spec'), unit[1]), input_records(claim.run, unit) }
  end
  return { claim.token, claim.run, claim.generation or generation_of(claim.run), claim.queue, units }
end

local function start_run(run, status)
  if status ~= 'pending' then return end
  redis.call('HSET', rk(run, 'meta'), 'status', 'running', 'started_at', string.format('%.6f', NOW))
  emit(run, 'started', 'status', 'running')
  set_limit(run, 'timeout_s')
end

-- `turn` is the lane whose turn it is, if that is another one.
local function serve_lane(run, priority, queue, slots, turn)
  local lane = lane_key(run, queue, priority)
  local status = meta(run, 'status')
  local node = not is_over(run) and head_of(run, lane)
  if not node then
    redis.call('DEL', lane)
    return unlist_lane(queue, run .. '|' .. priority)
  end
  start_run(run, status)
  local units = {}
  local take = plan_of(run, node)[KIND] == 'm' and take_map or take_steps
  take(run, node, lane, slots, units)
  redis.call('ZADD', P .. 'queue:' .. queue, score(priority), turn)
  if redis.call('EXISTS', lane) == 0 then unlist_lane(queue, run .. '|' .. priority) end
  return units
end

-- The next work for a drainer, written down as its claim; an empty reply if there is none.
local function take(drainer, token, worker, previous)
  leave_place(drainer)
  local group = group_of(drainer)
  local slots = math.max(1, number(redis.call('GET', gk(group, 'total'))))
  redis.call('ZADD', P .. 'leases', NOW + LEASE_S, drainer)
  redis.call('SADD', gk(group, 'drainers'), drainer)
  local claim = { token = token, units = {} }
  while #claim.units == 0 do
    local lane, queue = best_lane(group)
    if not lane then break end
    local run, priority = string.match(whose_turn(queue, lane), '^(.*)|(%d)$')
    claim.units = run and serve_lane(run, tonumber(priority), queue, slots, lane) or {}
    if not run then unlist_lane(queue, lane) end
    claim.run, claim.queue = claim.units[1] and run, queue
  end
  local key = P .. 'claim:' .. drainer
  redis.call('DEL', key)
  if not claim.run then
    redis.call('HSET', key, 'previous', previous or '')
    redis.call('SADD', gk(group, 'idle'), drainer)
    return claim
  end
  redis.call('SREM', gk(group, 'idle'), drainer)
  local _, step = free_places(claim.queue)
  if step then redis.call('SADD', P .. 'running:' .. step, drainer) end
  if group ~= claim.queue and string.find(claim.queue, '~', 1, true) then
    redis.call('SET', gk(claim.queue, 'opened'), '1', 'PX', OPENING_MS)
  end
  redis.call('HSET', key, 'token', token, 'previous', previous or '', 'run', claim.run,
    'generation', generation_of(claim.run),
    'queue', claim.queue, 'units', cmsgpack.pack(claim.units))
  for _, unit in ipairs(claim.units) do
    local exceptions, losses = tries_of(claim.run, unit)
    emit(claim.run, 'claimed', 'node', unit[1], 'start', unit[2], 'count', unit[3], 'worker', worker,
      'attempt', exceptions + losses + 1)
  end
  return claim
end
