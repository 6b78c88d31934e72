-- Image tokens are kept, so that a head is retrained on them and the archive is encoded again without pixels.
CREATE TABLE image_tokens (
    study_uid   text NOT NULL REFERENCES study ON DELETE CASCADE,
    encoder     text NOT NULL,                        -- hash of the weights and settings that made them
    series_uid  text NOT NULL,
    sop_uid     text NOT NULL,
    revision    integer NOT NULL,                     -- study.revision that was encoded
    kind        text NOT NULL CHECK (kind IN ('CXR', 'CT')),
    lateral_view boolean NOT NULL,                     -- the view of a radiograph
    count       integer NOT NULL,                     -- tokens of equal width
    tokens      bytea NOT NULL,
    warnings    text[] NOT NULL DEFAULT '{}',         -- this and the next two as in encoding
    slices      text[],
    chest       real[],
    kept_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (encoder, study_uid)
);
ALTER TABLE image_tokens ALTER COLUMN tokens SET STORAGE EXTERNAL;
CREATE INDEX image_tokens_by_study ON image_tokens (study_uid);
