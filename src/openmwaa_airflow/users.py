"""Rows of Airflow's user tables that follow the gateway's word.

Plain SQL, because it is the same for every version and because the ORM's audit columns ask
Flask for the current user while we are still finding out who that is. PostgreSQL only.
"""

from __future__ import annotations

from airflow import settings
from sqlalchemy import text
from sqlalchemy.engine import Connection

from openmwaa_airflow.identity import Identity, wanted_roles

_FIND = text(
    """
    SELECT u.id, u.active, array_remove(array_agg(r.name), NULL) AS roles
    FROM ab_user u
    LEFT JOIN ab_user_role ur ON ur.user_id = u.id
    LEFT JOIN ab_role r ON r.id = ur.role_id
    WHERE lower(u.username) = lower(:name)
    GROUP BY u.id
    """
)
_ADD = text(
    """
    INSERT INTO ab_user (id, username, first_name, last_name, email, password, active, created_on, changed_on)
    VALUES (nextval('ab_user_id_seq'), :name, :name, '-', :email, '*', true, now(), now())
    ON CONFLICT DO NOTHING
    """
)
_LOCK = text("SELECT id FROM ab_user WHERE lower(username) = lower(:name) FOR UPDATE")
_TAKE_ROLES = text(
    """
    DELETE FROM ab_user_role
    WHERE user_id = :id AND role_id NOT IN (SELECT id FROM ab_role WHERE name = ANY(:roles))
    """
)
_GIVE_ROLES = text(
    """
    INSERT INTO ab_user_role (id, user_id, role_id)
    SELECT nextval('ab_user_role_id_seq'), :id, r.id FROM ab_role r
    WHERE r.name = ANY(:roles)
      AND NOT EXISTS (SELECT 1 FROM ab_user_role ur WHERE ur.user_id = :id AND ur.role_id = r.id)
    """
)


def ensure_user(identity: Identity) -> tuple[int, frozenset[str]] | None:
    """Make the user's row and roles as the gateway says; return id and role names.

    Returns None if somebody switched the user off inside Airflow. A role that does not
    exist is left out. Safe to call at once from many processes, also for a new user.
    """
    with settings.engine.begin() as connection:
        row = connection.execute(_FIND, {"name": identity.name}).one_or_none()
        if row is None or set(row.roles) != wanted_roles(identity.roles, row.roles):
            row = _write(connection, identity)
        if not row.active:
            return None
        return row.id, frozenset(row.roles)


def _write(connection: Connection, identity: Identity):
    """Insert what is missing. The row lock makes parallel first requests take turns."""
    name = {"name": identity.name}
    connection.execute(_ADD, {**name, "email": f"{identity.name}@iam.invalid"})
    user_id = connection.execute(_LOCK, name).scalar_one()
    row = connection.execute(_FIND, name).one()
    roles = {"id": user_id, "roles": sorted(wanted_roles(identity.roles, row.roles))}
    connection.execute(_TAKE_ROLES, roles)
    connection.execute(_GIVE_ROLES, roles)
    return connection.execute(_FIND, name).one()
