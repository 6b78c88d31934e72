-- What filters look at stands in memory beside the index: readers learn of every change of it.
ALTER TABLE encoding ADD COLUMN scanner text;
UPDATE encoding AS e SET scanner = nullif(concat_ws(E'\\', i.attributes #>> '{00080070,Value,0}', i.attributes #>> '{00081090,Value,0}'), '')
FROM instance AS i WHERE i.sop_uid = e.sop_uid;

CREATE TABLE study_changed (
    study_uid  text NOT NULL,
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX study_changed_by_xid ON study_changed (xid);

CREATE FUNCTION study_has_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_changed (study_uid) VALUES (NEW.study_uid);
    RETURN NULL;
END $$;
CREATE TRIGGER study_changed_on_update AFTER UPDATE ON study FOR EACH ROW WHEN (
    (OLD.patient_keys, OLD.patient_id, OLD.patient_name, OLD.patient_sex, OLD.patient_birth_date, OLD.patient_age_years,
        OLD.study_date, OLD.study_time, OLD.accession_number, OLD.study_description, OLD.referring_physician,
        OLD.study_id, OLD.body_part, OLD.modalities, OLD.has_report)
    IS DISTINCT FROM
    (NEW.patient_keys, NEW.patient_id, NEW.patient_name, NEW.patient_sex, NEW.patient_birth_date, NEW.patient_age_years,
        NEW.study_date, NEW.study_time, NEW.accession_number, NEW.study_description, NEW.referring_physician,
        NEW.study_id, NEW.body_part, NEW.modalities, NEW.has_report))
EXECUTE FUNCTION study_has_changed();

CREATE FUNCTION report_has_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_changed (study_uid) VALUES (coalesce(NEW.study_uid, OLD.study_uid));
    RETURN NULL;
END $$;
CREATE TRIGGER study_changed_on_report_update AFTER UPDATE OF findings, superseded ON report FOR EACH ROW
EXECUTE FUNCTION report_has_changed();
CREATE TRIGGER study_changed_on_report_insert AFTER INSERT ON report FOR EACH ROW WHEN (NEW.findings IS NOT NULL)
EXECUTE FUNCTION report_has_changed();
CREATE TRIGGER study_changed_on_report_delete AFTER DELETE ON report FOR EACH ROW WHEN (OLD.findings IS NOT NULL)
EXECUTE FUNCTION report_has_changed();

CREATE FUNCTION scanner_has_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE encoding AS e SET scanner = nullif(
        concat_ws(E'\\', NEW.attributes #>> '{00080070,Value,0}', NEW.attributes #>> '{00081090,Value,0}'), '')
    WHERE e.study_uid = NEW.study_uid AND e.sop_uid = NEW.sop_uid;
    INSERT INTO study_changed (study_uid) VALUES (NEW.study_uid);
    RETURN NULL;
END $$;
CREATE TRIGGER study_changed_on_correction AFTER UPDATE OF attributes ON instance FOR EACH ROW
WHEN (OLD.attributes IS DISTINCT FROM NEW.attributes) EXECUTE FUNCTION scanner_has_changed();
