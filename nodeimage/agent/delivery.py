"""The outbox: what is to be delivered waits on disk, and goes in order, while the next frame renders.

A parcel is a folder `<home>/outbox/<number>` with `entry.json` (the journal entry), `outputs/`, `preview.webp` and `log.txt`. It is
made elsewhere and renamed, so what is in the outbox is whole; after a restart of the agent it is delivered first.
"""

from __future__ import annotations

import logging
import random
import shutil
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

from nodeimage import protocol
from nodeimage.protocol import JournalEntry, Outcome, Output

from .ports import Full, Refused, Silent, Store, StoreError
from .reports import undelivered

log = logging.getLogger(__name__)

#: Frames that may wait for delivery before the node takes no more.
MOST_FRAMES = 3
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20.0
#: What the first delivery is expected to take, and of how many frames what the next one is.
FIRST_DELIVERY_S, REMEMBERED = 5.0, 20
#: Refusals of one parcel before its frame is reported as not delivered.
MOST_REFUSALS = 5

_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".exr": "image/x-exr",
    ".tif": "image/tiff",
    ".bmp": "image/bmp",
}


class Outbox:
    """Parcels on disk, and the thread that delivers them."""

    def __init__(self, store: Store, *, job: str, home: Path, now_ms: Callable[[], int], changed: Callable[[Outbox], None]) -> None:
        """Shape:   `changed` is called, in any thread, when a parcel came, went, or can't go"""
        self._store = store
        self._job = job
        self._folder = home / "outbox"
        self._now_ms = now_ms
        self._changed = changed
        self._wake = threading.Condition()
        self._stopped = threading.Event()
        self._written = 0
        self.problem = ""
        self.delivered = 0
        self._delivery_s: deque[float] = deque(maxlen=REMEMBERED)
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(home / "parcel", ignore_errors=True)
        self._waiting = _read_parcels(self._folder)
        self._next = 1 + max((int(number) for number in self._waiting), default=0)
        self._nonces = {entry.nonce for entry in self._waiting.values()}
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, entry: JournalEntry, parcel: Path | None = None, *, log_text: bytes = b"") -> None:
        """Hand over what is to be delivered. `parcel` is a folder with outputs and preview; it is moved into the outbox.

        Errors:  OSError - no room on this disk
        """
        with self._wake:
            number = f"{self._next:08d}"
            self._next += 1
        made = parcel or self._folder.parent / "parcel"
        made.mkdir(parents=True, exist_ok=True)
        (made / "entry.json").write_bytes(entry.to_bytes())
        if log_text:
            (made / "log.txt").write_bytes(log_text)
        made.rename(self._folder / number)
        with self._wake:
            self._waiting[number] = entry
            self._nonces.add(entry.nonce)
            self._wake.notify_all()
        self._changed(self)

    def add_without_files(self, entry: JournalEntry) -> None:
        """Hand over an entry that this disk has no room for: it is kept in memory only."""
        with self._wake:
            number = f"{self._next:08d}"
            self._next += 1
            self._waiting[number] = entry
            self._nonces.add(entry.nonce)
            self._wake.notify_all()
        self._changed(self)

    def knows(self, nonce: str) -> bool:
        """Say whether the outcome of the claim with this nonce was handed over."""
        return nonce in self._nonces

    def frames(self) -> tuple[int, ...]:
        """The frames that wait for delivery, in order."""
        with self._wake:
            return tuple(entry.frame for entry in self._waiting.values() if entry.frame is not None)

    def entries(self) -> list[JournalEntry]:
        """What waits for delivery, in order."""
        with self._wake:
            return list(self._waiting.values())

    def expected_s(self) -> float:
        """How long a frame handed over now will take to be delivered, after those that wait."""
        one_s = median(self._delivery_s) if self._delivery_s else FIRST_DELIVERY_S
        return one_s * (len(self.frames()) + 1)

    def has_room(self, *, besides: int = 0) -> bool:
        """Say whether a frame taken now will find room here, after `besides` others on their way."""
        return len(self.frames()) + besides < MOST_FRAMES

    def wait_for_change(self, timeout_s: float) -> None:
        """Wait until a parcel came or went, but not longer."""
        with self._wake:
            self._wake.wait(timeout_s)

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until everything is delivered. Returns: False if it still is not after so long"""
        with self._wake:
            return self._wake.wait_for(lambda: not self._waiting, timeout_s)

    def stop(self) -> None:
        """Begin no more deliveries; what waits stays on disk."""
        self._stopped.set()
        with self._wake:
            self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._stopped.is_set())
                if self._stopped.is_set():
                    return
                number, entry = next(iter(self._waiting.items()))
            began_at = time.monotonic()
            self._deliver_at_last(self._folder / number, entry)
            if self._stopped.is_set():
                return
            if entry.outcome is Outcome.FINISHED:
                self._delivery_s.append(time.monotonic() - began_at)
            (self._folder / number / "entry.json").unlink(missing_ok=True)
            shutil.rmtree(self._folder / number, ignore_errors=True)
            with self._wake:
                del self._waiting[number]
                self.problem = ""
                self._wake.notify_all()
            self._changed(self)

    def _deliver_at_last(self, parcel: Path, entry: JournalEntry) -> None:
        """Deliver a parcel, however long the store is silent or full."""
        pause_s, refusals = FIRST_PAUSE_S, 0
        while not self._stopped.is_set():
            try:
                self._deliver(parcel, entry)
                return
            except OSError as error:
                self._say(f"An output is gone from this node's disk: {error}")
                entry = undelivered(entry, f"an output is gone from the node's disk: {error}")
            except Refused as error:
                refusals += 1
                self._say(f"This node can't deliver: {error}")
                if refusals == MOST_REFUSALS:
                    entry = undelivered(entry, str(error))
            except Full as error:
                self._say(f"The store takes nothing, most likely for lack of room: make some, and delivery goes on by itself ({error}).")
            except Silent as error:
                self._say(f"The store does not answer: {error}")
            self._stopped.wait(pause_s * random.uniform(0.8, 1.2))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _say(self, problem: str) -> None:
        log.warning("delivery waits", extra={"why": problem})
        self.problem = problem
        self._changed(self)

    def _deliver(self, parcel: Path, entry: JournalEntry) -> None:
        """Put everything of a parcel, whatever may go wrong. Errors: StoreError; OSError - a file is gone"""
        try:
            self._put_all(parcel, entry)
        except (StoreError, OSError):
            raise
        except Exception as error:
            # A thread that ended here would have the node render on for nobody, to the end of its longest life.
            log.exception("delivery broke off", extra={"frame": entry.frame})
            raise Refused(f"a fault of this node's own: {error!r}") from error

    def _put_all(self, parcel: Path, entry: JournalEntry) -> None:
        """Put the files of a parcel, then the journal entry."""
        if entry.frame is not None:
            entry = self._put_files(parcel, entry, entry.frame)
        at_ms = self._now_ms()
        self._written += 1
        # Time of writing, not of happening: a reader lists from the last entry it saw, and what comes late must come after that.
        key = protocol.journal_key(self._job, at_ms=at_ms, node=entry.node, n=self._written)
        self._store.put(key, replace(entry, at_ms=at_ms).to_bytes())
        if entry.outcome is Outcome.FINISHED:
            self.delivered += 1

    def _put_files(self, parcel: Path, entry: JournalEntry, frame: int) -> JournalEntry:
        outputs = []
        for output in entry.outputs:
            path = parcel / "outputs" / output.name
            outputs.append(_measured(path, output))
            key = protocol.output_key(self._job, frame, output.name)
            self._store.put_file(key, path, content_type=_TYPES.get(path.suffix.lower(), "application/octet-stream"))
        if entry.has_preview:
            self._store.put(protocol.preview_key(self._job, frame), (parcel / "preview.webp").read_bytes(), content_type="image/webp")
        if (parcel / "log.txt").exists():
            log_key = protocol.log_key(self._job, frame, entry.attempt)
            self._store.put(log_key, (parcel / "log.txt").read_bytes(), content_type="text/plain; charset=utf-8")
        return replace(entry, outputs=tuple(outputs))


def _read_parcels(folder: Path) -> dict[str, JournalEntry]:
    """Read what waits for delivery; what is left of a parcel whose removal was cut short is removed."""
    waiting = {}
    for parcel in sorted(folder.iterdir()):
        try:
            waiting[parcel.name] = JournalEntry.from_bytes((parcel / "entry.json").read_bytes())
        except (OSError, protocol.Unreadable):
            shutil.rmtree(parcel, ignore_errors=True)
    return waiting


def _measured(path: Path, output: Output) -> Output:
    """The output with its checksum. Errors: OSError - it is not what Blender wrote"""
    crc32 = there = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            crc32 = zlib.crc32(block, crc32)
            there += len(block)
    if there != output.bytes:
        raise OSError(f"{output.name} has {there} bytes, not {output.bytes}")
    return replace(output, crc32=crc32)
