"""``radir train``: a network trained on a folder of images and reports, or on synthetic patients, becomes a bundle."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from . import dense_backbone as backbone

if TYPE_CHECKING:
    import torch

    from ..learning.recipe import Recipe
    from ..runs.session import TrainingRequest

DEFAULT_CACHE = Path("~/.cache/radir/training")
GENTLE = 3e-4  # the learning rate of fine-tuning: the network keeps what it knows
EXTRA = ("matplotlib", "monai", "tensorboard", "skimage")
STAGES = ("joint", "published")
PATIENTS = 2000


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("train", help="train a network on images and reports and write its bundle")
    add = parser.add_argument
    add("--kind", choices=[kind.lower() for kind in ImageKind], required=True, help="what it encodes")
    add("--data", type=Path, metavar="DIR", help="folder of images and reports; without it patients are synthetic")
    add("--images", type=Path, metavar="DIR", help="where the images of a data set in the MIMIC-IR layout lie")
    add(
        "--patients",
        type=int,
        metavar="N",
        help=f"number of synthetic patients, including the held-out ones ({PATIENTS})",
    )
    add("--config", metavar="NAME", help="size of the network: tiny (default), small or base")
    add(
        "--recipe",
        default="ours",
        metavar="NAME",
        help="ours, unconditional, published, published-staged, repaired, or an ablation of ours (docs/results)",
    )
    add("--out", type=Path, required=True, metavar="BUNDLE", help="folder the bundle is written to")
    add("--replace", action="store_true", help="overwrite a finished bundle")
    add("--start", type=Path, metavar="BUNDLE", help="continue training this bundle, which is not changed")
    add(
        "--text-model",
        type=Path,
        metavar="DIR",
        help="folder of a BERT-family model to use in place of our text encoder",
    )
    backbone.register(parser)
    add("--epochs", type=int, metavar="N", help="passes over the data (default: the recipe's)")
    add(
        "--augment",
        choices=("auto", "on", "off"),
        default="auto",
        help="augment the images at random (auto: those of a folder; synthetic patients vary enough)",
    )
    add(
        "--minutes",
        type=float,
        default=0.0,
        metavar="M",
        help="stop after M minutes; the result is then not reproducible",
    )
    add("--seed", type=int, default=1, metavar="S", help="seed of the synthetic patients, the split and the training")
    add("--batch", type=int, metavar="N", help="images per step, over all processes (default: the recipe's)")
    add("--accumulate", type=int, default=1, metavar="N", help="process a batch in N parts: less memory, same losses")
    add("--learning-rate", type=float, metavar="R", help=f"default: the recipe's; {GENTLE:g} with --start")
    add(
        "--stages",
        choices=STAGES,
        help="published: first the encoders, then the decoder and heads (default: the recipe's, joint for most)",
    )
    add(
        "--full-precision",
        action="store_true",
        help="use float32 throughout, instead of bfloat16 where the device supports it",
    )
    add("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR", help="keeps prepared images")
    add("--jobs", type=int, default=1, metavar="N", help="processes that prepare images")
    add("--threads", type=int, default=0, metavar="N", help="threads of the network; 0 lets torch choose")
    add("--device", default="auto", metavar="NAME", help="cpu, cuda or auto")
    add(
        "--work",
        type=Path,
        metavar="DIR",
        help="where the checkpoint is kept during training (default: BUNDLE/.checkpoint)",
    )
    add(
        "--checkpoint-minutes",
        type=float,
        default=5.0,
        metavar="M",
        help="write a checkpoint every M minutes and after each epoch",
    )
    add("--fresh", action="store_true", help="start again, even where there is a checkpoint to resume from")
    add(
        "--curves",
        type=Path,
        metavar="DIR",
        help="folder for PNG curves and TensorBoard events (default: BUNDLE.curves)",
    )
    add("--json", action="store_true", help="print the measurements as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    """Exit code 0 when the bundle is written. Raises BadInput, BundleRefused, OSError."""
    _check(args)
    # imported here: torch takes seconds to import, and ``radir`` registers every command
    import torch

    from ..learning.batch_sharding import process_group
    from ..runs.session import show, trained_bundle

    if args.threads > 0:
        torch.set_num_threads(args.threads)
    with process_group() as ranks:
        request = _request(args, _device(args.device))
        if args.fresh and ranks.first:
            request.checkpoints.remove()
        unsaved = trained_bundle(request, ranks)
    if not ranks.first:
        return 0
    bundle = unsaved.save(args.out)
    request.checkpoints.remove()
    if args.json:
        where = {"model_id": bundle.model_id, "bundle": str(args.out), "curves": str(request.curves)}
        print(json.dumps({**where, **bundle.metrics}))
    else:
        show(bundle, args.out, request.curves)
    return 0


def _check(args: argparse.Namespace) -> None:
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise BadInput(f"training needs {', '.join(missing)}: pip install -e '.[train]' in the clone")
    _check_out(args)
    if args.data is not None and args.patients is not None:
        raise BadInput("--patients counts synthetic patients: it cannot be used with --data")
    if args.patients is not None and args.patients < 20:
        raise BadInput("a training needs at least 20 patients")
    least = {"--epochs": (args.epochs, 1), "--batch": (args.batch, 2), "--accumulate": (args.accumulate, 1)}
    for name, (value, smallest) in (least | {"--seed": (args.seed, 0), "--jobs": (args.jobs, 1)}).items():
        if value is not None and value < smallest:
            raise BadInput(f"{name} must be at least {smallest}")
    numbers = {"--minutes": args.minutes, "--checkpoint-minutes": args.checkpoint_minutes}
    for name, number in numbers.items():
        if not math.isfinite(number) or number < 0:
            raise BadInput(f"{name} must be a number of minutes")
    if args.learning_rate is not None and not 0 < args.learning_rate < 1:
        raise BadInput("--learning-rate must lie between 0 and 1")
    backbone.check(args)
    if args.start is not None and args.text_model is not None:
        raise BadInput("a bundle that --start continues keeps its text encoder: --text-model is for a new network")


def _check_out(args: argparse.Namespace) -> None:
    """Never overwrite a finished model by starting its training a second time; it may be in service."""
    if args.out.exists() and not args.out.is_dir():
        raise BadInput(f"--out {args.out} is a file: name a folder")
    if args.start is not None and args.out.resolve() == args.start.resolve():
        raise BadInput("--out is the bundle that --start continues, which is not changed: name another folder")
    if (args.out / "manifest.json").exists() and not args.replace:
        raise BadInput(f"{args.out} holds a finished bundle: name another folder, or use --replace")


def _request(args: argparse.Namespace, device: torch.device) -> TrainingRequest:
    from radir_pacs.encode import CONFIGS, Bundle
    from radir_pacs.encode.network import RadirNetwork

    from ..learning.checkpoints import Checkpoints
    from ..learning.recipe import PLAIN_HEAD
    from ..runs.session import TrainingRequest

    recipe = _recipe(args)
    name = args.config or "tiny"
    if name not in CONFIGS:
        raise BadInput(f"--config {name!r} is not one of {', '.join(CONFIGS)}")
    config, start = CONFIGS[name], None
    if args.start is not None:
        start = Bundle.load(args.start)
        if not isinstance(start.network, RadirNetwork):
            raise BadInput(
                f"{start.model_id} is an imported model: only networks that radir train made can be trained further"
            )
        config = start.network.config
        if args.config not in (None, config.name):
            raise BadInput(f"{start.model_id} has the size {config.name!r}, which --config cannot change")
        if start.kind != args.kind.upper():
            raise BadInput(f"{start.model_id} encodes {start.kind}, not {args.kind.upper()}")
    elif args.recipe in PLAIN_HEAD:
        config = replace(config, centred_head=False)
    out, program = args.out, None
    told: dict[str, Any] = {}
    if args.backbone is not None:
        program, told = backbone.opened(args, recipe)
        config = backbone.reading(program, config, args)
    recipe = backbone.unvaried(recipe, config, args)
    return TrainingRequest(
        kind=ImageKind(args.kind.upper()),
        config=config,
        recipe=recipe,
        folder=args.data,
        images=args.images,
        patients=args.patients or PATIENTS,
        cache=args.cache.expanduser(),
        jobs=args.jobs,
        start=start,
        text_model=args.text_model,
        device=device,
        checkpoints=Checkpoints(args.work or out / ".checkpoint", every_s=60 * args.checkpoint_minutes),
        curves=args.curves or out.with_name(out.name + ".curves"),
        program=b"" if program is None else program.content,
        program_told=told,
    )


def _recipe(args: argparse.Namespace) -> Recipe:
    from ..learning.recipe import RECIPES, stages

    if args.recipe not in RECIPES:
        raise BadInput(f"--recipe {args.recipe!r} is not one of {', '.join(RECIPES)}")
    recipe = replace(
        RECIPES[args.recipe],
        minutes=args.minutes,
        seed=args.seed,
        accumulate=args.accumulate,
        half_precision=not args.full_precision,
        augment=args.data is not None if args.augment == "auto" else args.augment == "on",
    )
    if args.start is not None:
        recipe = replace(recipe, learning_rate=GENTLE, muon=False)  # Muon's weight decay would erode what it knows
    given = {name: getattr(args, name) for name in ("epochs", "batch", "learning_rate", "stages")}
    recipe = replace(recipe, **{name: value for name, value in given.items() if value is not None})
    stages(recipe)
    return recipe


def _device(name: str) -> torch.device:
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise BadInput(f"--device {name!r} is not one of auto, cpu, cuda")
    if name == "cpu" or not torch.cuda.is_available():
        if name == "cuda":
            raise BadInput("there is no GPU that this torch can use")
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
