"""The model card: what a manifest says about its model, for a person who decides whether to use it.

Made from the manifest alone, word for word the same each time; it is no part of the model and of its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NOT_DIAGNOSIS = "Decision support, not diagnosis: similar cases are shown, and they may have another disease."
NOT_MEASURED = "Nothing was measured: how well it finds is not known."
HOW_TO_READ = (
    "Recall at k is the share of questions that find a case with the same findings at the region among the first k; "
    "random is what a random order would find: only what lies above it was learned."
)
NOT_SAID = "not said"
_DEEPEST = 4  # of measurements inside measurements
_IMAGES = {"CXR": "chest radiographs", "CT": "chest CT"}


def model_card(manifest: Mapping[str, Any]) -> str:
    """Markdown."""
    training, regions = manifest["training"], manifest["regions"]
    return "\n".join(
        [
            f"# {_text(manifest['model_id'])}",
            "",
            f"**{NOT_DIAGNOSIS}**",
            "",
            "Made from `manifest.json`.",
            "",
            "## Intended use",
            "",
            f"- Finding earlier {_IMAGES[manifest['kind']]} that are similar at a region, by "
            + ("one vector per region." if len(regions) > 1 else "one vector of the whole chest."),
            f"- {_text(training.get('intended_use', 'The maker of the model did not say what it is fit for.'))}",
            "",
            "## Network and input",
            "",
            *_network(manifest),
            "",
            "## Data and licence",
            "",
            f"- data: {_text(training.get('data', NOT_SAID))}",
            f"- licence: {_text(training.get('licence', NOT_SAID))}",
            *(
                f"- {_words(key)}: {_plain(value)}"
                for key, value in sorted(training.items())
                if key not in _SAID_ELSEWHERE
            ),
            "",
            "## Measured",
            "",
            *([HOW_TO_READ, "", *_measured(manifest["metrics"])] if manifest["metrics"] else [NOT_MEASURED]),
            "",
            "## Limits",
            "",
            *(f"- {line}" for line in _limits(manifest)),
            "",
            "## Regions",
            "",
            ", ".join(f"{_text(region['name'])}" for region in regions),
            "",
        ]
    )


_SAID_ELSEWHERE = frozenset({"data", "licence", "intended_use", "limits", "known_patients"})
"""``known_patients`` is for programs: a filter of some hundred kilobytes."""


def _network(manifest: Mapping[str, Any]) -> Iterator[str]:
    network, image = manifest["network"], manifest["preprocessing"]
    engine = "ONNX, from elsewhere" if network.get("engine") else "RadIR network"
    seen = network.get("appearance") or {"dim": 0}
    numbers = network["embedding_dim"] + seen["dim"]
    yield f"- {engine}, configuration {_text(network['name'])}, vectors of {numbers} numbers"
    if seen["dim"]:
        yield f"- {seen['dim']} of them from {_text(seen['backbone'])}, frozen, with {seen['share']:.0%} of a cosine"
    for stem in network.get("stems", {}).values():
        if "sha256" in stem:
            places = " x ".join(str(n) for n in stem["grid"])
            yield f"- it reads {stem['channels']} features of {places} places from a program from elsewhere, frozen"
            yield f"- the program: SHA-256 `{_text(stem['sha256'])}`"
    if tower := manifest.get("text_tower"):
        yield f"- text is read by a local {_text(tower['model']['model_type'])} model, frozen"
    size = " x ".join(str(n) for n in image["shape"])
    if image["spacing_mm"]:
        yield f"- input: {size} voxels of {' x '.join(f'{mm:g}' for mm in image['spacing_mm'])} mm, {_clip(image)} HU"
    else:
        yield f"- input: {size} pixels, letterboxed, clipped to percentiles {_clip(image)}, standardised"
    yield f"- weights: SHA-256 `{_text(manifest['weights_sha256'])}`"


def _clip(image: Mapping[str, Any]) -> str:
    low, high = image["clip"]
    return f"{low:g} to {high:g}"


def _limits(manifest: Mapping[str, Any]) -> Iterator[str]:
    said = manifest["training"].get("limits", ())
    for line in (said,) if isinstance(said, str) else said:
        yield _text(line)
    spacing = manifest["preprocessing"]["spacing_mm"]
    if spacing:
        yield f"What is smaller than a voxel of {max(spacing):g} mm is averaged away, however it was trained."
    else:
        yield f"At {max(manifest['preprocessing']['shape'])} pixels a hairline fracture cannot be seen."
    if len(manifest["regions"]) == 1:
        yield "It knows no region apart: a question about one is answered for the whole chest."
    if manifest["kind"] == "CXR":
        yield "A lateral view is not asked for regions of one side."
    if saw_synthetic_only(manifest["training"]):
        yield f"Trained on synthetic patients only; on real {_IMAGES[manifest['kind']]} nothing was measured."
    yield from _weak(manifest)
    yield "Recall on patients unlike those it was measured on is not known."


def saw_synthetic_only(training: Mapping[str, Any]) -> bool:
    """Whether every training that led to a bundle was on synthetic patients. ``training``: of its manifest."""
    told = training.get("synthetic_only")
    if told is None:  # of a training before this was written down
        return training.get("source") == "synthetic" and "began_with" not in training
    return told is True


def has_collapsed(manifest: Mapping[str, Any]) -> bool:
    """Whether its training found, at the end, that it cannot tell any two studies apart."""
    measured = manifest.get("metrics")
    found = measured.values() if isinstance(measured, Mapping) else ()
    return any(isinstance(one, Mapping) and one.get("collapsed") is True for one in found)


def _weak(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Regions at which nothing better than chance was shown, by the truth where it is known, else by the reports."""
    if has_collapsed(manifest):
        yield "**It has collapsed: it tells no two studies apart. Do not serve it.**"
    rows: dict[str, Any] = {}
    for metric in ("recall_at_5_abnormal", "recall_at_5_abnormal_true"):
        found = manifest["metrics"].get(metric)
        if not isinstance(found, Mapping):
            continue
        if isinstance(found.get("regions"), Mapping):
            rows |= found["regions"]
    weak = [_words(key) for key, row in rows.items() if isinstance(row, Mapping) and _no_better(row)]
    if weak:
        yield f"Not shown to be better than a random order at: {', '.join(weak)}."


def _no_better(row: Mapping[str, Any]) -> bool:
    """Whether the random line lies within the interval, or above the value where no interval was measured."""
    low, random = row.get("interval_95") or row.get("recall"), row.get("random")
    low = low[0] if isinstance(low, list | tuple) else low
    return isinstance(low, int | float) and isinstance(random, int | float) and low <= random


def _measured(metrics: Mapping[str, Any], title: str = "", depth: int = 0) -> list[str]:
    """Plain numbers as a list; the regions of a measurement as a table; measurements inside as sections below."""
    lines: list[str] = []
    plain = {key: value for key, value in metrics.items() if not isinstance(value, Mapping)}
    if title and (plain or "regions" in metrics):
        lines += [f"### {title}", ""]
    lines += [f"- {_words(key)}: {_figure(key, value)}" for key, value in plain.items()]
    if plain:
        lines.append("")
    for key, value in metrics.items():
        if not isinstance(value, Mapping):
            continue
        if key == "regions" and value and all(isinstance(row, Mapping) for row in value.values()):
            lines += [*_table(value), ""]
        elif depth < _DEEPEST:
            inner = _measured(value, f"{title}, {_words(key)}" if title else _words(key), depth + 1)
            lines += [*inner, ""] if inner else []
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| region | {' | '.join(_words(name) for name in columns)} |", "|---|" + "---:|" * len(columns)]
    for key, row in rows.items():
        lines.append(f"| {_words(key)} | {' | '.join(_figure(name, row.get(name, '')) for name in columns)} |")
    return lines


def _plain(value: Any) -> str:
    if value is None:
        return "too few to measure"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if 0.01 <= abs(value) < 1000 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{_words(key)} {_plain(item)}" for key, item in value.items())
    return _text(value)


def _figure(key: str, value: Any) -> str:
    if "interval" in key and isinstance(value, list | tuple) and len(value) == 2:
        return f"{_plain(value[0])} to {_plain(value[1])}"
    return _plain(value)


def _words(key: object) -> str:
    words = _text(key).replace("_", " ")
    return {"interval 95": "95 % interval"}.get(words, words)


def _text(value: object) -> str:
    """One line without table or HTML markup: a manifest may come from anywhere."""
    line = " ".join(str(value).split())
    return "".join(c for c in line if c.isprintable()).replace("|", "/").replace("<", "(").replace(">", ")")
