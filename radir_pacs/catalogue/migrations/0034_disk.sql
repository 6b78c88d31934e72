-- How much the folders of the blobs hold, as the sweep last saw each: a budget is kept by it.
CREATE TABLE blob_usage (
    part   smallint PRIMARY KEY,                      -- the first byte of the hashes
    files  bigint NOT NULL,
    bytes  bigint NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);

-- Files that made room: the PACS has them, and whoever wants one has its study pulled again.
CREATE TABLE evicted_blob (
    content_sha256  text PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT now()
);
