package storage

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/roster-id/roster/schemas"
)

// SchemaKind is the kind of the items that hold what tenants define: a Definition
// each, under the key of its schema.
const SchemaKind = "schema"

// Definition is a schema of a tenant as it is stored.
type Definition struct {
	schemas.CustomSchema
	// State says whether a change of the definition is under way.
	State DefinitionState `json:"state,omitempty"`
	// Until is when a check that has not ended is given up.
	Until time.Time `json:"until,omitzero"`
}

// DefinitionState is how far a change of a definition has come.
type DefinitionState string

// The states of a definition. In all but the first one nobody writes what the
// definition is about.
const (
	Settled DefinitionState = ""
	// Checking: stored resources are looked at, and the definition holds as it was.
	Checking DefinitionState = "checking"
	// Deriving: the definition holds, and what resources are searched by is derived
	// anew.
	Deriving DefinitionState = "deriving"
)

// Item returns the item that a definition is stored in.
func (d *Definition) Item() (*Item, error) {
	data, err := json.Marshal(d)
	return &Item{Kind: SchemaKind, ID: d.Key(), Data: data}, err
}

// ReadDefinition returns the definition that an item holds.
func ReadDefinition(i *Item) (*Definition, error) {
	var d Definition
	if err := json.Unmarshal(i.Data, &d); err != nil || d.Key() != i.ID {
		return nil, fmt.Errorf("the schema %s cannot be read by this version", i.ID)
	}
	return &d, nil
}

// ReadDefinitions returns the definitions that items hold.
func ReadDefinitions(items []*Item) ([]*Definition, error) {
	list := make([]*Definition, len(items))
	for i, item := range items {
		var err error
		if list[i], err = ReadDefinition(item); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// How old an Edition may be: up to editionFresh it is taken as it is, and up to
// editionStale it is while the next one is asked for.
const (
	editionFresh = 500 * time.Millisecond
	editionStale = 900 * time.Millisecond
)

// askingTime bounds how long an answer of the store is waited for.
const askingTime = 5 * time.Second

// Catalogue knows the resource types of each tenant: the built-in ones, with what the
// tenant defines. It is safe for concurrent use.
type Catalogue struct {
	builtIn *schemas.Set
	items   Items
	now     func() time.Time
	tenants sync.Map // of *shelf by TenantID
}

// shelf is the newest Edition of a tenant.
type shelf struct {
	newest atomic.Pointer[Edition]
	asking singleflight.Group
	// dropped counts calls of Forget: an answer that was asked for before one is not
	// kept after it.
	dropped atomic.Int64
}

// Edition is the resource types of a tenant as of one moment. Nothing of it changes.
type Edition struct {
	Set *schemas.Set
	// Definitions are what the tenant defines, by key.
	Definitions []*Definition

	asked    time.Time
	versions string        // of the items
	changing []*Definition // those that are not Settled
}

// NewCatalogue returns the catalogue of a store for the given built-in types.
func NewCatalogue(builtIn *schemas.Set, items Items, now func() time.Time) *Catalogue {
	return &Catalogue{builtIn: builtIn, items: items, now: now}
}

func (c *Catalogue) shelf(tenant TenantID) *shelf {
	if s, ok := c.tenants.Load(tenant); ok {
		return s.(*shelf)
	}
	s, _ := c.tenants.LoadOrStore(tenant, new(shelf))
	return s.(*shelf)
}

// Of returns the resource types of a tenant. What another process changed is in it
// within a second, and what this one did at once (see Forget).
func (c *Catalogue) Of(ctx context.Context, tenant TenantID) (*Edition, error) {
	s, now := c.shelf(tenant), c.now()
	known := s.newest.Load()
	if known != nil && known.younger(editionFresh, now) {
		return known, nil
	}
	// Who asks together shares the answer, and the failure: while the store is away nobody
	// waits for the turns of others. It is not the first one's to give up for all.
	answer := s.asking.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askingTime)
		defer cancel()
		return c.ask(ctx, tenant, s)
	})
	if known != nil && known.younger(editionStale, now) {
		return known, nil
	}
	select {
	case a := <-answer:
		e, _ := a.Val.(*Edition)
		return e, a.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask reads the edition of now.
func (c *Catalogue) ask(ctx context.Context, tenant TenantID, s *shelf) (*Edition, error) {
	now, dropped := c.now(), s.dropped.Load()
	list, err := c.items.Items(ctx, tenant, SchemaKind, "")
	if err != nil {
		return nil, fmt.Errorf("read the schemas of the tenant: %w", err)
	}
	next, err := c.edition(s.newest.Load(), list, now)
	if err != nil {
		return nil, err
	}
	if s.newest.Store(next); s.dropped.Load() != dropped {
		s.newest.Store(nil)
	}
	return next, nil
}

// Forget has the next Of ask the store. Call it after a definition was written.
func (c *Catalogue) Forget(tenant TenantID) {
	s := c.shelf(tenant)
	s.dropped.Add(1)
	s.asking.Forget("")
	s.newest.Store(nil)
}

// younger reports whether the edition was asked for less than d ago. A clock that went
// back makes it old.
func (e *Edition) younger(d time.Duration, now time.Time) bool {
	age := now.Sub(e.asked)
	return age >= 0 && age < d
}

// edition makes the next edition of what the store holds. Where nothing has changed,
// its types are those of the one before.
func (c *Catalogue) edition(known *Edition, list []*Item, now time.Time) (*Edition, error) {
	versions := make([]byte, 0, 32*len(list))
	for _, i := range list {
		versions = fmt.Appendf(versions, "%s %d %x\n", i.ID, i.Version, sha256.Sum256(i.Data))
	}
	next := &Edition{Set: c.builtIn, asked: now, versions: string(versions)}
	if known != nil && known.versions == next.versions {
		again := *known
		again.asked = now
		return &again, nil
	}
	var err error
	if next.Definitions, err = ReadDefinitions(list); err != nil {
		return nil, err
	}
	live := make([]schemas.CustomSchema, 0, len(list))
	for _, d := range next.Definitions {
		live = append(live, d.CustomSchema)
		if d.State != Settled {
			next.changing = append(next.changing, d)
		}
	}
	if next.Set, err = c.builtIn.With(live); err != nil {
		return nil, fmt.Errorf("the schemas of the tenant do not go together: %v", err) //nolint:errorlint // it is no fault of the request
	}
	return next, nil
}

// Changing reports whether a change of a definition is under way that a write of any of
// these trees of a type would be about, and which have to wait for it.
func (e *Edition) Changing(t *schemas.ResourceType, trees ...map[string]any) bool {
	for _, d := range e.changing {
		if d.State == Checking && !e.asked.Before(d.Until) {
			continue // whoever began has come to an end
		}
		if d.ResourceType != nil && d.ResourceType.Name == t.Name {
			return true
		}
		a := t.Top(d.Schema.ID)
		if a == nil || !a.Extension {
			continue
		}
		for _, tree := range trees {
			if _, has := tree[a.Name]; has {
				return true
			}
		}
	}
	return false
}

// Searchable reports whether what resources of a type are searched by is as its
// definitions say: an attribute of one that is being derived anew is not.
func (e *Edition) Searchable(t *schemas.ResourceType, attrs ...*schemas.Attribute) bool {
	for _, d := range e.changing {
		if d.State != Deriving {
			continue
		}
		core := d.ResourceType != nil && d.ResourceType.Name == t.Name
		for _, a := range attrs {
			if core || a != nil && strings.EqualFold(a.Top().Name, d.Schema.ID) {
				return false
			}
		}
	}
	return true
}
