package storagetest

import (
	"context"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// wantSound checks the store, whatever a test has done to it.
func (d *directory) wantSound(set *schemas.Set) {
	d.t.Helper()
	c, ok := d.Store.(storage.Checker)
	if !ok {
		d.t.Error("the store cannot be checked")
		return
	}
	err := c.Check(context.WithoutCancel(d.t.Context()), storage.CheckOptions{
		Types:      func(storage.TenantID) (*schemas.Set, error) { return set, nil },
		Searchable: func(storage.TenantID, *schemas.ResourceType) bool { return true },
		Found: func(f storage.Flaw) {
			// Tests have types of their own, which are in no set.
			if f.Kind != storage.FlawDocument || set.Type(f.Type) != nil {
				d.t.Errorf("Check: %s", f)
			}
		},
		Item:     func(storage.TenantID, []*storage.Item) error { return nil },
		Resource: func() {},
	})
	if err != nil {
		d.t.Errorf("Check: %v", err)
	}
}
