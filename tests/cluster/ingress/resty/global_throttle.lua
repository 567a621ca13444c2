-- Stands in for resty.global_throttle, which Debian does not package: what needs it says so, everything else works.
local _M = {}

function _M.new()
    return nil, "resty.global_throttle is not in this image"
end

return _M
