-- What a sidebar's token opens: one study for one reader, and the pictures of the cases it was shown.
ALTER TABLE viewer_context ADD COLUMN reader text;

CREATE TABLE viewer_context_case (
    token_sha256  text NOT NULL REFERENCES viewer_context ON DELETE CASCADE,
    study_uid     text NOT NULL REFERENCES study ON DELETE CASCADE,
    PRIMARY KEY (token_sha256, study_uid)
);
