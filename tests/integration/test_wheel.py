"""What `pip wheel` makes of the tree: every file that the packages need is in it, and it runs where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from radir_pacs import __version__

ROOT = Path(__file__).parents[2]
INSTALLED = {"radir_pacs": "radir_pacs", "workers": "radir_workers", "training": "radir_training"}
NEEDED = [
    *INSTALLED,
    "viewer/__init__.py",
    "viewer/py.typed",
    "viewer/component",
    "setup.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
]


def test_the_citation_names_this_version() -> None:
    """https://citation-file-format.github.io: what a reference manager reads."""
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"version: {__version__}" in lines and "license: Apache-2.0" in lines
    assert {"cff-version", "message", "title", "authors"} <= {line.partition(":")[0] for line in lines}
    assert any("arXiv:2503.04653" in line for line in lines)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy without network: an old build folder would contribute files that no longer exist."""
    if find_spec("setuptools") is None:
        pytest.skip("building a wheel without network needs setuptools")
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in NEEDED:
        source, target = ROOT / name, tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, tree)
    (found,) = out.glob("*.whl")
    return found


def run(*words: str | Path, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=280, check=False, env=environ
    )
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_holds_every_file_of_its_packages(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in INSTALLED.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    component = (ROOT / "viewer/component").rglob("*")
    wanted |= {f"radir_viewer/{path.relative_to(ROOT / 'viewer').as_posix()}" for path in component if path.is_file()}
    assert not wanted - held
    typed = {f"{package}/py.typed" for package in (*INSTALLED.values(), "radir_viewer")}
    assert typed <= held, "PEP 561: whoever imports a package gets its types"
    for kind in (".sql", ".html", ".csv", ".toml", ".css", ".js", "py.typed", ".safetensors"):
        assert any(name.endswith(kind) for name in held), kind


def test_an_installed_wheel_runs_away_from_the_tree(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, with the libraries of this one by a .pth file since there is no network."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = tmp_path / "env/lib" / version / "site-packages"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    libraries = {Path(path) for path in (sysconfig.get_path("purelib"), *sys.path) if path.endswith("-packages")}
    (packages / "libraries.pth").write_text("".join(f"{path}\n" for path in sorted(map(str, libraries))))
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RADIR", "COV"))}
    radir = tmp_path / "env/bin/radir"
    assert run(radir, "--version", environ=environ).strip() == f"radir {__version__}"
    assert "--held-out" in run(radir, "evaluate", "--help", environ=environ), "a command of another package"
    ask = "import radir_pacs.api as radir; print(radir.load_bundle(device='cpu').model_id, radir.mine('no').language)"
    assert run(python, "-P", "-c", ask, environ=environ).startswith("cxr-tiny-"), "the notebook's API, with its weights"
    where = (
        "import radir_pacs, radir_training, radir_workers, radir_viewer as v; print(radir_pacs.__file__, v.__file__)"
    )
    for file in run(python, "-P", "-c", where, environ={**environ, "PWD": str(tmp_path)}).split():
        assert Path(file).is_relative_to(packages)
