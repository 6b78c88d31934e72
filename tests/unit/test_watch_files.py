"""Alarms and dashboard: each figure that they name exists, and each alarm has a page that says what to do."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]
from prometheus_client import Counter, Histogram

from radir_pacs import metrics
from tests.services import need

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "radir-alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "radir.json"
PAGE = (ROOT / "docs" / "how-to" / "watch.md").read_text("utf-8")
_NAME = re.compile(r"\bradir_[a-z0-9_]+\b")
_EXPOSED = "".join((ROOT / "radir_pacs" / "monitoring" / name).read_text() for name in ("archive.py", "exposition.py"))


def counted() -> dict[str, Any]:
    return {one._name: one for one in vars(metrics).values() if getattr(one, "_name", "").startswith("radir_")}


def known() -> set[str]:
    """Every name that Prometheus finds with us."""
    names = set(re.findall(r'"(radir_[a-z0-9_]+)"', _EXPOSED))
    for name, metric in counted().items():
        if isinstance(metric, Counter):
            names.add(f"{name}_total")
        elif isinstance(metric, Histogram):
            names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            names.add(name)
    return names


def alarms() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_each_alarm_names_figures_that_exist_and_has_its_advice() -> None:
    rules = alarms()
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        names = set(_NAME.findall(rule["expr"]))
        assert names and names <= known(), (rule["alert"], names - known())
        assert rule["labels"]["severity"] in ("warning", "critical") and rule["annotations"]["summary"]
        advice = rule["annotations"]["action"]
        assert set(re.findall(r"`(Radir[A-Za-z]+)`", advice)) <= {other["alert"] for other in rules} and advice


def test_each_panel_shows_figures_that_exist() -> None:
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    shown = set()
    for panel in panels:
        (target,) = panel["targets"]
        names = set(_NAME.findall(target["expr"]))
        assert names and names <= known(), (panel["title"], names - known())
        shown |= names
    assert len({panel["id"] for panel in panels}) == len(panels)
    bases = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in shown}
    never = {"radir_disk_kept_free_bytes", "radir_job_seconds", "radir_http_request_seconds"}
    assert set(counted()) - bases <= never, "a figure that nobody sees"


def test_each_figure_is_explained() -> None:
    for name in {re.sub(r"_(bucket|sum|count)$", "", one) for one in known()} - {"radir_studies"}:
        assert f"`{name}`" in PAGE, f"docs/how-to/watch.md does not explain {name}"


def test_no_label_can_hold_what_a_peer_chooses() -> None:
    """A new label must be one of these, each of a bounded set, or be thought about."""
    bounded = {
        "outcome",
        "reason",
        "service",
        "answer",
        "method",
        "route",
        "status",
        "stage",
        "kind",
        "device",
        "engine",
        "change",
    }
    for name, metric in counted().items():
        assert set(metric._labelnames) <= bounded | {"model", "region"} and metric._labelnames, name


def test_prometheus_itself_reads_the_rules() -> None:
    done = subprocess.run([need("promtool"), "check", "rules", str(RULES)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
