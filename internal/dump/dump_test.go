package dump

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

var set = func() *schemas.Set {
	s, err := schemas.Load()
	if err != nil {
		panic(err)
	}
	return s
}()

var someday = time.Date(2026, 3, 1, 12, 0, 0, 5_000_000, time.UTC)

func openStore(t testing.TB) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "roster.db"), sqlite.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// secret stands in every value of a dump that an error could repeat.
const secret = "swordfish"

func id(n int) string { return fmt.Sprintf("01a20000-0000-7000-8000-%012d", n) }

// filled is a store with a bit of everything, of users whose number is given.
func filled(t testing.TB, users int) *sqlite.Store {
	t.Helper()
	s := openStore(t)
	resource := func(typ string, n int, attrs map[string]any) *storage.Resource {
		rt := set.Type(typ)
		attrs["id"] = id(n)
		r := &storage.Resource{Type: typ, ID: id(n), Version: int64(n), Created: someday, LastModified: someday.Add(time.Hour), Name: storage.NameOf(attrs)}
		r.Doc, r.Index = rt.Document(attrs), s.NewIndex(storage.DefaultTenant, rt, attrs)
		return r
	}
	var members []storage.Member
	var list []*storage.Resource
	for n := range users {
		list = append(list, resource("User", n+1, map[string]any{
			"userName": fmt.Sprint(secret, n), "title": "<&> é \u2028 \" \\ \n 😀 " + secret, "active": true,
			"emails": []any{map[string]any{"value": fmt.Sprint(n, "@x.example"), "primary": n%2 == 0}},
		}))
		members = append(members, storage.Member{Value: id(n + 1)})
	}
	members[0].Display = secret + " <given>"
	group := resource("Group", 1_000_000, map[string]any{"displayName": secret + " group"})
	err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		err := errors.Join(tx.CreateClient(&storage.Client{ID: "c1", Name: secret, Scopes: []string{"users", "groups"}, Networks: []string{"192.0.2.0/24"}, Created: someday}),
			tx.CreateToken(&storage.Token{ID: "k1", Client: "c1", Hash: []byte(secret), Created: someday, Expires: someday.Add(time.Hour)}), tx.Create(group))
		for _, r := range list {
			err = errors.Join(err, tx.Create(r), tx.Audit(storage.AuditEntry{At: someday, RequestID: secret, Actor: "client:c1", Action: "user.create",
				Type: "User", ID: r.ID, Version: 1, Attributes: []string{"userName", "emails.value"}}))
		}
		_, mErr := tx.AddMembers(group, members)
		return errors.Join(err, mErr, tx.PutItem(nil, &storage.Item{Kind: "credential", ID: list[0].ID, Keys: []string{secret}, Data: []byte(`{"passwordHash":"$argon2id$` + secret + `"}`)}))
	})
	if err == nil {
		err = s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
			return errors.Join(tx.Delete(list[1], someday.Add(2*time.Hour)), tx.Audit(storage.AuditEntry{At: someday, Actor: "user:u1", Action: "user.delete",
				From: "192.0.2.1", Level: "mfa", Changes: []storage.Change{{Path: "title", Before: []byte(`[ "\u00e9", "\/", 1.0e1 ]`)}, {Path: "password"}}}))
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dumped(t testing.TB, s storage.Dumper) []byte {
	t.Helper()
	var b bytes.Buffer
	w := &Writer{Store: s, Schemas: set, Product: "test", Now: someday}
	if _, err := w.Write(t.Context(), storage.DefaultTenant, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// records returns the lines of a dump without the header and what a load adds.
func records(dump []byte) []string {
	lines := strings.Split(strings.TrimSuffix(string(dump), "\n"), "\n")
	lines = lines[1 : len(lines)-1]
	if last := len(lines) - 1; strings.Contains(lines[last], `"tenant.load"`) {
		lines = lines[:last]
	}
	return lines
}

func loader(s storage.Store, portion int) *Loader {
	return &Loader{Store: s, Schemas: set, Now: time.Now, portion: portion}
}

// TestRoundTrip: what is loaded dumps as it was, byte for byte.
func TestRoundTrip(t *testing.T) {
	from := filled(t, 520)
	dump := dumped(t, from)
	result, err := Verify(t.Context(), bytes.NewReader(dump), set, nil)
	want := Counts{Tenants: 1, Clients: 1, Tokens: 1, Resources: 521, Deleted: 1, Memberships: 520, Items: 1, Audit: 521}
	if err != nil || result.Counts != want || result.Tenant != "default" || result.Header.Product != "test" {
		t.Errorf("Verify: got %+v, %v, want %+v", result, err, want)
	}
	to := openStore(t)
	result, err = loader(to, 0).Load(t.Context(), bytes.NewReader(dump))
	if err != nil || result.Counts != want || result.Resumed != 0 {
		t.Fatalf("Load: got %+v, %v, want %+v", result, err, want)
	}
	if diff := cmp.Diff(records(dump), records(dumped(t, to))); diff != "" {
		t.Errorf("the dump of what was loaded (-before +after):\n%s", diff)
	}
	if r, err := audit.Verify(t.Context(), to, storage.DefaultTenant, nil); err != nil || !r.OK() || r.Entries != 522 {
		t.Errorf("the trail of what was loaded: %+v, %v, want no fault in 522 entries", r, err)
	}
	r, err := from.Get(t.Context(), storage.DefaultTenant, "User", id(7))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := to.Get(t.Context(), storage.DefaultTenant, "User", id(7)); err != nil || !bytes.Equal(r.Doc, got.Doc) || got.Version != 7 {
		t.Errorf("Get: got %+v, %v, want %+v", got, err, r)
	}
	_, err = loader(to, 0).Load(t.Context(), bytes.NewReader(dump))
	if !errors.Is(err, storage.ErrNotEmpty) {
		t.Errorf("loading twice: got %v, want ErrNotEmpty", err)
	}
}

// TestTwoPortionsOfAGroup: a line never holds more members than it may.
func TestTwoPortionsOfAGroup(t *testing.T) {
	dump := dumped(t, filled(t, storage.MembersPerRecord+1))
	if n := bytes.Count(dump, []byte(`{"members":{"group":`)); n != 2 {
		t.Errorf("%d portions, want 2", n)
	}
}

// TestCutOff: a dump that ends early is refused wherever it ends, and so is one
// with something behind its end.
func TestCutOff(t *testing.T) {
	dump := dumped(t, filled(t, 3))
	for end := 0; end < len(dump); end += 2 {
		_, err := Verify(t.Context(), bytes.NewReader(dump[:end]), set, nil)
		if _, ok := errors.AsType[*LineError](err); !ok || strings.Contains(err.Error(), secret) {
			t.Fatalf("the first %d of %d bytes: got %v, want a LineError", end, len(dump), err)
		}
	}
	for _, more := range []string{"\n", " ", string(dump)} {
		if _, err := Verify(t.Context(), strings.NewReader(string(dump)+more), set, nil); err == nil {
			t.Errorf("a dump followed by %q was taken", more[:1])
		}
	}
}

// TestAltered: whatever is changed, the dump is refused, by a message that
// repeats nothing of it.
func TestAltered(t *testing.T) {
	dump := dumped(t, filled(t, 2))
	for at := 0; at < len(dump); at += 3 { // each kind of line is longer than that
		for _, b := range []byte{dump[at] ^ 1, '"', '\n'} {
			if b == dump[at] {
				continue
			}
			altered := bytes.Clone(dump)
			altered[at] = b
			_, err := Verify(t.Context(), bytes.NewReader(altered), set, nil)
			if _, ok := errors.AsType[*LineError](err); !ok || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "argon2") {
				t.Fatalf("byte %d %q as %q: got %v, want a LineError without values", at, dump[at], b, err)
			}
		}
	}
}

// sealed makes a dump of lines, with the trailer that belongs to them.
func sealed(counts Counts, lines ...string) string {
	text := strings.Join(lines, "\n") + "\n"
	hash := sha256.Sum256([]byte(text))
	b, err := appendLine(nil, endName, trailer{counts, hex.EncodeToString(hash[:])}, nil)
	if err != nil {
		panic(err)
	}
	return text + string(b) + "\n"
}

const (
	headerLine = `{"header":{"format":"roster-dump","version":1,"dump":"d1","tenant":"default","created":"2026-03-01T12:00:00Z","product":"test"}}`
	tenant1    = `{"tenant":{"name":"Default","created":"2026-03-01T12:00:00Z"}}`
	client1    = `{"client":{"id":"c1","name":"idp","scopes":["users"],"created":"2026-03-01T12:00:00Z"}}`
	token1     = `{"token":{"id":"k1","client":"c1","hash":"AAAA","created":"2026-03-01T12:00:00Z","expires":"2026-03-01T12:00:00Z"}}`
	user1      = `{"resource":{"type":"User","id":"01a20000-0000-7000-8000-000000000001","version":1,"created":"2026-03-01T12:00:00Z","lastModified":"2026-03-01T12:00:00Z","doc":{"id":"01a20000-0000-7000-8000-000000000001","userName":"ana"}}}`
	group1     = `{"resource":{"type":"Group","id":"01a20000-0000-7000-8000-000000000002","version":1,"created":"2026-03-01T12:00:00Z","lastModified":"2026-03-01T12:00:00Z","doc":{"id":"01a20000-0000-7000-8000-000000000002","displayName":"x"}}}`
	members1   = `{"members":{"group":"01a20000-0000-7000-8000-000000000002","members":[{"value":"01a20000-0000-7000-8000-000000000001"}]}}`
	item1      = `{"item":{"kind":"note","id":"i1","keys":["a","b"],"version":1,"doc":{"of":"01a20000-0000-7000-8000-000000000001"}}}`
	audit1     = `{"audit":{"seq":1,"at":"2026-03-01T12:00:00Z","actor":"operator","action":"x"}}`
)

var allLines = []string{headerLine, tenant1, client1, token1, user1, group1, members1, item1, audit1}

var allCounts = Counts{Tenants: 1, Clients: 1, Tokens: 1, Resources: 2, Memberships: 1, Items: 1, Audit: 1}

// TestLines: a line that is not as it has to be is named, with what was expected.
func TestLines(t *testing.T) {
	if _, err := Verify(t.Context(), strings.NewReader(sealed(allCounts, allLines...)), set, nil); err != nil {
		t.Fatalf("the dump that all others are made from: %v", err)
	}
	for _, c := range []struct {
		line     int
		from, to string
		want     string
	}{
		{1, `"roster-dump"`, `"other"`, "line 1: expected the header of a dump"},
		{1, `{"header":{`, `{"other":{`, "line 1: expected the header of a dump"},
		{1, `"version":1`, `"version":2`, "line 1: expected version 1 of the format"},
		{1, `"version":1`, `"version":2,"more":"swordfish"`, "line 1: expected version 1 of the format"},
		{1, `"dump":"d1"`, `"dump":""`, "line 1: expected a header with format"},
		{2, `{"tenant"`, `{"client"`, "line 2: expected one tenant, before everything else"},
		{2, `"name":"Default",`, `"name":7,`, "line 2: expected a tenant: name"},
		{2, tenant1, tenant1 + "\n" + tenant1, "line 3: expected one tenant, before everything else"},
		{3, `"scopes":["users"],`, ``, "line 3: expected a client: id, name, scopes"},
		{3, `"id":"c1",`, ``, "line 3: expected a client: id, name"},
		{3, `"id":"c1",`, `"id":"c1","id":"swordfish",`, "line 3: expected a client"},
		{3, `"id":"c1",`, `"ID":"c1",`, "line 3: expected a client"},
		{3, `"id":"c1",`, `"id":"c1","swordfish":1,`, "line 3: expected a client"},
		{3, `12:00:00Z`, `12:00:00.0001Z`, "line 3: expected a client"},
		{3, client1, user1, "line 4: expected no more records of the kind token behind those of the kind resource"},
		{3, `{"client"`, ` {"client"`, "line 3: expected an object with one member"},
		{3, client1, ``, "line 3: expected an object with one member"},
		{3, `{"client"`, `{"swordfish"`, "line 3: expected a record of one of the kinds tenant, schema, client"},
		{4, `"AAAA"`, `"swordfish!"`, "line 4: expected a token: id, client, hash"},
		{4, `"AAAA"`, `""`, "line 4: expected a token"},
		{5, `"version":1`, `"version":0`, "line 5: expected a resource: type, id"},
		{5, `"version":1`, `"version":"swordfish"`, "line 5: expected a resource"},
		{5, `"version":1`, `"version":1.5`, "line 5: expected a resource"},
		{5, `"User"`, `"Swordfish"`, "line 5: expected a resource of one of the types User, Group"},
		{5, `{"id":"01a20000-0000-7000-8000-000000000001","userName"`, `{"id":"swordfish","userName"`, "line 5: expected a document that can be read, with the id"},
		{5, `"userName":"ana"`, `"userName":"ana","USERNAME":"swordfish"`, "line 5: expected a document that can be read"},
		{5, `"doc":{"id":"01a20000-0000-7000-8000-000000000001","userName":"ana"}`, `"doc":"swordfish"`, "line 5: expected a resource"},
		{5, user1, strings.ReplaceAll(user1, id(1), "swordfish"), "line 5: expected a resource: type, id"},
		{5, user1, strings.ReplaceAll(user1, id(1), id(1)+"0"), "line 5: expected a resource: type, id"},
		{5, `,"doc":{"id":"01a20000-0000-7000-8000-000000000001","userName":"ana"}`, ``, "line 5: expected a resource"},
		{5, `"ana"`, "\"an\xff\"", "line 5: expected a resource"},
		{7, `{"value":"01a20000-0000-7000-8000-000000000001"}`, ``, "line 7: expected members: group"},
		{7, `{"value":"01a20000-0000-7000-8000-000000000001"}`, `{"value":""}`, "line 7: expected members"},
		{7, `{"value":"01a20000-0000-7000-8000-000000000001"}`, strings.Repeat(`{"value":"01a20000-0000-7000-8000-000000000001"},`, 500) + `{"value":"01a20000-0000-7000-8000-000000000001"}`, "line 7: expected members: group, and up to 500"},
		{8, `"kind":"note"`, `"kind":""`, "line 8: expected an item: kind, id"},
		{8, `"version":1`, `"version":0`, "line 8: expected an item"},
		{8, `"keys":["a","b"]`, `"keys":["b","a"]`, "line 8: expected an item"},
		{8, `"keys":["a","b"]`, `"keys":["","swordfish"]`, "line 8: expected an item"},
		{8, `,"doc":{"of":"01a20000-0000-7000-8000-000000000001"}`, ``, "line 8: expected an item"},
		{8, `{"of":"01a20000-0000-7000-8000-000000000001"}`, `{"of":"01a20000-0000-7000-8000-000000000001","of":"swordfish"}`, "line 8: expected an item"},
		{8, `"version":1`, `"version":1,"swordfish":1`, "line 8: expected an item"},
		{9, `"seq":1`, `"seq":0`, "line 9: expected an audit entry: seq"},
		{9, audit1, audit1 + "\n" + audit1, "line 11: expected the trailer to count"},
		{5, `"version":1`, `"version":1,"password":"swordfish"`, "line 5: expected a resource"},
	} {
		lines := append([]string{}, allLines...)
		lines[c.line-1] = strings.Replace(lines[c.line-1], c.from, c.to, 1)
		_, err := Verify(t.Context(), strings.NewReader(sealed(allCounts, lines...)), set, nil)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(strings.ToLower(strings.TrimPrefix(err.Error(), c.want)), secret) {
			t.Errorf("line %d with %q for %q: got %v, want %s", c.line, c.to, c.from, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"":                           "line 1: expected a dump, not an empty file",
		"hello\n":                    "line 1: expected the header of a dump",
		`{"backup":{}}` + "\n":       "line 1: expected the header of a dump, {\"header\":{\"format\":\"roster-dump\", …}}; this is a backup, which roster restore takes",
		strings.Repeat("x", 20<<20):  "line 1: expected a line of up to",
		sealed(Counts{}, headerLine): "line 2: expected one tenant",
	} {
		if _, err := Verify(t.Context(), strings.NewReader(text), set, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %s", text, err, want)
		}
	}
}

// TestRefusedByTheStore: what only a store can tell is told with the line, too,
// and leaves the portions before.
func TestRefusedByTheStore(t *testing.T) {
	for _, c := range []struct {
		line     int
		from, to string
		counts   Counts
		want     string
	}{
		{4, `"client":"c1"`, `"client":"swordfish"`, allCounts, "line 4: expected a group or client that the dump has"},
		{6, group1, user1, allCounts, "line 6: expected a value of id that nothing before it has"},
		{6, group1, strings.ReplaceAll(user1, id(1), id(3)), allCounts, "line 6: expected a value of userName that nothing before it has"},
		{7, `"value":"01a20000-0000-7000-8000-000000000001"`, `"value":"swordfish"`, allCounts, "line 7: expected members that the dump has as resources, unlike member 0"},
		{7, `"group":"01a20000-0000-7000-8000-000000000002"`, `"group":"01a20000-0000-7000-8000-000000000001"`, allCounts, "line 7: expected a group or client that the dump has"},
		{8, item1, item1 + "\n" + item1, allCounts, "line 9: expected a value of id that nothing before it has"},
	} {
		s := openStore(t)
		lines := append([]string{}, allLines...)
		lines[c.line-1] = strings.Replace(lines[c.line-1], c.from, c.to, 1)
		_, err := loader(s, 1).Load(t.Context(), strings.NewReader(sealed(c.counts, lines...)))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("line %d with %q for %q: got %v, want %s", c.line, c.to, c.from, err, c.want)
		}
		mark, err := s.LoadMark(t.Context(), storage.DefaultTenant)
		if before := int64(c.line - 2 + strings.Count(c.to, "\n")); err != nil || mark == nil || mark.Records != before {
			t.Errorf("line %d: LoadMark: got %+v, %v, want %d records", c.line, mark, err, before)
		}
	}
}

// TestNothingLoaded: a dump of which not even the first portion can be loaded leaves the tenant
// as it was. A mark would keep it, and backups of the whole store, from use for good.
func TestNothingLoaded(t *testing.T) {
	s := openStore(t)
	dump := dumped(t, filled(t, 3))
	load := func(tenant storage.TenantID, in io.Reader) error {
		l := loader(s, 0)
		l.Tenant = tenant
		_, err := l.Load(t.Context(), in)
		return err
	}
	if err := load("acme", bytes.NewReader(dump)); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]io.Reader{
		"a token that is taken": bytes.NewReader(dump),
		"a pipe that breaks":    io.MultiReader(bytes.NewReader(dump[:len(dump)/2]), iotest.ErrReader(errBroken)),
	} {
		if err := load(storage.DefaultTenant, in); err == nil {
			t.Errorf("%s: it was loaded", name)
		}
		if mark, err := s.LoadMark(t.Context(), storage.DefaultTenant); err != nil || mark != nil {
			t.Errorf("%s: LoadMark: got %+v, %v, want none", name, mark, err)
		}
	}
}

var errBroken = errors.New("the pipe broke")

// TestResume: a load that breaks off anywhere goes on where it stopped, and what
// comes of it is the same.
func TestResume(t *testing.T) {
	from := filled(t, 40)
	dump := dumped(t, from)
	for part := 1; part < 8; part++ {
		s := openStore(t)
		var loaded int64
		for stop := 1; stop <= part; stop++ {
			end := len(dump) * stop / (part + 1)
			_, err := loader(s, 7).Load(t.Context(), io.MultiReader(bytes.NewReader(dump[:end]), iotest.ErrReader(errBroken)))
			if !errors.Is(err, errBroken) {
				t.Fatalf("the first %d bytes: got %v, want %v", end, err, errBroken)
			}
			mark, err := s.LoadMark(t.Context(), storage.DefaultTenant)
			if err != nil || mark == nil || mark.Records < loaded {
				t.Fatalf("LoadMark after %d bytes: got %+v, %v, want at least %d", end, mark, err, loaded)
			}
			loaded = mark.Records
		}
		if _, _, err := s.Token(t.Context(), "k1"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Token before the load is complete: got %v, want ErrNotFound", err)
		}
		result, err := loader(s, 7).Load(t.Context(), bytes.NewReader(dump))
		if err != nil || result.Resumed != loaded || part > 1 && loaded == 0 {
			t.Fatalf("Load: got %+v, %v, want to go on after %d", result, err, loaded)
		}
		if diff := cmp.Diff(records(dump), records(dumped(t, s))); diff != "" {
			t.Errorf("the dump of what was loaded (-before +after):\n%s", diff)
		}
		if _, _, err := s.Token(t.Context(), "k1"); err != nil {
			t.Errorf("Token: %v", err)
		}
	}
}

// TestResumeAnother: only the dump that was begun goes on.
func TestResumeAnother(t *testing.T) {
	from := filled(t, 40)
	dump := dumped(t, from)
	s := openStore(t)
	begin := func() {
		_, err := loader(s, 7).Load(t.Context(), io.MultiReader(bytes.NewReader(dump[:len(dump)/2]), iotest.ErrReader(errBroken)))
		if !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
	}
	begin()
	before, err := s.LoadMark(t.Context(), storage.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loader(s, 7).Load(t.Context(), bytes.NewReader(dumped(t, from))); err == nil || !strings.Contains(err.Error(), "a part of another dump ("+before.Dump+")") {
		t.Errorf("another dump of the same tenant: got %v", err)
	}
	altered := bytes.Replace(dump, []byte(`"version":5,`), []byte(`"version":6,`), 1)
	if _, err := loader(s, 7).Load(t.Context(), bytes.NewReader(altered)); err == nil || !strings.Contains(err.Error(), "altered since") {
		t.Errorf("the dump, altered: got %v", err)
	}
	if after, err := s.LoadMark(t.Context(), storage.DefaultTenant); err != nil || !cmp.Equal(before, after) {
		t.Errorf("LoadMark: got %+v, %v, want %+v", after, err, before)
	}
	begin() // the same again changes nothing
	if _, err := loader(s, 7).Load(t.Context(), bytes.NewReader(dump)); err != nil {
		t.Errorf("the dump itself: %v", err)
	}
}

// TestAnotherTenant: a dump may become another tenant of a store.
func TestAnotherTenant(t *testing.T) {
	dump := dumped(t, filled(t, 5))
	s := openStore(t)
	l := loader(s, 0)
	l.Tenant = "acme"
	if result, err := l.Load(t.Context(), bytes.NewReader(dump)); err != nil || result.Tenant != "acme" {
		t.Fatalf("Load: got %+v, %v", result, err)
	}
	if _, c, err := s.Token(t.Context(), "k1"); err != nil || c.Tenant != "acme" {
		t.Errorf("Token: got %+v, %v, want a client of acme", c, err)
	}
	if m, err := s.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: "User"}); err != nil || m.TotalResults != 0 {
		t.Errorf("the default tenant has %+v, %v", m, err)
	}
	// The token that is taken is noticed before much has been loaded.
	_, err := loader(s, 1).Load(t.Context(), bytes.NewReader(dump))
	if err == nil || !strings.HasPrefix(err.Error(), "line 4: expected a value of id that nothing before it has") {
		t.Errorf("the same tokens again: got %v", err)
	}
}

// TestInterrupted: a load that is told to stop does so between two portions.
func TestInterrupted(t *testing.T) {
	dump := dumped(t, filled(t, 40))
	s := openStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	_, err := loader(s, 7).Load(ctx, readerFunc(func(b []byte) (int, error) {
		if n > len(dump)/2 {
			cancel()
		}
		k := copy(b[:min(len(b), 100)], dump[n:])
		n += k
		return k, nil
	}))
	if err == nil || !strings.Contains(err.Error(), "goes on") {
		t.Errorf("got %v", err)
	}
	if result, err := loader(s, 7).Load(t.Context(), bytes.NewReader(dump)); err != nil || result.Resumed == 0 {
		t.Errorf("going on: got %+v, %v", result, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestWriteFails: a failed dump is none.
func TestWriteFails(t *testing.T) {
	s := filled(t, 3)
	w := &Writer{Store: s, Schemas: set, Now: someday}
	var b bytes.Buffer
	if _, err := w.Write(t.Context(), "nobody", &b); !errors.Is(err, storage.ErrNotFound) || b.Len() > 0 {
		t.Errorf("an unknown tenant: got %v and %d bytes, want ErrNotFound", err, b.Len())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Write(ctx, storage.DefaultTenant, &b); err == nil {
		t.Error("a dump whose context had ended succeeded")
	}
	if _, err := w.Write(t.Context(), storage.DefaultTenant, brokenWriter{}); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want %v", err, errBroken)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

// FuzzReader: no text makes the reader panic, and what it takes it writes in the
// same way.
func FuzzReader(f *testing.F) {
	f.Add([]byte(sealed(allCounts, allLines...)))
	for _, l := range allLines[1:] {
		f.Add([]byte(headerLine + "\n" + tenant1 + "\n" + l + "\n"))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := NewReader(bytes.NewReader(text), set, "")
		if err != nil {
			return
		}
		for {
			rec, err := r.Next()
			if err != nil {
				return
			}
			line, err := appendRecord(nil, rec)
			if err != nil {
				t.Fatalf("a record that was read cannot be written: %v", err)
			}
			name, v, _ := bytes.Cut(line[2:len(line)-1], []byte(`":`))
			for _, k := range kinds {
				if k.name == string(name) {
					if back, ok := k.read(v, r.tenant); !ok || !cmp.Equal(rec, back, cmpopts.EquateEmpty()) {
						t.Errorf("%s was read back as %+v", line, back)
					}
				}
			}
		}
	})
}
