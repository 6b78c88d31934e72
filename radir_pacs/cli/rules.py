"""``radir rules``: what is encoded, why a study is or is not, and what other rules would change."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain
from typing import Any

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.output import counted, out, print_json, progress
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.dicom.eligibility import plan_study
from radir_pacs.dicom.rules import Rules, facts_of, load_rules, rules_text
from radir_pacs.errors import Skipped
from radir_pacs.printable import printable
from radir_pacs.types import InstanceHeader

_LISTED = 20
_PAGE = 500  # studies asked for at a time


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "rules",
        help="what is encoded, and why: show, explain a study, try other rules on the archive",
        description="The rules for what is encoded stand in a TOML file that the setting rules_file names, or are the"
        " built-in ones. Workers read them when they start.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="print the rules in force, as a file to begin with")
    explain = actions.add_parser("explain", help="which rule decides on each series of a study, and what follows")
    explain.add_argument("study", help="Study Instance UID")
    explain.add_argument("--rules", metavar="FILE", help="by other rules (default: those in force)")
    dry_run = actions.add_parser("dry-run", help="what other rules would change in the archive; nothing is changed")
    dry_run.add_argument("--rules", metavar="FILE", default="", help="the other rules (default: the built-in ones)")
    for action in (explain, dry_run):
        action.add_argument("--json", action="store_true", help="for machines")
    for action, run in ((show, _show), (explain, _explain), (dry_run, _dry_run)):
        config.add_flags(action)
        action.set_defaults(run=run, needs_settings=True)


def _show(args: argparse.Namespace, settings: Settings) -> int:
    load_rules(settings.rules_file)
    print(rules_text(settings.rules_file), end="")
    return 0


def _explain(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    rules = load_rules(settings.rules_file if args.rules is None else args.rules)
    with Catalogue.open(settings) as catalogue:
        state = catalogue.studies.get(args.study)
        headers = [header for header, _ in catalogue.instances.headers_of(args.study)]
    series = _by_rule(headers, rules)
    outcome, kinds = _outcome(headers, rules)
    if args.json:
        print_json({"study": args.study, "state": state.state, "outcome": outcome, "kinds": kinds, "series": series})
        return 0
    for one in series:
        stated = ", ".join(f"{key} {said}" for key, said in one["facts"].items() if said not in (None, "", [], ()))
        what = f"{counted(one['images'], 'image')}: rule {one['rule']}, {'encode' if one['encode'] else 'skip'}"
        out.print(f"{what}  ({printable(stated)})", markup=False, soft_wrap=True)
    out.print(f"by the rules: {outcome}; the study is {state.state}", markup=False, soft_wrap=True)
    return 0


def _by_rule(headers: Iterable[InstanceHeader], rules: Rules) -> list[dict[str, Any]]:
    """Images of one series that are alike to the rules, with the rule that decides."""
    groups: Counter[tuple[str, Any, Any]] = Counter()
    for header in headers:
        groups[header.series_uid, facts_of(header), rules.of(header).name] += 1
    encodes = {rule.name: rule.encode for rule in rules.rules}
    return [
        {
            "series": series_uid,
            "images": count,
            "facts": asdict(facts),
            "rule": name,
            "encode": encodes.get(name, False),
        }
        for (series_uid, facts, name), count in groups.items()
    ]


def _outcome(headers: Iterable[InstanceHeader], rules: Rules) -> tuple[str, list[str]]:
    """ "encode" with the kinds of image, or the reason code and words; what only decoding shows is not known here."""
    try:
        plan = plan_study(headers, rules)
    except Skipped as skipped:
        return f"{skipped.reason_code}: {skipped}", []
    return "encode", [str(kind) for kind in plan.candidates]


def _dry_run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    now, then = load_rules(settings.rules_file), load_rules(args.rules)
    changes: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[str]] = {}
    studies = 0
    with Catalogue.open(settings) as catalogue, progress(transient=True) as shown:
        total = sum(catalogue.figures.studies().values())
        task = shown.add_task("studies", total=total)
        pages = map(catalogue.instances.headers_of_each, catalogue.studies.uid_pages(_PAGE))
        for study_uid, headers in chain.from_iterable(pages):
            change = _word(headers, now), _word(headers, then)
            studies += 1
            shown.advance(task)
            if change[0] != change[1]:
                changes[change] += 1
                examples.setdefault(change, []).append(study_uid)
                del examples[change][_LISTED:]
    if args.json:
        found = [
            {"now": change[0], "then": change[1], "studies": count, "examples": examples[change]}
            for change, count in changes.most_common()
        ]
        print_json({"studies": studies, "changes": found})
        return 0
    for change, count in changes.most_common():
        out.print(f"{counted(count, 'study', 'studies')}: {change[0]} -> {change[1]}, as {examples[change][0]}")
    out.print(f"{counted(changes.total(), 'study', 'studies')} of {studies} would change")
    if changes:
        out.print("after a change of rules_file: restart the workers, then radir problems retry --reason CODE for what")
        out.print("was skipped; what is encoded stays so until an instance of its study comes or changes")
    return 0


def _word(headers: Iterable[InstanceHeader], rules: Rules) -> str:
    """ "encode CXR", or the reason code."""
    outcome, kinds = _outcome(headers, rules)
    return " ".join(["encode", *kinds]) if kinds else outcome.partition(":")[0]
