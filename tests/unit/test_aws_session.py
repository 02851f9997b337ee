"""How the farm signs in to AWS: whose credentials it takes, how it keeps typed ones, and what it says when there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.cloud.aws.errors import error_of
from supervisor.cloud.aws.session import AwsSession, Keys
from supervisor.cloud.ports import Refused, SignedOut
from tests.aws.signed_out import sign_out

TYPED = Keys(access_key="AKIATYPED", secret_key="typed")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials in the environment, in files, or in an instance's metadata."""
    sign_out(monkeypatch, {})


def session(folder: Path, *, profile: str = "", s3_endpoint: str = "", s3_region: str = "") -> AwsSession:
    return AwsSession(region="eu-central-1", profile=profile, keys_file=folder / "keys.json", s3_endpoint=s3_endpoint, s3_region=s3_region)


def access_key(session: AwsSession) -> str:
    return str(session.client("ec2")._request_signer._credentials.access_key)


def test_without_credentials_every_client_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SignedOut, match="not signed in to AWS; an administrator"):
        session(tmp_path).client("ec2")
    with pytest.raises(SignedOut):
        session(tmp_path).source()


def test_typed_keys_come_before_those_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "environment")
    signed = session(tmp_path)
    assert access_key(signed) == "AKIAENVIRONMENT"
    assert signed.source() == "the environment (AWS_ACCESS_KEY_ID)"
    late = signed.late("ec2")
    signed.change_keys(TYPED)
    assert access_key(signed) == "AKIATYPED"
    assert late._request_signer._credentials.access_key == "AKIATYPED", "who kept a late client is not left behind"
    assert signed.source() == "keys that were typed on this farm's page"
    signed.change_keys(None)
    assert access_key(signed) == "AKIAENVIRONMENT"


def test_typed_keys_are_kept_for_the_farms_user_alone_and_found_again(tmp_path: Path) -> None:
    session(tmp_path).change_keys(TYPED)
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [("keys.json", 0o600)]
    again = session(tmp_path)
    assert access_key(again) == "AKIATYPED"
    assert again.has_typed_keys()
    assert "typed" not in repr(TYPED).replace("AKIATYPED", "")


def test_process_of_the_farms_signs_in_as_the_farm_does(tmp_path: Path) -> None:
    base = {
        "PATH": "/bin",
        "AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT",
        "AWS_SECRET_ACCESS_KEY": "e",
        "AWS_SESSION_TOKEN": "t",
        "AWS_PROFILE": "p",
    }
    signed = session(tmp_path)
    assert signed.environment(base) == base
    signed.change_keys(TYPED)
    assert signed.environment(base) == {
        "PATH": "/bin",
        "AWS_ACCESS_KEY_ID": TYPED.access_key,
        "AWS_SECRET_ACCESS_KEY": TYPED.secret_key,
    }
    assert session(tmp_path, profile="studio").environment(base) == {"PATH": "/bin", "AWS_PROFILE": "studio"}


def test_typed_keys_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(Refused, match=r"keys\.json in the data folder can't be read; type the keys again"):
        session(tmp_path).client("ec2")


def test_a_profile_comes_before_everything_and_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session(tmp_path).change_keys(TYPED)
    with pytest.raises(Refused, match=r"no profile “studio” \(\[aws\] profile\)"):
        session(tmp_path, profile="studio").client("ec2")
    config = tmp_path / "config"
    config.write_text("[profile studio]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    signed = session(tmp_path, profile="studio")
    assert access_key(signed) == "AKIAPROFILE"
    assert signed.source() == "the profile “studio” of the AWS configuration files"


def test_clients_are_of_the_farms_region_and_kept(tmp_path: Path) -> None:
    session(tmp_path).change_keys(TYPED)
    signed = session(tmp_path)
    assert signed.client("ec2").meta.region_name == "eu-central-1"
    assert signed.client("pricing", region="us-east-1").meta.region_name == "us-east-1"
    assert signed.client("ec2") is signed.client("ec2")


def test_a_store_of_ones_own_is_asked_by_its_address_and_region(tmp_path: Path) -> None:
    session(tmp_path).change_keys(TYPED)
    signed = session(tmp_path, s3_endpoint="http://minio:9000", s3_region="us-east-1")
    assert signed.client("s3").meta.endpoint_url == "http://minio:9000"
    assert signed.client("s3").meta.region_name == "us-east-1"
    assert signed.client("ec2").meta.endpoint_url == "https://ec2.eu-central-1.amazonaws.com"
    where = {"Bucket": "b", "Key": "k", "UploadId": "u", "PartNumber": 1}
    for client, address in (
        (signed.client("s3"), "http://minio:9000/b/k?"),
        (signed.late("s3", endpoint="https://s3.example"), "https://s3.example/b/k?"),
    ):
        assert client.generate_presigned_url("upload_part", Params=where).startswith(address)


def test_uploads_to_amazon_are_signed_for_the_buckets_own_name(tmp_path: Path) -> None:
    session(tmp_path).change_keys(TYPED)
    where = {"Bucket": "kiln-1-projects", "Key": "projects/a", "UploadId": "u", "PartNumber": 1}
    url = session(tmp_path).late("s3").generate_presigned_url("upload_part", Params=where)
    assert url.startswith("https://kiln-1-projects.s3.eu-central-1.amazonaws.com/projects/a?")


def test_answers_that_come_again_and_again_say_what_a_person_does() -> None:
    text = "can't end i-1: You are not authorized to perform this operation. Encoded authorization failure message: x9Yz…"
    assert str(error_of("UnauthorizedOperation", text)) == (
        "can't end i-1: You are not authorized to perform this operation. (UnauthorizedOperation); "
        "the farm's keys may not do this: compare their policy with what `kiln aws policy` prints"
    )
    assert "gives new ones on the AWS page" in str(error_of("InvalidClientTokenId", "can't ask AWS who the farm is"))
