"""The node agent: reads the order, claims frames, has Blender render them, delivers them. `python -m nodeimage.agent`."""

#: Goes with every heartbeat. The farm tells an operator when nodes run an older one.
AGENT_VERSION = "0.1.0"
