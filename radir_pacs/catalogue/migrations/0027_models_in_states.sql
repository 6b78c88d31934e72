-- Models are registered, shadow, serve and retire; what serves changes only by a promotion, and a history says why.
ALTER TABLE model ADD COLUMN state text NOT NULL DEFAULT 'REGISTERED'
    CHECK (state IN ('REGISTERED', 'SHADOW', 'SERVING', 'RETIRED'));
ALTER TABLE model ADD COLUMN bundle_sha256 text;
ALTER TABLE model ADD COLUMN kept_until timestamptz;
ALTER TABLE model ADD COLUMN fed_below bigint;
ALTER TABLE model ADD COLUMN fed_at timestamptz;
ALTER TABLE model ADD COLUMN coverage real NOT NULL DEFAULT 1;
UPDATE model SET state = CASE WHEN active THEN 'SERVING' ELSE 'RETIRED' END;
DROP INDEX one_active_model;
ALTER TABLE model DROP COLUMN active;
CREATE UNIQUE INDEX one_serving_model ON model (kind) WHERE state = 'SERVING';
CREATE UNIQUE INDEX one_shadow_model ON model (kind) WHERE state = 'SHADOW';

-- Models whose encodings and index are kept up to date.
CREATE VIEW kept_model AS
SELECT model_id, kind, dim, manifest, state, bundle_sha256, kept_until, fed_below, fed_at, coverage FROM model
WHERE state IN ('SERVING', 'SHADOW') OR (state = 'RETIRED' AND kept_until > now());

-- What happened to models, who or which rule did it, and why. Rows are only ever added.
CREATE TABLE model_event (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    model_id  text NOT NULL REFERENCES model,
    kind      text NOT NULL,
    change    text NOT NULL CHECK (change IN ('REGISTERED', 'SHADOWED', 'PROMOTED', 'ROLLED_BACK', 'RETIRED', 'PRUNED')),
    replaces  text,                                   -- of PROMOTED and ROLLED_BACK: the model that answered until then
    who       text NOT NULL CHECK (who <> ''),        -- a person, or 'rule:' and its name
    reason    text NOT NULL,
    evidence  text NOT NULL DEFAULT '',               -- where the grounds are filed
    coverage  real                                    -- share of the studies that it had encoded then
);
CREATE INDEX model_event_by_model ON model_event (model_id, id);

CREATE FUNCTION model_events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history of models is only ever added to' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER model_event_stays BEFORE UPDATE OR DELETE ON model_event FOR EACH ROW
EXECUTE FUNCTION model_events_stay();
CREATE TRIGGER model_events_stay_all BEFORE TRUNCATE ON model_event FOR EACH STATEMENT
EXECUTE FUNCTION model_events_stay();

INSERT INTO model_event (model_id, kind, change, who, reason)
SELECT model_id, kind, CASE WHEN state = 'SERVING' THEN 'PROMOTED' ELSE 'RETIRED' END, 'rule:migration',
    'so it stood when this history began; known since ' || to_char(added_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')
FROM model ORDER BY added_at, model_id;

DROP INDEX job_encode;
CREATE INDEX job_encode ON job (urgency, id) WHERE kind IN ('encode', 'reencode') AND state = 'PENDING';
CREATE INDEX job_failed ON job (kind, key) WHERE state = 'FAILED';
