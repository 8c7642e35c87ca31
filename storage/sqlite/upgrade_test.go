package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitemigration"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/storagetest"
)

// testdata/7fc05fd.db.gz is a store as the program of commit 7fc05fd, the first that
// was published, left it: its server and client command made what is about ana, and
// a test with its storage package the rest, among it resources of badgeType.

// published returns the path of a copy of that store.
func published(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roster.db")
	storagetest.Unzip(t, "testdata/7fc05fd.db.gz", path)
	return path
}

// badgeType has dateTimes outside of meta, which no type of the published program
// had.
var badgeType = func() *schemas.ResourceType {
	b, err := os.ReadFile("testdata/badge.json")
	if err != nil {
		panic(err)
	}
	s, err := schemas.Parse(b)
	if err != nil {
		panic(err)
	}
	rt, err := schemas.NewResourceType("Badge", "/Badges", "Badge", s)
	if err != nil {
		panic(err)
	}
	return rt
}()

var withBadges = Options{Types: schemas.NewSet(append(slices.Clone(set.Types()), badgeType)...), Log: slog.New(slog.DiscardHandler)}

// The ids that the published program gave.
const (
	anaID         = "01a21564-41e7-7737-b8b1-536ff3b50c1b"
	bobID         = "01a21564-423c-700c-829f-d1ad525876fb"
	carlID        = "01a21564-424c-794c-b24c-249d823cfbf9"
	doraID        = "01a21564-428e-7823-a27e-fcaadc54f970"
	engineeringID = "01a21564-42a7-7aa2-8ce9-bcff55c4d5ed"
	staffID       = "01a21564-42ba-7168-9d67-13ef5f1e4e2c"
	goneID        = "01a21564-42cc-7b21-a34f-ea7eb0cbf45c"
)

// whole returns the resources as they stand in the file, deleted ones too, with all
// but what is derived for searching.
func whole(t testing.TB, c *sqlite.Conn) (list []string) {
	t.Helper()
	err := query(c, `SELECT n, tenant, type, id, version, created, modified, deleted, name, hex(keys), doc FROM resource ORDER BY n`, func(st *sqlite.Stmt) error {
		var b strings.Builder
		for i := range st.ColumnCount() {
			b.WriteString(st.ColumnText(i) + "|")
		}
		list = append(list, b.String())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// raw runs fn on a store that nobody serves.
func raw(t testing.TB, path string, fn func(c *sqlite.Conn)) {
	t.Helper()
	c, err := openConn(path, writer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fn(c)
}

// TestPublishedStore: a store of the first published program opens, and nothing in
// it is lost.
func TestPublishedStore(t *testing.T) {
	path := published(t)
	var before []string
	raw(t, path, func(c *sqlite.Conn) { before = whole(t, c) })
	s := open(t, path, withBadges)
	for range 2 {
		checkPublished(t, s, before)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, Options{}) // what has been brought up to date needs no types
	}
	defer s.Close()

	// It can be written to.
	err := write(s, func(tx storage.Tx) error {
		ana, err := tx.Get("User", anaID)
		if err != nil {
			return err
		}
		prev, err := tx.Item("credential", anaID)
		if err != nil {
			return err
		}
		attrs, err := userType.Parse(ana.Doc)
		if err != nil {
			return err
		}
		ana.Index = s.NewIndex(storage.DefaultTenant, userType, attrs)
		attrs["userName"] = "anna"
		next := newResource(userType, 0, attrs)
		attrs["id"], next.ID, next.Version = anaID, anaID, ana.Version+1
		next.Doc, next.Index = userType.Document(attrs), s.NewIndex(storage.DefaultTenant, userType, attrs)
		item := *prev
		item.Data = []byte(`{"passwordHash":"x"}`)
		return errors.Join(tx.Update(ana, next), tx.PutItem(prev, &item))
	})
	if err != nil {
		t.Errorf("change ana: %v", err)
	}
	for text, want := range map[string]int{`userName eq "ana"`: 0, `userName eq "anna"`: 1} {
		if n := count(t, s, userType, text); n != want {
			t.Errorf("%s: got %d, want %d", text, n, want)
		}
	}
	if _, ok := errors.AsType[*storage.UniqueError](write(s, func(tx storage.Tx) error {
		return tx.Create(newResource(userType, 1, map[string]any{"userName": "BOB"}))
	})); !ok {
		t.Error("a second bob was not refused")
	}
	list, faults := trail(t, s)
	if len(faults) > 0 || len(list) != 25 {
		t.Errorf("after a change: %d entries, want 25; faults %v", len(list), faults)
	}
}

// checkPublished looks at everything in the published store; before is what whole
// has said of it.
func checkPublished(t *testing.T, s *Store, before []string) {
	t.Helper()
	ctx, tenant := t.Context(), storage.DefaultTenant
	onWriter(t, s, func(c *sqlite.Conn) error {
		if diff := cmp.Diff(before, whole(t, c)); diff != "" {
			t.Errorf("resources (-before +after):\n%s", diff)
		}
		return nil
	})
	// What is derived is what this program would have derived.
	for _, rt := range withBadges.Types.Types() {
		err := s.read(ctx, func(c *sqlite.Conn) error {
			return query(c, `SELECT id, doc, shadow, keys FROM resource WHERE type = ?`, func(st *sqlite.Stmt) error {
				attrs, err := rt.Parse(appendDoc(nil, st, 1, st.ColumnText(0)))
				if err != nil {
					return err
				}
				x := s.NewIndex(tenant, rt, attrs).(*index)
				many := strings.HasPrefix(st.ColumnText(0), "badge")
				if !bytes.Equal(x.shadow, columnBytes(st, 2)) || !many && !bytes.Equal(x.packed, columnBytes(st, 3)) {
					t.Errorf("%s %s is searched by something other than what this program derives", rt.Name, st.ColumnText(0))
				}
				return nil
			}, rt.Name)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []struct {
		rt   *schemas.ResourceType
		text string
		want int
	}{
		{userType, `userName eq "ANA"`, 1},
		{userType, `externalId eq "e-carl" and title eq "mr"`, 1},
		{userType, `emails.value eq "ana@example.com"`, 1},
		{userType, `urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq "sales"`, 1},
		{userType, `meta.lastModified gt "2026-11-26T00:00:00Z"`, 3},
		{userType, `meta.created eq "2026-03-01T12:00:00Z"`, 4},
		{userType, `userName eq "dora"`, 0},
		{userType, `groups.value eq "` + staffID + `"`, 3},
		{groupType, `members.value eq "` + anaID + `"`, 1},
		{groupType, `members.display eq "THE FIRST"`, 1},
		{groupType, `displayName pr`, 4},
		{badgeType, `name eq "badge 901"`, 1},
		{badgeType, `issued eq "2026-03-01T12:00:00.1234567Z"`, 1},
		{badgeType, `issued eq "2026-03-01T12:00:00.1234568Z"`, 1}, // as one float they were the same
		{badgeType, `issued gt "2026-03-01T12:00:00.1234567Z"`, 1},
		{badgeType, `issued ge "2026-03-01T12:00:00.123Z"`, 3},
		{badgeType, `issued lt "2026-03-01T12:00:00.123Z" and issued gt "2026-01-01T00:00:00Z"`, 1},
		{badgeType, `visits.at eq "2026-03-02T08:00:00.0000001Z"`, 1},
		{badgeType, `visits.at lt "1970-01-01T00:00:00Z"`, 1},
		{badgeType, `visits[door eq "north" and at gt "2026-03-02T08:00:00Z"]`, 1},
		{badgeType, `visits[door eq "north" and at gt "2026-03-02T08:00:00.0000001Z"]`, 0},
	} {
		if n := count(t, s, f.rt, f.text); n != f.want {
			t.Errorf("%s: got %d, want %d", f.text, n, f.want)
		}
	}

	member := func(n int) string { return fmt.Sprintf("01a20000-0000-7000-8000-%012d", n) }
	for group, want := range map[string][]storage.Member{
		engineeringID: {{Value: anaID, Type: "User", Display: "the first"}, {Value: bobID, Type: "User", Display: "bob"}},
		staffID:       {{Value: carlID, Type: "User", Display: "carl"}, {Value: engineeringID, Type: "Group", Display: "Engineering"}},
		member(701): {{Value: member(802), Type: "User", Display: "user802"}, {Value: member(803), Type: "User", Display: "user803"},
			{Value: member(804), Type: "User", Display: "user804"}, {Value: member(805), Type: "User", Display: "user805"}},
		member(700): {{Value: member(701), Type: "Group", Display: "group701"}, {Value: member(805), Type: "User", Display: "user805"}},
		goneID:      nil,
	} {
		var got []storage.Member
		for m, err := range s.Members(ctx, tenant, group, "") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("members of %s (-want +got):\n%s", group, diff)
		}
	}
	groups, err := s.Groups(ctx, tenant, anaID)
	wantGroups := []storage.Membership{{Group: engineeringID, Display: "Engineering", Direct: true}, {Group: staffID, Display: "Staff"}}
	if diff := cmp.Diff(wantGroups, groups[anaID]); err != nil || diff != "" {
		t.Errorf("groups of ana: %v (-want +got):\n%s", err, diff)
	}
	// Those of deleted users and groups are there for when they come back.
	if n := number(t, s, `SELECT count(*) FROM membership m JOIN resource r ON r.n = m.member AND r.id = m.id`); n != 13 {
		t.Errorf("%d memberships, want 13", n)
	}

	hasher := auth.NewHasher()
	for id, password := range map[string]string{anaID: "Correct-horse-7fc", bobID: "Correct-horse-bob", doraID: "Correct-horse-dora"} {
		ok, err := hasher.Verify(ctx, password, passwordOf(t, s, id))
		if err != nil || !ok {
			t.Errorf("the password of %s: %v, %v", id, ok, err)
		}
	}
	for n, want := range map[int]string{805: "hash of 805", 801: `hash "of" 801`} {
		if got := passwordOf(t, s, member(n)); got != want {
			t.Errorf("the password of user%d: got %q, want %q", n, got, want)
		}
	}
	if list, err := s.Items(ctx, tenant, "credential", ""); err != nil || len(list) != 5 {
		t.Errorf("%d credentials, %v, want 5", len(list), err)
	}

	// A token that is good nowhere else.
	verifier := auth.NewVerifier(s, func() time.Time { return time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) })
	by, err := verifier.VerifyToken(ctx, "roster_nyIGN9Szj5QD_kgFQxt2nPiV8ND1Vej4HEHGU47itnb6knsJWSaBKY4r_0PyXjl", netip.MustParseAddr("127.0.0.1"))
	if err != nil || by.Tenant != tenant {
		t.Errorf("the token: %+v, %v", by, err)
	}
	clients, err := s.ListClients(ctx, tenant)
	if err != nil || len(clients) != 2 || clients[0].Name != "okta" && clients[1].Name != "okta" {
		t.Errorf("clients: %v, %v, want old and okta", clients, err)
	}
	for _, c := range clients {
		if (c.Name == "old") == c.Revoked.IsZero() {
			t.Errorf("client %s: revoked %v", c.Name, c.Revoked)
		}
	}

	list, err := s.AuditEntries(ctx, tenant, 0, 100)
	if err != nil || len(list) != 24 {
		t.Fatalf("%d audit entries, %v, want 24", len(list), err)
	}
	want := storage.AuditEntry{Seq: 14, At: list[13].At, RequestID: list[13].RequestID, Actor: "client:01a21563-f4ea-7953-9ab9-0d8e57769090",
		Action: "user.patch", Type: "User", ID: carlID, Version: 2, Attributes: []string{"title"}}
	if diff := cmp.Diff(want, list[13]); diff != "" || list[13].At.IsZero() || list[13].RequestID == "" {
		t.Errorf("entry 14 (-want +got):\n%s", diff)
	}
	report, err := audit.Verify(ctx, s, tenant, nil)
	if err != nil || len(report.Faults) > 0 {
		t.Errorf("Verify: %+v, %v", report, err)
	}
	if n := number(t, s, `SELECT (SELECT count(*) FROM stale) + (SELECT count(*) FROM long)`); n != 0 {
		t.Errorf("the store says that something is to be derived anew")
	}
}

func passwordOf(t testing.TB, s *Store, user string) string {
	t.Helper()
	c, err := auth.FindCredential(t.Context(), s, storage.DefaultTenant, user)
	if err != nil {
		t.Fatalf("the credential of %s: %v", user, err)
	}
	return c.PasswordHash
}

// stopping is a context that runs fn when it is asked for the n-th time whether it is
// over.
type stopping struct {
	context.Context
	n  int
	fn func() error
}

func (c *stopping) Err() error {
	if c.n--; c.n == 0 {
		return c.fn()
	}
	return nil
}

// more is how many badges manyBadges adds: three portions, with the five that are
// there.
const more = 2*derivedAtOnce + 500

// manyBadges adds badges without keys to the published store, whose shadows are of
// the form that it wrote.
func manyBadges(t testing.TB, path string) {
	t.Helper()
	raw(t, path, func(c *sqlite.Conn) {
		err := exec(c, `WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < ?)
			INSERT INTO resource (n, tenant, type, id, version, created, modified, name, keys, doc, shadow)
			SELECT 1000 + n, 'default', 'Badge', printf('badge%09d', n), 1, 0, 0, '', x'0000',
				printf('{"id":"badge%09d","name":"many","issued":"2025-05-01T00:00:00.%03dZ"}', n, n % 1000),
				jsonb(printf('{"name":"many","issued":%d}', 1746057600000 + n % 1000)) FROM i`, more)
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestUpgradeIsInterrupted: whenever the process comes to a sudden end while a store
// is brought up to date, the next start goes on.
func TestUpgradeIsInterrupted(t *testing.T) {
	raced.Skip(t)
	path := published(t)
	manyBadges(t, path)
	var before []string
	raw(t, path, func(c *sqlite.Conn) { before = whole(t, c) })
	const done = -1
	check := func(t *testing.T, path string, derived, shortened int64) {
		t.Helper()
		raw(t, path, func(c *sqlite.Conn) {
			for table, want := range map[string]int64{"stale": derived, "long": shortened} {
				n, err := highest(c, `SELECT coalesce(max(n), -1) FROM `+table)
				if err != nil || n != want {
					t.Errorf("%s: up to row %d, %v, want %d", table, n, err, want)
				}
			}
		})
		s := open(t, path, withBadges)
		defer s.Close()
		checkPublished(t, s, before)
		if n := count(t, s, badgeType, `issued ge "2025-05-01T00:00:00.000Z" and issued lt "2025-05-01T00:00:00.5Z"`); n != 1499 {
			t.Errorf("got %d of the many badges, want 1499", n)
		}
	}
	copyOf := func(t *testing.T) string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "roster.db")
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return to
	}

	for portion, from := range [][2]int64{{0, 0}, {1995, 0}, {2995, 0}, {done, 0}, {done, 1981}, {done, 2981}} { // row 1001 is the sixth badge
		t.Run(fmt.Sprint("killed before portion ", portion+1), func(t *testing.T) {
			at, left := copyOf(t), ""
			ctx := &stopping{Context: t.Context(), n: portion + 1, fn: func() error { left = kill(t, at); return nil }}
			s, err := Open(ctx, at, withBadges)
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			check(t, left, from[0], from[1])
		})
	}
	t.Run("told to stop", func(t *testing.T) {
		at := copyOf(t)
		s, err := Open(&stopping{Context: t.Context(), n: 3, fn: func() error { return context.Canceled }}, at, withBadges)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, %v, want Canceled", s, err)
		}
		check(t, at, 2995, 0)
	})
	t.Run("a row fails", func(t *testing.T) {
		at := copyOf(t)
		raw(t, at, func(c *sqlite.Conn) {
			if err := exec(c, `CREATE TRIGGER fault BEFORE UPDATE ON resource WHEN new.n = 2500 BEGIN SELECT RAISE(ABORT, 'fault'); END`); err != nil {
				t.Fatal(err)
			}
		})
		if s, err := Open(t.Context(), at, withBadges); err == nil {
			s.Close()
			t.Fatal("the store opened all the same")
		}
		raw(t, at, func(c *sqlite.Conn) {
			if err := exec(c, `DROP TRIGGER fault`); err != nil {
				t.Fatal(err)
			}
		})
		check(t, at, 1995, 0)
	})
	schema, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(schema.Migrations) {
		if n == 0 {
			continue // the file is there already
		}
		t.Run(fmt.Sprint("after migration ", n), func(t *testing.T) {
			at := copyOf(t)
			raw(t, at, func(c *sqlite.Conn) {
				some := schema
				some.Migrations = schema.Migrations[:n]
				if err := sqlitemigration.Migrate(t.Context(), c, some); err != nil {
					t.Fatal(err)
				}
			})
			s := open(t, at, withBadges)
			defer s.Close()
			checkPublished(t, s, before)
		})
	}
}

// TestNothingToDerive: in a store without dateTimes nothing is derived anew, and in
// one that is new there is no note of it.
func TestNothingToDerive(t *testing.T) {
	s := openNew(t, Options{})
	if n := number(t, s, `SELECT (SELECT count(*) FROM stale) + (SELECT count(*) FROM long)`); n != 0 {
		t.Error("a new store says that something is to be derived anew")
	}
	raw(t, published(t), func(c *sqlite.Conn) {
		if rows, err := staleRows(c, set, 0); err != nil || len(rows) > 0 {
			t.Errorf("%d rows, %v, want none", len(rows), err)
		}
		rows, err := staleRows(c, withBadges.Types, 9)
		if diff := cmp.Diff([]int64{10, 11, 12}, rows); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}

// TestUnreadableResource: what cannot be read does not keep the rest from opening.
func TestUnreadableResource(t *testing.T) {
	path := published(t)
	raw(t, path, func(c *sqlite.Conn) {
		if err := exec(c, `UPDATE resource SET doc = '{' WHERE n = 9`); err != nil {
			t.Fatal(err)
		}
	})
	s := open(t, path, withBadges)
	defer s.Close()
	if n := count(t, s, badgeType, `issued gt "2026-03-01T12:00:00.1234567Z"`); n != 1 {
		t.Errorf("got %d, want 1", n)
	}
}

// TestUpgradeOfMergedKeys: which rows were merged when all parts were merged at once is known
// of each part, and rows that were not merged follow.
func TestUpgradeOfMergedKeys(t *testing.T) {
	path := published(t)
	schema, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	var before []string
	raw(t, path, func(c *sqlite.Conn) {
		before = whole(t, c)
		merged := false
		some := schema
		some.Migrations = schema.Migrations[:10]
		err := errors.Join(sqlitemigration.Migrate(t.Context(), c, some), query(c, `SELECT n, keys FROM resource WHERE deleted IS NULL AND n <= 6`, func(st *sqlite.Stmt) error {
			n, k := st.ColumnInt64(0), unpackKeys(columnBytes(st, 1))
			for _, u := range k.unique {
				merged = true
				if err := exec(c, `INSERT INTO unique_key (h, n) VALUES (?, ?)`, u[:], n); err != nil {
					return err
				}
			}
			for _, l := range k.lookup {
				if err := exec(c, `INSERT INTO lookup (h, n) VALUES (?, ?)`, int64(l), n); err != nil {
					return err
				}
			}
			return nil
		}), exec(c, `UPDATE keyed SET n = 6`))
		if err != nil || !merged {
			t.Fatalf("%v; some are merged: %v", err, merged)
		}
	})
	s := open(t, path, withBadges)
	defer s.Close()
	checkPublished(t, s, before)
	if _, _, _, inMemory := keyRows(t, s); inMemory == 0 {
		t.Error("no rows are left to be merged")
	}
	mergeNow(t, s)
	checkPublished(t, s, before)
}

// TestUpgradesAreTold: the table of upgrades ends at the schema version of this program.
func TestUpgradesAreTold(t *testing.T) {
	t.Parallel()
	schema, err := migrations()
	page, readErr := os.ReadFile("../../docs/operations.md")
	if err := errors.Join(err, readErr); err != nil {
		t.Fatal(err)
	}
	if row := fmt.Sprintf("\n| file | 1 | %d |", len(schema.Migrations)); !strings.Contains(string(page), row) {
		t.Errorf("docs/operations.md has no row %q", row)
	}
}

// openFirst opens a store that was written under the first schema, by script.
func openFirst(t *testing.T, script string) *Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roster.db")
	schema, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	c, err := openConn(path, writer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	script = schema.Migrations[0] + fmt.Sprintf("; PRAGMA application_id = %d; PRAGMA user_version = 1;", schema.AppID) + script
	if err := sqlitex.ExecuteScript(c, script, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, Options{})
	t.Cleanup(func() { s.Close() })
	return s
}

// TestPasswordsAreMigrated: a store of the first schema keeps its passwords, those
// of deleted users too.
func TestPasswordsAreMigrated(t *testing.T) {
	s := openFirst(t, `INSERT INTO resource (n, tenant, type, id, version, created, modified, deleted, name, keys, doc, shadow) VALUES
			(1, 'default', 'User', 'ana', 1, 1, 1, NULL, '', x'', '{}', x''), (2, 'acme', 'User', 'bob', 1, 1, 1, 2, '', x'', '{}', x''),
			(3, 'acme', 'User', 'carl', 1, 1, 1, NULL, '', x'', '{}', x'');
		INSERT INTO credential (n, kind, secret) VALUES (1, 'password', '$argon2id$"ana"'), (2, 'password', '$argon2id$bob');
		INSERT INTO keyed (n) SELECT 3; DELETE FROM keyed WHERE n = 0;`)
	for _, want := range []struct {
		tenant     storage.TenantID
		user, data string
	}{{"default", "ana", `{"passwordHash":"$argon2id$\"ana\""}`}, {"acme", "bob", `{"passwordHash":"$argon2id$bob"}`}} {
		list, err := s.Items(t.Context(), want.tenant, "credential", "")
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: %d credentials, %v, want 1", want.tenant, len(list), err)
		}
		if i := list[0]; i.ID != want.user || string(i.Data) != want.data || i.Version != 1 || !i.Expires.IsZero() || len(i.Keys) > 0 {
			t.Errorf("%s: got %+v with %s, want %s with %s", want.tenant, i, i.Data, want.user, want.data)
		}
	}
}

// TestAuditTrailIsMigrated: a store of the first schema keeps its audit trail, and
// each tenant goes on from its own last number.
func TestAuditTrailIsMigrated(t *testing.T) {
	script := ""
	for n := range 9 {
		script += fmt.Sprintf(`INSERT INTO audit (seq, tenant, at, request_id, actor, action, type, id, version, attributes)
			VALUES (%d, '%s', 1000, 'r', 'operator', 'a%[1]d', 'User', 'u', 1, 'a b');`, n+1, []string{"default", "default", "acme"}[n%3])
	}
	s := openFirst(t, script)
	for tenant, want := range map[storage.TenantID]string{"default": "1 2 4 5 7 8 9", "acme": "3 6 9 10"} {
		if err := s.Write(t.Context(), tenant, func(tx storage.Tx) error {
			return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "new"})
		}); err != nil {
			t.Fatal(err)
		}
		list, err := s.AuditEntries(t.Context(), tenant, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var numbers []string
		for i, e := range list {
			numbers = append(numbers, fmt.Sprint(e.Seq))
			if i < len(list)-1 && (e.Action != fmt.Sprint("a", e.Seq) || e.At.UnixMilli() != 1000 || len(e.Attributes) != 2) {
				t.Errorf("%s: entry %+v", tenant, e)
			}
		}
		if got := strings.Join(numbers, " "); got != want {
			t.Errorf("%s: entries %s, want %s", tenant, got, want)
		}
	}
}
