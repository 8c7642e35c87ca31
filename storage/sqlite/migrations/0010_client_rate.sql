-- How many requests a client may send in a second, and at once; 0 where nobody has said.
ALTER TABLE client ADD COLUMN rate INTEGER NOT NULL DEFAULT 0;
ALTER TABLE client ADD COLUMN burst INTEGER NOT NULL DEFAULT 0;
