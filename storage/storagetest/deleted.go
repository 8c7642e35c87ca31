package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/storage"
)

var deletedPromises = []promise{
	{"GetDeleted returns what was deleted, and when, and nothing else", getDeleted},
	{"deleted resources are listed by when, the last one first", listDeleted},
	{"a list of deleted resources goes on where it was, whatever happens meanwhile", listDeletedOn},

	{"Restore brings a resource back with its values, its keys and its memberships", restore},
	{"Restore without memberships ends them", restoreAlone},
	{"a group in itself is deleted in the version that it has", deleteOfItself},
	{"a restored group has the members that it had, as far as they are there", restoreGroup},
	{"a Restore that closes a circle of groups is one that Ancestors tells of", restoreCircle},
	{"the groups of who is restored get the next version", restoreVersions},
	{"Restore is a UniqueError when a name is taken, and may give another", restoreTaken},
	{"Restore is ErrConflict unless prev is what is stored", restoreStale},
	{"who was taken out of a group while deleted is not in it when restored", restoreSet},
	{"what is restored is found, counted, changed and deleted as ever", restoreGoesOn},

	{"Purge removes a resource with its memberships, and nothing else", purge},
	{"a purge needs an audit entry", purgeUnaudited},
	{"Purge is ErrConflict unless prev is what is stored", purgeStale},
	{"Purge of a group with many members takes several writes", purgeMany},
	{"what comes after a purge is somebody else", purgeNew},
	{"deleted resources of one tenant are nobody's in another", deletedTenants},
	{"a loaded tenant's deleted resources are listed, restored and purged", deletedLoaded},
}

var deletedRaces = []promise{
	{"of 64 that restore a resource exactly one does", raceToRestore},
	{"of a Restore and 63 who create with its name one wins", raceRestoreCreate},
	{"of restoring and purging at once one happens, whole", raceRestorePurge},
}

// removed deletes r and returns it as it is then.
func (d *directory) removed(r *storage.Resource) *storage.WholeResource {
	d.t.Helper()
	d.remove(r)
	return d.gone(r)
}

// gone returns a resource that is deleted.
func (d *directory) gone(r *storage.Resource) *storage.WholeResource {
	d.t.Helper()
	w, err := d.GetDeleted(d.t.Context(), d.tenant, r.Type, r.ID)
	if err != nil {
		d.t.Fatalf("GetDeleted %s %s: %v", r.Type, r.Name, err)
	}
	return w
}

// back makes what a deleted resource becomes when it is restored, as body or as it was.
func (d *directory) back(w *storage.WholeResource, body string) *storage.Resource {
	d.t.Helper()
	if body == "" {
		body = string(w.Doc)
	}
	next := d.revise(d.typeOf(&w.Resource), &w.Resource, body)
	next.LastModified = d.now()
	return next
}

// restored restores a resource as it was.
func (d *directory) restored(w *storage.WholeResource) *storage.Resource {
	d.t.Helper()
	next := d.back(w, "")
	d.do(func(tx storage.Tx) error { return tx.Restore(w, next, true) })
	return next
}

// purged purges a deleted resource.
func (d *directory) purged(w *storage.WholeResource) {
	d.t.Helper()
	d.do(func(tx storage.Tx) error {
		if more, err := tx.Purge(w); err != nil || more {
			return fmt.Errorf("a purge: more %t, %w", more, err)
		}
		return nil
	})
}

// wantDeleted checks which resources of a type are deleted, the last one first.
func (d *directory) wantDeleted(typ string, want ...*storage.Resource) {
	d.t.Helper()
	list, err := d.ListDeleted(d.t.Context(), d.tenant, typ, storage.DeletedPlace{}, all)
	var ids []string
	for _, w := range list {
		ids = append(ids, w.ID)
	}
	if diff := cmp.Diff(idsOf(want...), ids, cmpopts.EquateEmpty()); err != nil || diff != "" {
		d.t.Errorf("ListDeleted: %v (-want +got):\n%s", err, diff)
	}
	if n, err := d.CountDeleted(d.t.Context(), d.tenant, typ); err != nil || n != len(want) {
		d.t.Errorf("CountDeleted = %d, %v, want %d", n, err, len(want))
	}
}

// wantFormer checks the groups that somebody deleted would be in, in both ways there
// are to ask.
func (d *directory) wantFormer(r *storage.Resource, want ...*storage.Resource) {
	d.t.Helper()
	var groups []storage.Membership
	for _, g := range want {
		groups = append(groups, direct(g))
	}
	got, err := d.FormerGroups(d.t.Context(), d.tenant, r.ID)
	if diff := cmp.Diff(inOrder(groups), got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		d.t.Errorf("FormerGroups of %s: %v (-want +got):\n%s", r.Name, err, diff)
	}
	ids := idsOf(want...)
	slices.Sort(ids)
	d.do(func(tx storage.Tx) error {
		w, err := tx.GetDeleted(r.Type, r.ID)
		if err != nil {
			return err
		}
		list, err := tx.FormerGroups(w)
		if diff := cmp.Diff(ids, idsOf(list...), cmpopts.EquateEmpty()); diff != "" {
			d.t.Errorf("Tx.FormerGroups of %s (-want +got):\n%s", r.Name, diff)
		}
		for _, g := range list {
			if now, err := d.Get(d.t.Context(), d.tenant, "Group", g.ID); err != nil || g.Version != now.Version || g.Type != "Group" || g.Name == "" {
				d.t.Errorf("Tx.FormerGroups has %+v, %v; want version %d", g, err, now.Version)
			}
		}
		return err
	})
}

func getDeleted(t *testing.T, d *directory) {
	u := d.add(d.user, `{"userName":"ana","displayName":"Ana","title":"x"}`)
	stays := d.addUser("bob")
	at := d.remove(u)
	for range 2 {
		w := d.gone(u)
		want := *u
		if diff := cmp.Diff(&want, &w.Resource, sameResource); diff != "" || !w.Deleted.Equal(at) || w.Deleted.Location() != time.UTC || w.Name != "Ana" {
			t.Errorf("GetDeleted: %q at %s, want %s (-want +got):\n%s", w.Name, w.Deleted, at, diff)
		}
		d.do(func(tx storage.Tx) error { return tx.Advance() })
	}
	d.do(func(tx storage.Tx) error {
		w, err := tx.GetDeleted("User", u.ID)
		if err == nil && (w.ID != u.ID || w.Epoch != 2 || !w.Deleted.Equal(at)) {
			t.Errorf("Tx.GetDeleted: %+v, want it in epoch 2", w)
		}
		return err
	})
	for _, k := range [][2]string{{"User", stays.ID}, {"Group", u.ID}, {"User", storage.NewID()}, {"User", ""}, {"!epoch", u.ID}, {"User deleted", u.ID}} {
		if w, err := d.GetDeleted(t.Context(), d.tenant, k[0], k[1]); !errors.Is(err, storage.ErrNotFound) || w != nil {
			t.Errorf("GetDeleted %q: %+v, %v, want ErrNotFound", k, w, err)
		}
		d.do(func(tx storage.Tx) error {
			if w, err := tx.GetDeleted(k[0], k[1]); !errors.Is(err, storage.ErrNotFound) || w != nil {
				t.Errorf("Tx.GetDeleted %q: %+v, %v, want ErrNotFound", k, w, err)
			}
			return nil
		})
	}
	d.wantFormer(u)
	if list, err := d.FormerGroups(t.Context(), d.tenant, stays.ID); err != nil || len(list) > 0 {
		t.Errorf("FormerGroups of somebody who is there: %v, %v", list, err)
	}
}

func listDeleted(t *testing.T, d *directory) {
	a, b, c, g := d.addUser("a"), d.addUser("b"), d.addUser("c"), d.addGroup("g")
	d.wantDeleted("User")
	at := d.now()
	for _, r := range []*storage.Resource{c, a} { // at the same time
		held := d.hold(r)
		d.do(func(tx storage.Tx) error { return tx.Delete(held, at) })
	}
	d.remove(g)
	d.remove(b)
	d.wantDeleted("User", b, c, a)
	d.wantDeleted("Group", g)
	d.wantDeleted("Device")
	for _, c := range []struct {
		after storage.DeletedPlace
		limit int
		want  []*storage.Resource
	}{
		{storage.DeletedPlace{}, 2, []*storage.Resource{b, c}},
		{d.gone(b).Place(), 1, []*storage.Resource{c}},
		{d.gone(c).Place(), 5, []*storage.Resource{a}},
		{d.gone(a).Place(), 5, nil},
		{storage.DeletedPlace{At: at}, 5, nil},
		{storage.DeletedPlace{At: at.Add(time.Millisecond)}, 5, []*storage.Resource{c, a}},
		{storage.DeletedPlace{}, 0, nil},
	} {
		list, err := d.ListDeleted(t.Context(), d.tenant, "User", c.after, c.limit)
		var got []string
		for _, w := range list {
			got = append(got, w.ID)
			if diff := cmp.Diff(d.gone(&w.Resource), w, cmp.Comparer(func(a, b *storage.WholeResource) bool {
				return a.ID == b.ID && string(a.Doc) == string(b.Doc) && a.Deleted.Equal(b.Deleted) && a.Version == b.Version && a.Name == b.Name && a.Type == b.Type
			})); diff != "" {
				t.Errorf("listed (-want +got):\n%s", diff)
			}
		}
		if diff := cmp.Diff(idsOf(c.want...), got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("ListDeleted after %v, %d: %v (-want +got):\n%s", c.after, c.limit, err, diff)
		}
	}
}

func listDeletedOn(t *testing.T, d *directory) {
	var users []*storage.Resource
	for i := range 12 {
		users = append(users, d.addUser(fmt.Sprint("u", i)))
		d.remove(users[i])
	}
	var got []string
	place := storage.DeletedPlace{}
	for {
		list, err := d.ListDeleted(t.Context(), d.tenant, "User", place, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		for _, w := range list {
			got = append(got, w.Name)
		}
		place = list[len(list)-1].Place()
		switch len(got) {
		case 3: // the last one of this page, one of a page to come, and a new one
			d.restored(d.gone(users[9]))
			d.purged(d.gone(users[4]))
			d.remove(d.addUser("new"))
		case 6:
			d.remove(users[9])
		}
	}
	if diff := cmp.Diff([]string{"u11", "u10", "u9", "u8", "u7", "u6", "u5", "u3", "u2", "u1", "u0"}, got); diff != "" {
		t.Errorf("page by page (-want +got):\n%s", diff)
	}
}

func restore(t *testing.T, d *directory) {
	u := d.add(d.user, `{"userName":"ana","displayName":"Ana","externalId":"1","title":"x","emails":[{"value":"ana@x.example","type":"work"}]}`)
	g, h, lost := d.addGroup("G", u), d.addGroup("H", u), d.addGroup("Lost", u)
	parent := d.addGroup("Parent", g)
	w := d.removed(u)
	d.remove(lost)
	d.wantFormer(u, g, h)
	next := d.restored(w)
	if next.Version != 2 {
		t.Fatalf("version %d", next.Version)
	}
	d.wantStored(next)
	d.wantDeleted("User")
	d.wantGroups(u, direct(g), direct(h), indirect(parent))
	d.wantMembers(g, u)
	for _, f := range []string{`userName eq "ANA"`, `displayName eq "ana"`, `externalId eq "1"`, `title eq "x"`, `emails.value eq "ana@x.example"`,
		`emails[type eq "work"]`, `groups.value eq "` + parent.ID + `"`, `meta.version eq "W/\"2\""`} {
		d.wantFound(d.user, f, u)
	}
	if got, err := d.Get(t.Context(), d.tenant, "User", u.ID); err != nil || !got.InGroups || !got.Created.Equal(u.Created) {
		t.Errorf("Get: %+v, %v", got, err)
	}
	if names, err := d.Names(t.Context(), d.tenant, "User", u.ID); err != nil || names[u.ID] != "Ana" {
		t.Errorf("Names: %v, %v", names, err)
	}
	if _, total := d.page(storage.Query{Type: "User", StartIndex: 1}); total != 1 {
		t.Errorf("TotalResults is %d, want 1", total)
	}
	wantUnique(t, "Create of the same name", d.try(func(tx storage.Tx) error {
		return tx.Create(d.draft(d.user, `{"userName":"ana"}`))
	}), "userName")
	// And the group that was deleted later takes its member back, too.
	d.restored(d.gone(lost))
	d.wantMembers(lost, u)
}

func restoreAlone(_ *testing.T, d *directory) {
	u, other := d.addUser("ana"), d.addUser("bob")
	g, lost := d.addGroup("G", u, other), d.addGroup("Lost", u, other)
	d.remove(lost)
	w := d.removed(u)
	before := d.hold(g)
	next := d.back(w, "")
	d.do(func(tx storage.Tx) error { return tx.Restore(w, next, false) })
	d.wantStored(next)
	d.wantStored(before)
	d.wantMembers(g, other)
	d.wantGroups(u)
	d.restored(d.gone(lost))
	d.wantMembers(lost, other)
	d.addMembers(g, u)
	d.wantMembers(g, u, other)
}

// deleteOfItself: no group gets into itself any more, but one that is may be loaded.
func deleteOfItself(t *testing.T, d *directory) {
	g := d.addGroup("Snake")
	other := d.addGroup("Other", g)
	d.addMembers(g, g)
	before := d.hold(g)
	w := d.removed(g)
	if w.Version != before.Version || !w.LastModified.Equal(before.LastModified) {
		t.Errorf("deleted in version %d of %s, want %d of %s", w.Version, w.LastModified, before.Version, before.LastModified)
	}
	if got := d.hold(other).Version; got != other.Version+1 {
		t.Errorf("the group that lost it has version %d, want %d", got, other.Version+1)
	}
}

func restoreGroup(_ *testing.T, d *directory) {
	ana, bob, carl := d.addUser("ana"), d.addUser("bob"), d.addUser("carl")
	g := d.addGroup("G", ana, bob, carl)
	parent := d.addGroup("Parent", g)
	w := d.removed(g)
	d.wantFormer(g, parent)
	d.remove(bob)
	d.purged(d.removed(carl))
	next := d.restored(w)
	d.wantStored(next)
	d.wantMembers(g, ana)
	d.wantMembers(parent, g)
	d.wantGroups(ana, direct(g), indirect(parent))
	d.wantFound(d.group, `displayName eq "g"`, g)
	d.restored(d.gone(bob))
	d.wantMembers(g, ana, bob)
}

func restoreCircle(t *testing.T, d *directory) {
	inner := d.addGroup("Inner")
	g := d.addGroup("G", inner)
	parent := d.addGroup("Parent", g)
	w := d.removed(g)
	d.addMembers(inner, parent)
	back := d.back(w, "")
	err := d.try(func(tx storage.Tx) error {
		if err := tx.Restore(w, back, true); err != nil {
			return err
		}
		above, err := tx.Ancestors(back)
		if err == nil && slices.Contains(above, g.ID) {
			err = errTest
		}
		return err
	})
	wantError(t, "Restore into a circle", err, errTest)
	d.wantGone(g)
}

func restoreVersions(t *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	g, h, other, lost := d.addGroup("G", ana, bob), d.addGroup("H", ana), d.addGroup("Other", bob), d.addGroup("Lost", ana)
	parent := d.addGroup("Parent", g)
	w := d.removed(ana)
	d.remove(lost)
	before := map[*storage.Resource]*storage.Resource{}
	for _, r := range []*storage.Resource{g, h, other, parent, bob} {
		before[r] = d.hold(r)
	}
	next := d.back(w, "")
	d.do(func(tx storage.Tx) error {
		groups, err := tx.FormerGroups(w)
		if err != nil {
			return err
		}
		for _, r := range groups {
			if was := before[g].Version; r.Version != was { // that of h is the same
				t.Errorf("before: %s has version %d, want %d", r.Name, r.Version, was)
			}
		}
		if err := tx.Restore(w, next, true); err != nil {
			return err
		}
		after, err := tx.MemberOf(next)
		if diff := cmp.Diff(idsOf(groups...), idsOf(after...)); err != nil || diff != "" {
			t.Errorf("MemberOf after it: %v (-want +got):\n%s", err, diff)
		}
		return err
	})
	for r, was := range before {
		want := *was
		if r == g || r == h {
			want.Version, want.LastModified = was.Version+1, next.LastModified
		}
		d.wantStored(&want)
	}
	wantError(t, "Update", d.try(func(tx storage.Tx) error {
		return tx.Update(before[g], d.revise(d.group, before[g], `{"displayName":"G2"}`))
	}), storage.ErrConflict)
}

func restoreTaken(t *testing.T, d *directory) {
	u := d.add(d.user, `{"userName":"ana","title":"x"}`)
	g := d.addGroup("G", u)
	w := d.removed(u)
	other := d.addUser("Ana")
	held := d.hold(g)
	next := d.back(w, "")
	wantUnique(t, "Restore", d.try(func(tx storage.Tx) error { return tx.Restore(w, next, true) }), "userName")
	d.wantGone(u)
	d.wantStored(held)
	d.wantDeleted("User", u)
	d.wantFound(d.user, `userName eq "ana"`, other)
	next = d.back(w, `{"userName":"ana2","title":"x"}`)
	d.do(func(tx storage.Tx) error { return tx.Restore(w, next, true) })
	d.wantStored(next)
	d.wantMembers(g, u)
	d.wantFound(d.user, `userName eq "ana2"`, u)
	d.wantFound(d.user, `userName eq "ana"`, other)
	// A value that was given up is not the resource's own any more.
	w = d.removed(next)
	d.addUser("ana2")
	next = d.back(w, `{"userName":"ana3"}`)
	d.do(func(tx storage.Tx) error { return tx.Restore(w, next, true) })
	d.addUser("ana4")
}

func restoreStale(t *testing.T, d *directory) {
	u := d.addUser("ana")
	held := d.hold(u)
	first := d.removed(u)
	d.restored(first)
	again := func(what string, w *storage.WholeResource) {
		t.Helper()
		next := d.back(w, `{"userName":"other"}`)
		wantError(t, what, d.try(func(tx storage.Tx) error { return tx.Restore(w, next, true) }), storage.ErrConflict)
	}
	again("what is there", first)
	again("what never was deleted", &storage.WholeResource{Resource: *held, Deleted: d.now()})
	second := d.removed(u)
	again("as it was deleted before", first)
	d.wantDeleted("User", u)
	d.purged(second)
	again("what was purged", second)
	d.wantDeleted("User")
	d.wantFound(d.user, `userName pr`)
}

func restoreSet(_ *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	g := d.addGroup("G", ana)
	w := d.removed(ana)
	d.do(func(tx storage.Tx) error {
		_, err := tx.SetMembers(g, asMembers(bob))
		return err
	})
	d.wantFormer(ana)
	d.restored(w)
	d.wantMembers(g, bob)
}

func restoreGoesOn(t *testing.T, d *directory) {
	u := d.addUser("ana")
	for i := range 3 {
		w := d.removed(u)
		d.addUser(fmt.Sprint("between", i))
		u = d.restored(w)
		u = d.replace(u, fmt.Sprintf(`{"userName":"ana%d","title":"x"}`, i))
		d.wantFound(d.user, fmt.Sprintf(`userName eq "ana%d"`, i), u)
		d.wantFound(d.user, `title eq "x"`, u)
	}
	if _, total := d.page(storage.Query{Type: "User", StartIndex: 1}); total != 4 || u.Version != 7 {
		t.Errorf("TotalResults is %d and the version %d, want 4 and 7", total, u.Version)
	}
	// In one write, too.
	held, at := d.hold(u), d.now()
	next := d.revise(d.user, held, `{"userName":"once"}`)
	d.do(func(tx storage.Tx) error {
		if err := tx.Delete(held, at); err != nil {
			return err
		}
		w, err := tx.GetDeleted("User", u.ID)
		if err != nil {
			return err
		}
		return tx.Restore(w, next, true)
	})
	d.wantStored(next)
	d.wantFound(d.user, `userName eq "once"`, u)
	d.wantFound(d.user, `userName eq "ana2"`)
}

func purge(t *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	sub := d.addGroup("Sub", ana)
	g := d.addGroup("G", ana, bob, sub)
	d.remove(sub)
	w := d.removed(ana)
	held := d.hold(g)
	d.purged(w)
	if _, err := d.GetDeleted(t.Context(), d.tenant, "User", ana.ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("GetDeleted: %v, want ErrNotFound", err)
	}
	d.wantDeleted("User")
	d.wantStored(held)
	d.wantMembers(g, bob)
	d.purged(d.gone(sub))
	d.wantMembers(g, bob)
	for _, r := range d.dump() {
		switch {
		case r.Resource != nil && (r.Resource.ID == ana.ID || r.Resource.ID == sub.ID):
			t.Errorf("a dump has %+v", r.Resource)
		case r.Members != nil && (r.Members.Group != g.ID || len(r.Members.Members) != 1):
			t.Errorf("a dump has %+v", r.Members)
		}
	}
	if _, total := d.page(storage.Query{Type: "Group", StartIndex: 1}); total != 1 {
		t.Errorf("TotalResults is %d, want 1", total)
	}
}

func purgeUnaudited(t *testing.T, d *directory) {
	bob := d.addUser("bob")
	g := d.addGroup("G", bob)
	wantError(t, "a purge without an entry", d.Write(t.Context(), d.tenant, func(tx storage.Tx) error {
		r, err := tx.Get("User", bob.ID)
		if err == nil {
			err = tx.Delete(r, d.now())
		}
		if err != nil {
			return err
		}
		w, err := tx.GetDeleted("User", bob.ID)
		if err == nil {
			_, err = tx.Purge(w)
		}
		return err
	}), storage.ErrUnaudited)
	d.wantMembers(g, bob)
}

func purgeStale(t *testing.T, d *directory) {
	u := d.addUser("ana")
	g := d.addGroup("G", u)
	again := func(what string, w *storage.WholeResource) {
		t.Helper()
		wantError(t, what, d.try(func(tx storage.Tx) error {
			_, err := tx.Purge(w)
			return err
		}), storage.ErrConflict)
	}
	again("what is there", &storage.WholeResource{Resource: *d.hold(u), Deleted: d.now()})
	first := d.removed(u)
	d.restored(first)
	again("what was restored", first)
	d.wantMembers(g, u)
	second := d.removed(u)
	again("as it was deleted before", first)
	d.purged(second)
	again("what was purged", second)
}

func purgeMany(t *testing.T, d *directory) {
	raced.Skip(t)
	const many = storage.PurgedAtOnce + 3
	g, u := d.addGroup("Big"), d.addUser("ana")
	parent := d.addGroup("Parent", g)
	for left := many - 1; left > 0; left -= 1000 {
		var drafts []*storage.Resource
		for range min(1000, left) {
			drafts = append(drafts, d.draft(d.user, fmt.Sprintf(`{"userName":"m%d"}`, d.clock.Load())))
		}
		d.do(func(tx storage.Tx) error {
			for _, r := range drafts {
				if err := tx.Create(r); err != nil {
					return err
				}
			}
			_, err := tx.AddMembers(g, asMembers(drafts...))
			return err
		})
	}
	d.addMembers(g, u)
	w := d.removed(g)
	var writes int
	for more := true; more; writes++ {
		err := d.try(func(tx storage.Tx) (err error) {
			more, err = tx.Purge(w)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.GetDeleted(t.Context(), d.tenant, "Group", g.ID); (err == nil) != more {
			t.Errorf("after %d writes there are more: %t; GetDeleted: %v", writes+1, more, err)
		}
	}
	if writes != 2 {
		t.Errorf("%d members took %d writes, want 2", many, writes)
	}
	d.wantGroups(u)
	d.wantMembers(parent)
	for _, r := range d.dump() {
		if r.Members != nil {
			t.Fatalf("a dump has %d members of %s", len(r.Members.Members), r.Members.Group)
		}
	}
}

func purgeNew(t *testing.T, d *directory) {
	keep := d.addUser("keep")
	ana := d.addUser("ana")
	g := d.addGroup("G", ana)
	last := d.addUser("last")
	page, err := d.Query(t.Context(), d.tenant, storage.Query{Type: "User", StartIndex: 1, Count: all})
	if err != nil {
		t.Fatal(err)
	}
	held := d.hold(last)
	d.purged(d.removed(last))
	d.purged(d.removed(ana))
	// Whatever handle somebody still has leads nowhere else.
	now := d.addUser("ana")
	other := d.in(acme).addUser("ana")
	for _, err := range []error{
		d.try(func(tx storage.Tx) error { return tx.Delete(held, d.now()) }),
		d.try(func(tx storage.Tx) error { return tx.Update(held, d.touch(held)) }),
	} {
		wantError(t, "a write by an old handle", err, storage.ErrConflict)
	}
	for {
		part, err := page.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(part) == 0 {
			break
		}
		for _, r := range part {
			if r.ID == now.ID || r.ID == other.ID {
				t.Errorf("a page read before has %s", r.ID)
			}
		}
	}
	d.wantMembers(g)
	d.wantGroups(now)
	d.wantFound(d.user, `userName pr`, keep, now)
	d.in(acme).wantStored(other)
}

func deletedTenants(t *testing.T, d *directory) {
	other := d.in(acme)
	u := d.addUser("ana")
	g := d.addGroup("G", u)
	w := d.removed(u)
	other.wantDeleted("User")
	if _, err := other.GetDeleted(t.Context(), acme, "User", u.ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("GetDeleted: %v, want ErrNotFound", err)
	}
	if list, err := other.FormerGroups(t.Context(), acme, u.ID); err != nil || len(list) > 0 {
		t.Errorf("FormerGroups: %v, %v", list, err)
	}
	next := other.back(w, "")
	wantError(t, "Restore", other.try(func(tx storage.Tx) error { return tx.Restore(w, next, true) }), storage.ErrConflict)
	wantError(t, "Purge", other.try(func(tx storage.Tx) error {
		_, err := tx.Purge(w)
		return err
	}), storage.ErrConflict)
	d.restored(w)
	d.wantMembers(g, u)
}

func deletedLoaded(_ *testing.T, d *directory) {
	ana, bob, carl := d.addUser("ana"), d.addUser("bob"), d.addUser("carl")
	g := d.addGroup("G", ana, bob)
	for _, r := range []*storage.Resource{carl, ana, bob} {
		d.remove(r)
	}
	to := d.another()
	load(to, d.dump(), 3)
	to.wantDeleted("User", bob, ana, carl)
	to.wantFormer(ana, g)
	to.restored(to.gone(ana))
	to.wantMembers(g, ana)
	to.purged(to.gone(bob))
	to.wantDeleted("User", carl)
	to.wantMembers(g, ana)
}

func raceToRestore(t *testing.T, d *directory) {
	u := d.addUser("ana")
	g := d.addGroup("G", u)
	w := d.removed(u)
	var next [racers]*storage.Resource
	for i := range next {
		next[i] = d.back(w, fmt.Sprintf(`{"userName":"ana%d"}`, i))
	}
	won := winner(t, race(func(i int) error {
		return d.try(func(tx storage.Tx) error { return tx.Restore(w, next[i], true) })
	}), conflict(t))
	d.wantStored(next[won])
	d.wantFound(d.user, `userName pr`, u)
	if got := d.hold(g); got.Version != 3 {
		t.Errorf("the group has version %d, want 3", got.Version)
	}
	for i := range racers {
		if i != won {
			d.addUser(fmt.Sprint("ana", i)) // nobody holds a name without being there
		}
	}
}

func raceRestoreCreate(t *testing.T, d *directory) {
	for round := range 4 {
		name := fmt.Sprint("ana", round)
		u := d.addUser(name)
		w := d.removed(u)
		next := d.back(w, "")
		var drafts [racers]*storage.Resource
		for i := range drafts {
			drafts[i] = d.draft(d.user, `{"userName":`+quote(name)+`}`)
		}
		winner(t, race(func(i int) error {
			return d.try(func(tx storage.Tx) error {
				if i == racers/2 {
					return tx.Restore(w, next, true)
				}
				return tx.Create(drafts[i])
			})
		}), taken(t, "userName"))
		if n := len(d.find(d.user, `userName eq "`+name+`"`)); n != 1 {
			t.Errorf("%d have the name, want 1", n)
		}
	}
}

func raceRestorePurge(t *testing.T, d *directory) {
	users := d.crowd(racers / 2)
	g := d.addGroup("G", users...)
	gone := make([]*storage.WholeResource, len(users))
	next := make([]*storage.Resource, len(users))
	for i, u := range users {
		gone[i] = d.removed(u)
		next[i] = d.back(gone[i], "")
	}
	errs := race(func(i int) error {
		return d.try(func(tx storage.Tx) error {
			if i%2 == 0 {
				return tx.Restore(gone[i/2], next[i/2], true)
			}
			_, err := tx.Purge(gone[i/2])
			return err
		})
	})
	var there []*storage.Resource
	for i, u := range users {
		restored, purged := errs[2*i], errs[2*i+1]
		if restored == nil {
			there = append(there, u)
			wantError(t, "purging what was restored", purged, storage.ErrConflict)
			continue
		}
		wantError(t, "restoring what was purged", restored, storage.ErrConflict)
		if purged != nil {
			t.Errorf("neither: %v", purged)
		}
	}
	d.wantMembers(g, there...)
	d.wantFound(d.user, `userName pr`, there...)
	d.wantDeleted("User")
}
