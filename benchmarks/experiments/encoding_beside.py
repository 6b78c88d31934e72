"""What a client notices of an archive that is encoded for another model beside it, with and without a low priority.

    python -m benchmarks.experiments.encoding_beside --work DIR [--studies 800] [--seconds 15] [--rounds 2]

On the real processes (`radir up`), with image tokens that are noise: their cost is that of any others. Each round has
the client alone, with the archive encoded as it is in use, and with the same threads at the usual priority, which takes
CAP_SYS_NICE. Ratios of one run compare on any machine; milliseconds do not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.experiments.retraining import REGIONS, Asked, client, wait
from benchmarks.speed import stack
from radir_pacs.catalogue import Catalogue, start_embedded, stop_embedded
from radir_pacs.config import Settings
from radir_pacs.encode import Bundle, Encoder, default_bundles
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.tokens import encoder_id
from radir_pacs.low_priority import NICE
from radir_pacs.models import Registry
from radir_pacs.types import ImageKind, ImageTokens, KeptTokens
from tests.catalogue_material import add, header

ALONE, BESIDE, USUAL = "alone", "beside it, at a low priority", "beside it, at the usual priority"


def fill(catalogue: Catalogue, starter: Bundle, studies: int) -> list[str]:
    """Studies with tokens and with the encodings that the starter makes of them."""
    encoder, name = Encoder(starter, "cpu", 2), encoder_id(starter)
    assert name is not None
    assert isinstance(starter.network, RadirNetwork), "only our own networks keep tokens"
    blank, view = torch.zeros(1, 1, *starter.preprocessing.shape), torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        shape = starter.network.kept_tokens(blank, view, ImageKind.CXR).shape[1:]
    uids: list[str] = []
    rng = np.random.default_rng(1)
    for number in range(1, studies + 1):
        given = header(number)
        add(catalogue, given)
        catalogue.studies.complete_now(given.study_uid)
        values = rng.normal(size=tuple(shape)).astype(np.float16)
        kept = KeptTokens(
            study_uid=given.study_uid,
            series_uid=given.series_uid,
            sop_uid=given.sop_uid,
            revision=catalogue.studies.revision_of(given.study_uid)[1],
            tokens=ImageTokens(encoder=name, kind=ImageKind.CXR, lateral=False, values=values),
        )
        catalogue.image_tokens.keep([kept])
        [found] = encoder.encode_batch([kept])
        if isinstance(found, Exception):
            raise found
        catalogue.encodings.save(found, kept.revision)
        uids.append(given.study_uid)
    with psycopg.connect(catalogue.conninfo) as connection:  # there are no pixels to encode
        connection.execute("DELETE FROM job")
    return uids


def challengers(starter: Bundle, folder: Path, count: int) -> Iterator[Path]:
    """Models that answer from the starter's tokens."""
    for number in range(count):
        with torch.no_grad():
            for name, weight in starter.network.named_parameters():
                if name.startswith("head."):
                    weight.mul_(1.001)
        starter.save(folder / f"challenger-{number}")
        yield folder / f"challenger-{number}"


@contextmanager
def encoding(catalogue: Catalogue, model: str) -> Iterator[None]:
    """The archive is encoded for a model in shadow while the body runs."""
    catalogue.models.set_shadow(model, by="benchmark", reason="measured")
    try:
        wait(lambda: catalogue.models.coverage(model).encoded > 0, 120)
        yield
    finally:
        catalogue.models.retire(model, by="benchmark", reason="measured")


@contextmanager
def at_usual_priority(pid: int) -> Iterator[None]:
    """The threads of a process that have a low priority have the usual one while the body runs."""
    threads = [int(one.name) for one in Path(f"/proc/{pid}/task").iterdir()]
    low = [one for one in threads if os.getpriority(os.PRIO_PROCESS, one) == NICE]
    for one in low:
        os.setpriority(os.PRIO_PROCESS, one, 0)
    try:
        yield
    finally:
        for one in low:
            os.setpriority(os.PRIO_PROCESS, one, NICE)


def measured(
    settings: Settings, catalogue: Catalogue, asked: Asked, models: list[str], seconds: float
) -> Iterator[tuple[str, dict[str, Any], int]]:
    """One round: figures of the client by condition, and how many studies were encoded meanwhile."""
    asked.forget()
    time.sleep(seconds)
    yield ALONE, asked.since(), 0
    for condition in (BESIDE, USUAL):
        model = models.pop()
        with encoding(catalogue, model), contextlib.ExitStack() as usual:
            if condition == USUAL:
                usual.enter_context(at_usual_priority(stack.pids(settings)["worker"]))
            before = catalogue.models.coverage(model).encoded
            asked.forget()
            time.sleep(seconds)
            yield condition, asked.since(), catalogue.models.coverage(model).encoded - before


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--studies", type=int, default=800)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args(arguments)
    home = args.work / "home"
    home.mkdir(parents=True)
    settings = stack.settings_in(home, log_level="WARNING", device="cpu", torch_threads=1)
    start_embedded(home)
    try:
        with Catalogue.open(settings) as catalogue:
            registry = Registry(catalogue, settings)
            registry.adopt()
            starter = Bundle.load(default_bundles()[ImageKind.CXR])
            uids = fill(catalogue, starter, args.studies)
            models = list(challengers(starter, args.work, 2 * args.rounds))
    finally:
        stop_embedded(home)
    table = Table("client", "questions", "errors", "p50 ms", "p99 ms", "studies encoded")
    with stack.radir_up(settings), Catalogue.open(settings) as catalogue:
        registry = Registry(catalogue, settings)
        names = [registry.register(one, by="benchmark", reason="measured").model_id for one in models]
        paths = [f"/api/studies/{uid}/similar?anatomy={region}" for uid in uids for region in REGIONS]
        with client(settings, paths) as asked:
            asked.settle()
            for _ in range(args.rounds):
                for condition, one, encoded in measured(settings, catalogue, asked, names, args.seconds):
                    figures = (one["questions"], one["errors"], one["p50_ms"], one["p99_ms"], encoded)
                    table.add_row(condition, *map(str, figures))
    Console(width=110).print(table)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
