"""What an instance makes of each answer of the metadata service, and of its notices."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from nodeimage.instance.notices import Notices
from nodeimage.metadata import ENDPOINT_VARIABLE, NOTICE_S, TOKEN_TTL_S, Metadata, MetadataError, SpotAction
from tests.aws.metadata_service import MetadataService
from tests.waiting import wait_until


@pytest.fixture
def service() -> Iterator[MetadataService]:
    with MetadataService(instance_id="i-0abc", user_data=b'{"version": 1}') as service:
        yield service


@pytest.fixture
def metadata(service: MetadataService) -> Metadata:
    return Metadata.from_env({ENDPOINT_VARIABLE: service.endpoint + "/"})


def test_values_are_read_with_one_token(service: MetadataService, metadata: Metadata) -> None:
    assert metadata.user_data() == b'{"version": 1}'
    assert metadata.instance_id() == "i-0abc"
    assert metadata.zone() == "us-east-1a"
    assert metadata.instance_type() == "c7i.4xlarge"
    assert metadata.life_cycle() == "spot"
    assert service.tokens_given == 1


def test_404_says_that_there_is_no_such_value(service: MetadataService, metadata: Metadata) -> None:
    service.set_value("user-data", None)
    assert metadata.user_data() is None
    assert metadata.spot_action(now_ms=0) is None
    assert metadata.rebalance_recommended() == ""


def test_identity_that_is_not_told_is_an_error(service: MetadataService, metadata: Metadata) -> None:
    service.set_value("meta-data/instance-id", None)
    with pytest.raises(MetadataError, match="instance-id"):
        metadata.instance_id()


def test_token_that_has_expired_early_is_renewed(service: MetadataService, metadata: Metadata) -> None:
    metadata.instance_id()
    service.expire_tokens()
    assert metadata.instance_id() == "i-0abc"
    assert service.tokens_given == 2


def test_token_is_renewed_before_it_expires(service: MetadataService) -> None:
    now = [0.0]
    metadata = Metadata(service.endpoint, monotonic=lambda: now[0])
    metadata.instance_id()
    now[0] = TOKEN_TTL_S * 0.8
    metadata.instance_id()
    assert service.tokens_given == 1
    now[0] = TOKEN_TTL_S * 0.95
    metadata.instance_id()
    assert service.tokens_given == 2


@pytest.mark.parametrize(("status", "hint"), [(403, "switched off"), (404, "version 1 only"), (500, "500"), (503, "503")])
def test_service_that_gives_no_token_is_an_error_that_says_why(
    service: MetadataService, metadata: Metadata, status: int, hint: str
) -> None:
    service.fail_with(status)
    with pytest.raises(MetadataError, match=hint):
        metadata.instance_id()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_answer_that_is_none_is_an_error_and_the_next_call_succeeds(service: MetadataService, metadata: Metadata, status: int) -> None:
    metadata.instance_id()
    service.fail_with(status)
    with pytest.raises(MetadataError):
        metadata.zone()
    service.fail_with(0)
    assert metadata.zone() == "us-east-1a"


def test_silence_is_an_error_that_names_the_hop() -> None:
    with pytest.raises(MetadataError, match=r"does not answer.*hop"):
        Metadata("http://127.0.0.1:9").instance_id()


def test_silence_after_a_token_was_given_is_an_error() -> None:
    with MetadataService() as service:
        metadata = Metadata(service.endpoint)
        metadata.instance_id()
    with pytest.raises(MetadataError, match="instance-id"):
        metadata.instance_id()


def test_no_proxy_sees_the_token(service: MetadataService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert Metadata(service.endpoint).instance_id() == "i-0abc"


def test_spot_notice_says_what_and_when(service: MetadataService, metadata: Metadata) -> None:
    at = service.announce_interruption(in_s=120.0, action="stop")
    assert metadata.spot_action(now_ms=0) == SpotAction(action="stop", at_ms=int(at.timestamp() * 1000))


@pytest.mark.parametrize("told", ["{", "[]", '{"action": "terminate"}', '{"action": "terminate", "time": "soon"}'])
def test_notice_that_can_not_be_read_is_a_notice_all_the_same(service: MetadataService, metadata: Metadata, told: str) -> None:
    service.set_value("meta-data/spot/instance-action", told)
    action = metadata.spot_action(now_ms=1000)
    assert action is not None
    assert action.at_ms == 1000 + NOTICE_S * 1000


def test_notice_is_found_and_stays_although_it_is_withdrawn(service: MetadataService, metadata: Metadata) -> None:
    notices = Notices(metadata)
    notices.look()
    assert notices.at_ms() == 0
    at = service.announce_interruption()
    notices.look()
    service.withdraw_interruption()
    notices.look()
    assert notices.at_ms() == int(at.timestamp() * 1000)


def test_silent_service_is_logged_once_and_is_no_notice(
    service: MetadataService, metadata: Metadata, caplog: pytest.LogCaptureFixture
) -> None:
    notices = Notices(metadata)
    service.fail_with(503)
    for _ in range(3):
        notices.look()
    assert notices.at_ms() == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    service.fail_with(0)
    service.announce_interruption()
    notices.look()
    assert notices.at_ms() > 0


def test_recommendation_to_rebalance_is_logged_once_and_no_notice(
    service: MetadataService, metadata: Metadata, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nodeimage")
    notices = Notices(metadata)
    service.recommend_rebalance()
    for _ in range(3):
        notices.look()
    assert notices.at_ms() == 0
    assert len([record for record in caplog.records if "may take the instance back" in record.message]) == 1


def test_watch_goes_on_by_itself_until_it_is_stopped(service: MetadataService, metadata: Metadata) -> None:
    notices = Notices(metadata, every_s=1.0)
    notices.start()
    wait_until(lambda: "meta-data/spot/instance-action" in service.asked, what="a look")
    service.announce_interruption()
    wait_until(notices.at_ms, what="the notice")
    notices.stop()
