-- Destroys a dataset if it has the guid that is given (signed, as numbers are here), in one transaction: no
-- other dataset can get its name in between. Returns 0, the error number of the refusal, or -1 if it is gone or
-- another.
local name, guid = (...)["argv"][1], (...)["argv"][2]
if not zfs.exists(name) or tostring(zfs.get_prop(name, "guid")) ~= guid then
    return -1
end
return zfs.sync.destroy(name)
