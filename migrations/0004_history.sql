-- What changed images, so that it can be taken back; and which images were deleted, so that they stay deleted.

-- one row per change of images
CREATE TABLE curation_log (
    changed_at       TIMESTAMP NOT NULL,       -- UTC
    verb             TEXT NOT NULL,            -- ingest, embed, score, insert, update, delete, alter, optimize, undo, restore
    detail           TEXT,                     -- what was written
    predicate        TEXT,                     -- SQL over images: which rows
    row_count        BIGINT UNSIGNED NOT NULL, -- rows that were written or deleted
    version_before   BIGINT UNSIGNED NOT NULL, -- of images
    version_after    BIGINT UNSIGNED,          -- NULL: it was begun and interrupted
    restored_version BIGINT UNSIGNED,          -- of undo and restore: the version whose rows came back
    largest_id       BIGINT UNSIGNED           -- of undo and restore: the largest id that images ever had
);

-- one row per deleted image: the same ingest does not bring it back
CREATE TABLE deletions (
    dataset      TEXT NOT NULL,
    uri          TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    deleted_at   TIMESTAMP NOT NULL
);
