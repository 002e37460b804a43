"""The routes of Airflow 3's REST API, made once: half of what a web server does before it answers.

For each route of a router that it includes, FastAPI makes another, with a model for every parameter.
"""

from __future__ import annotations

import sys
from typing import Any

_ROUTERS = (
    ("airflow.api_fastapi.core_api.routes.ui", "ui_router"),
    ("airflow.api_fastapi.core_api.routes.public", "public_router"),
)
"""Modules -> the router in it that every web server includes as it is."""


def make_routes() -> None:
    """Make them, and let the first application of a child that includes these routers have them."""
    routers = [
        vars(sys.modules[name])[variable]
        for name, variable in _ROUTERS
        if name in sys.modules and variable in vars(sys.modules[name])
    ]
    if not routers:
        return
    kind: Any = sys.modules["fastapi"].FastAPI
    original = kind.include_router
    made: dict[int, Any] = {}
    for router in routers:
        made[id(router)] = kind(openapi_url=None)  # one that has no routes of its own
        original(made[id(router)], router)

    def include_router(app: Any, router: Any, *arguments: Any, **keywords: Any) -> None:
        plain = not arguments and not keywords and type(app) is kind
        mine = made.pop(id(router), None) if plain else None
        if mine is None:
            original(app, router, *arguments, **keywords)
            return
        routes, router.routes = router.routes, []
        try:
            original(app, router)  # what else it has: what is to be done at start and end
        finally:
            router.routes = routes
        mine.dependency_overrides = app.dependency_overrides  # they ask the one that they were made for
        app.router.routes.extend(mine.router.routes)

    kind.include_router = include_router
