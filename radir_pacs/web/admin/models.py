"""Models: what answers, how far others are, cards, curves, champion against challenger; promotion and its undoing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Response, request, url_for

from radir_pacs.catalogue import ModelProgress, ModelRow
from radir_pacs.encode.card import model_card
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.models import Registry
from radir_pacs.models.run_files import RunFiles, run_of
from radir_pacs.models.signed import signed
from radir_pacs.types import ImageKind, ModelState
from radir_pacs.web import audit
from radir_pacs.web.services import services

from . import view
from .charts import HEIGHT, WIDTH, curves
from .markdown import card_parts

blueprint = view.guarded("admin_models", __name__)

_ACTIONS = {
    "shadow": frozenset({ModelState.REGISTERED, ModelState.RETIRED}),
    "promote": frozenset({ModelState.REGISTERED, ModelState.SHADOW, ModelState.RETIRED}),
    "retire": frozenset({ModelState.REGISTERED, ModelState.SHADOW}),
}
_HISTORY = 100
LATELY_S = 60.0  # that counts in a list which refreshes itself may be behind


Counted = Callable[[str, Callable[[], ModelProgress]], ModelProgress]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A model; how far it is, None for one that was cleared away. ``actions``: what may be asked for in its state."""

    model: ModelRow
    progress: ModelProgress | None
    actions: tuple[str, ...]


@blueprint.get("/models")
def models() -> Response:
    """Every model by state, and what was done with models."""
    registry = _registry()
    return view.page(
        "models.html",
        **_listed(registry, services().progress.anew),
        history=registry.history()[::-1][:_HISTORY],
        evidence=run_of,
    )


@blueprint.get("/models/live")
def live() -> Response:
    """The table of models as a piece of the page."""
    return view.part("models_live.html", **_listed(_registry(), services().progress.get))


@blueprint.get("/models/<model_id>")
def model(model_id: str) -> Response:
    """One model: its card, index, curves, its figures beside the model that it was trained from. Raises NotFound."""
    registry, context = _registry(), services()
    found = registry.get(model_id)
    history = registry.history(model_id)[::-1]
    run_id = next((number for event in history if (number := run_of(event.evidence)) is not None), None)
    files = RunFiles.of(context.settings, run_id) if run_id is not None else None
    drawn, last_step = curves(files.losses() if files else {})
    return view.page(
        "model.html",
        shown=_shown(registry, found, services().progress.anew),
        card=card_parts(_card(found.manifest)),
        partitions=context.catalogue.survey.partitions(model_id),
        run=run_id,
        examined=files.examination() if files else {},
        measured=_measured(found.manifest),
        curves=drawn,
        last_step=last_step,
        width=WIDTH,
        height=HEIGHT,
        comparisons=registry.compared(model_id),
        history=history,
        evidence=run_of,
        done=request.args.get("done"),
    )


@blueprint.get("/models/<model_id>/<action>")
def ask(model_id: str, action: str) -> Response:
    """What an action will do, and a form that does it. Raises NotFound."""
    registry, settings = _registry(), services().settings
    found = registry.get(model_id)
    if action not in _ACTIONS:
        raise NotFound("there is no such action")
    serving = services().catalogue.models.serving(found.kind)
    progress = registry.progress(model_id)
    return view.page(
        "model_action.html",
        model=found,
        action=action,
        may=found.state in _ACTIONS[action],
        progress=progress,
        serving=serving,
        unbuilt=registry.unbuilt(model_id) if action == "promote" and serving is not None else (),
        uncovered=action == "promote" and serving is not None and progress.coverage.share < settings.model_coverage,
        least=settings.model_coverage,
        days=settings.model_rollback_days,
        address=url_for("admin_models.act", model_id=model_id, action=action),
        back=url_for("admin_models.model", model_id=model_id),
    )


@blueprint.post("/models/<model_id>/<action>")
def act(model_id: str, action: str) -> Response:
    """Shadow, promote or retire, as ``radir models`` does.

    Raises BadInput without a reason, NotFound, NotCovered, NotReady, Conflict.
    """
    registry, said = _registry(), _said()
    match action:
        case "shadow":
            registry.shadow(model_id, **said)
        case "promote":
            registry.promote(model_id, **said)
        case "retire":
            registry.retire(model_id, **said)
        case _:
            raise NotFound("there is no such action")
    return view.after(url_for("admin_models.model", model_id=model_id, done=action))


@blueprint.get("/rollback/<kind>")
def ask_rollback(kind: str) -> Response:
    """What a rollback will do, and a form that does it. Raises NotFound."""
    asked = _kind(kind)
    models = services().catalogue.models
    serving, before = models.serving(asked), models.served_before(asked)
    if serving is None or before is None:
        raise NotFound(f"no model served {asked} before the one that serves now")
    return view.page(
        "model_action.html",
        model=before,
        action="rollback",
        may=_is_ready(before),
        progress=models.progress(before.model_id),
        serving=serving,
        unbuilt=(),
        uncovered=False,
        least=0.0,
        days=services().settings.model_rollback_days,
        address=url_for("admin_models.rollback", kind=asked.lower()),
        back=url_for("admin_models.models"),
    )


@blueprint.post("/rollback/<kind>")
def rollback(kind: str) -> Response:
    """Have the model answer that answered before, as ``radir models rollback`` does. Raises NotFound, Conflict.

    ``instead_of``: the model that served when the form was shown; a form that is sent twice leads no further back.
    """
    found, _ = _registry().rollback(_kind(kind), instead_of=view.field("instead_of", 200), **_said())
    return view.after(url_for("admin_models.model", model_id=found.model_id, done="rollback"))


def _listed(registry: Registry, counted: Counted) -> dict[str, Any]:
    models = services().catalogue.models
    return {
        "models": [_shown(registry, found, counted) for found in models.all()],
        "rollbacks": {kind for kind in ImageKind if (before := models.served_before(kind)) and _is_ready(before)},
    }


def _is_ready(before: ModelRow) -> bool:
    """Whether a rollback may lead to a model: what it encoded, and its bundle, are kept."""
    kept = {model.model_id for model in services().catalogue.models.kept()}
    return before.model_id in kept and before.bundle_sha256 is not None


def _shown(registry: Registry, found: ModelRow, counted: Counted) -> Shown:
    """Counting takes seconds in a large archive: nothing is counted of a model whose encodings are cleared away."""
    actions = tuple(action for action, states in _ACTIONS.items() if found.state in states and found.bundle_sha256)
    is_gone = found.state is ModelState.RETIRED and (found.kept_until is None or found.kept_until <= datetime.now(UTC))
    progress = None if is_gone else counted(found.model_id, lambda: registry.progress(found.model_id))
    return Shown(model=found, progress=progress, actions=actions)


def _registry() -> Registry:
    context = services()
    return Registry(context.catalogue, context.settings)


def _said() -> dict[str, str]:
    return signed("", audit.caller().name, view.field("reason", 5000), view.field("evidence", 5000))


def _kind(text: str) -> ImageKind:
    try:
        return ImageKind(text.upper())
    except ValueError:
        raise BadInput("there is no such kind of image") from None


def _number(value: Any) -> int | None:
    """A manifest comes from outside."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else None


def _card(manifest: Mapping[str, Any]) -> str:
    try:
        return model_card(manifest)
    except (KeyError, TypeError, ValueError, AttributeError):  # of a model without a bundle
        return ""


def _measured(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Recall by region as the bundle tells it; empty where it tells none."""
    metrics = manifest.get("metrics")
    found = metrics.get("recall_at_5_abnormal") if isinstance(metrics, Mapping) else None
    regions = found.get("regions") if isinstance(found, Mapping) else None
    return dict(regions) if isinstance(regions, Mapping) else {}
