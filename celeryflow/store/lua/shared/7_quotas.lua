-- Quotas: `quota:<name>` has, by `run|node`, the items of what may be in flight. An entry counts while its run is not over
-- and its node has not ended, so that nobody has to give it back: it goes when somebody looks next.

-- What a run's nodes want: {node, name, items, most items of that name} each.
local function quotas_of(run)
  local packed = meta(run, 'quotas')
  return packed and cmsgpack.unpack(packed) or {}
end

local function quota_key(name)
  local key = P .. 'quota:' .. name
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('RENAME', key, P .. 'stray:quota:' .. name) end
  return key
end

local function in_flight(key)
  local total = 0
  local entries = redis.call('HGETALL', key)
  for i = 1, #entries, 2 do
    local run, node = string.match(entries[i], '^(.*)|(%d+)$')
    if is_over(run) or TERMINAL[get_state(run, node)] then
      redis.call('HDEL', key, entries[i])
    else
      total = total + number(entries[i + 1])
    end
  end
  return total
end

-- Set aside what the nodes of a run want that are still to run, each for itself. What is over its quota is cancelled, or
-- ends the run where that cannot do without it.
local function reserve(run)
  for _, wanted in ipairs(quotas_of(run)) do
    local node, name, items, most = unpack(wanted)
    if not TERMINAL[get_state(run, node)] then
      local key = quota_key(name)
      redis.call('HDEL', key, run .. '|' .. node)
      local used = in_flight(key)
      if used + items <= most then
        redis.call('HSET', key, run .. '|' .. node, items)
      else
        local why = string.format('over quota: asked for %d items, %d in use, quota %d', items, used, most)
        redis.call('HSET', rk(run, 'map'), node .. ':refused', why)
        if plan_of(run, node)[FATAL] then return end_run(run, 'failure', why) end
        cancel(run, node, why)
      end
    end
  end
end
