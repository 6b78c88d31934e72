"""One frozen settings object; the only reader of the environment.

A value comes from the first of these that has one: a command-line flag, the environment (``RADIR_`` + upper-case
name), a TOML file (``--config``, else ``radir.toml`` in the home folder), the default. A wrong value stops the start
with a message that names it.
"""

from __future__ import annotations

import argparse
import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from radir_pacs.errors import SettingError

ENV_PREFIX = "RADIR_"
DEFAULT_HOME = Path("~/.local/share/radir")
SIDEBAR_SHOWS = frozenset({"patient", "age", "sex", "date", "report", "whole_report"})
_DESTINATION = re.compile(r"[^@\\]{1,16}@[^@]+:(?P<port>[0-9]{1,5})")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(?::[0-9]{1,2})?")
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
DAY_S = 86_400.0
CHARACTER_SETS = (  # defined terms without code extensions (PS3.3 C.12.1.1.2)
    *(f"ISO_IR {number}" for number in (100, 101, 109, 110, 144, 127, 126, 138, 148, 13, 166, 192)),
    "GB18030",
    "GBK",
)
_MOST_MIB = 1 << 20
_MOST_LISTENER_PROCESSES = 4  # unless set
_CORES_A_WEB_PROCESS, _MOST_WEB_PROCESSES = 2, 4  # unless set
_TOKEN_CHARACTERS = 16  # fewer could be guessed


def _setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "choices": choices, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. ``docs/reference/settings.md`` is generated from this class; a test keeps it up to date."""

    home: Path = _setting(DEFAULT_HOME, "Folder of all state: database, blobs, index, logs.")
    database_url: str = _setting("", "Postgres to use; empty starts the embedded one in the home folder.", secret=True)
    broker_url: str = _setting("", "Celery broker; empty uses pgmq inside the same Postgres.", secret=True)
    log_level: str = _setting("INFO", "Least severe log line written.", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    log_to: str = _setting(
        "files",
        "Where processes write their logs: files in the home folder, each cut at 20 MiB with one older copy (files), or"
        " standard error, which journald or a container keeps (stderr).",
        choices=("files", "stderr"),
    )
    drain_s: float = _setting(
        15.0,
        "Seconds that associations, requests and jobs in hand get to end when their process is told to stop.",
        low=0,
        high=3600,
    )
    monitor_host: str = _setting(
        "127.0.0.1",
        "Address of /health/live, /health/ready and /metrics of what one 'radir serve' runs; beyond loopback, /metrics"
        " needs the token of an administrator or a service.",
    )
    monitor_port: int = _setting(0, "Port of these three; 0: there is none.", low=0, high=65535)

    ae_title: str = _setting("RADIR", "Our application entity title.")
    listener_host: str = _setting("127.0.0.1", "Address the DICOM listener binds.")
    listener_port: int = _setting(11112, "Port of the DICOM listener.", low=1, high=65535)
    listener_processes: int = _setting(
        0,
        "Listener processes that share the port; 0 means one per core, at most four.",
        low=0,
        high=16,
    )
    check_called_ae: bool = _setting(False, "Refuse associations that do not call our AE title.")
    calling_ae_titles: tuple[str, ...] = _setting(
        (),
        "AE titles that may call from anywhere, beside the peers of `radir peers`; while nobody is named by either,"
        " this machine alone may call.",
    )
    listener_plain: bool = _setting(True, "Whether the DICOM listener also serves without TLS; off needs TLS.")
    listener_tls_port: int = _setting(0, "Port of the DICOM listener for TLS; 0: there is none.", low=0, high=65535)
    listener_tls_certificate: str = _setting(
        "", "File of the DICOM listener's TLS certificate with its chain (PEM); read again when it changes."
    )
    listener_tls_key: str = _setting("", "File of its private key (PEM); empty: it is in the certificate's file.")
    listener_tls_client_ca: str = _setting(
        "", "File of the authorities (PEM) that a peer's own certificate must come from; empty asks for none."
    )
    listener_max_associations: int = _setting(
        20, "Associations at once, per process; one address may hold three quarters of them.", low=1, high=500
    )
    listener_idle_s: float = _setting(
        60.0, "Seconds without a message before an association is ended.", low=1, high=DAY_S
    )
    listener_association_s: float = _setting(3600.0, "Seconds an association may last at most.", low=1, high=DAY_S)
    commitment_destinations: tuple[str, ...] = _setting(
        (),
        "Where results of storage commitment are sent on an association of our own, AET@host:port each; a peer that is"
        " not listed gets them on its own association.",
    )
    lut_shape_senders: tuple[str, ...] = _setting(
        (),
        "AE titles of senders whose Presentation LUT Shape is followed where it contradicts Photometric Interpretation;"
        " for all others Photometric Interpretation decides whether a radiograph is inverted.",
    )
    max_instance_mib: int = _setting(2048, "Largest instance accepted, MiB.", low=1, high=_MOST_MIB)
    blob_store: str = _setting(
        "", "Where DICOM files are kept: s3://bucket/prefix, or empty for the home folder. All processes must agree."
    )
    blob_cache_mib: int = _setting(
        20_480, "With blob_store: what the home folder keeps of the files used lately, MiB.", low=256, high=1 << 26
    )
    s3_endpoint: str = _setting(
        "", "URL of the S3 server; empty: AWS. http:// only on a network that nobody else reads."
    )
    s3_region: str = _setting("", "Region of the bucket; empty: us-east-1.")
    s3_access_key_id: str = _setting("", "Access key for S3; empty takes AWS's own ways (a role of the machine).")
    s3_secret_access_key: str = _setting("", "Its secret.", secret=True)
    backup_key: str = _setting(
        "",
        "File of the key that backups are encrypted with; 'radir backup --make-key' makes it. Empty: not encrypted.",
    )
    min_free_disk_mib: int = _setting(512, "Free space, MiB, below which nothing more is stored.", low=0)
    disk_budget_mib: int = _setting(
        0,
        "Most that the DICOM files may take, MiB, as the sweep counts them; beyond it nothing more is stored. 0: any.",
        low=0,
    )
    evict_files: bool = _setting(
        False,
        "When the disk, or the budget, is used up to evict_above, remove the oldest files of indexed studies that the"
        " PACS of pull_url says it has, down to evict_below. Whoever opens such a study has it pulled again.",
    )
    evict_above: float = _setting(0.9, "Share of the disk or the budget from which files make room.", low=0.01, high=1)
    evict_below: float = _setting(0.8, "Share of it down to which they do.", low=0.01, high=1)
    quiet_period_s: float = _setting(
        30.0, "Seconds without a new instance before a study counts as complete.", low=0.1, high=DAY_S
    )

    hl7_host: str = _setting("127.0.0.1", "Address the HL7 listener binds.")
    hl7_port: int = _setting(0, "Port of the HL7 listener (MLLP); 0: there is none.", low=0, high=65535)
    hl7_hosts: tuple[str, ...] = _setting(
        (), "Addresses or networks, besides this machine, from which HL7 messages are taken; empty admits no other."
    )
    hl7_senders: tuple[str, ...] = _setting(
        (),
        "Sending applications that are heard, as APPLICATION or APPLICATION|FACILITY (MSH-3, MSH-4); empty hears all"
        " that hl7_hosts admits.",
    )
    hl7_issuer: str = _setting(
        "", "Issuer of Patient ID that is meant where a message names no assigning authority (PID-3.4)."
    )
    hl7_max_message_mib: int = _setting(16, "Largest HL7 message accepted, MiB.", low=1, high=256)
    hl7_max_connections: int = _setting(
        64, "HL7 connections at once; one address may hold three quarters of them.", low=1, high=10_000
    )
    hl7_idle_s: float = _setting(
        3600.0, "Seconds without a message before an HL7 connection is ended.", low=1, high=7 * DAY_S
    )
    hl7_message_s: float = _setting(60.0, "Seconds within which an HL7 message must arrive.", low=0.1, high=3600)
    hl7_tls_certificate: str = _setting(
        "", "File of the HL7 listener's TLS certificate with its chain (PEM); empty: without TLS."
    )
    hl7_tls_key: str = _setting("", "File of its private key (PEM); empty: it is in the certificate's file.")
    hl7_tls_client_ca: str = _setting(
        "", "File of the authorities (PEM) that a sender's own certificate must come from; empty asks for none."
    )
    report_wait_days: float = _setting(
        90.0, "Days that a report without its study is kept waiting for it.", low=0.01, high=3650
    )

    fhir_client_id: str = _setting(
        "", "Our client id at the FHIR server's authorization server (SMART Backend Services); empty asks for no token."
    )
    fhir_client_key: str = _setting(
        "", "File of the private key (PEM or JWK) that signs our requests for tokens; 'radir fhir-key' makes it."
    )
    fhir_scope: str = _setting(
        "system/DiagnosticReport.rs system/Patient.rs system/ServiceRequest.rs system/ImagingStudy.rs",
        "Scopes asked for with a token; servers of SMART 1 write .read instead of .rs.",
    )

    fallback_character_set: str = _setting(
        "ISO_IR 100",
        "Specific Character Set for text that names none or a wrong one; text that is valid UTF-8 is read as UTF-8.",
        choices=CHARACTER_SETS,
    )
    corrected_headers: str = _setting(
        "replace",
        "What happens when an instance comes again with the same pixels and another header: its header replaces the"
        " first one (replace), or the first one counts and the later file is kept beside it (aside).",
        choices=("replace", "aside"),
    )

    web_host: str = _setting("127.0.0.1", "Address the web service binds.")
    web_port: int = _setting(8042, "Port of the web service.", low=1, high=65535)
    web_processes: int = _setting(
        0,
        "Web processes that share the port; 0 means one for every two cores, at least one and at most four.",
        low=0,
        high=16,
    )
    web_threads: int = _setting(8, "Threads of each web process.", low=1, high=256)
    web_public_url: str = _setting("", "URL at which others reach the web service; empty means http://host:port.")
    api_tokens: tuple[str, ...] = _setting(
        (),
        "Tokens that may call the web service, as bearer or, from a browser, as the password of HTTP Basic with any"
        " user name; each of at least 16 characters. Required unless the service binds to loopback.",
        secret=True,
    )
    cors_origins: tuple[str, ...] = _setting(
        (), "Origins whose pages may call the DICOMweb service, such as https://viewer.example; empty admits none."
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "Addresses or networks of reverse proxies whose Forwarded and X-Forwarded-Proto, -Host and -Prefix headers are"
        " trusted; the URLs in answers follow them.",
    )
    max_request_mib: int = _setting(1024, "Largest request body of the web service, MiB.", low=1, high=_MOST_MIB)
    result_limit: int = _setting(10, "Similar cases in an answer when the request gives no limit.", low=1)
    result_limit_max: int = _setting(200, "Most similar cases in one answer, whatever the request asks for.", low=1)
    qido_limit_max: int = _setting(
        5000,
        "Most rows of one QIDO-RS answer, also for requests without a limit; use offset for the rest.",
        low=1,
        high=100_000,
    )
    index_memory_mib: int = _setting(
        8192,
        "Memory of a web process for the index, MiB; the regions asked least recently leave it first.",
        low=0,
        high=_MOST_MIB,
    )
    min_cases: int = _setting(5, "A region with fewer cases than this is answered by its parent region.", low=1)

    worker_processes: int = _setting(
        1, "Processes that encode studies; one per GPU, since one keeps a GPU busy.", low=1, high=64
    )
    device: str = _setting(
        "auto",
        "Where the network runs: auto, cpu, mps, cuda, or one GPU by its number, as cuda:1. auto spreads the processes"
        " over the GPUs.",
    )
    precision: str = _setting(
        "auto",
        "Whether the network computes in half precision where that suffices (mixed) or never (full); auto: on CUDA.",
        choices=("auto", "mixed", "full"),
    )
    readers: int = _setting(
        0,
        "Studies that one encoding process has read at once, each by a process of its own; 0 takes one per core, as far"
        " as memory holds.",
        low=0,
        high=64,
    )
    models: tuple[str, ...] = _setting(
        (),
        "Bundle folders, one per image kind; empty takes the shipped ones. The first model of a kind serves at once; a"
        " later one is encoded beside it (SHADOW) and answers once it is promoted.",
    )
    model_coverage: float = _setting(
        1.0, "Share of the studies that a model must have encoded before it may be promoted.", low=0, high=1
    )
    promote_when_covered: bool = _setting(
        False, "Promote a model in shadow by itself as soon as it may be; off leaves that to a person."
    )
    model_rollback_days: float = _setting(
        30.0,
        "Days for which a replaced model is kept ready for a rollback: its encodings, its index, its bundle. It encodes"
        " new studies for so long.",
        low=0,
        high=3650,
    )
    reencode_per_minute: float = _setting(
        0.0,
        "Studies of the archive that are encoded in a minute, at most, by a model that does not answer; 0: as many as"
        " there is time for.",
        low=0,
    )
    shadow_share: float = _setting(
        0.1, "Share of the questions that are also asked of the model in shadow, unseen.", low=0, high=1
    )
    off_peak_hours: str = _setting(
        "22-5",
        "Hours of the day, local time, in which what can wait begins: scheduled retrainings, the weekly look at"
        " quality.",
    )
    retrain_every_days: float = _setting(
        0.0,
        "Retrain each model that serves every so many days, in off-peak hours; 0: never by itself.",
        low=0,
        high=3650,
    )
    retrain_plan: str = _setting("", "The plan (TOML) of scheduled retrainings; empty means the defaults.")
    quality_weekly: bool = _setting(
        True, "Once a week, in off-peak hours, measure how well the models that serve still do (`radir quality`)."
    )
    quality_drop: float = _setting(
        0.05,
        "How much a week's agreement may fall, or regions answered by parents may rise, before it is a notice.",
        low=0,
        high=1,
    )
    quality_drift: float = _setting(
        0.05, "How far a scanner's vectors may drift from those of the training before it is a notice.", low=0, high=4
    )
    retraining_keep_days: float = _setting(
        7.0,
        "Days for which a retraining that failed or stopped keeps its work (checkpoints, and for the depth full the"
        " prepared pixels) for `radir retrain --resume`; later it begins anew.",
        low=0,
        high=365,
    )
    transfer_threads: int = _setting(
        4, "Pulls and report transfers at once; one thread is always reserved for reports.", low=2, high=64
    )
    torch_threads: int = _setting(0, "Threads of one network pass; 0 lets torch choose.", low=0)
    keep_tokens: bool = _setting(
        True,
        "Keep the image tokens of each study (16 KiB with the smallest network): a head is retrained on them, and the"
        " archive is encoded again without a pixel.",
    )
    job_lease_s: float = _setting(60.0, "Seconds a worker owns a job without a heartbeat.", low=1, high=DAY_S)
    job_longest_s: float = _setting(
        3600.0, "Seconds a job may run before its worker counts as hung and is replaced.", low=1, high=7 * DAY_S
    )
    job_max_attempts: int = _setting(3, "Attempts before a job counts as failed.", low=1, high=100)
    relay_interval_s: float = _setting(0.5, "Seconds between two rounds of the relay.", low=0.05, high=60)
    decode_timeout_s: float = _setting(60.0, "Seconds one file may take to decode.", low=1, high=DAY_S)
    decode_memory_mib: int = _setting(4096, "Memory the decoding child may take, MiB.", low=256, high=_MOST_MIB)

    sr_other_uids: bool = _setting(
        True, "Reports name the UIDs of similar cases; off keeps only rank, score and findings."
    )
    sr_comprehensive_3d: bool = _setting(True, "Comprehensive 3D SR; off writes Comprehensive SR for old PACS.")

    pull_url: str = _setting(
        "", "DICOMweb service root of the PACS from which studies are pulled by reference; empty pulls none."
    )
    pull_authorization: str = _setting("", "Authorization header that this PACS requires.", secret=True)
    pull_max_mib: int = _setting(16_384, "Most bytes that one pull takes from the PACS, MiB.", low=1, high=_MOST_MIB)
    pull_least_kib_s: float = _setting(
        16.0, "Least speed of a pull, KiB per second; one that is slower for 15 s is given up, 0 waits.", low=0
    )
    pull_deadline_s: float = _setting(1800.0, "Seconds that one pull may take.", low=1, high=DAY_S)
    rules_file: str = _setting(
        "",
        "TOML file of the rules for what is encoded; empty takes the built-in ones, which 'radir rules show' prints.",
    )
    return_destination: str = _setting(
        "", "Where 'Save to PACS' sends structured reports, AET@host:port; empty keeps them here."
    )
    return_timeout_s: float = _setting(10.0, "Seconds that one attempt to send a report may take.", low=1, high=600)
    return_attempts: int = _setting(
        10,
        "Attempts to send a report, after 2, 4, 8 … seconds; the tenth is 17 minutes after the first.",
        low=1,
        high=20,
    )

    sidebar_shows: tuple[str, ...] = _setting(
        ("patient", "age", "sex", "date", "report"),
        "What the sidebar and the list of studies show: names of patients in the list and of the patient being read"
        " (patient), and of similar cases age, sex, date (as an offset in days), what the report says of the region"
        " (report), and beside it the whole report as it was written, with any names in it (whole_report).",
    )
    sidebar_context_tokens: bool = _setting(
        False, "The sidebar page opens with a token that the PACS requested, never with identifiers in its URL."
    )
    sidebar_context_s: float = _setting(
        3600.0, "Seconds for which such a token opens the sidebar.", low=1, high=7 * DAY_S
    )
    ohif_folder: str = _setting(
        "", "The dist folder of the OHIF to serve; empty means where 'radir viewer install' puts it."
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "home", _expanded(self.home).resolve())
        for f in fields(self):
            _check(f, getattr(self, f.name))
        for name, titles in (
            ("ae_title", (self.ae_title,)),
            ("calling_ae_titles", self.calling_ae_titles),
            ("lut_shape_senders", self.lut_shape_senders),
        ):
            for title in titles:
                _check_ae_title(name, title)
        if not _DEVICE.fullmatch(self.device):
            raise SettingError(f"device: {self.device!r} is none of auto, cpu, mps, cuda, cuda:0, cuda:1 …")
        if self.web_host not in LOOPBACK and not self.api_tokens:
            raise SettingError(f"api_tokens: needed when web_host is {self.web_host!r}, which others can reach")
        if any(len(token) < _TOKEN_CHARACTERS for token in self.api_tokens):
            raise SettingError(f"api_tokens: a token is shorter than {_TOKEN_CHARACTERS} characters")
        if self.web_public_url and not self.web_public_url.startswith(("http://", "https://")):
            raise SettingError(f"web_public_url: {self.web_public_url!r} does not begin with http:// or https://")
        if self.evict_files and not self.pull_url:
            raise SettingError(
                "pull_url: needed with evict_files, files are removed only where they can be pulled again"
            )
        if self.evict_below > self.evict_above:
            raise SettingError("evict_below: more than evict_above, files would never be enough")
        if self.listener_tls_port and not self.listener_tls_certificate:
            raise SettingError("listener_tls_certificate: needed with listener_tls_port")
        if not self.listener_plain and not self.listener_tls_port:
            raise SettingError("listener_tls_port: needed when listener_plain is off: nothing could be sent here")
        if self.fhir_client_id and not self.fhir_client_key:
            raise SettingError("fhir_client_key: needed with fhir_client_id")
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise SettingError(f"cors_origins: {origin!r} is not of the form https://host or https://host:port")
        for name, networks in (("trusted_proxies", self.trusted_proxies), ("hl7_hosts", self.hl7_hosts)):
            for network in networks:
                _check_network(name, network)
        for name, destinations in (
            ("return_destination", (self.return_destination,)),
            ("commitment_destinations", self.commitment_destinations),
        ):
            for text in destinations:
                destination = _DESTINATION.fullmatch(text)
                if text and not (destination and 0 < int(destination["port"]) < 65_536):
                    raise SettingError(f"{name}: {text!r} is not of the form AET@host:port")
        hours_of(self.off_peak_hours)
        unknown = sorted(set(self.sidebar_shows) - SIDEBAR_SHOWS)
        if unknown:
            raise SettingError(f"sidebar_shows: {unknown[0]!r} is not one of {', '.join(sorted(SIDEBAR_SHOWS))}")

    @property
    def ohif_dist(self) -> Path:
        """The dist folder of OHIF, which may be absent."""
        return Path(self.ohif_folder).expanduser() if self.ohif_folder else self.home / "viewer" / "ohif"

    @property
    def listener_process_count(self) -> int:
        """How many listener processes there are on this machine."""
        return self.listener_processes or min(os.cpu_count() or 1, _MOST_LISTENER_PROCESSES)

    @property
    def web_process_count(self) -> int:
        """How many web processes there are on this machine."""
        cores = os.cpu_count() or 1
        return self.web_processes or min(max(cores // _CORES_A_WEB_PROCESS, 1), _MOST_WEB_PROCESSES)

    @property
    def public_url(self) -> str:
        return (self.web_public_url or f"http://{self.web_host}:{self.web_port}").rstrip("/")


def hours_of(written: str) -> tuple[int, int]:
    """From an hour, to an hour that is not in it any more; 22-5 goes past midnight. Raises SettingError."""
    found = re.fullmatch(r"(\d{1,2})-(\d{1,2})", written)
    hours = (int(found[1]), int(found[2])) if found else (24, 24)
    if max(hours) > 24 or hours[0] > 23:
        raise SettingError(f"off_peak_hours: {written!r} is not of the form 22-5")
    return hours


def _check_network(name: str, written: str) -> None:
    try:
        ipaddress.ip_network(written, strict=False)
    except ValueError:
        raise SettingError(f"{name}: {written!r} is not an IP address or network") from None


def _expanded(folder: Path | str) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError:  # no HOME, and a user id without a name
        raise SettingError("home: this user has no home folder; name a folder by --home or RADIR_HOME") from None


def _check_ae_title(name: str, title: str) -> None:
    if not 1 <= len(title.strip()) <= 16 or "\\" in title or not title.isascii() or not title.isprintable():
        raise SettingError(f"{name}: {title!r} is not an AE title (PS3.5 6.2: 1 to 16 characters, no backslash)")


def _check(f: Field[Any], value: Any) -> None:
    low, high, choices = (f.metadata[k] for k in ("low", "high", "choices"))
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingError(f"{f.name}: {value} is not a number to work with")
    if isinstance(value, tuple) and any(not part or "," in part or part != part.strip() for part in value):
        # Child processes get it as one comma-separated text, which must not yield an empty token or split one in two.
        raise SettingError(f"{f.name}: one of its values is empty, holds a comma or has spaces around it")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise SettingError(f"{f.name}: {value} is out of bounds, {bounds} is allowed")
    if choices and value not in choices:
        raise SettingError(f"{f.name}: {value!r} is not one of {', '.join(choices)}")


_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError("neither true nor false")


def _folder(text: str) -> Path:
    if not text.strip():
        raise ValueError("Path('') would be the current folder")
    return Path(text)


_EMPTY_MEANS_SOMETHING = frozenset({"str", "tuple[str, ...]"})
_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "Path": _folder,
    "bool": _boolean,
    "tuple[str, ...]": lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
}


def _parsed(f: Field[Any], value: Any, source: str) -> Any:
    """Turn what a source holds (text, or a TOML value) into the field's type."""
    kind = str(f.type)
    try:
        if kind == "tuple[str, ...]" and isinstance(value, list):
            return tuple(str(part) for part in value)
        if isinstance(value, bool) and kind != "bool":
            raise ValueError("not a boolean setting")
        return _PARSERS[kind](str(value))
    except ValueError:
        shown = "the value" if f.metadata["secret"] else repr(value)
        raise SettingError(f"{f.name}: {shown} from {source} is not of type {kind}") from None


_SETTINGS_TITLE = "settings (each also RADIR_NAME in the environment, name in radir.toml)"
_SHOWN = frozenset({"home"})  # settings that every --help shows


def add_flags(parser: argparse.ArgumentParser, only: Collection[str] = ()) -> None:
    """Give the parser one flag per setting, and ``--config``; ``only``: the settings that the command uses, where it
    uses few.

    ``--help`` shows few of them, so that the command's own flags stand out; ``--help-settings`` shows all. Every user
    of the machine can read a flag in the process list, so a secret is given by a file.
    """
    group = parser.add_argument_group(_SETTINGS_TITLE)
    _add_settings(group, only, shown=only or _SHOWN)
    if not only:
        group.add_argument("--help-settings", action=_HelpSettings, help="show all settings and exit")


def _add_settings(group: argparse._ActionsContainer, only: Collection[str], shown: Collection[str]) -> None:
    group.add_argument("--config", metavar="FILE", help="TOML file of settings", default=None)
    for f in fields(Settings):
        if only and f.name not in only:
            continue
        flag = "--" + f.name.replace("_", "-")
        group.add_argument(
            flag,
            dest="setting_" + f.name,
            default=None,
            metavar=str(f.type).split("[")[0].upper(),
            help=f.metadata["doc"] if f.name in shown else argparse.SUPPRESS,
        )
        if f.metadata["secret"]:
            told = f"File that holds {f.name}, which is refused as a flag where it holds a secret."
            group.add_argument(
                flag + "-file",
                dest=f"setting_{f.name}_file",
                default=None,
                metavar="FILE",
                help=told if f.name in shown else argparse.SUPPRESS,
            )


class _HelpSettings(argparse.Action):
    """``--help-settings``: every setting, which would bury the command's own flags in ``--help``."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> NoReturn:
        usage = f"{parser.prog} [--SETTING VALUE ...]"
        settings = argparse.ArgumentParser(parser.prog, usage=usage, add_help=False)
        _add_settings(settings.add_argument_group(_SETTINGS_TITLE), (), {f.name for f in fields(Settings)})
        settings.print_help()
        parser.exit()


def _toml(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingError(f"config: there is no file {path}") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"config: {path} cannot be read: {error}") from None


def _flag(f: Field[Any], args: argparse.Namespace | None) -> str | None:
    """The value of a setting on the command line. Raises SettingError for a secret: everybody could read it there."""
    said: str | None = getattr(args, "setting_" + f.name, None)
    if said is not None and f.metadata["secret"] and _shows_secret(f.name, said):
        flag = f.name.replace("_", "-")
        raise SettingError(
            f"{f.name}: as a flag, every user of this machine can read it; give it by --{flag}-file FILE,"
            f" {ENV_PREFIX}{f.name.upper()} or radir.toml"
        )
    path: str | None = getattr(args, f"setting_{f.name}_file", None)
    if path is None:
        return said
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{f.name}: {path} cannot be read: {error}") from None


def _shows_secret(name: str, text: str) -> bool:
    """URLs are secret because of the password they may hold."""
    return not name.endswith("_url") or "password" in text.lower() or bool(re.search(r"://[^/@]*:[^/@]*@", text))


def load(args: argparse.Namespace | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings from flags, environment, TOML file and defaults. Raises SettingError naming the culprit."""
    env = os.environ if environ is None else environ
    flags = {f.name: _flag(f, args) for f in fields(Settings)}
    home = flags["home"] or env.get(ENV_PREFIX + "HOME", "").strip() or str(Settings.home)
    named = getattr(args, "config", None) or env.get(ENV_PREFIX + "CONFIG")
    path = Path(named) if named else _expanded(home) / "radir.toml"
    from_file = _toml(path, required=bool(named))
    known = {f.name: f for f in fields(Settings)}
    for name in from_file:
        if name not in known:
            raise SettingError(f"{name}: unknown setting in {path}")
    for name in env:
        setting = name.removeprefix(ENV_PREFIX).lower()
        if (
            name.startswith(ENV_PREFIX)
            and setting not in known
            and setting != "config"
            and not setting.startswith(("test_", "demo_"))
        ):
            raise SettingError(f"{name}: unknown setting in the environment")
    values: dict[str, Any] = {}
    for name, f in known.items():
        if flags[name] is not None:
            values[name] = _parsed(f, flags[name], "the command line")
        elif _is_set(f, env.get(ENV_PREFIX + name.upper())):
            values[name] = _parsed(f, env[ENV_PREFIX + name.upper()], f"{ENV_PREFIX}{name.upper()}")
        elif name in from_file:
            values[name] = _parsed(f, from_file[name], str(path))
    return Settings(**values)


def _is_set(f: Field[Any], text: str | None) -> bool:
    """An empty variable, as compose files pass on one that is not set, leaves the default; of text it is a value."""
    return text is not None and (bool(text.strip()) or str(f.type) in _EMPTY_MEANS_SOMETHING)


def to_environment(settings: Settings) -> dict[str, str]:
    """The environment that gives a child process these same settings."""
    shown = {}
    for f in fields(Settings):
        value = getattr(settings, f.name)
        shown[ENV_PREFIX + f.name.upper()] = ",".join(value) if isinstance(value, tuple) else str(value)
    return shown
