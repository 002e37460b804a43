"""Pages between the browser and Airflow: sign-in, signed out, not found, not ready, refused.

Every page is one document without external resources. Its policy allows exactly the style
and the script that are in it, by their hashes; nothing that a page shows can run.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib import resources
from string import Template
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.status import Status
from openmwaa.gateway.paths import SIGN_IN_PAGE, is_api

_REFRESH_S: Final = 5


def _asset(name: str) -> str:
    return (resources.files("openmwaa.gateway") / "web" / name).read_text(encoding="utf-8")


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_CSS: Final = _asset("page.css")
_SCRIPT: Final = _asset("sign_in.js")
_PAGE: Final = Template(_asset("page.html"))
_SIGN_IN: Final = Template(_asset("sign_in.html"))


def _headers(*, script: bool) -> dict[str, str]:
    policy = {
        "default-src": "'none'",
        "style-src": _hash_source(_CSS),
        "script-src": _hash_source(_SCRIPT) if script else "'none'",
        "connect-src": "'self'" if script else "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "same-origin",  # "no-referrer" would hide the origin of the sign-in request from us
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def _page(
    title: str,
    body: str,
    *,
    status: int = 200,
    data: dict[str, str] | None = None,
    script: bool = False,
    refresh: tuple[int, str] | None = None,
) -> HTMLResponse:
    """Build a page; `body` is HTML already, everything else is escaped here."""
    head = ""
    if refresh:
        seconds, url = refresh
        head = f'<meta http-equiv="refresh" content="{seconds}{f"; url={escape(url)}" if url else ""}">\n'
    html = _PAGE.substitute(
        title=escape(title),
        head=head,
        css=_CSS,
        body=body,
        data="".join(f' data-{name}="{escape(value)}"' for name, value in (data or {}).items()),
        script=f"<script>{_SCRIPT}</script>\n" if script else "",
    )
    return HTMLResponse(html, status, headers=_headers(script=script))


def sign_in_page(
    record: EnvironmentRecord, *, host: str, login: str, home: str, user: str | None
) -> HTMLResponse:
    """Return the page that turns the token of a sign-in link into a session, or says how to get a link.

    Args:
        record: The environment.

        host: Its host as the browser knows it, with port.

        login: Where the script posts the token.

        home: Where Airflow's UI begins.

        user: Who is signed in already, if anybody.
    """
    signed_in = ""
    if user:
        signed_in = (
            f"<p>You are signed in as <strong>{escape(user)}</strong>.</p>\n"
            f'<p><a class="action" href="{escape(home)}">Open Airflow</a></p>\n'
            "<h2>To sign in again or as somebody else</h2>\n"
        )
    body = _SIGN_IN.substitute(name=escape(record.name), host=escape(host), signed_in=signed_in)
    return _page(f"Sign in · {record.name}", body, data={"login": login, "home": home}, script=True)


def signed_in_page(home: str) -> HTMLResponse:
    """Return what a successful sign-in answers; programs look at its cookies only."""
    body = f'<h1>You are signed in</h1>\n<p><a class="action" href="{escape(home)}">Open Airflow</a></p>'
    return _page("Signed in", body, refresh=(0, home))


def signed_out_page() -> HTMLResponse:
    """Return what signing out answers."""
    body = (
        "<h1>You are signed out</h1>\n<p>This browser no longer has a session of this environment.</p>\n"
        f'<p><a class="action" href="{SIGN_IN_PAGE}">Sign in again</a></p>'
    )
    return _page("Signed out", body)


_WAITING: Final = {
    Status.CREATING: "The environment is being created.",
    Status.PENDING: "The environment waits for its network endpoints.",
    Status.DELETING: "The environment is being deleted.",
    Status.CREATE_FAILED: "The environment could not be created.",
    Status.UNAVAILABLE: "The environment is unavailable: its last change and the return to the old state both failed.",
}
_FINAL: Final = frozenset({Status.CREATE_FAILED, Status.DELETING, Status.DELETED})


def not_ready(request: Request, path: str, record: EnvironmentRecord) -> Response:
    """Answer that no web server of the environment can take the request now."""
    status = record.status
    sentence = _WAITING.get(status, "No web server of this environment is ready yet.")
    if wants_json(request, path):
        response: Response = problem(503, "Service Unavailable", f"{sentence} Its status is {status}.")
    else:
        final = status in _FINAL
        detail = (
            f"<p>Run <code>openmwaa events {escape(record.name)}</code> to read what happened.</p>"
            if final
            else '<p class="busy" role="status">This page tries again by itself.</p>'
        )
        response = _page(
            f"{status} · {record.name}",
            f"<h1>{escape(record.name)} is {status}</h1>\n<p>{sentence}</p>\n{detail}",
            status=503,
            refresh=None if final else (_REFRESH_S, ""),
        )
    response.headers["Retry-After"] = str(_REFRESH_S)
    return response


def error(request: Request, path: str, status: int, title: str, detail: str) -> Response:
    """Answer an error as a page or as JSON, whichever the caller reads."""
    if wants_json(request, path):
        return problem(status, title, detail)
    return _page(title, f"<h1>{escape(title)}</h1>\n<p>{escape(detail)}</p>", status=status)


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """Answer an error to a program: members that clients of both Airflow generations look at."""
    body = {"detail": detail, "status": status, "title": title, "type": "about:blank"}
    return JSONResponse(
        body, status, headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    )


def wants_json(request: Request, path: str) -> bool:
    """Return whether the caller is a program: an API path, or no wish for HTML."""
    return is_api(path) or "text/html" not in request.headers.get("accept", "")
