"""Who promoted the challenger of a retraining, filed beside the evidence of its run.

The history of models is the record (`Models.history`); this file is its copy, for whoever files the folder of a run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict

from radir_pacs import durable
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.models.run_files import EVIDENCE, PROMOTION, RunFiles, run_of
from radir_pacs.types import ModelChange

log = logging.getLogger(__name__)

_OF_SERVING = frozenset({ModelChange.PROMOTED, ModelChange.ROLLED_BACK})


def file_promotions(catalogue: Catalogue, settings: Settings, model_ids: Iterable[str]) -> None:
    """Write ``promotion.json`` of the runs that these models come from, as the history has it now.

    Each entry is a line of the history in which the model begins to serve or is replaced; ``who`` is a person, or
    "rule:" and the name of a rule. A run whose folder is not here has none. What cannot be written is logged, for the
    promotion stands; `Upkeep.tidy` writes it later.
    """
    history = catalogue.models.history()
    wanted = set(model_ids)
    for event in history:
        if event.change is not ModelChange.REGISTERED or event.model_id not in wanted:
            continue
        run_id = run_of(event.evidence)
        if run_id is None:
            continue
        folder = RunFiles.of(settings, run_id).folder
        concerned = [one for one in history if event.model_id in (one.model_id, one.replaces)]
        served = [asdict(one) for one in concerned if one.change in _OF_SERVING]
        text = json.dumps({"model": event.model_id, "serving": served}, indent=1, default=str) + "\n"
        path = folder / PROMOTION
        try:
            if served and (folder / EVIDENCE).is_file() and not (path.is_file() and path.read_text("utf-8") == text):
                durable.replace(path, text.encode())
        except (OSError, UnicodeDecodeError) as error:
            log.warning("a promotion is not filed yet", extra={"run": run_id, "error": type(error).__name__})
