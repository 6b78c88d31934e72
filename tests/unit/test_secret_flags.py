"""No secret is in the arguments of a process, which every user of the machine can read."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path

import pytest

from radir_pacs import config
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError

TOKEN = "a-token-of-many-characters"


def load(*arguments: str) -> Settings:
    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    return config.load(parser.parse_args(arguments), environ={"RADIR_HOME": "/nowhere"})


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--api-tokens", TOKEN),
        ("--pull-authorization", "Bearer abc"),
        ("--database-url", "postgresql://radir:geheim@db/radir"),
        ("--database-url", "host=db password=geheim"),
        ("--broker-url", "redis://:geheim@queue/0"),
    ],
)
def test_a_secret_is_refused_as_a_flag_and_not_repeated(flag: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"{flag}-file") as refused:
        load(flag, value)
    assert value not in str(refused.value) and "geheim" not in str(refused.value)


def test_a_file_holds_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert load("--api-tokens-file", str(tmp_path / "token")).api_tokens == (TOKEN,)
    with pytest.raises(SettingError, match=r"api_tokens: .* cannot be read"):
        load("--api-tokens-file", str(tmp_path / "none"))


def test_an_address_without_a_password_may_be_a_flag() -> None:
    found = load("--database-url", "postgresql://db.hospital/radir", "--broker-url", "amqp://queue.hospital//")
    assert (found.database_url, found.broker_url) == ("postgresql://db.hospital/radir", "amqp://queue.hospital//")


def test_a_variable_names_the_file_that_holds_it(tmp_path: Path) -> None:
    """As a container is given its secrets, for every command that is run in it."""
    (tmp_path / "tokens").write_text("t" * 40 + "\n")
    environ = {"RADIR_API_TOKENS_FILE": str(tmp_path / "tokens")}
    assert config.load(environ=environ).api_tokens == ("t" * 40,)
    with pytest.raises(SettingError, match=r"api_tokens: .*cannot be read"):
        config.load(environ={"RADIR_API_TOKENS_FILE": str(tmp_path / "none")})
    with pytest.raises(SettingError, match="RADIR_WEB_PORT_FILE: unknown setting"):
        config.load(environ={"RADIR_WEB_PORT_FILE": str(tmp_path / "tokens")})


SECRETS = [f.name for f in fields(Settings) if f.metadata["secret"]]


@pytest.mark.parametrize("held", [b"", b"\n", b" \r\n\t", "\ufeff\n".encode()], ids=["none", "line", "blanks", "mark"])
@pytest.mark.parametrize("name", SECRETS)
def test_an_empty_file_is_an_error_that_names_setting_and_source(name: str, held: bytes, tmp_path: Path) -> None:
    """A secret that is not rendered yet must not start another database, or leave out an authorization."""
    (tmp_path / "secret").write_bytes(held)
    (tmp_path / "radir.toml").write_text(f'{name} = "of-the-toml-file-with-many-characters"\n')
    variable, flag = f"RADIR_{name.upper()}_FILE", f"--{name.replace('_', '-')}-file"
    with pytest.raises(SettingError, match=f"{name}: .*{variable}.* is empty"):
        config.load(environ={"RADIR_HOME": str(tmp_path), variable: str(tmp_path / "secret")})
    with pytest.raises(SettingError, match=f"{name}: .*{flag}.* is empty"):
        load(flag, str(tmp_path / "secret"))


def test_a_byte_order_mark_is_no_part_of_the_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(f"\ufeff{TOKEN}\r\n".encode())
    assert config.load(environ={"RADIR_API_TOKENS_FILE": str(tmp_path / "secret")}).api_tokens == (TOKEN,)


@pytest.mark.parametrize("said", ["postgresql://radir:geheim@db/radir", "geheim" * 100, "host=db password=geheim"])
def test_a_secret_in_place_of_a_file_name_is_not_repeated(said: str) -> None:
    with pytest.raises(SettingError, match=r"database_url: .*RADIR_DATABASE_URL_FILE.* cannot be read: ") as refused:
        config.load(environ={"RADIR_DATABASE_URL_FILE": said})
    assert "geheim" not in str(refused.value)
    with pytest.raises(SettingError, match=r"database_url: .*--database-url-file.* cannot be read: ") as refused:
        load("--database-url-file", said)
    assert "geheim" not in str(refused.value)


def test_a_file_that_exists_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xff\xfe\x00")
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "latin", "not UTF-8")):
        with pytest.raises(SettingError, match=f"database_url: .*{path}.* cannot be read: {reason}"):
            config.load(environ={"RADIR_DATABASE_URL_FILE": str(path)})


@pytest.mark.parametrize("empty", ["", " \n"])
@pytest.mark.parametrize("name", SECRETS)
def test_an_empty_variable_does_not_hide_the_file(name: str, empty: str, tmp_path: Path) -> None:
    """Compose files pass on every variable of theirs, empty where it is not set."""
    (tmp_path / "secret").write_text(TOKEN)
    environ = {f"RADIR_{name.upper()}": empty, f"RADIR_{name.upper()}_FILE": str(tmp_path / "secret")}
    assert getattr(config.load(environ=environ), name) in (TOKEN, (TOKEN,))


def test_a_file_of_tokens_may_have_one_on_each_line(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"{TOKEN}\r\n{TOKEN[::-1]}\n")
    loaded = config.load(environ={"RADIR_API_TOKENS_FILE": str(tmp_path / "tokens")})
    assert loaded.api_tokens == (TOKEN, TOKEN[::-1])


@pytest.mark.parametrize("name", SECRETS)
def test_two_sources_of_one_secret_are_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(TOKEN)
    variable = f"RADIR_{name.upper()}"
    with pytest.raises(SettingError, match=f"{name}: both {variable} and {variable}_FILE") as refused:
        config.load(environ={variable: "geheim" * 10, f"{variable}_FILE": str(tmp_path / "secret")})
    assert "geheim" not in str(refused.value)
    assert getattr(config.load(environ={variable: "geheim" * 10, f"{variable}_FILE": " "}), name)
    with pytest.raises(SettingError, match="database_url: both --database-url and --database-url-file"):
        load("--database-url", "postgresql://db/radir", "--database-url-file", str(tmp_path / "secret"))


def test_a_process_that_we_start_has_our_settings_whatever_files_its_environment_names(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(TOKEN)
    ours = {"RADIR_HOME": str(tmp_path), "RADIR_API_TOKENS_FILE": str(tmp_path / "secret")}
    settings = config.load(environ=ours)
    assert config.load(environ=ours | config.to_environment(settings)) == settings
    without = replace(settings, api_tokens=())
    assert config.load(environ=ours | config.to_environment(without)) == without
