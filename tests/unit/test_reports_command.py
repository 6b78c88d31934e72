"""``radir mine``: tables, folders, labels, pages; a bad row costs one row, is named, and shows in the exit code."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import pytest

from radir_pacs.cli.mine import register
from radir_pacs.errors import BadInput
from radir_pacs.reports.labels import described, label_set, label_sets
from radir_pacs.reports.tables import MAX_TEXT


def radir(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    args = parser.parse_args(["mine", *arguments])
    code: int = args.run(args, None)
    return code


def lines(path: Path) -> dict[str, list[dict[str, object]]]:
    return {row["id"]: row["findings"] for row in map(json.loads, path.read_text().splitlines())}


def test_one_report_in_the_terminal_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert radir("--text", "No effusion.\x1b[2J Small left nodule.") == 0
    shown = capsys.readouterr().out
    assert "[effusion]" in shown and "no pleural effusion; at pleura" in shown
    assert "\x1b" not in shown
    assert radir("--text", "Small left nodule.", "--json") == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["concept"], finding["laterality"], finding["span"]) == ("nodule", "left", [11, 17])


def test_a_page_escapes_the_report(tmp_path: Path) -> None:
    """Also markup that is not removed from reports."""
    hostile = "<script>x</script> <marquee onstart=alert(1)> nodule"
    assert radir("--text", hostile, "--html", str(tmp_path / "page.html")) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page and "<marquee" not in page and '<mark class="present"' in page


def test_a_table_may_be_parted_by_semicolons(tmp_path: Path) -> None:
    """As spreadsheets write them where the comma is decimal; separators inside quotes do not count."""
    source, target = tmp_path / "reports.csv", tmp_path / "found.jsonl"
    source.write_text('id;text;"height, weight, age"\n1;A nodule, left;1,80\n2;"effusion; none";2\n')
    assert radir(str(source), "--id", "id", "--text", "text", "--out", str(target)) == 0
    assert [found["concept"] for rows in lines(target).values() for found in rows][:1] == ["nodule"]
    assert list(lines(target)) == ["1", "2"]


def test_bad_rows_are_named_and_the_rest_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "reports.csv"
    source.write_bytes(
        b"\xef\xbb\xbfid,text\n"
        b'1,"two\nlines with a nodule"\n'
        b'2,"broken "quote" here\n'
        b"3,effusion\n"
        b"4,too,many\n"
        b'5,"never closed\n'
        b"6,caf\xe9 edema\n"
        b"7,\x00\x01\x02binary\n"
        b"8,\n"
        b",no id\n"
        b"9," + b"x" * (MAX_TEXT + 1) + b"\n"
        b"10,cardiomegaly\n"
    )
    out = tmp_path / "findings.jsonl"
    assert radir(str(source), "--id", "id", "--text", "text", "--out", str(out)) == 1
    found = lines(out)
    assert {key: [f["concept"] for f in findings] for key, findings in found.items()} == {
        "1": ["nodule"],
        "3": ["pleural_effusion"],
        "6": ["edema"],
        "8": [],
        "10": ["cardiomegaly"],
    }
    said = capsys.readouterr().err
    for complaint in (
        "line 4: broken quotes",
        "line 6: 3 columns where the header has 2",
        "line 7: broken quotes",
        "line 9: binary, not text",
        "line 11: no id",
        "line 12: longer than a report can be",
    ):
        assert complaint in said
    assert "caf" not in said and "never" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("missing.csv", "--id", "id", "--text", "text", "--out", "o"),
        ("reports.csv", "--id", "id", "--text", "nothing", "--out", "o"),
        ("reports.csv", "--text", "text", "--out", "o"),
        ("reports.csv", "--id", "id", "--text", "text"),
        ("reports.csv", "--id", "id", "--text", "text", "--out", "o", "--labels", "gold14"),
    ],
)
def test_wrong_orders_are_refused_and_write_nothing(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reports.csv").write_text("id,text\n1,nodule\n")
    with pytest.raises(BadInput):
        radir(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reports.csv"]


@pytest.mark.parametrize("name", ["gold14", "findings95", "ct18"])
def test_label_tables_have_the_collections_columns(name: str, tmp_path: Path) -> None:
    source, out = tmp_path / "reports.csv", tmp_path / "labels.csv"
    source.write_text("key,findings,impression\na,Mild cardiomegaly.,\nb,The lungs are clear.,Normal chest.\n")
    order = ["--id", "key", "--text", "findings,impression", "--labels", name, "--labels-out", str(out)]
    assert radir(str(source), *order) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = label_set(name)
    assert list(rows[0]) == [labels.id_column, *labels.rules]
    heart = next(label for label in labels.rules if label.lower().startswith("cardiomegaly"))
    assert [(row[labels.id_column], row[heart]) for row in rows] == [("a", "1"), ("b", "0")]
    if name == "gold14":
        assert [row["normal"] for row in rows] == ["0", "1"]


def test_a_report_without_text_has_unknown_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "reports.csv", tmp_path / "labels.csv"
    silent = "Technically limited study. Please correlate."
    source.write_text(f'key,text\na,""\nb,"FINDINGS:\nIMPRESSION: "\nc,{silent}\nd,The lungs are clear.\ne,Mass.\n')
    order = ["--id", "key", "--text", "text", "--labels", "gold14", "--labels-out", str(out)]
    assert radir(str(source), *order, "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["blank_reports"] == 2
    assert "warning: reports without text: 2 of 5; label cells stay blank" in said.err
    with out.open(newline="") as file:
        rows = {row.pop("filename"): row for row in csv.DictReader(file)}
    assert set(rows["a"].values()) == set(rows["b"].values()) == {""}
    assert {key: rows[key]["normal"] for key in "cde"} == {"c": "0", "d": "1", "e": "0"}
    assert radir("--text", " ", "--labels", "gold14", "--labels-out", str(out)) == 0
    assert out.read_text().splitlines()[1] == "1" + "," * len(rows["a"])
    assert "the report is empty" in capsys.readouterr().err


def test_a_folder_of_texts(tmp_path: Path) -> None:
    (tmp_path / "in" / "p10").mkdir(parents=True)
    (tmp_path / "in" / "p10" / "s1.txt").write_text("FINDINGS:\nModerate right pneumothorax.\n")
    assert radir(str(tmp_path / "in"), "--out", str(tmp_path / "f.jsonl")) == 0
    assert [f["concept"] for f in lines(tmp_path / "f.jsonl")["p10/s1"]] == ["pneumothorax"]


def test_a_page_is_written_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    (tmp_path / "one.txt").write_bytes("L\u00e9sion: no nodule".encode("cp1252"))
    assert radir(str(tmp_path / "one.txt"), "--html", str(page)) == 0
    assert "no nodule" in page.read_text()
    page.unlink()
    (tmp_path / "many.csv").write_text("id,text\n1,nodule\n")
    with pytest.raises(BadInput, match="one report"):
        radir(
            str(tmp_path / "many.csv"),
            "--id",
            "id",
            "--text",
            "text",
            "--out",
            str(tmp_path / "o"),
            "--html",
            str(page),
        )
    with pytest.raises(BadInput, match="one report"):
        radir(str(tmp_path), "--out", str(tmp_path / "o"), "--html", str(page))
    with pytest.raises(BadInput, match="cannot read"):
        radir(str(tmp_path / "none.txt"), "--html", str(page))
    assert not page.exists() and not (tmp_path / "o").exists()


def test_a_language_that_is_not_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert radir("--text", "Geen pneumothorax.", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"language": "nl", "findings": []} and "its language is 'nl'" in said.err
    assert radir("--text", "Pas de pneumothorax.") == 0
    assert "not read: its language is 'fr'" in capsys.readouterr().out
    source, out, labels = tmp_path / "r.csv", tmp_path / "f.jsonl", tmp_path / "l.csv"
    source.write_text("id,text\n1,No effusion.\n2,Pas d'épanchement.\n3,Geen pneumothorax.\n4,Pas de nodule.\n")
    order = ["--id", "id", "--text", "text", "--out", str(out), "--labels", "gold14", "--labels-out", str(labels)]
    assert radir(str(source), *order, "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["unread_reports"] == {"fr": 2, "nl": 1}
    assert "reports not read because of their language: 2 in 'fr', 1 in 'nl'" in said.err
    assert [json.loads(line)["language"] for line in out.read_text().splitlines()] == ["en", "fr", "nl", "fr"]
    assert [set(line.split(",")[1:]) == {""} for line in labels.read_text().splitlines()[1:]] == [
        False,
        True,
        True,
        True,
    ]


def test_the_help_says_what_the_label_sets_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        radir("--help")
    said = capsys.readouterr().out
    for name in label_sets():
        assert f"{name} " in said and described(name) in said
