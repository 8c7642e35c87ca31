-- Shadows hold numbers in place of common names (short.go); those of the rows beyond n
-- do not yet.
CREATE TABLE long (n INTEGER NOT NULL) STRICT;
INSERT INTO long (n) SELECT 0 WHERE EXISTS (SELECT 1 FROM resource);
