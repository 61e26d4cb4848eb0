#!lua flags=allow-oom
-- blob_publish: give a blob that was written aside its name: who reads it finds all of it, or nothing.
--
-- KEYS[1]  prefix
-- ARGV     digest, size in bytes, the name under which it was written, how many fields it has there
-- Returns  1 if it is there now; 0 if what was written is not there, or not all of it (after a failover, say)

local digest, size, fields = ARGV[1], ARGV[2], tonumber(ARGV[4])
local blob, new = P .. 'blob:' .. digest, P .. 'blob-new:' .. ARGV[3]
if redis.call('HLEN', new) == fields then
  redis.call('UNLINK', blob)
  redis.call('RENAME', new, blob)
  redis.call('PERSIST', blob)
elseif redis.call('HGET', blob, 'size') ~= size then
  return 0
end
redis.call('ZADD', P .. 'blobs', NOW, digest)
return 1
