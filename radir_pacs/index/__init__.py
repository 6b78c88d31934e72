"""Vectors of one region under one model, searchable: immutable checked segments and an exact tail (P4, P5, P7).

A *partition* is (model, region). Its *generation* lists the *segments* that answer, each a folder that was complete and
checked before it got its name; what came later is in the partition's tail until a writer merges. Everything here is a
cache of the catalogue: a refused file costs a rebuild, never an answer. An outside engine (`engine`) may hold a
generation instead of files.
"""

from radir_pacs.index.builder import GraphSettings, build
from radir_pacs.index.exact import exact_search
from radir_pacs.index.files import remove_open_marks
from radir_pacs.index.generation import Generation, check_generation, open_generation, partition_folder
from radir_pacs.index.manifest import GenerationManifest
from radir_pacs.index.merge import merge
from radir_pacs.index.partition import Hits, Partition
from radir_pacs.index.selection import EVERYTHING, Allowed, Selection
from radir_pacs.index.writer import remove_model, remove_unserved_models, remove_unused, should_merge

__all__ = [
    "EVERYTHING",
    "Allowed",
    "Generation",
    "GenerationManifest",
    "GraphSettings",
    "Hits",
    "Partition",
    "Selection",
    "build",
    "check_generation",
    "exact_search",
    "merge",
    "open_generation",
    "partition_folder",
    "remove_model",
    "remove_open_marks",
    "remove_unserved_models",
    "remove_unused",
    "should_merge",
]
