"""The viewer's files as package data; no program runs from here. radir_pacs/web/sidebar/viewer.py serves component/."""
