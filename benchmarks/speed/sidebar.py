"""How long a reader waits for similar cases: the server's streamed answer, and the time that the panel in Chromium
adds.

    python -m benchmarks.speed.sidebar [--studies 5000] [--asked 40]

A new catalogue with that many reported radiographs (one image of 2,048 x 2,048 under many UIDs, random vectors of 512),
the real web service in its own process, one query at a time. Per query, in milliseconds:

    first case      from sending the question to the first case's line, as a program reads it
    last line       to the end of the answer, with all excerpts
    panel, first    from the answer's first byte in the browser to the first case on the screen
    panel, whole    from the answer's last byte to the whole list (the promise: less than 150)
    pictures        from the question to the last thumbnail decoded; one picture stands for all and is kept once drawn

The first question opens the partition and is not counted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import requests
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.progress import track
from rich.table import Table

from radir_pacs.catalogue import Catalogue, embedded
from radir_pacs.config import Settings, to_environment
from radir_pacs.reports import PARSER, findings_to_json, mine
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Encoding, ImageKind
from tests.catalogue_material import header, serve_model
from tests.conftest import CHROMIUM_SHELL, free_port
from tests.dicom_files import radiograph, save
from tests.services import of_system

DIM, REGIONS, MODEL = 512, ("chest", "left_lung", "left_lower_lobe", "heart"), "cxr-benchmark"
PIXELS = 2048
TEXTS = (
    "FINDINGS: Consolidation in the left lower lobe. Small left pleural effusion. No pneumothorax. Heart size normal.",
    "FINDINGS: The lungs are clear. No pleural effusion. Mild cardiomegaly. Unchanged right central line.",
    "FINDINGS: Left basilar atelectasis. No consolidation. Calcified granuloma in the right upper lobe. No effusion.",
    "FINDINGS: Moderate cardiomegaly with mild interstitial edema. Bilateral small effusions. No pneumothorax.",
)
WATCH = """
(() => {
  const panel = document.querySelector('radir-similar-cases');
  window.marks = {};
  panel.addEventListener('radir-answered', () => { window.marks.whole = performance.now(); });
  new MutationObserver(() => {
    if (panel.shadowRoot.querySelector('li.case')) window.marks.first ??= performance.now();
  }).observe(panel.shadowRoot, { childList: true, subtree: true });
})()
"""
MEASURE = """
async (query) => {
  const panel = document.querySelector('radir-similar-cases');
  const { question } = panel.panel;
  const before = performance.getEntriesByType('resource').length;
  await new Promise((resolve) => {
    panel.addEventListener('radir-answered', resolve, { once: true });
    panel.shadowRoot.querySelector('ol.cases').replaceChildren();
    window.marks = {};
    question.choose(query, null);
  });
  const pictures = [...panel.shadowRoot.querySelectorAll('li.case img')];
  await Promise.all(pictures.map((picture) => picture.decode()));
  const pictured = performance.now();
  const answer = performance.getEntriesByType('resource').findLast((entry) => entry.name.includes('/similar?'));
  return {
    first: window.marks.first - answer.responseStart,
    whole: window.marks.whole - answer.responseEnd,
    pictures: pictured - answer.startTime,
  };
}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=5000)
    parser.add_argument("--asked", type=int, default=40, help="questions measured")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="radir-", ignore_cleanup_errors=True) as folder:
        settings = Settings(home=Path(folder), web_port=free_port(), result_limit=10, log_level="WARNING")
        try:
            with Catalogue.open(settings) as catalogue:
                fill(catalogue, settings, args.studies)
            with serving(settings):
                table = Table(
                    title=f"{args.studies:,} studies, answers of 10 cases: milliseconds, median (95th percentile)"
                )
                for column in ("question", "first case", "last line", "panel, first", "panel, whole", "pictures"):
                    table.add_column(column, justify="left" if column == "question" else "right")
                served = {name: asked(settings, args, more) for name, more in QUESTIONS.items()}
                shown = drawn(settings, args)
                for name, (first, last) in served.items():
                    cells = shown if name == "region" else {}
                    drawn_cells = [spread(cells[key]) if cells else "" for key in ("first", "whole", "pictures")]
                    table.add_row(name, spread(first), spread(last), *drawn_cells)
            Console().print(table)
        finally:
            embedded.stop(settings.home)
    return 0 if np.percentile(shown["whole"], 95) < 150 else 1


QUESTIONS = {"region": {}, "region and a finding": {"finding": "consolidation"}, "50 cases": {"limit": "50"}}


def fill(catalogue: Catalogue, settings: Settings, studies: int) -> None:
    serve_model(catalogue, MODEL, ImageKind.CXR, DIM, {"name": "benchmark"})
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4096, (PIXELS, PIXELS), np.uint16).tobytes()
    image = save(radiograph(Rows=PIXELS, Columns=PIXELS, PixelData=pixels), settings.home / "image.dcm")
    sha256, size = BlobStore(settings.home / "blobs").put(image.read_bytes())
    findings = [findings_to_json(mine(text).findings) for text in TEXTS]
    common = rng.normal(size=(len(REGIONS), DIM))
    for study in track(range(1, studies + 1), "studies", console=Console(stderr=True)):
        given = header(study, rows_px=PIXELS, columns_px=PIXELS, patient_age_years=50.0, patient_sex="F")
        catalogue.instances.add(given, content_sha256=sha256, size_bytes=size, source="BENCHMARK")
        catalogue.studies.complete_now(given.study_uid)
        vectors = (common + rng.normal(size=common.shape)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        encoding = Encoding(
            study_uid=given.study_uid,
            series_uid=given.series_uid,
            sop_uid=given.sop_uid,
            model_id=MODEL,
            regions=REGIONS,
            vectors=vectors,
        )
        _, revision = catalogue.studies.revision_of(given.study_uid)
        catalogue.encodings.save(encoding, revision)
        which = study % len(TEXTS)
        catalogue.reports.add(
            given.study_uid, body=TEXTS[which], source="benchmark", findings=findings[which], parser=PARSER
        )
    catalogue.studies.mark_indexed()


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-m", "radir_pacs.web"], env=os.environ | to_environment(settings)) as web:
        try:
            while True:
                try:
                    if requests.get(f"{settings.public_url}/health/ready", timeout=5).status_code == 200:
                        break
                except requests.ConnectionError:
                    if web.poll() is not None:
                        raise SystemExit("the web service ended") from None
                    time.sleep(0.1)
            yield
        finally:
            web.terminate()


def asked(settings: Settings, args: argparse.Namespace, more: dict[str, str]) -> tuple[list[float], list[float]]:
    """First case and last line, ms per query."""
    first, last = [], []
    with requests.Session() as session:
        for number in range(args.asked + 1):
            url = f"{settings.public_url}/api/studies/2.25.{number + 1}/similar"
            began = time.perf_counter()
            with session.get(url, params={"anatomy": "left_lower_lobe"} | more, stream=True, timeout=60) as answer:
                seen = 0.0
                for line in answer.raw:
                    if not seen and line.startswith(b'{"type":"case"'):
                        seen = time.perf_counter()
            ended = time.perf_counter()
            if number:
                first.append((seen - began) * 1000)
                last.append((ended - began) * 1000)
    return first, last


def drawn(settings: Settings, args: argparse.Namespace) -> dict[str, list[float]]:
    """The panel's time, ms per query."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=of_system(CHROMIUM_SHELL) or "/usr/bin/chromium")
        page = browser.new_page(viewport={"width": 420, "height": 900})
        found: dict[str, list[float]] = {"first": [], "whole": [], "pictures": []}
        for number in range(args.asked // 2):
            measured = in_panel(page, f"{settings.public_url}/sidebar?StudyInstanceUID=2.25.{number + 100}")
            for key, values in found.items():
                values.append(measured[key])
        browser.close()
    return found


def in_panel(page: Page, url: str) -> dict[str, float]:
    page.goto(url)
    page.locator("li.case").first.wait_for()
    page.evaluate(WATCH)
    measured: dict[str, float] = page.evaluate(MEASURE, "left_lower_lobe")
    return measured


def spread(values: list[float]) -> str:
    return f"{np.median(values):.0f} ({np.percentile(values, 95):.0f})"


if __name__ == "__main__":
    sys.exit(main())
