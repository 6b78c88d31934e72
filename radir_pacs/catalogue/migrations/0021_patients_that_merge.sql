-- Patients that merge. An instance keeps the ids it came with; a study belongs to these and to all that they became.

CREATE TABLE patient_link (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prior_key  text NOT NULL,
    key        text NOT NULL,
    in_force   boolean NOT NULL DEFAULT TRUE,
    at         timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    CHECK (prior_key <> key)
);
CREATE UNIQUE INDEX one_patient_link ON patient_link (prior_key, key) WHERE in_force;

CREATE TABLE patient_move (
    link_id              bigint NOT NULL REFERENCES patient_link,
    study_uid            text NOT NULL REFERENCES study ON DELETE CASCADE,
    patient_key          text NOT NULL,
    patient_id           text,
    patient_name         text,
    patient_sex          text,
    patient_birth_date   date,
    patient_name_folded  text,
    PRIMARY KEY (link_id, study_uid)
);
CREATE INDEX patient_move_by_study ON patient_move (study_uid);

CREATE FUNCTION keys_of_patient(keys text[]) RETURNS text[] LANGUAGE sql STABLE AS $$
    WITH RECURSIVE known (key) AS (
        SELECT unnest(keys)
        UNION
        SELECT l.key FROM patient_link AS l JOIN known AS k ON l.prior_key = k.key WHERE l.in_force
    )
    SELECT coalesce(array_agg(key ORDER BY key), '{}') FROM known
$$;

CREATE FUNCTION key_of_patient(key text) RETURNS text LANGUAGE sql STABLE AS $$
    WITH RECURSIVE became (key, path) AS (
        SELECT key_of_patient.key, ARRAY[key_of_patient.key]
        UNION ALL
        SELECT l.key, b.path || l.key FROM became AS b CROSS JOIN LATERAL (
            SELECT x.key FROM patient_link AS x WHERE x.prior_key = b.key AND x.in_force ORDER BY x.id DESC LIMIT 1
        ) AS l WHERE NOT l.key = ANY(b.path)
    )
    SELECT b.key FROM became AS b ORDER BY cardinality(b.path) DESC LIMIT 1
$$;

CREATE FUNCTION study_follows_patient() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    said text = NEW.patient_key;
BEGIN
    IF EXISTS (SELECT FROM patient_link AS l WHERE l.in_force AND l.prior_key = ANY(NEW.patient_keys)) THEN
        NEW.patient_keys = keys_of_patient(NEW.patient_keys);
        NEW.patient_key = key_of_patient(said);
        IF NEW.patient_key <> said THEN
            NEW.patient_id = split_part(NEW.patient_key, '\', 2);
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER new_study_follows_patient BEFORE INSERT ON study FOR EACH ROW
WHEN (NEW.patient_keys <> '{}') EXECUTE FUNCTION study_follows_patient();
CREATE TRIGGER changed_study_follows_patient BEFORE UPDATE ON study FOR EACH ROW
WHEN (OLD.patient_keys IS DISTINCT FROM NEW.patient_keys OR OLD.patient_key IS DISTINCT FROM NEW.patient_key)
EXECUTE FUNCTION study_follows_patient();
