"""The life of models: which bundle encodes, which one answers, and who decided it. No torch until one is verified."""

from radir_pacs.models.answered import Answered
from radir_pacs.models.comparison import Comparison, Mean
from radir_pacs.models.errands import Errands
from radir_pacs.models.registry import Registry
from radir_pacs.models.retraining_work import cancel_retraining, clear_work
from radir_pacs.models.upkeep import Upkeep

__all__ = ["Answered", "Comparison", "Errands", "Mean", "Registry", "Upkeep", "cancel_retraining", "clear_work"]
