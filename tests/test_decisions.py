"""docs/decisions: each page has a number of its own, and each dependency has a page that says why."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs/decisions").glob("*.md"))


def dependencies() -> list[str]:
    """The names of all that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    return sorted({re.split(r"[<>=~!\[ ]", each)[0] for each in wanted})


def test_pages_are_numbered_one_by_one() -> None:
    assert [int(page.name[:4]) for page in PAGES] == list(range(1, len(PAGES) + 1))
    for page in PAGES:
        assert page.read_text().startswith(f"# {int(page.name[:4])}. "), page.name


@pytest.mark.parametrize("name", dependencies())
def test_each_dependency_is_reasoned(name: str) -> None:
    assert [page.name for page in PAGES if re.search(rf"(?i)(?<![\w-]){re.escape(name)}(?![\w-])", page.read_text())]
