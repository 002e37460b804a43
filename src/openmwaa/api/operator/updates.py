"""Preview, update and restart for the operator: UpdateEnvironment, and what AWS has no member for."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from openmwaa.api.errors import ServiceError
from openmwaa.api.operator.bodies import read_body
from openmwaa.api.operator.context import OperatorContext
from openmwaa.api.services.updates import FORCED, Updates
from openmwaa.environments import changes
from openmwaa.environments.record import ALLOW_IMPORT_ERRORS
from openmwaa.environments.source_files import SOURCE_FILES
from openmwaa.environments.spec import S3File
from openmwaa.kit.errors import GiveUp, in_words

RESTART_SOURCE: Final = "openmwaa env restart"
UPDATE_SOURCE: Final = "openmwaa env update"

_NOT_UPLOADED: Final = "not uploaded"


class UpdateRoutes:
    """Handlers; each body is `{"members": <members of UpdateEnvironment>, …}`."""

    def __init__(self, context: OperatorContext) -> None:
        self._context = context
        self._updates = Updates(context.store, context.preflight, context.limits, context.manifest)

    async def plan(self, request: Request) -> Response:
        """Say what an update with these members would do. Changes nothing.

        `files` may hold requirements, plugins or start-up script that are not in the bucket yet,
        by field of the spec: `{"path": …, "content": <Base64>}`. With `"deep": true` packages are
        resolved and built, and DAGs imported, on the side.
        """
        record = await self._context.store.environments.get(request.path_params["name"])
        body = await read_body(request)
        members = _members(body)
        contents, given = _files(body)
        wanted = await self._updates.wanted(record, members, given=given)
        plan = changes.plan_change(record.spec, wanted, lambda spec: self._context.manifest(record, spec))
        strategy = members.get("WorkerReplacementStrategy") or FORCED
        answer = {**changes.to_json(plan), "strategy": strategy}
        if self._context.preview is not None:
            deep = bool(body.get("deep"))
            try:
                answer |= await self._context.preview(record, wanted, plan, contents if deep else None)
            except GiveUp as error:  # the update itself would end so
                raise ServiceError("ValidationException", in_words(error)) from error
        return JSONResponse(answer)

    async def update(self, request: Request) -> Response:
        """Accept an update. `allow_import_errors`: DAGs that it breaks do not stop it."""
        body = await read_body(request)
        notes = {ALLOW_IMPORT_ERRORS: True} if body.get("allow_import_errors") else None
        record = await self._updates.accept(
            request.path_params["name"], _members(body), source=UPDATE_SOURCE, notes=notes
        )
        return JSONResponse({"name": record.name, "generation": record.generation})

    async def restart(self, request: Request) -> Response:
        """Replace every component: an update without a changed field."""
        record = await self._updates.accept(request.path_params["name"], {}, source=RESTART_SOURCE)
        return JSONResponse({"name": record.name, "generation": record.generation})


def _members(body: Mapping[str, Any]) -> dict[str, Any]:
    members = body.get("members", {})
    if not isinstance(members, dict):
        raise ServiceError("ValidationException", "members must be a JSON object.")
    return members


def _files(body: Mapping[str, Any]) -> tuple[dict[str, bytes], dict[str, S3File]]:
    """Return the contents that came with a request, and the files they would be."""
    known = {file.field for file in SOURCE_FILES}
    contents, files = {}, {}
    for field, entry in (body.get("files") or {}).items():
        if field not in known:
            raise ServiceError("ValidationException", f"files must be of {', '.join(sorted(known))}.")
        try:
            contents[field] = base64.b64decode(entry["content"], validate=True)
            path = str(entry["path"])
        except (KeyError, TypeError, binascii.Error) as error:
            raise ServiceError("ValidationException", f"files.{field} must have path and content.") from error
        digest = hashlib.sha256(contents[field]).hexdigest()
        files[field] = S3File(path, _NOT_UPLOADED, digest, len(contents[field]))
    return contents, files
