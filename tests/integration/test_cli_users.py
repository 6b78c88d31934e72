"""``radir users``: accounts by command, without a password on the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from radir_pacs.access import passwords, sign_in
from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BadInput, SignInFailed
from tests.accounts_material import PASSWORD


@pytest.fixture(autouse=True)
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find this installation."""
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.users.must_run", lambda settings: None)


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Standard input holds this."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode()), isatty=lambda: False))


def test_an_account_from_its_begin_to_its_end(
    catalogue: Catalogue, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["users", "list"]) == 0
    assert "there are no accounts" in capsys.readouterr().out
    typed(monkeypatch, PASSWORD + "\n")
    assert main(["users", "add", "meyer", "--role", "radiologist", "--site", "North", "--password-file", "-"]) == 0
    shown = capsys.readouterr()
    assert "may sign in" in shown.out and "needs a session or a token" in shown.err and PASSWORD not in shown.out
    assert sign_in.by_password("Meyer", PASSWORD, "10.0.0.1", catalogue, settings).name == "meyer"
    assert main(["users", "set", "meyer", "--role", "researcher", "--modality", "dx", "--json"]) == 0
    capsys.readouterr()
    assert main(["users", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["role"], row["scope"]) == ("meyer", "researcher", {"modalities": ["DX"]})
    with pytest.raises(SignInFailed):
        sign_in.by_password("meyer", "wrong", "10.0.0.1", catalogue, settings)
    assert main(["users", "show", "meyer", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["address"], one["tries"]) for one in told["failed_attempts"]] == [("10.0.0.1", 1)]
    assert main(["users", "unlock", "MEYER"]) == 0
    assert catalogue.sign_ins.attempts(sign_in.hash_of_name("meyer", settings)) == ()
    capsys.readouterr()
    assert main(["users", "password", "meyer", "--generate", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["password"]
    assert sign_in.by_password("meyer", made, "10.0.0.1", catalogue, settings).must_change
    for action in ("sign-out", "disable"):
        assert main(["users", action, "meyer"]) == 0
    with pytest.raises(SignInFailed):
        sign_in.by_password("meyer", made, "10.0.0.1", catalogue, settings)
    for action, status in (("enable", 0), ("remove", 0), ("remove", 1), ("disable", 1), ("show", 1), ("unlock", 1)):
        assert main(["users", action, "meyer"]) == status, action
    changes = [event.detail.get("change") for event in catalogue.audit.events(event=AuditEvent.ACCOUNT_CHANGED)]
    assert changes == ["enabled", "disabled", "signed_out", "password", "unlocked", "rights"]
    assert {event.role for event in catalogue.audit.events(event=AuditEvent.ACCOUNT_ADDED)} == {Role.COMMAND}


def test_an_account_is_told_in_words(
    catalogue: Catalogue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, PASSWORD + "\n")
    rights = ["--role", "radiologist", "--site", "North", "--names"]
    assert main(["users", "add", "rita", *rights, "--password-file", "-"]) == 0
    capsys.readouterr()
    assert main(["users", "show", "rita"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["name"] == "rita" and told["role"] == "radiologist" and told["sees"] == "North"
    assert told["sign-in"] == "by password" and told["last"] == "signed in     never" and told["state"] == "enabled"
    assert told["patients"] == "named" and told["sessions"] == "0"
    assert not any(sign in value for value in told.values() for sign in "{}[]") and "None" not in told.values()


def test_a_password_comes_from_a_file_or_a_terminal_never_a_flag(
    catalogue: Catalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add = ["users", "add", "meyer", "--role", "radiologist"]
    with pytest.raises(SystemExit):
        main([*add, "--password", PASSWORD])
    typed(monkeypatch, "")
    assert main(add) == 1 and "no terminal" in capsys.readouterr().err
    file = tmp_path / "password"
    for wrong in (b"", b"\xff\xfe", b"short\n", b"meyer\n", b"a" * 20, b"x" * 300):
        file.write_bytes(wrong)
        assert main([*add, "--password-file", str(file)]) == 1, wrong
    assert main([*add, "--password-file", str(tmp_path / "none")]) == 1
    file.write_text("four plain old words\r\n")
    assert main([*add, "--password-file", str(file), "--generate"]) == 1
    assert catalogue.accounts.all() == ()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    answers = iter([PASSWORD, PASSWORD + "x", PASSWORD, PASSWORD])
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    assert main(add) == 1 and main(add) == 0
    assert main([*add, "--password-file", str(file)]) == 1, "the name is taken"
    for wrong_name in ("settings", "oidc:meyer", "x" * 65, "../x", "a\nb"):
        assert main(["users", "add", wrong_name, "--role", "radiologist", "--generate"]) == 1
    assert main(["users", "set", "meyer", "--role", "administrator", "--site", "North"]) == 1
    with pytest.raises(SystemExit):
        main(["users", "add", "x", "--role", "service", "--generate"])


@pytest.mark.parametrize("text", ["é" * 3 + "abcdefghi", "ﬁne words of mine"])
def test_the_same_letters_are_the_same_password(text: str) -> None:
    """However a keyboard composes them."""
    import unicodedata

    kept = passwords.hashed(text)
    assert passwords.fits(unicodedata.normalize("NFD", text), kept)
    assert not passwords.fits(text + " ", kept) and not passwords.fits(text, None)
    assert not passwords.fits(text, "no hash") and not passwords.is_outdated(kept)


def test_made_up_passwords_pass_the_rule() -> None:
    made = {passwords.made_up() for _ in range(100)}
    assert len(made) == 100
    for password in made:
        passwords.check(password, "meyer")
    for wrong in ("reyem", "MEYER" * 1, "abababababab", "a" * 12):
        with pytest.raises(BadInput):
            passwords.check(wrong, "meyer")
