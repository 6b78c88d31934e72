-- What readers had judged of pairs of a run's studies.
CREATE TABLE retraining_judgement (
    run_id           bigint NOT NULL REFERENCES retraining_run ON DELETE CASCADE,
    query_study_uid  text NOT NULL REFERENCES study ON DELETE CASCADE,
    case_study_uid   text NOT NULL REFERENCES study ON DELETE CASCADE,
    region           text NOT NULL,
    up               integer NOT NULL,                -- readers who said that the case is alike, and who said not
    down             integer NOT NULL,
    PRIMARY KEY (run_id, query_study_uid, case_study_uid, region)
);
CREATE INDEX retraining_judgement_by_query ON retraining_judgement (query_study_uid);
CREATE INDEX retraining_judgement_by_case ON retraining_judgement (case_study_uid);
