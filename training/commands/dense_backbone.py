"""``radir train --backbone``: a decoder of ours over the features of a model from elsewhere."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

if TYPE_CHECKING:
    from radir_pacs.encode import NetworkConfig
    from radir_pacs.encode.import_program import Program

    from ..learning.recipe import Recipe

FLAGS = ("features", "prefix_tokens", "preprocessing", "name", "backbone_data", "licence", "trust_code", "slowest_s")
COMPUTED_ONCE = "the features of a backbone are computed once: with --augment on, each step would need new ones"


def register(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("a decoder over features of a model from elsewhere").add_argument
    add(
        "--backbone",
        type=Path,
        metavar="FILE",
        help="ONNX, TorchScript or .pt2, which takes image float32 [1, 1, *shape] and, if it wants one, view int64 "
        "[1], and answers features of places; it is not trained",
    )
    add(
        "--features",
        choices=("map", "tokens"),
        help="what it answers: a map [1, c, h, w] (default; of a CT [1, c, z, y, x]) or tokens [1, n, c]",
    )
    add("--prefix-tokens", type=int, metavar="N", help="tokens before those of places, as a class token (default 0)")
    add("--preprocessing", metavar="HOW", help="tiny, small, base or a JSON file: how its image is prepared (tiny)")
    add("--name", help="its name, which begins the model's id (default: that of FILE)")
    add("--backbone-data", metavar="TEXT", help="what it was trained on, for the card")
    add("--licence", metavar="TEXT", help="under which licence it came, for the card")
    add("--slowest-s", type=float, metavar="S", help="seconds an image may take it here (default 5)")
    add(
        "--trust-code",
        action="store_true",
        default=None,
        help="open TorchScript and .pt2 where this system cannot confine a program",
    )


def check(args: argparse.Namespace) -> None:
    """Raises BadInput."""
    given = [name for name in FLAGS if getattr(args, name) is not None]
    if args.backbone is None:
        if given:
            raise BadInput(f"--{given[0].replace('_', '-')} says something of a --backbone, and none is named")
        return
    if args.start is not None:
        raise BadInput("a bundle that --start continues keeps what it reads: --backbone is for a new network")
    if args.augment == "on":
        raise BadInput(COMPUTED_ONCE)
    if not args.backbone.is_file():
        raise BadInput(f"there is no file {args.backbone}")
    if args.slowest_s is not None and not 0 < args.slowest_s < 3600:
        raise BadInput("--slowest-s is a number of seconds above 0")


def opened(args: argparse.Namespace, recipe: Recipe) -> tuple[Program, dict[str, Any]]:
    """The program, tried, and what the card says of it. Raises BadInput, BundleRefused, OSError."""
    if recipe.stages != "joint":
        raise BadInput("a --backbone is not trained: --stages published has no encoder to begin with")
    from radir_pacs.cli.models import preprocessing
    from radir_pacs.encode.import_program import ProgramRequest, import_program
    from radir_pacs.encode.onnx_regions import Features

    how = preprocessing(args.preprocessing or "tiny", ImageKind(args.kind.upper()))
    program = import_program(
        args.backbone,
        ProgramRequest(
            preprocessing=how,
            features=Features(args.features or "map"),
            prefix_tokens=args.prefix_tokens or 0,
            slowest_s=args.slowest_s or 5.0,
            threads=args.threads,
            trust_code=bool(args.trust_code),
        ),
    )
    return program, {
        "name": _name(args),
        "data": args.backbone_data or "not stated",
        "licence": args.licence or "not stated",
        "imported_from": program.source,
        "features": args.features or "map",
        "seconds_per_image": program.seconds_per_image,
    }


def reading(program: Program, config: NetworkConfig, args: argparse.Namespace) -> NetworkConfig:
    """``config`` with the program in place of its stem, and of the blocks that make a stem's tokens see one another."""
    stems = {ImageKind(args.kind.upper()): program.config}
    try:
        return replace(config, name=_name(args), stems=stems, blocks=0, plane_blocks=0, depth_blocks=0)
    except ValueError as error:
        raise BadInput(f"--backbone: {error}") from None


def unvaried(recipe: Recipe, config: NetworkConfig, args: argparse.Namespace) -> Recipe:
    """``recipe`` without augmentation where ``config`` reads a program. Raises BadInput."""
    from radir_pacs.encode.config import ProgramConfig

    if not isinstance(config.stems[ImageKind(args.kind.upper())], ProgramConfig):
        return recipe
    if args.augment == "on":
        raise BadInput(COMPUTED_ONCE)
    return replace(recipe, augment=False)


def _name(args: argparse.Namespace) -> str:
    from radir_pacs.encode.folder import plain_name

    name = plain_name(args.name or args.backbone.stem)
    if not name:
        raise BadInput("--name has letters or digits")
    return name
