-- resty.roundrobin for the test cluster, as Debian does not package it: servers in turn, each as often as its weight
-- says, from a random one on, so that several workers do not all begin with the same.
local _M = {}
local methods = { __index = _M }

local function turns(weights)
    local list = {}
    for server, weight in pairs(weights) do
        for _ = 1, weight do
            list[#list + 1] = server
        end
    end
    return list
end

function _M.new(_, weights)
    local list = turns(weights)
    return setmetatable({ list = list, last = math.random(0, math.max(#list - 1, 0)) }, methods)
end

function _M.reinit(self, weights)
    self.list = turns(weights)
    self.last = math.random(0, math.max(#self.list - 1, 0))
end

function _M.find(self)
    if #self.list == 0 then
        return nil
    end
    self.last = self.last % #self.list + 1
    return self.list[self.last]
end

return _M
