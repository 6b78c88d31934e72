"""The Python API, for notebooks: ``import radir_pacs.api as radir``. docs/how-to/notebook.md shows all of it.

Thin over what the service runs itself: files are read with the same bounds, vectors and scores are the same to the last
bit. What is not named here may change in any release.

Decision support, not diagnosis.
"""

from radir_pacs.api.evaluation import evaluate
from radir_pacs.api.local import Model, Ranked, load_bundle, mine, rank
from radir_pacs.api.service import Answer, Case, Service
from radir_pacs.errors import RadirError

__all__ = [
    "Answer",
    "Case",
    "Model",
    "RadirError",
    "Ranked",
    "Service",
    "evaluate",
    "load_bundle",
    "mine",
    "rank",
]
