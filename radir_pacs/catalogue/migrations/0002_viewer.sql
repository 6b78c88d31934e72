-- What readers think of an answer, and the tokens that open the sidebar without identifiers in a URL.

-- A reader's judgement of one similar case; a later one of the same reader replaces it.
CREATE TABLE feedback (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    query_study_uid  text NOT NULL REFERENCES study ON DELETE CASCADE,
    case_study_uid   text NOT NULL REFERENCES study ON DELETE CASCADE,
    region           text NOT NULL,
    model_id         text NOT NULL,
    generation       text,
    rank             integer NOT NULL,
    score            real NOT NULL,
    verdict          text NOT NULL CHECK (verdict IN ('UP', 'DOWN')),
    reason           text NOT NULL DEFAULT '',
    reader           text NOT NULL DEFAULT '',        -- a random name that one browser keeps; no person
    at               timestamptz NOT NULL DEFAULT now(),
    UNIQUE (reader, query_study_uid, case_study_uid, region, model_id)
);

-- A study that somebody who may see it asked to open; the token itself is known to the caller alone.
CREATE TABLE viewer_context (
    token_sha256  text PRIMARY KEY,
    study_uid     text NOT NULL REFERENCES study ON DELETE CASCADE,
    expires_at    timestamptz NOT NULL
);
