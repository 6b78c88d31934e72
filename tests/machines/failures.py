"""The long drill: each machine and each link fails by itself under load, vectors and models change beneath it.

It begins with vectors in pgvector, which a command moves into Milvus while the readers ask, and with a model in shadow,
which is promoted while they ask.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radir_pacs.catalogue import Catalogue
from radir_pacs.index.engine import MILVUS, PGVECTOR
from radir_pacs.types import ImageKind, ModelState
from tests.machines.checks import check
from tests.machines.drill import RECOVERY_S, Drill
from tests.machines.installation import FRONT, KEEP, WORK, Installation, three_machines
from tests.machines.network import OUTSIDE
from tests.model_material import seeded_bundle

CUT_S = 10.0  # longer than it takes to find out that the database is silent
HELD = 130  # studies before the load begins: of fewer in a region, no engine is asked for the best ten
LINKS = (
    (OUTSIDE, FRONT),
    (FRONT, WORK),
    (FRONT, KEEP),
    (WORK, KEEP),
    *((FRONT, KEEP, service) for service in ("database", "store", "vectors")),
    *((WORK, KEEP, service) for service in ("database", "broker", "store", "vectors")),
)
RATE_HZ = 0.5  # each is encoded by two models
_MOVE_S = 240.0


def long_drill(folder: Path) -> dict[str, Any]:
    """The figures of a drill in which nothing was lost and no answer was wrong. Raises AssertionError."""
    began = time.monotonic()
    with _installation(folder) as installation, _drill_of(installation, folder) as drill:
        drill.hold(HELD)
        with drill.load():
            moved = _move(drill)
            _machines_fail(drill)
            promoted = _promote(drill)
            _links_fail(drill)
        check(drill)
        figures = drill.figures()
    minutes = round((time.monotonic() - began) / 60, 1)
    return figures | {
        "held": HELD,
        "rate_hz": RATE_HZ,
        "cut_s": CUT_S,
        "move": moved,
        "promotion": promoted,
        "minutes": minutes,
    }


@contextlib.contextmanager
def _installation(folder: Path) -> Iterator[Installation]:
    first, second = (folder / name for name in ("first", "second"))
    seeded_bundle(ImageKind.CXR, 1).save(first)
    model = seeded_bundle(ImageKind.CXR, 2).save(second).model_id
    settings = {
        "job_lease_s": "5",
        "job_max_attempts": "50",
        "result_limit_max": "2000",
        "index_engine": PGVECTOR,
        "models": str(first),
        "model_coverage": "0.9",  # some studies are always on their way
    }
    with three_machines(**settings) as made:
        made.radir(WORK, "models", "register", str(second), "--reason", "a drill")
        made.radir(WORK, "models", "shadow", model, "--reason", "a drill")
        yield made


@contextlib.contextmanager
def _drill_of(installation: Installation, folder: Path) -> Iterator[Drill]:
    with Catalogue.as_it_is(installation.of_outside(folder / "outside")) as catalogue:
        yield Drill(installation, catalogue, folder, RATE_HZ, engine=PGVECTOR)


def _move(drill: Drill) -> dict[str, float]:
    """The vectors go into Milvus; from then on the best cases are Milvus' candidates. Returns how long it took."""
    drill.engine = MILVUS
    with drill.failure("`radir index move --to milvus`"):
        said = drill.installation.radir(FRONT, "index", "move", "--to", MILVUS, "--json", seconds=_MOVE_S)
    told = json.loads(said)
    assert told["engine"] == MILVUS and told["partitions"] > 0 and told["partitions_left"] == 0, told
    return {name: told[name] for name in ("partitions", "vectors", "seconds")}


def _machines_fail(drill: Drill) -> None:
    for name, machine in drill.installation.machines.items():
        with drill.failure(f"`kill -9` of every process of {name}"):
            machine.kill()
            machine.power_on()
        with drill.failure(f"{CUT_S:.0f} s without power: {name}"):
            drill.installation.power_off(name)
            time.sleep(CUT_S)  # the failure itself
            drill.installation.power_on(name)


def _links_fail(drill: Drill) -> None:
    for near, far, *services in LINKS:
        began = time.monotonic()
        cut = drill.installation.network.cut(near, far, *services)
        with drill.failure(f"{CUT_S:.0f} s without a link: {near} to {'/'.join([far, *services])}"), cut:
            time.sleep(CUT_S)  # the failure itself
            if (near, services) == (FRONT, ["vectors"]):
                drill.wait_for_status(drill.of_best, 503, "engine_away", since=began)


def _promote(drill: Drill) -> dict[str, str]:
    """The model in shadow answers from now on. Returns the one before and the one after."""
    kept = drill.catalogue.models.kept()
    [before] = [one.model_id for one in kept if one.state is ModelState.SERVING and one.kind is ImageKind.CXR]
    [after] = [one.model_id for one in kept if one.state is ModelState.SHADOW]
    with drill.failure("`radir models promote`"):
        _until_done(drill, "models", "promote", after, "--reason", "a drill")
    answered = {one.model for one in drill.of_all.answers[-1:]}
    assert answered == {after}, "the model that was promoted answers"
    return {"before": before, "after": after}


def _until_done(drill: Drill, *command: str) -> None:
    """A command that is refused until its time has come, on the machine that has the models."""
    deadline = time.monotonic() + RECOVERY_S
    while True:
        try:
            drill.installation.radir(WORK, *command)
            return
        except subprocess.CalledProcessError as refused:
            assert time.monotonic() < deadline, refused.stderr
            time.sleep(2)  # each attempt starts Python on a busy machine
