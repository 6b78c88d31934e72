-- Storage commitment: who asked us to answer for which instances, and whether he has the answer.

CREATE TABLE commitment (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_uid  text NOT NULL,
    requestor        text NOT NULL,                   -- calling AE title
    instances        jsonb NOT NULL,                  -- [[SOP class UID, SOP instance UID], ...] as they were asked for
    state            text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'REPORTED')),
    asked_at         timestamptz NOT NULL DEFAULT now(),
    reported_at      timestamptz,
    UNIQUE (requestor, transaction_uid)
);
CREATE INDEX commitment_pending ON commitment (requestor) WHERE state = 'PENDING';
