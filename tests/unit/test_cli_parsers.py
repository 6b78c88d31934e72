"""What every command's parser does alike: flags are written out, times have a form, settings have help of their own."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, date, datetime

import pytest

from radir_pacs.cli import main, parser
from radir_pacs.config import Settings


def every(one: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield one
    for action in one._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from every(sub)


def test_no_parser_takes_a_flag_that_is_cut_short() -> None:
    """``--rules FILE`` was the setting ``--rules-file`` where the command has no ``--rules`` of its own."""
    found = list(every(parser()))
    assert len(found) > 80
    assert [one.prog for one in found if one.allow_abbrev] == []
    args = parser("retention").parse_args(["retention", "explain", "1.2.3", "--rules", "other.toml"])
    assert (args.rules, args.setting_rules_file) == ("other.toml", None)


def test_the_settings_have_help_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help-settings"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert all("--" + f.name.replace("_", "-") in said for f in fields(Settings))
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0 and "--help-settings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("audit", "--since", "2026-13-01"), "not a time: 2026-13-01 (for example 2026-03-01T08:00)"),
        (("similar", "1.2", "--since", "1.3.26"), "not a day: 1.3.26 (for example 2026-03-01)"),
        (("tokens", "create", "a", "--role", "service", "--until", "2026-02-30"), "not a day: 2026-02-30"),
        (("users", "set", "a", "--role", "researcher", "--since", "now"), "not a day: now"),
        (("export", "training", "out", "--since", "2026-13-01"), "not a day: 2026-13-01"),
        (("audit", "verify", "--expect", "deadbeef"), "not a digest (64 hex digits): deadbeef"),
        (("audit", "verify", "--expect", "g" * 64), "not a digest (64 hex digits)"),
    ],
)
def test_what_has_another_form_is_said_in_words(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert told in said and "fromisoformat" not in said


def test_times_days_and_digests_are_taken() -> None:
    args = parser("audit").parse_args(["audit", "--since", "2026-03-01T08:00+00:00", "--expect", f" {'AB' * 32}"])
    assert args.since == datetime(2026, 3, 1, 8, tzinfo=UTC) and args.expect == "ab" * 32
    assert parser("similar").parse_args(["similar", "1.2", "--since", "2026-03-01"]).since == date(2026, 3, 1)
