"""What this machine works with: database, its clock, broker, processes, index, rules, peers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from radir_pacs import __version__
from radir_pacs.backup.sealing import read_key
from radir_pacs.catalogue import Catalogue, SchemaVersions
from radir_pacs.cli.diagnosis import doors
from radir_pacs.cli.diagnosis.results import Check, CheckResult, error, ok, warning
from radir_pacs.cli.named_files import FILES
from radir_pacs.cli.output import counted
from radir_pacs.cli.state import is_held
from radir_pacs.cli.status import DOWN, known_processes
from radir_pacs.cli.up import broker_silence, check_broker, check_store, store_silence
from radir_pacs.config import Settings
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.echo import echo
from radir_pacs.dicom.rules import load_rules
from radir_pacs.errors import DatabaseRefuses, EngineAway, PeerFailed, RadirError, SettingError
from radir_pacs.index import partition_folder
from radir_pacs.index.engine import LOCAL
from radir_pacs.index.engines import Engines
from radir_pacs.index.manifest import MANIFEST
from radir_pacs.intake.fhir_authorization import read_key as read_client_key
from radir_pacs.intake.retention import retention_of
from radir_pacs.intake.sources import load_sources
from radir_pacs.reasons import ReasonCode

_CLOCK_WARNING_S, _CLOCK_ERROR_S = 2.0, 30.0
_ECHO_S = 5.0
_AUDIT_WARNING_S = 300.0
_AUDIT_ADVICE = {
    ReasonCode.PEER_UNREACHABLE: "nobody answers there: start it, or correct audit_{name}",
    ReasonCode.PEER_UNTRUSTED: "its certificate must come from audit_ca, and be made for the host in audit_{name}",
    ReasonCode.WRONG_SETTING: "correct audit_ca, audit_certificate and audit_key",
}
_ENGINE_ADVICE = "start it, or correct the settings {name}_*; questions wait for it"
_OF_THE_START = frozenset({"models", "oidc_mapping"})  # the others have a check of their own


def database(settings: Settings) -> Iterator[CheckResult]:
    """The database, and what only it can tell. It is asked, never started."""
    if not settings.database_url and not is_held(settings):
        yield warning("NOT_RUNNING", f"radir is not running in {settings.home}", f"radir up --home {settings.home}")
        return
    try:
        with Catalogue.as_it_is(settings) as catalogue:
            began = time.time()
            database_s = catalogue.figures.clock()
            took_s = time.time() - began
            yield ok("DATABASE", f"answers in {1000 * took_s:.0f} ms")
            yield clock(database_s - (began + took_s / 2))
            versions = catalogue.figures.schema()
            yield schema(versions)
            if versions.there < versions.known or versions.needed > versions.known:
                return
            yield from processes(catalogue)
            yield from index(catalogue, settings)
            yield from peers_of_table(catalogue, settings)
            yield from audit_receivers(catalogue, settings)
            yield from doors.tokens(catalogue, settings)
            yield from doors.emergencies(catalogue, settings)
    except DatabaseRefuses as refused:
        yield error("DATABASE", refused.what, "start it, or correct database_url")
    except RadirError as failed:
        yield error("DATABASE", str(failed), "start the database, or correct database_url")


def audit_receivers(catalogue: Catalogue, settings: Settings) -> Iterator[CheckResult]:
    """Receivers of the audit trail: each has it, or says why not."""
    for receiver in catalogue.audit_receivers.all():
        where = {"syslog": settings.audit_syslog, "fhir": settings.audit_fhir}.get(receiver.name, "")
        waiting = counted(receiver.waiting, "event waits", "events wait")
        what = f"{receiver.name}{f' at {where}' if where else ''}: {waiting}, the oldest for {receiver.oldest_s:.0f} s"
        if receiver.failed is not None:
            advice = _AUDIT_ADVICE.get(receiver.failed, "look at the receiver's own log, and at audit_* settings")
            yield warning("AUDIT_NOT_SENT", f"{what}: {receiver.failed}", advice.format(name=receiver.name))
        elif receiver.oldest_s > _AUDIT_WARNING_S:
            yield warning("AUDIT_NOT_SENT", what, "is the relay running? See: radir status")
        else:
            yield ok("AUDIT_SENT", what)


def clock(ahead_s: float) -> CheckResult:
    """How far the database's clock is ahead of this machine's."""
    what = f"the database's clock is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    advice = "let both follow the same time server (NTP)"
    if abs(ahead_s) > _CLOCK_ERROR_S:
        return error("CLOCK", what, advice)
    return warning("CLOCK", what, advice) if abs(ahead_s) > _CLOCK_WARNING_S else ok("CLOCK", what)


def schema(versions: SchemaVersions) -> CheckResult:
    """Whether the database has a schema that this program works with."""
    what = f"the database has version {versions.there}, this program knows {versions.known}"
    if versions.needed > versions.known:
        return error("SCHEMA", what, "update the program on this machine")
    if versions.there > versions.known:
        return warning("SCHEMA", f"{what} and works with it", "finish the upgrade: update the program on this machine")
    if not versions.there:
        return ok("SCHEMA", "the database is empty: the first start makes its tables")
    if versions.there < versions.known:
        return warning("SCHEMA", what, "the next start brings the database up to date")
    return ok("SCHEMA", f"version {versions.known}")


def processes(catalogue: Catalogue) -> Iterator[CheckResult]:
    """Processes on all machines that went silent, or are of another version."""
    rows = known_processes(catalogue.processes.all(), ())
    down = [row["name"] for row in rows if row["state"] == DOWN]
    if down:
        yield warning("PROCESS_SILENT", f"silent: {', '.join(down)}", "look into its log; `radir problems` shows more")
    elif rows:
        yield ok("PROCESSES", f"{counted(len(rows), 'process sends', 'processes send')} heartbeats")
    others = [
        f"{row['name']} ({row['version'] or 'older'})"
        for row in rows
        if row["state"] != DOWN and row["version"] != __version__
    ]
    if others:
        what = f"of another version than this program's {__version__}: {', '.join(others)}"
        yield warning("PROCESS_VERSION", what, "finish the upgrade: start them again with the new program")


def index(catalogue: Catalogue, settings: Settings) -> Iterator[CheckResult]:
    """Each generation that answers is on this machine's disk; one that is not is searched exactly until it is made."""
    yield from engine(catalogue, settings)
    served = [one for one in catalogue.generations.served() if one.published and one.engine == LOCAL]
    missing = [
        one
        for one in served
        if not (partition_folder(settings.home, one.model_id, one.region) / str(one.published) / MANIFEST).is_file()
    ]
    if missing:
        yield warning(
            "INDEX_MISSING",
            f"{len(missing)} of {counted(len(served), 'generation')} not in {settings.home / 'index'}",
            "the web processes and the indexer need the same home folder; the next merge makes them again",
        )
    else:
        yield ok("INDEX", f"{counted(len(served), 'generation')} in place")


def engine(catalogue: Catalogue, settings: Settings) -> Iterator[CheckResult]:
    """Whether each engine that holds vectors, or shall, answers from here."""
    chosen = catalogue.generations.engine()
    held = {one.engine for one in catalogue.generations.served() if one.published}
    with closing(Engines(catalogue, settings)) as engines:
        for name in sorted((held | {chosen}) - {LOCAL}):
            try:
                yield ok("ENGINE", f"{engines.named(name).check()} answers")
            except EngineAway as away:
                yield error("ENGINE", f"{away}{_at(name, settings)}", _ENGINE_ADVICE.format(name=name))
            except SettingError as wrong:
                yield error("ENGINE", str(wrong), "every machine that runs web processes or the indexer needs it")
    if chosen != settings.index_engine:
        yield warning(
            "ENGINE_SETTING",
            f"the index is in {chosen}, index_engine says {settings.index_engine}",
            f"set index_engine to {chosen} on every machine, or move it: radir index move --to {settings.index_engine}",
        )
    if left := len(catalogue.generations.to_move(chosen)):
        yield warning(
            "ENGINE_MOVING",
            f"{counted(left, 'region has', 'regions have')} yet to move to {chosen}",
            "radir index show tells how far",
        )


def _at(engine: str, settings: Settings) -> str:
    return f" ({urlsplit(settings.milvus_url).netloc.rpartition('@')[2]})" if engine == "milvus" else ""


def broker(settings: Settings) -> Iterator[CheckResult]:
    try:
        check_broker(settings.broker_url)
    except SettingError as wrong:
        yield error("BROKER", str(wrong), "correct broker_url")
        return
    if not settings.broker_url:
        yield ok("BROKER", "messages go through the database (pgmq)")
    elif silence := broker_silence(settings):
        yield error("BROKER", silence, "nothing is encoded until then")
    else:
        yield ok("BROKER", "the broker answers")


def object_store(settings: Settings) -> Iterator[CheckResult]:
    """Whether the bucket of the DICOM files lets us in."""
    try:
        check_store(settings)
    except SettingError as wrong:
        yield error("OBJECT_STORE", str(wrong), "correct blob_store")
        return
    if silence := store_silence(settings):
        yield error("OBJECT_STORE", silence, "no instance is stored, and no study encoded, until then")
    elif settings.blob_store:
        yield ok("OBJECT_STORE", f"{settings.blob_store} answers")


def rules(settings: Settings) -> Iterator[CheckResult]:
    """Whether the rules of what is encoded can be read: workers do so when they start."""
    try:
        found = load_rules(settings.rules_file)
    except SettingError as wrong:
        yield error("RULES", str(wrong), "correct the file; no worker starts with it")
    else:
        yield ok("RULES", f"{counted(len(found.rules), 'rule')}, {settings.rules_file or 'built in'}")


def retention(settings: Settings) -> Iterator[CheckResult]:
    """Whether the rules of how long pixels are kept, and the PACS they are in, can be read."""
    try:
        found = retention_of(settings)
        load_sources(settings)
    except SettingError as wrong:
        yield error("RETENTION", str(wrong), "correct the file; radir does not start with it")
    else:
        yield ok("RETENTION", "rules end pixels" if found.removes else "pixels are kept")


def backup_key(settings: Settings) -> Iterator[CheckResult]:
    """Whether the key of encrypted backups can be read: the nightly one would fail without a witness."""
    if settings.backup_key:
        try:
            read_key(Path(settings.backup_key).expanduser())
        except SettingError as wrong:
            yield error(
                "BACKUP_KEY",
                str(wrong),
                "no backup is made without it: put it there again from its copy, or radir backup --make-key FILE",
            )
        else:
            yield ok("BACKUP_KEY", "backups are encrypted")


def named_files(settings: Settings) -> Iterator[CheckResult]:
    """Other files that the settings name: what radir would not start with, and what a command or a page would miss."""
    for named in FILES:
        if (named.setting in _OF_THE_START or named.else_) and getattr(settings, named.setting):
            else_ = named.else_ or (
                "radir does not start with it" if named.is_used(settings) else "nothing uses it yet"
            )
            yield _usable(named.setting, named.check, settings, else_)
    if settings.fhir_client_key:
        key = Path(settings.fhir_client_key).expanduser()
        yield _usable("fhir_client_key", lambda _: read_client_key(key), settings, "nothing is pulled without it")
    if settings.ohif_folder and not (settings.ohif_dist / "index.html").is_file():
        what = f"ohif_folder: {settings.ohif_dist} holds no index.html, so no OHIF is served"
        yield warning("OHIF_FOLDER", what, "correct ohif_folder, or put OHIF there: radir viewer install")


def _usable(setting: str, check: Callable[[Settings], object], settings: Settings, else_: str) -> CheckResult:
    try:
        check(settings)
    except SettingError as wrong:
        return error(setting.upper(), str(wrong), f"mend the file, or correct {setting}; {else_}")
    return ok(setting.upper(), "can be used")


def peers(settings: Settings) -> Iterator[CheckResult]:
    """C-ECHO to every DICOM peer that the settings name."""
    named = {settings.return_destination, *settings.commitment_destinations} - {""}
    for text in sorted(named):
        yield _answers(Destination.parse(text), settings, "start the peer, or correct the setting that names it")


def peers_of_table(catalogue: Catalogue, settings: Settings) -> Iterator[CheckResult]:
    """C-ECHO to every DICOM peer of `radir peers` that is called itself."""
    called = {
        (Destination(ae_title=peer.ae_title, host=peer.host, port=peer.port), peer.over_tls)
        for peer in catalogue.peers.all()
        if peer.host and peer.port
    }
    for destination, over_tls in sorted(called, key=str):
        yield _answers(destination, settings, "start the peer, or add it anew: radir peers", over_tls=over_tls)


def _answers(destination: Destination, settings: Settings, advice: str, *, over_tls: bool = False) -> CheckResult:
    try:
        echo(destination, settings, over_tls=over_tls, timeout_s=_ECHO_S)
    except PeerFailed as failed:
        if failed.reason_code is ReasonCode.PEER_REJECTED:  # it runs
            advice = failed.advice or "the peer's own log says more"
        return error("PEER", failed.what, advice)
    except SettingError as wrong:
        return error("PEER", str(wrong), advice)
    return ok("PEER", f"{destination} answers C-ECHO")


SERVICES: tuple[Check, ...] = (database, broker, object_store, rules, retention, backup_key, named_files, peers)
