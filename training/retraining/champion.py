"""The model that serves, and its bundle."""

from __future__ import annotations

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.encode import Bundle
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.errors import BadInput, NotReady
from radir_pacs.models import Registry
from radir_pacs.types import ImageKind


def champion_of(catalogue: Catalogue, kind: ImageKind) -> str:
    """The id of the model that serves. Raises NotReady where there is none yet."""
    model = catalogue.models.serving(kind)
    if model is None:
        raise NotReady(f"no model serves {kind} here yet: start a worker first (radir up)")
    return model.model_id


def bundle_of(catalogue: Catalogue, settings: Settings, model_id: str) -> Bundle:
    """A model by its id. Raises NotFound, BundleRefused, BadInput for a network from elsewhere."""
    registry = Registry(catalogue, settings)
    bundle = Bundle.load(registry.folder(registry.get(model_id)))
    if not isinstance(bundle.network, RadirNetwork):
        raise BadInput(f"{model_id} is an imported model: only networks that radir made can be trained further")
    return bundle
