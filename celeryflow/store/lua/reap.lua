#!lua flags=allow-oom
-- reap: take back the claim of a drainer that died.
--
-- KEYS[1]  prefix
-- ARGV     drainer, token of the claim as the caller saw it ('' if it saw none), reason, worker label,
--          node and start of the item that had started (node -1 where that is unknown), its attempt,
--          failure record to store if that item has now lost more workers than it may ('' to try it again even so: others
--          had started beside it), and the outcome then
-- Returns  1 if the claim was taken back, 0 if there was none or it was another
--
-- Only the item that had started is charged. Where it is unknown, nobody is, and as many items as were lost of a step, which
-- come first, run one a claim.

local drainer, token, reason, worker = unpack(ARGV, 1, 4)
local node, start, attempt, record = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
assert(node and start and attempt and record and ARGV[9], 'nine arguments')
local held = read_claim(drainer)
if (held.token or '') ~= token then return 0 end
forget_drainer(drainer)
if not held.token then return 0 end
local run, fate = held.run, { 'error', reason, 'worker', worker, 'attempt', attempt }

-- The item that had started goes back alone and first, or fails where it has lost too many workers.
local function charge()
  local item = { node = node, start = start, count = 1, outcome = ARGV[9], attempt = attempt, worker = worker,
    record = record, durations = '', seconds = -1, waited_s = 0, output_bytes = 0, kind = 'poisoned', error = reason }
  local losses = redis.call('HINCRBY', rk(run, 'tries'), node .. ':' .. start .. ':l', 1)
  local is_too_many = losses > plan_of(run, node)[LOSSES] and record ~= ''
  if is_too_many then
    apply(run, item)
    work()
  end
  hand_back(run, rest_of(held.units, { item }), 'released')
  if not is_too_many then hand_back(run, { { node, start, 1 } }, 'lost', 'tries', losses, unpack(fate)) end
end

if does_count(held) then redis.call('SET', P .. 'late:' .. token, entry_of(run, 0, 'late', 0), 'EX', LATE_S) end
if does_count(held) and node >= 0 then
  charge()
elseif does_count(held) then
  for _, unit in ipairs(held.units) do
    run_alone(run, plan_of(run, unit[1])[COST], unit[3])
  end
  hand_back(run, held.units, 'lost', unpack(fate))
end
wake()
return 1
