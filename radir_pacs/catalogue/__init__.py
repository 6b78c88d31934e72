"""The catalogue in Postgres: studies, encodings, generations, reports, jobs. The only package that uses SQL."""

from radir_pacs.catalogue.broker import install_pgmq
from radir_pacs.catalogue.catalogue import Catalogue
from radir_pacs.catalogue.embedded import server_pid as embedded_pid
from radir_pacs.catalogue.embedded import start as start_embedded
from radir_pacs.catalogue.embedded import stop as stop_embedded
from radir_pacs.catalogue.instances import Overtaken
from radir_pacs.catalogue.jobs import ENCODES, is_last_attempt, runs_alone
from radir_pacs.catalogue.models import Models
from radir_pacs.catalogue.processes import Processes
from radir_pacs.catalogue.reports import Reports, report_id_of
from radir_pacs.catalogue.rows import (
    CASE_FIELDS,
    NO_DAY,
    Answering,
    CaseChanges,
    CatalogueSeries,
    Changes,
    Commitment,
    Correction,
    DamagedInstance,
    EncodingOwner,
    FailedJob,
    FeedbackRow,
    GenerationRow,
    JobCount,
    JobProgress,
    MergeBound,
    ModelRow,
    NotedInstance,
    Overview,
    ProcessRow,
    Question,
    Received,
    Refusal,
    ReportedStudy,
    ReportRow,
    ServedPartition,
    Stored,
    StoredInstance,
    ViewerContext,
)
from radir_pacs.catalogue.studies import Studies

__all__ = [
    "CASE_FIELDS",
    "ENCODES",
    "NO_DAY",
    "Answering",
    "CaseChanges",
    "Catalogue",
    "CatalogueSeries",
    "Changes",
    "Commitment",
    "Correction",
    "DamagedInstance",
    "EncodingOwner",
    "FailedJob",
    "FeedbackRow",
    "GenerationRow",
    "JobCount",
    "JobProgress",
    "MergeBound",
    "ModelRow",
    "Models",
    "NotedInstance",
    "Overtaken",
    "Overview",
    "ProcessRow",
    "Processes",
    "Question",
    "Received",
    "Refusal",
    "ReportRow",
    "ReportedStudy",
    "Reports",
    "ServedPartition",
    "Stored",
    "StoredInstance",
    "Studies",
    "ViewerContext",
    "embedded_pid",
    "install_pgmq",
    "is_last_attempt",
    "report_id_of",
    "runs_alone",
    "start_embedded",
    "stop_embedded",
]
