"""What tests of every folder may ask for: the fakes, and one real store for the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.cloud.s3 import S3ObjectStore
from supervisor.cloud.s3_uploads import S3Uploads

from .fakes import FakeCloud

if TYPE_CHECKING:
    from .aws.moto_server import Moto
    from .aws.policy_check import Asked

BUCKET = "kiln"


@pytest.fixture
def fake_cloud() -> FakeCloud:
    """A cloud in memory; `fake_cloud.ports` is what code takes."""
    return FakeCloud()


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A running SeaweedFS, shared by the whole run: use keys under a job id of your own."""
    store = SeaweedFS(tmp_path_factory.mktemp("weed"), bucket=BUCKET)
    store.start()
    yield store
    store.stop()


@pytest.fixture(scope="session")
def object_store(weed: SeaweedFS) -> S3ObjectStore:
    """The farm's view of the running store."""
    return S3ObjectStore(weed.connect(), BUCKET, is_full=weed.is_full)


@pytest.fixture(scope="session")
def uploads(weed: SeaweedFS) -> S3Uploads:
    return S3Uploads(weed.connect(), BUCKET, connect=weed.connect, is_full=weed.is_full)


@pytest.fixture(scope="module")
def moto_server() -> Iterator[Moto]:
    """AWS on this machine, one for a module; tests ask for `moto`."""
    # imported here: it takes seconds and belongs to a few modules alone
    with import_module("tests.aws.moto_server").serve() as moto:
        yield moto


@pytest.fixture(scope="module")
def asked(moto_server: Moto) -> Asked:
    """What is asked of AWS through `aws_session`, since the test began."""
    made: Asked = import_module("tests.aws.policy_check").Asked(moto_server)
    return made


@pytest.fixture
def moto(moto_server: Moto, asked: Asked) -> Iterator[Moto]:
    """AWS on this machine, as an account is at the start, with an image of the farm's. No test may ask more than the policy allows."""
    moto_server.reset()
    asked.forget()
    yield moto_server
    import_module("tests.aws.policy_check").check_nothing_more_is_asked(asked)


@pytest.fixture(scope="module")
def aws_session(moto_server: Moto, asked: Asked) -> Iterator[AwsSession]:
    """The farm's way into the AWS that `moto` is."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in moto_server.environment.items():
            patch.setenv(name, value)
        yield AwsSession(region=moto_server.environment["AWS_DEFAULT_REGION"], on_session=asked.hear)
