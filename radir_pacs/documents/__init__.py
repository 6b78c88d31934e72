"""The text of documents that reports come as: plain text, HTML, RTF, PDF, CDA."""

from radir_pacs.documents.reading import CDA, PDF, media_type, text_of

__all__ = ["CDA", "PDF", "media_type", "text_of"]
