"""Put the farm's agent into the object store, for instances whose image does not hold one."""

from __future__ import annotations

import structlog

from nodeimage.release import AgentRelease, agent_release

from .ports import ObjectStore

log = structlog.get_logger(__name__)


def publish_agent(objects: ObjectStore) -> AgentRelease:
    """Have this farm's agent in the store; older versions stay, for the nodes that run them.

    Repeat:  safe: what is there under the version's name is that version
    Returns: the release, whose key and SHA-256 instances are told at their launch
    Errors:  Unreachable, Refused, Full
    """
    release = agent_release()
    if objects.put(release.key, release.body, if_absent=True):
        log.info("agent published", version=release.version, bytes=len(release.body))
    return release
