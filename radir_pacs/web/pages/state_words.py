"""The states of a study in plain words, in the order in which a study goes through them."""

from __future__ import annotations

from collections.abc import Mapping

from radir_pacs.types import StudyState

STATE_WORDS: Mapping[StudyState, str] = {
    StudyState.RECEIVING: "images still come in; it counts as complete when none has come for a while",
    StudyState.STABLE: "complete, and waits for the network to read it",
    StudyState.ENCODED: "can be asked about; is found among similar cases shortly",
    StudyState.INDEXED: "can be asked about and is found among similar cases",
    StudyState.SKIPPED: "kept, but not of a kind that is compared; its page says why",
    StudyState.QUARANTINED: "kept, but could not be read; its page says why",
}
