package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

func flawsOf(t *testing.T, s *Store) (list []storage.Flaw, items int) {
	t.Helper()
	err := s.Check(t.Context(), storage.CheckOptions{
		Types:      func(storage.TenantID) (*schemas.Set, error) { return set, nil },
		Searchable: func(storage.TenantID, *schemas.ResourceType) bool { return true },
		Found:      func(f storage.Flaw) { list = append(list, f) },
		Item:       func(_ storage.TenantID, some []*storage.Item) error { items += len(some); return nil },
		Resource:   func() {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return list, items
}

// TestCheckFinds: each kind of damage is found, and is called what it is.
func TestCheckFinds(t *testing.T) {
	const one = ` WHERE id = '01a20000-0000-7000-8000-000000000001'`
	none := func(*sqlite.Conn) error { return nil }
	run := func(sql string) func(*sqlite.Conn) error {
		return func(c *sqlite.Conn) error {
			if err := exec(c, sql); err != nil {
				return err
			}
			if c.Changes() == 0 {
				return fmt.Errorf("nothing was damaged by %s", sql)
			}
			return nil
		}
	}
	for name, test := range map[string]struct {
		damage func(*sqlite.Conn) error
		want   []storage.FlawKind // each at least once, and no other
	}{
		"nothing":                         {none, nil},
		"a document that cannot be read":  {run(`UPDATE resource SET doc = 'x'` + one), []storage.FlawKind{storage.FlawDocument}},
		"another one's document":          {run(`UPDATE resource SET doc = '{"id":"01a20000-0000-7000-8000-000000000009"}'` + one), []storage.FlawKind{storage.FlawDocument}},
		"an unknown type":                 {run(`UPDATE resource SET type = 'Thing'` + one), []storage.FlawKind{storage.FlawCount, storage.FlawDocument}},
		"a shadow":                        {run(`UPDATE resource SET shadow = jsonb('{"title":"y"}')` + one), []storage.FlawKind{storage.FlawIndex}},
		"a name":                          {run(`UPDATE resource SET name = 'y'` + one), []storage.FlawKind{storage.FlawIndex}},
		"a change of the document alone":  {run(`UPDATE resource SET doc = replace(doc, '"title":"x"', '"title":"y"')` + one), []storage.FlawKind{storage.FlawIndex}},
		"keys in the row":                 {run(`UPDATE resource SET keys = x'0000'` + one), []storage.FlawKind{storage.FlawIndex, storage.FlawUnique}},
		"a unique key that is missing":    {run(`DELETE FROM unique_key WHERE n = 1`), []storage.FlawKind{storage.FlawUnique}},
		"a unique key of another row":     {run(`UPDATE unique_key SET n = 2 WHERE n = 1`), []storage.FlawKind{storage.FlawUnique}},
		"a unique key of nobody":          {run(`INSERT INTO unique_key (h, n) VALUES (zeroblob(16), 1)`), []storage.FlawKind{storage.FlawUnique}},
		"a unique key of no row":          {run(`INSERT INTO unique_key (h, n) VALUES (zeroblob(16), 999)`), []storage.FlawKind{storage.FlawUnique}},
		"a lookup key that is missing":    {run(`DELETE FROM lookup WHERE (h, n) IN (SELECT h, n FROM lookup WHERE n = 1 LIMIT 1)`), []storage.FlawKind{storage.FlawIndex}},
		"a lookup key too many":           {run(`INSERT INTO lookup (h, n) VALUES (7, 1)`), []storage.FlawKind{storage.FlawIndex}},
		"keys before they are merged":     {run(`UPDATE key_part SET n = 0`), []storage.FlawKind{storage.FlawIndex, storage.FlawUnique}},
		"a part that is not there":        {run(`DELETE FROM key_part`), []storage.FlawKind{storage.FlawIndex, storage.FlawUnique}},
		"a count":                         {run(`UPDATE tally SET live = live + 1`), []storage.FlawKind{storage.FlawCount}},
		"no counts":                       {run(`DELETE FROM tally`), []storage.FlawKind{storage.FlawCount}},
		"a membership without its member": {run(`INSERT INTO membership (grp, id, member, display) SELECT n, 'gone', 999, '' FROM resource WHERE type = 'Group'`), []storage.FlawKind{storage.FlawOrphan}},
		"a membership without its group":  {run(`INSERT INTO membership (grp, id, member, display) SELECT 999, id, n, '' FROM resource` + one), []storage.FlawKind{storage.FlawOrphan}},
		"a membership of another id":      {run(`UPDATE membership SET id = 'other' WHERE member = 1`), []storage.FlawKind{storage.FlawOrphan}},
		"a membership in a user":          {run(`INSERT INTO membership (grp, id, member, display) SELECT 2, id, n, '' FROM resource` + one), []storage.FlawKind{storage.FlawOrphan}},
		"a token without its client":      {run(`DELETE FROM client`), []storage.FlawKind{storage.FlawOrphan}},
		"a key of an item that is gone":   {run(`DELETE FROM item`), []storage.FlawKind{storage.FlawIndex}},
		"an index of SQLite's":            {dropFromIndex, []storage.FlawKind{storage.FlawFile}},
		"two users of one name, merged": {func(c *sqlite.Conn) error {
			// As if the second had been written past the store.
			return run(`UPDATE resource SET (name, keys, doc, shadow) = (SELECT name, keys, replace(doc, '000000000001', '000000000002'), shadow FROM resource` + one + `) WHERE id LIKE '%000000000002'`)(c)
		}, []storage.FlawKind{storage.FlawDuplicate, storage.FlawIndex, storage.FlawUnique}},
		"two users of one name, not merged yet": {func(c *sqlite.Conn) error {
			return run(`UPDATE resource SET (name, keys, doc, shadow) = (SELECT name, keys, replace(doc, '000000000004', '000000000005'), shadow FROM resource
				WHERE id LIKE '%000000000004') WHERE id LIKE '%000000000005'`)(c)
		}, []storage.FlawKind{storage.FlawDuplicate}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openNew(t, Options{})
			group, gone := newGroup(6), newUser(3)
			create(t, s, newUser(1), newUser(2), gone)
			mergeNow(t, s)
			create(t, s, newUser(4), newUser(5), group)
			addMembers(t, s, group, newUser(1), gone)
			err := write(s, func(tx storage.Tx) error {
				for _, err := range []error{
					tx.CreateClient(&storage.Client{ID: "c1", Name: "idp", Scopes: []string{}, Created: someday}),
					tx.CreateToken(&storage.Token{ID: "k1", Client: "c1", Hash: []byte("x"), Created: someday, Expires: someday}),
					tx.PutItem(nil, &storage.Item{Kind: "note", ID: "1", Keys: []string{"a"}, Data: []byte("1")}),
					tx.Delete(gone, someday),
				} {
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			onWriter(t, s, test.damage)
			list, items := flawsOf(t, s)
			var kinds []storage.FlawKind
			for _, f := range list {
				kinds = append(kinds, f.Kind)
			}
			slices.Sort(kinds)
			if got := slices.Compact(kinds); !slices.Equal(got, test.want) {
				t.Errorf("found %v, want flaws of the kinds %v", list, test.want)
			}
			if test.want == nil && items != 1 {
				t.Errorf("%d items, want 1", items)
			}
		})
	}
}

// dropFromIndex takes an entry out of an index, as a fault of the disk could.
func dropFromIndex(c *sqlite.Conn) error {
	for _, sql := range []string{
		`PRAGMA writable_schema = ON`,
		// SQLite fills the index as it stands, and the schema then says otherwise.
		`DROP INDEX resource_modified`,
		`CREATE INDEX resource_modified ON resource (tenant, type, modified) WHERE deleted IS NULL AND n > 2`,
		`UPDATE sqlite_schema SET sql = replace(sql, ' AND n > 2', '') WHERE name = 'resource_modified'`,
		`PRAGMA writable_schema = RESET`,
	} {
		if err := exec(c, sql); err != nil {
			return err
		}
	}
	return nil
}

// TestAsIs: who only reads leaves a store of an older version as it is.
func TestAsIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	someUsers(t, path)
	version := func(set string) (v int) {
		t.Helper()
		c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
		if err == nil && set != "" {
			err = sqlitex.ExecuteScript(c, set, nil)
		}
		if err == nil {
			err = query(c, "PRAGMA user_version", func(st *sqlite.Stmt) error { v = st.ColumnInt(0); return nil })
		}
		if err := errors.Join(err, c.Close()); err != nil {
			t.Fatal(err)
		}
		return v
	}
	opt := Options{Guest: true, MustExist: true, AsIs: true}
	if err := open(t, path, opt).Close(); err != nil {
		t.Fatal(err)
	}
	now := version("")
	same := fmt.Sprintf("PRAGMA user_version = %d; ", now)
	for _, set := range []string{
		"PRAGMA user_version = 7",
		same + "INSERT INTO stale (n) VALUES (0)", // an upgrade that was interrupted
		same + "DELETE FROM stale; INSERT INTO long (n) VALUES (0)",
	} {
		want := version(set)
		s, err := Open(t.Context(), path, opt)
		if !errors.Is(err, storage.ErrOtherVersion) {
			t.Errorf("%s: got %v, want ErrOtherVersion", set, err)
		}
		if err == nil {
			s.Close()
		}
		if got := version(""); got != want {
			t.Errorf("the store is of version %d now, was %d", got, want)
		}
	}
}
