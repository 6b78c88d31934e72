"""``radir retention``: how long pixels are kept, what the rules would end, and whose files stay whatever they say."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from radir_pacs import config
from radir_pacs.catalogue import Away, Catalogue, Evictable, HeldBy
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import counted, out, print_json, progress, say
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import NotFound
from radir_pacs.intake.retention import RetentionRule, RetentionRules, load_retention, retention_text
from radir_pacs.intake.sources import Sources, load_sources

_PAGE = 500
_MIB = 1 << 20


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "retention",
        help="how long pixels are kept: show the rules, explain a study, try rules, hold a study",
        description="The rules stand in a TOML file that the setting retention_file names; without one, pixels are"
        " kept. Vectors and reports stay in any case. Restart the relay and transfer after a change.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="print the rules in force, as a file to begin with")
    explain = actions.add_parser("explain", help="which rule decides on each picture of a study, and what follows")
    dry_run = actions.add_parser("dry-run", help="what the rules would end now; nothing is removed, no PACS is asked")
    hold = actions.add_parser("hold", help="keep the files of a study, whatever the rules say; 1: some are away")
    release = actions.add_parser("release", help="let the rules decide on a study again")
    holds = actions.add_parser("holds", help="studies whose files are held")
    for action in (explain, hold, release):
        action.add_argument("study", help="Study Instance UID")
    for action in (explain, dry_run):
        action.add_argument("--rules", metavar="FILE", default=None, help="other rules (default: those in force)")
    for action in (explain, dry_run, hold, release, holds):
        action.add_argument("--json", action="store_true", help="for machines")
    for action, run in (
        (show, _show),
        (explain, _explain),
        (dry_run, _dry_run),
        (hold, _hold),
        (release, _release),
        (holds, _holds),
    ):
        config.add_flags(action)
        action.set_defaults(run=run, needs_settings=True)


def _show(args: argparse.Namespace, settings: Settings) -> int:
    load_retention(settings.retention_file)
    print(retention_text(settings.retention_file), end="")
    return 0


def _explain(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    rules, sources = _rules(args, settings), load_sources(settings)
    with Catalogue.open(settings) as catalogue:
        state = catalogue.studies.get(args.study).state
        found = catalogue.disk.evictable([args.study], Away.RETENTION)
    study = next(iter(found), None)
    rows = list(_rows(study, rules, sources)) if study is not None else []
    held = list(study.held) if study is not None else []
    if args.json:
        print_json({"study": args.study, "state": state, "held": held, "pictures": rows})
        return 0
    for row in rows:
        out.print(f"{counted(row['files'], 'picture')}: rule {row['rule']}, {row['then']}", markup=False)
    if held:
        out.print(f"held, nothing goes: {', '.join(held)}", markup=False)
    elif not rows:
        out.print("none of its pictures is here that a rule may end", markup=False)
    out.print(f"the study is {state}", markup=False)
    return 0


def _rules(args: argparse.Namespace, settings: Settings) -> RetentionRules:
    return load_retention(settings.retention_file if args.rules is None else args.rules)


def _rows(study: Evictable, rules: RetentionRules, sources: Sources) -> Iterator[dict[str, Any]]:
    now = datetime.now(UTC)
    for rule, pictures in rules.by_rule(study):
        due = rule.is_due(study, now)
        lacks_source = rule.removes and rule.needs_source and sources.of(study.sites) is None
        yield {
            "rule": rule.name,
            "files": len(pictures.hashes),
            "bytes": sum(pictures.sizes),
            "due": due and not lacks_source,
            "then": _then(rule, study, due, lacks_source),
        }


def _then(rule: RetentionRule, study: Evictable, due: bool, lacks_source: bool) -> str:
    if not rule.removes:
        return "kept"
    if lacks_source:
        return "stays: no source PACS is named for its sites"
    asked = ", if the source PACS says that it has it" if rule.needs_source else ""
    if due:
        return f"goes with the next pass{asked}"
    if rule.days is not None:
        return f"goes on {study.last_instance_at + timedelta(days=rule.days):%Y-%m-%d}{asked}"
    return "stays until each model that serves or is in shadow has encoded the study"


def _dry_run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    rules, sources, now = _rules(args, settings), load_sources(settings), datetime.now(UTC)
    due: dict[str, Counter[str]] = {rule.name: Counter() for rule in rules.rules if rule.removes}
    lacking: Counter[str] = Counter()
    held: Counter[str] = Counter()
    with Catalogue.open(settings) as catalogue, progress(transient=True) as shown:
        task = shown.add_task("studies", total=sum(catalogue.figures.studies().values()))
        for study in chain.from_iterable(catalogue.disk.pages(Away.RETENTION, _PAGE)):
            shown.advance(task)
            held.update(study.held)
            has_source, lacked = sources.of(study.sites) is not None, 0
            for rule, pictures in rules.by_rule(study):
                if not rule.is_due(study, now):
                    continue
                found = {"files": len(pictures.hashes), "bytes": sum(pictures.sizes)}
                if rule.needs_source and not has_source:
                    lacking.update(found)
                    lacked = 1
                else:
                    due[rule.name].update(studies=1, **found)
            lacking.update(studies=lacked)  # once, of however many rules
    if args.json:
        named = {name: _counts(found) for name, found in due.items()}
        print_json({"due": named, "without_source": _counts(lacking), "held_studies": dict(held)})
        return 0
    for name, found in due.items():
        size = f"{found['bytes'] / _MIB:,.0f} MiB"
        out.print(
            f"rule {name}: {counted(found['files'], 'file')} of {counted(found['studies'], 'study', 'studies')}, {size}"
        )
    if not due:
        out.print("no rule ends anything: all is kept")
    if lacking["files"]:
        what = f"{counted(lacking['files'], 'file')} of {counted(lacking['studies'], 'study', 'studies')}"
        some_go = any(found["files"] for found in due.values())
        then = "nothing goes" if not some_go else "it stays" if lacking["files"] == 1 else "they stay"
        where = " for their sites" if sources else ""
        out.print(f"{what} would go, but no source PACS is named{where} (pull_url, sources_file): {then}")
    for why, count in sorted(held.items()):
        out.print(f"held ({why}): {counted(count, 'study', 'studies')}, on which no rule decides yet")
    return 0


def _counts(found: Mapping[str, int]) -> dict[str, int]:
    return {name: found.get(name, 0) for name in ("studies", "files", "bytes")}


def _hold(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        if not catalogue.retention.hold([args.study], HeldBy.PERSON, by=caller().name):
            raise NotFound(f"there is no study {args.study}")
        away = catalogue.disk.away_of(args.study)
    told = "its files stay until it is released"
    if away:
        told = f"{counted(away, 'file is', 'files are')} away already, the others stay until it is released"
    say({"study": args.study, "held": True, "away": away}, told, as_json=args.json)
    return 1 if away else 0


def _release(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        if not catalogue.retention.release(HeldBy.PERSON, study_uid=args.study):
            raise NotFound("nobody holds this study")
    say({"study": args.study, "held": False}, "the rules decide on it again", as_json=args.json)
    return 0


def _holds(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        found = catalogue.retention.holds()
    if args.json:
        print_json([{"study": one.study_uid, "why": one.why, "by": one.by, "at": one.at} for one in found])
        return 0
    for one in found:
        out.print(f"{one.study_uid}  {one.why} {one.by}, {one.at:%Y-%m-%d}", markup=False, soft_wrap=True)
    if not found:
        out.print("no study is held")
    return 0
