"""RadIR-PACS: the similar-case system beside a PACS. Decision support, not diagnosis."""

__version__ = "0.1.0"
