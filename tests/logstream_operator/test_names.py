"""names: what identifies objects, in bounds and stable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logstream_operator import names
from logstream_operator.names import Key, child_name, key_of, labels, selector, selector_text, source_name

from .examples import label_names


@given(label_names, st.uuids().map(str))
def test_names_and_label_values_have_at_most_63_characters(name: str, uid: str) -> None:
    assert len(child_name(name)) <= 63
    assert len(source_name(uid, "/a" * 500, "kubernetes.io/hostname=" + "x" * 63)) <= 63
    assert all(len(value) <= 63 for value in labels(Key("n" * 63, name), uid).values())


def test_a_selector_never_changes() -> None:
    """A Deployment's selector cannot be changed: other words here would break every LogStream that exists."""
    assert selector("app") == {"app.kubernetes.io/name": "logstream", "app.kubernetes.io/instance": "app"}
    assert selector_text("app") == "app.kubernetes.io/name=logstream,app.kubernetes.io/instance=app"


def test_names_of_objects_never_change() -> None:
    assert child_name("app") == "app-logstream"
    assert source_name("u", "/minikube-host") == "logstream-source-1c53b3fed76c857e01ac"


def test_another_source_or_owner_has_another_name() -> None:
    assert (
        len({source_name("u", "/a"), source_name("v", "/a"), source_name("u", "/b"), source_name("u", "/a", "n")}) == 4
    )
    assert source_name("u", "/a") == source_name("u", "/a")


def test_a_key_is_found_in_the_labels_of_every_object() -> None:
    assert key_of(labels(Key("team", "app"), "u")) == Key("team", "app")
    assert key_of({"app": "other"}) is None
    assert str(Key("team", "app")) == "team/app"


def test_paths_are_those_of_the_api_server() -> None:
    assert names.POD.path("team", "a") == "/api/v1/namespaces/team/pods/a"
    assert names.LOGSTREAM.path(None) == "/apis/logstream.dev/v1alpha1/logstreams"
    assert names.LOGSTREAM.path("t", "a", "status") == "/apis/logstream.dev/v1alpha1/namespaces/t/logstreams/a/status"
    assert names.VOLUME.path("ignored", "v") == "/api/v1/persistentvolumes/v"
