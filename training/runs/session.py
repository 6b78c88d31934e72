"""One training from start to finish: load the studies, train, measure on held-out patients, show the result."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from radir_pacs.cli.output import progress
from radir_pacs.encode import Bundle, NetworkConfig
from radir_pacs.encode.card import saw_synthetic_only
from radir_pacs.encode.config import ProgramConfig
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.program import ProgramStem
from radir_pacs.errors import BadInput
from radir_pacs.printable import counted
from radir_pacs.types import ImageKind

from ..data.folder_set import folder_set
from ..data.people import KNOWN_PATIENTS, KnownPatients
from ..data.phantom_set import phantom_set
from ..data.program_features import feature_bytes, missing_features, with_features
from ..data.studies import LOCAL, SYNTHETIC, StudySet, check_usable
from ..evaluation.regions import LEAST_QUERIES
from ..learning.batch_sharding import Ranks
from ..learning.checkpoints import Checkpoints
from ..learning.curves import Curves
from ..learning.memory import GB, check_memory, share_of_free
from ..learning.recipe import Recipe
from ..learning.train import CPU, Step, Training, measured, train
from .held_out import MOST, HeldOut, split

PROGRAM = "program"  # of what a manifest says of its training
StartBar = Callable[[str, float], Callable[[float, str], None]]


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What to train, and on what: a hospital's ``folder`` of images and reports, or a number of synthetic
    ``patients``."""

    kind: ImageKind
    config: NetworkConfig
    recipe: Recipe
    folder: Path | None
    images: Path | None
    patients: int
    cache: Path
    jobs: int
    start: Bundle | None
    text_model: Path | None
    device: torch.device
    checkpoints: Checkpoints
    curves: Path
    program: bytes = b""  # in place of the stem of the configuration
    program_told: Mapping[str, Any] = field(default_factory=dict)  # what the card says of it


def trained_bundle(request: TrainingRequest, ranks: Ranks) -> Bundle:
    """A trained network, measured on the patients that ``split`` holds out; not yet saved.

    Raises BadInput, OSError.
    """
    console = Console(stderr=True, quiet=not ranks.first)
    with _progress(console) as start_bar:
        if not ranks.first:
            ranks.wait()  # the first process fills the cache
        data = _studies(request, start_bar, console)
        check_usable(data)
        training, pictures = split(data, request.recipe.seed)
        names = training.names
        del data  # 12,000 CT take 4.7 GB, and both parts are copies
        training, apart = _as_features(request, (training, pictures), ranks, start_bar)
        if ranks.first:
            ranks.wait()
        conditional, seed = request.recipe.conditional, request.recipe.seed
        held_out = HeldOut(apart, conditional=conditional, seed=seed, pictures=pictures)
        advance = start_bar("training", 1.0)
        curves: list[Curves] = []

        def begin(training: Training) -> None:
            needed, warning = check_memory(training)
            console.print(f"memory: {needed}" + (f"; {warning}" if warning else ""), highlight=False, soft_wrap=True)
            if training.number:
                console.print(
                    f"resumes after step {training.number} of {training.steps}",
                    highlight=False,
                    soft_wrap=True,
                )
            if ranks.first:
                curves.append(Curves(request.curves, request.checkpoints.notes, training.steps, training.number))

        def tell(step: Step) -> None:
            losses = ", ".join(f"{name} {loss:.3f}" for name, loss in step.losses.items())
            advance(step.done, f"epoch {step.epoch + 1}: {losses}")
            for curve in curves:
                curve.add_step(step)

        def look(epoch: int, bundle: Bundle) -> None:
            found = held_out.recall(bundle)
            if found["recall"] is not None:
                console.print(
                    f"epoch {epoch + 1}: held-out recall at 5 {found['recall']:.3f}, random {found['random']:.3f}"
                    + (", COLLAPSED" if found["collapsed"] else ""),
                    highlight=False,
                    soft_wrap=True,
                )
            curves[0].add_recall(epoch, found)
            curves[0].write()

        bundle = train(
            request.config,
            training,
            request.recipe,
            start=request.start,
            text_model=request.text_model,
            device=request.device,
            ranks=ranks,
            checkpoints=request.checkpoints,
            program=request.program,
            begin=begin,
            tell=tell,
            look=look if ranks.first else None,
        )
        advance(1.0, "")
    for curve in curves:
        curve.write()
        curve.close()
    return measured(bundle, held_out.metrics(bundle) if ranks.first else {}, _provenance(request, names))


def _studies(request: TrainingRequest, start_bar: StartBar, console: Console) -> StudySet:
    if request.folder is None:
        advance = start_bar("drawing patients", request.patients)
        data = phantom_set(
            request.config,
            request.kind,
            patients=request.patients,
            seed=request.recipe.seed,
            cache=request.cache,
            processes=request.jobs,
            progress=lambda done: advance(done, ""),
        )
        advance(request.patients, "")
        return data
    moves: list[Callable[[float, str], None]] = []
    return folder_set(
        request.config,
        request.kind,
        request.folder,
        cache=request.cache,
        images=request.images,
        processes=request.jobs,
        total=lambda studies: moves.append(start_bar("reading studies", studies)),
        progress=lambda done: moves[-1](done, ""),
        tell=lambda line: console.print(line, highlight=False, soft_wrap=True),
    )


def _as_features(
    request: TrainingRequest, parts: tuple[StudySet, StudySet], ranks: Ranks, start_bar: StartBar
) -> tuple[StudySet, StudySet]:
    """(training, held-out) as features of the program that the network reads, or as they are. Raises BadInput."""
    began = None if request.start is None else request.start.network
    stem = began.program if isinstance(began, RadirNetwork) else None
    own = request.config.stems[request.kind]
    if stem is None and isinstance(own, ProgramConfig):
        stem = ProgramStem(own, request.config.width, request.program)
    if stem is None:
        return parts
    training, apart = parts
    images, each = len(training) + len(apart), feature_bytes(stem.config)
    held, free = images * each, share_of_free(CPU, ranks, after_first=True)
    written = each * sum(missing_features(part, stem.config, request.cache) for part in parts)
    left = shutil.disk_usage(request.cache).free
    if held > free or written > left:
        raise BadInput(
            f"the features of {images} images take {held / GB:.2f} GB of memory, and {written / GB:.2f} GB more of "
            f"disk, where {free / GB:.2f} and {left / GB:.2f} GB are free: export the program with fewer places (a "
            "mean over neighbours at its end)"
        )
    advance = start_bar("features of the backbone", images)
    found = with_features(training, stem, request.cache, lambda done: advance(done, ""))
    return found, with_features(apart, stem, request.cache, lambda done: advance(len(training) + done, ""))


def _provenance(request: TrainingRequest, names: Sequence[str]) -> dict[str, Any]:
    """What the model card says of the data. ``source``, ``drawn`` and ``known_patients`` (of this training and of those
    it continues) are for programs, ``data`` is for people; a folder's name could be a hospital's, so it is not written
    down."""
    went_on: dict[str, Any] = {}
    known: list[Any] = []
    told = dict(request.program_told)
    if request.start is not None:
        went_on["began_with"] = request.start.model_id
        earlier_told = request.start.training.get(PROGRAM)
        told = dict(earlier_told) if isinstance(earlier_told, Mapping) else told
        earlier = request.start.training.get(KNOWN_PATIENTS)
        known += earlier if isinstance(earlier, list) else []
    if names:
        known.append(KnownPatients.of(names).as_json())
    if known:
        went_on[KNOWN_PATIENTS] = known
    licence = ""
    if told:
        went_on[PROGRAM] = told
        licence = f"; the program that it reads has a licence of its own: {told.get('licence', 'not stated')}"
    if request.folder is None:
        return {
            "source": SYNTHETIC,
            "synthetic_only": request.start is None or saw_synthetic_only(request.start.training),
            "drawn": request.patients,
            "data": f"synthetic patients (radir phantom), {request.patients} of seed {request.recipe.seed},"
            f" a fifth, at most {MOST}, held out",
            "licence": "Apache-2.0; no image or report of a real person" + licence,
            "intended_use": "trying the software; not fit for clinical use",
            **went_on,
        }
    return {
        "source": LOCAL,
        "data": f"a local folder of images and reports, a fifth of its patients, at most {MOST}, held out",
        "licence": "that of the local data; to be stated before the bundle is given away" + licence,
        "intended_use": "finding similar cases where it was trained; not fit for diagnosis",
        **went_on,
    }


@contextmanager
def _progress(console: Console) -> Iterator[StartBar]:
    """Yields a function that opens a progress bar and returns the function that moves it."""
    with progress(console=console) as shown:

        def start_bar(title: str, total: float) -> Callable[[float, str], None]:
            task = shown.add_task(title, total=total, note="")
            return lambda done, note: shown.update(task, completed=done, note=note)

        yield start_bar


def show(bundle: Bundle, out: Path, curves: Path) -> None:
    """Print the table of regions and where everything was written."""
    found = bundle.metrics["recall_at_5_abnormal"]
    console = Console()
    if found["recall"] is None:
        console.print(
            f"too few abnormal held-out patients to measure anything: a region needs {LEAST_QUERIES} of them, and "
            f"{counted(bundle.metrics['measured_on']['patients'], 'patient was', 'patients were')} held out"
        )
    else:
        table = Table("region", "queries", "R@5", "random", title="held-out patients, queries with an abnormal region")
        for key, entry in found["regions"].items():
            table.add_row(key, str(entry["queries"]), f"{entry['recall']:.2f}", f"{entry['random']:.2f}")
        low, high = found["interval_95"]
        table.add_section()
        last = "mean" if len(found["regions"]) > 1 else "its 95 % interval (one region: no mean)"
        table.add_row(last, "", f"{found['recall']:.3f} [{low:.3f}, {high:.3f}]", f"{found['random']:.3f}")
        console.print(table)
    if found["collapsed"]:
        console.print("COLLAPSED: this model does not distinguish studies; do not serve it", style="bold red")
    console.print(f"{bundle.model_id} written to {out}, curves to {curves}", soft_wrap=True)
