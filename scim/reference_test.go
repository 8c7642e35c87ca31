package scim_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// withManager is the body of a user with a manager.
func withManager(name, manager string) string {
	return fmt.Sprintf(`{"userName":%q,%q:{"department":"Yard","manager":{"value":%q}}}`, name, schemas.EnterpriseUserURI, manager)
}

// manager is the manager of a user as it is stored.
func (w *invitations) manager(id string) string {
	w.t.Helper()
	ext, _ := w.attrs("User", id)[schemas.EnterpriseUserURI].(map[string]any)
	m, _ := ext["manager"].(map[string]any)
	value, _ := m["value"].(string)
	return value
}

// TestManagerOfAnInvitee: whom an invitation names as manager has to be there when it is
// sent, and is left out when they are gone by the time it is accepted.
func TestManagerOfAnInvitee(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		more := func(manager string) string {
			return fmt.Sprintf(`,%q:{"manager":{"value":%q}}`, schemas.EnterpriseUserURI, manager)
		}
		_, _, err := w.p.Invite(t.Context(), w.session("gus"), body(`{"email":"ada@out.example"`+more(w.ids["crew"])+`}`))
		if status(err) != 400 || !strings.Contains(err.Error(), "manager.value") || strings.Contains(err.Error(), w.ids["crew"]) {
			t.Errorf("a group as the manager: %v", err)
		}
		_, kept := w.invite(w.session("gus"), "ada@out.example", more(w.ids["eve"]))
		_, gone := w.invite(w.session("gus"), "ben@out.example", more(w.ids["bob"]))
		if err := w.remove(operator(), "User", w.ids["bob"]); err != nil {
			t.Fatal(err)
		}
		ada, err := w.accept(kept, "ada")
		if err != nil {
			t.Fatal(err)
		}
		ben, err := w.accept(gone, "ben")
		if err != nil {
			t.Fatal(err)
		}
		if got := w.manager(ada.ID); got != w.ids["eve"] {
			t.Errorf("the manager of ada is %q, want eve", got)
		}
		if got := w.attrs("User", ben.ID); got[schemas.EnterpriseUserURI] != nil || len(got["schemas"].([]any)) != 1 {
			t.Errorf("ben is %v", got)
		}
	})
}

// TestReports: whoever is deleted stops being a manager in the same write, and is one
// again when they are restored, of those who have had none since.
func TestReports(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		for _, name := range []string{"ann", "ben", "cat", "dee", "own"} {
			manager := "bob"
			if name == "cat" {
				manager = "eve"
			}
			w.create(name, "User", withManager(name, w.ids[manager]))
		}
		check := func(when string, want map[string]string) {
			t.Helper()
			for name, manager := range want {
				if got := w.manager(w.ids[name]); got != w.ids[manager] {
					t.Errorf("%s the manager of %s is %q, want that of %s", when, name, got, manager)
				}
			}
		}
		remove := func(name string) {
			t.Helper()
			if err := w.remove(hr(t), "User", w.ids[name]); err != nil {
				t.Fatal(err)
			}
		}
		restore := func(name string) {
			t.Helper()
			if err := w.restore(w.session("gus"), "User", name, scim.Restoration{}); err != nil {
				t.Fatal(err)
			}
		}
		remove("dee")
		remove("bob")
		check("after the deletion", map[string]string{"ann": "", "ben": "", "cat": "eve"})
		if got := w.attrs("User", w.ids["ann"])[schemas.EnterpriseUserURI].(map[string]any)["department"]; got != "Yard" {
			t.Errorf("the department of ann is %v", got)
		}
		last := w.entriesOf(w.ids["ann"])
		if e := last[len(last)-1]; e.Action != "user.patch" || e.Version != 2 || e.Actor != "client:hr" || !slices.Equal(e.Attributes, []string{schemas.EnterpriseUserURI + ":manager"}) ||
			len(e.Changes) != 1 || !strings.Contains(string(e.Changes[0].Before), w.ids["bob"]) || e.Changes[0].After != nil {
			t.Errorf("the audit entry is %+v", e)
		}
		if err := w.put(operator(), "User", w.ids["ben"], withManager("ben", w.ids["eve"])); err != nil {
			t.Fatal(err)
		}
		if err := w.put(operator(), "User", w.ids["own"], `{"userName":"own"}`); err != nil {
			t.Fatal(err)
		}
		restore("dee")
		check("while bob is deleted", map[string]string{"dee": ""})
		restore("bob")
		check("after the restoration", map[string]string{"ann": "bob", "ben": "eve", "cat": "eve", "dee": "bob", "own": "bob"})
		last = w.entriesOf(w.ids["ann"])
		if e := last[len(last)-1]; e.Action != "user.patch" || e.Version != 3 || e.Actor != "user:"+w.ids["gus"] {
			t.Errorf("the audit entry is %+v", e)
		}
	})
}

// TestManyReports: those beyond scim.MaxReports have no manager either.
func TestManyReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteStore(t))
	var g errgroup.Group
	g.SetLimit(64)
	for n := range scim.MaxReports + 5 {
		g.Go(func() error {
			_, err := w.post(operator(), "User", withManager(fmt.Sprint("hand", n), w.ids["bob"]))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	of := w.typ("User").Lookup(schemas.EnterpriseUserURI + ":manager.value")
	count := func() int {
		t.Helper()
		page, err := w.store.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: "User", StartIndex: 1,
			Filter: filter.Compare{Attr: of, Op: filter.Equal, Value: w.ids["bob"], Text: w.ids["bob"]}})
		if err != nil {
			t.Fatal(err)
		}
		return page.TotalResults
	}
	if err := w.remove(operator(), "User", w.ids["bob"]); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Errorf("%d users have a manager who is deleted", n)
	}
	if err := w.restore(operator(), "User", "bob", scim.Restoration{}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != scim.MaxReports {
		t.Errorf("%d users have the manager back, want %d", n, scim.MaxReports)
	}
}

// TestManagerRace: of a user who gets a manager and the manager's deletion one comes
// first, and the other one knows it.
func TestManagerRace(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		for round := range 20 {
			boss := fmt.Sprint("boss", round)
			w.create(boss, "User", `{"userName":"`+boss+`"}`)
			var wg sync.WaitGroup
			var created string
			var failed, removed error
			wg.Go(func() {
				created, failed = w.post(operator(), "User", withManager(fmt.Sprint("hand", round), w.ids[boss]))
			})
			wg.Go(func() { removed = w.remove(operator(), "User", w.ids[boss]) })
			wg.Wait()
			if removed != nil || failed != nil && status(failed) != 400 {
				t.Fatal(failed, removed)
			}
			if failed != nil {
				continue
			}
			if got := w.manager(created); got != "" {
				t.Errorf("round %d: the manager is %q, who is deleted", round, got)
			}
		}
	})
}

// entriesOf is what the audit trail has of a resource.
func (w *world) entriesOf(id string) (list []storage.AuditEntry) {
	w.t.Helper()
	all, err := w.store.AuditEntries(w.t.Context(), storage.DefaultTenant, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range all {
		if e.ID == id {
			list = append(list, e)
		}
	}
	return list
}

// TestReportsKeepWhatTheTenantAdds: what an extension of the tenant's own says of users is
// theirs when their manager goes and comes back.
func TestReportsKeepWhatTheTenantAdds(t *testing.T) {
	s := testserver.Start(t, testserver.Options{})
	p := newProcess(t, s)
	if err := p.Define(t.Context(), operator(), tagged(schemas.AttributeDefinition{Name: "colour"})); err != nil {
		t.Fatal(err)
	}
	boss, err := p.create("boss", nil)
	if err != nil {
		t.Fatal(err)
	}
	hand, err := p.Create(t.Context(), operator(), p.user(), map[string]any{"userName": "hand", tagURN: map[string]any{"colour": "red"},
		schemas.EnterpriseUserURI: map[string]any{"manager": map[string]any{"value": boss.ID}}})
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string, manager bool) {
		t.Helper()
		r, err := p.Get(t.Context(), operator(), p.user(), hand.ID)
		if err != nil || !strings.Contains(string(r.Doc), `"colour":"red"`) || strings.Contains(string(r.Doc), boss.ID) != manager {
			t.Errorf("%s: %s, %v", when, r.Doc, err)
		}
		if n, err := p.count(tagURN + `:colour eq "red"`); n != 1 || err != nil {
			t.Errorf("%s %d users are red, %v", when, n, err)
		}
	}
	check("at first", true)
	if err := p.Delete(t.Context(), operator(), p.Schemas.Type("User"), boss.ID, scim.Precondition{}); err != nil {
		t.Fatal(err)
	}
	check("without a manager", false)
	if _, err := p.Restore(t.Context(), operator(), p.Schemas.Type("User"), boss.ID, scim.Restoration{}); err != nil {
		t.Fatal(err)
	}
	check("with the manager", true)
}
