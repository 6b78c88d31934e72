-- How well a model that serves did with the studies of a week. Nothing about a patient.
CREATE TABLE model_quality (
    week         date NOT NULL,                       -- its Monday
    model_id     text NOT NULL REFERENCES model,
    kind         text NOT NULL CHECK (kind IN ('CXR', 'CT')),
    figures      jsonb NOT NULL,                      -- radir_pacs.query.quality
    measured_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (week, model_id)
);
