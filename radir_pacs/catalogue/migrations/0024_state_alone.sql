-- Each instance that arrives renews last_instance_at of its study: without it in an index, and with room on the page, that
-- is an update of one row, and no index is written. Few studies are RECEIVING at a time, so that the state alone finds them.
DROP INDEX study_by_state;
CREATE INDEX study_by_state ON study (state);
ALTER TABLE study SET (fillfactor = 85);
