package storagetest

import (
	"errors"
	"testing"

	"github.com/roster-id/roster/storage"
)

var epochPromises = []promise{
	{"Advance begins a new epoch, which whoever reads a resource to change it learns of", advance},
	{"a write that fails begins no epoch", noAdvance},
	{"epochs of two tenants do not meet", epochTenants},
	{"a load begins a new epoch when it is complete", loadAdvances},
}

// wantEpoch looks at the epoch in every way there is.
func (d *directory) wantEpoch(want int64, r *storage.Resource) {
	d.t.Helper()
	ctx := d.t.Context()
	if got, err := d.Epoch(ctx, d.tenant); err != nil || got != want {
		d.t.Errorf("Epoch = %d, %v; want %d", got, err, want)
	}
	got, err := d.GetToChange(ctx, d.tenant, r.Type, r.ID)
	if err != nil || got.ID != r.ID || got.Version != r.Version || string(got.Doc) != string(r.Doc) || got.Epoch != want {
		d.t.Errorf("GetToChange = %+v, %v; want %+v in epoch %d", got, err, r, want)
	}
	err = d.Write(ctx, d.tenant, func(tx storage.Tx) error {
		got, err := tx.Get(r.Type, r.ID)
		if err == nil && (got.ID != r.ID || got.Epoch != want) {
			d.t.Errorf("inside a write: Get = %+v; want epoch %d", got, want)
		}
		return err
	})
	if err != nil {
		d.t.Error(err)
	}
}

func advance(t *testing.T, d *directory) {
	ana := d.addUser("ana")
	d.wantEpoch(0, ana)
	for n := int64(1); n <= 3; n++ {
		d.do(func(tx storage.Tx) error { return tx.Advance() })
		d.wantEpoch(n, ana)
	}
	d.do(func(tx storage.Tx) error {
		if err := errors.Join(tx.Advance(), tx.Advance()); err != nil {
			return err
		}
		r, err := tx.Get("User", ana.ID)
		if err == nil && r.Epoch <= 3 {
			t.Errorf("a write that advanced reads epoch %d", r.Epoch)
		}
		return err
	})
	for _, typ := range []string{"Group", "!epoch"} {
		if _, err := d.GetToChange(t.Context(), d.tenant, typ, ana.ID); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("GetToChange of a %s: %v; want ErrNotFound", typ, err)
		}
	}
	if _, err := d.GetToChange(t.Context(), d.tenant, "User", storage.NewID()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("GetToChange of an unknown id: %v; want ErrNotFound", err)
	}
	for _, typ := range []string{"User", "Group"} {
		page, err := d.Query(t.Context(), d.tenant, storage.Query{Type: typ, StartIndex: 1, Count: 10})
		if want := map[string]int{"User": 1}[typ]; err != nil || page.TotalResults != want {
			t.Errorf("a list of %ss has %+v, %v; want %d", typ, page, err, want)
		}
	}
}

func noAdvance(t *testing.T, d *directory) {
	ana := d.addUser("ana")
	if err := d.try(func(tx storage.Tx) error { return errors.Join(tx.Advance(), errTest) }); !errors.Is(err, errTest) {
		t.Fatalf("Write: %v", err)
	}
	d.wantEpoch(0, ana)
	if err := d.Write(t.Context(), d.tenant, func(tx storage.Tx) error { return tx.Advance() }); !errors.Is(err, storage.ErrUnaudited) {
		t.Errorf("Advance without an audit entry: %v; want ErrUnaudited", err)
	}
	d.wantEpoch(0, ana)
}

func epochTenants(_ *testing.T, d *directory) {
	other := d.in("other")
	ana, ben := d.addUser("ana"), other.addUser("ben")
	d.do(func(tx storage.Tx) error { return tx.Advance() })
	d.wantEpoch(1, ana)
	other.wantEpoch(0, ben)
}

func loadAdvances(t *testing.T, d *directory) {
	d.addUser("ana")
	dump := d.dump()
	to := d.another()
	before, err := to.Epoch(t.Context(), to.tenant)
	if err != nil {
		t.Fatal(err)
	}
	to.begin()
	to.loadSome(dump, 0, len(dump))
	if err := to.complete(markAt(len(dump))); err != nil {
		t.Fatal(err)
	}
	after, err := to.Epoch(t.Context(), to.tenant)
	if err != nil || after == before {
		t.Errorf("the epoch is %d, %v after a load as it was before", after, err)
	}
}
