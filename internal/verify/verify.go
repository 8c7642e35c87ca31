package verify

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/internal/events"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// Sealed are the kinds of items that hold secrets, beside credentials.
var Sealed = []auth.Sealed{
	{Kind: mail.SealedKind, Reseal: func(k *auth.KeyRing, tenant storage.TenantID, i *storage.Item) (*storage.Item, error) {
		return mail.Reseal(k, tenant, i)
	}},
	scim.SealedBulk,
	events.Sealed,
}

// Verifier verifies a store. It only reads, and servers may go on meanwhile.
type Verifier struct {
	Store interface {
		storage.Store
		storage.Checker
	}
	Schemas *schemas.Set
	// Keys open secrets and check checkpoints; without them neither is done.
	Keys *auth.KeyRing
	Now  func() time.Time
	// Found is told of each flaw.
	Found func(storage.Flaw)
}

// Report is what has been looked at.
type Report struct {
	Tenants   int   `json:"tenants"`
	Resources int64 `json:"resources"`
	Items     int64 `json:"items"`
	Secrets   bool  `json:"secrets"` // whether it was tried to open them
	Entries   int64 `json:"entries"` // of the audit trail
}

// Run verifies the whole store.
func (v *Verifier) Run(ctx context.Context) (Report, error) {
	report := Report{Secrets: v.Keys != nil}
	w := &work{Verifier: v, ctx: ctx, report: &report, catalogue: storage.NewCatalogue(v.Schemas, v.Store, v.Now), clients: map[storage.TenantID]map[string]bool{}, damaged: map[storage.TenantID]bool{}}
	tenants, err := v.Store.ListTenants(ctx)
	if err != nil {
		return report, err
	}
	report.Tenants = len(tenants)
	for _, t := range tenants {
		mark, err := v.Store.LoadMark(ctx, t.ID)
		if err != nil {
			return report, err
		}
		if mark != nil {
			v.Found(storage.Flaw{Kind: storage.FlawLoading, Tenant: t.ID, What: fmt.Sprintf("it has been loaded or restored in part, %d records: complete that", mark.Records)})
		}
	}
	err = v.Store.Check(ctx, storage.CheckOptions{
		Types: w.types, Searchable: w.searchable, Found: v.Found, Item: w.items, Resource: func() { report.Resources++ },
	})
	if err != nil {
		return report, err
	}
	for _, t := range tenants {
		if err := w.trail(t.ID); err != nil {
			return report, err
		}
	}
	return report, nil
}

type work struct {
	*Verifier
	ctx       context.Context
	report    *Report
	catalogue *storage.Catalogue
	clients   map[storage.TenantID]map[string]bool
	damaged   map[storage.TenantID]bool // tenants whose definitions cannot be read
}

// types returns those of a tenant, and the built-in ones where its own cannot be read.
func (w *work) types(tenant storage.TenantID) (*schemas.Set, error) {
	e, err := w.edition(tenant)
	if err != nil || e == nil {
		return w.Schemas, err
	}
	return e.Set, nil
}

func (w *work) searchable(tenant storage.TenantID, _ *schemas.ResourceType) bool {
	e, err := w.edition(tenant)
	if err != nil || e == nil {
		return false
	}
	for _, d := range e.Definitions {
		if d.State != storage.Settled {
			return false
		}
	}
	return true
}

func (w *work) edition(tenant storage.TenantID) (*storage.Edition, error) {
	if w.damaged[tenant] {
		return nil, nil
	}
	e, err := w.catalogue.Of(w.ctx, tenant)
	if err != nil && w.ctx.Err() == nil && !errors.Is(err, storage.ErrUnavailable) {
		w.damaged[tenant] = true
		w.Found(storage.Flaw{Kind: storage.FlawDocument, Tenant: tenant, Type: storage.SchemaKind, What: "the schemas of the tenant cannot be read, or do not go together"})
		return nil, nil
	}
	return e, err
}

// items looks at a portion of items.
func (w *work) items(tenant storage.TenantID, list []*storage.Item) error {
	w.report.Items += int64(len(list))
	wanted := map[auth.Reference][]*storage.Item{}
	for _, i := range list {
		refs, err := auth.References(i)
		if err != nil {
			if err := w.tell(tenant, i, storage.FlawDocument, "it cannot be read"); err != nil {
				return err
			}
			continue
		}
		if w.Keys != nil {
			if err := w.Keys.CheckItem(tenant, i, Sealed...); err != nil {
				if err := w.tell(tenant, i, storage.FlawSealed, "a secret in it cannot be opened with the key file"); err != nil {
					return err
				}
			}
		}
		for _, r := range refs {
			wanted[r] = append(wanted[r], i)
		}
	}
	return w.references(tenant, wanted)
}

// tell tells of an item that is still as it was.
func (w *work) tell(tenant storage.TenantID, i *storage.Item, kind storage.FlawKind, what string) error {
	now, err := w.Store.Item(w.ctx, tenant, i.Kind, i.ID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && now.Version != i.Version {
		return nil // a newer one was written by a server that could read it
	}
	if err == nil {
		w.Found(storage.Flaw{Kind: kind, Tenant: tenant, Type: i.Kind, ID: i.ID, What: what})
	}
	return err
}

// references looks for what items are about.
func (w *work) references(tenant storage.TenantID, wanted map[auth.Reference][]*storage.Item) error {
	ids := map[string][]string{}
	for r := range wanted {
		if r.Type != auth.PrincipalClient {
			ids[r.Type] = append(ids[r.Type], r.ID)
		}
	}
	there := map[auth.Reference]bool{}
	for typ, list := range ids {
		names, err := w.Store.Names(w.ctx, tenant, typ, list...)
		if err != nil {
			return err
		}
		for id := range names {
			there[auth.Reference{Type: typ, ID: id}] = true
		}
	}
	for r, items := range wanted {
		is := there[auth.Reference{Type: r.Type, ID: r.ID}]
		var err error
		switch {
		case is:
		case r.Type == auth.PrincipalClient:
			is, err = w.client(tenant, r.ID)
		case r.Deleted:
			_, err = w.Store.GetDeleted(w.ctx, tenant, r.Type, r.ID)
			is = err == nil
			if errors.Is(err, storage.ErrNotFound) { // perhaps it was restored meanwhile
				_, err = w.Store.Get(w.ctx, tenant, r.Type, r.ID)
				is = err == nil
			}
			if errors.Is(err, storage.ErrNotFound) {
				err = nil
			}
		}
		if err != nil {
			return err
		}
		if is {
			continue
		}
		for _, i := range items {
			if err := w.tell(tenant, i, storage.FlawReference, fmt.Sprintf("the %s %s that it is about is not there", r.Type, r.ID)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *work) client(tenant storage.TenantID, id string) (bool, error) {
	if w.clients[tenant] == nil || !w.clients[tenant][id] {
		list, err := w.Store.ListClients(w.ctx, tenant)
		if err != nil {
			return false, err
		}
		w.clients[tenant] = map[string]bool{}
		for _, c := range list {
			w.clients[tenant][c.ID] = true
		}
	}
	return w.clients[tenant][id], nil
}

// trail verifies the audit trail of a tenant, and holds the last checkpoint against it.
func (w *work) trail(tenant storage.TenantID) error {
	var trusted []ed25519.PublicKey
	if w.Keys != nil {
		trusted = w.Keys.PublicKeys()
	}
	var checkpoints []audit.Checkpoint
	last, err := audit.Last(w.ctx, w.Store, tenant)
	if err == nil && last != nil && last.Tenant == tenant {
		if err = last.Authenticate(trusted...); err == nil {
			checkpoints = append(checkpoints, *last)
		}
	}
	if errors.Is(err, audit.ErrForged) {
		w.Found(storage.Flaw{Kind: storage.FlawAudit, Tenant: tenant, Type: "checkpoint", What: "it was not signed with a key of the key file"})
	} else if err != nil {
		return err
	}
	r, err := audit.Verify(w.ctx, w.Store, tenant, checkpoints)
	w.report.Entries += r.Entries
	for _, f := range r.Faults {
		w.Found(storage.Flaw{Kind: storage.FlawAudit, Tenant: tenant, Type: "chain", ID: f.Chain, What: f.String()})
	}
	if more := r.Faulty - int64(len(r.Faults)); more > 0 {
		w.Found(storage.Flaw{Kind: storage.FlawAudit, Tenant: tenant, What: fmt.Sprintf("and %d more", more)})
	}
	return err
}
