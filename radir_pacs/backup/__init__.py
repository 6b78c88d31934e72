"""Backups of an installation: made while everything runs, checked, and restored onto an empty machine."""
