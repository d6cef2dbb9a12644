-- Views that SQL keeps, banks that follow their table, and proof of what each migration was when it ran.

-- one row per view
CREATE TABLE views (
    name       TEXT NOT NULL,
    definition TEXT NOT NULL,               -- CREATE VIEW name AS SELECT ...
    created_at TIMESTAMP NOT NULL
);

-- SHA-256 of the migration's text, hexadecimal
ALTER TABLE schema_migrations ADD COLUMN checksum TEXT;

-- the latest version of images that is known to give the bank the same rows; NULL: its own
ALTER TABLE banks ADD COLUMN checked_version BIGINT UNSIGNED;
