-- What was erased, so that a later look can tell whether anything is left: numbers and hashes, and no patient.
CREATE TABLE erasure (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT now(),
    by            text NOT NULL,
    study_uids    text[] NOT NULL,
    encoding_ids  bigint[] NOT NULL,
    blobs         text[] NOT NULL,
    runs          bigint[] NOT NULL,                   -- retrainings whose snapshot held one of the studies
    subject       bytea NOT NULL                       -- SHA-256 of what was asked to be erased
);
CREATE INDEX erasure_by_subject ON erasure (subject);
