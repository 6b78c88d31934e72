-- Which installation a bucket of files belongs to: a restore gives another id.
CREATE TABLE installation (
    id  uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO installation DEFAULT VALUES;
