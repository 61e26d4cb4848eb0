#!lua
-- commit: store what an attempt made, hand the rest of its claim back, and give the next claim.
--
-- KEYS[1]  prefix
-- ARGV     drainer, token of the attempt, token for the next claim, '' for none, or '-' for none as the
--          process goes on for a moment (it keeps its place among a capped step's), worker label,
--          results (see FIELDS above), then record and durations of each
-- Returns  {answer, more, claim}: answer is committed, already (this token's results are in), or stale (another attempt
--          has taken over, or the run has ended: nothing was stored); more and claim as of the claim verb
--
-- All or nothing: outputs, counters, dependents, events and the run's end are written together.

local drainer, token, following, worker = unpack(ARGV, 1, 4)
local results = read_results(ARGV[5], 6, worker)
local held = read_claim(drainer)
if held.previous == token and token ~= '' then
  return { 'already', redis.call('EXISTS', P .. 'pending'), held.token and reply(held) or {} }
end

-- Whoever was thought dead and is not comes too late: the run's events say so.
local function tell_late()
  local entry = redis.call('GET', P .. 'late:' .. token)
  local run = entry and read_entry(entry)
  redis.call('DEL', P .. 'late:' .. token)
  for _, r in ipairs(run and results or {}) do
    emit(run, 'stale', 'node', r.node, 'start', r.start, 'count', r.count, 'attempt', r.attempt, 'worker', worker)
  end
end

local answer = 'stale'
if held.token == token then
  if does_count(held) then
    answer = 'committed'
    for _, result in ipairs(results) do apply(held.run, result) end
    work()
    hand_back(held.run, rest_of(held.units, results), 'released')
  end
elseif held.token then
  return { answer, 0, reply(held) }
else
  tell_late()
end
work_pending()
work_delayed()
local claim, previous = { units = {} }, answer == 'committed' and token or held.previous or ''
if following ~= '' and following ~= '-' then
  claim = take(drainer, following, worker, previous)
else
  if following == '' then leave_place(drainer) end
  redis.call('DEL', P .. 'claim:' .. drainer)
  redis.call('HSET', P .. 'claim:' .. drainer, 'previous', previous)
  if following == '-' and held.queue then redis.call('HSET', P .. 'claim:' .. drainer, 'queue', held.queue) end
end
wake()
return { answer, redis.call('EXISTS', P .. 'pending'), reply(claim) }
