package storagetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// chapters are the contract.
var chapters = []struct {
	name     string
	promises []promise
	heavy    bool // left out by RunSequential
}{
	{"differential", differentialPromises, true},
	{"resources", resourcePromises, false},
	{"members", memberPromises, false},
	{"deleted", deletedPromises, false},
	{"queries", queryPromises, false},
	{"items", itemPromises, false},
	{"epochs", epochPromises, false},
	{"clients", clientPromises, false},
	{"audit", auditPromises, false},
	{"tenants", tenantPromises, false},
	{"concurrency", slices.Concat(concurrencyPromises, itemRaces, deletedRaces), true},
	{"dump", dumpPromises, true},
}

// Run holds a backend to the contract. open returns a new and empty store, which
// Run closes; some are open at the same time.
func Run(t *testing.T, open func(t *testing.T) storage.Store) {
	for _, chapter := range chapters {
		t.Run(chapter.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range chapter.promises {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					p.test(t, newDirectory(t, open))
				})
			}
		})
	}
}

// RunSequential is Run for a store on a weaker server: one promise after the
// other, without those about concurrency and dumps and the comparison with a
// model, and without those that except names, each with the reason why.
func RunSequential(t *testing.T, open func(t *testing.T) storage.Store, except map[string]string) {
	unknown := maps.Clone(except)
	for _, chapter := range chapters {
		if chapter.heavy {
			continue
		}
		for _, p := range chapter.promises {
			delete(unknown, p.name)
			t.Run(p.name, func(t *testing.T) {
				if why, ok := except[p.name]; ok {
					t.Skip(why)
				}
				p.test(t, newDirectory(t, open))
			})
		}
	}
	for name := range unknown {
		t.Errorf("there is no promise %q to leave out", name)
	}
}

// promise is a sentence of the contract and the test of it.
type promise struct {
	name string
	test func(*testing.T, *directory)
}

// directory is a store under test, seen from one tenant, with what it takes to
// fill it and to look at it. Its helpers end the test when something fails that
// should not, so they belong in the test's own goroutine.
type directory struct {
	storage.Store
	t      *testing.T
	tenant storage.TenantID
	clock  *atomic.Int64
	open   func(*testing.T) storage.Store // another one

	user, group, device *schemas.ResourceType
}

func newDirectory(t *testing.T, open func(t *testing.T) storage.Store) *directory {
	t.Helper()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	d := &directory{
		t: t, tenant: storage.DefaultTenant, clock: new(atomic.Int64), open: open,
		user: set.Type("User"), group: set.Type("Group"), device: deviceType(t),
	}
	d.Store = open(t)
	t.Cleanup(func() {
		d.wantSound(set)
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

// in returns the same store seen from another tenant.
func (d *directory) in(tenant storage.TenantID) *directory {
	other := *d
	other.tenant = tenant
	return &other
}

// birth is when the clock of every test begins.
var birth = time.Date(2026, 3, 1, 12, 0, 0, 987_000_000, time.UTC)

// now is a millisecond later each time.
func (d *directory) now() time.Time {
	return birth.Add(time.Duration(d.clock.Add(1)) * time.Millisecond)
}

// try runs fn in a write that records an audit entry.
func (d *directory) try(fn func(storage.Tx) error) error {
	at := d.now() // fn may run twice, and the clock is not to go on then
	return d.Write(d.t.Context(), d.tenant, func(tx storage.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: at, Actor: "operator", Action: "test"})
	})
}

// do is try for what must succeed.
func (d *directory) do(fn func(storage.Tx) error) {
	d.t.Helper()
	if err := d.try(fn); err != nil {
		d.t.Fatalf("write: %v", err)
	}
}

// draft makes a resource from the JSON a client would send; it is not stored.
func (d *directory) draft(rt *schemas.ResourceType, body string) *storage.Resource {
	d.t.Helper()
	raw, err := schemas.Decode([]byte(body), schemas.Limits{})
	if err != nil {
		d.t.Fatalf("%s: %v", body, err)
	}
	attrs, err := rt.Bind(raw, schemas.Lenient)
	if err != nil {
		d.t.Fatalf("%s: %v", body, err)
	}
	now := d.now()
	r := &storage.Resource{Type: rt.Name, ID: storage.NewID(), Version: 1, Created: now, LastModified: now}
	d.fill(rt, r, attrs)
	return r
}

// fill derives what is stored from an attribute tree.
func (d *directory) fill(rt *schemas.ResourceType, r *storage.Resource, attrs map[string]any) {
	attrs["id"] = r.ID
	r.Name = storage.NameOf(attrs)
	r.Doc = rt.Document(attrs)
	r.Index = d.NewIndex(d.tenant, rt, attrs)
}

// unique returns the unique keys of a resource.
func (d *directory) unique(r *storage.Resource) []storage.Key {
	d.t.Helper()
	rt := d.typeOf(r)
	attrs, err := rt.Parse(r.Doc)
	if err != nil {
		d.t.Fatal(err)
	}
	keys, _ := storage.Derive(rt, attrs, storage.NoShadow{})
	return keys
}

// withID gives a draft another id.
func (d *directory) withID(r *storage.Resource, id string) *storage.Resource {
	d.t.Helper()
	rt := d.typeOf(r)
	attrs, err := rt.Parse(r.Doc)
	if err != nil {
		d.t.Fatal(err)
	}
	r.ID = id
	d.fill(rt, r, attrs)
	return r
}

// revise makes what r becomes when its document is replaced by body.
func (d *directory) revise(rt *schemas.ResourceType, r *storage.Resource, body string) *storage.Resource {
	d.t.Helper()
	next := d.withID(d.draft(rt, body), r.ID)
	next.Version, next.Created = r.Version+1, r.Created
	return next
}

// touch makes what r becomes when only its version moves.
func (d *directory) touch(r *storage.Resource) *storage.Resource {
	return &storage.Resource{Type: r.Type, ID: r.ID, Version: r.Version + 1, Created: r.Created, LastModified: d.now()}
}

// add stores a resource made from JSON.
func (d *directory) add(rt *schemas.ResourceType, body string) *storage.Resource {
	d.t.Helper()
	r := d.draft(rt, body)
	d.do(func(tx storage.Tx) error { return tx.Create(r) })
	return r
}

// addUser stores a user of whom only the name matters.
func (d *directory) addUser(name string) *storage.Resource {
	d.t.Helper()
	return d.add(d.user, `{"userName":`+quote(name)+`}`)
}

// addGroup stores a group with members.
func (d *directory) addGroup(name string, members ...*storage.Resource) *storage.Resource {
	d.t.Helper()
	g := d.add(d.group, `{"displayName":`+quote(name)+`}`)
	if len(members) > 0 {
		d.addMembers(g, members...)
	}
	return g
}

func (d *directory) addMembers(g *storage.Resource, members ...*storage.Resource) {
	d.t.Helper()
	d.do(func(tx storage.Tx) error {
		_, err := tx.AddMembers(g, asMembers(members...))
		return err
	})
}

func asMembers(resources ...*storage.Resource) []storage.Member {
	list := make([]storage.Member, len(resources))
	for i, r := range resources {
		list[i].Value = r.ID
	}
	return list
}

func idsOf(resources ...*storage.Resource) []string {
	list := make([]string, len(resources))
	for i, r := range resources {
		list[i] = r.ID
	}
	return list
}

func (d *directory) typeOf(r *storage.Resource) *schemas.ResourceType {
	switch r.Type {
	case "User":
		return d.user
	case "Group":
		return d.group
	}
	return d.device
}

// hold returns r as it is stored, in the hands of a caller who is about to change
// it: with the index derived from the document.
func (d *directory) hold(r *storage.Resource) *storage.Resource {
	d.t.Helper()
	held, err := d.Get(d.t.Context(), d.tenant, r.Type, r.ID)
	if err != nil {
		d.t.Fatalf("Get %s %s: %v", r.Type, r.Name, err)
	}
	rt := d.typeOf(r)
	attrs, err := rt.Parse(held.Doc)
	if err != nil {
		d.t.Fatal(err)
	}
	held.Index = d.NewIndex(d.tenant, rt, attrs)
	return held
}

// remove deletes r as it is stored, and returns when.
func (d *directory) remove(r *storage.Resource) time.Time {
	d.t.Helper()
	held, at := d.hold(r), d.now()
	d.do(func(tx storage.Tx) error { return tx.Delete(held, at) })
	return at
}

// replace replaces the document of r as it is stored.
func (d *directory) replace(r *storage.Resource, body string) *storage.Resource {
	d.t.Helper()
	prev := d.hold(r)
	next := d.revise(d.typeOf(r), prev, body)
	d.do(func(tx storage.Tx) error { return tx.Update(prev, next) })
	return next
}

// all is a Count that no test exceeds.
const all = 1 << 20

// query reads a page to its end and copies what it holds.
func (d *directory) query(q storage.Query) ([]*storage.Resource, int, error) {
	return collect(d.t.Context(), d.Store, d.tenant, q)
}

func collect(ctx context.Context, s storage.Store, tenant storage.TenantID, q storage.Query) ([]*storage.Resource, int, error) {
	p, err := s.Query(ctx, tenant, q)
	if err != nil {
		return nil, 0, err
	}
	list, err := readAll(ctx, p)
	return list, p.TotalResults, err
}

func readAll(ctx context.Context, p *storage.Page) (list []*storage.Resource, err error) {
	err = p.Each(ctx, func(portion []*storage.Resource) error {
		for _, r := range portion {
			list = append(list, r.Clone())
		}
		return nil
	})
	return list, err
}

// page is query for what must succeed; it returns the ids.
func (d *directory) page(q storage.Query) ([]string, int) {
	d.t.Helper()
	list, total, err := d.query(q)
	if err != nil {
		d.t.Fatalf("Query %+v: %v", q, err)
	}
	return idsOf(list...), total
}

// parse reads a filter without limits.
func (d *directory) parse(rt *schemas.ResourceType, text string) filter.Expr {
	d.t.Helper()
	e, err := filter.Parse(text, rt, filter.Limits{})
	if err != nil {
		d.t.Fatalf("Parse(%q): %v", text, err)
	}
	return e
}

// find returns the ids of what a filter selects.
func (d *directory) find(rt *schemas.ResourceType, text string) []string {
	d.t.Helper()
	ids, total := d.page(storage.Query{Type: rt.Name, Filter: d.parse(rt, text), StartIndex: 1, Count: all})
	if total != len(ids) {
		d.t.Fatalf("%s: TotalResults is %d with %d resources", text, total, len(ids))
	}
	return ids
}

// wantFound checks what a filter selects, in the order of ids.
func (d *directory) wantFound(rt *schemas.ResourceType, text string, want ...*storage.Resource) {
	d.t.Helper()
	ids := idsOf(want...)
	slices.Sort(ids)
	if diff := cmp.Diff(ids, d.find(rt, text), cmpopts.EquateEmpty()); diff != "" {
		d.t.Errorf("%s (-want +got):\n%s", text, diff)
	}
}

// wantStored checks that Get returns what was stored.
func (d *directory) wantStored(want *storage.Resource) {
	d.t.Helper()
	got, err := d.Get(d.t.Context(), d.tenant, want.Type, want.ID)
	if err != nil {
		d.t.Errorf("Get %s %s: %v", want.Type, want.Name, err)
		return
	}
	if diff := cmp.Diff(want, got, sameResource); diff != "" {
		d.t.Errorf("Get %s %s (-want +got):\n%s", want.Type, want.Name, diff)
	}
}

// sameResource leaves out what reads do not return.
var sameResource = cmp.Options{
	cmpopts.IgnoreFields(storage.Resource{}, "Index", "Ref", "Name", "InGroups", "Epoch"),
	cmp.Transformer("text", func(b []byte) string { return string(b) }), // byte by byte is slow
}

// wantGone checks that a resource does not exist for anybody who reads it.
func (d *directory) wantGone(r *storage.Resource) {
	d.t.Helper()
	if got, err := d.Get(d.t.Context(), d.tenant, r.Type, r.ID); !errors.Is(err, storage.ErrNotFound) || got != nil {
		d.t.Errorf("Get %s %s: got %+v, %v, want ErrNotFound", r.Type, r.Name, got, err)
	}
	if ids := d.find(d.typeOf(r), `id eq "`+r.ID+`"`); len(ids) > 0 {
		d.t.Errorf("%s %s is still found by its id", r.Type, r.Name)
	}
	ids, _ := d.page(storage.Query{Type: r.Type, StartIndex: 1, Count: all})
	if slices.Contains(ids, r.ID) {
		d.t.Errorf("%s %s is still listed", r.Type, r.Name)
	}
}

// members returns the direct members of a group.
func (d *directory) members(g *storage.Resource) []storage.Member {
	d.t.Helper()
	var list []storage.Member
	for m, err := range d.Members(d.t.Context(), d.tenant, g.ID, "") {
		if err != nil {
			d.t.Fatalf("Members of %s: %v", g.Name, err)
		}
		list = append(list, m)
	}
	return list
}

// wantMembers checks who is in a group, in the order of ids.
func (d *directory) wantMembers(g *storage.Resource, want ...*storage.Resource) {
	d.t.Helper()
	var got []string
	for _, m := range d.members(g) {
		got = append(got, m.Value)
	}
	ids := idsOf(want...)
	slices.Sort(ids)
	if diff := cmp.Diff(ids, got, cmpopts.EquateEmpty()); diff != "" {
		d.t.Errorf("Members of %s (-want +got):\n%s", g.Name, diff)
	}
	n, err := d.CountMembers(d.t.Context(), d.tenant, g.ID, all)
	if err != nil || n != len(want) {
		d.t.Errorf("CountMembers of %s: got %d, %v, want %d", g.Name, n, err, len(want))
	}
}

var anyOrder = cmpopts.SortSlices(func(a, b string) bool { return a < b })

// groupsOf returns what Groups says of one member.
func (d *directory) groupsOf(r *storage.Resource) []storage.Membership {
	d.t.Helper()
	m, err := d.Groups(d.t.Context(), d.tenant, r.ID)
	if err != nil {
		d.t.Fatalf("Groups of %s: %v", r.Name, err)
	}
	return m[r.ID]
}

// wantGroups checks the groups of a member, the direct ones first and each in
// the order of ids.
func (d *directory) wantGroups(r *storage.Resource, want ...storage.Membership) {
	d.t.Helper()
	if diff := cmp.Diff(inOrder(want), d.groupsOf(r), cmpopts.EquateEmpty()); diff != "" {
		d.t.Errorf("Groups of %s (-want +got):\n%s", r.Name, diff)
	}
}

// inOrder puts groups into the order in which Groups returns them.
func inOrder(list []storage.Membership) []storage.Membership {
	slices.SortFunc(list, func(a, b storage.Membership) int {
		if a.Direct != b.Direct {
			if a.Direct {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Group, b.Group)
	})
	return list
}

func direct(g *storage.Resource) storage.Membership {
	return storage.Membership{Group: g.ID, Display: g.Name, Direct: true}
}

func indirect(g *storage.Resource) storage.Membership {
	return storage.Membership{Group: g.ID, Display: g.Name}
}

// wantUnique checks that err says a value of attr is taken.
func wantUnique(t *testing.T, what string, err error, attr string) {
	t.Helper()
	if e, ok := errors.AsType[*storage.UniqueError](err); !ok || e.Attr != attr {
		t.Errorf("%s: got %v, want a UniqueError for %s", what, err, attr)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// quote writes s as a JSON string.
func quote(s string) string { return string(schemas.AppendString(nil, s)) }
