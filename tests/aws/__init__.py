"""AWS for tests: moto as a server, mended where it is unlike AWS in what the farm relies on.

`moto_server.py` is the way in. `world.py` says what the cloud is like at present, `happenings.py` what befalls the farm from outside;
`repairs.py`, `fleets.py`, `templates.py` mend moto; `faults.py` breaks the way between the farm and AWS.
"""
