-- People who sign in, by a password of ours or by a provider (OpenID Connect). One that was removed stays as a row: as
-- with tokens, requests need a caller from the first one on, for good.
CREATE TABLE account (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name               text NOT NULL,
    role               text NOT NULL CHECK (role IN ('administrator', 'radiologist', 'researcher')),
    scope              jsonb NOT NULL DEFAULT '{}',   -- which studies: radir_pacs.scopes
    names              boolean NOT NULL DEFAULT false,  -- rows of similar cases name their patients
    password_hash      text,                          -- argon2id; null: signs in by the provider
    must_change        boolean NOT NULL DEFAULT false,  -- the password was given by somebody else
    issuer             text,                          -- of the provider, which calls the person ``subject``
    subject            text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    created_by         text NOT NULL,
    last_signed_in_at  timestamptz,
    disabled_at        timestamptz,
    removed_at         timestamptz,
    CHECK ((issuer IS NULL) = (subject IS NULL)),
    CHECK (issuer IS NULL OR password_hash IS NULL)
);
CREATE UNIQUE INDEX account_by_name ON account (lower(name)) WHERE removed_at IS NULL;
CREATE UNIQUE INDEX account_by_subject ON account (issuer, subject) WHERE removed_at IS NULL;

-- Who is signed in, by the keyed hash of a random id that only the browser has: with an account, or with a token.
CREATE TABLE web_session (
    id_sha256   text PRIMARY KEY,
    account_id  bigint REFERENCES account ON DELETE CASCADE,
    token_tag   text,                                 -- keyed hash of the token's hash (radir_pacs.access.sessions)
    id_token    text,                                 -- by which the provider knows the session at its end
    since       timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    address     text NOT NULL DEFAULT '',
    CHECK ((account_id IS NULL) <> (token_tag IS NULL))
);
CREATE INDEX web_session_by_account ON web_session (account_id);

-- Attempts to sign in that failed, or have not ended: each one more makes the next wait longer.
CREATE TABLE sign_in_attempt (
    who            text NOT NULL,                     -- keyed hash of the name that was typed; empty: any name
    address        text NOT NULL,                     -- of IPv6 the network of 64 bits
    tries          integer NOT NULL,
    last_at        timestamptz NOT NULL DEFAULT now(),
    blocked_until  timestamptz NOT NULL,
    PRIMARY KEY (who, address)
);
CREATE INDEX sign_in_attempt_by_age ON sign_in_attempt (last_at);

-- Browsers that were sent to the provider and have not come back; each comes back once.
CREATE TABLE provider_visit (
    state_sha256    text PRIMARY KEY,
    browser_sha256  text NOT NULL,                    -- of the cookie of the browser that was sent
    nonce           text NOT NULL,
    verifier        text NOT NULL,                    -- RFC 7636
    leads_to        text NOT NULL,
    address         text NOT NULL,
    at              timestamptz NOT NULL DEFAULT now()
);
