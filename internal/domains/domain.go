package domains

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/net/idna"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

const (
	domainKind = "domain"       // a Domain, by its name
	claimKind  = "domain-claim" // a claim, by the name of the domain, in the default tenant
	moveKind   = "domain-move"  // a Move, by its id

	challengeLabel = "_roster-challenge."
	challengeValue = "roster-challenge="

	// MaxDomains is how many domains a tenant has at most.
	MaxDomains = 100
	// lookupTime is how long DNS has to answer.
	lookupTime = 5 * time.Second
	// claimHold is for how long a claim holds whose tenant does not have the domain: as
	// long as the write may take that is to follow it, and more.
	claimHold = time.Hour
	// checkEvery is how often the record of a domain that was proven is looked at.
	checkEvery = 24 * time.Hour
)

// Resolver asks DNS; *net.Resolver is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Keeper keeps domains and moves user names. Set the fields before the first call; all
// methods are safe for concurrent use.
type Keeper struct {
	Store    storage.Store
	Provider *scim.Provider
	Resolver Resolver
	Now      func() time.Time
	Log      *slog.Logger // of what nobody else is told; may be nil

	wake chan struct{}
}

// New returns a Keeper that asks the resolver of the host.
func New(store storage.Store, provider *scim.Provider, now func() time.Time, log *slog.Logger) *Keeper {
	return &Keeper{Store: store, Provider: provider, Resolver: &net.Resolver{PreferGo: true}, Now: now, Log: log, wake: make(chan struct{}, 1)}
}

// Domain is one that a tenant has, or wants to have.
type Domain struct {
	Name string `json:"-"`
	// Challenge is what the TXT record at Record has to be.
	Challenge string    `json:"challenge"`
	Added     time.Time `json:"added"`
	Verified  time.Time `json:"verified,omitzero"` // zero until it is proven
	Primary   bool      `json:"primary,omitzero"`
	Checked   time.Time `json:"checked,omitzero"` // when DNS was last asked with success
	// Missing is since when the record of a domain that was proven is gone.
	Missing time.Time `json:"missing,omitzero"`

	item *storage.Item
}

// Record is the name of the TXT record that proves a domain.
func (d *Domain) Record() string { return challengeLabel + d.Name }

// claim says whose a domain is.
type claim struct {
	Tenant storage.TenantID `json:"tenant"`
	At     time.Time        `json:"at"`
}

// Errors of domains.
var (
	// ErrTaken: another tenant has proven the domain.
	ErrTaken = errors.New("another tenant has proven this domain")
	// ErrUnproven: it has to be proven first.
	ErrUnproven = errors.New("the domain has to be proven first")
	// ErrInUse: user names end in the domain.
	ErrInUse = errors.New("user names are under this domain: move them to another one first")
	// ErrDefault: it is the one that is there from the beginning.
	ErrDefault = errors.New("this domain is there from the beginning: it needs no proof, and stays")
	// ErrMany: the tenant has MaxDomains domains.
	ErrMany = errors.New("the tenant has as many domains as it can have")
	// ErrUnreachable: DNS did not answer.
	ErrUnreachable = errors.New("DNS did not answer in time: try again in a while")
)

// ProofError says why a domain is not proven, and what to do about it.
type ProofError struct{ Msg string }

func (e *ProofError) Error() string { return e.Msg }

func domainFrom(i *storage.Item) (*Domain, error) {
	d := &Domain{Name: i.ID, item: i}
	if err := json.Unmarshal(i.Data, d); err != nil || d.Challenge == "" {
		return nil, errors.New("a stored domain is damaged")
	}
	return d, nil
}

func (d *Domain) put(tx storage.Tx) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return tx.PutItem(d.item, &storage.Item{Kind: domainKind, ID: d.Name, Data: data})
}

func read(tx storage.Tx, name string) (*Domain, error) {
	i, err := tx.Item(domainKind, name)
	if err != nil {
		return nil, err
	}
	return domainFrom(i)
}

// List returns the domains of a tenant by name, without the default one.
func (k *Keeper) List(ctx context.Context, tenant storage.TenantID) ([]*Domain, error) {
	items, err := k.Store.Items(ctx, tenant, domainKind, "")
	if err != nil {
		return nil, err
	}
	list := make([]*Domain, len(items))
	for n, i := range items {
		if list[n], err = domainFrom(i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// First returns the default domain of a tenant with this List, which is primary while no
// other is.
func First(tenant storage.TenantID, list []*Domain) *Domain {
	return &Domain{Name: Default(tenant), Primary: !slices.ContainsFunc(list, func(d *Domain) bool { return d.Primary })}
}

// Find returns a domain of a tenant, the default one too, or storage.ErrNotFound.
func (k *Keeper) Find(ctx context.Context, tenant storage.TenantID, name string) (*Domain, error) {
	if name == Default(tenant) {
		list, err := k.List(ctx, tenant)
		return First(tenant, list), err
	}
	i, err := k.Store.Item(ctx, tenant, domainKind, name)
	if err != nil {
		return nil, err
	}
	return domainFrom(i)
}

func (k *Keeper) now() time.Time { return storage.Milli(k.Now()) }

// entry is the audit entry of what became of a domain.
func entry(ctx context.Context, by auth.Principal, at time.Time, action, name, path string, before, after any) storage.AuditEntry {
	e := by.Entry(ctx, at, "domain."+action, "Domain", name)
	if path != "" {
		e.Attributes = []string{path}
		e.Changes = []storage.Change{storage.ChangeOf(path, before, after)}
	}
	return e
}

// Add gives the tenant of by a domain that is still to be proven. The error is an
// *auth.InvalidError, ErrMany, or a *storage.UniqueError if the tenant has it.
func (k *Keeper) Add(ctx context.Context, by auth.Principal, name string) (*Domain, error) {
	name, err := Normalize(name)
	if err != nil {
		return nil, err
	}
	d := &Domain{Name: name, Challenge: challengeValue + rand.Text(), Added: k.now()}
	return d, k.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := tx.Guard(domainKind); err != nil {
			return err
		}
		all, err := tx.Items(domainKind, "")
		switch {
		case err != nil:
			return err
		case slices.ContainsFunc(all, func(i *storage.Item) bool { return i.ID == name }):
			return &storage.UniqueError{Attr: "name"}
		case len(all) >= MaxDomains:
			return ErrMany
		}
		if err := d.put(tx); err != nil {
			return err
		}
		return tx.Audit(entry(ctx, by, d.Added, "add", name, "", nil, nil))
	})
}

// look asks DNS whether a domain is proven: nil, a *ProofError, or ErrUnreachable.
func (k *Keeper) look(ctx context.Context, d *Domain) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	// The dot at the end keeps the search domains of the host out of it.
	found, err := k.Resolver.LookupTXT(ctx, d.Record()+".")
	switch e, isDNS := errors.AsType[*net.DNSError](err); {
	case isDNS && e.IsNotFound:
		return &ProofError{"there is no TXT record at " + d.Record() + " yet: add one with the value in record.value, and wait until DNS has it"}
	case err != nil:
		return ErrUnreachable
	case !slices.ContainsFunc(found, func(text string) bool { return strings.TrimSpace(text) == d.Challenge }):
		return &ProofError{"none of the TXT records at " + d.Record() + " has the value in record.value: correct it, and wait until DNS has it"}
	}
	return nil
}

// Verify asks DNS for the proof of a domain, and makes it the tenant's. The error is
// storage.ErrNotFound, a *ProofError, ErrUnreachable, ErrTaken or ErrDefault.
func (k *Keeper) Verify(ctx context.Context, by auth.Principal, name string) (*Domain, error) {
	if name == Default(by.Tenant) {
		return nil, ErrDefault
	}
	d, err := k.Find(ctx, by.Tenant, name)
	if err != nil {
		return nil, err
	}
	if err := k.look(ctx, d); err != nil {
		return nil, err
	}
	if err := k.claim(ctx, by.Tenant, name); err != nil {
		return nil, err
	}
	return k.change(ctx, by, name, func(tx storage.Tx, d *Domain) error {
		now := k.now()
		before := d.Verified
		d.Verified, d.Checked, d.Missing = cmp.Or(before, now), now, time.Time{}
		return tx.Audit(entry(ctx, by, now, "verify", name, "verified", !before.IsZero(), true))
	})
}

// change changes a domain of the tenant of by.
func (k *Keeper) change(ctx context.Context, by auth.Principal, name string, fn func(storage.Tx, *Domain) error) (d *Domain, err error) {
	err = k.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if d, err = read(tx, name); err != nil {
			return err
		}
		if err := fn(tx, d); err != nil {
			return err
		}
		return d.put(tx)
	})
	return d, err
}

// claim makes a domain a tenant's, unless it is another's.
func (k *Keeper) claim(ctx context.Context, tenant storage.TenantID, name string) error {
	for range 3 { // another process may be at it for the same tenant
		i, err := k.Store.Item(ctx, storage.DefaultTenant, claimKind, name)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			i = nil
		case err != nil:
			return err
		default:
			ours, held, err := k.holds(ctx, i, tenant)
			if err != nil || ours {
				return err
			}
			if held {
				return ErrTaken
			}
		}
		if err := k.putClaim(ctx, i, tenant, name); !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
	return storage.ErrConflict
}

func (k *Keeper) putClaim(ctx context.Context, prev *storage.Item, tenant storage.TenantID, name string) error {
	now := k.now()
	data, err := json.Marshal(claim{tenant, now})
	if err != nil {
		return err
	}
	return k.Store.Write(ctx, storage.DefaultTenant, func(tx storage.Tx) error {
		if err := tx.PutItem(prev, &storage.Item{Kind: claimKind, ID: name, Data: data}); err != nil {
			return err
		}
		return tx.Audit(claimEntry(ctx, now, tenant, "domain.claim", name))
	})
}

// holds says whether a claim is a tenant's, and whether it holds against others: its
// tenant has the domain, or is about to.
func (k *Keeper) holds(ctx context.Context, i *storage.Item, tenant storage.TenantID) (ours, held bool, err error) {
	var c claim
	if err := json.Unmarshal(i.Data, &c); err != nil {
		return false, false, errors.New("a stored claim of a domain is damaged")
	}
	if c.Tenant == tenant {
		return true, true, nil
	}
	if !storage.Due(c.At.Add(claimHold), k.now(), claimHold) {
		return false, true, nil
	}
	d, err := k.Find(ctx, c.Tenant, i.ID)
	if errors.Is(err, storage.ErrNotFound) {
		return false, false, nil
	}
	return false, err == nil && !d.Verified.IsZero(), err
}

// claimEntry is for the default tenant's trail, in which a tenant stands for its people.
func claimEntry(ctx context.Context, at time.Time, tenant storage.TenantID, action, name string) storage.AuditEntry {
	return storage.AuditEntry{At: at, RequestID: auth.RequestID(ctx), Actor: "tenant:" + string(tenant), Action: action, Type: "Domain", ID: name}
}

// SetPrimary makes a domain that is proven, or the default one, the primary one. The
// error is storage.ErrNotFound or ErrUnproven.
func (k *Keeper) SetPrimary(ctx context.Context, by auth.Principal, name string) (d *Domain, err error) {
	err = k.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := tx.Guard(domainKind); err != nil {
			return err
		}
		byDefault := name == Default(by.Tenant)
		if byDefault {
			d = &Domain{Name: name, Primary: true}
		} else if d, err = read(tx, name); err != nil {
			return err
		} else if d.Verified.IsZero() {
			return ErrUnproven
		}
		items, err := tx.Items(domainKind, "")
		if err != nil {
			return err
		}
		var before any
		for _, i := range items {
			other, err := domainFrom(i)
			if err != nil {
				return err
			}
			if other.Name == name || !other.Primary {
				continue
			}
			before = other.Name
			other.Primary = false
			if err := other.put(tx); err != nil {
				return err
			}
		}
		if !byDefault {
			d.Primary = true
			if err := d.put(tx); err != nil {
				return err
			}
		}
		return tx.Audit(entry(ctx, by, k.now(), "primary", name, "primary", before, name))
	})
	return d, err
}

// Remove takes a domain from the tenant of by. The error is storage.ErrNotFound, ErrDefault,
// or ErrInUse while user names are under it.
func (k *Keeper) Remove(ctx context.Context, by auth.Principal, name string) error {
	if name == Default(by.Tenant) {
		return ErrDefault
	}
	if _, err := k.Find(ctx, by.Tenant, name); err != nil {
		return err
	}
	page, err := k.under(ctx, by.Tenant, name, 0)
	if err != nil {
		return err
	}
	if page.TotalResults > 0 {
		return ErrInUse
	}
	err = k.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		d, err := read(tx, name)
		if err != nil {
			return err
		}
		if err := tx.DeleteItem(d.item); err != nil {
			return err
		}
		return tx.Audit(entry(ctx, by, k.now(), "remove", name, "verified", !d.Verified.IsZero(), nil))
	})
	if err != nil {
		return err
	}
	// A claim that is left behind when this fails holds for claimHold at most.
	return k.Store.Write(ctx, storage.DefaultTenant, func(tx storage.Tx) error {
		i, err := tx.Item(claimKind, name)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var c claim
		if err := json.Unmarshal(i.Data, &c); err != nil || c.Tenant != by.Tenant {
			return err
		}
		if err := tx.DeleteItem(i); err != nil {
			return err
		}
		return tx.Audit(claimEntry(ctx, k.now(), by.Tenant, "domain.release", name))
	})
}

// under selects the users of a tenant whose names are under a domain, in either spelling
// of it.
func (k *Keeper) under(ctx context.Context, tenant storage.TenantID, domain string, count int) (*storage.Page, error) {
	users := k.Provider.Schemas.Type(auth.PrincipalUser)
	ends := func(domain string) filter.Expr {
		text := "@" + domain
		return filter.Compare{Attr: users.Top("userName"), Op: filter.EndsWith, Value: schemas.Fold(text), Text: text}
	}
	under := ends(domain)
	if unicode, err := idna.Display.ToUnicode(domain); err == nil && unicode != domain {
		under = filter.Or{under, ends(unicode)}
	}
	return k.Store.Query(ctx, tenant, storage.Query{Type: users.Name, StartIndex: 1, Count: count, Filter: under})
}

// Check looks at the proof of all domains for which that is due, and reports what has
// changed: in the trail of the tenant, and in the log.
func (k *Keeper) Check(ctx context.Context) error {
	tenants, err := k.Store.ListTenants(ctx)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		list, err := k.List(ctx, t.ID)
		if err != nil {
			return err
		}
		for _, d := range list {
			if d.Verified.IsZero() || !storage.Due(d.Checked.Add(checkEvery), k.now(), checkEvery) {
				continue
			}
			if err := k.recheck(ctx, t.ID, d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *Keeper) recheck(ctx context.Context, tenant storage.TenantID, d *Domain) error {
	err := k.look(ctx, d)
	if errors.Is(err, ErrUnreachable) {
		return nil // the next time will tell
	}
	_, gone := errors.AsType[*ProofError](err)
	if !gone {
		// A tenant that was loaded from a dump has no claim yet.
		if err := k.claim(ctx, tenant, d.Name); errors.Is(err, ErrTaken) {
			gone = true
		} else if err != nil {
			return err
		}
	}
	by := auth.System(tenant)
	_, err = k.change(ctx, by, d.Name, func(tx storage.Tx, d *Domain) error {
		now := k.now()
		d.Checked = now
		action := "check"
		switch {
		case gone && d.Missing.IsZero():
			d.Missing, action = now, "missing"
			k.warn("the record that proves a domain is gone", "tenant", tenant, "domain", d.Name)
		case !gone && !d.Missing.IsZero():
			d.Missing, action = time.Time{}, "found"
		}
		return tx.Audit(entry(ctx, by, now, action, d.Name, "", nil, nil))
	})
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrConflict) {
		err = nil // it was removed meanwhile, or another process looked
	}
	return err
}

func (k *Keeper) warn(msg string, args ...any) {
	if k.Log != nil {
		k.Log.Warn(msg, args...)
	}
}
