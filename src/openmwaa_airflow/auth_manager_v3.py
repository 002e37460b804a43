"""Airflow 3's auth manager: Flask-AppBuilder's roles, the gateway's identities."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import jwt
from airflow import settings
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import Role, User
from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from openmwaa_airflow.identity import (
    LOGIN_URL_VARIABLE,
    LOGOUT_URL_VARIABLE,
    Identity,
    identity_of,
    verify,
)
from openmwaa_airflow.users import ensure_user

_CACHE_S = 5.0
_CACHE_MAX = 1000


class GatewayAuthManager(FabAuthManager):
    """Accepts only identities that the gateway signed for this environment.

    `FabAuthManager` decides what a role may do; user and role pages, custom roles and rights
    on single DAGs work as ever. What a user may do is remembered for 5 s.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._users: dict[Identity, tuple[float, User]] = {}
        self._users_lock = threading.Lock()

    async def get_user_from_token(self, token: str) -> User:
        """Return the user of a token of the gateway.

        Airflow's own verification is replaced, not extended: its secret is known to the
        scheduler, and whoever knows it could otherwise be anybody.

        Raises:
            jwt.ExpiredSignatureError: Answered with 401.

            jwt.InvalidTokenError: Answered with 403.
        """
        identity = verify(token)
        user = self._remembered(identity)
        if user is None:
            # In a thread: a slow database must not stall the task API in the same event loop.
            user = await asyncio.to_thread(self._user_of, identity)
        return user

    def deserialize_user(self, token: dict[str, Any]) -> User:
        """Return the user of claims that were verified."""
        identity = identity_of(token)
        return self._remembered(identity) or self._user_of(identity)

    def serialize_user(self, user: User) -> dict[str, Any]:
        """Return the claims that name this user."""
        return {"sub": user.username, "roles": [role.name for role in user.roles]}

    def get_url_login(self, **_kwargs: Any) -> str:
        """Return where the gateway signs users on."""
        return os.environ[LOGIN_URL_VARIABLE]

    def get_url_logout(self) -> str | None:
        """Return where the gateway ends a session."""
        return os.environ[LOGOUT_URL_VARIABLE]

    def get_fastapi_middlewares(self) -> list:
        """Return none: FAB's own would let everybody in as the role Public, if that is configured."""
        return []

    def _remembered(self, identity: Identity) -> User | None:
        with self._users_lock:
            until, user = self._users.get(identity, (0.0, None))
            return user if time.monotonic() < until else None

    def _user_of(self, identity: Identity) -> User:
        found = ensure_user(identity)
        if found is None:
            raise jwt.InvalidTokenError(f"user {identity.name} is not active")
        user_id, role_names = found
        with Session(settings.engine, expire_on_commit=False) as session:
            user = session.scalars(select(User).where(User.id == user_id)).unique().one()
            roles = session.scalars(select(Role).where(Role.name.in_(role_names))).unique().all()
            # The roles of this request, even if another session of the same user changes the row meanwhile.
            set_committed_value(user, "roles", list(roles))
            user._perms = {
                (pair.action.name, pair.resource.name) for role in roles for pair in role.permissions
            }
            session.expunge_all()
        with self._users_lock:
            if len(self._users) >= _CACHE_MAX:
                self._users.clear()
            self._users[identity] = (time.monotonic() + _CACHE_S, user)
        return user
