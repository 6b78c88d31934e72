-- A question that the model in shadow answered too, unseen: how its first ten cases differ. Nothing about a patient.
CREATE TABLE shadow_answer (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at                 timestamptz NOT NULL DEFAULT now(),
    region             text NOT NULL,
    serving            text NOT NULL REFERENCES model,
    shadow             text NOT NULL REFERENCES model,
    compared           integer NOT NULL,              -- cases of each: ten, or fewer in a small archive
    shared             integer NOT NULL,              -- of them, those that both answered
    serving_agreement  real,                          -- of the cases' reports with the query's, mean of 0 to 1
    shadow_agreement   real,
    serving_ms         real NOT NULL,
    shadow_ms          real NOT NULL
);
CREATE INDEX shadow_answer_by_model ON shadow_answer (shadow, id);
CREATE INDEX shadow_answer_by_time ON shadow_answer (at);
