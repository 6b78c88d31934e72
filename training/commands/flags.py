"""What ``radir evaluate`` and ``radir compare`` are told alike; light, since every command line registers it."""

from __future__ import annotations

import argparse
from pathlib import Path

from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

DEFAULT_CACHE = Path("~/.cache/radir/training")
BOTH = "both"
MODEL_HELP = (
    "[NAME=][global:]PATH[,PATH]: a bundle, a folder of bundles, or vectors.npz; global: asks it about the whole image "
    "only; or one of random, pixels, hog"
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Where the studies come from, and what is asked of them."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder of DICOM files with reports, or a data set")
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the images of a data set lie")
    parser.add_argument("--phantoms", type=int, metavar="N", help="N synthetic patients instead")
    parser.add_argument("--seed", type=int, default=2, metavar="S", help="of the patients and the draws (default 2)")
    parser.add_argument("--split", default="test", metavar="NAME", help="of a data set (default test)")
    parser.add_argument(
        "--held-out", action="store_true", help="judge only by patients of --data that no model was trained on"
    )
    kinds = [*(kind.lower() for kind in ImageKind), BOTH]
    parser.add_argument("--kind", choices=kinds, default=BOTH, help="which images (default both)")
    parser.add_argument("--regions", metavar="A,B", help="regions to judge instead of those that the data choose")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR", help="keeps prepared images")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that draw patients")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of the networks; 0 lets torch choose")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def wanted_kinds(args: argparse.Namespace) -> tuple[ImageKind, ...]:
    """Raises BadInput where the flags do not fit together."""
    if (args.data is None) == (args.phantoms is None):
        raise BadInput("either --data DIR or --phantoms N says what to judge by")
    if args.images is not None and args.data is None:
        raise BadInput("--images belongs to a data set given by --data")
    if args.held_out and args.data is None:
        raise BadInput("--held-out belongs to a folder given by --data; of synthetic patients take another --seed")
    if args.phantoms is not None and args.phantoms < 2:
        raise BadInput("--phantoms takes at least 2 patients")
    if args.seed < 0:
        raise BadInput("--seed is not negative")
    return tuple(ImageKind) if args.kind == BOTH else (ImageKind(args.kind.upper()),)


def judged_on(args: argparse.Namespace) -> str:
    """In words; a folder's name could be a hospital's, so it is not told."""
    if args.phantoms is not None:
        return f"synthetic patients of seed {args.seed}"
    return "a folder of data" + (", those patients that no model was trained on" if args.held_out else "")
