-- The five tables of a database. One embedding column per backbone is added to `images` by ingest
-- (FLOAT[d], NULL where that backbone has not seen the image).

-- one row per image
CREATE TABLE images (
    id           BIGINT UNSIGNED NOT NULL,  -- own key: stable across updates and compaction
    dataset      TEXT NOT NULL,
    split        TEXT NOT NULL,
    uri          TEXT NOT NULL,             -- absolute path, or archive path!/entry
    label        TEXT,                      -- the class folder, where there is one
    width        INT UNSIGNED NOT NULL,     -- pixels
    height       INT UNSIGNED NOT NULL,
    content_hash TEXT NOT NULL,             -- SHA-256 of the file, hexadecimal
    ingested_at  TIMESTAMP NOT NULL,        -- UTC
    bytes        BYTEA                      -- the file itself, under ingest --store-images
);

-- one row per network that has embedded images
CREATE TABLE backbones (
    name          TEXT NOT NULL,            -- also the name of its column in images
    architecture  TEXT NOT NULL,
    dimension     INT UNSIGNED NOT NULL,
    sha256        TEXT NOT NULL,            -- of the weights file
    manifest      TEXT NOT NULL,            -- as it was read
    folder        TEXT NOT NULL,            -- where relative weights paths of the manifest start
    registered_at TIMESTAMP NOT NULL
);

-- one row per bank: the in-distribution embeddings that a score is measured against
CREATE TABLE banks (
    name          TEXT NOT NULL,
    backbone      TEXT NOT NULL,
    sha256        TEXT NOT NULL,            -- of the backbone's weights
    predicate     TEXT NOT NULL,            -- SQL over images
    k             INT UNSIGNED NOT NULL,    -- neighbours counted by default
    alpha         DOUBLE NOT NULL,          -- share of the matching rows that is kept
    seed          BIGINT UNSIGNED NOT NULL, -- of that sampling
    index_kind    TEXT NOT NULL,            -- exact | hnsw | hnsw-bf16 | hnsw-i8
    table_version BIGINT UNSIGNED NOT NULL, -- version of images that the bank stands for
    row_count     BIGINT UNSIGNED NOT NULL,
    dimension     INT UNSIGNED NOT NULL,
    created_at    TIMESTAMP NOT NULL
);

-- one row per calibrated bank and k: the scores of held-out in-distribution images
CREATE TABLE calibrations (
    bank          TEXT NOT NULL,
    table_version BIGINT UNSIGNED NOT NULL, -- of the bank it was measured against
    predicate     TEXT NOT NULL,
    k             INT UNSIGNED NOT NULL,
    scores        FLOAT[] NOT NULL,         -- ascending
    created_at    TIMESTAMP NOT NULL
);

-- one row per migration that has run
CREATE TABLE schema_migrations (
    version    INT UNSIGNED NOT NULL,
    name       TEXT NOT NULL,
    applied_at TIMESTAMP NOT NULL
);
