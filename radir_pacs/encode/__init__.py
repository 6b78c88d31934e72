"""From pixels to region vectors: the network, the bundle it ships in, and the encoder that runs it.

Names that bring torch or scipy are imported when they are first used: most processes need none of them, and torch costs
each seconds and 200 MB.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radir_pacs.types import ImageKind

from .config import CONFIGS, NetworkConfig

if TYPE_CHECKING:
    from .bundle import Bundle, ModelRegion
    from .devices import choose_device, free_memory
    from .encoder import Encoder
    from .inputs import EncoderInput, encoder_input
    from .preprocess import Preprocessing

__all__ = [
    "CONFIGS",
    "Bundle",
    "Encoder",
    "EncoderInput",
    "ModelRegion",
    "NetworkConfig",
    "Preprocessing",
    "choose_device",
    "default_bundles",
    "encoder_input",
    "free_memory",
]
_WHEN_USED = {
    "Bundle": "bundle",
    "ModelRegion": "bundle",
    "Encoder": "encoder",
    "choose_device": "devices",
    "free_memory": "devices",
    "EncoderInput": "inputs",
    "encoder_input": "inputs",
    "Preprocessing": "preprocess",
}


def __getattr__(name: str) -> Any:
    if name not in _WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WHEN_USED[name]}", __name__), name)


def default_bundles() -> dict[ImageKind, Path]:
    """The folders of the starter bundles that ship with the package."""
    root = Path(__file__).parent / "bundles"
    return {ImageKind.CXR: root / "cxr-tiny", ImageKind.CT: root / "ct-tiny"}
