"""The environments that tests share: one per Airflow version."""

from __future__ import annotations

from dataclasses import dataclass

VERSIONS = ("2.11.2", "3.0.6", "3.3.1")


@dataclass(frozen=True)
class Environment:
    """A running environment."""

    name: str
    version: str
    bucket: str

    @property
    def generation(self) -> int:
        return int(self.version.partition(".")[0])
