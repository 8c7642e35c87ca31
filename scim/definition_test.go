package scim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/dump"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

const tagURN = "urn:example:tag"

// tagged is an extension of users with some attributes.
func tagged(attributes ...schemas.AttributeDefinition) schemas.CustomSchema {
	return schemas.CustomSchema{Extends: []string{"User"}, Schema: schemas.SchemaDefinition{ID: tagURN, Attributes: attributes}}
}

// process is what a process knows: a catalogue with a clock of its own.
type process struct {
	*scim.Provider
	t     *testing.T
	clock atomic.Int64 // Unix milliseconds
}

func newProcess(t *testing.T, s *testserver.Server) *process {
	t.Helper()
	p := &process{t: t}
	p.clock.Store(time.Now().UnixMilli())
	now := func() time.Time { return time.UnixMilli(p.clock.Load()) }
	p.Provider = &scim.Provider{Store: s.Store, Schemas: s.Provider.Schemas, Custom: storage.NewCatalogue(s.Provider.Schemas, s.Store, now),
		Hasher: s.Provider.Hasher, Now: now, Settle: time.Millisecond}
	return p
}

// user is the resource type as the process knows it.
func (p *process) user() *schemas.ResourceType {
	p.t.Helper()
	e, err := p.Custom.Of(p.t.Context(), storage.DefaultTenant)
	if err != nil {
		p.t.Fatal(err)
	}
	return e.Set.Type("User")
}

func (p *process) create(name string, tags map[string]any) (*storage.Resource, error) {
	body := map[string]any{"userName": name}
	if tags != nil {
		body[tagURN] = tags
	}
	return p.Create(p.t.Context(), operator(), p.user(), body)
}

// title patches a user in a way that has nothing to do with the extension.
func (p *process) title(t *schemas.ResourceType, id string) (*storage.Resource, error) {
	ops, err := patch.Decode(map[string]any{"schemas": []any{patch.MessageURI}, "Operations": []any{map[string]any{"op": "replace", "path": "title", "value": "x"}}}, patch.DefaultLimits, schemas.Lenient)
	if err != nil {
		return nil, err
	}
	return p.Patch(p.t.Context(), operator(), t, id, scim.Precondition{}, ops)
}

func (p *process) count(text string) (int, error) {
	t := p.user()
	e, err := filter.Parse(text, t, filter.DefaultLimits)
	if err != nil {
		return 0, err
	}
	page, err := p.Query(p.t.Context(), operator(), t, storage.Query{Type: "User", Filter: e, StartIndex: 1, Count: 100})
	if err != nil {
		return 0, err
	}
	return page.TotalResults, nil
}

func onBothStores(t *testing.T, test func(*testing.T, *testserver.Server)) {
	t.Helper()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) { test(t, testserver.Start(t, testserver.Options{Open: open})) })
	}
}

func isBusy(err error) bool { return err != nil && scim.ErrorFor(err).Status == 503 }

// TestDefinitionElsewhere: another process knows of a definition within a second, and as
// long as it does not it loses nothing of what is stored by it.
func TestDefinitionElsewhere(t *testing.T) {
	onBothStores(t, func(t *testing.T, s *testserver.Server) {
		here, there := newProcess(t, s), newProcess(t, s)
		stale := there.user()
		if err := here.Define(t.Context(), operator(), tagged(schemas.AttributeDefinition{Name: "colour"})); err != nil {
			t.Fatal(err)
		}
		ann, err := here.create("ann", map[string]any{"colour": "red"})
		if err != nil {
			t.Fatal(err)
		}
		if there.user() != stale {
			t.Fatal("the other process knows without asking")
		}
		if _, err := there.title(stale, ann.ID); !isBusy(err) {
			t.Errorf("a change by somebody who does not know what is stored: %v, want 503", err)
		}
		there.clock.Add(999)
		if known := there.user(); known.Top(tagURN) == nil {
			t.Fatal("after a second the other process does not know")
		}
		r, err := there.title(there.user(), ann.ID)
		if err != nil || !strings.Contains(string(r.Doc), `"colour":"red"`) {
			t.Errorf("after the change: %v, %v", r, err)
		}

		// An attribute more, and the same again.
		stale = there.user()
		if err := here.Redefine(t.Context(), operator(), tagged(schemas.AttributeDefinition{Name: "colour"}, schemas.AttributeDefinition{Name: "shape"})); err != nil {
			t.Fatal(err)
		}
		bob, err := here.create("bob", map[string]any{"colour": "red", "shape": "round"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := there.title(stale, bob.ID); !isBusy(err) {
			t.Errorf("a change by somebody who does not know of an attribute: %v, want 503", err)
		}
	})
}

// TestDefinitionUnderWay: while a definition is checked or derived anew, who is about it
// waits and nobody else; a check that was interrupted is given up, and the derivation is
// gone on with.
func TestDefinitionUnderWay(t *testing.T) {
	onBothStores(t, func(t *testing.T, s *testserver.Server) {
		p := newProcess(t, s)
		if err := p.Define(t.Context(), operator(), tagged(schemas.AttributeDefinition{Name: "colour"})); err != nil {
			t.Fatal(err)
		}
		ann, err := p.create("ann", map[string]any{"colour": "Red"})
		if err != nil {
			t.Fatal(err)
		}
		set := func(d storage.Definition) {
			t.Helper()
			err := s.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
				prev, err := tx.Item(storage.SchemaKind, tagURN)
				if err != nil {
					return err
				}
				next, err := d.Item()
				if err != nil {
					return err
				}
				if err := tx.PutItem(prev, next); err != nil {
					return err
				}
				return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test", Type: "Schema", ID: tagURN})
			})
			if err != nil {
				t.Fatal(err)
			}
			p.Custom.Forget(storage.DefaultTenant)
		}
		busy := func(busy bool) {
			t.Helper()
			if _, err := p.create(fmt.Sprint("new", p.clock.Add(1)), map[string]any{"colour": "blue"}); isBusy(err) != busy || !busy && err != nil {
				t.Errorf("a new user with the extension: %v, want busy: %t", err, busy)
			}
			if _, err := p.title(p.user(), ann.ID); isBusy(err) != busy || !busy && err != nil {
				t.Errorf("a change of one: %v, want busy: %t", err, busy)
			}
			if _, err := p.create(fmt.Sprint("plain", p.clock.Add(1)), nil); err != nil {
				t.Errorf("a user without: %v", err)
			}
		}
		one := tagged(schemas.AttributeDefinition{Name: "colour"})
		set(storage.Definition{CustomSchema: one, State: storage.Checking, Until: time.UnixMilli(p.clock.Load() + 60_000)})
		busy(true)
		if err := p.Redefine(t.Context(), operator(), one); !errors.Is(err, scim.ErrDefinitionBusy) {
			t.Errorf("two changes at once: %v", err)
		}
		if n, err := p.count(tagURN + `:colour eq "red"`); err != nil || n != 1 {
			t.Errorf("a search meanwhile: %d, %v", n, err)
		}
		p.clock.Add(61_000)
		busy(false)

		// As if a process had come to its end when the new definition held.
		exact := tagged(schemas.AttributeDefinition{Name: "colour", CaseExact: true, Uniqueness: "none"})
		set(storage.Definition{CustomSchema: exact, State: storage.Deriving})
		busy(true)
		if _, err := p.count(tagURN + `:colour eq "Red"`); !isBusy(err) {
			t.Errorf("a search by what is derived anew: %v, want 503", err)
		}
		if n, err := p.count(`userName eq "ann"`); err != nil || n != 1 {
			t.Errorf("another search: %d, %v", n, err)
		}
		if err := p.FinishDefinitions(t.Context(), storage.DefaultTenant); err != nil {
			t.Fatal(err)
		}
		busy(false)
		for text, want := range map[string]int{`:colour eq "Red"`: 1, `:colour eq "red"`: 0} {
			if n, err := p.count(tagURN + text); err != nil || n != want {
				t.Errorf("%s selects %d, %v, want %d", text, n, err, want)
			}
		}
	})
}

// unhurried is a store on which a change of a schema waits for the creations that have begun,
// before it looks at what is stored: Settle may be too short for them where the machine is busy.
type unhurried struct {
	storage.Store
	creations sync.RWMutex
	announced atomic.Bool
}

// changing marks the context of the change.
type changing struct{}

func (u *unhurried) Query(ctx context.Context, tenant storage.TenantID, q storage.Query) (*storage.Page, error) {
	if ctx.Value(changing{}) != nil {
		u.creations.Lock()
		defer u.creations.Unlock()
	}
	return u.Store.Query(ctx, tenant, q)
}

func (u *unhurried) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	err := u.Store.Write(ctx, tenant, fn)
	if ctx.Value(changing{}) != nil {
		u.announced.Store(true)
	}
	return err
}

// TestDefinitionRace: uniqueness that is added while many write either finds who is in its
// way, or holds from then on.
func TestDefinitionRace(t *testing.T) {
	onBothStores(t, func(t *testing.T, s *testserver.Server) {
		p := newProcess(t, s)
		store := &unhurried{Store: s.Store}
		p.Store, p.Settle = store, 100*time.Millisecond
		p.Now = time.Now
		p.Custom = storage.NewCatalogue(p.Schemas, s.Store, time.Now)
		if err := p.Define(t.Context(), operator(), tagged(schemas.AttributeDefinition{Name: "code"})); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var made atomic.Int64
		for w := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					code := fmt.Sprintf("%d-%d", w, i)
					if store.announced.Load() { // two of them want the same
						code = fmt.Sprintf("%d-%d", w/2, made.Load()/8)
					}
					store.creations.RLock()
					_, err := p.create(fmt.Sprintf("w%d-%d", w, i), map[string]any{"code": code})
					store.creations.RUnlock()
					switch {
					case err == nil:
						made.Add(1)
					case !isBusy(err) && scim.ErrorFor(err).Status != 409:
						t.Error(err)
						return
					}
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		unique := tagged(schemas.AttributeDefinition{Name: "code", Uniqueness: "server"})
		err := p.Redefine(context.WithValue(t.Context(), changing{}, true), operator(), unique)
		time.Sleep(20 * time.Millisecond)
		close(stop)
		wg.Wait()
		codes := map[string]int{}
		page, qerr := s.Store.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: "User", StartIndex: 1, Count: 100_000})
		if qerr != nil {
			t.Fatal(qerr)
		}
		for {
			list, err := page.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(list) == 0 {
				break
			}
			for _, r := range list {
				attrs, err := p.user().Parse(r.Doc)
				if err != nil {
					t.Fatal(err)
				}
				if tags, ok := attrs[tagURN].(map[string]any); ok {
					codes[tags["code"].(string)]++
				}
			}
		}
		twice := slices.ContainsFunc(slices.Collect(func(yield func(int) bool) {
			for _, n := range codes {
				if !yield(n) {
					return
				}
			}
		}), func(n int) bool { return n > 1 })
		var found *scim.OffendersError
		if refused := errors.As(err, &found); refused != twice || err != nil && !refused {
			t.Errorf("after %d users, some codes twice: %t; the change: %v", made.Load(), twice, err)
		}
		t.Logf("%d users; the change: %v", made.Load(), err)
		if _, err := p.create("last", map[string]any{"code": "last"}); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// TestDefinitionsMove: a dump carries what the tenant defines, and what is of it.
func TestDefinitionsMove(t *testing.T) {
	onBothStores(t, func(t *testing.T, s *testserver.Server) {
		p := newProcess(t, s)
		if err := p.Define(t.Context(), operator(), tagged(schemas.AttributeDefinition{Name: "code", Uniqueness: "server"})); err != nil {
			t.Fatal(err)
		}
		pack, _ := schemas.Pack("device")
		if err := p.Define(t.Context(), operator(), pack...); err != nil {
			t.Fatal(err)
		}
		if _, err := p.create("ann", map[string]any{"code": "A1"}); err != nil {
			t.Fatal(err)
		}
		e, err := p.Custom.Of(t.Context(), storage.DefaultTenant)
		if err != nil {
			t.Fatal(err)
		}
		lamp, err := p.Create(t.Context(), operator(), e.Set.Type("Device"), map[string]any{"displayName": "Lamp", "active": true})
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if _, err := (&dump.Writer{Store: s.Store, Schemas: s.Provider.Schemas, Product: "test", Now: time.Now()}).Write(t.Context(), storage.DefaultTenant, &text); err != nil {
			t.Fatal(err)
		}
		to := testserver.Start(t, testserver.Options{})
		if _, err := (&dump.Loader{Store: to.Store, Schemas: to.Provider.Schemas, Tenant: "moved", Now: time.Now}).Load(t.Context(), bytes.NewReader(text.Bytes())); err != nil {
			t.Fatal(err)
		}
		by := auth.Principal{Kind: auth.Operator, Tenant: "moved"}
		e, err = to.Provider.Custom.Of(t.Context(), "moved")
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Definitions) != 9 {
			t.Errorf("%d schemas have come", len(e.Definitions))
		}
		if r, err := to.Provider.Get(t.Context(), by, e.Set.Type("Device"), lamp.ID); err != nil || !bytes.Equal(r.Doc, lamp.Doc) {
			t.Errorf("a device: %v, %v", r, err)
		}
		var taken *storage.UniqueError
		if _, err := to.Provider.Create(t.Context(), by, e.Set.Type("User"), map[string]any{"userName": "bob", tagURN: map[string]any{"code": "a1"}}); !errors.As(err, &taken) {
			t.Errorf("a code that somebody has: %v", err)
		}
	})
}
