"""What one side writes, the other reads; and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeimage.protocol import (
    PROJECTS_PREFIX,
    VERSION,
    Action,
    Claim,
    Failure,
    Finding,
    Heartbeat,
    JournalEntry,
    NodeConfig,
    NodeState,
    Order,
    Outcome,
    Output,
    RenderSettings,
    Requeued,
    Task,
    Unreadable,
    files_key,
    frame_name,
    frames_in,
    journal_at_ms,
    journal_cursor,
    journal_key,
    output_key,
    project_key,
    runs_of,
    split_output_key,
)

frames = st.integers(-1_048_574, 1_048_574)
names = st.text(min_size=1, max_size=20)
counts = st.integers(0, 2**40)
seconds = st.floats(0, 1e6, allow_nan=False)

settings_of_a_job = st.builds(
    RenderSettings,
    main_file=names,
    scene=st.none() | names,
    view_layers=st.lists(names, max_size=3).map(tuple),
    samples=st.none() | st.integers(1, 4096),
    persistent_data=st.booleans(),
    frame_timeout_s=seconds,
)
tasks = st.builds(Task, node=st.none() | names, frames=st.lists(frames, max_size=6).map(runs_of))
requeued = st.builds(Requeued, attempt=st.integers(1, 9), avoid=st.lists(names, max_size=3).map(tuple), persistent_data=st.booleans())
orders = st.builds(
    Order,
    job=names,
    revision=counts,
    action=st.sampled_from(Action),
    settings=settings_of_a_job,
    tasks=st.lists(tasks, max_size=3).map(tuple),
    requeued=st.dictionaries(frames, requeued, max_size=3),
    ordered=st.booleans(),
)
entries = st.builds(
    JournalEntry,
    outcome=st.sampled_from(Outcome),
    node=names,
    at_ms=counts,
    frame=st.none() | frames,
    nonce=names,
    outputs=st.lists(st.builds(Output, name=names, bytes=counts, crc32=counts), max_size=3).map(tuple),
    render_s=seconds,
    failure=st.none() | st.sampled_from(Failure),
    message=st.text(max_size=50),
    findings=st.lists(st.builds(Finding, code=names, text=names), max_size=3).map(tuple),
)
beats = st.builds(
    Heartbeat,
    node=names,
    job=names,
    beat=counts,
    at_ms=counts,
    state=st.sampled_from(NodeState),
    frame=st.none() | frames,
    sample=st.none() | counts,
    uploading=st.lists(frames, max_size=3).map(tuple),
    log_tail=st.lists(st.text(max_size=20), max_size=3).map(tuple),
)


@settings(deadline=None)
@given(orders)
def test_order_is_read_as_it_was_written(order: Order) -> None:
    assert Order.from_bytes(order.to_bytes()) == order


@settings(deadline=None)
@given(entries)
def test_journal_entry_is_read_as_it_was_written(entry: JournalEntry) -> None:
    assert JournalEntry.from_bytes(entry.to_bytes()) == entry


@settings(deadline=None)
@given(beats)
def test_heartbeat_is_read_as_it_was_written(beat: Heartbeat) -> None:
    assert Heartbeat.from_bytes(beat.to_bytes()) == beat


@settings(deadline=None)
@given(orders)
def test_key_of_a_newer_writer_is_ignored(order: Order) -> None:
    body = json.loads(order.to_bytes())
    body["mood"] = "good"
    body["settings"]["mood"] = "good"
    assert Order.from_bytes(json.dumps(body).encode()) == order


def test_message_of_a_newer_version_is_unreadable() -> None:
    claim = Claim(version=VERSION + 1, node="n", frame=1, attempt=1, nonce="x", at_ms=0)
    with pytest.raises(Unreadable, match=str(VERSION + 1)):
        Claim.from_bytes(claim.to_bytes())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'"x"', b"\xff", b'{"version": 1}', b'{"version": "x"}'])
def test_what_is_no_claim_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        Claim.from_bytes(data)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_reading_an_order_fail_otherwise(data: bytes) -> None:
    with pytest.raises(Unreadable):
        Order.from_bytes(data)


@settings(deadline=None)
@given(st.lists(frames, max_size=60))
def test_runs_give_the_frames_back_in_their_order(numbers: list[int]) -> None:
    assert frames_in(runs_of(numbers)) == numbers


@settings(deadline=None)
@given(st.integers(-1000, 1000), st.integers(1, 50), st.integers(2, 200))
def test_evenly_spaced_frames_are_one_run(first: int, step: int, count: int) -> None:
    assert len(runs_of(range(first, first + step * count, step))) == 1


@settings(deadline=None)
@given(frames)
def test_frame_names_are_eight_characters_and_read_back(frame: int) -> None:
    assert len(frame_name(frame)) == 8
    assert int(frame_name(frame)) == frame


@settings(deadline=None)
@given(frames, st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1), min_size=1, max_size=3))
def test_output_key_tells_frame_and_name(frame: int, parts: list[str]) -> None:
    name = "/".join(parts)
    assert split_output_key(output_key("job_1", frame, name)) == (frame, name)


@settings(deadline=None)
@given(counts.filter(lambda ms: ms < 10**13), st.integers(1, 999_999))
def test_journal_key_comes_after_its_cursor_and_before_the_next_ones(at_ms: int, n: int) -> None:
    key = journal_key("job_1", at_ms=at_ms, node="node_a", n=n)
    assert journal_cursor("job_1", at_ms=at_ms) < key
    assert journal_at_ms(key) == at_ms
    if at_ms < 10**13 - 1:
        assert key < journal_cursor("job_1", at_ms=at_ms + 1)


def test_config_is_read_from_the_environment_it_writes() -> None:
    config = NodeConfig(node="n", job="j", bucket="b", endpoint="http://127.0.0.1:1", threads=3, heartbeat_s=0.5, blender="a b")
    assert NodeConfig.from_env(config.to_env()) == config


@pytest.mark.parametrize(("change", "said"), [({"KILN_NODE_THREADS": "many"}, "KILN_NODE_THREADS"), ({"KILN_NODE_JOB": None}, "job")])
def test_environment_that_is_wrong_is_named(change: dict[str, str | None], said: str) -> None:
    env = {**NodeConfig(node="n", job="j", bucket="b").to_env(), **change}
    with pytest.raises(Unreadable, match=said):
        NodeConfig.from_env({name: value for name, value in env.items() if value is not None})


def test_messages_are_small() -> None:
    order = Order(
        job="job_1",
        revision=1,
        action=Action.RENDER,
        settings=RenderSettings(main_file="a.blend"),
        tasks=(Task(node=None, frames=runs_of(range(100_000))),),
    )
    assert len(order.to_bytes()) < 1000
    assert len(replace(order, requeued={n: Requeued(attempt=2) for n in range(100)}).to_bytes()) < 10_000
    assert asdict(order)["version"] == VERSION


def test_the_list_of_a_jobs_files_outlives_what_nodes_delivered_and_is_none_of_the_files() -> None:
    """A lifecycle rule of the bucket may delete all that was received; nodes may read all of `projects/`."""
    key = files_key("job_1")

    assert key.startswith(PROJECTS_PREFIX)
    assert not key.startswith(project_key("job_1", ""))
