-- What studies are searched by gets a table of its own, with an index for each key and for any piece of a text. A study
-- changes with every instance; what it is searched by hardly ever does, so that its indexes cost once a study.

-- Terms by which a study is found, each after a letter for its kind: three consecutive characters of a text between a
-- mark for its start and two for its end (n, r, i, a, d), a whole patient ID (I), a word of a name as fuzzy matching
-- spells it (N, R). radir_pacs.catalogue.search_terms makes the same of what is asked for.
CREATE FUNCTION search_terms(patient_name text, referring_physician text, patient_id text, accession_number text,
    study_description text) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1000 AS $$
DECLARE
    terms text[] := '{}';
    kind text;
    part text;
    word text;
BEGIN
    FOREACH part IN ARRAY string_to_array('n' || replace(patient_name, '=', '=n'), '=')
        || string_to_array('r' || replace(referring_physician, '=', '=r'), '=')
        || string_to_array('i' || replace(patient_id, '\', '\i'), '\')
        || ('a' || accession_number) || ('d' || study_description)
    LOOP
        CONTINUE WHEN part IS NULL;
        kind := left(part, 1);
        part := substr(part, 2);
        IF kind IN ('n', 'r') THEN
            part := rtrim(part, '^');
            FOREACH word IN ARRAY
                string_to_array(translate(regexp_replace(part, '([aou])e', '\1', 'g'), '^-,', '   '), ' ')
            LOOP
                CONTINUE WHEN word = '';
                terms := terms || (upper(kind) || left(word, 64));
            END LOOP;
        ELSIF kind = 'i' THEN
            terms := terms || ('I' || left(part, 64));
        END IF;
        part := chr(1) || part || chr(2) || chr(2);
        FOR place IN 1 .. length(part) - 2 LOOP
            terms := terms || (kind || substr(part, place, 3));
        END LOOP;
    END LOOP;
    RETURN array_to_tsvector(terms);
END $$;

CREATE TABLE study_search (
    study_uid            text PRIMARY KEY REFERENCES study ON DELETE CASCADE,
    newest_first         integer NOT NULL,             -- days from the study's to the last of the calendar
    study_time           text,
    patient_id           text,
    patient_name_folded  text,
    patient_birth_date   date,
    patient_sex          text,
    accession_number     text,
    study_description    text,
    referring_physician_folded text,
    study_id             text,
    modalities           text[] NOT NULL
);

CREATE FUNCTION study_is_searched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_search VALUES (NEW.study_uid, coalesce(DATE '9999-12-31' - NEW.study_date, 2147483647),
        NEW.study_time, NEW.patient_id, NEW.patient_name_folded, NEW.patient_birth_date, NEW.patient_sex,
        NEW.accession_number, NEW.study_description, NEW.referring_physician_folded, NEW.study_id, NEW.modalities)
    ON CONFLICT (study_uid) DO UPDATE SET newest_first = excluded.newest_first, study_time = excluded.study_time,
        patient_id = excluded.patient_id, patient_name_folded = excluded.patient_name_folded,
        patient_birth_date = excluded.patient_birth_date, patient_sex = excluded.patient_sex,
        accession_number = excluded.accession_number, study_description = excluded.study_description,
        referring_physician_folded = excluded.referring_physician_folded, study_id = excluded.study_id,
        modalities = excluded.modalities;
    RETURN NULL;
END $$;
CREATE TRIGGER study_search_on_insert AFTER INSERT ON study FOR EACH ROW EXECUTE FUNCTION study_is_searched();
CREATE TRIGGER study_search_on_update AFTER UPDATE ON study FOR EACH ROW
    WHEN ((OLD.study_date, OLD.study_time, OLD.patient_id, OLD.patient_name_folded, OLD.patient_birth_date,
        OLD.patient_sex, OLD.accession_number, OLD.study_description, OLD.referring_physician_folded, OLD.study_id,
        OLD.modalities) IS DISTINCT FROM (NEW.study_date, NEW.study_time, NEW.patient_id, NEW.patient_name_folded,
        NEW.patient_birth_date, NEW.patient_sex, NEW.accession_number, NEW.study_description,
        NEW.referring_physician_folded, NEW.study_id, NEW.modalities))
    EXECUTE FUNCTION study_is_searched();

INSERT INTO study_search
SELECT study_uid, coalesce(DATE '9999-12-31' - study_date, 2147483647), study_time, patient_id, patient_name_folded,
    patient_birth_date, patient_sex, accession_number, study_description, referring_physician_folded, study_id, modalities
FROM study;

SET LOCAL maintenance_work_mem = '256MB';  -- else the largest index is written in many small pieces
CREATE UNIQUE INDEX study_search_in_order ON study_search (newest_first, study_uid);
CREATE INDEX study_search_by_accession ON study_search (accession_number);
CREATE INDEX study_search_by_birth_date ON study_search (patient_birth_date);
CREATE INDEX study_search_by_modality ON study_search USING gin (modalities);
CREATE INDEX study_search_by_terms ON study_search USING gin (search_terms(patient_name_folded,
    referring_physician_folded, patient_id, accession_number, study_description))
    WITH (gin_pending_list_limit = 256);  -- kB: the study that fills the list enters it all into the index
DROP INDEX study_by_date;
DROP INDEX study_by_accession;
ANALYZE study_search;
