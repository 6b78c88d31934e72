-- Runs of retraining, their steps, and what each run saw.
CREATE TABLE retraining_run (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('CXR', 'CT')),
    depth         text NOT NULL CHECK (depth IN ('head', 'full')),
    state         text NOT NULL DEFAULT 'PENDING'
                  CHECK (state IN ('PENDING', 'RUNNING', 'DONE', 'REFUSED', 'FAILED', 'CANCELLED')),
    plan          jsonb NOT NULL,                     -- as it was before anything was trained
    plan_sha256   text NOT NULL,
    champion      text NOT NULL REFERENCES model,     -- the model that served when the run began
    challenger    text,                               -- what was trained
    passed        boolean,                            -- all gates; null: not judged
    started_by    text NOT NULL,
    reason        text,                               -- why it was refused, failed or cancelled
    reason_code   text,
    cancel_asked  boolean NOT NULL DEFAULT false,
    worker        text,                               -- the process that holds it
    token         bigint,                             -- fencing: grows with every lease
    lease_until   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    changed_at    timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz
);
CREATE SEQUENCE retraining_token;

-- The steps of a run, in their order; a step that is done is never done again.
CREATE TABLE retraining_step (
    run_id      bigint NOT NULL REFERENCES retraining_run ON DELETE CASCADE,
    number      integer NOT NULL,
    name        text NOT NULL,
    state       text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'RUNNING', 'DONE', 'FAILED')),
    progress    real NOT NULL DEFAULT 0,              -- share that is done
    note        text NOT NULL DEFAULT '',             -- what it does now, or came to; names nobody
    attempts    integer NOT NULL DEFAULT 0,
    artefacts   jsonb NOT NULL DEFAULT '{}',          -- files of the run's folder, each with its SHA-256
    started_at  timestamptz,
    ended_at    timestamptz,
    PRIMARY KEY (run_id, number)
);

-- What a run saw: its snapshot. A study that is deleted leaves it; what was counted stands in the step's note.
CREATE TABLE retraining_study (
    run_id         bigint NOT NULL REFERENCES retraining_run ON DELETE CASCADE,
    study_uid      text NOT NULL REFERENCES study ON DELETE CASCADE,
    revision       integer NOT NULL,
    report_sha256  text NOT NULL,
    held_out       boolean NOT NULL,
    PRIMARY KEY (run_id, study_uid)
);
CREATE INDEX retraining_study_by_study ON retraining_study (study_uid);
