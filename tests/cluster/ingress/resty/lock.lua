-- Stands in for resty.lock, which Debian does not package: a lock that is always free. The controller uses it for
-- certificates that it asks about by OCSP, and for balancing by latency; nothing here does either.
local _M = {}

local lock = { lock = function() return 0 end, unlock = function() return 1 end }

function _M.new()
    return setmetatable({}, { __index = lock })
end

return _M
