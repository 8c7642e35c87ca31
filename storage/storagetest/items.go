package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/storage"
)

var itemPromises = []promise{
	{"an item comes back as it was put, its keys sorted and each once", itemComesBack},
	{"PutItem of a new item is ErrConflict when there is one", putItemThere},
	{"PutItem is ErrConflict unless prev's version is the stored one", putItemStale},
	{"a PutItem or DeleteItem that fails changes nothing, even if the write goes on", itemStaleGoesOn},
	{"DeleteItem removes an item with its keys, and makes room for a new one", deleteItem},
	{"Items finds by key, in the order of ids, and all of a kind", itemsByKey},
	{"ItemsByID finds those that there are of a few hundred", itemsByID},
	{"PutItem replaces the keys", keysReplaced},
	{"kinds, ids and keys are told apart whatever is in them", itemNames},
	{"items of the same name in two tenants do not meet", itemTenants},
	{"a write sees the items it has put and deleted", itemsInside},
	{"what could not be found or dumped is refused", itemRefused},
	{"ExtendItem moves the end of an item to a later time, and no more", extendItem},
	{"NoteItems stores items that expire, and leaves those that there are", noteItems},
	{"ForgetItems removes items that expire, and no others", forgetItems},
	{"SweepItems removes what expired before a time, of all tenants", sweepItems},
}

// itemRaces are part of the promises about concurrency.
var itemRaces = []promise{
	{"of 64 that race to put a version of an item exactly one wins", raceForItem},
	{"of 64 that race to make an item exactly one wins", raceForNewItem},
	{"64 that read an item and put it in the same write all count", raceToCount},
	{"of two that look under a Guard and remove one of two items one remains", writeSkew},
}

// newItem makes an item whose data tells it from others.
func newItem(kind, id string, keys ...string) *storage.Item {
	return &storage.Item{Kind: kind, ID: id, Keys: keys, Data: []byte(fmt.Sprintf(`{"of":%s,"keys":%d}`, quote(kind+" "+id), len(keys)))}
}

// put stores an item; prev is what Item returned, or was put before.
func (d *directory) put(prev, next *storage.Item) {
	d.t.Helper()
	d.do(func(tx storage.Tx) error { return tx.PutItem(prev, next) })
}

func (d *directory) item(kind, id string) *storage.Item {
	d.t.Helper()
	i, err := d.Item(d.t.Context(), d.tenant, kind, id)
	if err != nil {
		d.t.Fatalf("Item %q %q: %v", kind, id, err)
	}
	return i
}

func (d *directory) items(kind, key string) []*storage.Item {
	d.t.Helper()
	list, err := d.Items(d.t.Context(), d.tenant, kind, key)
	if err != nil {
		d.t.Fatalf("Items %q %q: %v", kind, key, err)
	}
	return list
}

// wantItem checks what Item returns, in a write too, and that Items returns the
// same.
func (d *directory) wantItem(want *storage.Item, version int64) {
	d.t.Helper()
	w := *want
	w.Version = version
	got := d.item(w.Kind, w.ID)
	if diff := cmp.Diff(&w, got, cmpopts.EquateEmpty()); diff != "" {
		d.t.Errorf("Item %q %q (-want +got):\n%s", w.Kind, w.ID, diff)
	}
	var inside *storage.Item
	err := d.Write(d.t.Context(), d.tenant, func(tx storage.Tx) (err error) {
		inside, err = tx.Item(w.Kind, w.ID)
		return err
	})
	if diff := cmp.Diff(got, inside, cmpopts.EquateEmpty()); err != nil || diff != "" {
		d.t.Errorf("Tx.Item %q %q: %v (-want +got):\n%s", w.Kind, w.ID, err, diff)
	}
	for _, key := range append([]string{""}, w.Keys...) {
		n := 0
		for _, i := range d.items(w.Kind, key) {
			if i.ID == w.ID {
				n++
				if diff := cmp.Diff(got, i, cmpopts.EquateEmpty()); diff != "" {
					d.t.Errorf("Items %q %q (-want +got):\n%s", w.Kind, key, diff)
				}
			}
		}
		if n != 1 {
			d.t.Errorf("Items %q %q: got %q %d times", w.Kind, key, w.ID, n)
		}
	}
}

// wantItems checks which items are found by a key, in order, in a write too.
func (d *directory) wantItems(kind, key string, ids ...string) {
	d.t.Helper()
	idsOf := func(list []*storage.Item) (got []string) {
		for _, i := range list {
			got = append(got, i.ID)
		}
		return got
	}
	if diff := cmp.Diff(ids, idsOf(d.items(kind, key)), cmpopts.EquateEmpty()); diff != "" {
		d.t.Errorf("Items %q %q (-want +got):\n%s", kind, key, diff)
	}
	var inside []*storage.Item
	err := d.Write(d.t.Context(), d.tenant, func(tx storage.Tx) (err error) {
		inside, err = tx.Items(kind, key)
		return err
	})
	if diff := cmp.Diff(ids, idsOf(inside), cmpopts.EquateEmpty()); err != nil || diff != "" {
		d.t.Errorf("Tx.Items %q %q: %v (-want +got):\n%s", kind, key, err, diff)
	}
}

// wantNoItem checks that there is no such item, and that it is found by none of
// the keys.
func (d *directory) wantNoItem(kind, id string, keys ...string) {
	d.t.Helper()
	if got, err := d.Item(d.t.Context(), d.tenant, kind, id); !errors.Is(err, storage.ErrNotFound) || got != nil {
		d.t.Errorf("Item %q %q: got %+v, %v, want ErrNotFound", kind, id, got, err)
	}
	var got *storage.Item
	err := d.Write(d.t.Context(), d.tenant, func(tx storage.Tx) (err error) {
		got, err = tx.Item(kind, id)
		return err
	})
	if !errors.Is(err, storage.ErrNotFound) || got != nil {
		d.t.Errorf("Tx.Item %q %q: got %+v, %v, want ErrNotFound", kind, id, got, err)
	}
	for _, key := range append(keys, "") {
		for _, i := range d.items(kind, key) {
			if i.ID == id {
				d.t.Errorf("Items %q %q: got %q, which is gone", kind, key, id)
			}
		}
	}
}

// want turns an expected error into success, and anything else into an error.
func want(expected, err error) error {
	if !errors.Is(err, expected) {
		return fmt.Errorf("got %w, want %w", err, expected)
	}
	return nil
}

func itemComesBack(t *testing.T, d *directory) {
	d.wantNoItem("note", "1")
	d.wantItems("note", "")
	i := newItem("note", "1", "b", "a", "b", "é", "B")
	i.Expires = birth.Add(time.Hour + 1234567).In(time.FixedZone("", 3600))
	d.put(nil, i)
	if i.Version != 1 || !slices.Equal(i.Keys, []string{"B", "a", "b", "é"}) {
		t.Errorf("PutItem left version %d and keys %q", i.Version, i.Keys)
	}
	want := *i
	want.Expires = i.Expires.UTC().Truncate(time.Millisecond)
	d.wantItem(&want, 1)
	if got := d.item("note", "1"); got.Expires.Location() != time.UTC {
		t.Errorf("Expires is in %s", got.Expires.Location())
	}
	next := newItem("note", "1", "c")
	d.put(d.item("note", "1"), next)
	if next.Version != 2 {
		t.Errorf("PutItem left version %d, want 2", next.Version)
	}
	d.wantItem(next, 2) // Expires is zero again
	large := &storage.Item{Kind: "note", ID: "1", Data: []byte(quote(strings.Repeat("x", 30<<10)))}
	d.put(next, large)
	d.wantItem(large, 3)
	d.wantItems("note", "c")
	odd := &storage.Item{Kind: "note", ID: "2", Data: []byte(` { "b" : 1.0, "a":"\u0041"} `)}
	d.put(nil, odd)
	d.wantItem(odd, 1) // byte by byte
}

func itemsByID(t *testing.T, d *directory) {
	find := func(ids ...string) map[string]*storage.Item {
		t.Helper()
		found, err := d.ItemsByID(t.Context(), d.tenant, "note", ids...)
		if err != nil {
			t.Fatalf("ItemsByID: %v", err)
		}
		return found
	}
	if found := find(); len(found) != 0 {
		t.Errorf("of no ids: %v", found)
	}
	want := map[string]*storage.Item{}
	ids := []string{"absent", "", `"`, "\x00"}
	d.do(func(tx storage.Tx) error {
		for n := range 300 {
			i := newItem("note", strconv.Itoa(n)+` "é`, "a", strconv.Itoa(n))
			want[i.ID] = i
			ids = append(ids, i.ID, i.ID)
			if err := tx.PutItem(nil, i); err != nil {
				return err
			}
		}
		return errors.Join(tx.PutItem(nil, newItem("note", "unasked")), tx.PutItem(nil, newItem("other", "absent")))
	})
	d.in(acme).put(nil, newItem("note", "absent"))
	if diff := cmp.Diff(want, find(ids...), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("ItemsByID (-want +got):\n%s", diff)
	}
}

func putItemThere(t *testing.T, d *directory) {
	first := newItem("note", "1", "a")
	d.put(nil, first)
	wantError(t, "PutItem", d.try(func(tx storage.Tx) error { return tx.PutItem(nil, newItem("note", "1", "b")) }), storage.ErrConflict)
	d.wantItem(first, 1)
	d.wantItems("note", "b")
	d.put(nil, newItem("other", "1", "b"))
	d.put(nil, newItem("note", "2", "b"))
	d.wantItem(first, 1)
}

func putItemStale(t *testing.T, d *directory) {
	d.put(nil, newItem("note", "1", "a"))
	stale := d.item("note", "1")
	now := newItem("note", "1", "b")
	d.put(stale, now)
	ahead := *stale
	ahead.Version = 3
	for name, prev := range map[string]*storage.Item{"stale": stale, "from the future": &ahead, "of another id": newItem("note", "2")} {
		next := newItem("note", prev.ID, "c")
		wantError(t, "PutItem, "+name, d.try(func(tx storage.Tx) error { return tx.PutItem(prev, next) }), storage.ErrConflict)
		wantError(t, "DeleteItem, "+name, d.try(func(tx storage.Tx) error { return tx.DeleteItem(prev) }), storage.ErrConflict)
	}
	d.wantItem(now, 2)
	d.wantItems("note", "", "1")
	d.wantItems("note", "a")
	d.wantItems("note", "c")
}

func itemStaleGoesOn(t *testing.T, d *directory) {
	d.put(nil, newItem("note", "1", "a"))
	stale := d.item("note", "1")
	now := newItem("note", "1", "b")
	d.put(stale, now)
	var errs []error
	d.do(func(tx storage.Tx) error {
		errs = []error{tx.PutItem(stale, newItem("note", "1", "c")), tx.DeleteItem(stale), tx.PutItem(nil, newItem("note", "1", "d"))}
		return tx.PutItem(nil, newItem("note", "2", "e"))
	})
	for i, err := range errs {
		wantError(t, fmt.Sprint("step ", i), err, storage.ErrConflict)
	}
	d.wantItem(now, 2)
	d.wantItem(newItem("note", "2", "e"), 1)
	for _, k := range []string{"a", "c", "d"} {
		d.wantItems("note", k)
	}
}

func deleteItem(t *testing.T, d *directory) {
	i, other := newItem("note", "1", "a", "b"), newItem("note", "2", "a")
	d.put(nil, i)
	d.put(nil, other)
	held := d.item("note", "1")
	d.do(func(tx storage.Tx) error { return tx.DeleteItem(held) })
	d.wantNoItem("note", "1", "a", "b")
	d.wantItem(other, 1)
	wantError(t, "DeleteItem again", d.try(func(tx storage.Tx) error { return tx.DeleteItem(held) }), storage.ErrConflict)
	wantError(t, "PutItem of what is gone", d.try(func(tx storage.Tx) error { return tx.PutItem(held, newItem("note", "1")) }), storage.ErrConflict)
	again := newItem("note", "1", "c")
	d.put(nil, again)
	d.wantItem(again, 1)
	d.wantItems("note", "b")
}

func itemsByKey(_ *testing.T, d *directory) {
	for _, id := range []string{"b", "c", "B", "a", "é", "10", "9"} {
		keys := []string{"all", "id " + id}
		if id < "b" {
			keys = append(keys, "early")
		}
		d.put(nil, newItem("note", id, keys...))
	}
	d.put(nil, newItem("other", "a", "all", "early"))
	d.wantItems("note", "all", "10", "9", "B", "a", "b", "c", "é")
	d.wantItems("note", "", "10", "9", "B", "a", "b", "c", "é")
	d.wantItems("note", "early", "10", "9", "B", "a")
	d.wantItems("note", "id B", "B")
	d.wantItems("note", "al")
	d.wantItems("note", "a")
	d.wantItems("other", "all", "a")
	d.wantItems("not", "")
	for _, i := range d.items("note", "early") {
		d.wantItem(i, 1)
	}
}

func keysReplaced(_ *testing.T, d *directory) {
	d.put(nil, newItem("note", "1", "a", "b"))
	for i, keys := range [][]string{{"b", "c"}, nil, {"a"}, {"a", "b", "c"}, {"c"}} {
		prev, next := d.item("note", "1"), newItem("note", "1", keys...)
		d.put(prev, next)
		d.wantItem(next, int64(i+2))
		for _, k := range []string{"a", "b", "c"} {
			if slices.Contains(keys, k) {
				d.wantItems("note", k, "1")
			} else {
				d.wantItems("note", k)
			}
		}
	}
}

// itemNames puts items whose names would be the same if they were written one
// after the other without care.
func itemNames(_ *testing.T, d *directory) {
	var list []*storage.Item
	for _, n := range [][3]string{
		{"a", "b/c", "d/e"}, {"a/b", "c", "d/e"}, {"a/b", "c/d", "e"}, {"a%2Fb", "c", "d/e"}, {"a%2fb", "c", "d"}, {"a", "b%2Fc", "d%2Fe"},
		{"a%", "b", "%"}, {"a", "%b", "/"}, {"a/", "b", "//"}, {"a", "/b", "\x00"}, {"A", "b/c", "D/E"}, {"a", "b/c ", " d/e"}, {"a", "_", "_"},
		{"guard", "x", "load"}, {"!load", "1", "!load/"}, {"$set", "$inc.x", "$"},
	} {
		list = append(list, newItem(n[0], n[1], n[2]))
	}
	for _, i := range list {
		d.put(nil, i)
	}
	for _, i := range list {
		d.wantItem(i, 1)
		var all, with []string
		for _, o := range list {
			if o.Kind == i.Kind {
				all = append(all, o.ID)
				if o.Keys[0] == i.Keys[0] {
					with = append(with, o.ID)
				}
			}
		}
		slices.Sort(all)
		slices.Sort(with)
		d.wantItems(i.Kind, "", all...)
		d.wantItems(i.Kind, i.Keys[0], with...)
		d.wantItems(i.Kind, "nothing")
	}
	d.do(func(tx storage.Tx) error { return tx.DeleteItem(list[0]) })
	for _, i := range list[1:] {
		d.wantItem(i, 1)
	}
}

func itemTenants(t *testing.T, d *directory) {
	// The third one's name begins as an item of the first one would.
	all := []*directory{d, d.in(acme), d.in(d.tenant + "/note")}
	for _, d := range all {
		d.put(nil, newItem("note", "1", "both", "of "+string(d.tenant)))
	}
	changed := newItem("note", "1", "both")
	all[1].put(all[1].item("note", "1"), changed)
	all[2].do(func(tx storage.Tx) error { return tx.DeleteItem(newVersion("note", "1", 1)) })
	d.wantItem(newItem("note", "1", "both", "of "+string(d.tenant)), 1)
	d.wantItems("note", "both", "1")
	all[1].wantItem(changed, 2)
	all[2].wantNoItem("note", "1", "both")
	all[1].do(func(tx storage.Tx) error { return tx.DeleteItem(newVersion("note", "1", 2)) })
	all[1].wantNoItem("note", "1", "both")
	d.wantItem(newItem("note", "1", "both", "of "+string(d.tenant)), 1)
	d.wantItems("note", "of "+string(acme))
	if err := d.in(acme).ExtendItem(t.Context(), acme, "note", "1", birth); err != nil {
		t.Errorf("ExtendItem: %v", err)
	}
}

func newVersion(kind, id string, version int64) *storage.Item {
	i := newItem(kind, id)
	i.Version = version
	return i
}

func itemsInside(t *testing.T, d *directory) {
	d.put(nil, newItem("note", "3", "a"))
	var seen []string
	err := d.try(func(tx storage.Tx) error {
		seen = nil
		see := func(what string, err error) { seen = append(seen, fmt.Sprintf("%s: %v", what, err)) }
		list := func(key string) {
			got, err := tx.Items("note", key)
			what := "items"
			for _, i := range got {
				what += fmt.Sprintf(" %s.%d", i.ID, i.Version)
			}
			see(what, err)
		}
		one, two := newItem("note", "1", "a"), newItem("note", "2", "a")
		see("new", errors.Join(tx.PutItem(nil, one), tx.PutItem(nil, two)))
		list("a")
		got, err := tx.Item("note", "1")
		see("get", err)
		if diff := cmp.Diff(one, got); diff != "" {
			see("what was put is different:\n"+diff, nil)
		}
		see("again", tx.PutItem(nil, newItem("note", "1")))
		see("next", tx.PutItem(one, newItem("note", "1", "b")))
		see("stale", tx.PutItem(one, newItem("note", "1", "c")))
		list("a")
		list("b")
		see("delete", tx.DeleteItem(two))
		see("delete again", tx.DeleteItem(two))
		list("a")
		_, err = tx.Item("note", "2")
		see("get", err)
		see("anew", tx.PutItem(nil, newItem("note", "2")))
		three, err := tx.Item("note", "3")
		see("get", err)
		see("delete", tx.DeleteItem(three))
		list("")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"new: <nil>", "items 1.1 2.1 3.1: <nil>", "get: <nil>", "again: changed meanwhile", "next: <nil>", "stale: changed meanwhile",
		"items 2.1 3.1: <nil>", "items 1.2: <nil>", "delete: <nil>", "delete again: changed meanwhile", "items 3.1: <nil>", "get: not found", "anew: <nil>",
		"get: <nil>", "delete: <nil>", "items 1.2 2.1: <nil>"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	d.wantItems("note", "", "1", "2")
	// What is put and deleted in one write leaves nothing.
	d.do(func(tx storage.Tx) error {
		i := newItem("note", "9", "x")
		return errors.Join(tx.PutItem(nil, i), tx.PutItem(i, newItem("note", "9", "y")), tx.DeleteItem(newVersion("note", "9", 2)))
	})
	d.wantNoItem("note", "9", "x", "y")
}

func itemRefused(t *testing.T, d *directory) {
	for name, i := range map[string]*storage.Item{
		"no kind":      newItem("", "1"),
		"no id":        newItem("note", ""),
		"an empty key": newItem("note", "1", "a", ""),
		"no data":      {Kind: "note", ID: "1"},
		"not JSON":     {Kind: "note", ID: "1", Data: []byte(`{"a":}`)},
		"two lines":    {Kind: "note", ID: "1", Data: []byte("{\n}")},
	} {
		if err := d.try(func(tx storage.Tx) error { return tx.PutItem(nil, i) }); err == nil {
			t.Errorf("PutItem took an item with %s", name)
		}
	}
	d.wantItems("note", "")
}

func extendItem(t *testing.T, d *directory) {
	i, forever := newItem("note", "1", "a"), newItem("note", "2")
	i.Expires = birth.Add(time.Hour)
	d.put(nil, i)
	d.put(nil, forever)
	entries := d.state().Audit
	for _, c := range []struct{ to, want time.Duration }{{2 * time.Hour, 2 * time.Hour}, {time.Hour, 2 * time.Hour}, {2*time.Hour + time.Millisecond, 2*time.Hour + time.Millisecond}} {
		for _, id := range []string{"1", "2", "nobody"} {
			if err := d.ExtendItem(t.Context(), d.tenant, "note", id, birth.Add(c.to)); err != nil {
				t.Fatalf("ExtendItem: %v", err)
			}
		}
		i.Expires = birth.Add(c.want)
		d.wantItem(i, 1)
		d.wantItem(forever, 1)
	}
	d.wantNoItem("note", "nobody")
	if after := d.state().Audit; len(after) != len(entries) {
		t.Errorf("ExtendItem left %d audit entries", len(after)-len(entries))
	}
	// Who read the item before can put it all the same.
	next := newItem("note", "1", "b")
	d.put(i, next)
	d.wantItem(next, 2)
}

// note makes an item that expires.
func note(id string, after time.Duration, keys ...string) *storage.Item {
	i := newItem("note", id, keys...)
	i.Expires = birth.Add(after)
	return i
}

func noteItems(t *testing.T, d *directory) {
	there := newItem("note", "1", "a")
	d.put(nil, there)
	before := len(d.state().Audit)
	notes := []*storage.Item{note("1", time.Hour, "b"), note("2", time.Hour, "b", "a", "b"), note("3", 2*time.Hour)}
	if err := d.NoteItems(t.Context(), d.tenant, notes); err != nil {
		t.Fatalf("NoteItems: %v", err)
	}
	d.wantItem(there, 1)
	d.wantItem(notes[1], 1)
	d.wantItem(notes[2], 1)
	d.wantItems("note", "a", "1", "2")
	d.wantItems("note", "b", "2")
	if after := len(d.state().Audit); after != before {
		t.Errorf("NoteItems left %d audit entries", after-before)
	}
	for what, wrong := range map[string]*storage.Item{"one that stays": newItem("note", "4"), "one without an id": note("", time.Hour), "no JSON": {Kind: "note", ID: "4", Expires: birth, Data: []byte("{")}} {
		if err := d.NoteItems(t.Context(), d.tenant, []*storage.Item{note("5", time.Hour), wrong}); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	d.wantNoItem("note", "4")
	d.wantNoItem("note", "5")
	if err := d.NoteItems(t.Context(), d.tenant, nil); err != nil {
		t.Errorf("no notes: %v", err)
	}
	other := d.in(acme)
	if err := other.NoteItems(t.Context(), acme, []*storage.Item{note("2", time.Hour, "c")}); err != nil {
		t.Errorf("in another tenant: %v", err)
	}
	d.wantItems("note", "c")
	other.wantItems("note", "c", "2")
}

func forgetItems(t *testing.T, d *directory) {
	d.put(nil, newItem("note", "1", "a"))
	other := d.in(acme)
	for _, x := range []*directory{d, other} {
		if err := x.NoteItems(t.Context(), x.tenant, []*storage.Item{note("2", time.Hour, "a"), note("3", time.Hour, "a")}); err != nil {
			t.Fatalf("NoteItems: %v", err)
		}
	}
	before := len(d.state().Audit)
	if err := d.ForgetItems(t.Context(), d.tenant, "note", "1", "2", "4"); err != nil {
		t.Fatalf("ForgetItems: %v", err)
	}
	d.wantItems("note", "a", "1", "3")
	d.wantItems("note", "", "1", "3")
	d.wantNoItem("note", "2", "a")
	other.wantItems("note", "a", "2", "3")
	if err := d.ForgetItems(t.Context(), d.tenant, "another", "3"); err != nil {
		t.Errorf("ForgetItems: %v", err)
	}
	if err := d.ForgetItems(t.Context(), d.tenant, "note"); err != nil {
		t.Errorf("ForgetItems of none: %v", err)
	}
	d.wantItems("note", "a", "1", "3")
	if after := len(d.state().Audit); after != before {
		t.Errorf("ForgetItems left %d audit entries", after-before)
	}
	d.put(nil, newItem("note", "2", "b")) // what is gone is in nobody's way
	d.wantItems("note", "a", "1", "3")
}

func sweepItems(t *testing.T, d *directory) {
	const many = 1100 // more than one portion
	other := d.in(acme)
	d.do(func(tx storage.Tx) error {
		for n := range many {
			i := newItem("session", strconv.Itoa(n), "of ana")
			i.Expires = birth.Add(time.Duration(n) * time.Second)
			if err := tx.PutItem(nil, i); err != nil {
				return err
			}
		}
		return tx.PutItem(nil, newItem("session", "forever", "of ana"))
	})
	late, early := newItem("session", "late"), newItem("session", "early")
	early.Expires, late.Expires = birth, birth.Add(many*time.Second)
	other.put(nil, early)
	other.put(nil, late)
	entries := len(d.state().Audit)
	sweep := func(before time.Time, want int) {
		t.Helper()
		if n, err := d.SweepItems(t.Context(), before); err != nil || n != want {
			t.Errorf("SweepItems before %s: got %d, %v, want %d", before, n, err, want)
		}
	}
	sweep(birth, 0)
	sweep(birth.Add(time.Millisecond), 2)
	other.wantNoItem("session", "early")
	other.wantItem(late, 1)
	d.wantNoItem("session", "0", "of ana")
	sweep(birth.Add((many-50)*time.Second), many-51)
	if n := len(d.items("session", "of ana")); n != 51 {
		t.Errorf("%d items are left, want 51", n)
	}
	sweep(birth.Add(many*time.Second), 50)
	d.wantItems("session", "of ana", "forever")
	sweep(birth.Add(1000*time.Hour), 1)
	other.wantItems("session", "")
	d.wantItem(newItem("session", "forever", "of ana"), 1)
	if n := len(d.state().Audit); n != entries {
		t.Errorf("SweepItems left %d audit entries", n-entries)
	}
	again := newItem("session", "5", "of ana")
	d.put(nil, again)
	d.wantItem(again, 1)
}

func raceForItem(t *testing.T, d *directory) {
	d.put(nil, newItem("note", "1", "a"))
	held := d.item("note", "1")
	next := func(i int) *storage.Item { return newItem("note", "1", fmt.Sprint("by ", i), "a") }
	won := winner(t, race(func(i int) error {
		return d.try(func(tx storage.Tx) error {
			if i%8 == 7 {
				return tx.DeleteItem(held)
			}
			return tx.PutItem(held, next(i))
		})
	}), conflict(t))
	if won%8 == 7 {
		d.wantNoItem("note", "1", "a")
		return
	}
	want := next(won)
	if err := want.Prepare(); err != nil {
		t.Fatal(err)
	}
	d.wantItem(want, 2)
	d.wantItems("note", "a", "1")
	for i := range racers {
		if i != won {
			d.wantItems("note", fmt.Sprint("by ", i))
		}
	}
}

func raceForNewItem(t *testing.T, d *directory) {
	won := winner(t, race(func(i int) error {
		return d.try(func(tx storage.Tx) error { return tx.PutItem(nil, newItem("note", "1", fmt.Sprint("by ", i))) })
	}), conflict(t))
	d.wantItem(newItem("note", "1", fmt.Sprint("by ", won)), 1)
}

func raceToCount(t *testing.T, d *directory) {
	count := func(tx storage.Tx, id string) error {
		prev, err := tx.Item("counter", id)
		n := 0
		switch {
		case errors.Is(err, storage.ErrNotFound):
			prev = nil
		case err != nil:
			return err
		default:
			if n, err = strconv.Atoi(string(prev.Data)); err != nil {
				return err
			}
		}
		return tx.PutItem(prev, &storage.Item{Kind: "counter", ID: id, Data: strconv.AppendInt(nil, int64(n+1), 10)})
	}
	// Some write a second one, in both orders.
	for i, err := range race(func(i int) error {
		return d.try(func(tx storage.Tx) error {
			switch i % 4 {
			case 0:
				return errors.Join(count(tx, "1"), count(tx, "2"))
			case 1:
				return errors.Join(count(tx, "2"), count(tx, "1"))
			}
			return count(tx, "1")
		})
	}) {
		if err != nil {
			t.Errorf("racer %d: %v", i, err)
		}
	}
	for id, want := range map[string]int{"1": racers, "2": racers / 2} {
		if i := d.item("counter", id); string(i.Data) != strconv.Itoa(want) || i.Version != int64(want) {
			t.Errorf("counter %s is %s with version %d, want %d", id, i.Data, i.Version, want)
		}
	}
}

func writeSkew(t *testing.T, d *directory) { RemoveOne(t, 100, d.Store) }

// RemoveOne lets two writes at a time, through the stores in turn, each remove one
// of two items if there are two; under a Guard one has to remain, every time. The
// stores are of one database.
func RemoveOne(t *testing.T, rounds int, stores ...storage.Store) {
	t.Helper()
	write := func(ctx context.Context, s storage.Store, fn func(storage.Tx) error) error {
		return s.Write(ctx, storage.DefaultTenant, func(tx storage.Tx) error {
			return errors.Join(fn(tx), tx.Audit(storage.AuditEntry{At: birth, Actor: "operator", Action: "test"}))
		})
	}
	for round := range rounds {
		kind := fmt.Sprint("admin", round)
		err := write(t.Context(), stores[0], func(tx storage.Tx) error {
			return errors.Join(tx.PutItem(nil, newItem(kind, "0", "all")), tx.PutItem(nil, newItem(kind, "1", "all")))
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		for i := range 2 {
			go func() {
				done <- write(t.Context(), stores[i%len(stores)], func(tx storage.Tx) error {
					// Whether it is asked before or after makes no difference.
					if round%2 == 0 {
						if err := tx.Guard("admins"); err != nil {
							return err
						}
					}
					list, err := tx.Items(kind, "all")
					if err != nil {
						return err
					}
					if round%2 == 1 {
						if err := tx.Guard("admins"); err != nil {
							return err
						}
					}
					if len(list) < 2 {
						return nil
					}
					return tx.DeleteItem(list[i])
				})
			}()
		}
		if err := errors.Join(<-done, <-done); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if list, err := stores[0].Items(t.Context(), storage.DefaultTenant, kind, ""); err != nil || len(list) != 1 {
			t.Fatalf("round %d: %d are left, %v, want 1", round, len(list), err)
		}
	}
}
