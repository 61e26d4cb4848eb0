#!lua
-- claim: give a drainer work.
--
-- KEYS[1]  prefix
-- ARGV     drainer, token (nonce of the new attempt), worker label, ticket or ''
-- Returns  {more, claim}: claim is {token, run, generation, queue, {unit, …}} or {} if nothing is ready;
--          unit is {node, start, count, exceptions, losses, spec record, {field, input record, …}};
--          more is 1 while `pending` holds work
--
-- A drainer that holds a claim gets that one again. An empty reply registers it as idle, to be woken.

local drainer, token, worker, ticket = unpack(ARGV)
assert(worker and ticket, 'four arguments')
if ticket ~= '' then redis.call('ZREM', gk(group_of(drainer), 'tickets'), ticket) end
local held = read_claim(drainer)
if held.token then return { 0, reply(held) } end
work_pending()
work_delayed()
local claim = take(drainer, token, worker, held.previous)
wake()
return { redis.call('EXISTS', P .. 'pending'), reply(claim) }
