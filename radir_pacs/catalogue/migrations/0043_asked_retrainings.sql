-- Retrainings that the relay begins and resumes, wherever somebody asked for them.
ALTER TABLE retraining_run ADD COLUMN asked boolean NOT NULL DEFAULT false;
