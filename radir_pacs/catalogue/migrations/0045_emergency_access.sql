-- Patients whom somebody opened in an emergency, and how they are in scope.

CREATE TABLE emergency_access (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id    bigint NOT NULL REFERENCES account,
    caller        text NOT NULL,                        -- its name
    study_uid     text NOT NULL,                        -- the study that was asked for
    patient_keys  text[] NOT NULL,                      -- whose studies are reached
    reason        text NOT NULL,
    begun_at      timestamptz NOT NULL DEFAULT now(),
    ends_at       timestamptz NOT NULL,
    ended_at      timestamptz                           -- NULL: the trail does not have its end yet
);
CREATE INDEX emergency_access_open ON emergency_access (account_id) WHERE ended_at IS NULL;

CREATE OR REPLACE FUNCTION is_in_scope(s study, scope jsonb) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT s.patient_keys && ARRAY(SELECT jsonb_array_elements_text(scope -> 'opened')) OR coalesce(
        (NOT scope ? 'sites' OR (s.sites <> '{}' AND to_jsonb(s.sites) <@ (scope -> 'sites')))
        AND (NOT scope ? 'modalities' OR (s.modalities && ARRAY(SELECT jsonb_array_elements_text(scope -> 'modalities'))
            AND s.modalities <@ ARRAY(SELECT jsonb_array_elements_text(
                (scope -> 'modalities') || (scope -> 'without_images')))))
        AND (NOT scope ? 'since' OR s.study_date >= (scope ->> 'since')::date)
        AND (NOT scope ? 'until' OR s.study_date <= (scope ->> 'until')::date)
        AND s.withheld <= (scope ->> 'sees')::smallint, FALSE)
$$;
