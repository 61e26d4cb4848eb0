-- Settling: a node's end reaches its dependents through `todo`, some a call; what is left waits in `pending`.

local todo, budget = {}, BUDGET
local doomed = {}  -- runs that fail as soon as what is being committed is stored

local function end_run(run, status, reason)
  if RUN_OVER[meta(run, 'status')] then return end
  redis.call('HSET', rk(run, 'meta'), 'status', status, 'finished_at', string.format('%.6f', NOW))
  local retention = tonumber(meta(run, 'retention_s'))
  if retention then redis.call('ZADD', P .. 'expiring', NOW + retention, run) end
  over[run] = true
  emit(run, 'ended', 'status', status, 'error', reason or '')
end

-- Time limits: `deadlines` has `timeout_s|run` and `deadline_s|run`, which whoever looks ends when they have come.
local function set_limit(run, limit)
  local seconds = tonumber(meta(run, limit))
  if seconds then redis.call('ZADD', P .. 'deadlines', NOW + seconds, limit .. '|' .. run) end
end

local function end_late_runs()
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', P .. 'deadlines', '-inf', NOW, 'LIMIT', 0, 100)) do
    redis.call('ZREM', P .. 'deadlines', entry)
    local limit, run = string.match(entry, '^([^|]+)|(.*)$')
    local seconds = run and meta(run, limit)
    if seconds then end_run(run, 'failure', 'deadline: it took longer than its ' .. limit .. ' of ' .. seconds .. ' s') end
  end
end

local function settle(run, node, byte)
  if TERMINAL[get_state(run, node)] then return end
  set_state(run, node, byte)
  local is_bad, returns = byte == 'f' and plan_of(run, node)[FATAL], extra(run, node).returns
  if is_bad then redis.call('HINCRBY', rk(run, 'meta'), 'bad', 1) end
  table.insert(todo, { run, node, byte == 's' and 's' or 'b', 0 })
  if returns then table.insert(todo, { run, returns[1], 'r', returns[2] }) end
  if redis.call('HINCRBY', rk(run, 'meta'), 'left', -1) == 0 then
    end_run(run, number(meta(run, 'bad')) > 0 and 'failure' or 'success')
  elseif is_bad and meta(run, 'fail_fast') == '1' then
    doomed[run] = true
  end
end

local function cancel(run, node, reason)
  if TERMINAL[get_state(run, node)] then return end
  redis.call('HSET', rk(run, 'map'), node .. ':was', get_state(run, node))
  emit(run, 'cancelled', 'node', node, 'error', reason)
  settle(run, node, 'c')
end

-- Cancel a node that nobody needs: what added it has ended before it.
local function cancel_orphan(run, node)
  local above = extra(run, node).parent
  while above and not TERMINAL[get_state(run, above)] do above = extra(run, above).parent end
  if above then cancel(run, node, 'step ' .. above .. ', which added it, has ended') end
  return above
end

local function settle_map(run, node)
  if TERMINAL[get_state(run, node)] then return end
  local counts = redis.call('HMGET', rk(run, 'map'), node .. ':bad', node .. ':skipped')
  local byte = number(counts[1]) > 0 and 'f' or number(counts[2]) > 0 and 'k' or 's'
  emit(run, 'settled', 'node', node, 'status', ({ f = 'failure', k = 'skipped', s = 'success' })[byte])
  settle(run, node, byte)
end

-- An empty map succeeds when it waits for nothing and the maps that it goes over have succeeded.
local function settle_if_empty(run, node)
  if length_of(run, node) ~= 0 or missing(run, node) > 0 then return end
  for _, source in ipairs(plan_of(run, node)[SOURCES]) do
    if get_state(run, source) ~= 's' then return end
  end
  settle_map(run, node)
end

local function skip(run, node, cause, kind)
  if TERMINAL[get_state(run, node)] then return end
  emit(run, 'skipped', 'node', node, 'count', length_of(run, node) or 1, 'kind', kind or 'upstream', 'cause', cause)
  settle(run, node, 'k')
end

-- Ranges that came before the node could take them.
local function list_ranges(run, node)
  if missing(run, node) > 0 or not length_of(run, node) then return end
  if redis.call('EXISTS', rk(run, 'ranges:' .. node)) == 0 then return end
  if get_state(run, node) == '.' then make_ready(run, node) end
  list_node(run, node)
end

-- Everything that the node waited for is there.
local function open(run, node)
  if get_state(run, node) ~= '.' then return end
  local plan, length = plan_of(run, node), length_of(run, node)
  if plan[KIND] == 's' or plan[PLANNED] and not length then
    make_ready(run, node)
    list_node(run, node)
  elseif length == 0 then
    settle_if_empty(run, node)
  elseif #plan[SOURCES] == 0 and redis.call('HEXISTS', rk(run, 'map'), node .. ':kept') == 0 then
    push_range(run, node, 0, length)
  else
    list_ranges(run, node)
  end
end

local function set_length(run, node, length)
  redis.call('HSET', rk(run, 'map'), node .. ':n', length)
  emit(run, 'length', 'node', node, 'count', length)
  table.insert(todo, { run, node, 'n', 0 })
  settle_if_empty(run, node)
  list_ranges(run, node)
end

-- Whether every item of a map was committed, so that those who go over it hear of each.
local function has_delivered(run, node)
  local length = length_of(run, node)
  return length and length > 0 and number(redis.call('HGET', rk(run, 'map'), node .. ':ended')) == length
end

local function serve_dependent(run, user, edge, what, cause)
  if TERMINAL[get_state(run, user)] then return end
  if edge == ENDED then
    if what ~= 'n' and missing(run, user, -1) == 0 then open(run, user) end
  elseif what == 'b' then
    if edge == WHOLE or edge == CHOICE or not has_delivered(run, cause) then skip(run, user, cause) end
  elseif edge == CHOICE then
    local is_chosen = extra(run, user).choice == tonumber(redis.call('HGET', rk(run, 'map'), cause .. ':choice'))
    if not is_chosen then skip(run, user, cause, 'branch') elseif missing(run, user, -1) == 0 then open(run, user) end
  elseif edge == ITEMS then
    if what == 'n' and not plan_of(run, user)[PLANNED] and not length_of(run, user) then
      set_length(run, user, length_of(run, cause))
    end
    settle_if_empty(run, user)
  elseif edge == (what == 'n' and LENGTH or WHOLE) then
    if missing(run, user, -1) == 0 then open(run, user) end
  end
end

-- From the last dependent to the first, so that lanes, which are stacks, serve the first one first.
local function fan_out(run, node, what, offset)
  local packed = redis.call('HGET', rk(run, 'dependents'), node)
  local total = packed and #packed / 4 or 0
  while offset < total and budget > 0 do
    local code = struct.unpack('<I4', packed, (total - offset - 1) * 4 + 1)
    serve_dependent(run, math.floor(code / 8), code % 8, what, node)
    offset, budget = offset + 1, budget - 1
  end
  return offset < total and offset
end

-- Items that somebody had are ready again; or wait, where a step was claimed ahead of its input.
local function put_back(run, node, start, count)
  if TERMINAL[get_state(run, node)] or cancel_orphan(run, node) then return end
  if plan_of(run, node)[KIND] == 'm' and start >= 0 then return push_range(run, node, start, count, true) end
  if missing(run, node) > 0 then return set_state(run, node, '.') end
  set_state(run, node, 'r')
  list_node(run, node, true)
end

-- Cancel a node that only gathers wait for which went on without it.
local function leave_out(run, node, reason)
  if TERMINAL[get_state(run, node)] or extra(run, node).is_returned then return end
  local users = redis.call('HGET', rk(run, 'dependents'), node) or ''
  for i = 1, #users, 4 do
    local user = math.floor(struct.unpack('<I4', users, i) / 8)
    local is_done = TERMINAL[get_state(run, user)] or redis.call('HEXISTS', rk(run, 'map'), user .. ':due') == 1
    if not is_done then return end
  end
  cancel(run, node, reason)
  table.insert(todo, { run, node, 'l', 0 })
end

local function leave_inputs_out(run, node, offset)
  local inputs = extra(run, node).inputs or {}
  while offset < #inputs and budget > 0 do
    leave_out(run, inputs[offset + 1], 'late: the gather that it was for went on without it')
    offset, budget = offset + 1, budget - 1
  end
  return offset < #inputs and offset
end

-- What a `todo` says of a node: s(uccess), b(ad), n(umber of items known): tell dependents; l: leave its inputs out;
-- r: run its item, the last number, again. Where the budget ends, the offset to go on from.
local function serve(run, node, what, offset)
  if is_over(run) then return end
  if what == 'l' then return leave_inputs_out(run, node, offset) end
  if what == 'r' then return put_back(run, node, offset, 1) end
  return fan_out(run, node, what, offset)
end

local function work()
  for run in pairs(doomed) do end_run(run, 'failure', 'fail_fast') end
  doomed = {}
  while #todo > 0 do
    local run, node, what, offset = unpack(table.remove(todo))
    local rest = serve(run, node, what, offset)
    if rest then redis.call('RPUSH', P .. 'pending', entry_of(run, node, what, rest)) end
  end
end

local function work_pending()
  while budget > 0 do
    local entry = redis.call('LPOP', P .. 'pending')
    if not entry then return end
    local run, node, what, offset = read_entry(entry)
    if run then table.insert(todo, { run, node, what, offset }) end
    work()
  end
end
