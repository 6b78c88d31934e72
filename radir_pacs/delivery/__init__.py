"""Answers on their way out: structured report, DICOM JSON, return to the PACS."""
