"""An instance of one job: its files first, then the agent."""

from __future__ import annotations

from nodeimage.agent.ending import Ending
from nodeimage.protocol import NodeState

from .instance import Instance


def run_render(instance: Instance) -> Ending:
    """Render frames of the job that the instance was launched for, until there is a reason to end. Returns: it"""
    launch, machine = instance.launch, instance.machine
    config = instance.config(job=launch.job, home=machine.home, workspace=machine.workspace, idle_s=launch.idle_s)
    workspace = instance.workspace(machine.workspace, job=launch.job)
    return instance.work(config, series=launch.blender, prepare=workspace.prepare, last_state=NodeState.GONE)
