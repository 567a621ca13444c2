"""settings: what `serve` and `tail` make of their arguments and variables, and what they refuse together."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_network

import pytest

from logstream_server.commandline.forms import NamedPath
from logstream_server.commandline.options import render_options, specs_of
from logstream_server.errors import SettingsError
from logstream_server.settings import LogFormat, LogLevel, Settings, Watch, is_loopback

LOG = NamedPath("/var/log/x.log")


def serve(*argv: str, **environ: str) -> Settings:
    return Settings.from_env(environ, argv)


def faults(*argv: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ, argv)
    return str(caught.value).split("\n")


def test_one_path_is_enough_and_the_defaults_are_those_of_the_readme() -> None:
    settings = serve("/var/log/x.log")
    assert settings == Settings(paths=(LOG,))
    assert (settings.host, settings.port, settings.metrics_port, settings.base_path) == ("127.0.0.1", 8080, None, "")
    assert (settings.watch, settings.poll_interval_s, settings.partial_after_s) == (Watch.AUTO, 0.25, 5.0)
    assert (settings.tail_lines, settings.max_line_bytes, settings.ring_bytes) == (10, 1 << 20, 4 << 20)
    assert (settings.max_clients, settings.ping_interval_s, settings.ping_timeout_s) == (10_000, 20.0, 20.0)


def test_every_option_reaches_its_field() -> None:
    settings = serve(
        *("web=/srv/a.log", "/var/log/*.log", "--root", "/srv", "--root", "/var/log", "--ignore", "*.gz"),
        *("--watch", "poll", "--poll-interval", "1s", "--partial-after", "0", "--rotate-wait", "2m", "--tail", "0"),
        *("--host", "0.0.0.0", "--port", "0", "--metrics-port", "9100", "--base-path", "/team/app/"),
        *("--tls-cert", "/c", "--tls-key", "/k"),
        *("--token-file", "/t", "--allowed-origin", "https://H", "--insecure-open", "--max-line-bytes", "64KiB"),
        *("--session", "1h", "--trusted-proxy", "10.0.0.0/8", "--max-clients-per-address", "4"),
        *("--ring-bytes", "1MiB", "--max-clients", "5", "--max-handshakes", "6", "--ping-interval", "7"),
        *("--ping-timeout", "8", "--drain", "9", "--log-format", "json", "--log-level", "debug"),
    )
    expected = Settings(
        paths=(NamedPath("/srv/a.log", "web"), NamedPath("/var/log/*.log")),
        roots=("/srv", "/var/log"),
        ignore=("*.gz",),
        watch=Watch.POLL,
        poll_interval_s=1.0,
        partial_after_s=0.0,
        rotate_wait_s=120.0,
        tail_lines=0,
        host="0.0.0.0",
        port=0,
        metrics_port=9100,
        base_path="/team/app",
        tls_cert="/c",
        tls_key="/k",
        token_files=("/t",),
        allowed_origins=("https://h",),
        insecure_open=True,
        session_s=3600.0,
        trusted_proxies=(ip_network("10.0.0.0/8"),),
        max_clients_per_address=4,
        max_line_bytes=64 << 10,
        ring_bytes=1 << 20,
        max_clients=5,
        max_handshakes=6,
        ping_interval_s=7.0,
        ping_timeout_s=8.0,
        drain_s=9.0,
        log_format=LogFormat.JSON,
        log_level=LogLevel.DEBUG,
    )
    assert settings == expected
    untouched = [each.name for each in dataclasses.fields(settings) if getattr(settings, each.name) == each.default]
    assert untouched == [], "this test gives every option a value of its own"


def test_every_option_can_be_given_by_its_variable() -> None:
    settings = serve(LOGSTREAM_PATHS="/a.log\nb=/b,c.log", LOGSTREAM_PORT="0", LOGSTREAM_INSECURE_OPEN="1")
    assert settings == Settings(paths=(NamedPath("/a.log"), NamedPath("/b,c.log", "b")), port=0, insecure_open=True)


def test_a_variable_is_named_like_its_flag() -> None:
    for spec in specs_of(Settings).values():
        if spec.flag:
            assert spec.variable == "LOGSTREAM_" + spec.flag[2:].replace("-", "_").upper()


def test_every_default_is_a_value_that_could_be_given() -> None:
    defaults = Settings()
    for name, spec in specs_of(Settings).items():
        default = getattr(defaults, name)
        if not spec.many and not spec.is_switch:
            assert spec.form.read(spec.form.show(default)) == default


def test_all_problems_are_reported_at_once() -> None:
    assert faults("--prot", "80", "--tail=-1", "--host=::", LOGSTREAM_WATCH="sometimes") == [
        "--prot: no such option; did you mean --port?",
        "LOGSTREAM_WATCH 'sometimes': must be one of auto, notify, poll",
        "--tail '-1': must be a whole number from 0 to 1000000",
        "--host '::': other machines can reach this: add --token-file FILE, or --insecure-open to do without a token",
    ]


def test_no_path_at_all_is_a_problem_and_a_bad_one_is_only_one() -> None:
    assert faults() == ["PATH: give at least one file, folder or glob, or set LOGSTREAM_PATHS"]
    assert len(faults("=x")) == 1
    assert len(faults(LOGSTREAM_PATHS="=x")) == 1


def test_two_paths_cannot_share_a_name() -> None:
    assert faults("a=/x", "a=/y", "/x", "/y") == ["PATH 'a': names more than one path; a stream's name must be its own"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "logs.example.com", "127.0.0.1.example.com"])
def test_other_machines_are_let_in_only_with_a_token_or_openly(host: str) -> None:
    assert len(faults("/x", f"--host={host}")) == 1
    assert serve("/x", f"--host={host}", "--insecure-open").host == host
    assert serve("/x", f"--host={host}", "--token-file=/t").host == host


def test_the_refusal_names_the_variable_that_the_address_came_from() -> None:
    assert faults("/x", LOGSTREAM_HOST="0.0.0.0")[0].startswith("LOGSTREAM_HOST '0.0.0.0': ")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LocalHost.", True),
        ("app.localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("notlocalhost", False),
    ],
)
def test_only_an_address_that_stays_on_the_machine_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_ring_must_hold_the_longest_line() -> None:
    assert faults("/x", "--ring-bytes=64KiB") == ["--ring-bytes '64KiB': must be at least --max-line-bytes, 1MiB"]
    assert serve("/x", "--ring-bytes=64KiB", "--max-line-bytes=64KiB").ring_bytes == 64 << 10


def test_metrics_cannot_share_the_port_unless_the_system_picks_both() -> None:
    assert faults("/x", "--port=9000", "--metrics-port=9000") == ["--metrics-port '9000': must differ from --port"]
    assert serve("/x", "--port=0", "--metrics-port=0").metrics_port == 0


def test_a_key_belongs_to_a_certificate() -> None:
    expected = ["--tls-key '/k': needs --tls-cert, the certificate that it belongs to"]
    assert faults("/x", "--tls-key=/k") == expected
    assert serve("/x", "--tls-cert=/c").tls_key is None


def test_the_variables_of_a_kubernetes_service_called_logstream_do_no_harm() -> None:
    environ = {
        "LOGSTREAM_PORT": "tcp://10.96.0.7:80",
        "LOGSTREAM_METRICS_PORT": "tcp://10.96.0.8:9090",  # of one called logstream-metrics
        "LOGSTREAM_PORT_80_TCP": "tcp://10.96.0.7:80",
        "LOGSTREAM_PORT_80_TCP_ADDR": "10.96.0.7",
        "LOGSTREAM_PORT_80_TCP_PORT": "80",
        "LOGSTREAM_PORT_80_TCP_PROTO": "tcp",
        "LOGSTREAM_SERVICE_HOST": "10.96.0.7",
        "LOGSTREAM_SERVICE_PORT": "80",
        "LOGSTREAM_SERVICE_PORT_HTTP": "80",
    }
    assert serve("/var/log/x.log", **environ) == Settings(paths=(LOG,))


def test_the_help_page_shows_each_flag_and_each_variable() -> None:
    page = render_options(Settings, variables=True)
    for spec in specs_of(Settings).values():
        assert f"{spec.flag} " in page
        assert spec.variable in page
    assert max(map(len, page.split("\n"))) <= 100


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]
