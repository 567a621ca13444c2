"""The layout: each module is core or shell, core ones are under the contract, and each has its test file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"logstream_server": ROOT / "server", "logstream_operator": ROOT / "operator"}

TESTED_ELSEWHERE: dict[str, str] = {
    "logstream_server.reading": "by the model test in test_follower.py",
    "logstream_operator.__main__": "by test_lifecycle.py, which starts the program",
    "logstream_server.__main__": "a call of cli.main; every test in test_cli.py comes in through it",
}
"""Modules without a test file of their own, each with where it is tested and why there."""


def modules(package: str) -> set[str]:
    """The names of the modules of a package, without the package's own."""
    files = (PACKAGES[package] / package).glob("*.py")
    return {file.stem for file in files} - {"__init__"}


def contracts(kind: str) -> list[dict[str, Any]]:
    """The import contracts of a kind."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return [each for each in table["contracts"] if each["type"] == kind]


def layers(package: str) -> list[set[str]]:
    """The names in each layer of a package, highest first."""
    (found,) = [each for each in contracts("layers") if each["containers"] == [package]]
    return [set(re.findall(r"\w+", layer)) for layer in found["layers"]]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_in_exactly_one_layer(package: str) -> None:
    listed = [name for layer in layers(package) for name in layer]
    assert sorted(listed) == sorted(set(listed)), "a module is listed twice in pyproject.toml"
    missing = modules(package) - set(listed)
    assert not missing, f"add to `layers` in pyproject.toml, as core (last) or shell (first): {sorted(missing)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_core_module_is_kept_from_io(package: str) -> None:
    there = modules(package) & layers(package)[-1]
    prefix = f"{package}."
    kept = {
        name.removeprefix(prefix)
        for each in contracts("forbidden")
        for name in each["source_modules"]
        if name.startswith(prefix)
    }
    assert kept == there, "the core modules in `layers` that exist and `source_modules` must be the same"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_its_test_file(package: str) -> None:
    there = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / package).glob("test_*.py")}
    untested = {f"{package}.{name}" for name in modules(package) - there} - TESTED_ELSEWHERE.keys()
    assert not untested, f"write tests/{package}/test_<module>.py, or say in TESTED_ELSEWHERE why not: {untested}"


@pytest.mark.parametrize("module", TESTED_ELSEWHERE)
def test_an_exception_is_still_needed(module: str) -> None:
    package, name = module.split(".")
    assert name in modules(package)
    assert not (ROOT / "tests" / package / f"test_{name}.py").exists()


@pytest.mark.parametrize(
    "folder", ["server", "operator", "tests", "tests/logstream_server", "tests/logstream_operator"]
)
def test_folders_that_are_no_packages_stay_so(folder: str) -> None:
    """With an __init__.py, `operator` would stand in for Python's own module of that name."""
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("folder", PACKAGES.values(), ids=str)
def test_nothing_lies_loose_beside_a_package(folder: Path) -> None:
    assert list(folder.glob("*.py")) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_that_it_is_typed(package: str) -> None:
    assert (PACKAGES[package] / package / "py.typed").exists()
