"""What every test folder shares: how a test that this machine cannot run is reported, and that no test is timed.

Such a test skips with a reason that says what is missing. With LOGSTREAM_TEST_REQUIRE=all, as in .ci/run, each skip is
a failure instead, so that a suite cannot pass by not running. An expected failure (xfail) is no skip.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

REQUIRE_VARIABLE = "LOGSTREAM_TEST_REQUIRE"

# How long an example takes says how busy the machine is, and nothing about the code. What decides about a change are
# the same examples each time; who runs the tests by hand looks for new ones.
settings.register_profile(
    "logstream",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("logstream")


def pytest_configure() -> None:
    """Refuse a value that would quietly require nothing, and let Ctrl-C end what is started."""
    value = os.environ.get(REQUIRE_VARIABLE, "")
    if value not in ("", "all"):
        raise pytest.UsageError(f"{REQUIRE_VARIABLE}={value!r}: must be all, or not set")
    # A shell lets its background jobs ignore Ctrl-C, and so would every program that a test starts and then ends by it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips itself, or that a mark skips."""
    report = yield
    if not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself while it is read, as `pytest.importorskip` does."""
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome != "skipped" or not os.environ.get(REQUIRE_VARIABLE):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{REQUIRE_VARIABLE}=all does not allow this: {reason}"
