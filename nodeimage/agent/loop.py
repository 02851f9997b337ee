"""The node's course of work: read the order, claim, render, deliver; and when to end."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nodeimage.protocol import Action, Claim, Failure, Heartbeat, JournalEntry, NodeConfig, NodeState, Order, Unreadable

from . import AGENT_VERSION
from .claims import Claims, attempt_of
from .delivery import Outbox
from .ending import Ending, EndKind, Finished, Interrupted, Stopped
from .farewell import Farewell
from .heartbeat import Heart
from .held import HeldClaims
from .interruption import Interruption
from .orders import Orders
from .ports import Store, StoreError
from .rendering import Attempt, Renderer, Result
from .reports import attempt_entry, log_of, opened_entry, undelivered
from .surroundings import CannotPrepare, Surroundings

log = logging.getLogger(__name__)

#: Pauses after a file that can't be opened, so that a bad file does not spin.
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 1.0, 30.0
#: Room that a node's disk must have before it takes a frame.
LEAST_FREE_BYTES = 256 * 2**20
#: Times in a row that the GPU which must render can't, before the node ends: others have one that works.
MOST_DEVICE_FAILURES = 3
#: A machine that was to be taken back and still runs so long after is given back by itself.
TAKEN_LATE_S = 300.0


class Agent:
    """One node at work on one job."""

    def __init__(self, config: NodeConfig, store: Store, around: Surroundings) -> None:
        self._config = config
        self._store = store
        self._around = around
        self._home = Path(config.home)
        self._started_at = self._idle_since = time.monotonic()
        self._at_hand: tuple[Claim, float] | None = None  #: the frame that Blender renders, and since when
        self._attempts = 0
        self._device_failures = 0  #: in a row
        self._back_off_s = FIRST_BACK_OFF_S
        self._failed_opening: tuple[float, Result] | None = None  #: until when it is believed, and how it failed
        self._farm_says: Action | None = None  #: as the heart last read it
        self._is_leaving = False  #: the cloud takes the machine back, and nothing is rendered any more
        self._told_opened: JournalEntry | None = None
        self._problems: dict[str, str] = {}
        shutil.rmtree(self._home / "rendering", ignore_errors=True)
        names = {"job": config.job, "node": config.node}
        now_ms = around.now_ms
        self._interruption = Interruption(around.interruption_at_ms, now_ms=now_ms)
        self._orders = Orders(store, config.job)
        self._held = HeldClaims(self._home)
        self._claims = Claims(store, self._held, now_ms=now_ms, **names)
        self._outbox = Outbox(store, job=config.job, home=self._home, now_ms=now_ms, changed=self._tell_outbox)
        self._renderer = Renderer(around.start_blender, look=self._look, progress=self._tell_progress, first=around.first_blender)
        first_beat = Heartbeat(
            node=config.node, job=config.job, beat=0, at_ms=now_ms(), state=NodeState.STARTING, agent_version=AGENT_VERSION
        )
        self._heart = Heart(store, first_beat, every_s=config.heartbeat_s, now_ms=now_ms, each_beat=self._each_beat)
        self._farewell = Farewell(
            store,
            **names,
            claims=self._claims,
            held=self._held,
            outbox=self._outbox,
            heart=self._heart,
            now_ms=now_ms,
            last_state=around.last_state,
        )

    def run(self) -> Ending:
        """Work until there is a reason to end. Returns: it"""
        self._outbox.start()
        self._heart.start()
        try:
            ending = self._until_interrupted()
        except Stopped as stopped:
            ending = stopped.ending
            self._renderer.kill()
            self._farewell.leave_at_once(ending.reason)
        return replace(ending, attempts=self._attempts)

    def _until_interrupted(self) -> Ending:
        try:
            return self._until_finished()
        except Interrupted as interrupted:
            self._wait_to_be_taken(interrupted.ending.reason)
            return interrupted.ending

    def _until_finished(self) -> Ending:
        try:
            self._farewell.give_back_from_last_life()
            self._prepare()
            self._work()
        except CannotPrepare as error:
            return self._end_unfit("workspace", str(error))
        except Finished as finished:
            if finished.ending.kind is EndKind.UNFIT:
                return self._end_unfit("node", finished.ending.reason)
            self._deliver_the_rest()
            self._renderer.end()
            self._farewell.leave()
            return finished.ending
        raise AssertionError("work ends by a reason")

    def _end_unfit(self, about: str, reason: str) -> Ending:
        """End a node that can't work here. Its last word is not GONE: whoever launched it is to know that this was no good end."""
        self._tell_problem(about, reason)
        self._deliver_the_rest()
        self._renderer.end()
        self._farewell.leave(NodeState.STARTING)
        return Ending(kind=EndKind.UNFIT, reason=reason)

    def _wait_to_be_taken(self, reason: str) -> None:
        """Give back what there is no time for, deliver what is rendered, and stay idle until the cloud takes the machine.

        The machine is not given back before: one that the cloud takes within its first hour is free.
        """
        logs = self._log_at_hand()
        self._renderer.kill()
        self._at_hand = None
        self._heart.tell(state=NodeState.DELIVERING, frame=None, phase="", sample=None)
        while not self._farewell.give_back_held(reason, logs=logs) and self._interruption.left_s() > 0:
            self._pause(self._config.poll_s)
        while not self._outbox.wait_until_empty(self._config.poll_s) and self._interruption.left_s() > 0:
            self._look()
        self._farewell.give_up_deliveries(reason)
        self._heart.tell(state=NodeState.IDLE, phase=reason)
        while self._interruption.left_s() > -TAKEN_LATE_S:
            self._pause(self._config.poll_s)
        self._farewell.leave()

    def _log_at_hand(self) -> dict[int, bytes]:
        """What Blender has printed for the frame that it renders."""
        blender = self._renderer.blender
        return {self._at_hand[0].frame: blender.log.cut()} if self._at_hand and blender else {}

    # Before Blender: what the node needs, and how far it is

    def look(self) -> None:
        """Implements `Watcher`. Errors: Stopped, Interrupted, Finished"""
        self._look()
        if self._farm_says is Action.DRAIN:
            raise Finished(EndKind.DRAINED, "the farm wants no more frames of this node")

    def tell(self, phase: str, problem: str = "") -> None:
        """Implements `Watcher`."""
        self._heart.tell(phase=phase)
        self._tell_problem("workspace", problem)

    def _prepare(self) -> None:
        """Have what Blender needs. Errors: CannotPrepare"""
        if self._around.prepare is None:
            return
        self._around.prepare(self)
        self.tell("")
        self._idle_since = time.monotonic()

    # The course of work

    def _work(self) -> None:
        attempt: Attempt | None = None
        while True:
            self._look()
            if attempt is None:
                attempt = self._next_attempt()
            elif self._is_ready(attempt):
                attempt = self._render(attempt)
            else:
                attempt = None

    def _next_attempt(self) -> Attempt | None:
        """Do what the order says until there is a frame to render. Returns: None if things must be looked at again"""
        self._give_back_left_over()
        order = self._read_order()
        if order is None or order.action is Action.DRAIN:
            self._wait_without_work(order)
            return None
        failed = self._open(order)
        self._end_without_device()
        if failed is not None and failed.failure is Failure.DEVICE and not self._around.is_of_pool:
            self._pause_before_opening()  # no frame is at fault: none is claimed
        elif not self._has_room():
            self._wait_for_room()
        elif (claim := self._claim(order)) is None:
            self._wait_without_work(order)
        elif failed is not None:
            self._give_up_opening(claim, None, failed)
        else:
            return self._attempt(claim, order)
        return None

    def _render(self, attempt: Attempt) -> Attempt | None:
        """Render a frame, claiming the next one while this one is checked. Returns: the next one, if there is one already"""
        claim = attempt.claim
        self._renderer.ask(attempt)
        self._at_hand = (claim, self._renderer.asked_at)
        self._heart.tell(state=NodeState.RENDERING, frame=claim.frame, attempt=claim.attempt, elapsed_s=0.0, phase="", sample=None)
        is_saved = self._renderer.wait_until_saved(attempt)
        following = self._following(claim.frame) if is_saved else None
        result = self._renderer.wait_for_result()
        self._back_off_s = FIRST_BACK_OFF_S
        self._hand_over(claim, attempt, result)
        if following is not None and self._renderer.is_asked(following):
            self._at_hand = (following.claim, self._renderer.asked_at)
        return following

    def _following(self, current: int) -> Attempt | None:
        """Claim the next frame and hand it to Blender at once, if all is well. If it is not, `_next_attempt` will see to it."""
        try:
            order = self._orders.read()
            if order is None or order.action is not Action.RENDER or self._interruption.is_announced() or not self._has_room(besides=1):
                return None
            claim = self._claimed_under(order, busy=[current, *self._outbox.frames()])
        except (StoreError, Unreadable, OSError):
            return None
        if claim is None:
            return None
        following = self._attempt(claim, order)
        if self._renderer.suits(following):
            self._renderer.ask(following)
        return following

    def _read_order(self) -> Order | None:
        """Read the order. Returns: None while there is none to be had. Errors: Stopped, Finished"""
        try:
            order = self._orders.read()
        except StoreError as error:
            self._tell_problem("order", str(error))
            return None
        except Unreadable as error:
            raise Finished(EndKind.UNFIT, f"this agent can't read the farm's order: {error}") from error
        self._tell_problem("order", "")
        if order is not None and order.action is Action.STOP:
            raise Stopped(EndKind.STOPPED, "the farm says stop")
        return order

    def _claim(self, order: Order) -> Claim | None:
        """Claim the next frame. Returns: None if there is none to be had at present"""
        opened = self._renderer.opened
        if opened is not None and opened.is_unbaked and not order.ordered:
            return None  # the farm will order it anew, for one node, when it has read the findings
        try:
            claim = self._claimed_under(order, busy=self._outbox.frames())
        except (StoreError, Unreadable, OSError) as error:
            self._tell_problem("claim", str(error))
            return None
        self._tell_problem("claim", "")
        return claim

    def _claimed_under(self, order: Order, *, busy: Iterable[int]) -> Claim | None:
        """Claim the next frame. Returns: None if there is none, or if the order has changed meanwhile and says otherwise of it

        The farm frees the claim of a failed attempt once its order says what the next attempt must know. A node that read the order
        before, and finds the frame free after, knows nothing of that.
        """
        claim = self._claims.next(order, busy=busy)
        latest = self._orders.read() if claim is not None else order
        if claim is None or latest is order:
            return claim
        is_as_before = latest is not None and latest.requeued.get(claim.frame) == order.requeued.get(claim.frame)
        if latest is not None and latest.action is Action.RENDER and latest.ordered == order.ordered and is_as_before:
            return claim
        self._claims.give_back(frame=claim.frame, nonce=claim.nonce)
        return None

    def _give_back_left_over(self) -> None:
        """Give back claims that the store did not take back before: while this node lives, nobody else takes their frames."""
        if not self._claims.is_in_doubt():  # the next claim settles that
            self._farewell.give_back_held("the node claimed it and could not begin it", logs={})

    def _attempt(self, claim: Claim, order: Order) -> Attempt:
        wanted = attempt_of(order, claim.frame)
        return Attempt(
            claim=claim,
            settings=replace(order.settings, persistent_data=order.settings.persistent_data and wanted.persistent_data),
            needs_fresh_process=not wanted.persistent_data,
            in_order=order.ordered,
            folder=self._home / "rendering" / f"{claim.frame}-{claim.attempt}",
        )

    # Blender and its file

    def _open(self, order: Order) -> Result | None:
        """Have the job's file open; whether with persistent data, the attempt decides. Returns: how it failed, or None"""
        if self._renderer.has_open(order.settings):
            return None
        if self._failed_opening is not None and time.monotonic() < self._failed_opening[0]:
            return self._failed_opening[1]
        self._heart.tell(state=NodeState.OPENING, frame=None, phase="", sample=None)
        failed = self._renderer.open(order.settings)
        self._tell_device(failed)
        if failed is None:
            self._idle_since = time.monotonic()
            self._tell_opened()
        else:
            self._back_off(failed)
        return failed

    def _back_off(self, failed: Result) -> None:
        """Believe for a while that the file can't be opened, longer each time."""
        self._failed_opening = (time.monotonic() + self._back_off_s, failed)
        self._back_off_s = min(2 * self._back_off_s, LONGEST_BACK_OFF_S)

    def _is_ready(self, attempt: Attempt) -> bool:
        """Make Blender ready for an attempt. Returns: False if it can't be; the attempt has failed then"""
        if self._renderer.suits(attempt):
            return True
        failed = self._renderer.open(attempt.settings)
        if failed is not None:
            self._back_off(failed)
            self._give_up_opening(attempt.claim, attempt, failed)
        return failed is None

    def _give_up_opening(self, claim: Claim, attempt: Attempt | None, failed: Result) -> None:
        """Let the frame's attempt fail, so that a bad file ends after its attempts; then pause, so that it does not spin."""
        self._hand_over(claim, attempt, failed)
        self._pause_before_opening()

    def _pause_before_opening(self) -> None:
        assert self._failed_opening is not None, "a failed opening was noted"
        self._pause(self._failed_opening[0] - time.monotonic())

    def _tell_opened(self) -> None:
        """Journal what Blender found in the file, unless that was said before."""
        opened, blender = self._renderer.opened, self._renderer.blender
        assert opened is not None, "the file was opened just now"
        assert blender is not None, "the file was opened just now"
        entry = opened_entry(self._config.node, opened, at_ms=self._around.now_ms(), peak_memory_bytes=blender.peak_memory_bytes)
        self._heart.tell(blender_version=opened.version, device=opened.device)
        if self._told_opened is None or self._told_opened.findings != entry.findings:
            self._told_opened = entry
            self._add_to_outbox(entry)

    # What comes of an attempt

    def _hand_over(self, claim: Claim, attempt: Attempt | None, result: Result) -> None:
        """Put the outcome of a claim into the outbox."""
        self._idle_since = time.monotonic()
        self._at_hand = None
        self._attempts += 1
        if result.failure is None:
            self._interruption.rendered(result.render_s)
        self._tell_device(result)
        entry = attempt_entry(claim, result, attempt=attempt, opened=self._renderer.opened, at_ms=self._around.now_ms())
        folder = attempt.folder if attempt is not None else None
        if folder is not None and result.failure is not None:
            shutil.rmtree(folder, ignore_errors=True)
        self._add_to_outbox(entry, folder, log_text=log_of(result))
        self._held.forget(claim.frame)
        log.info(
            "attempt ended", extra={"frame": claim.frame, "attempt": claim.attempt, "outcome": str(entry.outcome), "why": entry.message}
        )

    def _add_to_outbox(self, entry: JournalEntry, folder: Path | None = None, *, log_text: bytes = b"") -> None:
        try:
            self._outbox.add(entry, folder, log_text=log_text)
        except OSError as error:
            log.warning("no room for the outbox", extra={"frame": entry.frame, "why": str(error)})
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            self._outbox.add_without_files(undelivered(entry, f"the node has no room to keep the frame until it is delivered: {error}"))

    # Waiting

    def _has_room(self, *, besides: int = 0) -> bool:
        """Say whether this node may take another frame: few wait for delivery, and its disk has room."""
        if self._around.free_bytes(self._home) < LEAST_FREE_BYTES:
            least = f"{LEAST_FREE_BYTES // 2**20} MiB"
            self._tell_problem(
                "disk", f"The node's disk has less than {least} left at {self._home}; it takes no frame until there is room."
            )
            return False
        self._tell_problem("disk", "")
        return self._outbox.has_room(besides=besides)

    def _wait_for_room(self) -> None:
        """Wait a moment for room. Errors: Finished - nothing of this node's will make any, and waiting costs money"""
        if self._outbox.frames() or not self._around.is_rented:
            self._idle_since = time.monotonic()
        elif (full := self._problems.get("disk")) and time.monotonic() - self._idle_since > self._config.idle_s:
            raise Finished(EndKind.UNFIT, full)
        self._heart.tell(state=NodeState.DELIVERING, frame=None, phase="", sample=None)
        self._outbox.wait_for_change(self._config.poll_s)

    def _wait_without_work(self, order: Order | None) -> None:
        """Wait a moment with nothing to render. Errors: Finished - for too long, or the farm wants no more"""
        if self._outbox.frames():
            self._wait_for_room()
            return
        if order is not None and order.action is Action.DRAIN:
            raise Finished(EndKind.DRAINED, "the farm wants no more frames of this node")
        if time.monotonic() - self._idle_since > self._config.idle_s:
            raise Finished(EndKind.NO_WORK, f"there was nothing to do for {self._config.idle_s:.0f} s")
        self._heart.tell(state=NodeState.IDLE, frame=None, phase="", sample=None)
        self._pause(self._config.poll_s)

    def _pause(self, seconds: float) -> None:
        """Wait, looking around. Errors: those of `_look`"""
        until = time.monotonic() + seconds
        self._look()
        while (left_s := until - time.monotonic()) > 0:
            self._around.stop.wait(min(left_s, 1.0))
            self._look()

    def _look(self) -> None:
        """End the agent where something says so. Called in every wait, it shows that the work goes on. Errors: Stopped, Interrupted"""
        self._around.alive()
        if self._around.stop.is_set():
            raise Stopped(EndKind.TOLD, "the node was told to stop")
        if self._farm_says is Action.STOP:
            raise Stopped(EndKind.STOPPED, "the farm says stop")
        if time.monotonic() - self._started_at > self._config.max_life_s:
            raise Stopped(EndKind.OLD, "the node has lived for as long as it may ([node] max_life_s)")
        if self._store.silent_s() > self._config.unreachable_s:
            raise Stopped(EndKind.UNREACHABLE, f"the store has not answered for {self._config.unreachable_s:.0f} s")
        if self._interruption.is_announced() and not self._is_leaving:
            self._look_at_interruption()

    def _look_at_interruption(self) -> None:
        """Go on with the frame at hand as long as there is time for it. Errors: Interrupted"""
        self._heart.tell(interruption_at_ms=self._interruption.at_ms)
        elapsed_s = time.monotonic() - self._at_hand[1] if self._at_hand else 0.0
        delivery_s, is_saved = self._outbox.expected_s(), self._renderer.is_saved()
        if self._at_hand is None or not self._interruption.leaves_time_for(elapsed_s, is_saved=is_saved, delivery_s=delivery_s):
            self._is_leaving = True
            raise Interrupted(str(self._interruption))

    def _deliver_the_rest(self) -> None:
        while not self._outbox.wait_until_empty(1.0):
            self._look()

    # What the heartbeat says

    def _tell_progress(self, fields: Mapping[str, Any]) -> None:
        self._heart.tell(phase=fields["phase"], sample=fields.get("sample"), samples=fields.get("samples"))

    def _tell_outbox(self, outbox: Outbox) -> None:
        self._heart.tell(uploading=outbox.frames(), finished=outbox.delivered)
        self._tell_problem("delivery", outbox.problem)

    def _tell_device(self, result: Result | None) -> None:
        """Say that this node can't render as it must, until a file is opened or a frame rendered: another instance may be better."""
        is_unfit = result is not None and result.failure is Failure.DEVICE
        self._device_failures = self._device_failures + 1 if is_unfit else 0
        self._tell_problem("device", result.message if result is not None and is_unfit else "")

    def _end_without_device(self) -> None:
        """End a node whose GPU does not come back, before it fails an attempt at every frame there is. Errors: Finished"""
        if self._device_failures >= MOST_DEVICE_FAILURES and not self._around.is_of_pool:
            raise Finished(EndKind.UNFIT, self._problems["device"])

    def _tell_problem(self, about: str, text: str) -> None:
        """Say what is wrong with one thing, or (empty) that nothing is; the heartbeat has room for one problem."""
        self._problems[about] = text
        self._heart.tell(problem=next(filter(None, list(self._problems.values())), ""))

    def _each_beat(self) -> None:
        """Bring what a beat says up to date, and see whether the farm says stop: a frame may take hours."""
        at_hand, blender = self._at_hand, self._renderer.blender
        elapsed_s = round(time.monotonic() - at_hand[1], 1) if at_hand is not None else 0.0
        try:
            self._heart.tell(elapsed_s=elapsed_s, log_tail=blender.log.tail() if blender is not None else ())
            order = self._orders.read()
        except (StoreError, Unreadable, OSError):
            return
        self._farm_says = order.action if order is not None else None
