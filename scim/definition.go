package scim

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// OffendersListed is how many offenders an OffendersError names.
const OffendersListed = 100

const (
	// definitionTime bounds a change of a definition. It goes on when whoever asked for
	// it does not wait.
	definitionTime = 10 * time.Minute
	settleTime     = 30 * time.Second
	// derivedAtOnce is for how many resources one write derives anew what they are
	// searched by.
	derivedAtOnce = 100
	// definitionGuard makes changes of definitions come one after the other.
	definitionGuard = "schemas"
)

// Offender is a resource that a definition does not fit.
type Offender struct {
	Type string
	ID   string
	// Deleted: it is in no list, and fits no more if it is restored.
	Deleted bool
	// Msg says what does not fit, without its value.
	Msg string
}

// OffendersError says that stored resources would not fit a definition.
type OffendersError struct {
	Offenders []Offender // the first OffendersListed
	Count     int
}

func (e *OffendersError) Error() string {
	return fmt.Sprintf("%d stored resources do not fit", e.Count)
}

func (e *OffendersError) add(o Offender) {
	if e.Count++; len(e.Offenders) < OffendersListed {
		e.Offenders = append(e.Offenders, o)
	}
}

// Errors about definitions.
var (
	// ErrDefined: there is a schema with this URN.
	ErrDefined = errors.New("the tenant has defined a schema with this URN")
	// ErrDefinitionBusy: another change of this definition is under way.
	ErrDefinitionBusy = errors.New("the schema is being changed: try again")
	// ErrExtended: other schemas extend the resource type.
	ErrExtended = errors.New("other schemas extend the resource type: remove them first")
	// ErrLacking: a new extension is required of resources that are there.
	ErrLacking = errors.New("resources of the type are there, without the extension: define it without required, and require it once they have it")
)

// Definitions returns what the tenant defines, by URN.
func (p *Provider) Definitions(ctx context.Context, by auth.Principal) ([]*storage.Definition, error) {
	if err := allowPerson(by, auth.PermissionSchemasRead); err != nil {
		return nil, err
	}
	items, err := p.Store.Items(ctx, by.Tenant, storage.SchemaKind, "")
	if err != nil {
		return nil, err
	}
	return storage.ReadDefinitions(items)
}

// Definition returns the definition of the schema with a URN, or storage.ErrNotFound.
func (p *Provider) Definition(ctx context.Context, by auth.Principal, urn string) (*storage.Definition, error) {
	if err := allowPerson(by, auth.PermissionSchemasRead); err != nil {
		return nil, err
	}
	item, err := p.Store.Item(ctx, by.Tenant, storage.SchemaKind, schemas.SchemaKey(urn))
	if err != nil {
		return nil, err
	}
	return storage.ReadDefinition(item)
}

// Define adds schemas to those of the tenant, all of them or none. They are live when it
// returns, and in other processes within a second. The error is a
// *schemas.DefinitionError, ErrDefined or ErrLacking.
func (p *Provider) Define(ctx context.Context, by auth.Principal, list ...schemas.CustomSchema) error {
	if err := allowPerson(by, auth.PermissionSchemasWrite); err != nil {
		return err
	}
	for _, c := range list {
		if err := p.lacking(ctx, by.Tenant, c); err != nil {
			return err
		}
	}
	err := p.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		all, _, err := p.defined(tx)
		if err != nil {
			return err
		}
		for i := range list {
			if slices.ContainsFunc(all, func(c schemas.CustomSchema) bool { return c.Key() == list[i].Key() }) {
				return ErrDefined
			}
			all = append(all, list[i])
		}
		if err := p.goTogether(all); err != nil {
			return err
		}
		for i := range list {
			list[i].Tidy()
			next := &storage.Definition{CustomSchema: list[i]}
			if err := p.putDefinition(ctx, tx, by, "create", nil, next); err != nil {
				return err
			}
		}
		return nil
	})
	p.Custom.Forget(by.Tenant)
	return err
}

// lacking refuses a new extension that resources have to have, where there are any.
func (p *Provider) lacking(ctx context.Context, tenant storage.TenantID, c schemas.CustomSchema) error {
	if !c.Required {
		return nil
	}
	set, err := p.types(ctx, tenant)
	if err != nil {
		return err
	}
	for _, name := range c.Extends {
		if t := set.Type(name); t == nil || !t.Custom {
			continue // the definition is refused, or is of a type that is new
		}
		page, err := p.Store.Query(ctx, tenant, storage.Query{Type: name, StartIndex: 1})
		if err != nil {
			return err
		}
		if page.TotalResults > 0 {
			return ErrLacking
		}
	}
	return nil
}

// defined returns what the tenant defines, inside a write that changes it.
func (p *Provider) defined(tx storage.Tx) (list []schemas.CustomSchema, items []*storage.Item, err error) {
	if err := tx.Guard(definitionGuard); err != nil {
		return nil, nil, err
	}
	if items, err = tx.Items(storage.SchemaKind, ""); err != nil {
		return nil, nil, err
	}
	definitions, err := storage.ReadDefinitions(items)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range definitions {
		list = append(list, d.CustomSchema)
	}
	return list, items, nil
}

// goTogether checks definitions as they will be read: in the order of their keys.
func (p *Provider) goTogether(list []schemas.CustomSchema) error {
	slices.SortFunc(list, func(a, b schemas.CustomSchema) int { return strings.Compare(a.Key(), b.Key()) })
	_, err := p.Schemas.With(list)
	return err
}

// putDefinition writes a definition and records what has changed.
func (p *Provider) putDefinition(ctx context.Context, tx storage.Tx, by auth.Principal, action string, prev *storage.Item, next *storage.Definition) error {
	item, err := next.Item()
	if err != nil {
		return err
	}
	if err := tx.PutItem(prev, item); err != nil {
		return err
	}
	var c storage.Changes
	switch action {
	case "create":
		c.Add("schema", nil, item.Data)
	case "update":
		before, err := storage.ReadDefinition(prev)
		if err != nil {
			return err
		}
		was, err := json.Marshal(before.CustomSchema)
		if err != nil {
			return err
		}
		is, err := json.Marshal(next.CustomSchema)
		if err != nil {
			return err
		}
		c.Add("schema", was, is)
	}
	return p.recordDefinition(ctx, tx, by, action, next.Schema.ID, c)
}

func (p *Provider) recordDefinition(ctx context.Context, tx storage.Tx, by auth.Principal, action, urn string, c storage.Changes) error {
	e := by.Entry(ctx, p.now(), "schema."+action, "Schema", urn)
	e.Changes = c.List
	return tx.Audit(e)
}

// Redefine puts a definition in the place of the one with its URN. When stored resources
// would not fit it, the error is an *OffendersError and nothing changes. While they are
// looked at, and while what they are searched by is derived anew, whoever writes what it
// is about is told to try again.
func (p *Provider) Redefine(ctx context.Context, by auth.Principal, next schemas.CustomSchema) error {
	if err := allowPerson(by, auth.PermissionSchemasWrite); err != nil {
		return err
	}
	next.Tidy()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), definitionTime)
	defer cancel()
	return p.redefine(ctx, by, next.Key(), &next)
}

// Undefine removes a definition, unless a resource has an attribute of it (an
// *OffendersError), or is of the type (likewise), or another schema extends that
// (ErrExtended). Deleted resources of the type are purged.
func (p *Provider) Undefine(ctx context.Context, by auth.Principal, urn string) error {
	if err := allowPerson(by, auth.PermissionSchemasWrite); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), definitionTime)
	defer cancel()
	return p.redefine(ctx, by, schemas.SchemaKey(urn), nil)
}

// redefinition is one change of a definition under way.
type redefinition struct {
	p    *Provider
	ctx  context.Context // of one change
	by   auth.Principal
	key  string
	prev *storage.Definition
	next *schemas.CustomSchema // nil when it is removed
	// old and set are the types before and after.
	old, set *schemas.Set
	impact   schemas.Impact
	until    time.Time // when others do not wait any longer
}

func (p *Provider) redefine(ctx context.Context, by auth.Principal, key string, next *schemas.CustomSchema) error {
	c := &redefinition{p: p, ctx: ctx, by: by, key: key, next: next}
	var item *storage.Item
	if err := p.Store.Write(ctx, by.Tenant, func(tx storage.Tx) (err error) {
		item, err = c.announce(tx)
		return err
	}); err != nil {
		return err
	}
	p.Custom.Forget(by.Tenant)
	if c.impact.Check {
		err := c.wait()
		if err == nil {
			err = c.check()
		}
		if err != nil {
			return errors.Join(err, c.giveUp(item))
		}
	}
	if next == nil {
		if err := c.purge(); err != nil {
			return errors.Join(err, c.giveUp(item))
		}
	}
	if err := c.put(&item); err != nil {
		return err
	}
	if next == nil || !c.impact.Derive {
		return nil
	}
	if err := c.wait(); err != nil {
		return err
	}
	if err := c.derive(); err != nil {
		return err
	}
	return c.finish(item)
}

// announce finds out what the change means, and has others wait for it if stored
// resources have to be looked at.
func (c *redefinition) announce(tx storage.Tx) (*storage.Item, error) {
	list, items, err := c.p.defined(tx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(items, func(i *storage.Item) bool { return i.ID == c.key })
	if i < 0 {
		return nil, storage.ErrNotFound
	}
	if c.prev, err = storage.ReadDefinition(items[i]); err != nil {
		return nil, err
	}
	now := c.p.now()
	if c.prev.State == storage.Deriving || c.prev.State == storage.Checking && now.Before(c.prev.Until) {
		return nil, ErrDefinitionBusy
	}
	if c.old, err = c.p.Schemas.With(list); err != nil {
		return nil, err
	}
	after := slices.Clone(list)
	if c.next == nil {
		after = slices.Delete(after, i, i+1)
		if t := c.prev.ResourceType; t != nil && slices.ContainsFunc(after, func(o schemas.CustomSchema) bool { return slices.Contains(o.Extends, t.Name) }) {
			return nil, ErrExtended
		}
	} else {
		after[i] = *c.next
	}
	if c.set, err = c.p.Schemas.With(after); err != nil {
		return nil, err
	}
	if err := c.compare(); err != nil {
		return nil, err
	}
	if !c.impact.Check {
		return items[i], nil
	}
	d := *c.prev
	c.until = now.Add(definitionTime)
	d.State, d.Until = storage.Checking, c.until
	item, err := d.Item()
	if err != nil {
		return nil, err
	}
	if err := tx.PutItem(items[i], item); err != nil {
		return nil, err
	}
	return item, c.p.recordDefinition(c.ctx, tx, c.by, "check", c.prev.Schema.ID, storage.Changes{})
}

// compare finds out what has to be looked at.
func (c *redefinition) compare() error {
	if c.next == nil {
		c.impact = schemas.Impact{Check: true}
		return nil
	}
	was, is := c.prev.ResourceType, c.next.ResourceType
	switch {
	case (was == nil) != (is == nil):
		return &schemas.DefinitionError{Msg: "what is a resource type stays one, and what is an extension too"}
	case was != nil && was.Name != is.Name:
		return &schemas.DefinitionError{Msg: "resourceType.name: a resource type keeps its name"}
	}
	before, err := c.prev.Compile()
	if err != nil {
		return err
	}
	after, err := c.next.Compile()
	if err != nil {
		return err
	}
	c.impact = before.Change(after)
	c.impact.Check = c.impact.Check || before.ID != after.ID || c.next.Required && !c.prev.Required
	for _, name := range c.prev.Extends {
		c.impact.Check = c.impact.Check || !slices.Contains(c.next.Extends, name)
	}
	for _, name := range c.next.Extends {
		c.impact.Check = c.impact.Check || c.next.Required && !slices.Contains(c.prev.Extends, name)
	}
	c.impact.Derive = c.impact.Derive || before.ID != after.ID
	return nil
}

// wait waits until nobody writes by what holds no longer.
func (c *redefinition) wait() error {
	select {
	case <-time.After(cmp.Or(c.p.Settle, DefaultSettle)):
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// names are those of the resource types whose resources the change is about.
func (c *redefinition) names() []string {
	if t := c.prev.ResourceType; t != nil {
		return []string{t.Name}
	}
	names := slices.Clone(c.prev.Extends)
	if c.next != nil && c.next.Required {
		names = append(names, c.next.Extends...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// check looks at every stored resource.
func (c *redefinition) check() error {
	var found OffendersError
	for _, name := range c.names() {
		taken := map[storage.Key]string{}
		look := func(r *storage.Resource, deleted bool) error {
			msg, err := c.misfit(r, deleted, taken)
			if err == nil && msg != "" {
				found.add(Offender{name, strings.Clone(r.ID), deleted, msg})
			}
			return err
		}
		if err := c.each(name, func(list []*storage.Resource) error {
			for _, r := range list {
				if err := look(r, false); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		if c.old.Type(name).Custom {
			continue // nobody can restore them
		}
		var place storage.DeletedPlace
		for {
			list, err := c.p.Store.ListDeleted(c.ctx, c.by.Tenant, name, place, deletedAtOnce)
			if err != nil {
				return err
			}
			for _, w := range list {
				if err := look(&w.Resource, true); err != nil {
					return err
				}
			}
			if len(list) < deletedAtOnce {
				break
			}
			place = list[len(list)-1].Place()
		}
	}
	if found.Count > 0 {
		return &found
	}
	return nil
}

// each calls fn with portions of the resources of a type.
func (c *redefinition) each(name string, fn func([]*storage.Resource) error) error {
	return storage.Walk(c.ctx, c.p.Store, c.by.Tenant, storage.Query{Type: name, Count: MaxCount}, fn)
}

// misfit says why a resource does not fit, or nothing. taken are the unique values of
// those before it.
func (c *redefinition) misfit(r *storage.Resource, deleted bool, taken map[storage.Key]string) (string, error) {
	old := c.old.Type(r.Type)
	attrs, err := parseStored(old, r)
	if err != nil {
		return "", err
	}
	t := c.set.Type(r.Type)
	if t == nil {
		return "is of this type", nil
	}
	var defs []*schemas.Attribute
	if c.prev.ResourceType != nil {
		// A document has names as they were spelled.
		if t.Schema.ID != old.Schema.ID {
			return "schemas: has the URN as it was spelled", nil
		}
		for _, a := range t.Schema.Attributes {
			defs = append(defs, t.Top(a.Name))
		}
		for _, a := range old.Schema.Attributes {
			v, has := attrs[a.Name]
			if b := t.Top(a.Name); has && v != nil && (b == nil || b.Name != a.Name) {
				return a.Name + ": is an attribute no more", nil
			}
		}
	} else {
		v, has := attrs[c.prev.Schema.ID]
		a := t.Top(c.prev.Schema.ID)
		switch {
		case has && (a == nil || a.Name != c.prev.Schema.ID):
			return "has attributes of this schema", nil
		case a == nil || v == nil && !a.Required:
			return "", nil
		}
		defs = []*schemas.Attribute{a}
	}
	for _, a := range defs {
		v, has := attrs[a.Name]
		if !has && !a.Required {
			continue
		}
		if err := a.Fits(v); err != nil {
			return err.Error(), nil //nolint:nilerr // it is what was asked
		}
	}
	if !c.impact.Unique || deleted {
		return "", nil
	}
	unique, _ := storage.Derive(t, attrs, storage.NoShadow{})
	for _, k := range unique {
		if other, has := taken[k]; has {
			return k.Path + ": has the value of " + other, nil
		}
		taken[k] = strings.Clone(r.ID) // resources are valid for a while only
	}
	return "", nil
}

// purge removes the deleted resources of a type that goes.
func (c *redefinition) purge() error {
	if c.prev.ResourceType == nil {
		return nil
	}
	t := c.old.Type(c.prev.ResourceType.Name)
	for {
		list, err := c.p.Store.ListDeleted(c.ctx, c.by.Tenant, t.Name, storage.DeletedPlace{}, deletedAtOnce)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, w := range list {
			if err := c.p.purge(c.ctx, c.by, t, w.ID); err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
		}
	}
}

// giveUp lets the old definition hold.
func (c *redefinition) giveUp(item *storage.Item) error {
	return c.settle(item, c.prev, "keep")
}

// finish lets everybody write again.
func (c *redefinition) finish(item *storage.Item) error {
	return c.settle(item, &storage.Definition{CustomSchema: *c.next}, "derived")
}

func (c *redefinition) settle(item *storage.Item, d *storage.Definition, action string) error {
	if !c.impact.Check && !c.impact.Derive {
		return nil
	}
	next := *d
	next.State, next.Until = storage.Settled, time.Time{}
	// Whatever has ended the change, the rest of the tenant is not to wait for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), settleTime)
	defer cancel()
	err := c.p.Store.Write(ctx, c.by.Tenant, func(tx storage.Tx) error {
		return c.p.putDefinition(ctx, tx, c.by, action, item, &next)
	})
	c.p.Custom.Forget(c.by.Tenant)
	return err
}

// put lets the new definition hold, or removes it.
func (c *redefinition) put(item **storage.Item) error {
	if c.impact.Check && !c.p.now().Before(c.until.Add(-settleTime)) {
		return ErrDefinitionBusy // others may have begun to write again
	}
	err := c.p.Store.Write(c.ctx, c.by.Tenant, func(tx storage.Tx) error {
		list, _, err := c.p.defined(tx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(s schemas.CustomSchema) bool { return s.Key() == c.key })
		if i < 0 {
			return storage.ErrConflict
		}
		if c.next == nil {
			was, err := json.Marshal(c.prev.CustomSchema)
			if err != nil {
				return err
			}
			if t := c.prev.ResourceType; t != nil && slices.ContainsFunc(list, func(o schemas.CustomSchema) bool { return slices.Contains(o.Extends, t.Name) }) {
				return ErrExtended
			}
			if err := tx.DeleteItem(*item); err != nil {
				return err
			}
			var told storage.Changes
			told.Add("schema", was, nil)
			return c.p.recordDefinition(c.ctx, tx, c.by, "delete", c.prev.Schema.ID, told)
		}
		list[i] = *c.next
		if err := c.p.goTogether(list); err != nil {
			return err
		}
		d := &storage.Definition{CustomSchema: *c.next}
		if c.impact.Derive {
			d.State = storage.Deriving
		}
		return c.p.putDefinition(c.ctx, tx, c.by, "update", *item, d)
	})
	c.p.Custom.Forget(c.by.Tenant)
	if err == nil && c.next != nil {
		*item, err = c.p.Store.Item(c.ctx, c.by.Tenant, storage.SchemaKind, c.key)
	}
	return err
}

// derive derives anew what resources are searched by.
func (c *redefinition) derive() error {
	for _, name := range c.names() {
		t := c.set.Type(name)
		if t == nil {
			continue
		}
		a := t.Top(c.next.Schema.ID)
		err := c.each(name, func(list []*storage.Resource) error {
			var ids []string
			for _, r := range list {
				attrs, err := parseStored(t, r)
				if err != nil {
					return err
				}
				if a == nil || attrs[a.Name] != nil {
					ids = append(ids, r.ID)
				}
			}
			for some := range slices.Chunk(ids, derivedAtOnce) {
				if err := c.deriveSome(t, some); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *redefinition) deriveSome(t *schemas.ResourceType, ids []string) error {
	return c.p.Store.Write(c.ctx, c.by.Tenant, func(tx storage.Tx) error {
		changed := false
		for _, id := range ids {
			r, err := tx.Get(t.Name, id)
			if errors.Is(err, storage.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			attrs, err := parseStored(t, r)
			if err != nil {
				return err
			}
			next := *r
			next.Name, next.Index = storage.NameOf(attrs), c.p.Store.NewIndex(c.by.Tenant, t, attrs)
			prev := *r
			prev.Doc = nil // its keys are those of another definition: the store looks
			if err := tx.Update(&prev, &next); err != nil {
				return err
			}
			changed = true
		}
		if !changed {
			return nil
		}
		return c.p.recordDefinition(c.ctx, tx, c.by, "derive", c.next.Schema.ID, storage.Changes{})
	})
}

// FinishDefinitions goes on where a change of a definition was interrupted behind the
// point of no return. Any number of processes may do it at once.
func (p *Provider) FinishDefinitions(ctx context.Context, tenant storage.TenantID) error {
	if p.Custom == nil {
		return nil
	}
	e, err := p.Custom.Of(ctx, tenant)
	if err != nil {
		return err
	}
	for _, d := range e.Definitions {
		if d.State != storage.Deriving {
			continue
		}
		item, err := p.Store.Item(ctx, tenant, storage.SchemaKind, d.Key())
		if err != nil {
			return err
		}
		c := &redefinition{p: p, ctx: ctx, by: auth.System(tenant), key: d.Key(), prev: d, next: &d.CustomSchema, old: e.Set, set: e.Set, impact: schemas.Impact{Derive: true}}
		if err := c.derive(); err != nil {
			return err
		}
		if err := c.finish(item); err != nil && !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
	return nil
}
