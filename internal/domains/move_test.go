package domains_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/domains"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
)

const home = storage.DefaultTenant

// admin makes somebody who holds a role, as a principal that has given a passcode.
func (d *directory) admin(name, role string) auth.Principal {
	d.t.Helper()
	id := d.user(home, name)
	err := d.store.Write(d.t.Context(), home, func(tx storage.Tx) error {
		g := &auth.Grant{ID: uuid.NewString(), Role: role, Principal: id, PrincipalType: auth.PrincipalUser}
		return errors.Join(auth.PutGrant(tx, nil, g, auth.BuiltInRole(role)),
			tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: "test"}))
	})
	if err != nil {
		d.t.Fatal(err)
	}
	p := auth.Principal{Kind: auth.User, Tenant: home, ID: id, Name: name, Session: "s", Level: auth.MFA, PasscodeAt: d.now()}
	p.Permissions, p.Roles = auth.PermissionsOf([]*auth.Role{auth.BuiltInRole(role)})
	return p
}

// crowd makes users in one write, past the provider.
func (d *directory) crowd(n int, name func(int) string) []string {
	d.t.Helper()
	t := d.set.Type("User")
	ids := make([]string, n)
	resources := make([]*storage.Resource, n)
	for i := range n {
		ids[i] = uuid.Must(uuid.NewV7()).String()
		attrs := map[string]any{"schemas": []any{schemas.UserURI}, "id": ids[i], "userName": name(i), "active": true,
			"emails": []any{map[string]any{"value": name(i)}, map[string]any{"value": fmt.Sprint("private", i, "@mail.example")}}}
		resources[i] = &storage.Resource{Type: t.Name, ID: ids[i], Version: 1, Created: d.now(), LastModified: d.now(), Name: name(i),
			Doc: t.Document(attrs), Index: d.store.NewIndex(home, t, attrs)}
	}
	err := d.store.Write(d.t.Context(), home, func(tx storage.Tx) error {
		for _, r := range resources {
			if err := tx.Create(r); err != nil {
				return err
			}
		}
		return tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: "user.import"})
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return ids
}

func (d *directory) nameOf(id string) (name string, emails []string, version int64) {
	d.t.Helper()
	r, err := d.store.Get(d.t.Context(), home, "User", id)
	if err != nil {
		d.t.Fatal(err)
	}
	var doc struct {
		UserName string
		Emails   []struct{ Value string }
	}
	if err := json.Unmarshal(r.Doc, &doc, json.MatchCaseInsensitiveNames(true)); err != nil {
		d.t.Fatal(err)
	}
	for _, e := range doc.Emails {
		emails = append(emails, e.Value)
	}
	return doc.UserName, emails, r.Version
}

// finish takes steps until a move ends.
func (d *directory) finish(k *domains.Keeper, id, owner string) *domains.Move {
	d.t.Helper()
	for more := true; more; {
		var err error
		if more, err = k.Step(d.t.Context(), home, id, owner); err != nil {
			d.t.Fatal(err)
		}
	}
	return d.move(id)
}

func (d *directory) move(id string) *domains.Move {
	d.t.Helper()
	m, err := d.keep.FindMove(d.t.Context(), home, id)
	if err != nil {
		d.t.Fatal(err)
	}
	return m
}

var errKilled = errors.New("the process has ended")

// dying is a store whose process ends after a number of writes: nothing reaches it then.
type dying struct {
	storage.Store
	left atomic.Int64
}

func (s *dying) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	if s.left.Add(-1) < 0 {
		return errKilled
	}
	return s.Store.Write(ctx, tenant, fn)
}

// TestMove moves many users, whose process ends in the middle of it and another one takes
// over, while an identity provider makes, changes and deletes users. Afterwards everybody
// is moved, each by one change, but those whose name is taken or whom the caller may not
// change.
func TestMove(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		n := 5000
		if _, ok := d.store.(*mongo.Store); ok {
			n = 600
		}
		if testing.Short() {
			n = max(n/5, 600) // more than a step before its end, and more than one after
		}
		ids := d.crowd(n, func(i int) string { return fmt.Sprint("User", i, "@Old.example") })
		d.prove(operator(home), "new.example")
		mover := d.admin("mover@other.example", auth.UserAdministrator)
		boss := d.admin("boss@old.example", auth.GlobalAdministrator)
		taken := d.user(home, "USER7@new.example")
		outside := d.user(home, "someone@sub.old.example")
		plan := domains.Plan{From: "OLD.example", To: "new.example", Emails: true}

		p, err := d.keep.Preview(t.Context(), mover, plan)
		if err != nil {
			t.Fatal(err)
		}
		if p.Total != n+1 || p.Administrators != 1 || p.Conflicted != 1 || len(p.Pairs) != 100 || len(p.Conflicts) != 1 ||
			p.Conflicts[0].TakenBy != taken || p.Conflicts[0].User != ids[7] || p.Conflicts[0].After != "User7@new.example" {
			t.Errorf("the preview: %d, %d administrators, %d conflicts %+v", p.Total, p.Administrators, p.Conflicted, p.Conflicts)
		}
		m, err := d.keep.Begin(t.Context(), mover, plan)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.keep.Begin(t.Context(), mover, plan); !errors.Is(err, domains.ErrMoving) {
			t.Errorf("a second move: %v", err)
		}

		// The provider goes on meanwhile.
		gone := ids[n/2]
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		idp := auth.Principal{Kind: auth.Operator, Tenant: home}
		users := d.set.Type("User")
		provider := d.keep.Provider
		changed := map[string]bool{}
		wg.Go(func() {
			for i := n - 1; i > 0 && ctx.Err() == nil; i -= 17 {
				if ids[i] == gone {
					continue
				}
				ops := []patch.Operation{{Op: patch.Replace, Path: "title", Value: fmt.Sprint("title ", i)}}
				if _, err := provider.Patch(t.Context(), idp, users, ids[i], scim.Precondition{}, ops); err != nil {
					t.Errorf("a change meanwhile: %v", err)
				}
				changed[ids[i]] = true
			}
		})
		if err := provider.Delete(t.Context(), idp, users, gone, scim.Precondition{}); err != nil {
			t.Fatal(err)
		}

		killed := &dying{Store: d.store}
		killed.left.Store(int64(n / 2))
		first := d.process(killed)
		for more := true; more && err == nil; {
			more, err = first.Step(t.Context(), home, m.ID, "first")
		}
		if !errors.Is(err, errKilled) {
			t.Fatalf("the first process: %v", err)
		}
		half := d.move(m.ID)
		if half.State != domains.Running || half.Moved == 0 || half.Moved >= n {
			t.Fatalf("after its end: %+v", half)
		}
		second := d.process(d.store)
		if more, err := second.Step(t.Context(), home, m.ID, "second"); more || err != nil || d.move(m.ID).Moved != half.Moved {
			t.Errorf("another process takes over at once: %t, %v", more, err)
		}
		d.advance(time.Minute + time.Second)
		last := d.finish(second, m.ID, "second")
		cancel()
		wg.Wait()
		if last.State != domains.Done || last.Finished.IsZero() || last.Skipped != 2 || last.Moved < half.Moved || last.Moved > n-2 || last.Moved < n-2-200 {
			t.Errorf("at the end: %+v", last)
		}
		want := map[string]string{ids[7]: domains.SkippedTaken, boss.ID: domains.SkippedDenied}
		for _, s := range last.Named {
			if want[s.User] != s.Why {
				t.Errorf("skipped: %+v", s)
			}
			delete(want, s.User)
		}
		if len(want) > 0 {
			t.Errorf("not skipped: %v", want)
		}
		for i, id := range ids {
			if id == gone || i == 7 {
				continue
			}
			name, emails, version := d.nameOf(id)
			private := fmt.Sprint("private", i, "@mail.example")
			if name != fmt.Sprint("User", i, "@new.example") || len(emails) != 2 || emails[0] != name || emails[1] != private {
				t.Fatalf("user %d is %s with %v", i, name, emails)
			}
			most := int64(2)
			if changed[id] {
				most = 3
			}
			if version > most {
				t.Fatalf("user %d has version %d: moved more than once", i, version)
			}
		}
		for id, name := range map[string]string{ids[7]: "User7@Old.example", boss.ID: "boss@old.example", outside: "someone@sub.old.example", taken: "USER7@new.example"} {
			if got, _, _ := d.nameOf(id); got != name {
				t.Errorf("%s has become %s", name, got)
			}
		}
		// Each has an entry of its own, in the name of whoever began the move.
		own := 0
		for _, line := range d.actions(home, "user.patch") {
			if len(line) > len(mover.ID)+5 && line[:5+len(mover.ID)] == "user:"+mover.ID {
				own++
			}
		}
		if own != n-2 {
			t.Errorf("%d changes in the name of the mover, want %d", own, n-2)
		}
	})
}

// TestMoveStates: a move is paused, goes on, and is cancelled; what it has moved stays.
func TestMoveStates(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		d.crowd(500, func(i int) string { return fmt.Sprint("u", i, "@old.example") })
		mover := d.admin("mover@other.example", auth.UserAdministrator)
		to := domains.Default(home)
		m, err := d.keep.Begin(t.Context(), mover, domains.Plan{From: "old.example", To: to})
		if err != nil {
			t.Fatal(err)
		}
		if more, err := d.keep.Step(t.Context(), home, m.ID, "one"); !more || err != nil {
			t.Fatal(more, err)
		}
		set := func(to domains.State) error {
			_, err := d.keep.SetState(t.Context(), mover, m.ID, to)
			return err
		}
		if err := set(domains.Running); !errors.Is(err, domains.ErrState) {
			t.Errorf("resumed while it runs: %v", err)
		}
		if err := set(domains.Paused); err != nil {
			t.Fatal(err)
		}
		if more, err := d.keep.Step(t.Context(), home, m.ID, "one"); more || err != nil || d.move(m.ID).Moved != 200 {
			t.Errorf("a step while it is paused: %t, %v, %+v", more, err, d.move(m.ID))
		}
		if err := set(domains.Running); err != nil {
			t.Fatal(err)
		}
		if _, err := d.keep.Step(t.Context(), home, m.ID, "one"); err != nil || d.move(m.ID).Moved != 400 {
			t.Errorf("a step afterwards: %v, %+v", err, d.move(m.ID))
		}
		if err := set(domains.Cancelled); err != nil {
			t.Fatal(err)
		}
		for _, to := range []domains.State{domains.Running, domains.Paused, domains.Cancelled} {
			if err := set(to); !errors.Is(err, domains.ErrState) {
				t.Errorf("%s after the end: %v", to, err)
			}
		}
		if last := d.finish(d.keep, m.ID, "one"); last.State != domains.Cancelled || last.Moved != 400 {
			t.Errorf("at the end: %+v", last)
		}
		if _, err := d.keep.Begin(t.Context(), mover, domains.Plan{From: "old.example", To: to}); err != nil {
			t.Errorf("another move: %v", err)
		}
	})
}

// TestMoveClockBack: a move whose process had a clock that was ahead, and is gone, goes on.
func TestMoveClockBack(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		d.crowd(300, func(i int) string { return fmt.Sprint("u", i, "@old.example") })
		m, err := d.keep.Begin(t.Context(), d.admin("mover@other.example", auth.UserAdministrator), domains.Plan{From: "old.example", To: domains.Default(home)})
		if err != nil {
			t.Fatal(err)
		}
		d.advance(48 * time.Hour)
		if more, err := d.keep.Step(t.Context(), home, m.ID, "one"); !more || err != nil {
			t.Fatal(more, err)
		}
		d.advance(-48 * time.Hour)
		if last := d.finish(d.process(d.store), m.ID, "two"); last.State != domains.Done || last.Moved != 300 {
			t.Errorf("at the end: %+v", last)
		}
	})
}

// TestMoveLosesItsRight: a move pauses when whoever began it may not change users any
// more, and goes on in the name of who resumes it.
func TestMoveLosesItsRight(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		d.crowd(300, func(i int) string { return fmt.Sprint("u", i, "@old.example") })
		mover, other := d.admin("mover@other.example", auth.UserAdministrator), d.admin("other@other.example", auth.UserAdministrator)
		m, err := d.keep.Begin(t.Context(), mover, domains.Plan{From: "old.example", To: domains.Default(home)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.keep.Step(t.Context(), home, m.ID, "one"); err != nil {
			t.Fatal(err)
		}
		block := []patch.Operation{{Op: patch.Replace, Path: "active", Value: false}}
		if _, err := d.keep.Provider.Patch(t.Context(), operator(home), d.set.Type("User"), mover.ID, scim.Precondition{}, block); err != nil {
			t.Fatal(err)
		}
		if last := d.finish(d.keep, m.ID, "one"); last.State != domains.Paused || last.Reason != domains.PausedDenied || last.Moved != 200 {
			t.Errorf("when the mover is blocked: %+v", last)
		}
		reader := d.admin("reader@other.example", auth.ReportsReader)
		if _, err := d.keep.SetState(t.Context(), reader, m.ID, domains.Running); !errors.Is(err, auth.ErrNotPermitted) {
			t.Errorf("resumed by who may not: %v", err)
		}
		if _, err := d.keep.SetState(t.Context(), other, m.ID, domains.Running); err != nil {
			t.Fatal(err)
		}
		if last := d.finish(d.keep, m.ID, "one"); last.State != domains.Done || last.By != other.ID || last.Moved != 300 {
			t.Errorf("at the end: %+v", last)
		}
	})
}

// TestMoverWithoutActive: who is not said to be blocked is not, and their move goes on.
func TestMoverWithoutActive(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		d.crowd(3, func(i int) string { return fmt.Sprint("u", i, "@old.example") })
		mover := d.admin("mover@other.example", auth.UserAdministrator)
		unsaid := []patch.Operation{{Op: patch.Remove, Path: "active"}}
		if _, err := d.keep.Provider.Patch(t.Context(), operator(home), d.set.Type("User"), mover.ID, scim.Precondition{}, unsaid); err != nil {
			t.Fatal(err)
		}
		m, err := d.keep.Begin(t.Context(), mover, domains.Plan{From: "old.example", To: domains.Default(home)})
		if err != nil {
			t.Fatal(err)
		}
		if last := d.finish(d.keep, m.ID, "one"); last.State != domains.Done || last.Moved != 3 {
			t.Errorf("at the end: %+v", last)
		}
	})
}

// TestPlans: what cannot be planned.
func TestPlans(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		mover := d.admin("mover@other.example", auth.UserAdministrator)
		d.add(mover, "unproven.example")
		for _, c := range []struct {
			plan domains.Plan
			want error
		}{
			{domains.Plan{From: "old.example", To: "unproven.example"}, domains.ErrUnproven},
			{domains.Plan{From: "old.example", To: "absent.example"}, domains.ErrUnproven},
			{domains.Plan{From: "old.example", To: domains.Default("acme")}, nil},
			{domains.Plan{From: "old.example", To: "OLD.example"}, nil},
			{domains.Plan{From: "com", To: domains.Default(home)}, nil},
			{domains.Plan{From: "", To: domains.Default(home)}, nil},
		} {
			for name, try := range map[string]func() error{
				"Preview": func() error { _, err := d.keep.Preview(t.Context(), mover, c.plan); return err },
				"Begin":   func() error { _, err := d.keep.Begin(t.Context(), mover, c.plan); return err },
			} {
				err := try()
				if _, invalid := errors.AsType[*auth.InvalidError](err); c.want != nil && !errors.Is(err, c.want) || c.want == nil && !invalid {
					t.Errorf("%s %+v: %v", name, c.plan, err)
				}
			}
		}
		for range 20 { // the first that is wrong is named, always
			_, err := d.keep.Preview(t.Context(), mover, domains.Plan{From: "com", To: "com"})
			if e, ok := errors.AsType[*auth.InvalidError](err); !ok || e.Member != "from" {
				t.Fatalf("both wrong: %v", err)
			}
		}
		reader := d.admin("reader@other.example", auth.ReportsReader)
		if _, err := d.keep.Begin(t.Context(), reader, domains.Plan{From: "old.example", To: domains.Default(home)}); !errors.Is(err, auth.ErrNotPermitted) {
			t.Errorf("by who may not: %v", err)
		}
	})
}

// ending is a store that tells of its writes.
type ending struct {
	storage.Store
	wrote func()
}

func (s *ending) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	err := s.Store.Write(ctx, tenant, fn)
	s.wrote()
	return err
}

// TestEndInAStep: who was moved when the process was told to end is counted.
func TestEndInAStep(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		d.crowd(20, func(i int) string { return fmt.Sprint("u", i, "@old.example") })
		mover := d.admin("mover@other.example", auth.UserAdministrator)
		m, err := d.keep.Begin(t.Context(), mover, domains.Plan{From: "old.example", To: domains.Default(home)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		writes := 0
		first := d.process(&ending{d.store, func() {
			if writes++; writes == 4 { // the lease and three users
				end()
			}
		}})
		if _, err := first.Step(ctx, home, m.ID, "first"); err == nil {
			t.Error("the process has ended, and nothing has failed")
		}
		if m := d.move(m.ID); m.Moved != 3 {
			t.Errorf("%d users are counted, want 3", m.Moved)
		}
		if m := d.finish(first, m.ID, "first"); m.Moved != 20 {
			t.Errorf("%d users are counted in the end, want 20", m.Moved)
		}
	})
}

// TestRun: a process makes a move by itself.
func TestRun(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		d.crowd(250, func(i int) string { return fmt.Sprint("u", i, "@old.example") })
		mover := d.admin("mover@other.example", auth.UserAdministrator)
		m, err := d.keep.Begin(t.Context(), mover, domains.Plan{From: "old.example", To: domains.Default(home)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		for _, k := range []*domains.Keeper{d.keep, d.process(d.store)} {
			go func() { ended <- k.Run(ctx) }()
		}
		for d.move(m.ID).State != domains.Done {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if last := d.move(m.ID); last.Moved != 250 {
			t.Errorf("at the end: %+v", last)
		}
	})
}
