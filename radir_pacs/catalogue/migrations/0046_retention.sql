-- Why a file is away: it made room for others (room), or a rule of the site says so (retention).
ALTER TABLE evicted_blob ADD COLUMN reason text NOT NULL DEFAULT 'room' CHECK (reason IN ('room', 'retention'));

-- Studies whose files are to stay: somebody said so (person), or an export is about to read them.
CREATE TABLE study_hold (
    study_uid  text NOT NULL REFERENCES study ON DELETE CASCADE,
    why        text NOT NULL CHECK (why IN ('person', 'export')),
    by         text NOT NULL,                         -- the person, or the id of the export
    at         timestamptz NOT NULL DEFAULT now(),
    until      timestamptz NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (study_uid, why, by)
);

-- Studies whose files something is about to read, and what: none of these files goes.
CREATE VIEW held_study AS
SELECT substring(key FROM '[^/]*$') AS study_uid, 'job' AS why FROM job
WHERE state IN ('PENDING', 'RUNNING') AND kind <> 'report'
UNION ALL
SELECT s.study_uid, 'retraining' FROM retraining_study AS s JOIN retraining_run AS r ON r.id = s.run_id
WHERE r.depth = 'full' AND r.state IN ('PENDING', 'RUNNING')
UNION ALL
SELECT i.study_uid, 'commitment' FROM commitment AS c CROSS JOIN jsonb_array_elements(c.instances) AS asked
    JOIN instance AS i ON i.sop_uid = asked ->> 1
WHERE c.state = 'PENDING'
UNION ALL
SELECT h.study_uid, h.why FROM study_hold AS h WHERE h.until > now();

-- Whether a study is indexed, and encoded as it stands by every model of its kinds that serves or is in shadow.
CREATE FUNCTION encoded_by_all(of_study text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT s.state = 'INDEXED' AND NOT EXISTS (SELECT FROM model AS m
        WHERE m.state IN ('SERVING', 'SHADOW')
            AND m.kind IN (SELECT k.kind FROM encoding AS e JOIN model AS k USING (model_id) WHERE e.study_uid = of_study)
            AND NOT EXISTS (SELECT FROM encoding AS e
                WHERE e.study_uid = of_study AND e.model_id = m.model_id AND e.revision = s.revision))
    FROM study AS s WHERE s.study_uid = of_study
$$;

-- How far the rules of retention have gone through the archive. One row.
CREATE TABLE retention_pass (
    is_it     boolean PRIMARY KEY DEFAULT true CHECK (is_it),
    rules     text NOT NULL,                          -- SHA-256 of the rules; others begin anew
    after_at  timestamptz,                            -- studies up to this last instance are done; null: none yet
    began_at  timestamptz NOT NULL DEFAULT now(),
    ended_at  timestamptz,                            -- null: it goes on
    studies   bigint NOT NULL DEFAULT 0,              -- of which files were removed
    files     bigint NOT NULL DEFAULT 0,
    bytes     bigint NOT NULL DEFAULT 0
);

-- No picture of the study is here, so that no pass reads its instances. What brings one back clears it.
ALTER TABLE study ADD COLUMN is_emptied boolean NOT NULL DEFAULT false;
