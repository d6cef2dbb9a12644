-- Views that SQL keeps, and proof of what each migration was when it ran.

-- one row per view
CREATE TABLE views (
    name       TEXT NOT NULL,
    definition TEXT NOT NULL,               -- CREATE VIEW name AS SELECT ...
    created_at TIMESTAMP NOT NULL
);

-- SHA-256 of the migration's text, hexadecimal
ALTER TABLE schema_migrations ADD COLUMN checksum TEXT;
