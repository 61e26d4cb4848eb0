#!lua flags=allow-oom
-- release: a drainer stops; what it holds goes back, and nobody is charged.
--
-- KEYS[1]  prefix
-- ARGV     drainer
-- Returns  1 if it held a claim, else 0

local drainer = ARGV[1]
local held = read_claim(drainer)
if does_count(held) then
  hand_back(held.run, held.units, 'released')
end
forget_drainer(drainer)
redis.call('DEL', P .. 'wake:' .. drainer)
for _, queue in ipairs(queues_of(group_of(drainer))) do woken[queue] = true end
wake()
return held.token and 1 or 0
