"""settings: flags beat variables, which beat defaults; all problems at once."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from logstream_operator.errors import SettingsError
from logstream_operator.roots import Root
from logstream_operator.settings import Settings, flag_of, options_of, render_help, variable_of
from logstream_operator.workload import Access

IMAGE = {"LOGSTREAM_OPERATOR_SERVER_IMAGE": "server:1"}


def read(*argv: str, **environ: str) -> Settings:
    given = {f"LOGSTREAM_OPERATOR_{name}": value for name, value in environ.items()}
    return Settings.from_env({**IMAGE, **given}, argv)


def problems(*argv: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(IMAGE if environ is None else environ, argv)
    return str(caught.value).splitlines()


def test_defaults() -> None:
    assert read() == Settings(server_image="server:1")
    assert read().allowed_roots == (Root("/minikube-host"),)


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("SERVER_PULL_POLICY", "Never", "server_pull_policy", "Never"),
        ("SERVER_PULL_SECRETS", "a, b", "server_pull_secrets", ("a", "b")),
        ("SERVER_RESOURCES", '{"limits": {"cpu": 1}}', "server_resources", {"limits": {"cpu": 1}}),
        (
            "SERVER_NETWORK_POLICY",
            '{"metricsFrom": [{"podSelector": {}}]}',
            "server_network_policy",
            Access(({"podSelector": {}},)),
        ),
        ("ALLOWED_ROOTS", "[]", "allowed_roots", ()),
        ("REQUIRE_AUTH", "yes", "require_auth", True),
        ("NAMESPACES", "team,ops", "namespaces", ("team", "ops")),
        ("RESYNC_INTERVAL", "5s", "resync_interval_s", 5.0),
        ("WORKERS", "9", "workers", 9),
        ("PORT", "0", "port", 0),
        ("LOG_FORMAT", "json", "log_format", "json"),
        ("LOG_LEVEL", "debug", "log_level", "debug"),
    ],
)
def test_variables_and_flags(variable: str, text: str, field: str, value: Any) -> None:
    flag = "--" + variable.lower().replace("_", "-")
    assert getattr(read(**{variable: text}), field) == value
    assert getattr(read(flag, text), field) == value
    assert getattr(read(f"{flag}={text}"), field) == value


def test_a_flag_beats_a_variable_and_an_empty_variable_is_none() -> None:
    assert read("--port", "9", PORT="8").port == 9
    assert read(PORT="").port == Settings().port


def test_all_problems_come_at_once() -> None:
    found = problems(
        "--workers",
        "0",
        "--prot",
        "1",
        environ={"LOGSTREAM_OPERATOR_LOG_LEVEL": "loud", "LOGSTREAM_OPERATOR_PORT": "x"},
    )
    text = "\n".join(found)
    for words in ("--workers '0': must be a whole number from 1 to 64", "did you mean --port?", "LOG_LEVEL 'loud'"):
        assert words in text
    assert "LOGSTREAM_OPERATOR_PORT 'x'" in text
    assert "SERVER_IMAGE: must be set" in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--port"], "needs a value"),
        (["--server-image", " "], "must be an image"),
        (["--namespaces", "A_b"], "must be names"),
        (["--require-auth", "perhaps"], "must be yes or no"),
        (["--resync-interval", "0"], "must be a time"),
        (["--resync-interval", "soon"], "must be a time"),
        (["--server-resources", "[]"], "must be JSON"),
        (["--server-resources", '{"requests": 1}'], "must be JSON"),
        (["--server-network-policy", '{"from": []}'], "must be JSON with lists"),
        (["--server-network-policy", '{"metricsFrom": ["all"]}'], "must be JSON with lists"),
        (["--server-network-policy", '{"metricFrom": [{}]}'], "must be JSON with lists"),
        (["--allowed-roots", '[{"path": "/etc"}]'], "'/etc' cannot be allowed"),
    ],
)
def test_a_value_that_cannot_be(argv: list[str], words: str) -> None:
    (only,) = problems(*argv)
    assert words in only


def test_the_help_page_names_everything() -> None:
    page = render_help()
    for field in fields(Settings):
        assert flag_of(field.name) in page
        assert variable_of(field.name) in page


@pytest.mark.parametrize("name", [name for name, (_, default) in options_of().items() if default])
def test_a_default_is_shown_as_it_can_be_given(name: str) -> None:
    declared, default = options_of()[name]
    assert declared.read(default) == getattr(Settings(), name)
    assert f"default {default}]" in render_help()


def test_what_goes_on_from_here() -> None:
    settings = read("--require-auth", "yes", "--server-pull-policy", "Always")
    assert settings.defaults.image == "server:1"
    assert settings.defaults.pull_policy == "Always"
    assert settings.rules.require_auth
