"""The OpenAPI document: generated whole, valid, and true of the API, as schemathesis finds by asking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.api import PREFIX
from app.api.endpoint import Endpoint
from app.api.routes import ENDPOINTS
from tests.unit.api_site import Site, a_site

EXAMPLES = 15


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with a_site(tmp_path_factory.mktemp("farm")) as made:
        yield made


@pytest.fixture(scope="module")
def document(site: Site) -> Any:
    answer = site.app.test_client().get(f"{PREFIX}/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    return answer.json


def test_every_route_is_documented_and_nothing_else(site: Site, document: Any) -> None:
    served = {
        (method, rule.rule)
        for rule in site.app.url_map.iter_rules()
        if rule.endpoint.startswith("api.") and rule.endpoint != "api.show_openapi"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert served == {(endpoint.method, PREFIX + endpoint.rule) for endpoint in ENDPOINTS}
    assert {(method.upper(), path) for path, operations in document["paths"].items() for method in operations} == {
        (endpoint.method, PREFIX + endpoint.path) for endpoint in ENDPOINTS
    }


def test_every_reference_in_the_document_leads_somewhere(document: Any) -> None:
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    used = set(_references(document))
    assert used <= names
    assert names - used == set(), "schemas that nothing uses"


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_schemas_are_valid_json_schemas(document: Any) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}), name


def test_document_says_what_it_is(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "Kiln"
    assert json.dumps(document).count('"operationId"') == len(ENDPOINTS)


CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_whatever_is_sent_the_answer_is_as_documented(site: Site, endpoint: Endpoint) -> None:
    check_at_random(site, endpoint, GenerationMode.POSITIVE, CHECKS)


@pytest.mark.parametrize("endpoint", [each for each in ENDPOINTS if each.body or each.query], ids=lambda endpoint: endpoint.name)
def test_what_the_document_forbids_is_refused(site: Site, endpoint: Endpoint) -> None:
    check_at_random(site, endpoint, GenerationMode.NEGATIVE, [*CHECKS, negative_data_rejection])


def check_at_random(site: Site, endpoint: Endpoint, mode: GenerationMode, checks: list[Any]) -> None:
    schema = schemathesis.openapi.from_wsgi(f"{PREFIX}/openapi.json", app=site.app)
    operation = schema[PREFIX + endpoint.path][endpoint.method]
    # a job that is there, so that more is asked than who asks for nothing gets
    known = {"job": site.a_submitted_job("1-2") if "/frames" in endpoint.path else site.a_job()} if "{job}" in endpoint.path else {}

    token = {"Authorization": f"Bearer {site.token}"}

    @given(case=operation.as_strategy(generation_mode=mode, path_parameters=known or None, headers=token))
    @settings(max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def ask(case: Any) -> None:
        case.validate_response(case.call(headers=token), checks=checks)

    ask()
