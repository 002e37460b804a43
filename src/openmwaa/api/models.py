"""AWS's own service models, as botocore ships them, and where we differ from them on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from botocore.loaders import Loader
from botocore.model import ServiceModel

BY_SIGNING_NAME: Final[Mapping[str, str]] = {
    "airflow": "mwaa",
    "sts": "sts",
    "logs": "logs",
    "monitoring": "cloudwatch",
}
"""Service name in a signature's credential scope -> name of the model."""


@dataclass(frozen=True)
class Patch:
    """One deliberate difference: a trait of a shape that is replaced, or removed by None."""

    shape: str
    trait: str
    value: Any
    reason: str


PATCHES: Final[Mapping[str, tuple[Patch, ...]]] = {
    "mwaa": (
        Patch(
            "RestApiPath",
            "max",
            None,
            "Airflow's amazon provider polls task instances at paths far longer than 64 characters; SDKs"
            " do not check the maximum and MWAA is not known to (mwaa.md 13.4).",
        ),
    ),
}


@cache
def load(service: str) -> ServiceModel:
    """Return a service's model with our patches.

    Args:
        service: botocore's name, for example `mwaa`.
    """
    description = Loader().load_service_model(service, "service-2")
    for patch in PATCHES.get(service, ()):
        traits = description["shapes"][patch.shape]
        if patch.value is None:
            del traits[patch.trait]
        else:
            traits[patch.trait] = patch.value
    return ServiceModel(description, service_name=service)
