-- Files that could not be embedded, so that one broken file in a million stops nothing and is not forgotten.

-- one row per file that was refused when it was last ingested or embedded
CREATE TABLE rejects (
    dataset     TEXT NOT NULL,
    split       TEXT NOT NULL,
    uri         TEXT NOT NULL,              -- as images.uri would be
    backbone    TEXT NOT NULL,
    reason      TEXT NOT NULL,
    rejected_at TIMESTAMP NOT NULL          -- UTC
);
