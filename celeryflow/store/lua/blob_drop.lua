#!lua flags=allow-oom
-- blob_drop: forget a blob that nobody has put since, and delete it where it is on this server.
--
-- KEYS[1]  prefix
-- ARGV     digest; the time (seconds since 1970); the seconds that the caller has for deleting it elsewhere, or 0
-- Returns  1 if it was, else 0. One that was unknown counts as put now.

local digest, before, leaving_s = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local put_at = redis.call('ZSCORE', P .. 'blobs', digest)
if not put_at then redis.call('ZADD', P .. 'blobs', NOW, digest) end
if not put_at or tonumber(put_at) > before then return 0 end
redis.call('ZREM', P .. 'blobs', digest)
redis.call('UNLINK', P .. 'blob:' .. digest)
if leaving_s > 0 then redis.call('SET', P .. 'leaving:' .. digest, 1, 'EX', leaving_s) end
return 1
