"""The id of a layer: what requirements, plugins and start-up script become on top of a runtime."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from openmwaa.environments.spec import EnvironmentSpec

_DIGITS: Final = 12
_RECIPE: Final = 1
"""Raised when layers are built in another way, so that no environment keeps one of the old kind."""


def layer_id(
    runtime_id: str,
    requirements_digest: str | None,
    plugins_digest: str | None,
    startup_digest: str | None,
) -> str | None:
    """Return the id of the layer that these files make, a pure function of their contents.

    Args:
        runtime_id: Id of the runtime below the layer.

        requirements_digest: SHA-256 in hexadecimal of requirements.txt; None if there is none.

        plugins_digest: The same of plugins.zip.

        startup_digest: The same of the start-up script.

    Returns:
        None if there is none of the three: the environment has no layer.
    """
    digests = (requirements_digest, plugins_digest, startup_digest)
    if not any(digests):
        return None
    content = json.dumps([_RECIPE, *digests]).encode()
    return f"{runtime_id}-{hashlib.sha256(content).hexdigest()[:_DIGITS]}"


def layer_of(spec: EnvironmentSpec) -> str | None:
    """Return the id of a spec's layer; None: it has nothing on top of its runtime."""
    files = (spec.requirements, spec.plugins, spec.startup_script)
    return layer_id(spec.runtime_id, *(file.digest if file else None for file in files))
