"""The viewer in a real Chromium against a real web service: waitress, Postgres, blobs, the searcher.

The studies are a small synthetic hospital; their vectors are drawn by seed, so that nothing waits for the network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pydicom
import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect
from psycopg.conninfo import make_conninfo

from radir_pacs import anatomy
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.reports import PARSER, findings_to_json, mine
from radir_pacs.types import Encoding, ImageKind, SliceStack
from tests.catalogue_material import serve_model
from tests.conftest import free_port
from tests.hospital_material import hospital_of
from tests.integration.conftest import Web, running
from tests.services import ROOT

PICTURES = ROOT / "build" / "viewer"  # screenshots, to be looked at
OHIF = ROOT / ".cache" / "ohif"
MODEL, DIM = {ImageKind.CXR: "cxr-viewer-test", ImageKind.CT: "ct-viewer-test"}, 16
THIN = "costophrenic_angles"
HOSTILE_NAME = "<img src=x onerror=alert(1)>^\u202eNoelle"
HOSTILE_DESCRIPTION = "<img src=x onerror=alert(6)> \u202ethgir"
HOSTILE_REPORT = (
    "FINDINGS: Consolidation in the left lower lobe <img src=x onerror=alert(2)> \u202etxet\u202c \x1b[31mred"
    " <script>alert(3)</script> ${alert(4)} javascript:alert(5)."
)
FOCUSED = """
(() => {
  let at = document.activeElement;
  while (at.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  return at.getAttribute('aria-label') ?? at.textContent;
})()
"""  # the label of what has the focus
expect.set_options(timeout=15_000)  # a loaded machine is slow, not wrong
_WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
window.alert = () => window.violations.push('alert');
"""


@dataclass(frozen=True)
class Archive:
    """A running service with studies in it."""

    web: Web
    truth: dict[str, dict[str, Any]]  # by study UID, as the phantoms tell it
    hostile: str  # the study of a patient with a hostile name and report

    def of_kind(self, kind: str) -> list[str]:
        return [uid for uid, study in self.truth.items() if study["kind"] == kind]

    @property
    def query(self) -> str:
        return self.of_kind("CXR")[0]

    def sidebar(self, study: str | None = None, **parameters: str) -> str:
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        return f"{self.web.root}/sidebar?StudyInstanceUID={study or self.query}{more}"

    def answer(self, study: str, **parameters: str) -> list[dict[str, Any]]:
        """The lines that the server streams."""
        answer = requests.get(f"{self.web.root}/api/studies/{study}/similar", params=parameters, timeout=30)
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hospital_of(tmp_path_factory, "--patients", "6", "--seed", "5", "--size", "small")[0]


@pytest.fixture(scope="session")
def archive(postgres: str, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """All studies of the hospital, indexed; one of them with a hostile name and report."""
    with serving(postgres, tmp_path_factory.mktemp("home")) as web:
        studies = json.loads((phantoms / "truth.json").read_text())["studies"]
        radiographs = [study for study in studies if study["kind"] == "CXR"]
        hostile = next(study for study in radiographs if study["patient_id"] != radiographs[0]["patient_id"])
        chosen = radiographs + [study for study in studies if study["kind"] == "CT"][:2]
        for number, study in enumerate(chosen):
            fill(web, phantoms, study, number, hostile=study is hostile)
        web.catalogue.studies.mark_indexed()
        yield Archive(web, {study["study_uid"]: study for study in chosen}, hostile["study_uid"])


@contextmanager
def serving(postgres: str, home: Path, **changes: Any) -> Iterator[Web]:
    """A web service with a database of its own."""
    name = f"radir_viewer_{free_port()}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE radir_template".encode())
    settings = Settings(
        home=home,
        database_url=make_conninfo(postgres, dbname=name),
        web_port=free_port(),
        web_threads=8,
        ohif_folder=str(OHIF),
        **changes,
    )
    with Catalogue.open(settings) as catalogue:
        for kind, model_id in MODEL.items():
            serve_model(catalogue, model_id, kind, DIM, {"name": "test"})
        with running(settings, catalogue) as web:
            yield web
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def fill(web: Web, phantoms: Path, study: dict[str, Any], number: int, *, hostile: bool = False) -> None:
    """Store, encode and report one study."""
    images = [ds for ds in map(pydicom.dcmread, (phantoms / name for name in study["files"])) if "PixelData" in ds]
    images = images[:12]
    for ds in images:
        if hostile:
            ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 192", HOSTILE_NAME
            ds.StudyDescription = ds.SeriesDescription = HOSTILE_DESCRIPTION
        ds.ManufacturerModelName = "Model A" if number % 2 else "Model B"
    web.store(*images)
    web.catalogue.studies.complete_now(study["study_uid"])
    is_ct = study["kind"] == "CT"
    slices = slices_of(images) if is_ct else None
    encode(web, images[len(images) // 2 if is_ct else 0], ImageKind(study["kind"]), number, slices)
    if hostile or number % 5 != 4:  # every fifth has no report
        report(web, study["study_uid"], HOSTILE_REPORT if hostile else _words(study))


def slices_of(images: Sequence[pydicom.Dataset]) -> SliceStack:
    """As the encoder describes them: from the feet up, here with the dome of the diaphragm a third of the way up."""
    ordered = sorted(images, key=lambda ds: float(ds.ImagePositionPatient[2]))
    step_mm = float(ordered[1].ImagePositionPatient[2] - ordered[0].ImagePositionPatient[2])
    last = len(ordered) - 1.0
    uids = tuple(ds.SOPInstanceUID for ds in ordered)
    return SliceStack(images=uids, dome=last / 3, apex=last, step_mm=step_mm)


def encode(web: Web, ds: pydicom.Dataset, kind: ImageKind, seed: int, slices: SliceStack | None = None) -> None:
    """Vectors by seed, similar enough to score from about 0.9 downwards. Few studies have one for the thin region."""
    named = (region.key for region in anatomy.trained(kind) if region.key != "chest")
    regions = ("chest", *(key for key in named if seed < 3 or key != THIN))
    common = np.random.default_rng(99).normal(size=(len(regions), DIM))
    vectors = (common + np.random.default_rng(seed).normal(scale=0.4, size=common.shape)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    encoding = Encoding(
        study_uid=ds.StudyInstanceUID,
        series_uid=ds.SeriesInstanceUID,
        sop_uid=ds.SOPInstanceUID,
        model_id=MODEL[kind],
        regions=regions,
        vectors=vectors,
        slices=slices,
    )
    _, revision = web.catalogue.studies.revision_of(ds.StudyInstanceUID)
    assert web.catalogue.encodings.save(encoding, revision)


def report(web: Web, study_uid: str, text: str) -> None:
    web.catalogue.reports.add(
        study_uid, body=text, source="test", findings=findings_to_json(mine(text).findings), parser=PARSER
    )


def _words(study: dict[str, Any]) -> str:
    said = [
        f"There is {finding['concept'].replace('_', ' ')} in the {anatomy.region(finding['region']).name}."
        for finding in study["findings"]
    ]
    return " ".join(["FINDINGS:", *said, "No pneumothorax. No consolidation in the right upper lobe."])


@pytest.fixture
def serve(archive: Archive) -> Iterator[Callable[..., Archive]]:
    """The same studies behind another service with changed settings."""
    with ExitStack() as stack:

        def start(**changes: Any) -> Archive:
            settings = replace(archive.web.settings, web_port=free_port(), **changes)
            return Archive(
                stack.enter_context(running(settings, archive.web.catalogue)), archive.truth, archive.hostile
            )

        yield start


@contextmanager
def opened(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without a past, which keeps what broke the Content-Security-Policy in ``window.violations``."""
    context = browser.new_context(viewport={"width": 420, "height": 900}, locale="en-GB", reduced_motion="reduce")
    context.set_default_timeout(15_000)
    context.add_init_script(_WATCH)
    yield context
    context.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with opened(browser) as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page; at its end nothing may have broken the Content-Security-Policy, and no script may have failed."""
    page = context.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    assert page.evaluate("window.violations ?? []") == []
    assert failures == []


def serious_issues(page: Page, where: str = "document") -> list[tuple[str, str, str]]:
    """What axe finds serious or critical in a part of the page."""
    program = ROOT / "viewer" / "node_modules" / "axe-core" / "axe.min.js"
    if not program.exists():
        pytest.skip("axe-core is not installed; run: make lint-viewer")
    page.evaluate(program.read_text())
    found = page.evaluate(f"axe.run({where}, {{ resultTypes: ['violations'] }}).then((result) => result.violations)")
    return [
        (issue["id"], issue["nodes"][0]["html"][:200], issue["nodes"][0]["failureSummary"])
        for issue in found
        if issue["impact"] in ("serious", "critical")
    ]


def picture_of(page: Page, name: str) -> None:
    """Keep a screenshot among the artefacts."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")
