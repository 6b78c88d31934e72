"""The catalogue as its users see it: one object made of parts."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from radir_pacs.catalogue.access_tokens import ALL, AccessTokens
from radir_pacs.catalogue.accounts import Accounts
from radir_pacs.catalogue.audit import Audit
from radir_pacs.catalogue.audit_receivers import AuditReceivers
from radir_pacs.catalogue.backups import Backups
from radir_pacs.catalogue.cases import Cases
from radir_pacs.catalogue.commitments import Commitments
from radir_pacs.catalogue.connecting import connected
from radir_pacs.catalogue.contexts import Contexts
from radir_pacs.catalogue.corrections import Corrections
from radir_pacs.catalogue.damage import Damage
from radir_pacs.catalogue.database import Database, conninfo_of
from radir_pacs.catalogue.disk import Disk
from radir_pacs.catalogue.emergencies import Emergencies
from radir_pacs.catalogue.encodings import Encodings
from radir_pacs.catalogue.erasures import Erasures
from radir_pacs.catalogue.feedback import ReaderFeedback
from radir_pacs.catalogue.figures import Figures
from radir_pacs.catalogue.generations import Generations
from radir_pacs.catalogue.image_tokens import KeptImageTokens
from radir_pacs.catalogue.instances import Instances
from radir_pacs.catalogue.jobs import Jobs
from radir_pacs.catalogue.messages import Messages
from radir_pacs.catalogue.migrate import migrate
from radir_pacs.catalogue.models import Models
from radir_pacs.catalogue.overview import overview
from radir_pacs.catalogue.patients import Patients
from radir_pacs.catalogue.peers import Peers
from radir_pacs.catalogue.processes import Processes
from radir_pacs.catalogue.qido import Qido
from radir_pacs.catalogue.quality import Quality
from radir_pacs.catalogue.questions import Questions
from radir_pacs.catalogue.reencoding import Reencoding
from radir_pacs.catalogue.refusals import Refusals
from radir_pacs.catalogue.report_versions import ReportVersions
from radir_pacs.catalogue.reports import Reports
from radir_pacs.catalogue.retention import Retention
from radir_pacs.catalogue.retraining import Retraining
from radir_pacs.catalogue.rows import Overview, Retried
from radir_pacs.catalogue.shadow_answers import ShadowAnswers
from radir_pacs.catalogue.sign_ins import SignIns
from radir_pacs.catalogue.studies import Studies
from radir_pacs.catalogue.survey import Survey
from radir_pacs.catalogue.vectors import Vectors
from radir_pacs.catalogue.watch import CONNECT_S
from radir_pacs.catalogue.withheld import WithheldPatients
from radir_pacs.config import Settings
from radir_pacs.errors import DatabaseAway, NotReady
from radir_pacs.reasons import ReasonCode
from radir_pacs.scopes import Scope
from radir_pacs.types import JobKind

BEING_RESTORED = "restoring.json"  # in the home folder, from the begin of a restore to its end
_REVIVED_S = 10.0


class Catalogue:
    """The only shared truth, in parts: one per noun. Threads may share one; a child process opens its own.

    Every method of every part is one transaction; it raises StorageFailed when Postgres cannot be reached, and BadInput
    for values that it cannot hold.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self.instances = Instances(database, settings)
        self.corrections = Corrections(database, settings)
        self.refusals = Refusals(database, settings)
        self.damage = Damage(database, settings)
        self.disk = Disk(database, settings)
        self.retention = Retention(database, settings)
        self.studies = Studies(database, settings)
        self.qido = Qido(database, settings)
        self.models = Models(database, settings)
        self.reencoding = Reencoding(database, settings)
        self.shadow_answers = ShadowAnswers(database, settings)
        self.encodings = Encodings(database, settings)
        self.image_tokens = KeptImageTokens(database, settings)
        self.retraining = Retraining(database, settings)
        self.quality = Quality(database, settings)
        self.cases = Cases(database, settings)
        self.questions = Questions(database, settings)
        self.generations = Generations(database, settings)
        self.reports = Reports(database, settings)
        self.report_versions = ReportVersions(database, settings)
        self.patients = Patients(database, settings)
        self.messages = Messages(database, settings)
        self.feedback = ReaderFeedback(database, settings)
        self.contexts = Contexts(database, settings)
        self.access_tokens = AccessTokens(database, settings)
        self.accounts = Accounts(database, settings)
        self.sign_ins = SignIns(database, settings)
        self.emergencies = Emergencies(database, settings)
        self.peers = Peers(database, settings)
        self.erasures = Erasures(database, settings)
        self.withheld = WithheldPatients(database, settings)
        self.audit = Audit(database, settings)
        self.audit_receivers = AuditReceivers(database, settings)
        self.jobs = Jobs(database, settings)
        self.commitments = Commitments(database, settings)
        self.processes = Processes(database, settings)
        self.survey = Survey(database, settings)
        self.backups = Backups(database, settings)
        self.figures = Figures(database, settings)
        self.vectors = Vectors(database, settings)

    @classmethod
    def open(cls, settings: Settings, *, being_restored: bool = False) -> Self:
        """Connect, starting the embedded Postgres if need be, and bring the schema to the newest version.

        Raises NotReady where a restore was begun and has not come to its end; ``being_restored``: by the restore.
        """
        if not being_restored and (settings.home / BEING_RESTORED).exists():
            raise NotReady(f"a restore into {settings.home} was interrupted: repeat the same radir restore")
        conninfo = conninfo_of(settings)
        migrate(conninfo)
        return cls(Database(conninfo), settings)

    @classmethod
    def as_it_is(cls, settings: Settings) -> Self:
        """Connect to a database that runs, and leave its schema as it is: for those who only look.

        Raises DatabaseRefuses, at once: the pool would try again for seconds.
        """
        conninfo = conninfo_of(settings)
        with connected(conninfo, connect_timeout=CONNECT_S):
            return cls(Database(conninfo), settings)

    @property
    def conninfo(self) -> str:
        """Keyword-style connection string; may hold a password: never log it."""
        return self._database.conninfo

    def overview(self, scope: Scope = ALL) -> Overview:
        """Processes, studies by state, jobs by kind and state, encodings by model; in a scope the first two only."""
        return overview(self._database, scope)

    def retry(self, study_uid: str | None = None, reason_code: ReasonCode | None = None) -> Retried:
        """Try again what failed: one study, or studies and jobs with one reason code, or all that are problems.

        A study whose file is damaged is fetched from the PACS, where one is set: to encode that file again would not
        help.
        """
        damaged = {instance.study_uid for instance in self.damage.all()} if self._settings.pull_url else set()
        studies = self.studies.retry(study_uid, reason_code)
        for uid in damaged.intersection(studies):
            self.jobs.enqueue(JobKind.PULL, uid)
        jobs = self.jobs.retry_failed(reason_code) if study_uid is None else 0
        return Retried(studies=tuple(studies), jobs=jobs)

    def revive(self) -> None:
        """Start the embedded Postgres again if it died. Raises StorageFailed when it does not come back."""
        conninfo_of(self._settings)
        self.await_answer()

    def await_answer(self) -> None:
        """Wait a while for the database, which somebody else starts. Raises StorageFailed when it does not answer."""
        if not self._database.await_answer(_REVIVED_S):
            raise DatabaseAway

    def close(self) -> None:
        """Close the connections. The embedded server keeps running for other processes."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
