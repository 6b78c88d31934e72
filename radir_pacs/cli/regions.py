"""``radir regions``: the regions that can be asked for, as a tree, or what some words mean."""

from __future__ import annotations

import argparse

from rich.tree import Tree

from radir_pacs import anatomy
from radir_pacs.cli.output import out, print_json
from radir_pacs.config import Settings
from radir_pacs.types import ImageKind, Region


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("regions", help="the regions that can be asked for, or what some words mean")
    parser.add_argument("words", nargs="*", help='for example "LLL"; without words: all regions as a tree')
    parser.add_argument(
        "--kind", choices=[kind.value.lower() for kind in ImageKind], help="only those of one image kind"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    """An unknown region is an error that names the nearest."""
    kind = ImageKind(args.kind.upper()) if args.kind else None
    regions = (anatomy.look_up(" ".join(args.words), kind),) if args.words else anatomy.regions(kind)
    if args.json:
        print_json([_as_json(region) for region in regions])
    elif args.words:
        (region,) = regions
        above = " < ".join(parent.name for parent in anatomy.ancestors(region.key))
        out.print(f"{region.name} ({region.key}), in: {above}" if above else f"{region.name} ({region.key})")
        out.print(f"also called: {', '.join(region.synonyms)}" if region.synonyms else "no other names")
    else:
        known = {region.key for region in regions}
        tree = Tree(anatomy.ROOT)
        _grow(tree, anatomy.ROOT, known)
        out.print(tree)
    return 0


def _grow(tree: Tree, key: str, known: set[str]) -> None:
    for child in anatomy.children(key):
        if child.key in known:
            _grow(tree.add(child.name), child.key, known)


def _as_json(region: Region) -> dict[str, object]:
    return {
        "key": region.key,
        "name": region.name,
        "parent": region.parent,
        "code": [region.code.value, region.code.scheme, region.code.meaning],
        "laterality": region.laterality.meaning if region.laterality else None,
        "synonyms": list(region.synonyms),
        "kinds": sorted(region.kinds),
    }
