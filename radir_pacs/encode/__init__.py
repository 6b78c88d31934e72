"""From pixels to region vectors: the network, the bundle it ships in, and the encoder that runs it."""

from pathlib import Path

from radir_pacs.types import ImageKind

from .bundle import Bundle, ModelRegion
from .config import CONFIGS, NetworkConfig
from .encoder import Encoder, choose_device
from .preprocess import Preprocessing, preprocess

__all__ = [
    "CONFIGS",
    "Bundle",
    "Encoder",
    "ModelRegion",
    "NetworkConfig",
    "Preprocessing",
    "choose_device",
    "default_bundles",
    "preprocess",
]


def default_bundles() -> dict[ImageKind, Path]:
    """The folders of the starter bundles that ship with the package."""
    root = Path(__file__).parent / "bundles"
    return {ImageKind.CXR: root / "cxr-tiny", ImageKind.CT: root / "ct-tiny"}
