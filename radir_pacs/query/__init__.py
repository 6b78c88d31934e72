"""Similar cases: rights and filters inside the search, parent fall-back, explanation."""

from radir_pacs.query.search import Searcher

__all__ = ["Searcher"]
