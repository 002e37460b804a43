"""Secrets of an environment."""

from __future__ import annotations

import base64

import pytest

from openmwaa.airflow.secrets import (
    DATABASE_PASSWORD,
    FERNET_KEY,
    METADATA_URL,
    RESULTS_URL,
    TASK_TOKEN_SECRET,
    database_variables,
    new_secrets,
)
from openmwaa.kit.secret import Secret


def test_new_secrets_are_random_and_well_formed() -> None:
    first, second = new_secrets(), new_secrets()
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)
    assert len(base64.urlsafe_b64decode(first[FERNET_KEY].reveal())) == 32
    assert len(first[TASK_TOKEN_SECRET].reveal()) >= 64  # HS512 wants a key as long as its hash
    assert "%" not in first[DATABASE_PASSWORD].reveal()


def test_database_variables_name_the_driver() -> None:
    urls = database_variables(Secret("postgresql://env_a:p%40ss@127.0.0.1:8751/env_a"))
    assert urls[METADATA_URL].reveal() == "postgresql+psycopg2://env_a:p%40ss@127.0.0.1:8751/env_a"
    assert urls[RESULTS_URL].reveal() == "db+postgresql+psycopg2://env_a:p%40ss@127.0.0.1:8751/env_a"
    with pytest.raises(ValueError, match=r"mysql://…$") as caught:
        database_variables(Secret("mysql://user:hidden@host/db"))
    assert "hidden" not in str(caught.value)
