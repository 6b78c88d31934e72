"""Copies of bundles in the home folder, ``models/<model_id>``: whole or absent, and what they were when registered."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from radir_pacs import durable
from radir_pacs.encode.folder import CARD, MANIFEST, binaries, read_files, read_manifest
from radir_pacs.errors import BundleRefused


def bundle_folder(home: Path, model_id: str) -> Path:
    """Where the copy of a model's bundle is, whether or not it is there."""
    return home / "models" / model_id


def manifest_sha256(folder: Path) -> str:
    """The hash that a bundle's manifest has by its own word, which reading checks. Raises BundleRefused."""
    return str(read_manifest(folder)["manifest_sha256"])


def is_intact(folder: Path, sha256: str) -> bool:
    """Whether the folder holds the bundle with this manifest, and its weights as they were."""
    try:
        _, manifest = read_files(folder)
    except BundleRefused:
        return False
    return bool(manifest["manifest_sha256"] == sha256)


def copy_bundle(source: Path, home: Path, model_id: str) -> Path:
    """Copy a bundle to where it is served from; one that is there and whole stays. Raises BundleRefused, OSError.

    Several processes may do this at once.
    """
    target = bundle_folder(home, model_id)
    sha256 = manifest_sha256(source)
    if is_intact(target, sha256):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{model_id}.{secrets.token_hex(4)}.partial")
    partial.mkdir()
    try:
        for name in (*binaries(read_manifest(source)), MANIFEST, CARD):
            if name == CARD and not (source / CARD).is_file():
                continue
            shutil.copyfile(source / name, partial / name)
            durable.sync(partial / name)
        durable.sync(partial)
        if not is_intact(partial, sha256):
            raise BundleRefused(f"{source.name} changed while it was copied")
        _take_the_place(partial, target, sha256)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    durable.sync(target.parent)
    return target


def _take_the_place(partial: Path, target: Path, sha256: str) -> None:
    try:
        partial.rename(target)
    except OSError:  # there is one: another process was faster, or it is damaged
        if is_intact(target, sha256):
            return
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.damaged")
        target.rename(aside)
        partial.rename(target)
        shutil.rmtree(aside, ignore_errors=True)


def remove_bundle(home: Path, model_id: str) -> None:
    """Remove a copy: out of sight first, so that none is ever half there."""
    target = bundle_folder(home, model_id)
    aside = target.with_name(f".{model_id}.{secrets.token_hex(4)}.removed")
    try:
        target.rename(aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)
