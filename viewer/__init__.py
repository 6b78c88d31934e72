"""The viewer's files as package data; no program runs from here. The web service serves component/ (radir_pacs/web/viewer.py)."""
