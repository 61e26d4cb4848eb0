-- What the verbs share: these files stand, in order, before each of them. Nothing is written by loading them.
--
-- KEYS[1]  the deployment's prefix. Further keys are found on the way (no Redis Cluster).
--
-- A run's nodes are numbered from 0. A node's work is items: item 0 of a step, items 0..n-1 of a map, and
-- item -1, by which a worker reads the length of a map ("planning"). Each item is in exactly one place: waiting for
-- inputs, on a lane (`lane:*`, for maps by way of `ranges:*`), in a claim, in `delayed`, expanded (`rounds`: it waits
-- for the last node of the part that it added), or committed.

local P = KEYS[1] .. ':'
local clock = redis.call('TIME')
local NOW = tonumber(clock[1]) + tonumber(clock[2]) / 1e6

local LEASE_S = 10         -- a drainer may be silent for so long
local TICKET_S = 1         -- a ticket that nobody took counts as lost after this
local OPENING_MS = 500     -- so long an event loop that has begun may take to ask for all that it may run
local LATE_S = 3600        -- a result that comes so long after its claim was taken back is still told of
local CHUNK_S = 0.05       -- work that one claim aims at
local ROUND_S = 0.002      -- what a claim costs is not worth it for less
local OVERHEAD_S = { s = 0.0002, m = 0.000005 }  -- of a step, and of an item of a map, beside its own time
local CLAIM_NODES = 25     -- most steps in one claim
local CLAIM_ITEMS = 5000   -- most items of a map in one claim
local NEIGHBOURS = 15      -- lanes that are looked at beside the first one of a queue
local BUDGET = 50          -- dependents that one call serves; the rest waits in `pending`

-- plan: what the verbs know of a node (msgpack array, written by values/manifest.py)
local KIND, QUEUE, PRIORITY, LOSSES, COST, STEPS, SOURCES, FLOWS, PLANNED = 1, 2, 3, 4, 5, 6, 7, 8, 9
local FATAL, EXTRA = 10, 11

local WHOLE, ITEMS, LENGTH, ENDED, CHOICE = 0, 1, 2, 3, 4
local DUE = '!'  -- with the pool behind it, the queue of gathers whose deadline has come, which supervisors serve
local TERMINAL = { s = true, f = true, k = true, c = true }
local RUN_OVER = { success = true, failure = true, cancelled = true }

local function rk(run, part) return P .. 'run:' .. run .. ':' .. part end

local function meta(run, field) return redis.call('HGET', rk(run, 'meta'), field) end

-- A drainer's name is `group|worker|nonce`; a group is what its worker serves: queues with commas between, or *.
local function group_of(drainer) return string.match(drainer, '^([^|]+)|') or error('not a drainer: ' .. drainer) end
local function gk(group, part) return P .. 'group:' .. group .. ':' .. part end

-- What a script asks for again and again it remembers, and writes through: a third of its time was spent in asking.
local over, states = {}, {}

-- A run that is over or gone, or that waits for somebody to resume it.
local function is_over(run)
  if over[run] == nil then
    local fields = redis.call('HMGET', rk(run, 'meta'), 'status', 'parked')
    over[run] = RUN_OVER[fields[1] or 'cancelled'] or fields[2] ~= false
  end
  return over[run]
end

local function number(value) return tonumber(value) or 0 end

-- What of NOW does not count for deadlines: time in which the machine slept, or no supervisor was there. What of it has
-- not ended is not in `asleep` yet: the next beat adds it.
local ASLEEP_S = 3
local function asleep()
  local silent = NOW - number(redis.call('GET', P .. 'beat') or NOW)
  return number(redis.call('GET', P .. 'asleep')) + (silent > ASLEEP_S and silent or 0)
end

local generations = {}
local function generation_of(run)
  generations[run] = generations[run] or number(meta(run, 'generation'))
  return generations[run]
end

-- What the queues of the deployment (`pending`, `delayed`, `timers`) hold of a run: its id, three facts, its generation.
local function entry_of(run, ...) return table.concat({ run, ... }, '|') .. '|' .. generation_of(run) end

-- The parts of an entry; none where it is of a run that is over, or of an earlier generation, or is no entry at all.
local function read_entry(entry)
  local run, node, what, item, generation = string.match(entry, '^(.*)|(%d+)|(%a+)|(%-?%d+)|(%d+)$')
  if not run or is_over(run) or tonumber(generation) ~= generation_of(run) then return end
  return run, tonumber(node), what, tonumber(item)
end

local plans = {}
local function plan_of(run, node)
  local id = run .. '|' .. node
  if not plans[id] then plans[id] = cmsgpack.unpack(redis.call('HGET', rk(run, 'plan'), node)) end
  return plans[id]
end

local function get_state(run, node)
  local id = run .. '|' .. node
  if not states[id] then states[id] = redis.call('GETRANGE', rk(run, 'state'), node, node) end
  return states[id]
end
local function set_state(run, node, byte)
  states[run .. '|' .. node] = byte
  redis.call('SETRANGE', rk(run, 'state'), node, byte)
end

-- What few nodes have: role, choice (that runs it), deadline_s and inputs (of a gather), timers (gathers that wait for
-- it), is_returned (by the workflow), parent (that added it) and returns (node and item that it is the value of).
local function extra(run, node) return plan_of(run, node)[EXTRA] or {} end

local function missing(run, node, change)
  local verb = change and { 'INCRBY', 'u32', '#' .. node, change } or { 'GET', 'u32', '#' .. node }
  return redis.call('BITFIELD', rk(run, 'missing'), unpack(verb))[1]
end

local function length_of(run, node) return tonumber(redis.call('HGET', rk(run, 'map'), node .. ':n')) end

local function emit(run, event, ...)
  local seq = redis.call('HINCRBY', rk(run, 'meta'), 'seq', 1)
  redis.call('XADD', rk(run, 'events'), seq .. '-0', 'at', string.format('%.6f', NOW), 'event', event, ...)
end
