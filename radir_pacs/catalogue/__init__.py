"""The catalogue in Postgres: studies, encodings, generations, reports, jobs. The only package that speaks SQL."""

from radir_pacs.catalogue.broker import install_pgmq
from radir_pacs.catalogue.catalogue import Catalogue
from radir_pacs.catalogue.embedded import server_pid as embedded_pid
from radir_pacs.catalogue.embedded import start as start_embedded
from radir_pacs.catalogue.embedded import stop as stop_embedded
from radir_pacs.catalogue.instances import Overtaken
from radir_pacs.catalogue.reports import report_id_of
from radir_pacs.catalogue.rows import (
    CatalogueSeries,
    Changes,
    Correction,
    EncodingOwner,
    FeedbackRow,
    GenerationRow,
    JobCount,
    ModelRow,
    NotedInstance,
    Overview,
    PartitionSize,
    ProcessRow,
    Received,
    Refusal,
    ReportedStudy,
    ReportRow,
    Stored,
    StoredInstance,
)

__all__ = [
    "Catalogue",
    "CatalogueSeries",
    "Changes",
    "Correction",
    "EncodingOwner",
    "FeedbackRow",
    "GenerationRow",
    "JobCount",
    "ModelRow",
    "NotedInstance",
    "Overtaken",
    "Overview",
    "PartitionSize",
    "ProcessRow",
    "Received",
    "Refusal",
    "ReportRow",
    "ReportedStudy",
    "Stored",
    "StoredInstance",
    "embedded_pid",
    "install_pgmq",
    "report_id_of",
    "start_embedded",
    "stop_embedded",
]
