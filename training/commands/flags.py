"""The flags that ``radir evaluate`` and ``radir compare`` share; cheap to import, since every command line registers
them."""

from __future__ import annotations

import argparse
from pathlib import Path

from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

DEFAULT_CACHE = Path("~/.cache/radir/training")
BOTH = "both"
MODEL_HELP = (
    "[NAME=][global:]PATH[,PATH]: a bundle, a folder of bundles, or vectors.npz; global: uses its whole-image "
    "vector for every region; or one of random, pixels, hog"
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Which studies to judge by, and how."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder of DICOM files with reports, or a data set")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images of a data set")
    parser.add_argument("--phantoms", type=int, metavar="N", help="judge by N synthetic patients instead")
    parser.add_argument(
        "--seed", type=int, default=2, metavar="S", help="seed of the patients and of the bootstrap (default 2)"
    )
    parser.add_argument("--split", default="test", metavar="NAME", help="split of a data set (default test)")
    parser.add_argument(
        "--held-out", action="store_true", help="judge only by patients of --data that no model was trained on"
    )
    kinds = [*(kind.lower() for kind in ImageKind), BOTH]
    parser.add_argument("--kind", choices=kinds, default=BOTH, help="kind of image (default both)")
    parser.add_argument("--regions", metavar="A,B", help="regions to judge, instead of those chosen from the data")
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR", help="where prepared images are kept"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that draw the patients")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads of the networks; 0 lets torch choose"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def wanted_kinds(args: argparse.Namespace) -> tuple[ImageKind, ...]:
    """Raises BadInput where the flags contradict one another."""
    if (args.data is None) == (args.phantoms is None):
        raise BadInput("nothing to judge by: use either --data DIR or --phantoms N")
    if args.images is not None and args.data is None:
        raise BadInput("--images belongs to a data set given by --data")
    if args.held_out and args.data is None:
        raise BadInput("--held-out belongs to a folder given by --data; for synthetic patients, use another --seed")
    if args.phantoms is not None and args.phantoms < 2:
        raise BadInput("--phantoms needs at least 2 patients")
    if args.seed < 0:
        raise BadInput("--seed must not be negative")
    return tuple(ImageKind) if args.kind == BOTH else (ImageKind(args.kind.upper()),)


def judged_on(args: argparse.Namespace) -> str:
    """In words; a folder's name could be a hospital's, so it is not given."""
    if args.phantoms is not None:
        return f"synthetic patients of seed {args.seed}"
    return "a folder of data" + (", those patients that no model was trained on" if args.held_out else "")
