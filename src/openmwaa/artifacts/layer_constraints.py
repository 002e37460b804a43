"""What pins versions while requirements are resolved: MWAA's essential packages and `-c` files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx

from openmwaa.artifacts.requirements_text import Constraint, canonical
from openmwaa.artifacts.text_encoding import decode
from openmwaa.kit.errors import GiveUp, Retry

_ESSENTIAL: Final = frozenset(
    (
        *("apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk"),
        *("gunicorn", "billiard", "celery", "gevent", "greenlet", "kombu", "vine"),
        *("sqlalchemy", "sqlalchemy-jsonfield", "sqlalchemy-utils"),
        *("statsd", "watchtower", "fluent-logger"),
    )
)
_ESSENTIAL_FAMILY: Final = "flask"
_PINNED: Final = re.compile(r"^([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*(.*?)\s*(?:#.*)?$")
_MOST_CONSTRAINTS: Final = 4 * 1024**2
_FETCH_WITHIN_S: Final = 30.0


def is_essential(name: str) -> bool:
    """Return whether MWAA pins a package whatever the file says (mwaa.md 5.3)."""
    return name in _ESSENTIAL or name.split("-", maxsplit=1)[0] == _ESSENTIAL_FAMILY


async def read_constraints(constraint: Constraint) -> str:
    """Return the text of the file that a `-c` line names.

    Raises:
        GiveUp: There is none.

        Retry: Its server does not answer.
    """
    if not constraint.source.startswith(("http://", "https://")):
        try:
            return decode(await asyncio.to_thread(Path(constraint.source).read_bytes))
        except OSError as error:
            raise _unreadable(constraint, error.strerror or "not readable") from error
    try:
        async with (
            httpx.AsyncClient(timeout=_FETCH_WITHIN_S, follow_redirects=True) as client,
            client.stream("GET", constraint.source) as answer,
        ):
            content = b""
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > _MOST_CONSTRAINTS:
                    raise _unreadable(constraint, f"it is larger than {_MOST_CONSTRAINTS} bytes")
    except (httpx.TransportError, httpx.TooManyRedirects) as error:
        raise Retry(
            f"line {constraint.line}: {constraint.text} did not answer: {error}", after_s=5.0
        ) from error
    except httpx.InvalidURL as error:
        raise _unreadable(constraint, str(error)) from error
    if answer.status_code >= 500:
        raise Retry(f"line {constraint.line}: {constraint.text} answers {answer.status_code}", after_s=5.0)
    if answer.status_code != 200:
        raise _unreadable(constraint, f"the server answers {answer.status_code}")
    return decode(content)


def _unreadable(constraint: Constraint, reason: str) -> GiveUp:
    return GiveUp(
        f"line {constraint.line}: {constraint.text}: the constraints file cannot be read: {reason}",
        code="REQUIREMENTS_NOT_FOUND",
        component="requirements.txt",
        evidence=f"line {constraint.line}: {constraint.text}",
        fix="Correct the address, or put the file into plugins.zip.",
    )


def usable_constraints(
    text: str, installed: Mapping[str, str], airflow: str, constraint: Constraint
) -> tuple[str, list[str]]:
    """Return a user's constraints without those that cannot hold, and a note on what was left out."""
    published = f"/constraints-{airflow}/" in constraint.source
    kept, left_out = [], []
    for line in text.splitlines():
        match = _PINNED.match(line.strip())
        if match is None:
            continue
        name = canonical(match[1])
        if name in installed and (published or is_essential(name)):
            if match[2] != f"=={installed[name]}":
                left_out.append(f"{name}{match[2]} ({installed[name]})")
        else:
            kept.append(line.strip())
    notes = []
    if left_out:
        shown = ", ".join(left_out[:5]) + (", …" if len(left_out) > 5 else "")
        notes.append(
            f"line {constraint.line}: {len(left_out)} constraints differ from what Airflow {airflow} runs "
            f"with here, which stays: {shown}"
        )
    return "".join(f"{line}\n" for line in kept), notes
