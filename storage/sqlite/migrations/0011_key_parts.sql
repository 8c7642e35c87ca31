-- The keys are moved into the tables a 256th at a time (keys.go): those whose hash
-- begins with the byte of part are there for the rows up to n.
CREATE TABLE key_part (
    part INTEGER PRIMARY KEY,
    n    INTEGER NOT NULL
) STRICT;
WITH RECURSIVE parts (part) AS (SELECT 0 UNION ALL SELECT part + 1 FROM parts WHERE part < 255)
    INSERT INTO key_part (part, n) SELECT part, n FROM parts, keyed;
DROP TABLE keyed;
