-- Lanes: the ready nodes of one run in one queue at one priority. A queue is a sorted set of lanes, the highest priority
-- first, among equals the one that was served longest ago.

local function lane_key(run, queue, priority) return rk(run, 'lane:' .. queue .. ':' .. priority) end

local function score(priority) return (9 - priority) * 2 ^ 40 + redis.call('INCR', P .. 'served') end

local woken = {}
local function list_node(run, node)
  local plan = plan_of(run, node)
  if plan[KIND] == 'm' and redis.call('HSETNX', rk(run, 'map'), node .. ':q', 1) == 0 then return end
  redis.call('LPUSH', lane_key(run, plan[QUEUE], plan[PRIORITY]), node)
  redis.call('ZADD', P .. 'queue:' .. plan[QUEUE], 'NX', score(plan[PRIORITY]), run .. '|' .. plan[PRIORITY])
  redis.call('SADD', P .. 'queues', plan[QUEUE])
  woken[plan[QUEUE]] = true
end

local function unlist_node(run, node, lane)
  redis.call('LPOP', lane)
  redis.call('HDEL', rk(run, 'map'), node .. ':q')
end

local function push_range(run, node, start, count)
  local state = get_state(run, node)
  if TERMINAL[state] or count == 0 then return end
  redis.call('LPUSH', rk(run, 'ranges:' .. node), start .. ':' .. count)
  if missing(run, node) > 0 or not length_of(run, node) then return end
  if state == '.' then set_state(run, node, 'r') end
  list_node(run, node)
end

-- Zipped maps: an item is ready when every source has committed it.
local function push_zipped(run, node, start, count, sources)
  local first
  for item = start, start + count do
    local ready = item < start + count
      and redis.call('BITFIELD', rk(run, 'zip:' .. node), 'INCRBY', 'u16', '#' .. item, 1)[1] == sources
    if ready and not first then first = item end
    if not ready and first then
      push_range(run, node, first, item - first)
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
