package storagetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Lockstep makes the same random writes in a new store of each kind, one after the
// other, among them many that must fail: with what is stale, taken, deleted, purged
// or somebody else's. Whatever a store answers, and whatever can be read afterwards,
// has to be the same in all.
func Lockstep(t *testing.T, open ...func(t *testing.T) storage.Store) {
	writes, many := setting(t, "ROSTER_TEST_WRITES", 400)
	seed := uint64(1)
	if many {
		seed = rand.Uint64()
	}
	seed, _ = setting(t, "ROSTER_TEST_SEED", seed)
	var walkers []*walker
	for _, o := range open {
		walkers = append(walkers, &walker{directory: newDirectory(t, o), g: newGenerator(seed), known: map[storage.TenantID][]string{}})
	}
	tally := map[string]int{}
	for i := range int(writes) {
		var first []string
		for n, w := range walkers {
			w.said = nil
			w.step()
			if i%20 == 19 {
				w.look()
			}
			if n == 0 {
				first = w.said
				tally[first[len(first)-1]]++
			}
			if diff := cmp.Diff(first, w.said); diff != "" {
				t.Fatalf("seed %d, write %d: the first store and number %d differ (-first +other):\n%s\nthe first said %q",
					seed, i, n+1, diff, first)
			}
		}
	}
	t.Logf("seed %d: %v", seed, tally)
	if done := tally[kind(nil)]; uint64(done)*4 < writes {
		t.Errorf("seed %d: of %d writes only %d succeed, which proves little: %v", seed, writes, done, tally)
	}
}

// walker is one of the stores.
type walker struct {
	*directory
	g    *generator
	said []string

	ids     []string // of all that was ever made
	seen    []*storage.Resource
	gone    []*storage.WholeResource
	items   []*storage.Item
	clients []*storage.Client
	known   map[storage.TenantID][]string // ids of clients that there are
}

func (w *walker) say(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

// kind is an error as callers tell it apart.
func kind(err error) string {
	var unique *storage.UniqueError
	var unknown *storage.UnknownMemberError
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &unique):
		return "unique " + unique.Attr
	case errors.As(err, &unknown):
		return fmt.Sprint("unknown member ", unknown.Index)
	}
	for _, e := range []error{storage.ErrNotFound, storage.ErrConflict, storage.ErrUnaudited, storage.ErrLoading, storage.ErrNotEmpty, errTest} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return "error " + err.Error()
}

// step is one write of one or a few changes.
func (w *walker) step() {
	if w.g.chance(15) {
		w.outside()
		return
	}
	if w.g.chance(10) {
		w.tenant = pick(w.g, []storage.TenantID{storage.DefaultTenant, acme})
	} else {
		w.tenant = storage.DefaultTenant
	}
	var steps []func(storage.Tx) error
	for range 1 + w.g.IntN(4) {
		steps = append(steps, w.change())
	}
	end := pick(w.g, []error{nil, nil, nil, nil, nil, nil, errTest})
	audited, ignore := !w.g.chance(3), w.g.chance(70)
	at := w.now()
	begin := len(w.said)
	err := w.Write(w.t.Context(), w.tenant, func(tx storage.Tx) error {
		w.said = w.said[:begin]
		for _, step := range steps {
			err := step(tx)
			w.say("  %s", kind(err))
			if err != nil && (!ignore || !harmless(err)) {
				return err
			}
		}
		if audited {
			if err := tx.Audit(storage.AuditEntry{At: at, Actor: "operator", Action: "test"}); err != nil {
				return err
			}
		}
		return end
	})
	w.say("%s", kind(err))
}

// harmless errors end no write by themselves.
func harmless(err error) bool { return errors.Is(err, storage.ErrNotFound) }

func (w *walker) id() string {
	if len(w.ids) == 0 || w.g.chance(3) {
		return randomID(w.g.Rand)
	}
	return pick(w.g, w.ids)
}

// there returns the id of a resource that there is, or else this one.
func (w *walker) there(typ *schemas.ResourceType, or string) string {
	list, _, err := w.query(storage.Query{Type: typ.Name, StartIndex: 1, Count: all})
	if err != nil || len(list) == 0 {
		return or
	}
	return pick(w.g, list).ID
}

var lockstepNames = []string{"ana", "Ana", "bob", "ß", "SS", "eve", "ivo", "Ⅷ", "zoë", "Zoe\u0308", "kim", "lea", "max", "mia", "ned", "oda", "pia", "rex", "sam", "tim"}

// body makes a resource with an id; few names, so that they are often taken.
func (w *walker) body(rt *schemas.ResourceType, id string) *storage.Resource {
	name := pick(w.g, lockstepNames)
	attrs := map[string]any{"userName": name}
	if rt == w.group {
		attrs = map[string]any{"displayName": name}
	}
	now := w.now()
	r := &storage.Resource{Type: rt.Name, ID: id, Version: 1, Created: now, LastModified: now}
	w.fill(rt, r, attrs)
	return r
}

func (w *walker) draw() []storage.Member {
	var list []storage.Member
	for range w.g.IntN(5) {
		m := storage.Member{Value: w.id()}
		if w.g.chance(85) {
			m.Value = w.there(w.typ(), m.Value)
		}
		if w.g.chance(30) {
			m.Display = pick(w.g, lockstepNames)
		}
		list = append(list, m)
	}
	return list
}

func (w *walker) typ() *schemas.ResourceType {
	return pick(w.g, []*schemas.ResourceType{w.user, w.user, w.group})
}

// sayResource says all of a resource that stores have to agree on.
func (w *walker) sayResource(r *storage.Resource) {
	if r == nil {
		w.say("  none")
		return
	}
	w.say("  %s %s %d %s %s %q %s epoch %d", r.Type, r.ID, r.Version, r.Created, r.LastModified, r.Name, r.Doc, r.Epoch)
}

func (w *walker) sayGroups(list []*storage.Resource) {
	for _, g := range list {
		w.sayResource(g)
	}
}

// have returns a resource inside the write, or one that was read some time ago.
func (w *walker) have(old *storage.Resource, typ, id string) func(storage.Tx) (*storage.Resource, error) {
	return func(tx storage.Tx) (*storage.Resource, error) {
		if old != nil {
			return old, nil
		}
		r, err := tx.Get(typ, id)
		if err != nil {
			return nil, err
		}
		w.sayResource(r)
		return r, nil
	}
}

func (w *walker) change() func(storage.Tx) error {
	g := w.g
	typ, id := w.typ(), w.id()
	var old *storage.Resource
	if g.chance(15) && len(w.seen) > 0 {
		old = pick(g, w.seen)
		id = old.ID
		typ = w.typeOf(old)
	}
	if old == nil && g.chance(60) {
		id = w.there(typ, id)
	}
	have := w.have(old, typ.Name, id)
	group := w.have(nil, "Group", w.there(w.group, w.id()))
	at := w.now()
	switch g.IntN(24) {
	case 0, 1, 2, 3:
		r := w.body(typ, randomID(g.Rand))
		w.ids = append(w.ids, r.ID)
		return func(tx storage.Tx) error { return tx.Create(r) }
	case 4, 5:
		next := w.body(typ, id)
		touch := g.chance(20)
		return func(tx storage.Tx) error {
			r, err := have(tx)
			if err != nil {
				return err
			}
			n := *next
			n.Created, n.Version = r.Created, r.Version+1
			if touch {
				n.Doc, n.Index = nil, nil
			}
			return tx.Update(r, &n)
		}
	case 6, 7:
		return func(tx storage.Tx) error {
			r, err := have(tx)
			if err != nil {
				return err
			}
			list, err := tx.MemberOf(r)
			w.sayGroups(list)
			if err != nil {
				return err
			}
			return tx.Delete(r, at)
		}
	case 8, 9, 10:
		if list, err := w.ListDeleted(w.t.Context(), w.tenant, typ.Name, storage.DeletedPlace{}, 100); err == nil && len(list) > 0 {
			id = pick(g, list).ID
		}
		next := w.body(typ, id)
		memberships := g.chance(60)
		stale := g.chance(10) && len(w.gone) > 0
		var was *storage.WholeResource
		if stale {
			was = pick(g, w.gone)
			next = w.body(w.typeOf(&was.Resource), was.ID)
		}
		purge := g.chance(25)
		return func(tx storage.Tx) error {
			prev := was
			if prev == nil {
				var err error
				if prev, err = tx.GetDeleted(typ.Name, id); err != nil {
					return err
				}
				w.sayResource(&prev.Resource)
				w.say("  deleted %s", prev.Deleted)
			}
			if purge {
				more, err := tx.Purge(prev)
				w.say("  more %v", more)
				return err
			}
			list, err := tx.FormerGroups(prev)
			if err != nil {
				return err
			}
			n := *next
			n.Created, n.Version = prev.Created, prev.Version+1
			if err = tx.Restore(prev, &n, memberships); err == nil {
				w.sayGroups(list) // which counted for nothing if prev was stale
			}
			return err
		}
	case 11, 12, 13, 14:
		list := w.draw()
		how := g.IntN(4)
		return func(tx storage.Tx) error {
			r, err := group(tx)
			if err != nil {
				return err
			}
			up, err := tx.Ancestors(r)
			slices.Sort(up)
			w.say("  above %v", up)
			if err != nil {
				return err
			}
			var n int
			switch how {
			case 0:
				n, err = tx.RemoveMembers(r, storage.MemberIDs(list))
			case 1:
				n, err = tx.SetMembers(r, list)
			default:
				n, err = tx.AddMembers(r, list)
			}
			if err == nil {
				w.say("  %d rows", n)
			}
			return err
		}
	case 15:
		return func(tx storage.Tx) error {
			r, err := group(tx)
			if err != nil {
				return err
			}
			return tx.EachMember(r, func(m storage.Member) error {
				w.say("  has %v", m)
				return nil
			})
		}
	case 16:
		return func(tx storage.Tx) error { return tx.Remains(typ.Name, id) }
	case 17:
		return func(tx storage.Tx) error { return tx.Advance() }
	case 18, 19, 20:
		return w.changeItem()
	case 21, 22:
		return w.changeClient(at)
	}
	name := pick(g, lockstepNames)
	version := int64(g.IntN(3))
	switch g.IntN(4) {
	case 0:
		return func(tx storage.Tx) error { return tx.RenameTenant(name) }
	case 1:
		return func(tx storage.Tx) error { return tx.CreateTenant(name, at) }
	}
	return func(tx storage.Tx) error {
		return tx.Audit(storage.AuditEntry{At: at, Actor: "operator", Action: "change", Type: typ.Name, ID: id, Version: version, Attributes: []string{"a", "b"},
			Changes: []storage.Change{{Path: "a", Before: []byte(`"x"`), After: []byte(`{"y":1}`)}}})
	}
}

var (
	lockstepKinds = []string{"note", "note/2", "key%"}
	lockstepKeys  = []string{"a", "A", "a/b", "%", "é", "long " + strings.Repeat("x", 300)}
)

func (w *walker) item() *storage.Item {
	g := w.g
	i := &storage.Item{Kind: pick(g, lockstepKinds), ID: pick(g, lockstepKeys), Data: []byte(fmt.Sprintf(`{"n":%d}`, g.IntN(100)))}
	for range g.IntN(3) {
		i.Keys = append(i.Keys, pick(g, lockstepKeys))
	}
	if g.chance(40) {
		i.Expires = birth.Add(time.Duration(g.IntN(5)) * time.Second)
	}
	return i
}

func (w *walker) sayItem(i *storage.Item) {
	w.say("  item %s %q %q %d %s %s", i.Kind, i.ID, i.Keys, i.Version, i.Expires, i.Data)
}

func (w *walker) changeItem() func(storage.Tx) error {
	g := w.g
	next := w.item()
	how := g.IntN(7)
	var stale *storage.Item
	if g.chance(15) && len(w.items) > 0 {
		stale = pick(g, w.items)
		next.Kind, next.ID = stale.Kind, stale.ID
	}
	key := pick(g, append([]string{""}, lockstepKeys...))
	return func(tx storage.Tx) error {
		n := *next
		n.Keys = slices.Clone(next.Keys)
		switch how {
		case 0, 1:
			return tx.PutItem(nil, &n)
		case 2:
			list, err := tx.Items(next.Kind, key)
			for _, i := range list {
				w.sayItem(i)
			}
			return err
		case 3:
			return tx.Guard(key + "x")
		}
		prev := stale
		if prev == nil {
			var err error
			if prev, err = tx.Item(next.Kind, next.ID); err != nil {
				return err
			}
			w.sayItem(prev)
		}
		if how == 4 {
			return tx.DeleteItem(prev)
		}
		return tx.PutItem(prev, &n)
	}
}

func (w *walker) changeClient(at time.Time) func(storage.Tx) error {
	g := w.g
	name := pick(g, lockstepNames)
	scopes := pick(g, [][]string{nil, {"users:read"}, {"users:read", "groups:write"}})
	rate := g.IntN(3)
	var prev *storage.Client
	if len(w.clients) > 0 {
		prev = pick(g, w.clients)
	}
	token := fmt.Sprint("token", birth.UnixMilli()+g.Int64N(1+at.UnixMilli()-birth.UnixMilli()))
	switch how := g.IntN(6); {
	case how == 0:
		id := fmt.Sprint("client", len(w.clients)+g.IntN(3)*1000+int(at.UnixMilli()))
		c := &storage.Client{ID: id, Tenant: w.tenant, Name: name, Scopes: scopes, Rate: rate, Created: at}
		w.clients = append(w.clients, c)
		return func(tx storage.Tx) error { n := *c; return tx.CreateClient(&n) }
	case prev == nil:
	case how == 1:
		next := *prev
		next.Name, next.Scopes, next.Rate = name, scopes, rate
		w.clients = append(w.clients, &next)
		return func(tx storage.Tx) error { return tx.UpdateClient(prev, &next) }
	case how == 2:
		return func(tx storage.Tx) error { return tx.RevokeClient(prev.ID, at) }
	case how == 3:
		token = fmt.Sprint("token", at.UnixMilli())
		there := slices.Contains(w.known[w.tenant], prev.ID)
		// A client of another tenant has none there, and the caller sees to that.
		return func(tx storage.Tx) error {
			list, err := tx.Tokens(prev.ID)
			for _, k := range list {
				w.say("  token %v", *k)
			}
			if err != nil || len(list) > 3 || !there {
				return err
			}
			return tx.CreateToken(&storage.Token{ID: token, Client: prev.ID, Hash: []byte(token), Created: at, Expires: at.Add(time.Hour)})
		}
	}
	return func(tx storage.Tx) error { return tx.ExpireToken(token, at) }
}

// outside is what is done outside of Write.
func (w *walker) outside() {
	g, ctx := w.g, w.t.Context()
	at := birth.Add(time.Duration(g.IntN(5000)) * time.Millisecond)
	switch i := w.item(); g.IntN(5) {
	case 0:
		w.say("%s", kind(w.ExtendItem(ctx, w.tenant, i.Kind, i.ID, at)))
	case 1:
		var notes []*storage.Item
		for range g.IntN(4) {
			n := w.item()
			if n.Expires.IsZero() && !g.chance(5) {
				n.Expires = at
			}
			notes = append(notes, n)
		}
		err := w.NoteItems(ctx, w.tenant, notes)
		if err != nil {
			err = errTest
		}
		w.say("%s", kind(err))
	case 2:
		w.say("%s", kind(w.ForgetItems(ctx, w.tenant, i.Kind, i.ID, pick(g, lockstepKeys))))
	case 3:
		if !g.chance(20) {
			at = birth.Add(time.Second)
		}
		n, err := w.SweepItems(ctx, at)
		w.say("swept %d", n)
		w.say("%s", kind(err))
	default: // something to be stale later
		typ := w.typ()
		if r, err := w.GetToChange(ctx, w.tenant, typ.Name, w.id()); err == nil {
			w.seen = append(w.seen, r)
			r.Epoch = 0
			w.sayResource(r)
		}
		if r, err := w.GetDeleted(ctx, w.tenant, typ.Name, w.id()); err == nil {
			w.gone = append(w.gone, r)
			w.sayResource(&r.Resource)
		}
		if i, err := w.Item(ctx, w.tenant, i.Kind, i.ID); err == nil {
			w.items = append(w.items, i)
			w.sayItem(i)
		}
		w.say("looked")
	}
}

// look says everything that can be read.
func (w *walker) look() {
	ctx := w.t.Context()
	last := w.said[len(w.said)-1]
	must := func(err error) {
		w.t.Helper()
		if err != nil { // which the stores would agree on
			w.t.Fatal(err)
		}
	}
	for _, tenant := range []storage.TenantID{storage.DefaultTenant, acme} {
		w.say("tenant %s", tenant)
		epoch, err := w.Epoch(ctx, tenant)
		must(err)
		w.say("epoch %d", epoch)
		for _, rt := range []*schemas.ResourceType{w.user, w.group} {
			var q storage.Query
			q.Type, q.Count, q.StartIndex = rt.Name, 1+w.g.IntN(7), 1
			q.SortBy, q.Descending = rt.Lookup(pick(w.g, []string{"id", "displayName", "meta.lastModified", "meta.created", "meta.version"})), w.g.chance(50)
			n := 0
			must(storage.Walk(ctx, w, tenant, q, func(list []*storage.Resource) error {
				n += len(list)
				w.sayGroups(list)
				return nil
			}))
			page, err := w.Query(ctx, tenant, storage.Query{Type: rt.Name, Count: 0})
			must(err)
			if page.TotalResults != n {
				w.t.Fatalf("a walk through %s in %s finds %d of %d", rt.Name, tenant, n, page.TotalResults)
			}
			gone, err := w.ListDeleted(ctx, tenant, rt.Name, storage.DeletedPlace{}, 1000)
			must(err)
			count, err := w.CountDeleted(ctx, tenant, rt.Name)
			must(err)
			w.say("deleted %d", count)
			for _, r := range gone {
				w.sayResource(&r.Resource)
				former, err := w.FormerGroups(ctx, tenant, r.ID)
				must(err)
				w.say("  at %s of %v", r.Deleted, former)
			}
		}
		for _, id := range w.ids {
			count, err := w.CountMembers(ctx, tenant, id, 3)
			must(err)
			for m, err := range w.Members(ctx, tenant, id, "") {
				must(err)
				w.say("  %s has %v of %d", id, m, count)
			}
		}
		in, err := w.Groups(ctx, tenant, w.ids...)
		must(err)
		w.say("groups %v", in)
		for _, kind := range lockstepKinds {
			for _, key := range append([]string{""}, lockstepKeys...) {
				list, err := w.Items(ctx, tenant, kind, key)
				must(err)
				for _, i := range list {
					w.sayItem(i)
				}
			}
		}
		w.known[tenant] = nil
		clients, err := w.ListClients(ctx, tenant)
		must(err)
		for _, c := range clients {
			w.known[tenant] = append(w.known[tenant], c.ID)
			c.Scopes = append([]string{}, c.Scopes...)
			c.Networks = append([]string{}, c.Networks...)
			for _, k := range c.Tokens {
				w.say("  token %v", *k)
			}
			c.Tokens = nil
			w.say("client %v", *c)
		}
		entries, err := w.AuditEntries(ctx, tenant, 0, 1<<20)
		must(err)
		for _, e := range entries {
			w.say("%d %s %s %s %d %v %v", e.Seq, e.At, e.Action, e.ID, e.Version, e.Attributes, e.Changes)
		}
		events, err := w.Events(ctx, tenant, 0, 1<<20)
		must(err)
		w.say("%d events", len(events))
	}
	tenants, err := w.ListTenants(ctx)
	must(err)
	for _, x := range tenants {
		w.say("tenant %s %q", x.ID, x.Name)
	}
	w.say("%s", last)
}
