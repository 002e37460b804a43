"""Flask-AppBuilder's configuration, for `[webserver] config_file` (2.x) and `[fab] config_file` (3.x)."""

from __future__ import annotations

from flask import current_app
from flask_appbuilder.const import AUTH_REMOTE_USER

from openmwaa_airflow.flask_security import GatewaySecurityManager, keep_gateway_cookie

AUTH_TYPE = AUTH_REMOTE_USER
SECURITY_MANAGER_CLASS = GatewaySecurityManager
AUTH_USER_REGISTRATION = False
WTF_CSRF_ENABLED = True

current_app.after_request(keep_gateway_cookie)
