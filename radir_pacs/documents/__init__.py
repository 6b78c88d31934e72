"""The text of documents that reports come as: plain text, HTML, RTF, PDF, CDA."""

from radir_pacs.documents.reading import CDA, MOST_BYTES, PDF, media_type, text_of

__all__ = ["CDA", "MOST_BYTES", "PDF", "media_type", "text_of"]
