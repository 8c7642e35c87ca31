package storagetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/storage"
)

var dumpPromises = []promise{
	{"a dump holds all there is of a tenant, in the order of kinds", dumpHoldsAll},
	{"a dump is of one moment", dumpOfOneMoment},
	{"a dump of all tenants is one after the other, as of one moment", dumpOfAll},
	{"a dump ends when its reader or its context does", dumpEnds},
	{"Dump of an unknown tenant is ErrNotFound", dumpUnknown},
	{"a tenant loaded into another store is the same and dumps the same", loadedIsTheSame},
	{"a tenant loaded beside others leaves them as they were", loadedBeside},
	{"a load begins in an empty tenant only", loadNeedsEmpty},
	{"records are loaded while a load is under way only", loadNeedsMark},
	{"of two who load a tenant one goes on", loadsApart},
	{"a portion that fails leaves nothing, and the mark says what is there", portionFails},
	{"nobody can use a tenant that is being loaded", loadingUnusable},
	{"completing a load needs an audit entry, which follows those that were loaded", loadCompletes},
	{"a loaded record that takes what another one has is a UniqueError", loadTaken},
	{"a loaded record that refers to nothing is refused", loadDangling},
}

// Move fills a store, moves what it holds into another one, and back into a third
// that is opened as the first. It is for pairs of backends: what goes from one to
// the other has to arrive byte for byte, and be found there as before.
func Move(t *testing.T, from, to func(t *testing.T) storage.Store) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("world ", seed+1), func(t *testing.T) {
			t.Parallel()
			a, b, c := newDirectory(t, from), newDirectory(t, to), newDirectory(t, from)
			w := newWorld(a, seed+100)
			w.fill(100)
			w.move(b, false)
			w.fill(50) // what was moved goes on
			w.move(c, false)
			furnish(c, 20)
			there, back := b.in("second"), a.in("second")
			there.clock, back.clock = c.clock, c.clock
			load(there, c.dump(), 40)
			load(back, withoutLast(there.dump()), 40)
			if d := diff.Diff(texts(c.dump(), true), texts(withoutLast(back.dump()), true)); d != "" {
				t.Errorf("moved there and back (-before +after):\n%s", d)
			}
		})
	}
}

// newWorld is a directory that is to be filled at random.
func newWorld(d *directory, seed uint64) *world {
	return &world{directory: d, g: newGenerator(seed), model: newModel(d.unique)}
}

// move loads what a world holds into another directory, compares everything that
// can be told of both, and goes on there.
func (w *world) move(to *directory, inOrder bool) {
	w.t.Helper()
	from := w.directory
	to.clock = from.clock
	dump := from.dump()
	load(to, dump, 1+w.g.IntN(70))
	if d := diff.Diff(texts(dump, !inOrder), texts(withoutLast(to.dump()), !inOrder)); d != "" {
		w.t.Fatalf("seed %d: the dump of what was loaded (-before +after):\n%s", w.g.seed, d)
	}
	w.directory = to
	w.compare()
	before, after := from.state(), to.state()
	after.Audit = after.Audit[:len(after.Audit)-1]
	if d := diff.Diff(before, after, cmpopts.IgnoreFields(storage.Resource{}, "Ref", "InGroups", "Epoch"), cmpopts.IgnoreFields(storage.Client{}, "Tenant"), cmpopts.EquateEmpty()); d != "" {
		w.t.Errorf("seed %d: what can be read (-before +after):\n%s", w.g.seed, d)
	}
}

// furnish adds what a random world lacks: clients and tokens in all their states,
// items, and a group of many members, some of them deleted, beside a deleted
// group.
func furnish(d *directory, members int) {
	d.t.Helper()
	var many []*storage.Resource
	for i := range members {
		many = append(many, d.draft(d.user, fmt.Sprintf(`{"userName":"member%d","title":"%s"}`, i, `<&> é\u2028\n\"`)))
	}
	big, lost := d.draft(d.group, `{"displayName":"All of them"}`), d.draft(d.group, `{"displayName":"Lost"}`)
	d.do(func(tx storage.Tx) error {
		list := asMembers(many...)
		list[0].Display = "The <first>, given"
		err := errors.Join(tx.Create(big), tx.Create(lost))
		for _, r := range many {
			err = errors.Join(err, tx.Create(r))
		}
		_, inBig := tx.AddMembers(big, list)
		_, inLost := tx.AddMembers(lost, list[:3])
		return errors.Join(err, inBig, inLost)
	})
	note, session := newItem("note", "1", "b", "a"), newItem("session", "1", "a")
	session.Expires = birth.Add(time.Hour)
	d.put(nil, note)
	d.put(note, newItem("note", "1", "c", "a"))
	d.put(nil, newItem("note/1", many[1].ID))
	d.put(nil, session)
	d.remove(many[1])
	d.remove(lost)
	d.addUser("member1") // the name is free
	plain := newClient(d, "c2-"+string(d.tenant), "hr")
	plain.Networks, plain.Profile, plain.References, plain.Rate, plain.Burst = nil, "", "", 0, 0
	gone, again := newClient(d, "c3-"+string(d.tenant), "idp"), newClient(d, "c1-"+string(d.tenant), "idp")
	d.store(gone, newToken(d, "k3-"+string(d.tenant), gone.ID))
	d.do(func(tx storage.Tx) error { return tx.RevokeClient(gone.ID, d.now()) })
	used, ended := newToken(d, "k1-"+string(d.tenant), again.ID), newToken(d, "k2-"+string(d.tenant), again.ID)
	d.store(again, used, ended)
	d.store(plain)
	d.do(func(tx storage.Tx) error { return tx.ExpireToken(ended.ID, d.now()) })
	if err := d.TokenUsed(d.t.Context(), d.tenant, used.ID, birth.Add(time.Hour)); err != nil {
		d.t.Fatal(err)
	}
	d.do(func(tx storage.Tx) error {
		return tx.Audit(storage.AuditEntry{At: d.now(), RequestID: "r1", Actor: "client:c1", Action: "user.patch", Type: "User", ID: many[0].ID,
			Version: 7, Attributes: []string{"title", "name.givenName"}, From: "192.0.2.1", Level: "mfa",
			Changes: []storage.Change{{Path: "title", Before: []byte(`"x"`)}, {Path: "name.givenName", After: []byte(`{"a": [1.0, "\u00e9"]}`)}}})
	})
}

// dump reads all records of a tenant.
func (d *directory) dump() []storage.Record {
	d.t.Helper()
	var list []storage.Record
	for r, err := range d.Dump(d.t.Context(), d.tenant) {
		if err != nil {
			d.t.Fatalf("Dump: %v", err)
		}
		list = append(list, r)
	}
	return list
}

// withoutLast takes the entry of the load itself from the end of a dump.
func withoutLast(list []storage.Record) []storage.Record {
	if n := len(list); n > 0 && list[n-1].Audit != nil && list[n-1].Audit.Action == loadEntry.Action {
		return list[:n-1]
	}
	return list
}

// texts writes records down, each on lines that tell all of it: exactly as they
// are, or as backends must agree on them, whatever their order and portions.
func texts(list []storage.Record, agree bool) []string {
	var out []string
	at := func(t time.Time) string { return t.Format(time.RFC3339Nano) }
	for _, r := range list {
		switch {
		case r.Tenant != nil:
			out = append(out, fmt.Sprintf("1 tenant %q since %s", r.Tenant.Name, at(r.Tenant.Created)))
		case r.Client != nil:
			c := r.Client
			out = append(out, fmt.Sprintf("2 client %s %q %q %q %q %q, %d/s, %d at once, since %s, revoked %s", c.ID, c.Name, c.Scopes, c.Profile, c.References, c.Networks, c.Rate, c.Burst, at(c.Created), at(c.Revoked)))
		case r.Token != nil:
			k := r.Token
			out = append(out, fmt.Sprintf("3 token %s of %s: %x since %s, until %s, used %s", k.ID, k.Client, k.Hash, at(k.Created), at(k.Expires), at(k.LastUsed)))
		case r.Resource != nil:
			w := r.Resource
			out = append(out, fmt.Sprintf("4 %s %s version %d since %s, of %s, deleted %s: %s",
				w.Type, w.ID, w.Version, at(w.Created), at(w.LastModified), at(w.Deleted), w.Doc))
		case r.Members != nil && agree:
			for _, m := range r.Members.Members {
				out = append(out, fmt.Sprintf("5 in %s: %s %q", r.Members.Group, m.Value, m.Display))
			}
		case r.Members != nil:
			var b strings.Builder
			fmt.Fprintf(&b, "5 in %s:", r.Members.Group)
			for _, m := range r.Members.Members {
				fmt.Fprintf(&b, " %s %q", m.Value, m.Display)
			}
			out = append(out, b.String())
		case r.Item != nil:
			i := r.Item
			out = append(out, fmt.Sprintf("6 item %q %q %q version %d, until %s: %s", i.Kind, i.ID, i.Keys, i.Version, at(i.Expires), i.Data))
		case r.Audit != nil:
			e := r.Audit
			out = append(out, fmt.Sprintf("7 entry %012d at %s %q %q %q %q %q %d %q from %q at %q: %q; %s %d %x",
				e.Seq, at(e.At), e.RequestID, e.Actor, e.Action, e.Type, e.ID, e.Version, e.Attributes, e.From, e.Level, e.Changes, e.Chain, e.N, e.Hash))
		default:
			out = append(out, "an empty record")
		}
	}
	if agree {
		slices.Sort(out)
	}
	return out
}

var loadEntry = storage.AuditEntry{At: birth, Actor: "operator", Action: "tenant.load", Type: "Tenant"}

// arriving makes a record that was dumped ready to be loaded here.
func (d *directory) arriving(r storage.Record) *storage.Record {
	d.t.Helper()
	if r.Resource == nil {
		return &r
	}
	w := *r.Resource
	rt := d.typeOf(&w.Resource)
	attrs, err := rt.Parse(w.Doc)
	if err != nil {
		d.t.Fatal(err)
	}
	w.Name, w.Index = storage.NameOf(attrs), d.NewIndex(d.tenant, rt, attrs)
	return &storage.Record{Resource: &w}
}

func markAt(n int) *storage.LoadMark {
	return &storage.LoadMark{Dump: "d1", Records: int64(n), Digest: []byte(fmt.Sprint("digest of ", n))}
}

// set moves the mark and loads records in one write.
func (d *directory) set(prev, next *storage.LoadMark, records ...*storage.Record) error {
	return d.Write(d.t.Context(), d.tenant, func(tx storage.Tx) error {
		for _, r := range records {
			if err := tx.Load(r); err != nil {
				return err
			}
		}
		return tx.SetLoad(prev, next)
	})
}

// begin begins a load.
func (d *directory) begin() {
	d.t.Helper()
	if err := d.set(nil, markAt(0)); err != nil {
		d.t.Fatalf("SetLoad: %v", err)
	}
}

// loadSome loads the records from one mark to another.
func (d *directory) loadSome(list []storage.Record, from, to int) {
	d.t.Helper()
	var records []*storage.Record
	for _, r := range list[from:to] {
		records = append(records, d.arriving(r))
	}
	if err := d.set(markAt(from), markAt(to), records...); err != nil {
		d.t.Fatalf("loading records %d to %d: %v", from, to, err)
	}
}

func (d *directory) complete(prev *storage.LoadMark) error {
	return d.Write(d.t.Context(), d.tenant, func(tx storage.Tx) error {
		return errors.Join(tx.SetLoad(prev, nil), tx.Audit(loadEntry))
	})
}

// load loads a whole dump in portions, and begins with the first of them.
func load(d *directory, list []storage.Record, portion int) {
	d.t.Helper()
	first := min(portion, len(list))
	var records []*storage.Record
	for _, r := range list[:first] {
		records = append(records, d.arriving(r))
	}
	err := d.Write(d.t.Context(), d.tenant, func(tx storage.Tx) error {
		err := tx.SetLoad(nil, markAt(0))
		for _, r := range records {
			if err == nil {
				err = tx.Load(r)
			}
		}
		return errors.Join(err, tx.SetLoad(markAt(0), markAt(first)))
	})
	if err != nil {
		d.t.Fatalf("beginning with %d records: %v", first, err)
	}
	for from := first; from < len(list); from += portion {
		d.loadSome(list, from, min(from+portion, len(list)))
	}
	if err := d.complete(markAt(len(list))); err != nil {
		d.t.Fatalf("completing the load: %v", err)
	}
	d.wantWhole()
}

func (d *directory) mark() *storage.LoadMark {
	d.t.Helper()
	m, err := d.LoadMark(d.t.Context(), d.tenant)
	if err != nil {
		d.t.Fatalf("LoadMark: %v", err)
	}
	return m
}

// another opens a second store of the same kind.
func (d *directory) another() *directory {
	d.t.Helper()
	other := newDirectory(d.t, d.open)
	other.clock = d.clock
	return other
}

// kindOf orders the kinds of records.
func kindOf(r storage.Record) (n, set int) {
	for i, is := range []bool{r.Tenant != nil, r.Client != nil, r.Token != nil, r.Resource != nil, r.Members != nil, r.Item != nil, r.Audit != nil} {
		if is {
			n, set = i, set+1
		}
	}
	return n, set
}

func dumpHoldsAll(t *testing.T, d *directory) {
	const members = storage.MembersPerRecord + 7
	other := d.in(acme)
	setScene(other)
	furnish(d, members)
	list := d.dump()
	if !slices.IsSortedFunc(list, func(a, b storage.Record) int {
		x, _ := kindOf(a)
		y, _ := kindOf(b)
		return cmp.Compare(x, y)
	}) {
		t.Error("kinds of records are mixed")
	}
	count := map[int]int{}
	in := map[string][]int{}
	var last int64
	for _, r := range list {
		kind, set := kindOf(r)
		if set != 1 {
			t.Errorf("a record has %d of its fields set", set)
		}
		count[kind]++
		switch {
		case r.Members != nil:
			in[r.Members.Group] = append(in[r.Members.Group], len(r.Members.Members))
		case r.Audit != nil:
			if r.Audit.Seq <= last {
				t.Errorf("entry %d follows entry %d", r.Audit.Seq, last)
			}
			last = r.Audit.Seq
		}
	}
	delete(count, 4)
	entries, err := d.AuditEntries(t.Context(), d.tenant, 0, all)
	if err != nil {
		t.Fatal(err)
	}
	if dd := diff.Diff(map[int]int{0: 1, 1: 3, 2: 3, 3: members + 3, 5: 2, 6: len(entries)}, count); dd != "" {
		t.Errorf("records by kind (-want +got):\n%s", dd)
	}
	var sizes []int
	for _, s := range in {
		total := 0
		for _, n := range s {
			if n == 0 || n > storage.MembersPerRecord {
				t.Errorf("portions of %v members", s)
			}
			total += n
		}
		sizes = append(sizes, total)
	}
	if slices.Sort(sizes); !slices.Equal(sizes, []int{3, members}) {
		t.Errorf("groups have %v members, want 3 and %d: deleted ones are members, too", sizes, members)
	}
	text := strings.Join(texts(list, true), "\n")
	for _, want := range []string{`"The <first>, given"`, `item "note" "1" ["a" "c"] version 2, until 0001-01-01T00:00:00Z: ` + string(newItem("note", "1", "c", "a").Data), `item "note/1"`, `<&> é`} {
		if strings.Count(text, want) == 0 {
			t.Errorf("the dump has no %s", want)
		}
	}
	if n := strings.Count(text, "deleted 0001-01-01T00:00:00Z"); n != members+1 {
		t.Errorf("%d resources are not deleted, want %d", n, members+1)
	}
	if strings.Contains(text, "session") {
		t.Error("the dump has an item that expires")
	}
	if strings.Contains(text, "acme") {
		t.Error("the dump has something of another tenant")
	}
	if dd := diff.Diff(texts(list, false), texts(d.dump(), false)); dd != "" {
		t.Errorf("a second dump differs (-first +second):\n%s", dd)
	}
}

func dumpOfOneMoment(t *testing.T, d *directory) {
	furnish(d, 5)
	before := d.dump()
	u := d.addUser("renamed")
	if len(texts(before, false)) == len(texts(d.dump(), false)) {
		t.Fatal("dumps do not see changes")
	}
	before = d.dump()
	var list []storage.Record
	for r, err := range d.Dump(t.Context(), d.tenant) {
		if err != nil {
			t.Fatal(err)
		}
		if list = append(list, r); len(list) == 1 || r.Resource != nil {
			d.addUser(fmt.Sprint("late", len(list)))
			if len(list) == 1 {
				d.replace(u, `{"userName":"renamed","title":"late"}`)
				d.store(newClient(d, "late", "late"), newToken(d, "late", "late"))
			}
		}
	}
	if dd := diff.Diff(texts(before, false), texts(list, false)); dd != "" {
		t.Errorf("the dump mixes two moments (-begun +read):\n%s", dd)
	}
}

func dumpOfAll(t *testing.T, d *directory) {
	other := d.in(acme)
	other.do(func(tx storage.Tx) error { return tx.CreateTenant("Acme", d.now()) })
	setScene(other)
	furnish(d, 5)
	want := append(texts(other.dump(), false), texts(d.dump(), false)...)
	var list []storage.Record
	var tenants []storage.TenantID
	for r, err := range d.DumpAll(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if list = append(list, r); len(list) == 1 {
			other.addUser("late")
			d.addUser("late")
			d.in("zoo").do(func(tx storage.Tx) error { return tx.CreateTenant("Zoo", d.now()) })
		}
		if r.Tenant != nil {
			tenants = append(tenants, r.Tenant.ID)
		}
	}
	if dd := diff.Diff(want, texts(list, false)); dd != "" {
		t.Errorf("the dump of all tenants (-each +all):\n%s", dd)
	}
	if dd := diff.Diff([]storage.TenantID{acme, d.tenant}, tenants); dd != "" {
		t.Errorf("tenants (-want +got):\n%s", dd)
	}
}

func dumpEnds(t *testing.T, d *directory) {
	furnish(d, 5)
	n := 0
	for _, err := range d.Dump(t.Context(), d.tenant) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 8 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n = 0
	var failed error
	for _, err := range d.Dump(ctx, d.tenant) {
		if n++; n == 2 {
			cancel()
		}
		failed = err
	}
	if failed == nil {
		t.Error("a dump whose context ended had no error")
	}
	d.addUser("after") // nothing holds the store up
}

func dumpUnknown(t *testing.T, d *directory) {
	var errs []error
	for _, err := range d.Dump(t.Context(), "nobody") {
		errs = append(errs, err)
	}
	if len(errs) != 1 || !errors.Is(errs[0], storage.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", errs)
	}
}

func loadedIsTheSame(t *testing.T, d *directory) {
	raced.Skip(t)
	w := newWorld(d, 7)
	w.fill(60)
	furnish(d, 20)
	// furnish is not in the model, so that is compared by what can be read.
	dump, to := d.dump(), d.another()
	load(to, dump, 1+w.g.IntN(40))
	after := to.dump()
	if dd := diff.Diff(texts(dump, false), texts(withoutLast(after), false)); dd != "" || len(after) != len(dump)+1 {
		t.Fatalf("the dump of what was loaded (-before +after):\n%s", dd)
	}
	x, y := d.state(), to.state()
	x.Items = slices.DeleteFunc(x.Items, func(i *storage.Item) bool { return !i.Expires.IsZero() })
	y.Audit = y.Audit[:len(y.Audit)-1]
	if dd := diff.Diff(x, y, cmpopts.IgnoreFields(storage.Resource{}, "Ref", "InGroups", "Epoch"), cmpopts.EquateEmpty()); dd != "" {
		t.Errorf("what can be read (-before +after):\n%s", dd)
	}
	tenants, err := to.ListTenants(t.Context())
	if want := dump[0].Tenant; err != nil || len(tenants) != 1 || *tenants[0] != *want {
		t.Errorf("ListTenants: got %+v, %v, want %+v", tenants, err, want)
	}
	k, c := to.token("k1-"+string(d.tenant), func(*storage.Token, *storage.Client) bool { return true })
	if k.LastUsed.IsZero() || c.Name != "idp" || !bytes.HasSuffix(k.Hash, []byte(k.ID)) {
		t.Errorf("Token: got %+v of %+v", k, c)
	}
	// The loaded store goes on as the first one would, and the model with it.
	w2 := newWorld(d.another(), 8)
	w2.fill(60)
	w2.move(w2.another(), true)
	w2.fill(60)
	w2.compare()
}

func loadedBeside(t *testing.T, d *directory) {
	furnish(d, 5)
	other := d.another()
	setScene(other) // with audit entries of the same numbers
	acme := other.in(acme)
	before := other.state()
	dump := d.dump()
	load(acme, dump, 7)
	if dd := diff.Diff(before, other.state()); dd != "" {
		t.Errorf("the other tenant changed (-before +after):\n%s", dd)
	}
	if dd := diff.Diff(texts(dump, false), texts(withoutLast(acme.dump()), false)); dd != "" {
		t.Errorf("the dump of what was loaded (-before +after):\n%s", dd)
	}
	tenants, err := other.ListTenants(t.Context())
	if err != nil || len(tenants) != 2 {
		t.Errorf("ListTenants: got %d, %v, want both", len(tenants), err)
	}
	// Both go on numbering where they were.
	for _, d := range []*directory{other, acme} {
		list, err := d.AuditEntries(t.Context(), d.tenant, 0, all)
		if err != nil {
			t.Fatal(err)
		}
		last := list[len(list)-1].Seq
		d.addUser("next")
		if next, err := d.AuditEntries(t.Context(), d.tenant, last, all); err != nil || len(next) != 1 {
			t.Errorf("%s: %d entries above %d, %v, want 1", d.tenant, len(next), last, err)
		}
	}
	// A token is of one tenant, in any store.
	third := other.in("third")
	third.begin()
	var k *storage.Record
	for _, r := range dump {
		if r.Token != nil {
			k = &r
		}
	}
	third.loadSome(dump, 0, 4)
	wantUnique(t, "Load of a token that another tenant has", third.set(markAt(4), markAt(5), k), "id")
}

func loadNeedsEmpty(t *testing.T, d *directory) {
	gone := d.in("gone")
	r := gone.addUser("gone")
	gone.remove(r)
	resources, clients, audit := d.in("resources"), d.in("clients"), d.in("audit")
	resources.addUser("ana")
	clients.store(newClient(clients, "c1", "idp"))
	if err := audit.try(func(storage.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*directory{gone, resources, clients, audit} {
		wantError(t, "SetLoad in "+string(d.tenant), d.set(nil, markAt(0)), storage.ErrNotEmpty)
		if m := d.mark(); m != nil {
			t.Errorf("%s: LoadMark: got %+v, want none", d.tenant, m)
		}
	}
	if m := d.mark(); m != nil {
		t.Errorf("LoadMark: got %+v, want none", m)
	}
	d.begin()
	if dd := diff.Diff(markAt(0), d.mark()); dd != "" {
		t.Errorf("LoadMark (-want +got):\n%s", dd)
	}
}

func loadNeedsMark(t *testing.T, d *directory) {
	furnish(d, 3)
	dump, other := d.dump(), d.another()
	for _, r := range dump {
		err := other.Write(t.Context(), other.tenant, func(tx storage.Tx) error { return tx.Load(other.arriving(r)) })
		if err == nil {
			t.Fatalf("%s was loaded, and no load had begun", texts([]storage.Record{r}, false))
		}
	}
	if err := other.set(nil, nil); err == nil {
		t.Error("a load was completed that had not begun")
	}
	load(other, dump, 10)
	err := other.Write(t.Context(), other.tenant, func(tx storage.Tx) error { return tx.Load(&storage.Record{Tenant: dump[0].Tenant}) })
	if err == nil {
		t.Error("a record was loaded after the load")
	}
}

func loadsApart(t *testing.T, d *directory) {
	d.begin()
	wantError(t, "a second begin", d.set(nil, markAt(0)), storage.ErrConflict)
	moved := *markAt(0)
	moved.Dump = "another"
	wantError(t, "another dump", d.set(&moved, markAt(1)), storage.ErrConflict)
	if err := d.set(markAt(0), markAt(3)); err != nil {
		t.Fatal(err)
	}
	wantError(t, "the first portion again", d.set(markAt(0), markAt(3)), storage.ErrConflict)
	wantError(t, "completing from behind", d.complete(markAt(0)), storage.ErrConflict)
	if dd := diff.Diff(markAt(3), d.mark()); dd != "" {
		t.Errorf("LoadMark (-want +got):\n%s", dd)
	}
	if err := d.complete(markAt(3)); err != nil {
		t.Error(err)
	}
	wantError(t, "completing twice", d.complete(markAt(3)), storage.ErrConflict)
}

func portionFails(t *testing.T, d *directory) {
	furnish(d, 12)
	dump, other := d.dump(), d.another()
	other.begin()
	const step = 5
	for from := 0; from < len(dump); from += step {
		to := min(from+step, len(dump))
		var records []*storage.Record
		for _, r := range dump[from:to] {
			records = append(records, other.arriving(r))
		}
		before := texts(other.dump(), false)
		err := other.Write(t.Context(), other.tenant, func(tx storage.Tx) error {
			for _, r := range records {
				if err := tx.Load(r); err != nil {
					return err
				}
			}
			return errors.Join(tx.SetLoad(markAt(from), markAt(to)), errTest)
		})
		wantError(t, "Write", err, errTest)
		if dd := diff.Diff(before, texts(other.dump(), false)); dd != "" {
			t.Fatalf("records %d to %d left something (-before +after):\n%s", from, to, dd)
		}
		if dd := diff.Diff(markAt(from), other.mark()); dd != "" {
			t.Fatalf("LoadMark (-want +got):\n%s", dd)
		}
		other.loadSome(dump, from, to)
	}
	if dd := diff.Diff(texts(dump, false), texts(other.dump(), false)); dd != "" {
		t.Errorf("the dump of what was loaded (-before +after):\n%s", dd)
	}
}

func loadingUnusable(t *testing.T, d *directory) {
	furnish(d, 3)
	dump, other := d.dump(), d.another()
	other.begin()
	other.loadSome(dump, 0, len(dump))
	at := d.now()
	tokens, clients := map[string]bool{}, map[string]bool{}
	for _, r := range dump {
		if r.Token != nil {
			tokens[r.Token.ID] = true
		}
		if r.Client != nil && r.Client.Revoked.IsZero() {
			clients[r.Client.ID] = true
		}
	}
	for id := range tokens {
		if k, c, err := other.Token(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Token: got %+v of %+v, %v, want ErrNotFound", k, c, err)
		}
		wantError(t, "ExpireToken", other.try(func(tx storage.Tx) error { return tx.ExpireToken(id, at) }), storage.ErrLoading)
	}
	for id := range clients {
		wantError(t, "RevokeClient", other.try(func(tx storage.Tx) error { return tx.RevokeClient(id, at) }), storage.ErrLoading)
		wantError(t, "CreateToken", other.try(func(tx storage.Tx) error { return tx.CreateToken(newToken(other, "new", id)) }), storage.ErrLoading)
		c := &storage.Client{ID: id}
		wantError(t, "UpdateClient", other.try(func(tx storage.Tx) error { return tx.UpdateClient(c, c) }), storage.ErrLoading)
	}
	wantError(t, "CreateClient", other.try(func(tx storage.Tx) error { return tx.CreateClient(newClient(other, "new", "new")) }), storage.ErrLoading)
	note := other.item("note", "1")
	wantError(t, "PutItem", other.try(func(tx storage.Tx) error { return tx.PutItem(note, newItem("note", "1")) }), storage.ErrLoading)
	wantError(t, "PutItem, new", other.try(func(tx storage.Tx) error { return tx.PutItem(nil, newItem("note", "new")) }), storage.ErrLoading)
	wantError(t, "DeleteItem", other.try(func(tx storage.Tx) error { return tx.DeleteItem(note) }), storage.ErrLoading)
	acme := other.in(acme)
	acme.put(nil, newItem("note", "1"))
	acme.store(newClient(acme, "theirs", "theirs"), newToken(acme, "theirs", "theirs"))
	if _, _, err := other.Token(t.Context(), "theirs"); err != nil {
		t.Errorf("Token of another tenant: %v", err)
	}
	if dd := diff.Diff(texts(dump, false), texts(other.dump(), false)); dd != "" {
		t.Errorf("the tenant changed while it was loaded (-before +after):\n%s", dd)
	}
	if err := other.complete(markAt(len(dump))); err != nil {
		t.Fatal(err)
	}
	other.put(note, newItem("note", "1"))
	for id := range tokens {
		for deadline := time.Now().Add(2 * staleness); ; time.Sleep(20 * time.Millisecond) {
			last := time.Now().After(deadline) // as in token
			_, _, err := other.Token(t.Context(), id)
			if err == nil {
				break
			}
			if last {
				t.Errorf("Token after the load: %v", err)
				break
			}
		}
	}
}

func loadCompletes(t *testing.T, d *directory) {
	furnish(d, 3)
	dump, other := d.dump(), d.another()
	other.begin()
	other.loadSome(dump, 0, len(dump))
	wantError(t, "completing without an entry", other.set(markAt(len(dump)), nil), storage.ErrUnaudited)
	if other.mark() == nil {
		t.Fatal("the load was completed all the same")
	}
	// Numbers may have gaps, and what follows in the same write is above all.
	gap := &storage.AuditEntry{Seq: dump[len(dump)-1].Audit.Seq + 10, At: birth, Actor: "operator", Action: "after a gap"}
	err := other.Write(t.Context(), other.tenant, func(tx storage.Tx) error {
		return errors.Join(tx.Load(&storage.Record{Audit: gap}), tx.SetLoad(markAt(len(dump)), nil), tx.Audit(loadEntry))
	})
	if err != nil {
		t.Fatal(err)
	}
	if m := other.mark(); m != nil {
		t.Errorf("LoadMark: got %+v, want none", m)
	}
	was, err := d.AuditEntries(t.Context(), d.tenant, 0, all)
	if err != nil {
		t.Fatal(err)
	}
	is, err := other.AuditEntries(t.Context(), d.tenant, 0, all)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(was); len(is) != n+2 || is[n].Seq != gap.Seq || is[n+1].Seq <= gap.Seq || is[n+1].Action != loadEntry.Action {
		t.Errorf("%d entries became %d, the last of them %+v", n, len(is), is[len(is)-1])
	}
}

func loadTaken(t *testing.T, d *directory) {
	furnish(d, 3)
	dump, other := d.dump(), d.another()
	other.begin()
	other.loadSome(dump, 0, len(dump))
	at := len(dump)
	want := []string{"", "id", "id", "id", "members.value", "id", "seq"}
	for _, r := range dump {
		if r.Client != nil {
			c := *r.Client
			c.Name = "another"
			r.Client = &c
		}
		if kind, _ := kindOf(r); want[kind] != "" {
			wantUnique(t, fmt.Sprintf("Load of %s again", texts([]storage.Record{r}, false)), other.set(markAt(at), markAt(at+1), other.arriving(r)), want[kind])
		}
		switch {
		case r.Client != nil && r.Client.Revoked.IsZero():
			c := *r.Client
			c.ID, c.Name = "another", "hr"
			wantUnique(t, "Load of a client of the same name", other.set(markAt(at), markAt(at+1), &storage.Record{Client: &c}), "name")
		case r.Resource != nil && r.Resource.Type == "User" && r.Resource.Deleted.IsZero():
			w := *r.Resource
			w.Resource = *other.withID(&w.Resource, storage.NewID())
			wantUnique(t, "Load of a user of the same name", other.set(markAt(at), markAt(at+1), &storage.Record{Resource: &w}), "userName")
			w.Deleted = d.now()
			if err := other.set(markAt(at), markAt(at+1), other.arriving(storage.Record{Resource: &w})); err != nil {
				t.Errorf("Load of a deleted user of the same name: %v", err)
			}
			at++
		}
	}
}

func loadDangling(t *testing.T, d *directory) {
	user, group := d.draft(d.user, `{"userName":"ana"}`), d.draft(d.group, `{"displayName":"Staff"}`)
	d.begin()
	if err := d.set(markAt(0), markAt(2), &storage.Record{Resource: &storage.WholeResource{Resource: *user}}, &storage.Record{Resource: &storage.WholeResource{Resource: *group}}); err != nil {
		t.Fatal(err)
	}
	members := func(group string, ids ...string) *storage.Record {
		m := &storage.GroupMembers{Group: group}
		for _, id := range ids {
			m.Members = append(m.Members, storage.Member{Value: id})
		}
		return &storage.Record{Members: m}
	}
	err := d.set(markAt(2), markAt(3), members(group.ID, user.ID, storage.NewID()))
	if e, ok := errors.AsType[*storage.UnknownMemberError](err); !ok || e.Index != 1 {
		t.Errorf("an unknown member: got %v, want an UnknownMemberError with Index 1", err)
	}
	wantError(t, "members of an unknown group", d.set(markAt(2), markAt(3), members(storage.NewID(), user.ID)), storage.ErrNotFound)
	wantError(t, "members of a user", d.set(markAt(2), markAt(3), members(user.ID, group.ID)), storage.ErrNotFound)
	wantError(t, "a token of an unknown client", d.set(markAt(2), markAt(3), &storage.Record{Token: newToken(d, "k1", "nobody")}), storage.ErrNotFound)
	if err := d.set(markAt(2), markAt(3), &storage.Record{}); err == nil {
		t.Error("an empty record was loaded")
	}
	if err := d.set(markAt(2), markAt(3), members(group.ID, user.ID)); err != nil {
		t.Error(err)
	}
}
