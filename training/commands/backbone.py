"""``radir backbone``: adds to a bundle what a network trained on photographs sees of each region."""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from radir_pacs.cli.output import progress
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput

from .flags import DEFAULT_CACHE

FACTOR = 2  # of the side of the image that the network itself sees
NAME, NUMBERS, SHARE = "efficientnet-lite0", 32, 0.3
# Where it pays (docs/results/backbone.md): at vessels, bones and hila its cells of 16 pixels blur what matters.
LOOKED_AT, BUT = ("lungs", "pleura"), ("hila",)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "backbone", help="let the vectors of a network of radiographs also say what a network of photographs sees"
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a network that radir train made; not changed")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="the backbone's weights (.pth); default: those that BUNDLE has"
    )
    parser.add_argument("--name", help=f"which backbone --weights are of: {NAME} (default), -lite1 or -lite2")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="real radiographs to measure by; labels are not used"
    )
    parser.add_argument(
        "--share", type=float, default=SHARE, metavar="S", help=f"of a cosine, between 0 and 1 (default {SHARE})"
    )
    parser.add_argument(
        "--numbers", type=int, default=NUMBERS, metavar="N", help=f"added to each vector (default {NUMBERS})"
    )
    parser.add_argument(
        "--regions", metavar="A,B", help="where it counts, with all regions below (default lungs and pleura, not hila)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new bundle")
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR", help="where prepared images are kept"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    from radir_pacs.encode import Bundle, NetworkConfig
    from radir_pacs.encode.config import AppearanceConfig
    from radir_pacs.encode.network import RadirNetwork
    from radir_pacs.types import ImageKind

    from ..data.folder_set import folder_set
    from ..learning.backbone import check_can_take, published, with_backbone

    if args.out.exists():
        raise BadInput(f"{args.out} exists: name another folder")
    start = Bundle.load(args.bundle)
    config = start.network.config
    if not isinstance(config, NetworkConfig) or start.kind is not ImageKind.CXR:
        raise BadInput(f"{start.model_id} is not a network of radiographs that radir train made")
    regions = looked_at(args.regions, [region.key for region in start.regions])
    there = start.network.appearance if isinstance(start.network, RadirNetwork) else None
    if there is None and args.weights is None:
        raise BadInput(f"{start.model_id} has no backbone yet: name the weights of one with --weights")
    name = args.name or (NAME if there is None or args.weights else there.config.backbone)
    shape = tuple(FACTOR * n for n in config.stems[ImageKind.CXR].shape)
    try:
        appearance = AppearanceConfig(backbone=name, shape=shape, dim=args.numbers, share=args.share, regions=regions)
    except ValueError as error:
        raise BadInput(str(error)) from None
    check_can_take(start, appearance)
    backbone = published(name, args.weights) if there is None or args.weights else copy.deepcopy(there.backbone)

    def tell(line: str) -> None:
        print(line, file=sys.stderr)

    with progress() as shown:
        wide = replace(config, appearance=appearance)
        data = folder_set(wide, ImageKind.CXR, args.data, cache=args.cache.expanduser(), tell=tell)
        task = shown.add_task("measuring", total=len(data))
        bundle = with_backbone(
            start, appearance, backbone, data, progress=lambda done: shown.update(task, completed=done)
        )
    saved = bundle.save(args.out)
    measured_by = bundle.training["backbone"]["measured_by"]
    if args.json:
        print(json.dumps({"model_id": saved.model_id, "bundle": str(args.out), "measured_by": measured_by}))
    else:
        print(f"{saved.model_id} in {args.out}, measured by {measured_by} radiographs; `radir evaluate` judges it")
    return 0


def looked_at(asked: str | None, known: Sequence[str]) -> tuple[str, ...]:
    """Those of the network's regions that are asked for or lie below one that is. Raises BadInput for a name that the
    network does not know."""
    from radir_pacs import anatomy

    def within(key: str, tops: Collection[str]) -> bool:
        return key in tops or any(above.key in tops for above in anatomy.ancestors(key))

    if asked is None:
        return tuple(key for key in known if within(key, LOOKED_AT) and not within(key, BUT))
    tops = {anatomy.look_up(name).key for name in asked.split(",")}
    if missing := tops - set(known):
        raise BadInput(f"the network does not know {', '.join(sorted(missing))}: `radir models show` lists its regions")
    return tuple(key for key in known if within(key, tops))
