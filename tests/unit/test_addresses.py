"""A URL whose password breaks it is refused before a part of the password is shown as an address."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from radir_pacs.config import Settings, add_flags, check_user_info, load
from radir_pacs.config.parser import Parser
from radir_pacs.errors import SettingError
from radir_pacs.storage import bucket_of


@pytest.mark.parametrize(
    "url",
    ["", "redis://h", "redis://h:1/0", "redis://:p@h:1/0?a=b", "amqp://u:p%40%2F@[::1]:5672//", "redis+socket:///a/b"],
)
def test_whole_urls_pass(url: str) -> None:
    check_user_info("broker_url", url)
    assert "@" not in url.partition("@")[2]


@pytest.mark.parametrize("rest", ["u:a@b@h", "u:a@b/c@h", "u:1/b@h", "u:1?b@h", "u:1#b@h", "u:a/b", "u@h:12a"])
def test_a_password_that_breaks_it_is_refused(rest: str) -> None:
    with pytest.raises(SettingError, match=r"^broker_url: in a URL, @ / [?] and # of a password are written %40 %2F"):
        check_user_info("broker_url", f"redis://{rest}")


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("milvus_url", "https://u:12/secret@host"),
        ("s3_endpoint", "https://u:secret@host"),
        ("audit_fhir", "https://u:12/secret@host/fhir"),
        ("traces_url", "grpc://u:secret@host"),
        ("blob_store", "https://u:secret@host/bucket"),
        ("blob_store", "s3://u:secret@bucket/x"),
        ("blob_store", "s3://u:12/secret@bucket/x"),
    ],
)
def test_settings_with_a_password_are_refused_without_it(setting: str, url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(SettingError) as refused:
        bucket_of(replace(settings, **{setting: url}))  # type: ignore[arg-type]
    assert "secret" not in str(refused.value).replace("s3_secret_access_key", "").replace("its secret", "")


@pytest.mark.parametrize("url", ["postgresql://u:a/b@h/db", "postgresql://u:a@h/db", "postgresql://u:12/c@h/db"])
def test_a_password_in_a_flag_is_seen_also_where_it_breaks_the_url(url: str) -> None:
    parser = Parser()
    add_flags(parser)
    with pytest.raises(SettingError, match=r"^database_url: as a flag"):
        load(parser.parse_args(["--database-url", url]))
