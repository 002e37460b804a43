"""What uv 0.13 says, captured from real runs, and what the user is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from openmwaa.artifacts.layer_errors import Asked, cause_of, needs_building
from openmwaa.artifacts.requirements_text import Folders, parse_requirements
from openmwaa.kit.errors import GiveUp, Retry

PINS = {"requests": "2.32.5", "boto3": "1.42.70", "botocore": "1.42.70"}
HEAD = "Using Python 3.11.7 environment at: /home/runtimes/2.11.2\nerror: "
NO_SOLUTION = f"{HEAD}No solution found when resolving dependencies\n  cause: "


def cause(said: str, requirements: str, *, opted_out: bool = False) -> Exception:
    file = parse_requirements(requirements.encode(), Folders(Path("/layer/plugins")))
    pins = {} if opted_out else PINS
    uv_text = "".join(f"{line}\n" for line in requirements.splitlines())
    return cause_of(said.splitlines(), Asked(file, uv_text, pins, "2.11.2"))


@pytest.mark.parametrize(
    ("said", "requirements", "opted_out", "reason"),
    [
        (
            "Because you require requests==2.20.0 and requests==2.32.5, we can conclude that your requirements"
            " are unsatisfiable.",
            "# hi\nrequests==2.20.0\n",
            False,
            "line 2: requests==2.20.0 conflicts with requests==2.32.5, which Airflow 2.11.2's own lock pins",
        ),
        (
            "Because all versions of needy depend on requests<2.30 and requests==2.32.5, we can conclude that all"
            " versions of needy cannot be used.\n         And because you require needy, we can conclude that your"
            " requirements are unsatisfiable.",
            "\nneedy\n",
            False,
            "line 2: needy needs requests<2.30, which conflicts with requests==2.32.5, which Airflow 2.11.2's"
            " own lock pins",
        ),
        (
            "Because you require requests==2.31.0 and requests==2.30.0, we can conclude that your requirements are"
            " unsatisfiable.",
            "requests==2.31.0\nrequests==2.30.0\n",
            True,
            "line 1: requests==2.31.0 conflicts with line 2: requests==2.30.0",
        ),
        (
            "Because boto3==1.28.0 depends on botocore>=1.31.0,<1.32.0 and you require botocore==1.29.0, we can"
            " conclude that your requirements and boto3==1.28.0 are incompatible.\n         And because you require"
            " boto3==1.28.0, we can conclude that your requirements are unsatisfiable.",
            "botocore==1.29.0\nboto3==1.28.0\n",
            True,
            "line 2: boto3==1.28.0 needs botocore>=1.31.0,<1.32.0, which conflicts with line 1: botocore==1.29.0",
        ),
    ],
    ids=["pin", "behind a line", "two lines", "line behind line"],
)
def test_both_sides_of_a_conflict_are_named(
    said: str, requirements: str, opted_out: bool, reason: str
) -> None:
    error = cause(NO_SOLUTION + said, requirements, opted_out=opted_out)
    assert isinstance(error, GiveUp)
    assert (error.code, error.reason) == ("REQUIREMENTS_CONFLICT", reason)
    assert error.fix


@pytest.mark.parametrize(
    ("said", "requirements", "reason"),
    [
        (
            "Because nosuch was not found in the package registry and you require nosuch, we can conclude that your"
            " requirements are unsatisfiable.",
            "a\nnosuch\n",
            "line 2: nosuch does not exist in the package index",
        ),
        (
            "Because missing was not found in the provided package locations and you require missing==2, we can"
            " conclude that your requirements are unsatisfiable.",
            "missing==2\n",
            "line 1: missing==2: missing does not exist in the package index",
        ),
        (
            "Because there is no version of pyfiglet==99.0 and you require pyfiglet==99.0, we can conclude that your"
            " requirements are unsatisfiable.",
            "pyfiglet==99.0\n",
            "line 1: pyfiglet==99.0: pyfiglet has no such version in the package index",
        ),
        (
            "Because tensorflow==1.0.0 has no wheels with a matching Python ABI tag (e.g., `cp311`) and you require"
            " tensorflow==1.0, we can conclude that your requirements are unsatisfiable.",
            "tensorflow==1.0\n",
            "line 1: tensorflow==1.0: tensorflow has no file for this Python and platform",
        ),
    ],
    ids=["name", "name without index", "version", "platform"],
)
def test_what_no_index_has_is_named_with_its_line(said: str, requirements: str, reason: str) -> None:
    error = cause(NO_SOLUTION + said, requirements)
    assert isinstance(error, GiveUp)
    assert (error.code, error.reason) == ("REQUIREMENTS_NOT_FOUND", reason)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            'error: Couldn\'t parse requirement in `r.txt` at position 6\n  cause: no such comparison operator "=",'
            " must be one of ~= == != <= >= < > ===\n         pyfiglet=1.0\n                 ^^^^",
            'line 2: pyfiglet=1.0 is not valid: no such comparison operator "=", must be one of ~= == != <= >= < > ===',
        ),
    ],
)
def test_a_syntax_error_is_told_by_line(said: str, reason: str) -> None:
    error = cause(said, "flask\npyfiglet=1.0\n")
    assert isinstance(error, GiveUp)
    assert (error.code, error.reason) == ("REQUIREMENTS_SYNTAX", reason)


def test_a_failed_build_shows_the_end_of_its_log_without_our_paths() -> None:
    said = (
        f"{HEAD}Failed to build `broken==1.0`\n  cause: The build backend returned an error\n  cause: Call to"
        " `setuptools.build_meta:__legacy__.build_wheel` failed (exit status: 1)\n         [stderr]\n"
        '           File "/home/layer-builds/x-1/cache/builds-v0/.tmp/setuptools/build_meta.py", line 333\n'
        "         RuntimeError: no compiler here\nhint: Build failures usually indicate a problem"
    )
    error = cause(said, "a\nbroken\n")
    assert isinstance(error, GiveUp)
    assert error.code == "REQUIREMENTS_BUILD_FAILED"
    assert (
        error.reason
        == "line 2: broken: broken==1.0 cannot be built or unpacked: RuntimeError: no compiler here"
    )
    assert "build_meta.py" in error.evidence
    assert "layer-builds" not in error.evidence


def test_a_broken_file_is_told_by_line() -> None:
    said = (
        f"{NO_SOLUTION}Because broken==1.0 has an invalid package format and only broken==1.0 is available, we can"
        " conclude that all versions of broken cannot be used.\n         And because you require broken, we can"
        " conclude that your requirements are unsatisfiable.\n\nhint: The structure of `broken` (v1.0) was invalid:\n"
        "  Failed to read from zip file"
    )
    error = cause(said, "a\nbroken\n")
    assert isinstance(error, GiveUp)
    assert error.code == "REQUIREMENTS_BUILD_FAILED"
    assert (
        error.reason
        == "line 2: broken: broken==1.0 cannot be built or unpacked: Failed to read from zip file"
    )


def test_a_file_with_another_hash_is_told_as_such() -> None:
    said = (
        f"{HEAD}Failed to download `cowsay==6.1`\n  cause: Hash mismatch for `cowsay==6.1`\n         Expected:\n"
        "           sha256:00\n         Computed:\n           sha256:27"
    )
    error = cause(said, "cowsay==6.1 --hash=sha256:00\n")
    assert isinstance(error, GiveUp)
    assert error.reason == "line 1: cowsay==6.1 is not the file whose hash is given"
    assert "sha256:27" in error.evidence


def test_an_unreachable_index_is_tried_again() -> None:
    said = (
        f"{HEAD}Failed to fetch: http://me:hunter2@127.0.0.1:9/simple/pyfiglet/\n  cause: error sending request for url\n"
        "  cause: client error (Connect)\n  cause: tcp connect error\n  cause: Connection refused (os error 111)"
    )
    error = cause(said, "pyfiglet\n")
    assert isinstance(error, Retry)
    assert error.reason == "the package index did not answer: http://***@127.0.0.1:9/simple/pyfiglet/"


def test_only_a_missing_wheel_needs_building() -> None:
    said = (
        f"{NO_SOLUTION}Because okay==1.0 has no usable wheels and only okay==1.0 is available, we can conclude that all"
        " versions of okay cannot be used.\nhint: Wheels are required for `okay` because building from source is"
        " disabled for all packages (i.e., with `--no-build`)"
    )
    assert needs_building(said.splitlines())
    assert not needs_building((NO_SOLUTION + "Because nosuch was not found").splitlines())
