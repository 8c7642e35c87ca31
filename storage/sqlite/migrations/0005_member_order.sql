-- Members are shown in the order of their ids, which row numbers do not keep.
CREATE TABLE members_by_id (
    grp     INTEGER NOT NULL,
    id      TEXT NOT NULL, -- the member's
    member  INTEGER NOT NULL,
    display TEXT NOT NULL, -- empty for the member's name
    PRIMARY KEY (grp, id)
) STRICT, WITHOUT ROWID;
-- Group by group, each page is written once.
INSERT INTO members_by_id (grp, id, member, display)
    SELECT m.grp, r.id, m.member, m.display FROM membership m CROSS JOIN resource r ON r.n = m.member ORDER BY m.grp, m.member;
DROP TABLE membership;
ALTER TABLE members_by_id RENAME TO membership;
CREATE INDEX membership_member ON membership (member, grp);
