"""What all environments of this host share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from openmwaa.backends.local.isolation import Isolation
from openmwaa.backends.local.memory import HostMemory
from openmwaa.backends.local.probes import Prober
from openmwaa.backends.local.zygotes import Zygotes
from openmwaa.kit.keyring import Keyring
from openmwaa.settings import Settings
from openmwaa.supervise import Supervisor


@dataclass(frozen=True)
class Host:
    """Attributes: `variables` is the agent's own environment, of which next to nothing is passed on."""

    settings: Settings
    keyring: Keyring
    supervisor: Supervisor
    isolation: Isolation
    prober: Prober
    zygotes: Zygotes
    variables: Mapping[str, str]
    memory: HostMemory = field(default_factory=HostMemory)
