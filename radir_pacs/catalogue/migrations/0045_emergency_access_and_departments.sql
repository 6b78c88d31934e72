-- Patients whom somebody opened in an emergency, departments of studies, and how both are in scope.

-- The department that an instance names (0008,1040), cut to what an LO may hold (PS3.5 6.2): it is a key of an index.
CREATE FUNCTION department_of(attributes jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT nullif(left(attributes #>> '{00081040,Value,0}', 64), '')
$$;

-- At most 32 departments of a study; for more stands a comma, which no scope can name (radir_pacs.scopes.DEPARTMENT).
CREATE FUNCTION few_departments(names text[]) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN cardinality(names) > 32 OR ',' = ANY(names) THEN ARRAY[','] ELSE names END
$$;

-- Every header is read before any table is locked.
CREATE TEMPORARY TABLE named ON COMMIT DROP AS
SELECT study_uid, few_departments(array_agg(DISTINCT department_of(attributes)
    ORDER BY department_of(attributes))) AS departments
FROM instance WHERE department_of(attributes) IS NOT NULL GROUP BY study_uid;

CREATE TABLE emergency_access (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id    bigint NOT NULL REFERENCES account,
    caller        text NOT NULL,                        -- its name
    study_uid     text NOT NULL,                        -- the study that was asked for
    patient_keys  text[] NOT NULL,                      -- of the patient, merged ones too, as they were then
    reason        text NOT NULL,
    begun_at      timestamptz NOT NULL DEFAULT now(),
    ends_at       timestamptz NOT NULL,
    ended_at      timestamptz                           -- NULL: the trail does not have its end yet
);
CREATE INDEX emergency_access_open ON emergency_access (account_id) WHERE ended_at IS NULL;

-- These keys, and all that they were merged with, in either direction.
CREATE FUNCTION linked_keys(keys text[]) RETURNS text[] LANGUAGE sql STABLE AS $$
    WITH RECURSIVE linked (key) AS (
        SELECT unnest(keys)
        UNION
        SELECT CASE WHEN l.key = k.key THEN l.prior_key ELSE l.key END
        FROM linked AS k JOIN patient_link AS l ON k.key IN (l.key, l.prior_key) AND l.in_force
    )
    SELECT coalesce(array_agg(key ORDER BY key), '{}') FROM linked
$$;

-- Which studies are open to an account by its emergency accesses (ADR 0040): those that were asked for, and others that
-- surely belong to the same person: all their keys were the patient's from the beginning, and one that they share with
-- the study asked for names its issuer. A key without issuer counts among studies of one and the same site only. A study
-- of several people opens no other one. Keys without an id, or that were cut, are nobody's. P6: at most 1000 a key.
CREATE FUNCTION opened_studies(account bigint) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT ARRAY(
        SELECT a.study_uid FROM emergency_access AS o JOIN study AS a USING (study_uid)
        WHERE o.account_id = account AND o.ended_at IS NULL AND o.ends_at > now()
        UNION
        SELECT same.study_uid FROM emergency_access AS o JOIN study AS a USING (study_uid)
            CROSS JOIN LATERAL unnest(a.patient_keys) AS k (key)
            CROSS JOIN LATERAL (
                SELECT s.study_uid FROM study AS s
                WHERE s.patient_keys @> ARRAY[k.key] AND s.patient_keys <@ o.patient_keys
                    AND (split_part(k.key, '\', 1) <> '' OR (cardinality(a.sites) = 1 AND s.sites = a.sites))
                LIMIT 1000
            ) AS same
        WHERE o.account_id = account AND o.ended_at IS NULL AND o.ends_at > now()
            AND split_part(k.key, '\', 2) <> '' AND length(k.key) < 256
            AND a.patient_keys <@ linked_keys(a.patient_keys[1:1]))
$$;

ALTER TABLE study ADD COLUMN departments text[] NOT NULL DEFAULT '{}';
ALTER TABLE study_search ADD COLUMN departments text[] NOT NULL DEFAULT '{}';

-- What came since it was read; from here on nothing comes. An hour: longer than any transaction that stores.
CREATE TEMPORARY TABLE late ON COMMIT DROP AS
SELECT study_uid FROM study WHERE changed_at > now() - interval '1 hour';
DELETE FROM named USING late WHERE named.study_uid = late.study_uid;
INSERT INTO named
SELECT study_uid, few_departments(array_agg(DISTINCT department_of(attributes) ORDER BY department_of(attributes)))
FROM instance JOIN late USING (study_uid) WHERE department_of(attributes) IS NOT NULL GROUP BY study_uid;

-- As in 0035: without the triggers, and without the index of words.
DROP TRIGGER study_search_on_update ON study;
DROP TRIGGER study_changed_on_update ON study;
UPDATE study AS s SET departments = named.departments FROM named WHERE named.study_uid = s.study_uid;
DROP INDEX study_search_by_terms;
UPDATE study_search AS k SET departments = s.departments FROM study AS s
WHERE s.study_uid = k.study_uid AND s.departments <> '{}';
CREATE INDEX study_search_by_terms ON study_search USING gin (search_terms(patient_name_folded,
    referring_physician_folded, patient_id, accession_number, study_description))
    WITH (gin_pending_list_limit = 256);
CREATE INDEX study_search_by_department ON study_search USING gin (departments);

CREATE OR REPLACE FUNCTION study_is_searched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_search VALUES (NEW.study_uid, coalesce(DATE '9999-12-31' - NEW.study_date, 2147483647),
        NEW.study_time, NEW.patient_id, NEW.patient_name_folded, NEW.patient_birth_date, NEW.patient_sex,
        NEW.accession_number, NEW.study_description, NEW.referring_physician_folded, NEW.study_id, NEW.modalities,
        NEW.sites, NEW.withheld, NEW.departments)
    ON CONFLICT (study_uid) DO UPDATE SET newest_first = excluded.newest_first, study_time = excluded.study_time,
        patient_id = excluded.patient_id, patient_name_folded = excluded.patient_name_folded,
        patient_birth_date = excluded.patient_birth_date, patient_sex = excluded.patient_sex,
        accession_number = excluded.accession_number, study_description = excluded.study_description,
        referring_physician_folded = excluded.referring_physician_folded, study_id = excluded.study_id,
        modalities = excluded.modalities, sites = excluded.sites, withheld = excluded.withheld,
        departments = excluded.departments;
    RETURN NULL;
END $$;
CREATE TRIGGER study_search_on_update AFTER UPDATE ON study FOR EACH ROW
    WHEN ((OLD.study_date, OLD.study_time, OLD.patient_id, OLD.patient_name_folded, OLD.patient_birth_date,
        OLD.patient_sex, OLD.accession_number, OLD.study_description, OLD.referring_physician_folded, OLD.study_id,
        OLD.modalities, OLD.sites, OLD.withheld, OLD.departments) IS DISTINCT FROM (NEW.study_date, NEW.study_time,
        NEW.patient_id, NEW.patient_name_folded, NEW.patient_birth_date, NEW.patient_sex, NEW.accession_number,
        NEW.study_description, NEW.referring_physician_folded, NEW.study_id, NEW.modalities, NEW.sites, NEW.withheld,
        NEW.departments))
    EXECUTE FUNCTION study_is_searched();
CREATE TRIGGER study_changed_on_update AFTER UPDATE ON study FOR EACH ROW WHEN (
    (OLD.patient_keys, OLD.patient_id, OLD.patient_name, OLD.patient_sex, OLD.patient_birth_date, OLD.patient_age_years,
        OLD.study_date, OLD.study_time, OLD.accession_number, OLD.study_description, OLD.referring_physician,
        OLD.study_id, OLD.body_part, OLD.modalities, OLD.has_report, OLD.sites, OLD.withheld, OLD.departments)
    IS DISTINCT FROM
    (NEW.patient_keys, NEW.patient_id, NEW.patient_name, NEW.patient_sex, NEW.patient_birth_date, NEW.patient_age_years,
        NEW.study_date, NEW.study_time, NEW.accession_number, NEW.study_description, NEW.referring_physician,
        NEW.study_id, NEW.body_part, NEW.modalities, NEW.has_report, NEW.sites, NEW.withheld, NEW.departments))
EXECUTE FUNCTION study_has_changed();

CREATE OR REPLACE FUNCTION is_in_scope(s study, scope jsonb) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT s.study_uid = ANY(ARRAY(SELECT jsonb_array_elements_text(scope -> 'opened'))) OR coalesce(
        (NOT scope ? 'sites' OR (s.sites <> '{}' AND to_jsonb(s.sites) <@ (scope -> 'sites')))
        AND (NOT scope ? 'departments'
            OR (s.departments <> '{}' AND to_jsonb(s.departments) <@ (scope -> 'departments')))
        AND (NOT scope ? 'modalities' OR (s.modalities && ARRAY(SELECT jsonb_array_elements_text(scope -> 'modalities'))
            AND s.modalities <@ ARRAY(SELECT jsonb_array_elements_text(
                (scope -> 'modalities') || (scope -> 'without_images')))))
        AND (NOT scope ? 'since' OR s.study_date >= (scope ->> 'since')::date)
        AND (NOT scope ? 'until' OR s.study_date <= (scope ->> 'until')::date)
        AND s.withheld <= (scope ->> 'sees')::smallint, FALSE)
$$;
