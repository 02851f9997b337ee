"""What a job's page says of its instances, by their nodes' own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeimage.protocol import Heartbeat, NodeState, status_key
from supervisor import queries
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes


@pytest.mark.parametrize(("phase", "words"), [("fetching files: 43 %", "fetching files: 43 %"), ("", "starting Blender")])
def test_node_that_does_not_render_yet_is_shown_with_how_far_it_is(tmp_path: Path, phase: str, words: str) -> None:
    bench = FakeFarm.open(tmp_path)
    job = bench.a_rendering_job(frames="1-2", instances=1)
    node = FakeNodes(bench).only()
    beat = Heartbeat(node=node.name, job=job, beat=1, at_ms=node.now_ms, state=NodeState.STARTING, phase=phase)
    bench.cloud.objects.put(status_key(node.name), beat.to_bytes())
    bench.tick()
    assert queries.job_instances(bench.farm, job)[0].doing == words
