-- Who sent to a study, from whom it is withheld, and the scope of a token: what decides who may see it.

CREATE TABLE withheld_patient (
    patient_key  text PRIMARY KEY,
    degree       smallint NOT NULL CHECK (degree IN (1, 2)),  -- radir_pacs.scopes.Withheld
    reason       text NOT NULL DEFAULT '',
    by           text NOT NULL,
    at           timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE study ADD COLUMN sites text[] NOT NULL DEFAULT '{}';
ALTER TABLE study ADD COLUMN withheld smallint NOT NULL DEFAULT 0;
ALTER TABLE study_search ADD COLUMN sites text[] NOT NULL DEFAULT '{}';
ALTER TABLE study_search ADD COLUMN withheld smallint NOT NULL DEFAULT 0;

-- Without the triggers, which would write a row of the feed for every study there is: readers start anew anyway.
DROP TRIGGER study_search_on_update ON study;
DROP TRIGGER study_changed_on_update ON study;
UPDATE study AS s SET sites = sent.sites FROM (
    SELECT study_uid, array_agg(DISTINCT source ORDER BY source) AS sites FROM instance
    WHERE source NOT IN ('', 'similar') GROUP BY study_uid
) AS sent WHERE sent.study_uid = s.study_uid;
-- Without the index of words, into which every row would be entered anew.
DROP INDEX study_search_by_terms;
UPDATE study_search AS k SET sites = s.sites FROM study AS s WHERE s.study_uid = k.study_uid AND s.sites <> '{}';
CREATE INDEX study_search_by_terms ON study_search USING gin (search_terms(patient_name_folded,
    referring_physician_folded, patient_id, accession_number, study_description))
    WITH (gin_pending_list_limit = 256);
CREATE INDEX study_search_by_site ON study_search USING gin (sites);

CREATE OR REPLACE FUNCTION study_is_searched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_search VALUES (NEW.study_uid, coalesce(DATE '9999-12-31' - NEW.study_date, 2147483647),
        NEW.study_time, NEW.patient_id, NEW.patient_name_folded, NEW.patient_birth_date, NEW.patient_sex,
        NEW.accession_number, NEW.study_description, NEW.referring_physician_folded, NEW.study_id, NEW.modalities,
        NEW.sites, NEW.withheld)
    ON CONFLICT (study_uid) DO UPDATE SET newest_first = excluded.newest_first, study_time = excluded.study_time,
        patient_id = excluded.patient_id, patient_name_folded = excluded.patient_name_folded,
        patient_birth_date = excluded.patient_birth_date, patient_sex = excluded.patient_sex,
        accession_number = excluded.accession_number, study_description = excluded.study_description,
        referring_physician_folded = excluded.referring_physician_folded, study_id = excluded.study_id,
        modalities = excluded.modalities, sites = excluded.sites, withheld = excluded.withheld;
    RETURN NULL;
END $$;
CREATE TRIGGER study_search_on_update AFTER UPDATE ON study FOR EACH ROW
    WHEN ((OLD.study_date, OLD.study_time, OLD.patient_id, OLD.patient_name_folded, OLD.patient_birth_date,
        OLD.patient_sex, OLD.accession_number, OLD.study_description, OLD.referring_physician_folded, OLD.study_id,
        OLD.modalities, OLD.sites, OLD.withheld) IS DISTINCT FROM (NEW.study_date, NEW.study_time, NEW.patient_id,
        NEW.patient_name_folded, NEW.patient_birth_date, NEW.patient_sex, NEW.accession_number, NEW.study_description,
        NEW.referring_physician_folded, NEW.study_id, NEW.modalities, NEW.sites, NEW.withheld))
    EXECUTE FUNCTION study_is_searched();

CREATE TRIGGER study_changed_on_update AFTER UPDATE ON study FOR EACH ROW WHEN (
    (OLD.patient_keys, OLD.patient_id, OLD.patient_name, OLD.patient_sex, OLD.patient_birth_date, OLD.patient_age_years,
        OLD.study_date, OLD.study_time, OLD.accession_number, OLD.study_description, OLD.referring_physician,
        OLD.study_id, OLD.body_part, OLD.modalities, OLD.has_report, OLD.sites, OLD.withheld)
    IS DISTINCT FROM
    (NEW.patient_keys, NEW.patient_id, NEW.patient_name, NEW.patient_sex, NEW.patient_birth_date, NEW.patient_age_years,
        NEW.study_date, NEW.study_time, NEW.accession_number, NEW.study_description, NEW.referring_physician,
        NEW.study_id, NEW.body_part, NEW.modalities, NEW.has_report, NEW.sites, NEW.withheld))
EXECUTE FUNCTION study_has_changed();

CREATE FUNCTION degree_of_patient(keys text[]) RETURNS smallint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(w.degree), 0::smallint) FROM withheld_patient AS w WHERE w.patient_key = ANY(keys)
$$;

CREATE FUNCTION study_is_withheld() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.withheld = degree_of_patient(NEW.patient_keys);
    RETURN NEW;
END $$;
CREATE TRIGGER withheld_new_study BEFORE INSERT ON study FOR EACH ROW
WHEN (NEW.patient_keys <> '{}') EXECUTE FUNCTION study_is_withheld();
CREATE TRIGGER withheld_changed_study BEFORE UPDATE ON study FOR EACH ROW
WHEN (OLD.patient_keys IS DISTINCT FROM NEW.patient_keys) EXECUTE FUNCTION study_is_withheld();

CREATE FUNCTION withholding_follows_patient() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO withheld_patient (patient_key, degree, reason, by)
    SELECT NEW.key, w.degree, w.reason, w.by FROM withheld_patient AS w WHERE w.patient_key = NEW.prior_key
    ON CONFLICT (patient_key) DO UPDATE SET degree = greatest(withheld_patient.degree, excluded.degree);
    RETURN NULL;
END $$;
CREATE TRIGGER withholding_follows_patient AFTER INSERT ON patient_link FOR EACH ROW
EXECUTE FUNCTION withholding_follows_patient();

CREATE FUNCTION patient_is_withheld() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE study AS s SET withheld = degree_of_patient(s.patient_keys)
    WHERE s.patient_keys @> ARRAY[coalesce(NEW.patient_key, OLD.patient_key)];
    RETURN NULL;
END $$;
CREATE TRIGGER withheld_patient_changed AFTER INSERT OR UPDATE OR DELETE ON withheld_patient FOR EACH ROW
EXECUTE FUNCTION patient_is_withheld();

CREATE FUNCTION is_in_scope(s study, scope jsonb) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (NOT scope ? 'sites' OR (s.sites <> '{}' AND to_jsonb(s.sites) <@ (scope -> 'sites')))
        AND (NOT scope ? 'modalities' OR (s.modalities && ARRAY(SELECT jsonb_array_elements_text(scope -> 'modalities'))
            AND s.modalities <@ ARRAY(SELECT jsonb_array_elements_text(
                (scope -> 'modalities') || (scope -> 'without_images')))))
        AND (NOT scope ? 'since' OR s.study_date >= (scope ->> 'since')::date)
        AND (NOT scope ? 'until' OR s.study_date <= (scope ->> 'until')::date)
        AND s.withheld <= (scope ->> 'sees')::smallint, FALSE)
$$;

ALTER TABLE access_token ADD COLUMN scope jsonb NOT NULL DEFAULT '{}';
ALTER TABLE access_token ADD COLUMN names boolean NOT NULL DEFAULT false;
ALTER TABLE access_token DROP CONSTRAINT access_token_role_check;
ALTER TABLE access_token ADD CONSTRAINT access_token_role_check
    CHECK (role IN ('administrator', 'radiologist', 'service', 'researcher'));
ALTER TABLE viewer_context ADD COLUMN scope jsonb NOT NULL DEFAULT '{}';
