"""requirements.txt as people write it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmwaa.artifacts.requirements_text import Folders, RequirementsFile, parse_requirements
from openmwaa.kit.errors import GiveUp

HERE = Folders(plugins=Path("/layer/plugins"))
EUROPEAN = "requests==2.31.0  # für später\nflask\n"


def parse(text: str | bytes, folders: Folders = HERE) -> RequirementsFile:
    return parse_requirements(text.encode() if isinstance(text, str) else text, folders)


def refusal(text: str, folders: Folders = HERE) -> GiveUp:
    with pytest.raises(GiveUp) as caught:
        parse(text, folders)
    return caught.value


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"],
)
def test_usual_encodings_are_understood(encoding: str) -> None:
    """As MWAA's images do with charset detection (mwaa.md 5.3)."""
    file = parse(EUROPEAN.encode(encoding))
    assert [(one.line, one.uv) for one in file.requirements] == [(1, "requests==2.31.0"), (2, "flask")]


def code_of(data: bytes) -> str:
    """Return the code of the refusal; empty if the file is fine."""
    try:
        parse(data)
    except GiveUp as error:
        return error.code
    return ""


@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_anything_is_read_or_refused(data: bytes) -> None:
    """Nothing else is raised, whatever is uploaded."""
    assert code_of(data) in ("", "REQUIREMENTS_SYNTAX", "REQUIREMENTS_UNSUPPORTED")


@given(st.lists(st.sampled_from(["a==1", "", "# b", "c>=2 ; python_version > '3'", "d[x]  # e"]), max_size=8))
def test_requirements_keep_their_lines(lines: list[str]) -> None:
    file = parse("\n".join(lines))
    for one in file.requirements:
        assert one.text.startswith(lines[one.line - 1].partition(" #")[0].strip())


def test_continued_lines_have_the_number_of_their_first() -> None:
    file = parse("a \\\n  >=1 \\\n  ,<2\nb\n")
    assert [(one.line, one.name) for one in file.requirements] == [(1, "a"), (4, "b")]
    assert "".join(file.requirements[0].uv.split()) == "a>=1,<2"


def test_options_and_paths_of_mwaa_are_mapped() -> None:
    """Several options may stand on one line."""
    file = parse(
        "--no-index --find-links /usr/local/airflow/plugins/wheels\n"
        "-i https://u:p@example.org/simple\n--extra-index-url=https://example.com\n"
        "--trusted-host example.org\n--prefer-binary\n"
        "/usr/local/airflow/plugins/a_b-1.0-py3-none-any.whl\n"
        "c @ file:///usr/local/airflow/plugins/c-1.0.tar.gz ; python_version > '3'\n"
        "D_e @ https://example.org/d.whl\n"
    )
    assert file.options == (
        "--no-index",
        "--find-links /layer/plugins/wheels",
        "--index-url https://u:p@example.org/simple",
        "--extra-index-url https://example.com",
    )
    assert file.arguments == ("--allow-insecure-host", "example.org")
    assert [(one.name, one.uv) for one in file.requirements] == [
        ("a-b", "/layer/plugins/a_b-1.0-py3-none-any.whl"),
        ("c", "c @ file:///layer/plugins/c-1.0.tar.gz ; python_version > '3'"),
        ("d-e", "D_e @ https://example.org/d.whl"),
    ]
    assert file.ignored == ("line 5: --prefer-binary has no effect",)


def test_hashes_are_kept_for_the_installation() -> None:
    file = parse("a==1 \\\n  --hash=sha256:00 \\\n  --hash=sha256:11\n")
    assert file.requirements[0].hashes == ("sha256:00", "sha256:11")
    assert file.requirements[0].uv == "a==1"


@pytest.mark.parametrize(
    ("text", "opted_out"),
    [
        ("flask\n", False),
        ("-c https://example.org/c.txt\n", True),
        ("--constraint https://example.org/c.txt\n", True),
        ("# --constraint none\nflask\n", True),
        ("flask # -c nothing\n", True),
        ("#-c\n", False),
    ],
)
def test_a_constraint_line_opts_out_also_commented(text: str, opted_out: bool) -> None:
    """MWAA looks for the characters, not for a line that works (mwaa.md 5.3)."""
    assert parse(text).opted_out is opted_out


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-e /usr/local/airflow/plugins/x", "editable"),
        ("-r more.txt", "other requirements files"),
        ("git+https://example.org/x.git", "version control"),
        ("x @ git+ssh://git@example.org/x.git", "version control"),
        ("/etc/passwd", "of local paths only"),
        ("./x.whl", "of local paths only"),
        ("x @ file:///etc/x.whl", "of local paths only"),
        ("-f /usr/local/airflow/plugins/../../x", "of local paths only"),
        ("-f /usr/local/airflow/dags/wheels", "there is no DAG folder"),
        ("-c ftp://example.org/c.txt", "ftp: is not a kind of address"),
        ("--index-url https://${TOKEN}@example.org", "variables are not replaced"),
        ("x --global-option=y", "options of a single requirement"),
    ],
)
def test_lines_that_cannot_work_are_refused_by_number(line: str, reason: str) -> None:
    error = refusal(f"# first\nflask\n{line}\n")
    assert error.code == "REQUIREMENTS_UNSUPPORTED"
    assert error.reason.startswith("line 3: ")
    assert reason in error.reason


def test_paths_of_plugins_need_a_plugins_zip() -> None:
    assert "there is no plugins.zip" in refusal("-f /usr/local/airflow/plugins\n", Folders()).reason


@pytest.mark.parametrize("line", ["--what", "--index-url", "-", "=x", "--find-links 'open"])
def test_syntax_errors_are_refused_by_number(line: str) -> None:
    error = refusal(f"flask\n{line}\n")
    assert error.code == "REQUIREMENTS_SYNTAX"
    assert error.reason.startswith("line 2: ")


def test_no_password_is_shown() -> None:
    """Neither in a refusal nor when a line is quoted."""
    assert "hunter2" not in refusal("x @ git+https://me:hunter2@example.org/x\n").reason
    file = parse("x @ https://me:hunter2@example.org/x.whl\n")
    assert file.quote(1) == "line 1: x @ https://***@example.org/x.whl"
