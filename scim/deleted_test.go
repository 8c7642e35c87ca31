package scim_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/dump"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// held are the values of the roles that somebody has or could make active.
func (w *world) held(name string) (values []string) {
	w.t.Helper()
	list, err := auth.Holdings{Store: w.store, Now: w.now}.OfUser(w.t.Context(), storage.DefaultTenant, w.ids[name])
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range list {
		r, err := auth.FindRole(w.t.Context(), w.store, storage.DefaultTenant, h.Role)
		if err != nil {
			w.t.Fatal(err)
		}
		values = append(values, r.Value)
	}
	slices.Sort(values)
	return values
}

func (w *world) restore(by auth.Principal, typ, name string, how scim.Restoration) error {
	_, err := w.p.Restore(w.t.Context(), by, w.typ(typ), w.ids[name], how)
	return err
}

// TestRestoredElsewhere: a dump carries what restoring needs, from either kind of store
// to the other.
func TestRestoredElsewhere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		from, to func(testing.TB) storage.Store
	}{{"from SQLite to MongoDB", sqliteStore, mongoStore}, {"from MongoDB to SQLite", mongoStore, sqliteStore}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.from(t))
			w.assign("adam is cook", w.ids["cook"], "adam", "")
			before := map[string][]string{}
			for _, name := range []string{"adam", "eli", "gia"} {
				before[name] = w.held(name)
				if err := w.remove(operator(), "User", w.ids[name]); err != nil {
					t.Fatal(err)
				}
			}
			if len(before["adam"]) != 2 {
				t.Fatalf("adam holds %q", before["adam"])
			}
			var b bytes.Buffer
			if _, err := (&dump.Writer{Store: w.store, Schemas: w.p.Schemas, Now: w.now()}).Write(t.Context(), storage.DefaultTenant, &b); err != nil {
				t.Fatal(err)
			}
			to := c.to(t)
			if _, err := (&dump.Loader{Store: to, Schemas: w.p.Schemas, Now: time.Now}).Load(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			there := &world{t: t, store: to, ids: w.ids, now: w.now}
			there.p = &scim.Provider{Store: to, Schemas: w.p.Schemas, Hasher: w.p.Hasher, Now: w.now}
			page, err := there.p.ListDeleted(t.Context(), operator(), w.typ("User"), scim.DeletedQuery{Limit: 10})
			if err != nil || page.Total != 3 || len(page.Deleted) != 3 || page.Deleted[0].By != "operator" {
				t.Fatalf("listed: %+v, %v", page, err)
			}
			for name, want := range before {
				if err := there.restore(operator(), "User", name, scim.Restoration{}); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if diff := cmp.Diff(want, there.held(name)); diff != "" {
					t.Errorf("%s (-before +after):\n%s", name, diff)
				}
			}
			c, err := auth.FindCredential(t.Context(), to, storage.DefaultTenant, w.ids["gia"])
			if err != nil || c.PasswordHash == "" || c.TOTP == nil {
				t.Errorf("the credential of gia: %+v, %v", c, err)
			}
		})
	}
}

// TestNoClientRestores: what is deleted is for people and operators; no scope reaches it.
func TestNoClientRestores(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteStore(t))
	if err := w.remove(operator(), "User", w.ids["eve"]); err != nil {
		t.Fatal(err)
	}
	low, none := w.session("gus"), w.session("gus")
	low.Level, none.Tenant = auth.Password, ""
	for _, by := range []auth.Principal{hr(t), {}, low, none, w.session("bob")} {
		_, list := w.p.ListDeleted(t.Context(), by, w.typ("User"), scim.DeletedQuery{Limit: 1})
		_, one := w.p.GetDeleted(t.Context(), by, w.typ("User"), w.ids["eve"])
		restored := w.restore(by, "User", "eve", scim.Restoration{})
		purged := w.p.Purge(t.Context(), by, w.typ("User"), w.ids["eve"])
		for i, err := range []error{list, one, restored, purged} {
			if !errors.Is(err, scim.ErrForbidden) {
				t.Errorf("%s, %d: %v, want ErrForbidden", by.Actor(), i, err)
			}
		}
	}
	// Nor is what is deleted with others anybody's to restore by itself.
	gus := w.session("gus")
	if err := w.remove(operator(), "RoleAssignment", w.ids["deck is deckhand"]); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{w.restore(gus, "RoleAssignment", "deck is deckhand", scim.Restoration{}), w.p.Purge(t.Context(), gus, w.typ("RoleAssignment"), w.ids["deck is deckhand"])} {
		if !errors.Is(err, scim.ErrForbidden) {
			t.Errorf("an assignment: %v, want ErrForbidden", err)
		}
	}
	if err := w.restore(gus, "User", "eve", scim.Restoration{}); err != nil {
		t.Error(err)
	}
}

// TestChangedMeanwhile: what comes back is what there is by then: roles and groups that
// have gone do not, and a group means what it means now.
func TestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			now := time.Now()
			w.now = func() time.Time { return now }
			w.assign("bob is cook", w.ids["cook"], "bob", "")
			w.assign("bob is deckhand", w.ids["deckhand"], "bob", `,"endDate":"`+now.Add(time.Hour).UTC().Format(time.RFC3339)+`"`)
			bob, uma := w.ids["bob"], w.session("uma")
			for _, err := range []error{
				w.remove(operator(), "User", bob), w.remove(operator(), "Role", w.ids["cook"]), w.remove(operator(), "Group", w.ids["shore"]),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			w.assign("crew is harbour", w.ids["harbour"], "crew", "")
			now = now.Add(2 * time.Hour)
			uma.PasscodeAt = now
			d, err := w.p.GetDeleted(t.Context(), uma, w.typ("User"), bob)
			if err != nil {
				t.Fatal(err)
			}
			var roles []string
			for _, r := range d.Roles {
				roles = append(roles, r.Role.Value+" by "+r.Group)
			}
			if diff := cmp.Diff([]string{"harbour by " + w.ids["crew"]}, roles); diff != "" || len(d.Groups) != 1 {
				t.Errorf("would come back, in %v (-want +got):\n%s", d.Groups, diff)
			}
			err = w.restore(uma, "User", "bob", scim.Restoration{})
			if e, ok := errors.AsType[*scim.ReturningRoleError](err); !ok || e.Role.Value != "harbour" || e.Group != w.ids["crew"] || status(err) != 403 {
				t.Errorf("restored by uma: %v", err)
			}
			if err := w.restore(operator(), "User", "bob", scim.Restoration{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"harbour"}, w.held("bob"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("holds (-want +got):\n%s", diff)
			}
			if s := status(w.remove(uma, "User", bob)); s != 403 {
				t.Errorf("deleted by uma: %d", s)
			}
		})
	}
}

// TestRestoreAtOnce: of many who restore, purge, and create at once, one restores or one
// purges, and a name is one user's.
func TestRestoreAtOnce(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			for round := range 5 {
				name := fmt.Sprint("ida", round)
				w.create(name, "User", `{"userName":"`+name+`"}`)
				w.assign(name+" is cook", w.ids["cook"], name, "")
				if err := w.remove(operator(), "User", w.ids[name]); err != nil {
					t.Fatal(err)
				}
				var mu sync.Mutex
				outcomes := map[string]int{}
				var all sync.WaitGroup
				for i := range 12 {
					all.Go(func() {
						what, err := "restore", error(nil)
						switch i % 3 {
						case 0:
							err = w.restore(operator(), "User", name, scim.Restoration{})
						case 1:
							what = "purge"
							err = w.p.Purge(t.Context(), operator(), w.typ("User"), w.ids[name])
						case 2:
							what = "create"
							_, err = w.post(operator(), "User", `{"userName":"`+strings.ToUpper(name)+`"}`)
						}
						s := status(err)
						if s != 200 && s != 404 && s != 409 {
							t.Errorf("%s: %d %v", what, s, err)
						}
						mu.Lock()
						defer mu.Unlock()
						if s == 200 {
							outcomes[what]++
						}
					})
				}
				all.Wait()
				if outcomes["restore"]+outcomes["purge"] > 1 || outcomes["restore"]+outcomes["create"] != 1 {
					t.Errorf("round %d: %v", round, outcomes)
				}
				grants, err := w.store.Items(t.Context(), storage.DefaultTenant, "grant", "principal/"+w.ids[name])
				if err != nil || len(grants) != outcomes["restore"] {
					t.Errorf("round %d: %v, and %d grants, %v", round, outcomes, len(grants), err)
				}
			}
		})
	}
}

// TestLongSearch: a search among very many looks at some of them at a time, and finds all
// in the end.
func TestLongSearch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteStore(t))
	now := time.Now().UTC().Truncate(time.Millisecond)
	err := w.store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		user := w.typ("User")
		for i := range 2500 {
			id := fmt.Sprintf("01a20000-0000-7000-8000-%012d", i)
			attrs := map[string]any{"id": id, "userName": fmt.Sprintf("u%d", i)}
			r := &storage.Resource{Type: user.Name, ID: id, Version: 1, Created: now, LastModified: now, Name: "u", Doc: user.Document(attrs),
				Index: w.store.NewIndex(storage.DefaultTenant, user, attrs)}
			if err := errors.Join(tx.Create(r), tx.Delete(r, now)); err != nil {
				return err
			}
		}
		return tx.Audit(storage.AuditEntry{At: now, Actor: "operator", Action: "test"})
	})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	pages := 0
	for q := (scim.DeletedQuery{Name: "U77", Limit: 4}); ; pages++ {
		page, err := w.p.ListDeleted(t.Context(), operator(), w.typ("User"), q)
		if err != nil || page.Total != 2500 || len(page.Deleted) > 4 {
			t.Fatalf("%+v, %v", page, err)
		}
		for _, d := range page.Deleted {
			found = append(found, d.UserName)
		}
		if q.After = page.Next; page.Next.At.IsZero() {
			break
		}
	}
	want := []string{"u779", "u778", "u777", "u776", "u775", "u774", "u773", "u772", "u771", "u770", "u77"}
	if diff := cmp.Diff(want, found); diff != "" || pages != 3 {
		t.Errorf("after %d more pages (-want +got):\n%s", pages, diff)
	}
}
