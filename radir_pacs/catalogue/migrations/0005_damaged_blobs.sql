-- Files whose bytes were found to be other than what was stored; storing the content again mends one.

CREATE TABLE damaged_blob (
    content_sha256  text PRIMARY KEY,
    found_at        timestamptz NOT NULL DEFAULT now()
);
