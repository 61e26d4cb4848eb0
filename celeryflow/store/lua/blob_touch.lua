#!lua flags=allow-oom
-- blob_touch: somebody is about to name a blob, wherever it is kept: it is as good as put now.
--
-- KEYS[1]  prefix
-- ARGV     digest
-- Returns  its size in bytes if it is on this server, else nil; 1 if it is being deleted elsewhere at this moment

redis.call('ZADD', P .. 'blobs', NOW, ARGV[1])
return { redis.call('HGET', P .. 'blob:' .. ARGV[1], 'size'), redis.call('EXISTS', P .. 'leaving:' .. ARGV[1]) }
