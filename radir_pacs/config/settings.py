"""The settings: their names, defaults, bounds and words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .checks import check
from .declaring import expanded, setting

DEFAULT_HOME = Path("~/.local/share/radir")
DAY_S = 86_400.0
CHARACTER_SETS = (  # defined terms without code extensions (PS3.3 C.12.1.1.2)
    *(f"ISO_IR {number}" for number in (100, 101, 109, 110, 144, 127, 126, 138, 148, 13, 166, 192)),
    "GB18030",
    "GBK",
)
_MOST_MIB = 1 << 20
_MOST_LISTENER_PROCESSES = 4  # unless set
_CORES_A_WEB_PROCESS, _MOST_WEB_PROCESSES = 2, 4  # unless set


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. ``docs/reference/settings.md`` is generated from this class; a test keeps it up to date."""

    home: Path = setting(DEFAULT_HOME, "Folder of all state: database, blobs, index, logs.")
    database_url: str = setting("", "Postgres to use; empty starts the embedded one in the home folder.", secret=True)
    broker_url: str = setting("", "Celery broker; empty uses pgmq inside the same Postgres.", secret=True)
    log_level: str = setting("INFO", "Least severe log line written.", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    log_to: str = setting(
        "files",
        "Where processes write their logs: files in the home folder, each cut at 20 MiB with one older copy (files), or"
        " standard error, which journald or a container keeps (stderr).",
        choices=("files", "stderr"),
    )
    drain_s: float = setting(
        15.0,
        "Seconds that associations, requests and jobs in hand get to end when their process is told to stop.",
        low=0,
        high=3600,
    )
    monitor_host: str = setting(
        "127.0.0.1",
        "Address of /health/live, /health/ready and /metrics of what one 'radir serve' runs; beyond loopback, /metrics"
        " needs the token of an administrator, or of a service that sees the whole archive.",
    )
    monitor_port: int = setting(0, "Port of these three; 0: there is none.", low=0, high=65535)
    traces_url: str = setting(
        "",
        "Where OpenTelemetry traces are sent by OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; empty: none"
        " are made. Needs the extra 'traces'.",
    )
    traces_share: float = setting(
        1.0, "Share of the studies that are traced, the same ones in all processes.", low=0, high=1
    )

    ae_title: str = setting("RADIR", "Our application entity title.")
    listener_host: str = setting("127.0.0.1", "Address the DICOM listener binds.")
    listener_port: int = setting(11112, "Port of the DICOM listener.", low=1, high=65535)
    listener_processes: int = setting(
        0,
        "Listener processes that share the port; 0 means one per core, at most four.",
        low=0,
        high=16,
    )
    check_called_ae: bool = setting(False, "Refuse associations that do not call our AE title.")
    calling_ae_titles: tuple[str, ...] = setting(
        (),
        "AE titles that may call from anywhere, beside the peers of `radir peers`; while nobody is named by either,"
        " this machine alone may call.",
    )
    listener_plain: bool = setting(True, "Whether the DICOM listener also serves without TLS; off needs TLS.")
    listener_tls_port: int = setting(0, "Port of the DICOM listener for TLS; 0: there is none.", low=0, high=65535)
    listener_tls_certificate: str = setting(
        "", "File of the DICOM listener's TLS certificate with its chain (PEM); read again when it changes."
    )
    listener_tls_key: str = setting("", "File of its private key (PEM); empty: it is in the certificate's file.")
    listener_tls_client_ca: str = setting(
        "", "File of the authorities (PEM) that a peer's own certificate must come from; empty asks for none."
    )
    listener_max_associations: int = setting(
        20, "Associations at once, per process; one address may hold three quarters of them.", low=1, high=500
    )
    listener_idle_s: float = setting(
        60.0, "Seconds without a message before an association is ended.", low=1, high=DAY_S
    )
    listener_association_s: float = setting(3600.0, "Seconds an association may last at most.", low=1, high=DAY_S)
    commitment_destinations: tuple[str, ...] = setting(
        (),
        "Where results of storage commitment are sent on an association of our own, AET@host:port each; a peer that is"
        " not listed gets them on its own association.",
    )
    lut_shape_senders: tuple[str, ...] = setting(
        (),
        "AE titles of senders whose Presentation LUT Shape is followed where it contradicts Photometric Interpretation;"
        " for all others Photometric Interpretation decides whether a radiograph is inverted.",
    )
    max_instance_mib: int = setting(2048, "Largest instance accepted, MiB.", low=1, high=_MOST_MIB)
    blob_store: str = setting(
        "", "Where DICOM files are kept: s3://bucket/prefix, or empty for the home folder. All processes must agree."
    )
    blob_cache_mib: int = setting(
        20_480, "With blob_store: what the home folder keeps of the files used lately, MiB.", low=256, high=1 << 26
    )
    s3_endpoint: str = setting(
        "", "URL of the S3 server; empty: AWS. http:// only on a network that nobody else reads."
    )
    s3_region: str = setting("", "Region of the bucket; empty: us-east-1.")
    s3_access_key_id: str = setting("", "Access key for S3; empty takes AWS's own ways (a role of the machine).")
    s3_secret_access_key: str = setting("", "Its secret.", secret=True)
    backup_key: str = setting(
        "",
        "File of the key that backups are encrypted with; 'radir backup --make-key' makes it. Empty: not encrypted.",
    )
    min_free_disk_mib: int = setting(512, "Free space, MiB, below which nothing more is stored.", low=0)
    disk_budget_mib: int = setting(
        0,
        "Most that the DICOM files may take, MiB, as the sweep counts them; beyond it nothing more is stored. 0: any.",
        low=0,
    )
    evict_files: bool = setting(
        False,
        "When the disk, or the budget, is used up to evict_above, remove the oldest files of indexed studies that the"
        " PACS of pull_url says it has, down to evict_below. Whoever opens such a study is shown the PACS's pictures.",
    )
    evict_above: float = setting(0.9, "Share of the disk or the budget from which files make room.", low=0.01, high=1)
    evict_below: float = setting(0.8, "Share of it down to which they do.", low=0.01, high=1)
    retention_file: str = setting(
        "",
        "TOML file that says how long pixels are kept, by site, modality and SOP class; empty keeps them. Vectors and"
        " reports stay in any case; an encoder with other weights then needs the pixels from the PACS again.",
    )
    quiet_period_s: float = setting(
        30.0, "Seconds without a new instance before a study counts as complete.", low=0.1, high=DAY_S
    )

    hl7_host: str = setting("127.0.0.1", "Address the HL7 listener binds.")
    hl7_port: int = setting(0, "Port of the HL7 listener (MLLP); 0: there is none.", low=0, high=65535)
    hl7_hosts: tuple[str, ...] = setting(
        (), "Addresses or networks, besides this machine, from which HL7 messages are taken; empty admits no other."
    )
    hl7_senders: tuple[str, ...] = setting(
        (),
        "Sending applications that are heard, as APPLICATION or APPLICATION|FACILITY (MSH-3, MSH-4); empty hears all"
        " that hl7_hosts admits.",
    )
    hl7_issuer: str = setting(
        "", "Issuer of Patient ID that is meant where a message names no assigning authority (PID-3.4)."
    )
    hl7_max_message_mib: int = setting(16, "Largest HL7 message accepted, MiB.", low=1, high=256)
    hl7_max_connections: int = setting(
        64, "HL7 connections at once; one address may hold three quarters of them.", low=1, high=10_000
    )
    hl7_idle_s: float = setting(
        3600.0, "Seconds without a message before an HL7 connection is ended.", low=1, high=7 * DAY_S
    )
    hl7_message_s: float = setting(60.0, "Seconds within which an HL7 message must arrive.", low=0.1, high=3600)
    hl7_tls_certificate: str = setting(
        "", "File of the HL7 listener's TLS certificate with its chain (PEM); empty: without TLS."
    )
    hl7_tls_key: str = setting("", "File of its private key (PEM); empty: it is in the certificate's file.")
    hl7_tls_client_ca: str = setting(
        "", "File of the authorities (PEM) that a sender's own certificate must come from; empty asks for none."
    )
    report_wait_days: float = setting(
        90.0, "Days that a report without its study is kept waiting for it.", low=0.01, high=3650
    )

    fhir_client_id: str = setting(
        "", "Our client id at the FHIR server's authorization server (SMART Backend Services); empty asks for no token."
    )
    fhir_client_key: str = setting(
        "", "File of the private key (PEM or JWK) that signs our requests for tokens; 'radir fhir-key' makes it."
    )
    fhir_scope: str = setting(
        "system/DiagnosticReport.rs system/Patient.rs system/ServiceRequest.rs system/ImagingStudy.rs",
        "Scopes asked for with a token; servers of SMART 1 write .read instead of .rs.",
    )

    fallback_character_set: str = setting(
        "ISO_IR 100",
        "Specific Character Set for text that names none or a wrong one; text that is valid UTF-8 is read as UTF-8.",
        choices=CHARACTER_SETS,
    )
    corrected_headers: str = setting(
        "replace",
        "What happens when an instance comes again with the same pixels and another header: its header replaces the"
        " first one (replace), or the first one counts and the later file is kept beside it (aside).",
        choices=("replace", "aside"),
    )

    audit_syslog: str = setting(
        "",
        "Where the audit trail is sent as DICOM audit messages by syslog over TLS, host:port; empty sends none. All"
        " machines must agree.",
    )
    audit_fhir: str = setting(
        "",
        "Base URL of the FHIR server to which the audit trail is sent as AuditEvents; empty sends none. All machines"
        " must agree.",
    )
    audit_fhir_authorization: str = setting("", "Authorization header that this FHIR server requires.", secret=True)
    audit_ca: str = setting(
        "", "File of the authorities (PEM) that the certificates of both must come from; empty: those of the system."
    )
    audit_certificate: str = setting("", "File of our own TLS certificate with its chain (PEM) for them; empty: none.")
    audit_key: str = setting("", "File of its private key (PEM); empty: it is in the certificate's file.")

    web_host: str = setting("127.0.0.1", "Address the web service binds.")
    web_port: int = setting(8042, "Port of the web service.", low=1, high=65535)
    web_processes: int = setting(
        0,
        "Web processes that share the port; 0 means one for every two cores, at least one and at most four.",
        low=0,
        high=16,
    )
    web_threads: int = setting(8, "Threads of each web process.", low=1, high=256)
    web_public_url: str = setting(
        "",
        "URL at which others reach the web service; empty means http://host:port, or https with web_tls_certificate.",
    )
    api_tokens: tuple[str, ...] = setting(
        (),
        "Tokens that may call the web service, as bearer, as the password of HTTP Basic with any user name, or in the"
        " form of the sign-in page; each of at least 16 characters. Required unless the service binds to loopback or"
        " oidc_issuer is set.",
        secret=True,
    )
    web_tls_certificate: str = setting(
        "",
        "File of the web service's TLS certificate with its chain (PEM), read again when it changes; empty: http, for"
        " a proxy before it.",
    )
    web_tls_key: str = setting("", "File of its private key (PEM); empty: it is in the certificate's file.")
    web_hsts_s: float = setting(
        31_536_000.0,
        "With web_tls_certificate: seconds for which browsers shall use nothing but https with this host name, on"
        " whatever port (Strict-Transport-Security); 0: they are not told to.",
        low=0,
        high=10 * 366 * DAY_S,
    )
    session_idle_s: float = setting(
        1800.0, "Seconds without a request after which a person has to sign in again.", low=60, high=7 * DAY_S
    )
    session_longest_s: float = setting(
        8 * 3600.0, "Seconds after which a person has to sign in again in any case.", low=60, high=30 * DAY_S
    )
    emergency_access: bool = setting(
        False,
        "Whether a radiologist who signed in with an account may open a patient out of scope, or withheld, for a while"
        " by giving a reason.",
    )
    emergency_access_s: float = setting(
        3600.0, "For how many seconds a patient is open by emergency_access.", low=60, high=DAY_S
    )
    rate_limit: int = setting(
        30_000,
        "Requests a minute that one account, token or sidebar's link may send to the web service of a machine, beyond"
        " which they are answered 429; 0: any number.",
        low=0,
        high=100_000_000,
    )
    oidc_issuer: str = setting(
        "",
        "URL of the OpenID Connect provider at which people sign in, exactly as it calls itself; empty: there is none.",
    )
    oidc_client_id: str = setting("", "Our client id there.")
    oidc_client_secret: str = setting(
        "", "Our secret there; empty for a public client, which PKCE alone protects.", secret=True
    )
    oidc_mapping: str = setting(
        "", "TOML file that says which groups of the provider have which role and scope here; who is in none has none."
    )
    oidc_scopes: str = setting("openid profile", "Scopes asked for, openid among them.")
    oidc_groups_claim: str = setting("groups", "Claim that lists a person's groups.")
    oidc_name_claim: str = setting("preferred_username", "Claim by which an account is named at the first sign-in.")
    cors_origins: tuple[str, ...] = setting(
        (), "Origins whose pages may call the DICOMweb service, such as https://viewer.example; empty admits none."
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Addresses or networks of reverse proxies whose Forwarded and X-Forwarded-Proto, -Host and -Prefix headers are"
        " trusted; the URLs in answers follow them.",
    )
    max_request_mib: int = setting(1024, "Largest request body of the web service, MiB.", low=1, high=_MOST_MIB)
    result_limit: int = setting(10, "Similar cases in an answer when the request gives no limit.", low=1)
    result_limit_max: int = setting(200, "Most similar cases in one answer, whatever the request asks for.", low=1)
    qido_limit_max: int = setting(
        5000,
        "Most rows of one QIDO-RS answer, also for requests without a limit; use offset for the rest.",
        low=1,
        high=100_000,
    )
    index_memory_mib: int = setting(
        8192,
        "Memory of a web process for the index, MiB; the regions asked least recently leave it first.",
        low=0,
        high=_MOST_MIB,
    )
    index_engine: str = setting(
        "local",
        "Where the index begins: files in the home folder (local), the database's pgvector, or Milvus. What stands is"
        " moved by `radir index move`, and what that chose counts from then on.",
        choices=("local", "pgvector", "milvus"),
    )
    milvus_url: str = setting(
        "", "URL of the Milvus server, http:// or https://host:19530; http:// only on a network that nobody else reads."
    )
    milvus_token: str = setting("", "Token of its user, or user:password; empty: it asks for none.", secret=True)
    milvus_database: str = setting("", "Its database; empty: the default one.")
    milvus_ca: str = setting("", "File of the authorities (PEM) its certificate must come from; empty: the system's.")
    milvus_timeout_s: float = setting(
        5.0, "Seconds within which Milvus must answer a search; longer, and it counts as away.", low=0.1, high=600
    )
    min_cases: int = setting(5, "A region with fewer cases than this is answered by its parent region.", low=1)

    words_cases: int = setting(
        200,
        "Cases most alike in the region that a question in words puts into order, from their kept image tokens; 0"
        " refuses such questions. For them a web process loads the network: about 300 MB of memory with the smallest"
        " one, 700 MB with `base`, of which 200 cases take some seconds of both cores of a small machine.",
        low=0,
        high=1000,
    )

    worker_processes: int = setting(
        1, "Processes that encode studies; one per GPU, since one keeps a GPU busy.", low=1, high=64
    )
    device: str = setting(
        "auto",
        "Where the network runs: auto, cpu, mps, cuda, or one GPU by its number, as cuda:1. auto spreads the processes"
        " over the GPUs.",
    )
    precision: str = setting(
        "auto",
        "Whether the network computes in half precision where that suffices (mixed) or never (full); auto: on CUDA.",
        choices=("auto", "mixed", "full"),
    )
    readers: int = setting(
        0,
        "Studies that one encoding process has read at once, each by a process of its own; 0 takes one per core, as far"
        " as memory holds.",
        low=0,
        high=64,
    )
    models: tuple[str, ...] = setting(
        (),
        "Bundle folders, one per image kind; empty takes the shipped ones. The first model of a kind serves at once; a"
        " later one is encoded beside it (SHADOW) and answers once it is promoted.",
    )
    model_coverage: float = setting(
        1.0, "Share of the studies that a model must have encoded before it may be promoted.", low=0, high=1
    )
    promote_when_covered: bool = setting(
        False, "Promote a model in shadow by itself as soon as it may be; off leaves that to a person."
    )
    model_rollback_days: float = setting(
        30.0,
        "Days for which a replaced model is kept ready for a rollback: its encodings, its index, its bundle. It encodes"
        " new studies for so long.",
        low=0,
        high=3650,
    )
    reencode_per_minute: float = setting(
        0.0,
        "Studies of the archive that are encoded in a minute, at most, by a model that does not answer; 0: as many as"
        " there is time for.",
        low=0,
    )
    shadow_share: float = setting(
        0.1,
        "Share of the questions that are also asked of the model in shadow, unseen; fewer where they would take more"
        " than a hundredth of the time.",
        low=0,
        high=1,
    )
    off_peak_hours: str = setting(
        "22-5",
        "Hours of the day, local time, in which what can wait begins: scheduled retrainings, the weekly look at"
        " quality.",
    )
    retrain_every_days: float = setting(
        0.0,
        "Retrain each model that serves every so many days, in off-peak hours; 0: never by itself.",
        low=0,
        high=3650,
    )
    retrain_plan: str = setting("", "The plan (TOML) of scheduled retrainings; empty means the defaults.")
    quality_weekly: bool = setting(
        True, "Once a week, in off-peak hours, measure how well the models that serve still do (`radir quality`)."
    )
    quality_drop: float = setting(
        0.05,
        "How much a week's agreement may fall, or regions answered by parents may rise, before it is a notice.",
        low=0,
        high=1,
    )
    quality_drift: float = setting(
        0.05, "How far a scanner's vectors may drift from those of the training before it is a notice.", low=0, high=4
    )
    retraining_keep_days: float = setting(
        7.0,
        "Days for which a retraining that failed or stopped keeps its work (checkpoints, and for the depth full the"
        " prepared pixels) for `radir retrain --resume`; later it begins anew.",
        low=0,
        high=365,
    )
    transfer_threads: int = setting(
        4, "Pulls and report transfers at once; one thread is always reserved for reports.", low=2, high=64
    )
    torch_threads: int = setting(0, "Threads of one network pass; 0 lets torch choose.", low=0)
    keep_tokens: bool = setting(
        True,
        "Keep the image tokens of each study (16 to 18 KiB with the smallest network): a head is retrained on them, and"
        " the archive is encoded again without a pixel.",
    )
    job_lease_s: float = setting(60.0, "Seconds a worker owns a job without a heartbeat.", low=1, high=DAY_S)
    job_longest_s: float = setting(
        3600.0, "Seconds a job may run before its worker counts as hung and is replaced.", low=1, high=7 * DAY_S
    )
    job_max_attempts: int = setting(3, "Attempts before a job counts as failed.", low=1, high=100)
    relay_interval_s: float = setting(0.5, "Seconds between two rounds of the relay.", low=0.05, high=60)
    decode_timeout_s: float = setting(
        60.0,
        "Seconds one file may take to decode, of the clock and of the processor; ten times as many of the clock where"
        " that yields to other work.",
        low=1,
        high=DAY_S,
    )
    decode_memory_mib: int = setting(4096, "Memory the decoding child may take, MiB.", low=256, high=_MOST_MIB)

    sr_other_uids: bool = setting(
        True, "Reports name the UIDs of similar cases; off keeps only rank, score and findings."
    )
    sr_comprehensive_3d: bool = setting(True, "Comprehensive 3D SR; off writes Comprehensive SR for old PACS.")

    pull_url: str = setting(
        "", "DICOMweb service root of the PACS from which studies are pulled by reference; empty pulls none."
    )
    pull_site: str = setting(
        "pull", "Site label of studies that come by a pull; only tokens that see this site have new ones pulled."
    )
    pull_authorization: str = setting("", "Authorization header that this PACS requires.", secret=True)
    sources_file: str = setting(
        "",
        "TOML file that names the PACS from which studies came, by site; pull_url stands for the sites that it leaves"
        " out.",
    )
    source_timeout_s: float = setting(
        15.0, "Seconds within which that PACS must send an image whose file is not kept here.", low=0.1, high=600
    )
    source_cache_mib: int = setting(
        512,
        "Most that such images take on the disk meanwhile, MiB; each goes within the hour.",
        low=16,
        high=_MOST_MIB,
    )
    pull_max_mib: int = setting(16_384, "Most bytes that one pull takes from the PACS, MiB.", low=1, high=_MOST_MIB)
    pull_least_kib_s: float = setting(
        16.0, "Least speed of a pull, KiB per second; one that is slower for 15 s is given up, 0 waits.", low=0
    )
    pull_deadline_s: float = setting(1800.0, "Seconds that one pull may take.", low=1, high=DAY_S)
    rules_file: str = setting(
        "",
        "TOML file of the rules for what is encoded; empty takes the built-in ones, which 'radir rules show' prints.",
    )
    return_destination: str = setting(
        "", "Where 'Save to PACS' sends structured reports, AET@host:port; empty keeps them here."
    )
    return_timeout_s: float = setting(10.0, "Seconds that one attempt to send a report may take.", low=1, high=600)
    return_attempts: int = setting(
        10,
        "Attempts to send a report, after 2, 4, 8 … seconds; the tenth is 17 minutes after the first.",
        low=1,
        high=20,
    )

    sidebar_shows: tuple[str, ...] = setting(
        ("patient", "age", "sex", "date", "report"),
        "What the sidebar and the list of studies show: names of patients in the list and of the patient being read"
        " (patient), and of similar cases age, sex, date (as an offset in days), what the report says of the region"
        " (report), and beside it the whole report as it was written, with any names in it (whole_report).",
    )
    sidebar_context_tokens: bool = setting(
        False, "The sidebar page opens with a token that the PACS requested, never with identifiers in its URL."
    )
    sidebar_context_s: float = setting(
        3600.0, "Seconds for which such a token opens the sidebar.", low=1, high=7 * DAY_S
    )
    ohif_folder: str = setting(
        "", "The dist folder of the OHIF to serve; empty means where 'radir viewer install' puts it."
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "home", expanded(self.home).resolve())
        check(self)

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
        return (self.web_public_url or self.web_url).rstrip("/")

    @property
    def web_url(self) -> str:
        """Where programs of this machine reach its web service."""
        host = f"[{self.web_host}]" if ":" in self.web_host else self.web_host
        return f"{'https' if self.web_tls_certificate else 'http'}://{host}:{self.web_port}"
