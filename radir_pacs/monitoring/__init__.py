"""What is told to those who watch an installation: figures in Prometheus' format, of processes, archive and machine."""

from radir_pacs.monitoring.archive import ArchiveFigures
from radir_pacs.monitoring.exposition import CONTENT_TYPE, Exposition

__all__ = ["CONTENT_TYPE", "ArchiveFigures", "Exposition"]
