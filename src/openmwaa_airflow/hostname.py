"""What Airflow records as the host of a job or task: the component, for `[core] hostname_callable`.

All components of an environment may share one host; its name would not tell which worker
runs a task.
"""

from __future__ import annotations

import os
import socket

COMPONENT_VARIABLE = "OPENMWAA_COMPONENT"


def component_name() -> str:
    """Return e.g. `worker-0`; outside a component, as in a one-shot command, the host's name."""
    return os.environ.get(COMPONENT_VARIABLE) or socket.gethostname()
