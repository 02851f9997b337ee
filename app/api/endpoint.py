"""One call of the API: what it takes and answers, and how a request becomes a call of its view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, get_origin
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.current import current_farm
from supervisor.commands import accounts
from supervisor.domain.frame import FIRST_FRAME, LAST_FRAME

from .identity import require_user
from .models import MAX_PARTS, Body, Query
from .problems import Refusal, validation_refusal

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

JSON = "application/json"
BYTES = "application/octet-stream"
#: Bytes of a JSON body; 10,000 parts of a long upload need about one million.
MAX_JSON_BYTES = 4 << 20

#: Flask's converter for each path parameter that is not a plain string.
_CONVERTERS = {
    "number": "int(signed=True)",
    "part": f"int(max={MAX_PARTS})",
    "path": "path",
    "name": "path",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list; `after` is what `?after=` takes for the next one, None at the end."""

    items: Sequence[BaseModel]
    after: str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A row of the route table."""

    method: Method
    path: str  #: below the blueprint's prefix, as OpenAPI writes it
    name: str  #: of the Flask endpoint, and the operation's id
    summary: str
    view: Callable[
        ..., Any
    ]  #: takes the path's parameters, and `query` and `body` where there are any; answers a model, a Page or a Response
    answer: Any = None  #: a model, list[model], or None: no JSON
    answer_media: str = JSON  #: empty: nothing
    status: int = 200
    also: tuple[int, ...] = ()  #: other statuses of success: a part (206), nothing new (304)
    query: type[Query] | None = None
    body: type[Body] | None = None
    body_media: str = JSON  #: of a body that is no JSON
    problems: tuple[int, ...] = ()  #: statuses of failure beyond the usual
    needs_login: bool = True
    changes_job: bool | None = None  #: then it is for the job's owner and admins; None: as the method says

    @property
    def is_owners(self) -> bool:
        """Whether it is for the owner of the path's job, and admins."""
        changes = self.method != "GET" if self.changes_job is None else self.changes_job
        return changes and "{job}" in self.path

    @property
    def rule(self) -> str:
        """The path as Flask writes it."""
        parts = []
        for part in self.path.split("/"):
            name = part.strip("{}")
            parts.append(f"<{_CONVERTERS.get(name, 'string')}:{name}>" if part.startswith("{") else part)
        return "/".join(parts)


def add_endpoint(blueprint: Blueprint, endpoint: Endpoint) -> None:
    """Make the call answer under the blueprint's prefix."""
    adapter = TypeAdapter(endpoint.answer) if endpoint.answer is not None else None

    def serve(**arguments: Any) -> Response:
        if endpoint.body_media == BYTES:
            request.max_content_length = request.content_length  # streamed into the store: the command knows the limits of uploads
        user = require_user() if endpoint.needs_login else None
        if endpoint.is_owners:
            assert user, "guaranteed by the route table: what is an owner's needs a login"
            accounts.check_may_change(current_farm(), user, arguments["job"])
        _check_number(arguments.get("number", FIRST_FRAME))
        if endpoint.query:
            arguments["query"] = _read_query(endpoint.query)
        if endpoint.body:
            arguments["body"] = _read_body(endpoint.body)
        return _respond(endpoint, adapter, endpoint.view(**arguments))

    blueprint.add_url_rule(endpoint.rule, endpoint=endpoint.name, view_func=serve, methods=[endpoint.method])


def _check_number(number: int) -> None:
    # werkzeug's own converter takes no negative minimum
    if not FIRST_FRAME <= number <= LAST_FRAME:
        raise Refusal(HTTPStatus.NOT_FOUND, f"Blender has no frame {number}")


def _read_query(model: type[Query]) -> Query:
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        raise validation_refusal(error, what="query") from error


def _read_body(model: type[Body]) -> Body:
    request.max_content_length = MAX_JSON_BYTES
    data = request.get_data(cache=False)
    if data and not request.is_json:
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the body as Content-Type: {JSON}")
    try:
        return model.model_validate_json(data or b"{}")
    except ValidationError as error:
        if any(each["type"] == "json_invalid" for each in error.errors()):
            raise Refusal(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error.errors()[0]['msg']}") from error
        raise validation_refusal(error, what="body") from error


def _respond(endpoint: Endpoint, adapter: TypeAdapter[Any] | None, result: Any) -> Response:
    if isinstance(result, Response):
        return result
    if adapter is None:
        assert result is None, "guaranteed by the route table: a view without an answer model answers nothing or a Response"
        return Response(status=endpoint.status)
    headers = {}
    if isinstance(result, Page):
        assert get_origin(endpoint.answer) is list, "guaranteed by the route table: a Page answers a list"
        if result.after is not None:
            query = urlencode({**request.args.to_dict(), "after": result.after})
            headers["Link"] = f'<{request.base_url}?{query}>; rel="next"'
        result = list(result.items)
    return Response(adapter.dump_json(result), status=endpoint.status, content_type=JSON, headers=headers)
