"""Did the start-up script leave PATH with another Python or Airflow? Told, as on MWAA, but not fatal.

Airflow itself runs on the runtime's interpreter all the same; a BashOperator that calls
`python` or `airflow` would not.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Mapping

_WITHIN_S = 20
_NONE = "none"
_PROGRAM = f"""
import platform
try:
    from importlib.metadata import version
    airflow = version("apache-airflow")
except Exception:
    airflow = {_NONE!r}
print(platform.python_version(), airflow)
"""


def differences(variables: Mapping[str, str]) -> list[str]:
    """Return a sentence for each of the two that is not what the environment was made with.

    Args:
        variables: Of the component, after its script; AIRFLOW_VERSION says which Airflow it is.
    """
    program = shutil.which("python", path=variables.get("PATH", ""))
    if program is None:
        return ["PATH no longer leads to a python."]
    try:
        answer = subprocess.run(
            [program, "-c", _PROGRAM],
            env=variables,
            cwd="/",  # -c imports from the working folder
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_WITHIN_S,
            check=True,
        )
        python, airflow = answer.stdout.split()
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [f"{program}, which PATH leads to, does not work ({type(error).__name__})."]
    found = {"Python": python, "Airflow": airflow}
    wanted = {"Python": platform.python_version(), "Airflow": variables.get("AIRFLOW_VERSION", airflow)}
    return [
        f"{name} is {wanted[name]}, but {program}, which PATH leads to, has {found[name]}."
        for name in wanted
        if wanted[name] != found[name]
    ]
