"""Keeping processes alive, recognising them after a restart, ending them whole.

Knows nothing of environments. `openmwaa up` keeps the services with it, the node agent
keeps Airflow's components.

Three rules hold everywhere: a process is recorded before it starts; it is recognised by pid,
start time and boot, never by a bare pid; what it started goes with it, wherever it went.
"""

from openmwaa.supervise.identity import ProcessIdentity
from openmwaa.supervise.process import ExitReport, ManagedProcess
from openmwaa.supervise.sandbox import Cover, Mounts, Sandbox
from openmwaa.supervise.spec import ProcessSpec
from openmwaa.supervise.supervisor import ProcessSeen, Supervisor
from openmwaa.supervise.table import ProcessRecord, ProcessTable

__all__ = [
    "Cover",
    "ExitReport",
    "ManagedProcess",
    "Mounts",
    "ProcessIdentity",
    "ProcessRecord",
    "ProcessSeen",
    "ProcessSpec",
    "ProcessTable",
    "Sandbox",
    "Supervisor",
]
