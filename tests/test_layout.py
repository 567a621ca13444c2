"""The layout: what says that it is pure is under the contract, and each module has its test file."""

from __future__ import annotations

import ast
import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"logstream_server": ROOT / "server", "logstream_operator": ROOT / "operator"}

TESTED_ELSEWHERE: dict[str, str] = {
    "logstream_server.tailing.reading": "by the model test in test_follower.py",
    "logstream_operator.__main__": "by test_lifecycle.py, which starts the program",
    "logstream_server.__main__": "a call of cli.main; every test in test_cli.py comes in through it",
}
"""Modules without a test file of their own, each with where it is tested and why there."""


def modules(package: str) -> dict[str, Path]:
    """The modules of a package by their full names, without the packages' own."""
    files = (PACKAGES[package] / package).rglob("*.py")
    return {
        ".".join(file.relative_to(PACKAGES[package]).with_suffix("").parts): file
        for file in files
        if file.name != "__init__.py"
    }


def file_of_tests(module: str) -> Path:
    """Where the tests of a module are: in the same folder below tests/."""
    *folders, name = module.split(".")
    return ROOT.joinpath("tests", *folders, f"test_{name}.py")


def contracts(kind: str) -> list[dict[str, Any]]:
    """The import contracts of a kind."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return [each for each in table["contracts"] if each["type"] == kind]


def core() -> list[str]:
    """The patterns of all modules that are kept from I/O."""
    return [name for each in contracts("forbidden") for name in each["source_modules"]]


def says_that_it_is_pure(file: Path) -> bool:
    """By its docstring."""
    return bool(re.search(r"\b(Pure|No I/O)\b", ast.get_docstring(ast.parse(file.read_text())) or ""))


@pytest.mark.parametrize("package", PACKAGES)
def test_what_says_that_it_is_pure_is_kept_from_io(package: str) -> None:
    pure = {name for name, file in modules(package).items() if says_that_it_is_pure(file)}
    unkept = {name for name in pure if not any(fnmatchcase(name, pattern) for pattern in core())}
    assert pure
    assert not unkept, f"add to `source_modules` in pyproject.toml, or say something else: {sorted(unkept)}"


def test_what_is_kept_from_io_is_there() -> None:
    there = [name for package in PACKAGES for name in modules(package)]
    gone = {pattern for pattern in core() if not any(fnmatchcase(name, pattern) for name in there)}
    assert not gone


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_its_test_file(package: str) -> None:
    untested = {name for name in modules(package) if not file_of_tests(name).exists()} - TESTED_ELSEWHERE.keys()
    assert not untested, f"write tests/..., or say in TESTED_ELSEWHERE why not: {untested}"


@pytest.mark.parametrize("module", TESTED_ELSEWHERE)
def test_an_exception_is_still_needed(module: str) -> None:
    assert module in modules(module.split(".", maxsplit=1)[0])
    assert not file_of_tests(module).exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_says_what_it_is_for(package: str) -> None:
    faces = list((PACKAGES[package] / package).rglob("__init__.py"))
    assert faces
    assert all(ast.get_docstring(ast.parse(face.read_text())) for face in faces)


def test_folders_that_are_no_packages_stay_so() -> None:
    """With an __init__.py, `operator` would stand in for Python's own module of that name."""
    assert not [folder for folder in ("server", "operator") if (ROOT / folder / "__init__.py").exists()]
    found = [face for package in PACKAGES for face in (ROOT / "tests" / package).rglob("__init__.py")]
    assert found == []
    assert not (ROOT / "tests" / "__init__.py").exists()


@pytest.mark.parametrize("folder", PACKAGES.values(), ids=str)
def test_nothing_lies_loose_beside_a_package(folder: Path) -> None:
    assert list(folder.glob("*.py")) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_that_it_is_typed(package: str) -> None:
    assert (PACKAGES[package] / package / "py.typed").exists()
