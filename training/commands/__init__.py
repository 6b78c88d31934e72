"""Commands of ``radir`` that training brings: one file per command."""
