package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// TestShortNamesStay: stores are full of these numbers.
func TestShortNamesStay(t *testing.T) {
	for number, name := range map[int]string{
		0: "value", 9: "primary", 18: "title", 23: "phoneNumbers", 35: "display", 36: "%24ref",
		37: "urn:ietf:params:scim:schemas:extension:enterprise:2%2E0:User", 43: "manager",
	} {
		if shortNames[number] != name || shortName(name) != strconv.Itoa(number) {
			t.Errorf("%s is number %s; %d is %s", name, shortName(name), number, shortNames[number])
		}
	}
	sorted := slices.Sorted(slices.Values(shortNames))
	if twice := len(sorted) - len(slices.Compact(sorted)); twice > 0 {
		t.Errorf("%d names have two numbers", twice)
	}
	if got := shortName("badge"); got != "badge" {
		t.Errorf("a name that has no number became %s", got)
	}
}

// TestShortDocuments writes documents as rows have them and reads them back.
func TestShortDocuments(t *testing.T) {
	const (
		id         = "01a21dde-6bb1-769d-8c3f-12418d46b6da"
		enterprise = `"` + schemas.EnterpriseUserURI + `"`
		user       = `{"schemas":["` + schemas.UserURI + `"],"id":"` + id + `"`
		both       = `{"schemas":["` + schemas.UserURI + `",` + enterprise + `],"id":"` + id + `"`
		group      = `{"schemas":["` + schemas.GroupURI + `"],"id":"` + id + `"`
	)
	c := openMemory(t)
	for _, test := range []struct{ doc, row string }{
		{user + `,"userName":"ana"}`, `1","userName":"ana"}`},
		{user + `}`, `1"}`},
		{both + `,"userName":"ana",` + enterprise + `:{"division":"Deck"}}`, "2\",\"userName\":\"ana\",\x01{\"division\":\"Deck\"}}"},
		{both + `,` + enterprise + `:{"division":"Deck"},"z":` + enterprise + `}`, "2\",\x01{\"division\":\"Deck\"},\"z\":" + enterprise + "}"},
		{both + `,"userName":"ana"}`, `2","userName":"ana"}`}, // as one whose extension is empty
		{group + `,"displayName":"` + strings.Repeat("é", 3000) + `"}`, `3","displayName":"` + strings.Repeat("é", 3000) + `"}`},
		{user + `,` + enterprise + `:{}}`, `1",` + enterprise + `:{}}`},
		{`{"schemas":["` + schemas.UserURI + `"],"id":"another"}`, ""},
		{`{"schemas":["` + schemas.UserURI + `"],"id":"` + id[:35] + `b","userName":"ana"}`, ""},
		{`{"schemas":[` + enterprise + `,"` + schemas.UserURI + `"],"id":"` + id + `"}`, ""},
		{`{"id":"` + id + `","name":"many"}`, ""},
		{`{`, ""}, {`0`, ""}, {`4`, ""}, {`:`, ""}, {``, ""}, // damage stays what it is
	} {
		if test.row == "" {
			test.row = test.doc
		}
		before := []byte("kept")
		if got := shortDoc(before, []byte(test.doc), id); string(got) != "kept"+test.row {
			t.Errorf("%.300q is kept as\n%.300q, want\n%.300q", test.doc, got[4:], test.row)
		}
		err := query(c, `SELECT CAST(? AS TEXT)`, func(st *sqlite.Stmt) error {
			for name, got := range map[string][]byte{
				"text": appendDoc(slices.Clone(before), st, 0, id), "bytes": appendDoc(before, st, 0, []byte(id)),
				"with room": appendDoc(append(make([]byte, 0, 10_000), before...), st, 0, id),
			} {
				if string(got) != "kept"+test.doc {
					t.Errorf("%s: %.300q is read as\n%.300q, want\n%.300q", name, test.row, got, test.doc)
				}
			}
			return nil
		}, []byte(test.row))
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, l := range schemaLists {
		if n := len(l.doc) + len(l.extension); n > longestList {
			t.Errorf("list %d takes %d bytes", i+1, n)
		}
	}
}

// TestShortShadows: shadows of an older program become what this one writes, and those
// that cannot be read stay as they are.
func TestShortShadows(t *testing.T) {
	c := openMemory(t)
	jsonb := func(text string) (b []byte) {
		t.Helper()
		if err := query(c, `SELECT jsonb(?)`, func(st *sqlite.Stmt) error { b = columnBytes(st, 0); return nil }, text); err != nil {
			t.Fatal(err)
		}
		return rawTexts(b)
	}
	core, enterprise := strings.ToLower(schemas.UserURI), strings.ToLower(schemas.EnterpriseUserURI)
	for long, short := range map[string]string{
		`{}`: `{}`,
		`{"schemas":["` + core + `"],"userName":"ana","active":true}`:                        `{"2":1,"3":"ana","8":true}`,
		`{"schemas":["` + core + `","` + enterprise + `"],"emails":[{"value":"é","x":-1}]}`:  `{"2":2,"7":[{"0":"é","x":-1}]}`,
		`{"schemas":["` + enterprise + `","` + core + `"]}`:                                  `{"2":["` + enterprise + `","` + core + `"]}`,
		`{"badge":{"schemas":["` + core + `"],"1":1.5}}`:                                     `{"badge":{"2":["` + core + `"],"1":1.5}}`,
		`{"title":"` + strings.Repeat("t", 70_000) + `","roles":["a",["b"],false,null,2.5]}`: `{"18":"` + strings.Repeat("t", 70_000) + `","33":["a",["b"],false,null,2.5]}`,
	} {
		got := shortShadow(jsonb(long))
		var text string
		if err := query(c, `SELECT json(?)`, func(st *sqlite.Stmt) error { text = st.ColumnText(0); return nil }, got); err != nil {
			t.Fatal(err)
		}
		if text != short {
			t.Errorf("%.300s became\n%.300s, want\n%.300s", long, text, short)
		}
		if again := shortShadow(got); !bytes.Equal(again, got) {
			t.Errorf("%.300s became another one the second time", long)
		}
	}
	whole := jsonb(`{"emails":[{"value":"` + strings.Repeat("e", 300) + `"}]}`)
	for n := range whole {
		if got := shortShadow(whole[:n]); !bytes.Equal(got, whole[:n]) {
			t.Errorf("the first %d bytes of a shadow became %x", n, got)
		}
	}
	for _, damaged := range [][]byte{{0x13, 'x'}, {0xfc, 1, 2, 3, 4, 5, 6, 7, 8}, {0x0c, 0}, {0x2c, 0x1a, 'x'}, {0x2c, 0x1a, 'x', 0}} {
		if got := shortShadow(damaged); !bytes.Equal(got, damaged) {
			t.Errorf("%x became %x", damaged, got)
		}
	}
}

// TestEveryRowIsShort: whichever way a row is written it is short, and whichever way it
// is read it is what was written. Filters and sorting see the list of schemas.
func TestEveryRowIsShort(t *testing.T) {
	s := openNew(t, Options{})
	tree := func(n int, rt *schemas.ResourceType, more map[string]any) *storage.Resource {
		attrs := map[string]any{"userName": fmt.Sprint("user", n), "displayName": fmt.Sprint("user", n)}
		if maps.Copy(attrs, more); rt == groupType {
			delete(attrs, "userName")
		}
		return newResource(rt, n, attrs)
	}
	deck := map[string]any{schemas.EnterpriseUserURI: map[string]any{"division": "Deck"}}
	created := tree(1, userType, nil)
	before := tree(2, userType, nil)
	updated := tree(2, userType, deck)
	deleted := tree(3, userType, deck)
	restored := tree(4, userType, deck)
	group := tree(5, groupType, nil)
	loaded := tree(6, userType, deck)
	mark := &storage.LoadMark{Dump: "d", Digest: []byte{1}}
	err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		if err := tx.SetLoad(nil, mark); err != nil {
			return err
		}
		return errors.Join(tx.Load(&storage.Record{Resource: &storage.WholeResource{Resource: *loaded}}), tx.SetLoad(mark, nil),
			tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "test"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, created, before, deleted, restored, group)
	updated.Version = 2
	for _, fn := range []func(storage.Tx) error{
		func(tx storage.Tx) error {
			prev, err := tx.Get("User", before.ID)
			return errors.Join(err, tx.Update(prev, updated))
		},
		func(tx storage.Tx) error {
			for _, r := range []*storage.Resource{deleted, restored} {
				if prev, err := tx.Get("User", r.ID); err != nil {
					return err
				} else if err := tx.Delete(prev, someday); err != nil {
					return err
				}
			}
			return nil
		},
		func(tx storage.Tx) error {
			w, err := s.GetDeleted(t.Context(), storage.DefaultTenant, "User", restored.ID)
			if err != nil {
				return err
			}
			if diff := cmp.Diff(string(restored.Doc), string(w.Doc)); diff != "" {
				t.Errorf("what is deleted (-want +got):\n%s", diff)
			}
			return tx.Restore(w, restored, false)
		},
	} {
		if err := write(s, fn); err != nil {
			t.Fatal(err)
		}
	}
	if n := number(t, s, `SELECT count(*) FROM resource WHERE doc LIKE '{%'`); n != 0 {
		t.Errorf("%d rows have a whole document", n)
	}
	if list, _ := flawsOf(t, s); len(list) > 0 {
		t.Errorf("flaws: %v", list)
	}

	all := []*storage.Resource{created, updated, deleted, restored, group, loaded}
	want, got := make(map[string]string), make(map[string]string)
	for _, r := range all {
		want[r.ID] = string(r.Doc)
	}
	for r, err := range s.Dump(t.Context(), storage.DefaultTenant) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Resource != nil {
			got[r.Resource.ID] = string(r.Resource.Doc)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the dump (-want +got):\n%s", diff)
	}
	delete(want, deleted.ID)
	clear(got)
	ask := func(q storage.Query) (ids []string) {
		q.StartIndex, q.Count = 1, 100
		page, err := s.Query(t.Context(), storage.DefaultTenant, q)
		if err != nil {
			t.Fatal(err)
		}
		for {
			list, err := page.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if list == nil {
				return ids
			}
			for _, r := range list {
				ids, got[r.ID] = append(ids, r.ID), string(r.Doc)
			}
		}
	}
	ask(storage.Query{Type: "Group"})
	// The first one decides, which is the same for all.
	if diff := cmp.Diff([]string{created.ID, updated.ID, restored.ID, loaded.ID}, ask(storage.Query{Type: "User", SortBy: userType.Lookup("schemas")})); diff != "" {
		t.Errorf("sorted by schemas (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	for text, n := range map[string]int{
		`schemas eq "` + schemas.UserURI + `"`: 4, `schemas ne "` + schemas.UserURI + `"`: 3, `schemas eq "` + schemas.EnterpriseUserURI + `"`: 3,
		`schemas pr`: 4, `not (schemas eq "` + schemas.EnterpriseUserURI + `")`: 1, `schemas co "ENTERPRISE"`: 3, `schemas sw "urn"`: 4, `schemas eq "1"`: 0,
		schemas.EnterpriseUserURI + `:division eq "deck"`: 3,
	} {
		if got := count(t, s, userType, text); got != n {
			t.Errorf("%s: found %d, want %d", text, got, n)
		}
	}
}

// TestIndexesOfLongNames: an index that an older program made over shadows is made anew.
func TestIndexesOfLongNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	open(t, path, Options{}).Close()
	raw(t, path, func(c *sqlite.Conn) {
		for _, sql := range []string{
			`INSERT INTO resource (n, tenant, type, id, version, created, modified, name, keys, doc, shadow)
				VALUES (1, 'default', 'User', '` + anaID + `', 1, 0, 0, 'ana', x'0000', '{"id":"` + anaID + `","title":"Cook"}', jsonb('{"title":"cook"}'))`,
			`CREATE INDEX "chosen title" ON resource (tenant, type, json_extract(shadow, '$."title"'), id)
				WHERE deleted IS NULL AND json_extract(shadow, '$."title"') IS NOT NULL`,
			`INSERT INTO long (n) VALUES (0)`,
		} {
			if err := exec(c, sql); err != nil {
				t.Fatal(err)
			}
		}
	})
	opt := Options{Indexed: choose(t, "User:title")}
	for range 2 {
		s := open(t, path, opt)
		if got := count(t, s, userType, `title eq "Cook"`); got != 1 {
			t.Errorf("found %d, want 1", got)
		}
		if n := number(t, s, `SELECT count(*) FROM sqlite_schema WHERE name = 'chosen title' AND sql LIKE '%"18"%'`); n != 1 {
			t.Error("the index is not over what shadows have now")
		}
		if n := number(t, s, `SELECT count(*) FROM long`); n != 0 {
			t.Error("the store says that something is long")
		}
		s.Close()
	}
}

// rawTexts gives texts the type that storage writes, where SQLite has another.
func rawTexts(b []byte) []byte {
	for at := b; len(at) > 0; {
		e, rest, _ := nextElement(at)
		switch e.typ {
		case jsonbArray, jsonbObject:
			rawTexts(e.payload)
		case 7: // a text without escapes
			e.raw[0] = e.raw[0]&0xf0 | jsonbText
		}
		at = rest
	}
	return b
}

// spelledOut is a shadow with the names that it has numbers for.
func spelledOut(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = spelledOut(v[i])
		}
	case map[string]any:
		long := make(map[string]any, len(v))
		for name, e := range v {
			if n, err := strconv.Atoi(name); err == nil {
				name = shortNames[n]
			}
			long[name] = spelledOut(e)
		}
		return long
	}
	return v
}

func openMemory(t *testing.T) *sqlite.Conn {
	t.Helper()
	c, err := sqlite.OpenConn(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
