"""Each line of the threat model in docs/security.md names a test, and it exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_each_threat_names_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    threats = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(threats) > 10
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    for line in threats:
        named = re.search(r"`(test_\w+)` \|$", line)
        assert named is not None, line
        assert named[1] in there, line
