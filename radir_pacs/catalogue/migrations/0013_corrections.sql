-- Instances that come again with a corrected header, patients with more than one id, what was odd about a file.

ALTER TABLE study ADD COLUMN patient_keys text[] NOT NULL DEFAULT '{}';
UPDATE study SET patient_keys = ARRAY[patient_key] WHERE patient_key <> '';
CREATE INDEX study_by_patients ON study USING gin (patient_keys);
DROP INDEX study_by_patient;

ALTER TABLE instance ADD COLUMN patient_keys text[] NOT NULL DEFAULT '{}';
ALTER TABLE instance ADD COLUMN notes text[] NOT NULL DEFAULT '{}';
UPDATE instance SET patient_keys = study.patient_keys FROM study
WHERE study.study_uid = instance.study_uid AND study.patient_keys <> '{}';
CREATE INDEX instance_with_notes ON instance (received_at) WHERE notes <> '{}';

CREATE TABLE correction (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sop_uid       text NOT NULL REFERENCES instance ON DELETE CASCADE,
    other_sha256  text NOT NULL,
    aside         boolean NOT NULL,
    changed       text[] NOT NULL,
    source        text NOT NULL DEFAULT '',
    at            timestamptz NOT NULL DEFAULT now(),
    UNIQUE (sop_uid, other_sha256)
);
CREATE INDEX correction_by_blob ON correction (other_sha256) WHERE aside;
