-- Rows that came as numbers: without a picture there is no size, and no file of which this would be the hash.

ALTER TABLE images
    ALTER COLUMN width DROP NOT NULL,
    ALTER COLUMN height DROP NOT NULL,
    ALTER COLUMN content_hash DROP NOT NULL;
