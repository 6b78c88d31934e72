"""Settings: where values come from, and what stops the start."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from pathlib import Path

import pytest

from radir_pacs import config
from radir_pacs.config import Settings, load, to_environment
from radir_pacs.errors import SettingError


def args(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    return parser.parse_args(arguments)


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "radir.toml"
    file.write_text('web_port = 1001\nlistener_port = 1002\nae_title = "FILE"\n')
    environ = {"RADIR_HOME": str(tmp_path), "RADIR_WEB_PORT": "2001", "RADIR_LISTENER_PORT": "2002"}
    found = load(args("--web-port", "3001"), environ)
    assert (found.web_port, found.listener_port, found.ae_title, found.web_host) == (3001, 2002, "FILE", "127.0.0.1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("web_port", "eighty"),
        ("web_port", "70000"),
        ("web_port", "0"),
        ("quiet_period_s", "nan"),
        ("quiet_period_s", "-1"),
        ("quiet_period_s", "1e300"),
        ("listener_idle_s", "inf"),
        ("device", "tpu"),
        ("check_called_ae", "perhaps"),
        ("ae_title", "A TITLE THAT IS TOO LONG"),
        ("ae_title", "BACK\\SLASH"),
        ("ae_title", " "),
        ("calling_ae_titles", "PACS,A TITLE THAT IS TOO LONG"),
        ("return_destination", "PACS@host:99999"),
        ("return_destination", "PACS"),
        ("web_public_url", "radir.example.org"),
        ("log_level", "loud"),
        ("cors_origins", "*"),
        ("cors_origins", "https://viewer.example/"),
        ("cors_origins", "viewer.example"),
        ("cors_origins", "https://Viewer.example"),
        ("cors_origins", "null"),
        ("trusted_proxies", "proxy.example"),
        ("trusted_proxies", "10.0.0.0/33"),
    ],
)
def test_a_wrong_value_names_itself(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name) as caught:
        load(None, {f"RADIR_{name.upper()}": value})
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="RADIR_WEBPORT"):
        load(None, {"RADIR_WEBPORT": "1"})
    (tmp_path / "radir.toml").write_text("webport = 1\n")
    with pytest.raises(SettingError, match="webport"):
        load(None, {"RADIR_HOME": str(tmp_path)})


def test_a_broken_or_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="config"):
        load(args("--config", str(tmp_path / "none.toml")), {})
    (tmp_path / "radir.toml").write_text("web_port = = 1\n")
    with pytest.raises(SettingError, match="config"):
        load(None, {"RADIR_HOME": str(tmp_path)})


def test_a_secret_is_not_repeated() -> None:
    secret = [f.name for f in fields(Settings) if f.metadata["secret"]]
    assert {"database_url", "broker_url", "api_tokens"} <= set(secret)


def test_others_reach_the_web_service_only_with_tokens() -> None:
    with pytest.raises(SettingError, match="api_tokens"):
        Settings(web_host="0.0.0.0")
    assert Settings(web_host="0.0.0.0", api_tokens=("sixteen-letters!",)).api_tokens == ("sixteen-letters!",)


def test_a_token_that_could_be_guessed_stops_the_start() -> None:
    with pytest.raises(SettingError, match="api_tokens: a token is shorter than 16 characters") as caught:
        Settings(api_tokens=("sixteen-letters!", "fifteen-letters"))
    assert "fifteen" not in str(caught.value), "the secret is not repeated"


def test_a_child_process_gets_the_same_settings(tmp_path: Path) -> None:
    one = Settings(home=tmp_path, calling_ae_titles=("A", "B"), sr_other_uids=False, quiet_period_s=1.5)
    assert load(None, to_environment(one)) == one


@pytest.mark.parametrize("token", ["", "one,two", " padded"])
def test_a_list_in_the_file_becomes_no_other_list_in_a_child(tmp_path: Path, token: str) -> None:
    """An empty token would open the web service to everybody; a comma would make two tokens of one."""
    (tmp_path / "radir.toml").write_text(f'web_host = "0.0.0.0"\napi_tokens = ["{token}"]\n')
    with pytest.raises(SettingError, match="api_tokens") as caught:
        load(None, {"RADIR_HOME": str(tmp_path)})
    assert "one" not in str(caught.value).removeprefix("api_tokens: one of"), "the secret is not repeated"


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (2, 1), (4, 2), (8, 4), (64, 4)])
def test_web_processes_follow_the_cores_unless_set(cores: int, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert Settings().web_process_count == processes
    assert Settings(web_processes=3).web_process_count == 3


def test_a_user_without_a_home_is_told_to_name_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container: an id that /etc/passwd does not know, and no HOME."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(SettingError, match=r"^home: .*--home"):
        config.load(environ={})
    assert config.load(environ={"RADIR_HOME": str(tmp_path)}).home == tmp_path


def test_an_empty_folder_is_not_the_current_one(tmp_path: Path) -> None:
    """A variable that is not set comes empty through a compose file; ``--home "$UNSET"`` is a mistake."""
    assert load(None, {"RADIR_HOME": "", "RADIR_WEB_PORT": " "}) == load(None, {})
    assert load(None, {"RADIR_SIDEBAR_SHOWS": ""}).sidebar_shows == (), "of a list, empty is a value"
    for empty in ("", " "):
        with pytest.raises(SettingError, match="home"):
            load(args("--home", empty), {})
    (tmp_path / "radir.toml").write_text('home = ""\n')
    with pytest.raises(SettingError, match="home"):
        load(args("--config", str(tmp_path / "radir.toml")), {})


def test_help_is_about_the_command_and_settings_have_help_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        args("--help")
    said = capsys.readouterr().out
    assert "--home" in said and "--help-settings" in said and "--web-port" not in said
    with pytest.raises(SystemExit) as ended:
        args("--help-settings")
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert all("--" + f.name.replace("_", "-") in said for f in fields(Settings))
    assert args("--web-port", "3001").setting_web_port == "3001"
