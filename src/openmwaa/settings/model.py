"""What an operator can choose: `openmwaa.toml` in the home directory, or `OPENMWAA_*` variables.

Variables win over the file. Nothing here is read again while a process runs.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from openmwaa.settings.layout import Layout, Ports

DEFAULT_PORT_BASE = 8750


class SettingsError(Exception):
    """A setting is missing or out of range; the text names it and the accepted range."""


def default_home() -> Path:
    """Return where state lives unless chosen: `/var/lib` for root, the user's state folder otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/openmwaa")
    state = os.environ.get("XDG_STATE_HOME")
    return Path(state) / "openmwaa" if state else Path.home() / ".local" / "state" / "openmwaa"


class Settings(BaseSettings):
    """Every setting of the service; immutable."""

    model_config = SettingsConfigDict(env_prefix="OPENMWAA_", frozen=True, extra="forbid")

    home: Path = Field(default_factory=default_home)
    """Directory that holds all state. Two homes can run side by side on different `port_base`."""

    port_base: Annotated[int, Field(ge=1024, le=65000)] = DEFAULT_PORT_BASE
    """First of the twenty consecutive loopback ports that the service uses."""

    account_id: Annotated[str, Field(pattern=r"^\d{12}$")] = "000000000000"
    """AWS account id that appears in ARNs."""

    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] = "us-east-1"
    """AWS Region that appears in ARNs and in signatures."""

    runtimes_folder: Path | None = None
    """Where Airflow versions are installed, half a gigabyte each. Several homes of one host may share
    it; every user of the host must be able to enter it. Unset: below `home`."""

    domain: str | None = None
    """Parent domain of the environments' host names, e.g. `mwaa.example.com`, with a wildcard
    record that points here. Unset: each environment is reached at its own loopback address,
    because many resolvers do not answer for names below `localhost`."""

    postgres_url: SecretStr | None = None
    """`postgresql://user:password@host:port/dbname` of your own server, whose user may create
    roles and databases. Unset: an embedded PostgreSQL 18."""

    redis_url: SecretStr | None = None
    """`redis://…` of your own Redis or Valkey for Celery. Each environment gets its own key
    prefix. Unset: each environment gets an embedded Valkey of its own."""

    s3_endpoint_url: str | None = None
    """Your own S3 endpoint. Unset: an embedded SeaweedFS."""

    s3_access_key_id: str | None = None
    """Access key for `s3_endpoint_url`; the service lists and reads source buckets with it."""

    s3_secret_access_key: SecretStr | None = None
    """Secret of `s3_access_key_id`."""

    isolation: Literal["auto", "off"] = "auto"
    """`auto`: as root, each environment runs as its own Linux user in its own mount namespace.
    `off`, or not root: environments run as the user of the service, which `openmwaa doctor` says."""

    zygote: Literal["auto", "off"] = "auto"
    """`auto`: where isolation is in force, one process per runtime loads Airflow once, and components are
    forked from it: they start in a second and share memory. `off`: each is started as a program.
    What an environment does is the same."""

    max_environments: Annotated[int, Field(ge=1, le=250)] = 10
    """Quota of environments, as MWAA has per account and Region."""

    max_workers: Annotated[int, Field(ge=1, le=50)] = 25
    """Quota of workers of one environment."""

    keep_layers_days: Annotated[int, Field(ge=0, le=3650)] = 7
    """How long packages and plugins stay on disk that no environment uses any more."""

    layer_build_timeout_s: Annotated[int, Field(ge=10, le=1500)] = 540
    """Longest time in which packages and plugins of one environment must be built; then the build is
    killed and the change refused. MWAA gives pip nine minutes."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lowest level in the service's own logs."""

    @model_validator(mode="after")
    def _own_s3_needs_keys(self) -> Self:
        if self.s3_endpoint_url and not (self.s3_access_key_id and self.s3_secret_access_key):
            raise ValueError("s3_endpoint_url needs s3_access_key_id and s3_secret_access_key")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let `load_settings` decide the order: it merges file and command line itself."""
        return (env_settings, init_settings)

    @property
    def layout(self) -> Layout:
        """Where each kind of state lives below `home`."""
        return Layout(self.home, self.runtimes_folder)

    @property
    def ports(self) -> Ports:
        """Which port each listener uses."""
        return Ports(self.port_base)


def load_settings(*, home: Path | None = None, port_base: int | None = None) -> Settings:
    """Read the settings: command line over `OPENMWAA_*` variables over `openmwaa.toml`.

    A home remembers the `port_base` it was first started with (`Layout.port_base_file`),
    so that later commands find it without repeating the option.

    Args:
        home: `--home`, if given.

        port_base: `--port-base`, if given.

    Raises:
        SettingsError: Names the setting and what it accepts.
    """
    chosen = home or Path(os.environ.get("OPENMWAA_HOME") or default_home())
    chosen = chosen.expanduser().absolute()
    layout = Layout(chosen)
    values: dict[str, Any] = {}
    if layout.settings_file.exists():
        try:
            values = tomllib.loads(layout.settings_file.read_text())
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{layout.settings_file}: {error}") from error
    if layout.port_base_file.exists():
        values.setdefault("port_base", int(layout.port_base_file.read_text()))
    try:
        settings = Settings(**values)
        chosen_last: dict[str, Any] = {"home": chosen}
        if port_base is not None:
            chosen_last["port_base"] = port_base
        return settings.model_copy(update=chosen_last)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise SettingsError(f"{name}: {first['msg']}") from error
