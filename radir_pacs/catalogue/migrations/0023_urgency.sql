-- Encode jobs have an urgency, and a queue of a million re-encodings costs the others nothing.
ALTER TABLE job ADD COLUMN urgency smallint NOT NULL DEFAULT 1;
DROP INDEX job_open;
CREATE INDEX job_open ON job (kind, state, run_after) WHERE state IN ('PENDING', 'RUNNING');
CREATE INDEX job_running ON job (id) WHERE state = 'RUNNING';
CREATE INDEX job_encode ON job (urgency, id) WHERE kind = 'encode' AND state = 'PENDING';
CREATE INDEX job_rung ON job (rung_at) WHERE state = 'PENDING' AND rung_at IS NOT NULL;
