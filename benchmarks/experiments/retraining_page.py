"""The page of `retraining`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any


def page(told: Mapping[str, Any]) -> str:
    """Markdown. A part that was not measured says so."""
    story, curve = told["story"], told["curve"]
    parts = ["# Retraining", "## From reports to a challenger", *_story(story)]
    parts += [
        *(_story(told["also"]) if told.get("also") else []),
        "The trainer yields to everything else (nice 10), so on a machine that has other work its time says what that "
        "left it.",
        *_serving(story),
        *_throttle(story),
        *_curve(curve),
        *_left(story, curve),
    ]
    return "\n\n".join(parts) + "\n"


def _story(story: Mapping[str, Any]) -> list[str]:
    fill, runs = story.get("fill"), _runs(story)
    if not fill or not runs:
        return ["Not measured."]
    found = [
        f"{fill['patients']:,} patients of another hospital than the starter's (`radir phantom --house other`): "
        f"{fill['studies']:,} studies by C-STORE, "
        f"the reports of {fill['by_sr']} as structured reports, of the others from a table; {fill['sent_s']:.0f} s "
        f"until all were stored, {fill['indexed_s']:.0f} s until all were encoded and searchable."
    ]
    for run in runs:
        steps = {step["name"]: step for step in run["steps"]}
        trained_s = _step_s(steps.get("train"))
        training = "before any training" if trained_s is None else f"of which training {trained_s:.0f} s"
        found.append(f"`radir retrain --depth {run['depth']}`: {run['seconds']:.0f} s, {training}. {_verdict(run)}")
        if examination := run["examination"]:
            means = examination.get("means", {"regions": examination["overall"]})
            told = "; ".join(
                f"mean of the {of} {one['champion']:.3f} to {one['challenger']:.3f}, difference {_paired(one)}"
                for of, one in means.items()
            )
            found.append(
                f"Recall@5 over abnormal queries on {run['data']['held_out_patients']} held-out patients: {told}. "
                f"The regions with most queries: {_largest(examination['regions'])}."
            )
        if watched := [gate["text"] for gate in run["gates"] if gate.get("watch")]:
            found.append(
                "Passed, but to be watched, since the whole interval lies below zero: " + "; ".join(watched) + "."
            )
    return found


def _runs(story: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of the head and of the whole network."""
    return [{"depth": "head", **story[part]} for part in ("retrain", "full") if part in story]


def _largest(regions: Mapping[str, Mapping[str, Any]], count: int = 6) -> str:
    chosen = sorted(regions.values(), key=lambda one: -one["queries"])[:count]
    return "; ".join(f"{one['name']} {_paired(one)}" for one in chosen)


def _verdict(run: Mapping[str, Any]) -> str:
    if run["passed"]:
        return f"All {len(run['gates'])} gates passed."
    failed = "; ".join(f"{gate['code'].lower()}: {gate['text']}" for gate in run["gates"] if not gate["passed"])
    return f"**Refused by its gates** ({failed})." if failed else f"**Refused** ({run['reason']})."


def _step_s(step: Mapping[str, Any] | None) -> float | None:
    if not step or not step["ended_at"]:
        return None
    began, ended = (datetime.fromisoformat(str(step[name])) for name in ("started_at", "ended_at"))
    return (ended - began).total_seconds()


def _serving(story: Mapping[str, Any]) -> list[str]:
    serve = story.get("serve")
    found = ["## Encoding the archive, promotion and rollback, while a client asks"]
    if not serve:
        return [*found, "Not measured."]
    if not serve.get("passed", story["retrain"]["passed"]):
        found.append("The challenger that its gates refused was put into shadow by hand, to show this part.")
    rows = [
        ("before", "before"),
        ("while the challenger encodes from tokens", "while_encoding_from_tokens"),
        ("both answer, one of them unseen", "in_shadow"),
        ("promotion, and after it", "at_promotion"),
        ("rollback, and after it", "at_rollback"),
        ("while another model encodes from pixels", "while_encoding_from_pixels"),
    ]
    table = ["| | questions | errors | p50 ms | p99 ms | most ms |", "|---|---|---|---|---|---|"]
    for name, key in rows:
        if key in serve:
            figures = ("questions", "errors", "p50_ms", "p99_ms", "most_ms")
            table.append(" | ".join([f"| {name}", *(str(serve[key][figure]) for figure in figures)]) + " |")
    found += ["\n".join(table), *_shadow(serve.get("shadow") or [])]
    tokens = 3600 * serve["studies"] / serve["tokens_s"]
    line = f"Encoding again: {tokens:,.0f} studies per hour from kept tokens"
    if serve.get("pixels"):
        pixels = 3600 * serve["pixels"]["studies"] / serve["pixels"]["seconds"]
        line += (
            f", {pixels:,.0f} from pixels ({serve['pixels']['studies']} studies in {serve['pixels']['seconds']:.0f} s)"
        )
    found.append(
        f"{line}, beside the client on the same cores: client, web process, worker and database share them, and every "
        f"question is asked of the model in shadow as well (`shadow_share` 1). "
        f"The rollback took {serve['rollback_s']:.1f} s, the start of the "
        f"command included; of {serve['compared']} questions, {serve['same_answers']} were answered by the same model "
        "with the same cases and scores, to the last digit, as before the promotion."
    )
    return found


def _throttle(story: Mapping[str, Any]) -> list[str]:
    """Encoding again, with and without a limit."""
    if not story.get("throttle"):
        return []
    table = ["| studies per minute, at most | encoded per minute | p50 / p99 ms before | p50 / p99 ms meanwhile |"]
    table.append("|---|---|---|---|")
    for one in story["throttle"]["limits"]:
        before, during = (f"{one[when]['p50_ms']:.0f} / {one[when]['p99_ms']:.0f}" for when in ("before", "during"))
        per_minute = 60 * one["studies"] / one["seconds"]
        table.append(f"| {one['limit'] or 'no limit'} | {per_minute:,.0f} | {before} | {during} |")
    return [
        "The archive is encoded from pixels while the same client asks one question after the other; "
        "`reencode_per_minute` is the limit:",
        "\n".join(table),
    ]


def _shadow(compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the challenger answered unseen, beside the model that served."""
    return [
        f"In shadow it was asked {one['overlap']['count']} of these questions: {_mean(one['overlap'])} of the first "
        "ten cases are those of the model that served; agreement of the first ten cases' reports with the study's own "
        f"{_mean(one['serving_agreement'])} serving, {_mean(one['shadow_agreement'])} in shadow (gain "
        f"{_mean(one['agreement_gain'])}); an answer took {_mean(one['serving_ms'], 1)} ms and "
        f"{_mean(one['shadow_ms'], 1)} ms."
        for one in compared
    ]


def _mean(one: Mapping[str, Any], digits: int = 3) -> str:
    if one["mean"] is None or one["low"] is None:
        return "–"
    return f"{one['mean']:.{digits}f} ({one['low']:.{digits}f} to {one['high']:.{digits}f})"


def _curve(curve: Mapping[str, Any] | None) -> list[str]:
    found = ["## Another hospital: how much it helps, by the number of reports"]
    if not curve or not curve["runs"]:
        return [*found, "Not measured."]
    found.append(
        f"The starter trained further on so many reports of another hospital, judged on {curve['judged_images']} "
        f"radiographs of {curve['judged_patients']} held-out patients: Recall@5, mean of all abnormal queries; "
        "paired difference to the starter with its 95 % bootstrap interval over patients. Default recipe, on a machine "
        "that was busy with other work: the seconds tell the order of magnitude."
    )
    table = [
        "| depth | reports | starter | challenger | difference | gates | training s | bytes per study trained on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in curve["runs"]:
        overall, name = run["overall"], run["depth"] + (", shuffled reports" if run["shuffled"] else "")
        before, after = (f"{overall[model]:.3f}" for model in ("champion", "challenger"))
        failed = [gate for gate in run["gates"] if not gate["passed"]]
        verdict = "passed" if run["passed"] else f"refused ({len(failed)} failed)"
        table.append(
            f"| {name} | {run['reports']} | {before} | {after} | {_paired(overall)} "
            f"| {verdict} | {run['train_s']:.0f} | {run['image_bytes']:,} |"
        )
    found.append("\n".join(table))
    wrong = next((run for run in curve["runs"] if run["shuffled"]), None)
    if wrong is not None:
        found += ["A challenger trained on shuffled reports is refused, with this table:", _gates(wrong["gates"])]
    return found


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    rows = [f"| {gate['code'].lower()} | {gate['text']} |" for gate in gates if not gate["passed"]]
    return "\n".join(["| failed gate | measured and allowed |", "|---|---|", *rows])


def _paired(one: Mapping[str, Any]) -> str:
    if one["difference"] is None:
        return "–"
    low, high = one["interval_95"]
    return f"{one['difference']:+.3f} ({low:+.3f} to {high:+.3f})"


def _left(story: Mapping[str, Any], curve: Mapping[str, Any] | None) -> list[str]:
    """What nobody has measured."""
    runs = {(run["depth"], run["reports"], run["shuffled"]) for run in (curve or {}).get("runs", [])}
    missing = [
        f"{depth} on {reports} reports"
        for depth in ("head", "full")
        for reports in (100, 300, 1000)
        if (depth, reports, False) not in runs
    ]
    if ("head", 1000, True) not in runs:
        missing.append("shuffled reports")
    missing += [f"the part {part!r}" for part in ("fill", "retrain", "serve") if part not in story]
    if not any(run["passed"] for run in _runs(story)):
        missing.append(
            "the promotion of a challenger that passed its gates on the real processes, and its shadow answers"
        )
    missing += ["3,000 reports", "CT", "a GPU", "readers' thumbs of real readers"]
    elsewhere = "Real radiographs with real notes: [a page of their own](retraining-real.md)."
    return ["## Not measured", "; ".join(missing) + ".", elsewhere]
