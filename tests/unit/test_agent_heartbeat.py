"""The heart's beats reach the store in the order in which they were said."""

from __future__ import annotations

import threading

from nodeimage.agent.heartbeat import Heart
from nodeimage.protocol import Heartbeat, NodeState, status_key
from tests.waiting import wait_until

from .agent_fakes import MemoryStore

IDLE = Heartbeat(node="n", job="j", beat=0, at_ms=0, state=NodeState.IDLE, agent_version="1")
#: A beat that does not wait for the one before has arrived by then.
SOON_S = 0.3


class SlowStore(MemoryStore):
    """Its first write takes until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.goes_on = threading.Event(), threading.Event()

    def put(self, key: str, body: bytes, *, content_type: str = "application/json") -> None:
        if not self.is_asked.is_set():
            self.is_asked.set()
            assert self.goes_on.wait(20.0)
        super().put(key, body, content_type=content_type)


def test_a_beat_under_way_does_not_arrive_after_the_last_one() -> None:
    store = SlowStore()
    heart = Heart(store, IDLE, every_s=60.0, now_ms=lambda: 1, each_beat=lambda: None)
    heart.start()
    assert store.is_asked.wait(20.0)
    last = threading.Thread(target=heart.last_beat)
    last.start()
    last.join(SOON_S)
    store.goes_on.set()
    last.join()
    wait_until(lambda: len([call for call in store.calls if call[0] == "put"]) == 2)
    stored = store.get(status_key("n"))
    assert stored is not None
    assert Heartbeat.from_bytes(stored.body or b"").state is NodeState.GONE
