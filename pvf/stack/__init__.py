"""The local stack: real servers as child processes, started, watched and stopped together.

processes    what runs (from /proc), the record of what was started, orderly stop
guardian     ends the parts when their supervisor is gone
part         what one part is; health checks
supervisor   starts parts in the order of their needs, notices a dead one, stops them
ports        free ports, the same ones at the next start
keyring      passwords and keys, made once
seaweedfs, postgres, mlflow, services, gateway    the parts
local        `Stack`: all of it on one PVF_HOME
"""
