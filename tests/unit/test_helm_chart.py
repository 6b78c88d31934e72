"""The Helm chart: linted and rendered by Helm itself, and every manifest held against Kubernetes' own schemas."""

from __future__ import annotations

import dataclasses
from typing import Any

import helm_python as helm
import kubernetes_validate  # type: ignore[import-untyped,unused-ignore]
import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]

from radir_pacs import __version__
from radir_pacs.cli.roles import Role
from radir_pacs.config import Settings
from radir_pacs.monitoring import archive
from tests.services import ROOT

CHART = ROOT / "deploy" / "helm" / "radir-pacs"
EGRESS = [{"to": [{"ipBlock": {"cidr": "10.1.0.0/24"}}], "ports": [{"protocol": "TCP", "port": 5432}]}]
LEAST: dict[str, Any] = {"secret": "radir", "networkPolicy": {"egress": EGRESS}}
FULL: dict[str, Any] = LEAST | {
    "roles": {"hl7": {"enabled": True}},
    "gpu": {"enabled": True, "runtimeClassName": "nvidia"},
    "autoscaling": {"enabled": True},
    "settings": {"blob_store": "s3://x/y", "quiet_period_s": 60, "keep_tokens": False},
    "services": {"listener": {"type": "LoadBalancer"}},
    "podAnnotations": {"a": "b"},
    "home": {"existingClaim": "shared"},
}
VERSIONS = ("1.27", "1.37")


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    chart = helm.Chart.load(str(CHART))
    made = chart.render(values, name="r", namespace="radir")
    texts = [text for name, text in made.items() if name.endswith(".yaml")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


@pytest.mark.parametrize("values", [LEAST, FULL], ids=["least", "full"])
def test_helm_and_the_schemas_of_kubernetes_find_nothing(values: dict[str, Any]) -> None:
    report = helm.lint(str(CHART), values, strict=True)
    assert not report["errors"] and not [one for one in report["messages"] if one["severity"] > 1], report
    manifests = rendered(values)
    assert len(manifests) > 15
    for manifest in manifests:
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_every_pod_is_confined() -> None:
    deployments = of_kind(rendered(FULL), "Deployment")
    assert set(deployments) == {f"r-{role}" for role in Role}
    for name, deployment in deployments.items():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["args"] == ["serve", name.removeprefix("r-")] and container["resources"]["limits"]["memory"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        assert {"/tmp", "/dev/shm", "/var/lib/radir"} == {one["mountPath"] for one in container["volumeMounts"]}


def test_workers_go_where_the_gpus_are_and_grow_with_the_age_of_the_queue() -> None:
    manifests = rendered(FULL)
    worker = of_kind(manifests, "Deployment")["r-worker"]["spec"]
    pod = worker["template"]["spec"]
    assert (
        "replicas" not in worker and pod["runtimeClassName"] == "nvidia" and pod["nodeSelector"] and pod["tolerations"]
    )
    [container] = pod["containers"]
    assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 1}
    assert container["image"].endswith(":cuda")
    others = of_kind(manifests, "Deployment")["r-web"]["spec"]["template"]["spec"]
    assert "nodeSelector" not in others and others["containers"][0]["image"].endswith(":cpu")
    [scaler] = of_kind(manifests, "HorizontalPodAutoscaler").values()
    [metric] = scaler["spec"]["metrics"]
    assert metric["external"]["metric"]["selector"] == {"matchLabels": {"queue": "new"}}
    source = (ROOT / "radir_pacs" / "monitoring" / "archive.py").read_text()
    assert archive and f'"{metric["external"]["metric"]["name"]}"' in source, "the figure exists"


def test_nothing_is_reached_but_what_is_named() -> None:
    policies = of_kind(rendered(FULL), "NetworkPolicy")
    assert set(policies) == {f"r-{role}" for role in Role}
    for policy in policies.values():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert policy["spec"]["egress"][1:] == EGRESS
        assert all(rule["from"] and rule["ports"] for rule in policy["spec"]["ingress"])
    budgets = of_kind(rendered(FULL), "PodDisruptionBudget")
    assert set(budgets) == {"r-listener", "r-hl7", "r-web", "r-worker"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"networkPolicy": {"egress": EGRESS}}, "secret"),
        ({"secret": "radir"}, "networkPolicy.egress"),
        (LEAST | {"settings": {"database_url": "postgresql://a:b@c/d"}}, "is a secret"),
    ],
)
def test_what_is_missing_or_out_of_place_is_said(values: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        rendered(values)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Settings) if f.metadata["secret"]])
def test_no_secret_gets_into_the_settings(name: str) -> None:
    with pytest.raises(Exception, match=f"settings.{name} is a secret"):
        rendered(LEAST | {"settings": {name: "x"}})


def test_numbers_are_written_in_full() -> None:
    given = {"quiet_period_s": 0.5, "rate_limit": 1_000_000, "ingest_max_bytes": 20_000_000_000, "keep_tokens": True}
    data = of_kind(rendered(LEAST | {"settings": given}), "ConfigMap")["r-settings"]["data"]
    assert [data[f"RADIR_{name.upper()}"] for name in given] == ["0.5", "1000000", "20000000000", "true"]


def test_names_are_looked_up_where_the_cluster_does() -> None:
    dns = [{"to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}], "ports": [{"protocol": "UDP", "port": 53}]}]
    own = rendered(LEAST | {"networkPolicy": {"egress": EGRESS, "dns": dns}})
    for policy in of_kind(own, "NetworkPolicy").values():
        assert policy["spec"]["egress"] == dns + EGRESS


def test_a_migration_has_an_hour() -> None:
    for deployment in of_kind(rendered(LEAST), "Deployment").values():
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        probe = container["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] == 3600


def test_the_chart_belongs_to_this_release_and_its_settings_exist() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    settings = of_kind(rendered(FULL), "ConfigMap")["r-settings"]["data"]
    names = {name.removeprefix("RADIR_").lower() for name in settings}
    assert names <= vars(Settings()).keys() and settings["RADIR_QUIET_PERIOD_S"] == "60"
