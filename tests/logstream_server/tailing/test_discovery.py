"""discovery: a path is a file, a folder or a glob by what is there, and a look finds what is there now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from logstream_server.tailing.discovery import MAX_FILES, Source, parse_source, parse_sources, scan

from ..scenarios.harness import mounted, why_no_mount

NAMES = (
    "a.log",
    "b.log",
    "A.LOG",
    "c.txt",
    ".hidden.log",
    "-dash.log",
    "sp ace.log",
    "new\nline.log",
    "bad\udcff.log",
    "zwölf.log",
    "old.log.gz",
    "sub/d.log",
    "sub/deep/e.log",
    "br[1]/f.log",
    ".git/g.log",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files of all kinds of names."""
    folder = tmp_path / "logs"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(source: Source, folder: Path, *ignore: str) -> list[str]:
    """What a look finds, relative to the folder."""
    return [os.path.relpath(path, folder) for path in scan(source, ignore)]


# -- what a path means ------------------------------------------------------------------------------------------------


def test_a_file_is_itself_whether_it_is_there_or_not(folder: Path) -> None:
    for name in ("a.log", "missing.log", "br[1]/f.log"):
        source = parse_source(str(folder / name))
        assert source == Source(str(folder / name))
        assert source.is_file


def test_a_file_that_looks_like_a_glob_is_a_file_if_it_is_there(folder: Path) -> None:
    (folder / "*.log").touch()
    assert parse_source(str(folder / "*.log")).is_file
    (folder / "[x].log").symlink_to("missing")
    assert parse_source(str(folder / "[x].log")).is_file


def test_a_folder_brings_its_own_root(folder: Path) -> None:
    source = parse_source(str(folder), name="logs")
    assert source == Source(str(folder), "logs", str(folder), (str(folder),))
    assert not source.is_file


def test_a_folder_may_be_missing_when_it_is_written_like_one(folder: Path) -> None:
    source = parse_source(str(folder / "later") + "/")
    assert (source.path, source.base, source.is_file) == (str(folder / "later"), str(folder / "later"), False)
    assert scan(source) == []


def test_a_link_to_a_folder_is_that_folder_and_its_root_is_where_it_leads(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder / "sub")
    source = parse_source(str(tmp_path / "link"))
    assert (source.base, source.roots) == (str(tmp_path / "link"), (str(folder / "sub"),))
    assert found(source, tmp_path / "link") == ["d.log", "deep/e.log"]


@pytest.mark.parametrize(
    ("pattern", "base"),
    [
        ("*.log", ""),
        ("sub/*.log", "sub"),
        ("sub/deep/[a-z].log", "sub/deep"),
        ("s?b/deep/*.log", ""),
        ("**/*.log", ""),
        ("sub/**", "sub"),
        ("{a,b}.log", ""),
        ("{sub/deep/e,a}.log", ""),
        (r"br\[1]/*.log", ""),
    ],
)
def test_a_globs_base_is_what_precedes_its_first_wildcard(folder: Path, pattern: str, base: str) -> None:
    source = parse_source(f"{folder}/{pattern}")
    assert source.base == str(folder / base)
    assert source.roots == (str(folder / base),)


def test_a_glob_of_the_root_folder() -> None:
    assert parse_source("/*.nothing-like-that") == Source("/*.nothing-like-that", None, "/", ("/",))


def test_paths_are_absolute_from_where_the_program_was_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert parse_source("a.log").path == str(folder / "a.log")
    assert parse_source("sub/../*.log").path == str(folder / "*.log")


def test_several_are_what_each_of_them_is_in_their_order(folder: Path) -> None:
    paths = [("a.log", "first"), ("sub/", None), ("*.log", "logs"), ("later.log", None), ("a.log", None)]
    given = [(f"{folder}/{path}", name) for path, name in paths]
    assert parse_sources(given, []) == [parse_source(path, (), name) for path, name in given]
    assert parse_sources(given, ["/var"]) == [parse_source(path, ["/var"], name) for path, name in given]
    assert parse_sources([], []) == []


@pytest.mark.skipif(bool(why_no_mount()), reason=why_no_mount() or "")
def test_of_a_file_system_that_hangs_each_is_what_it_looks_like(folder: Path, tmp_path: Path) -> None:
    """And the others are what they are."""
    with mounted(folder, tmp_path / "mount") as mount:
        link = tmp_path / "link.log"
        link.symlink_to(mount.target / "a.log")
        mount.hang()
        paths = [
            (str(mount.target / path) + slash, None) for path, slash in (("a.log", ""), ("sub", "/"), ("*.log", ""))
        ]
        sources = parse_sources([*paths, (str(folder), "well"), (str(link), None)], [])
        mount.go_on()
    target = str(mount.target)
    assert [(source.path, source.base) for source in sources] == [
        (f"{target}/a.log", None),
        (f"{target}/sub", f"{target}/sub"),
        (f"{target}/*.log", target),
        (str(folder), str(folder)),
        (str(link), None),
    ]
    assert sources[3] == parse_source(str(folder), (), "well")


def test_roots_that_are_given_hold_for_everything(folder: Path, tmp_path: Path) -> None:
    """With their links resolved, once."""
    (tmp_path / "link").symlink_to(folder)
    for path in ("logs/a.log", "logs", "logs/*.log"):
        source = parse_source(str(tmp_path / path), [str(tmp_path / "link"), "/var"])
        assert source.roots == (str(folder), os.path.realpath("/var"))


# -- what a look finds ------------------------------------------------------------------------------------------------

ALL = sorted(name for name in NAMES if not name.endswith(".gz"))


@pytest.mark.parametrize(
    ("path", "names"),
    [
        pytest.param("", ALL, id="a folder: everything below it"),
        pytest.param("**", ALL, id="two stars: the same"),
        pytest.param("*", sorted(name for name in ALL if "/" not in name), id="one star: names with dots, too"),
        pytest.param("*.LOG", ["A.LOG"], id="case counts"),
        pytest.param("?.log", ["a.log", "b.log"], id="one character"),
        pytest.param("[!a].log", ["b.log"], id="one character, but for some"),
        pytest.param("{a,c}.{log,txt}", ["a.log", "c.txt"], id="braces"),
        pytest.param("{a,sub/d}.log", ["a.log", "sub/d.log"], id="braces with folders"),
        pytest.param("*/*.log", [".git/g.log", "br[1]/f.log", "sub/d.log"], id="one folder deep"),
        pytest.param("sub/**/*.log", ["sub/d.log", "sub/deep/e.log"], id="any depth"),
        pytest.param("br[1]/*.log", [], id="brackets are a wildcard"),
        pytest.param(r"br\[1]/*.log", ["br[1]/f.log"], id="unless they are escaped"),
        pytest.param("*.gz", [], id="compressed files are no logs"),
        pytest.param("sub/*", ["sub/d.log"], id="folders are no files"),
        pytest.param("missing/*", [], id="a folder that is missing"),
    ],
)
def test_a_look_finds_what_matches(folder: Path, path: str, names: list[str]) -> None:
    source = parse_source(f"{folder}/{path}")
    assert found(source, folder) == names


@pytest.mark.parametrize(
    ("ignore", "gone"),
    [
        pytest.param(("*.txt",), {"c.txt"}, id="by name, anywhere"),
        pytest.param(("e.log", "d.log"), {"sub/d.log", "sub/deep/e.log"}, id="several"),
        pytest.param(("sub/**",), {"sub/d.log", "sub/deep/e.log"}, id="by place"),
        pytest.param(("**/deep/*",), {"sub/deep/e.log"}, id="by a folder at any depth"),
        pytest.param((".*", ".*/**"), {".hidden.log", ".git/g.log"}, id="what begins with a dot"),
        pytest.param(("*.LOG",), {"A.LOG"}, id="case counts"),
        pytest.param(("{a,b}.log",), {"a.log", "b.log"}, id="braces"),
        pytest.param(("nothing",), set(), id="what is not there"),
    ],
)
def test_a_look_leaves_out_what_is_to_be_ignored(folder: Path, ignore: tuple[str, ...], gone: set[str]) -> None:
    assert found(parse_source(str(folder)), folder, *ignore) == [name for name in ALL if name not in gone]


def test_one_file_can_be_ignored_by_its_whole_path(folder: Path) -> None:
    names = found(parse_source(str(folder / "*.log")), folder, str(folder / "a.log"))
    assert "a.log" not in names
    assert "b.log" in names


def test_links_to_folders_are_not_gone_through_but_by_name(folder: Path) -> None:
    """A link upwards would have no end; where a glob names it, it is followed, and opening checks the roots."""
    (folder / "up").symlink_to(".")
    (folder / "etc").symlink_to("/etc")
    (folder / "link.log").symlink_to("a.log")
    assert found(parse_source(str(folder)), folder) == sorted([*ALL, "link.log"])
    assert "etc/hostname" in found(parse_source(str(folder / "e*" / "hostname")), folder)


def test_new_files_are_found_by_the_next_look(folder: Path) -> None:
    source = parse_source(str(folder / "*.txt"))
    assert found(source, folder) == ["c.txt"]
    (folder / "d.txt").touch()
    (folder / "c.txt").unlink()
    assert found(source, folder) == ["d.txt"]


def test_no_look_brings_more_files_than_can_be_followed(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 2):
        os.close(os.open(tmp_path / f"{number:05}.log", os.O_CREAT))
    assert found(parse_source(str(tmp_path)), tmp_path) == [f"{number:05}.log" for number in range(MAX_FILES)]
