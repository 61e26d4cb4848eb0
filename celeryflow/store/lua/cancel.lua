#!lua flags=allow-oom
-- cancel: end a run.
--
-- KEYS[1]  prefix
-- ARGV     run, reason
-- Returns  the run's status from before, or '' if there is no such run; a run that is over keeps its status
--
-- O(1): claims of a run that is over are stale, and its lanes are dropped when they come up.

local run = ARGV[1]
local status = meta(run, 'status')
if not status then return '' end
if not RUN_OVER[status] then end_run(run, 'cancelled', ARGV[2]) end
return status
