"""Sealed secrets open only where they belong."""

import pickle
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmwaa.kit.keyring import LocalKeyring, SealBrokenError
from openmwaa.kit.secret import Secret


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> LocalKeyring:
    return LocalKeyring(tmp_path_factory.mktemp("keys") / "master.key")


@given(text=st.text(), context=st.text())
def test_what_is_sealed_opens_with_the_same_context(keyring: LocalKeyring, text: str, context: str) -> None:
    """Sealing and opening gives the secret back."""
    assert keyring.open(keyring.seal(Secret(text), context=context), context=context).reveal() == text


def test_a_sealed_text_does_not_open_elsewhere(keyring: LocalKeyring, tmp_path: Path) -> None:
    """Another context, another key, or an altered text is refused."""
    sealed = keyring.seal(Secret("s"), context="a")
    with pytest.raises(SealBrokenError):
        keyring.open(sealed, context="b")
    with pytest.raises(SealBrokenError):
        LocalKeyring(tmp_path / "other.key").open(sealed, context="a")
    with pytest.raises(SealBrokenError):
        keyring.open(sealed[:-4] + "AAAA", context="a")
    with pytest.raises(SealBrokenError):
        keyring.open("nonsense", context="a")


def test_the_key_file_is_private_and_made_once(tmp_path: Path) -> None:
    """A second keyring on the same file reads the first one's key."""
    path = tmp_path / "keys" / "master.key"
    sealed = LocalKeyring(path).seal(Secret("s"), context="c")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert LocalKeyring(path).open(sealed, context="c") == Secret("s")


def test_a_secret_never_prints() -> None:
    """No usual way of turning a secret into text shows it."""
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
