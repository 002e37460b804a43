"""Sign-on for the pages that Flask-AppBuilder serves.

On Airflow 2 that is the whole web server; on Airflow 3 the user and role pages below
`/auth`. Each request carries the gateway's identity: `X-Openmwaa-Identity` on 2.x,
`Authorization: Bearer` on 3.x. Flask's session stays for CSRF protection and messages, but
never says who somebody is, and there is no password to guess.
"""

from __future__ import annotations

import os

import jwt
from airflow import __version__ as airflow_version
from airflow import settings
from airflow.providers.fab.auth_manager.models.anonymous_user import AnonymousUser
from airflow.providers.fab.auth_manager.security_manager.override import FabAirflowSecurityManagerOverride
from flask import Request, Response, redirect
from flask_appbuilder import expose
from flask_appbuilder.security.views import AuthRemoteUserView

from openmwaa_airflow.identity import LOGIN_URL_VARIABLE, LOGOUT_URL_VARIABLE, bearer_token, verify
from openmwaa_airflow.users import ensure_user

IDENTITY_HEADER = "X-Openmwaa-Identity"
_GATEWAY_COOKIE_3 = "_token"
_AIRFLOW_2 = airflow_version.startswith("2.")


def _token_of(request: Request) -> str | None:
    if _AIRFLOW_2:
        return request.headers.get(IDENTITY_HEADER)
    return bearer_token(request.headers.get("Authorization"))


class GatewayAuthView(AuthRemoteUserView):
    """Log-in and log-out happen at the gateway."""

    @expose("/login/")
    def login(self):
        """Send the browser to the gateway's log-in page."""
        return redirect(os.environ[LOGIN_URL_VARIABLE])

    @expose("/logout/")
    def logout(self):
        """Send the browser to the gateway, which ends the session."""
        return redirect(os.environ[LOGOUT_URL_VARIABLE])


class Nobody(AnonymousUser):
    """Who comes without an identity: may do nothing, whatever the role Public was given."""

    roles: frozenset = frozenset()
    perms: frozenset = frozenset()


class GatewaySecurityManager(FabAirflowSecurityManagerOverride):
    """Takes the current user from the request's signed identity and from nothing else."""

    authremoteuserview = GatewayAuthView

    def create_login_manager(self):
        """Return the login manager that asks `load_user_from_request`."""
        manager = super().create_login_manager()
        manager.anonymous_user = Nobody
        manager.request_loader(self.load_user_from_request)
        return manager

    def load_user_from_request(self, request: Request):
        """Return the user of the request's identity; None: not signed on."""
        token = _token_of(request)
        if not token:
            return None
        try:
            found = ensure_user(verify(token))
        except jwt.InvalidTokenError:
            return None
        if found is None:
            return None
        user_id, _roles = found
        # The session may still hold the row as it was before `ensure_user` changed it.
        return settings.Session().get(self.user_model, user_id, populate_existing=True)

    def load_user(self, *_args, **_kwargs):
        """Return nobody: a user id in a session or in a remember-me cookie proves nothing here."""
        return

    def auth_user_db(self, *_args, **_kwargs):
        """Return nobody: there are no passwords."""
        return

    def auth_user_remote_user(self, *_args, **_kwargs):
        """Return nobody: a bare user name proves nothing."""
        return


def keep_gateway_cookie(response: Response) -> Response:
    """Take out Airflow 3's own session cookie, which would replace the gateway's in the browser."""
    cookies = response.headers.getlist("Set-Cookie")
    kept = [cookie for cookie in cookies if not cookie.startswith(f"{_GATEWAY_COOKIE_3}=")]
    if len(kept) != len(cookies):
        response.headers.setlist("Set-Cookie", kept)
    return response
