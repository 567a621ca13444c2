-- Stands in for resty.chash, which Debian does not package: what needs it says so, everything else works.
local _M = {}

function _M.new()
    return nil, "resty.chash is not in this image"
end

return _M
