-- Items whose retry is due are ready again.
local function work_delayed()
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', NOW, 'LIMIT', 0, 100)) do
    redis.call('ZREM', P .. 'delayed', entry)
    local run, node, _, start = read_entry(entry)
    if run then put_back(run, node, start, 1) end
  end
end

-- Outcomes: success; failure (fails its map and run); absorbed (a failure that on_error takes in);
-- upstream (an input item failed); omitted (an input item was left out); retry; length (of a planned map); expand (it
-- added a part to the run, and its value is to come of that).

local COUNTER = { failure = 'bad', upstream = 'skipped' }
local EVENT = { success = 'success', failure = 'failure', absorbed = 'failure', upstream = 'skipped', omitted = 'skipped' }

local function describe(r)
  local fields = { 'node', r.node, 'start', r.start, 'count', r.count, 'attempt', r.attempt, 'worker', r.worker,
    'waited_s', r.waited_s, 'durations', r.durations, 'output_bytes', r.output_bytes }
  local function add(name, value) fields[#fields + 1], fields[#fields + 2] = name, value end
  if r.kind ~= '' then add('kind', r.kind) end
  if r.error ~= '' then add('error', r.error) end
  if r.outcome == 'upstream' or r.outcome == 'omitted' then add('kind', r.outcome) end
  if r.outcome == 'absorbed' then add('is_absorbed', 1) end
  return unpack(fields)
end

-- Seconds an item of a step takes; false while unknown. Negative where so many of its items are to run alone first.
local estimates = {}
local function estimate_of(run, cost)
  local id = run .. '|' .. cost
  if estimates[id] == nil then estimates[id] = tonumber(redis.call('HGET', rk(run, 'estimates'), cost)) or false end
  return estimates[id]
end

local function set_estimate(run, cost, new)
  estimates[run .. '|' .. cost] = new
  redis.call('HSET', rk(run, 'estimates'), cost, new)
end

local function run_alone(run, cost, count)
  set_estimate(run, cost, math.min(0, estimate_of(run, cost) or 0) - count)
end

local function keep_estimate(run, r)
  if r.seconds < 0 then return end
  local cost, each = plan_of(run, r.node)[COST], r.seconds / r.count
  local old = estimate_of(run, cost)
  if old and old < 0 then
    if r.count == 1 then set_estimate(run, cost, old < -1 and old + 1 or each) end
    return
  end
  set_estimate(run, cost, old and 0.7 * old + 0.3 * each or each)
end

local function retry(run, r)
  local tries = redis.call('HINCRBY', rk(run, 'tries'), r.node .. ':' .. r.start .. ':e', 1)
  redis.call('ZADD', P .. 'delayed', NOW + r.delay_s, entry_of(run, r.node, 'retry', r.start))
  if plan_of(run, r.node)[KIND] == 's' then set_state(run, r.node, 't') end
  emit(run, 'retrying', 'delay_s', r.delay_s, 'tries', tries, describe(r))
end

local function plan_map(run, r)
  set_length(run, r.node, r.length)
  local plan = plan_of(run, r.node)
  if #plan[SOURCES] == 0 then push_range(run, r.node, 0, r.length) end
end

local function store_items(run, r)
  local mark = struct.pack('<I4', r.start + 1)
  redis.call('SETRANGE', rk(run, 'at:' .. r.node), r.start * 4, string.rep(mark, r.count))
  local counter = COUNTER[r.outcome]
  if counter then redis.call('HINCRBY', rk(run, 'map'), r.node .. ':' .. counter, r.count) end
  local ended = redis.call('HINCRBY', rk(run, 'map'), r.node .. ':ended', r.count)
  flow(run, r.node, r.start, r.count)
  if ended == length_of(run, r.node) then settle_map(run, r.node) end
end

-- The nodes of the part are staged: they count from now on.
local function expand(run, r)
  redis.call('HSET', rk(run, 'rounds'), r.node .. ':' .. r.start, r.number + r.length - 1)
  redis.call('HSET', rk(run, 'expansions'), r.node .. ':' .. r.start, r.record)
  redis.call('HINCRBY', rk(run, 'meta'), 'left', r.length)
  redis.call('HINCRBY', rk(run, 'meta'), 'nodes', r.length)
  emit(run, 'expanded', 'part', r.number, describe(r))
  keep_estimate(run, r)
  table.insert(todo, { run, r.number + r.length, 's', 0 })
end

local function apply(run, r)
  if TERMINAL[get_state(run, r.node)] or cancel_orphan(run, r.node) then return end
  if r.outcome == 'retry' then return retry(run, r) end
  if r.outcome == 'expand' then return expand(run, r) end
  redis.call('HSET', rk(run, 'out'), r.node .. ':' .. r.start, r.record)
  if r.outcome == 'length' then return plan_map(run, r) end
  if r.outcome == 'success' and extra(run, r.node).role == 'decide' then
    redis.call('HSET', rk(run, 'map'), r.node .. ':choice', r.number)
  end
  if r.outcome == 'upstream' and plan_of(run, r.node)[KIND] == 's' then return skip(run, r.node, r.number) end
  emit(run, EVENT[r.outcome], describe(r))
  if plan_of(run, r.node)[KIND] == 'm' and r.start >= 0 then
    store_items(run, r)
    keep_estimate(run, r)
  elseif r.outcome == 'success' then
    keep_estimate(run, r)
    settle(run, r.node, 's')
  else
    settle(run, r.node, 'f')
  end
end
