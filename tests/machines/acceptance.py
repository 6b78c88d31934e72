"""Which acceptance tests run on three machines (RADIR_TEST_MACHINES=3), and why the others do not.

Of each file of tests/acceptance, what does not run there: the reason, for a test of it or for all ("").
"""

from __future__ import annotations

_NO_STACK = "no installation takes part"
NOT_THERE: dict[str, dict[str, str]] = {
    "orthanc/test_plugin.py": {"test_the_configuration_that_we_ship_works": _NO_STACK},
    "orthanc/test_viewers.py": {},
    "test_backup.py": {},
    "test_compiled_mining.py": {"": _NO_STACK},
    "test_docs_run.py": {"test_every_page_that_is_run_has_commands_and_says_why_some_are_not": _NO_STACK},
    "test_external_model.py": {},
    "test_main_job.py": {},
    "test_peers.py": {},
    "test_real_material.py": {},
    "test_report_story.py": {},
}


def reason_against(file: str, test: str) -> str:
    """Why a test does not run on three machines; empty: it does. Raises KeyError for a file that nobody decided on."""
    reasons = NOT_THERE[file]
    return reasons.get("") or reasons.get(test.partition("[")[0], "")
