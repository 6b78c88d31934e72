-- Why a job failed, as a code beside its wording.

ALTER TABLE job ADD COLUMN IF NOT EXISTS reason_code text;
