"""The files of a bundle: how they are named, read, hashed and written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radir_pacs.errors import BundleRefused
from radir_pacs.types import ImageKind

from .config import EXTERNAL_ENGINE

FORMAT = 1
WEIGHTS, MANIFEST, CARD, ONNX = "weights.safetensors", "manifest.json", "MODEL_CARD.md", "encoder.onnx"
ENCODER = "encoder"  # of a manifest: the hash of what makes the image tokens (``tokens``)
TEXT_TOWER = "text_tower"  # of a manifest: a local text model in place of our own
MOST_WEIGHTS_BYTES, MOST_MANIFEST_BYTES = 4 * 2**30, 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of a bundle that is read when it is used, since it may be large and is not always needed."""

    path: Path
    sha256: str

    def read(self) -> bytes:
        """What its hash names. Raises BundleRefused."""
        try:
            content = self.path.read_bytes()
        except OSError:
            raise BundleRefused(f"{self.path.name} cannot be read") from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise BundleRefused(f"{self.path.name} was altered")
        return content


def read_files(folder: Path) -> tuple[dict[str, bytes | StoredFile], dict[str, Any]]:
    """Each file of ``binaries`` and the manifest; an altered one is not read any further. Raises BundleRefused.

    An ONNX file is hashed like any other, and read when it is run.
    """
    manifest = read_manifest(folder)
    contents: dict[str, bytes | StoredFile] = {}
    for name, sha256 in binaries(manifest).items():
        path = folder / name
        try:
            if path.stat().st_size > MOST_WEIGHTS_BYTES:
                raise BundleRefused(f"{folder.name}: {name} is larger than a bundle's may be")
            if name == ONNX:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                contents[name] = StoredFile(path=path.absolute(), sha256=found)
            else:
                contents[name] = content = path.read_bytes()
                found = hashlib.sha256(content).hexdigest()
        except OSError:
            raise BundleRefused(f"{folder.name}: {name} cannot be read") from None
        if sha256 != found:
            raise BundleRefused(f"{folder.name}: {name} was altered")
    return contents, manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a bundle says about itself, without its weights. Raises BundleRefused."""
    try:
        if (folder / MANIFEST).stat().st_size > MOST_MANIFEST_BYTES:
            raise BundleRefused(f"{folder.name}: {MANIFEST} is larger than a bundle's may be")
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise BundleRefused(f"{folder.name}: {Path(error.filename or '').name} cannot be read") from None
    except (ValueError, RecursionError):
        raise BundleRefused(f"{folder.name}: {MANIFEST} is not JSON") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleRefused(f"{folder.name}: not a bundle of format {FORMAT}")
    if manifest.get("manifest_sha256") != manifest_hash(manifest):
        raise BundleRefused(f"{folder.name}: {MANIFEST} was altered")
    return manifest


def is_external(manifest: Mapping[str, Any]) -> bool:
    network = manifest.get("network")
    return isinstance(network, dict) and network.get("engine") == EXTERNAL_ENGINE


def weights_name(manifest: Mapping[str, Any]) -> str:
    return ONNX if is_external(manifest) else WEIGHTS


def binaries(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What lies beside the manifest, each with its SHA-256: the weights, and the program that they read, if any."""
    found = {weights_name(manifest): manifest.get("weights_sha256")}
    network = manifest.get("network")
    stems = network.get("stems") if isinstance(network, dict) else None
    for stem in stems.values() if isinstance(stems, dict) else ():
        if isinstance(stem, dict) and "sha256" in stem:
            found[ONNX] = stem["sha256"]
    return found


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical({k: v for k, v in manifest.items() if k != "manifest_sha256"})).hexdigest()


_IDENTITY = ("format", "kind", "name", "network", "regions", "preprocessing", "text_vocabulary", "weights_sha256")


def model_id_of(manifest: Mapping[str, Any]) -> str:
    """kind-name-hash8 of all that decides a vector; lower case, safe as the name of a folder."""
    deciding = {key: manifest[key] for key in _IDENTITY}
    if TEXT_TOWER in manifest:
        deciding[TEXT_TOWER] = manifest[TEXT_TOWER]
    digest = hashlib.sha256(_canonical(deciding)).hexdigest()[:8]
    return f"{ImageKind(manifest['kind']).value.lower()}-{plain_name(str(manifest['name']))}-{digest}"


def plain_name(text: str) -> str:
    """Its ASCII letters, in lower case, and digits, 32 at most: what stands of a network's name in a model's id."""
    return "".join(c for c in text.lower() if c.isalnum() and c.isascii())[:32]


def pretty(manifest: Mapping[str, Any]) -> str:
    """The long lists with one item per line, so that a person can read the file."""
    lines = []
    for key, value in manifest.items():
        if isinstance(value, list) and value and isinstance(value[0], list | dict):
            rows = ",\n".join(f"    {json.dumps(item)}" for item in value)
            lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ]")
        elif isinstance(value, dict):
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, indent=2)}".replace("\n", "\n  "))
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
