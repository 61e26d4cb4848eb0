-- Lanes: the ready nodes of one run in one queue at one priority. A queue is a sorted set of lanes, the highest priority
-- first, among equals the one that was served longest ago.

local function lane_key(run, queue, priority) return rk(run, 'lane:' .. queue .. ':' .. priority) end

local function score(priority) return (9 - priority) * 2 ^ 40 + redis.call('INCR', P .. 'served') end

local woken = {}
-- What was begun and came back goes first: it lies at the far end of the lane, as -1 - node, where nothing newer buries it.
local function list_node(run, node, is_back)
  local plan = plan_of(run, node)
  if plan[KIND] == 'm' and redis.call('HSETNX', rk(run, 'map'), node .. ':q', 1) == 0 then return end
  local lane = lane_key(run, plan[QUEUE], plan[PRIORITY])
  if redis.call(is_back and 'RPUSH' or 'LPUSH', lane, is_back and -1 - node or node) == 1 then  -- else the lane is known
    redis.call('ZADD', P .. 'queue:' .. plan[QUEUE], 'NX', score(plan[PRIORITY]), run .. '|' .. plan[PRIORITY])
    redis.call('SADD', P .. 'queues', plan[QUEUE])
  end
  woken[plan[QUEUE]] = true
end

-- The node of a lane whose turn it is, and whether it came back.
local function first_of(lane)
  local last = tonumber(redis.call('LINDEX', lane, -1))
  if last and last < 0 then return -1 - last, true end
  return tonumber(redis.call('LINDEX', lane, 0))
end

local function unlist_first(run, lane)
  local node, is_back = first_of(lane)
  redis.call(is_back and 'RPOP' or 'LPOP', lane)
  redis.call('HDEL', rk(run, 'map'), node .. ':q')
end

local function unlist_lane(queue, member)
  redis.call('ZREM', P .. 'queue:' .. queue, member)
  if redis.call('EXISTS', P .. 'queue:' .. queue) == 0 then redis.call('SREM', P .. 'queues', queue) end
end

-- Everything that a node waits for is there: gathers that wait for it with a deadline begin to count.
local function make_ready(run, node)
  set_state(run, node, 'r')
  for _, gather in ipairs(extra(run, node).timers or {}) do
    local due = NOW - asleep() + extra(run, gather).deadline_s
    redis.call('ZADD', P .. 'timers', 'NX', due, entry_of(run, gather, 'due', 0))
  end
end

local function push_range(run, node, start, count, is_back)
  local state = get_state(run, node)
  if TERMINAL[state] or count == 0 then return end
  redis.call('LPUSH', rk(run, 'ranges:' .. node), start .. ':' .. count)
  if missing(run, node) > 0 or not length_of(run, node) then return end
  if state == '.' then make_ready(run, node) end
  list_node(run, node, is_back)
end

-- Zipped maps: an item is ready when every source has committed it; `zip:N` counts them, two bytes an item.
local function push_zipped(run, node, start, count, sources)
  local key = rk(run, 'zip:' .. node)
  local counts = redis.call('GETRANGE', key, 2 * start, 2 * (start + count) - 1)
  counts = counts .. string.rep('\0', 2 * count - #counts)
  local raised, ready = {}, {}
  for i = 1, count do
    local low, high = string.byte(counts, 2 * i - 1, 2 * i)
    local seen = low + 256 * high + 1
    raised[i] = string.char(seen % 256, math.floor(seen / 256))
    ready[i] = seen == sources
  end
  redis.call('SETRANGE', key, 2 * start, table.concat(raised))
  local first
  for i = 1, count + 1 do
    if ready[i] and not first then first = i end
    if not ready[i] and first then
      push_range(run, node, start + first - 1, i - first)
      first = nil
    end
  end
end

local function flow(run, node, start, count)
  for _, user in ipairs(plan_of(run, node)[FLOWS]) do
    local sources = #plan_of(run, user)[SOURCES]
    if sources == 1 then push_range(run, user, start, count) else push_zipped(run, user, start, count, sources) end
  end
end
