-- Up to which transaction the feed of changes was pruned: a reader that read before it starts again from the catalogue.
CREATE TABLE feed_horizon (
    xid  xid8 NOT NULL
);
INSERT INTO feed_horizon VALUES ('0');
