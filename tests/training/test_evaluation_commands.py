"""``radir evaluate`` and ``radir compare`` on the command line: what goes in, what comes out, what is refused."""

from __future__ import annotations

import argparse
import html
import json
import re
import sys
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radir_pacs.encode import Bundle, NetworkConfig
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind
from radir_training.commands import compare as compare_command
from radir_training.commands import evaluate as evaluate_command
from radir_training.data.statements import mined
from radir_training.data.studies import SYNTHETIC, StudySet
from radir_training.datasets import sources
from radir_training.datasets.build import build
from radir_training.evaluation import evaluation_data, regions
from radir_training.evaluation.baselines import descriptor, pixels
from tests.model_material import seeded_bundle

PATIENTS = 60
REPORTS = (
    "Findings: There is a small right pleural effusion. The heart is normal in size. No pneumothorax.",
    "Findings: No pleural effusion. The heart is enlarged. The lungs are clear.",
    "Findings: No pleural effusion. The heart is normal in size. The lungs are clear.",
    "Findings: There is a right lower lobe consolidation. No pleural effusion. The heart is normal in size.",
)


def toy_set(kind: ImageKind, patients: int = PATIENTS) -> StudySet:
    """Noise, brighter by what the report says."""
    rng = np.random.default_rng(1)
    shape = seeded_bundle(kind).preprocessing.shape
    said = [int(number) for number in rng.integers(0, len(REPORTS), patients)]
    images = rng.normal(0, 1, (patients, 1, *shape))
    for image, number in zip(images, said, strict=True):
        image[0, : 8 * number] += 2
    reports = tuple(f"{REPORTS[number]} Study {i}." for i, number in enumerate(said))
    return StudySet(
        kind=kind,
        images=images.astype(np.float16),
        views=np.full(patients, 2 if kind is ImageKind.CT else 0, np.int64),
        patients=np.arange(patients, dtype=np.int64),
        reports=reports,
        said=mined(reports, kind),
        true=mined(reports, kind),
    )


@pytest.fixture(autouse=True)
def few_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hospital of noise in place of the synthetic one, whose patients take long to draw."""

    def drawn(config: NetworkConfig, kind: ImageKind, **given: object) -> StudySet:
        return toy_set(kind, int(str(given["patients"])))

    monkeypatch.setattr(evaluation_data, "phantom_set", drawn)
    monkeypatch.setattr(regions, "LEAST_QUERIES", 5)
    monkeypatch.setattr(regions, "TRIVIAL", 1.0)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for kind in ImageKind:
        seeded_bundle(kind).save(folder / kind.lower())
    return folder


def run(command: object, *words: str) -> int:
    root = argparse.ArgumentParser()
    command.register(root.add_subparsers())  # type: ignore[attr-defined]
    args = root.parse_args(list(words))
    code: int = args.run(args, None)
    return code


def test_a_comparison_counts_wins_per_opponent(bundles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (f"ours={bundles}", f"whole=global:{bundles}", "pixels", "hog", "random", "--phantoms", str(PATIENTS))
    assert run(compare_command, "compare", *words, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ours"] == "ours" and set(answer["wins"]) == {"whole", "pixels", "hog", "random"}
    assert answer["without_text_tower"] == ["pixels", "hog", "random"]
    assert set(answer["data"]) == {"CXR", "CT"} and answer["note"] == "Decision support, not diagnosis."
    wide = sum(3 * (len(kind["regions"]) + 1) + 9 for kind in answer["data"].values())
    assert answer["of"] == wide
    for judge in ("mined", "true"):
        for queries in ("abnormal", "all"):
            table = answer["judges"][judge][queries]
            assert len(table["metrics"]) == wide
            for other, tally in table["tally"].items():
                outcomes = [row["against"][other]["outcome"] for row in table["metrics"]]
                assert tally["wins"] == outcomes.count("win") and tally["losses"] == outcomes.count("loss")
                assert tally["wins"] + tally["ties"] + tally["losses"] == tally["of"] == wide
    assert answer["judges"]["mined"]["abnormal"]["tally"]["random"]["wins"] == answer["wins"]["random"]
    row = answer["judges"]["mined"]["abnormal"]["metrics"][0]
    low, high = row["models"]["pixels"]["interval_95"]
    assert low <= row["models"]["pixels"]["value"] <= high and 0 < row["random"] <= row["best"] == 1
    assert run(compare_command, "compare", *words) == 0
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert re.search(rf"against random, ours wins {answer['wins']['random']} of {wide} ", last)


def test_the_same_seed_gives_the_same_figures_and_one_kind_is_half(
    bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "compare",
        str(bundles),
        "pixels",
        "--phantoms",
        "40",
        "--kind",
        "ct",
        "--regions",
        "heart,pleura",
        "--json",
    )
    run(compare_command, *words)
    first = capsys.readouterr().out
    run(compare_command, *words)
    assert capsys.readouterr().out == first
    answer = json.loads(first)
    assert list(answer["data"]) == ["CT"] and answer["of"] == 3 * 3 + 9
    assert list(answer["data"]["CT"]["regions"]) == ["heart", "pleura"]


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)


def test_an_evaluation_is_printed_counted_and_drawn(
    bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    words = ("evaluate", str(bundles), "--phantoms", str(PATIENTS))
    assert run(evaluate_command, *words, "--json", "--html", str(page)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["on"] == "synthetic patients of seed 2" and answer["seed"] == 2
    assert date.fromisoformat(answer["date"]) <= date.today()
    text = page.read_text()
    assert "Judged on synthetic patients of seed 2" in text and answer["date"] in text
    for kind in ("CXR", "CT"):
        found = answer["kinds"][kind]
        assert found["model_id"] == Bundle.load(bundles / kind.lower()).model_id
        assert f"<code>{found['model_id']}</code>" in text
        assert found["images"] == found["patients"] == PATIENTS and found["text_tower"]
        assert found["collapsed"] == (np.mean(list(found["mean_cosine"].values())) > 0.98)
        figures = found["judges"]["mined"]["abnormal"]["image-image"]
        assert {"chest", "mean", *found["judged_regions"]} <= set(figures)
        one = figures["heart"]["recall"]["5"]
        assert set(one) == {"value", "interval_95", "random", "best", "lift", "queries"}
        assert one["lift"] == pytest.approx(one["value"] / one["random"], abs=2e-3)
        assert set(figures["chest"]["ndcg"]) == {"1", "5", "10", "20", "50", "100"}
        for direction in ("image-report", "report-image"):
            assert found["judges"]["mined"]["all"][direction]["chest"]["recall"]["100"]["value"] == 1
    parsed = Page()
    parsed.feed(text)
    assert "script" not in parsed.tags and all(address.startswith("data:image/") for address in parsed.addresses)
    assert "Decision support, not diagnosis." in text and "shared: " in text and "Drawn at random" in text
    assert run(evaluate_command, *words, "--kind", "cxr") == 0
    printed = capsys.readouterr().out
    assert "queries whose region is abnormal, judged by the reports" in printed and "mean cosine" in printed


def test_a_comparison_is_a_page_that_says_what_is_identical_and_what_is_worse_than_chance(
    bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that ranks the least alike first stands beside one under two names."""
    said = toy_set(ImageKind.CXR).reports
    number = np.array([next(i for i, text in enumerate(REPORTS) if report.startswith(text)) for report in said])
    angle = number / len(REPORTS) * 2 * np.pi + np.where(np.arange(PATIENTS) % 2, np.pi, 0)  # half of each stands apart
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1) + np.random.default_rng(0).normal(0, 1e-3, (PATIENTS, 2))
    np.savez(tmp_path / "worse.npz", image=np.float32(vectors), kind="CXR")
    page = tmp_path / "page.html"
    words = ["compare", f"<b>&={bundles}", f"again={bundles}", f"worse={tmp_path / 'worse.npz'}", "random"]
    words += ["--phantoms", str(PATIENTS), "--kind", "cxr", "--regions", "heart", "--html", str(page)]
    assert run(compare_command, *words) == 0
    printed, text = " ".join(capsys.readouterr().out.split()), page.read_text()
    for told in (printed, html.unescape(text)):
        assert "<b>& and again have identical vectors everywhere, CXR image to image" in told
        assert "CXR is compared at one region, heart: there is no mean over regions" in told
        assert "worse have" not in told and "mean of the regions" not in told and "↓: below a random order" in told
    assert "<b>" not in text and "↓" in text and "Judged on synthetic patients of seed 2" in text
    parsed = Page()
    parsed.feed(text)
    assert "script" not in parsed.tags and not parsed.addresses
    run(compare_command, *words, "--json")
    answer = json.loads(capsys.readouterr().out)
    assert answer["identical"] == [
        {
            "kind": "CXR",
            "models": ["<b>&", "again"],
            "regions": ["heart", "chest"],
            "everywhere": True,
            "vectors": True,
        }
    ]
    assert answer["of"] == 3 + 9
    marked = re.findall(r'class="below">([\d.]+) ↓</td>', text)
    rows = [row for judge in answer["judges"].values() for table in judge.values() for row in table["metrics"]]
    worse = [
        model["value"]
        for row in rows
        for model in row["models"].values()
        if model["value"] is not None and model["value"] < row["random"]
    ]
    assert len(marked) == len(worse) > 0
    assert "below" not in re.sub(r'class="below">', "", text).split("All figures")[1]


def test_one_region_has_no_mean(bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    words = ("evaluate", str(bundles), "--phantoms", str(PATIENTS), "--kind", "cxr", "--regions", "heart")
    assert run(evaluate_command, *words, "--html", str(page)) == 0
    printed, text = capsys.readouterr().out, page.read_text()
    assert "only one region can be judged, heart" in printed and "mean of the judged" not in printed
    assert "Only one region can be judged, heart" in text and "mean of the judged" not in text
    assert "Recall@5, image to image, heart" in text
    assert run(evaluate_command, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)["kinds"]["CXR"]
    assert all("mean" not in figures for figures in found["judges"]["mined"]["all"].values())


def test_patients_that_a_model_has_learned_from_are_no_exam(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learned = {"source": SYNTHETIC, "recipe": {"seed": 2}}
    Bundle(**{**vars(seeded_bundle(ImageKind.CXR)), "training": learned}).save(tmp_path / "model")
    words = ("evaluate", f"mine={tmp_path / 'model'}", "--phantoms", str(PATIENTS), "--kind", "cxr", "--json")
    assert run(evaluate_command, *words, "--seed", "2") == 0
    assert "warning: mine was trained on patients of seed 2: use another --seed" in capsys.readouterr().err
    assert run(evaluate_command, *words, "--seed", "3") == 0
    assert "warning" not in capsys.readouterr().err


def data_set(folder: Path) -> list[str]:
    data = toy_set(ImageKind.CXR)
    paths = [f"files/p10/p{10_000_000 + i // 2}/s{i}/image.jpg" for i in range(len(data))]
    cases = [
        sources.Case(path=path, patient=path.split("/")[2], split="test", text=text, kind=ImageKind.CXR)
        for path, text in zip(paths, data.reports, strict=True)
    ]
    build(cases, folder, source="test", least_images=5)
    return paths


def test_a_data_set_is_judged_by_its_matrices_with_vectors_in_any_named_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = data_set(tmp_path / "set")
    rng = np.random.default_rng(0)
    image = rng.normal(size=(len(paths), 8)).astype(np.float32)
    order = rng.permutation(len(paths))
    np.savez(tmp_path / "plain.npz", image=image, report=image)
    np.savez(tmp_path / "named.npz", image=image[order], report=image[order], paths=np.array(paths)[order])
    words = ("--data", str(tmp_path / "set"), "--kind", "cxr", "--json")
    models = [f"plain={tmp_path / 'plain.npz'}", f"named={tmp_path / 'named.npz'}", "random"]
    assert run(compare_command, "compare", *models, *words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["data"]["CXR"]["patients"] == len(paths) // 2
    assert set(answer["judges"]) == {"mined"}
    tally = answer["judges"]["mined"]["abnormal"]["tally"]["named"]
    assert tally["ties"] == tally["of"], "the same vectors in another order are the same"
    own = next(row for row in answer["judges"]["mined"]["all"]["metrics"] if row["direction"] == "image-report")
    assert own["models"]["plain"]["value"] == 1 and own["models"]["random"]["value"] < 0.2


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"report": np.ones((60, 4), np.float32)}, "no array 'image'"),
        ({"image": np.ones((59, 4), np.float32)}, "59 rows"),
        ({"image": np.zeros((60, 4), np.float32)}, "zero or not finite"),
        ({"image": np.full((60, 4), np.nan, np.float32)}, "zero or not finite"),
        ({"image": np.ones((60, 4), np.int64)}, "not a table"),
        ({"image": np.ones((60, 4), np.float32), "report": np.ones((60, 5), np.float32)}, "5 numbers"),
        (dict.fromkeys(("image", "reports:left lung"), np.ones((60, 4), np.float32)), "before the colon"),
        (
            dict.fromkeys(("image", "left_lung", "left lung"), np.ones((60, 4), np.float32)),
            "second array for left_lung",
        ),
    ],
)
def test_vectors_that_do_not_fit_are_refused(arrays: dict[str, Any], reason: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(BadInput, match=reason):
        run(compare_command, "compare", str(tmp_path / "bad.npz"), "random", "--phantoms", "60", "--kind", "cxr")


def test_vectors_of_what_is_no_region_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = np.random.default_rng(0).normal(size=(PATIENTS, 4)).astype(np.float32)
    arrays: dict[str, Any] = dict.fromkeys(("image", "left plura", "heart"), vectors)
    np.savez(tmp_path / "model.npz", kind="CXR", **arrays)
    run(evaluate_command, "evaluate", str(tmp_path / "model.npz"), "--phantoms", str(PATIENTS))
    told = capsys.readouterr().err
    assert "'left plura' is no region here" in told and "heart" not in told


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("pixels", "--phantoms", "60"), "two models or more"),
        (("pixels", "pixels", "--phantoms", "60"), "use NAME=MODEL"),
        (("pixels", "random"), "either --data DIR or --phantoms N"),
        (("pixels", "random", "--phantoms", "1"), "at least 2"),
        (("pixels", "/nowhere", "--phantoms", "60"), "no bundle"),
        (("pixels", "nowhere.npz", "--phantoms", "60"), "there is no nowhere.npz"),
        (("pixels", "random", "--phantoms", "60", "--images", "x"), "--images belongs"),
        (("pixels", "random", "--data", "/nowhere"), "there is no folder"),
    ],
)
def test_what_makes_no_comparison_is_refused(words: tuple[str, ...], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        run(compare_command, "compare", *words)


@pytest.mark.parametrize("kind", list(ImageKind))
def test_rivals_find_the_same_picture_first_and_keep_their_inner_products(kind: ImageKind) -> None:
    data = toy_set(kind, 6)
    twice = data.subset(np.array([0, 1, 2, 3, 4, 5, 0]))
    for make in (pixels, descriptor):
        vectors = make(twice).image
        cosines = vectors @ vectors.T
        np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-3)
        assert cosines[0, 1:].argmax() == 5
    flat = data.images.reshape(6, -1).astype(np.float64)
    np.testing.assert_allclose(pixels(data).image @ pixels(data).image.T, np.corrcoef(flat), atol=2e-3)


def test_a_model_that_answers_always_the_same_is_called_collapsed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image = np.ones((PATIENTS, 4), np.float32) + np.random.default_rng(0).normal(0, 0.01, (PATIENTS, 4)).astype(
        np.float32
    )
    np.savez(tmp_path / "flat.npz", image=image, kind="CXR")
    run(evaluate_command, "evaluate", str(tmp_path / "flat.npz"), "--phantoms", str(PATIENTS))
    assert "This model has collapsed" in capsys.readouterr().out


def test_bundles_are_found_one_by_one_as_a_pair_and_in_a_folder(bundles: Path, tmp_path: Path) -> None:
    from radir_training.evaluation.models import read

    pair = read(f"{bundles / 'cxr'},{bundles / 'ct'}", list(ImageKind))
    assert pair.kinds == read(str(bundles), list(ImageKind)).kinds == set(ImageKind)
    assert read(str(bundles / "ct"), list(ImageKind)).kinds == {ImageKind.CT}
    with pytest.raises(BadInput, match="two bundles"):
        read(f"{bundles / 'ct'},{bundles / 'ct'}", list(ImageKind))
    assert isinstance(pair.bundles[ImageKind.CT], Bundle)


def test_an_extra_is_asked_for_only_by_what_needs_it(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `make demo` installs compares and evaluates; the descriptor and the page say what they lack."""
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    words = ("--phantoms", str(PATIENTS), "--kind", "cxr")
    assert run(compare_command, "compare", f"ours={bundles}", "random", "pixels", *words) == 0
    with pytest.raises(BadInput, match=r"hog needs scikit-image: pip install"):
        run(compare_command, "compare", f"ours={bundles}", "hog", *words)
    monkeypatch.setattr(evaluate_command, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"--html needs matplotlib"):
        run(evaluate_command, "evaluate", str(bundles), *words, "--html", str(tmp_path / "page.html"))
    monkeypatch.undo()
    with pytest.raises(BadInput, match="there is no folder"):
        run(evaluate_command, "evaluate", str(bundles), *words, "--html", str(tmp_path / "missing" / "page.html"))
