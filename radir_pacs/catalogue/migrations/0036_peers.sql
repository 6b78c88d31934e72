-- DICOM peers that may call. The setting calling_ae_titles goes on admitting titles beside them.
CREATE TABLE peer (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ae_title     text NOT NULL CHECK (ae_title <> ''),
    network      cidr NOT NULL DEFAULT '::/0',         -- from where it calls; ::/0: from anywhere
    certificate  text,                                 -- of its TLS connection: sha256:… or CN=…; null: not looked at
    may_store    boolean NOT NULL DEFAULT true,
    may_commit   boolean NOT NULL DEFAULT true,        -- storage commitment (PS3.4 annex J)
    site         text,                                 -- the label of what it sends (radir_pacs.scopes); null: its title
    host         text,                                 -- where it is called itself, to verify the connection
    port         integer,
    over_tls     boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,
    UNIQUE (ae_title, network)
);
