-- Vectors may be held by an outside engine, and move from one to another.
ALTER TABLE generation ADD COLUMN engine text NOT NULL DEFAULT 'local';
ALTER TABLE generation DROP CONSTRAINT generation_state_check;
ALTER TABLE generation ADD CONSTRAINT generation_state_check
    CHECK (state IN ('FILLING', 'PUBLISHED', 'RETIRED', 'REFUSED'));
CREATE UNIQUE INDEX one_filling_generation ON generation (model_id, region) WHERE state = 'FILLING';
ALTER TABLE installation ADD COLUMN index_engine text;
