"""``radir models``: which models there are, a model's card, and importing an image encoder from elsewhere."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from radir_pacs import anatomy, config
from radir_pacs.catalogue import Catalogue, ModelProgress, ModelRow
from radir_pacs.cli import model_life
from radir_pacs.cli.model_life import left_of
from radir_pacs.cli.output import errors, out, print_json
from radir_pacs.cli.state import is_held
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, BundleRefused, NotFound
from radir_pacs.types import ImageKind, ModelState

MOST_FILE_BYTES = 8 * 2**20
_NOT_FOR_PEOPLE = frozenset({"text_vocabulary", "text_tower", "golden"})


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "models", help="the models: which answers, their cards, promotion and rollback, networks from elsewhere"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="the models, which of them answers now, and what each has encoded")
    shown = actions.add_parser("show", help="the card of a model: data, licence, what was measured, limits")
    shown.add_argument("model", metavar="MODEL", help="a model's id, or a bundle's folder")
    for known in (listed, shown):
        known.add_argument("--json", action="store_true", help="for machines")
        config.add_flags(known)
    listed.set_defaults(run=show_list, needs_settings=True)
    shown.set_defaults(run=show, needs_settings=True)
    model_life.register(actions)
    _register_import(actions)


def _register_import(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "import", help="make a bundle of an image encoder from elsewhere: ONNX, TorchScript or torch.export (.pt2)"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="takes image float32 [1, 1, *shape] and, if it wants "
                        "one, view int64 [1]; answers [1, regions, dim], [1, dim] for the whole chest, or "
                        "--features")  # fmt: skip
    parser.add_argument("--kind", choices=[kind.lower() for kind in ImageKind], required=True, help="what it encodes")
    parser.add_argument("--name", required=True, help="its name, which begins the model's id")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder the bundle is written to")
    parser.add_argument("--regions", metavar="KEYS", help="keys of regions in the order of its output, with commas; "
                        "with --features: those that get a vector each")  # fmt: skip
    parser.add_argument(
        "--features",
        choices=("vectors", "map", "tokens"),
        default="vectors",
        help="what it answers: vectors (default), a map [1, c, h, w] or tokens [1, n, c], of which each region gets "
        "the mean and spread where it lies",
    )
    parser.add_argument(
        "--prefix-tokens", type=int, default=0, metavar="N", help="tokens before those of places, as a class token"
    )
    parser.add_argument(
        "--preprocessing", metavar="HOW", help="tiny, small, base or a JSON file: how an image is prepared (tiny)"
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="JSON: regions, preprocessing, training and metrics, as it has them",
    )
    parser.add_argument("--data", metavar="TEXT", help="what it was trained on, for its card")
    parser.add_argument("--licence", metavar="TEXT", help="under which licence, for its card")
    parser.add_argument("--intended-use", metavar="TEXT", help="what it is fit for, for its card")
    parser.add_argument(
        "--slowest-s", type=float, default=5.0, metavar="S", help="seconds an image may take here (default 5)"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of the network; 0 lets torch choose")
    parser.add_argument(
        "--trust-code", action="store_true", help="open TorchScript and .pt2 where this system cannot confine a program"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(run=import_file)


def show_list(args: argparse.Namespace, settings: Settings) -> int:
    """Known models, then bundles of the settings that are not known yet.

    A folder that cannot be served is listed with the reason; the exit code is then 1.
    """
    from radir_pacs.encode.card import has_collapsed
    from radir_pacs.encode.folder import read_manifest

    rows: list[dict[str, Any]] = []
    for model, progress in _known(settings):
        row: dict[str, Any] = {
            "model_id": model.model_id,
            "kind": str(model.kind),
            "state": str(model.state),
            "problem": None,
        }
        row |= {"regions": len(model.manifest.get("regions", ())), "answers": model.state is ModelState.SERVING}
        row |= {"collapsed": has_collapsed(model.manifest), "folder": None, "kept_until": model.kept_until}
        row |= {"progress": _progress_json(progress), "told": left_of(progress)}
        rows.append(row)
    known = {row["model_id"]: row for row in rows}
    for folder in _folders(settings):
        try:
            manifest = read_manifest(folder)
            model_id = str(manifest["model_id"])
            if model_id in known:
                known[model_id]["folder"] = str(folder)
                continue
            row = {"model_id": model_id, "kind": str(manifest["kind"]), "regions": len(manifest["regions"])}
            rows.append(row | _unknown(folder) | {"collapsed": has_collapsed(manifest)})
        except (BundleRefused, KeyError, TypeError) as error:
            rows.append(_unknown(folder) | {"problem": str(error)})
    if args.json:
        print_json([{key: value for key, value in row.items() if key != "told"} for row in rows])
    else:
        out.print(_table(rows))
    return int(any(row["problem"] for row in rows))


def _unknown(folder: Path) -> dict[str, Any]:
    """What is said of a bundle that is no model of the catalogue."""
    said: dict[str, Any] = {"folder": str(folder), "problem": None, "collapsed": False, "state": None, "answers": False}
    return said | {"kept_until": None, "progress": None, "told": ""}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("model", "kind", "state", "regions", "encoded", "folder")
    for row in rows:
        if row["problem"]:
            table.add_row("refused", "", "", "", "", _cell(f"{row['folder']}: {row['problem']}"))
            continue
        state = row["state"] or "not known yet"
        if row["kept_until"] and row["state"] == ModelState.RETIRED:
            state += f", kept until {row['kept_until']:%Y-%m-%d}"
        if row["collapsed"]:
            state += "; it has collapsed: train another"
        told = (row["model_id"], row["kind"], state, str(row["regions"]), row["told"], row["folder"] or "")
        table.add_row(*map(_cell, told))
    return table


def _progress_json(progress: ModelProgress) -> dict[str, Any]:
    coverage = progress.coverage
    counted = {"encoded": coverage.encoded, "total": coverage.total, "share": coverage.share}
    pace = {"per_minute": progress.per_minute, "left_s": progress.left_s}
    return counted | {"waiting": progress.waiting, "failed": progress.failed} | pace


def _cell(told: str) -> Text:
    """A manifest comes from outside: show it without markup and control characters."""
    return Text("".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in told))


def show(args: argparse.Namespace, settings: Settings) -> int:
    """Raises NotFound, BundleRefused."""
    from radir_pacs.encode.card import model_card

    manifest = _manifest_of(args.model, settings)
    life = [(model, progress) for model, progress in _known(settings) if model.model_id == manifest.get("model_id")]
    if args.json:
        shown = {key: value for key, value in manifest.items() if key not in _NOT_FOR_PEOPLE}
        for model, progress in life:
            shown |= {"state": model.state, "kept_until": model.kept_until, "progress": _progress_json(progress)}
        print_json(shown)
        return 0
    try:
        print(model_card(manifest))
        for model, progress in life:
            print(f"{model.state}; {left_of(progress)}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleRefused(f"{args.model}: the manifest does not describe a model: {error}") from None
    return 0


def _manifest_of(wanted: str, settings: Settings) -> Mapping[str, Any]:
    from radir_pacs.encode.folder import MANIFEST, read_manifest

    if (Path(wanted) / MANIFEST).is_file():
        return read_manifest(Path(wanted))
    for folder in _folders(settings):
        if (folder / MANIFEST).is_file() and (manifest := read_manifest(folder)).get("model_id") == wanted:
            return manifest
    if settings.database_url or is_held(settings):
        with Catalogue.open(settings) as catalogue:
            model = catalogue.models.get(wanted)
        if model is not None:
            return model.manifest
    raise NotFound(f"there is no model or bundle {wanted!r}; `radir models list` shows those that are served")


def _folders(settings: Settings) -> list[Path]:
    from radir_pacs.encode import default_bundles

    return [Path(folder) for folder in settings.models] or list(default_bundles().values())


def _known(settings: Settings) -> list[tuple[ModelRow, ModelProgress]]:
    """The models of the catalogue; none where nothing runs."""
    if not (settings.database_url or is_held(settings)):
        return []
    with Catalogue.open(settings) as catalogue:
        return [(model, catalogue.models.progress(model.model_id)) for model in catalogue.models.all()]


def import_file(args: argparse.Namespace, settings: Settings | None) -> int:
    """Raises BundleRefused with what is wrong with the model and how to fix it, BadInput, OSError."""
    if not (math.isfinite(args.slowest_s) and args.slowest_s > 0):
        raise BadInput("--slowest-s is a number of seconds above 0")
    from radir_pacs.encode import default_bundles
    from radir_pacs.encode.import_model import ImportRequest, import_model
    from radir_pacs.encode.onnx_regions import Features

    kind = ImageKind(args.kind.upper())
    said = _json(args.manifest) if args.manifest else {}
    keys = args.regions.split(",") if args.regions else said.get("regions") or [anatomy.ROOT]
    card = {"data": args.data, "licence": args.licence, "intended_use": args.intended_use}
    try:
        request = ImportRequest(
            name=args.name,
            kind=kind,
            preprocessing=preprocessing(args.preprocessing or said.get("preprocessing") or "tiny", kind),
            regions=[anatomy.region(str(key).strip()) for key in keys],
            training={**said.get("training", {}), **{key: text for key, text in card.items() if text}},
            metrics=dict(said.get("metrics", {})),
            slowest_s=args.slowest_s,
            threads=args.threads,
            trust_code=args.trust_code,
            features=Features(args.features),
            prefix_tokens=args.prefix_tokens,
        )
    except (TypeError, ValueError) as error:
        raise BadInput(f"{args.manifest or 'the command'}: {error}") from None
    with errors.status("the model is opened, turned into ONNX and tried"):
        bundle = import_model(args.file, request).save(args.out)
    if args.json:
        print_json({"model_id": bundle.model_id, "bundle": str(args.out), **bundle.training})
    else:
        out.print(f"{bundle.model_id} written to {args.out}, {bundle.training['seconds_per_image']:.2g} s an image")
        others = [str(folder) for other, folder in default_bundles().items() if other is not kind]
        out.print(f"to serve it: radir up --models {','.join([str(args.out), *others])}")
    return 0


def preprocessing(wanted: Any, kind: ImageKind) -> Any:
    """The preprocessing from a configuration's name, a JSON file, or a manifest. Raises BadInput."""
    from radir_pacs.encode import CONFIGS, Preprocessing

    if isinstance(wanted, str) and wanted in CONFIGS:
        return Preprocessing.of(CONFIGS[wanted], kind)
    value = wanted if isinstance(wanted, Mapping) else _json(Path(wanted))
    try:
        return Preprocessing.from_json({"kind": kind.value, "spacing_mm": (), **value})
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"preprocessing: {error}; it has shape, clip and, for CT, spacing_mm") from None


def _json(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(MOST_FILE_BYTES + 1)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or len(content) > MOST_FILE_BYTES:
        raise BadInput(f"{path}: not a JSON object of at most {MOST_FILE_BYTES // 2**20} MiB")
    return value
