"""roots: which folders of nodes may be named, by whom."""

from __future__ import annotations

import pytest

from logstream_operator.errors import NotAccepted
from logstream_operator.roots import FORBIDDEN, OCCUPIED, Propagation, Root, find_root, parse_roots

ROOTS = (
    Root("/minikube-host"),
    Root("/var/log/apps", namespaces=("team", "ops"), groups=(4,)),
    Root("/var/log/apps/web", groups=(0, 33), propagation=Propagation.NONE),
)


@pytest.mark.parametrize(
    ("path", "namespace", "groups", "root"),
    [
        pytest.param("/minikube-host", "any", (), ROOTS[0], id="the root itself"),
        pytest.param("/minikube-host/a/b", "any", (), ROOTS[0], id="a folder below it"),
        pytest.param("/var/log/apps/db", "team", (4,), ROOTS[1], id="a namespace and a group that are listed"),
        pytest.param("/var/log/apps/web", "team", (33,), ROOTS[2], id="the narrowest root that allows it"),
        pytest.param("/var/log/apps/web/x", "team", (4,), ROOTS[1], id="a wider root, for its groups"),
        pytest.param("/var/log/apps/web/x", "other", (), ROOTS[2], id="a root for all namespaces below one for some"),
    ],
)
def test_allowed(path: str, namespace: str, groups: tuple[int, ...], root: Root) -> None:
    assert find_root(ROOTS, namespace, path, groups) is root


@pytest.mark.parametrize(
    ("path", "namespace", "groups", "words"),
    [
        pytest.param("/etc", "team", (), "/minikube-host, /var/log/apps, /var/log/apps/web", id="another folder"),
        pytest.param("/minikube-hostile", "team", (), "is in none", id="one whose name begins alike"),
        pytest.param("/", "team", (), "is in none", id="the folder above"),
        pytest.param("/minikube-host/../etc", "team", (), "is in none", id="a way out"),
        pytest.param("/var/log/apps/db", "other", (), "allowed for the namespace other", id="another namespace"),
        pytest.param("/minikube-host", "team", (0,), "groups 0", id="a group that is not listed"),
        pytest.param("/var/log/apps/web", "team", (0, 4), "allowed: 0, 33", id="groups of two roots"),
    ],
)
def test_refused(path: str, namespace: str, groups: tuple[int, ...], words: str) -> None:
    with pytest.raises(NotAccepted) as caught:
        find_root(ROOTS, namespace, path, groups)
    assert words in str(caught.value).replace("supplementalGroups", "groups")
    assert caught.value.stop, "what is not allowed must not go on"


def test_nothing_is_allowed_without_roots() -> None:
    with pytest.raises(NotAccepted, match=r"allowed for the namespace team: none"):
        find_root((), "team", "/minikube-host")


def test_roots_are_read_as_the_chart_writes_them() -> None:
    text = """[{"path": "/minikube-host"},
        {"path": "/var/log/apps", "namespaces": ["team"], "groups": [4], "mountPropagation": "None"}]"""
    assert parse_roots(text) == (
        Root("/minikube-host"),
        Root("/var/log/apps", ("team",), (4,), Propagation.NONE),
    )
    assert parse_roots("[]") == ()


@pytest.mark.parametrize(
    "path", [*FORBIDDEN, *OCCUPIED, "/", "/etc/logs", "/var/lib/kubelet/pods", "logs", "/a/../b", "/a/"]
)
def test_folders_that_hold_more_than_logs_cannot_be_allowed(path: str) -> None:
    with pytest.raises(ValueError, match=r"must be|cannot be allowed"):
        parse_roots(f'[{{"path": "{path}"}}]')


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "{}",
        '["/a"]',
        '[{"path": 1}]',
        '[{"path": "/a", "group": [1]}]',
        '[{"path": "/a", "groups": ["x"]}]',
        '[{"path": "/a", "namespaces": [1]}]',
        '[{"path": "/a", "mountPropagation": "Bidirectional"}]',
    ],
)
def test_a_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_roots(text)
