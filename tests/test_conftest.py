"""conftest: with LOGSTREAM_TEST_REQUIRE=all no way to skip is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPPING = """
import pytest

def test_calls_skip():
    pytest.skip("no such machine")

@pytest.mark.skipif(True, reason="no such kernel")
def test_has_a_mark(): ...

@pytest.fixture
def device():
    pytest.skip("no such device")

def test_has_a_fixture_that_skips(device): ...

@pytest.mark.xfail(strict=True)
def test_is_expected_to_fail():
    assert False

def test_passes(): ...
"""


def run_pytest(folder: Path, tests: str, require: str) -> tuple[int, str]:
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text())
    (folder / "test_some.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-rs", str(folder)]
    environ = os.environ | {"LOGSTREAM_TEST_REQUIRE": require}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_skips_are_skips_where_nothing_is_required(tmp_path: Path) -> None:
    code, out = run_pytest(tmp_path, SKIPPING, "")
    assert code == 0
    assert "1 passed, 3 skipped, 1 xfailed" in out
    assert "no such device" in out


def test_each_kind_of_skip_fails_with_its_reason_where_all_is_required(tmp_path: Path) -> None:
    code, out = run_pytest(tmp_path, SKIPPING, "all")
    assert code == 1
    assert "1 failed, 1 passed, 1 xfailed, 2 errors" in out  # errors: those that skip before their body begins
    for reason in ("no such machine", "no such kernel", "no such device"):
        assert f"LOGSTREAM_TEST_REQUIRE=all does not allow this: Skipped: {reason}" in out


def test_a_module_that_skips_itself_fails_where_all_is_required(tmp_path: Path) -> None:
    module = "import pytest\npytest.importorskip('no_such_module_at_all')\n"
    assert run_pytest(tmp_path, module, "")[0] == pytest.ExitCode.NO_TESTS_COLLECTED
    code, out = run_pytest(tmp_path, module, "all")
    assert code not in (0, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert "no_such_module_at_all" in out


def test_a_misspelt_requirement_is_refused(tmp_path: Path) -> None:
    code, out = run_pytest(tmp_path, SKIPPING, "al")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "must be all" in out
