-- Why a job failed, as a code beside its wording.

ALTER TABLE job ADD COLUMN reason text;  -- code of the last failure (RadirError.code); error words it
