-- DateTimes in shadows were milliseconds and are storage.Ticks. SQL cannot derive a
-- shadow: derive.go does it for the rows beyond n, and then takes n away.
CREATE TABLE stale (n INTEGER NOT NULL) STRICT;
INSERT INTO stale (n) SELECT 0 WHERE EXISTS (SELECT 1 FROM resource);
