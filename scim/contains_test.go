package scim_test

import (
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// effective returns the values of the roles that somebody has, sorted.
func (w *world) effective(name string) []string {
	w.t.Helper()
	roles, err := auth.EffectiveRoles(w.t.Context(), w.store, storage.DefaultTenant, w.ids[name], w.now())
	if err != nil {
		w.t.Fatal(err)
	}
	values := []string{}
	for _, r := range roles {
		values = append(values, r.Value)
	}
	slices.Sort(values)
	return values
}

// TestContains: whoever holds a role, directly or by a group, has the business roles that
// it contains at any depth, and no administrative one, whoever asks for that and however
// it came about.
func TestContains(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			holds := func(who string, want ...string) {
				t.Helper()
				if diff := cmp.Diff(want, w.effective(who)); diff != "" {
					t.Errorf("%s has (-want +got):\n%s", who, diff)
				}
			}
			w.create("bosun", "Role", `{"value":"bosun","contains":["deckhand"]}`)
			w.create("mate", "Role", `{"value":"mate","contains":["bosun","cook"]}`)
			w.create("quay", "Role", `{"value":"quay","contains":["mate"],"`+schemas.RosterRoleURI+`":{"kind":"administrative","permissions":["groups.read"]}}`)
			w.assign("eve is mate", w.ids["mate"], "eve", "")
			holds("eve", "bosun", "cook", "deckhand", "mate")
			if p := w.session("eve"); p.Permissions != 0 {
				t.Errorf("business roles permit %v", p.Permissions.Strings())
			}
			w.assign("bob is quay", w.ids["quay"], "bob", "")
			holds("bob", "bosun", "cook", "deckhand", "mate", "quay")
			if p := w.session("bob"); !slices.Equal(p.Permissions.Strings(), []string{"groups.read"}) {
				t.Errorf("bob may %v", p.Permissions.Strings())
			}
			w.assign("crew is bosun", w.ids["bosun"], "crew", "")
			holds("adam", "bosun", "deckhand", "user-administrator")

			// Only who may give a role may put it into another, and who may not change
			// the other cannot either.
			put := func(by auth.Principal, role, inside string) int {
				return status(w.patch(by, "Role", w.ids[role], `{"op":"add","path":"contains","value":["`+inside+`"]}`))
			}
			for _, c := range []struct {
				what   string
				by     auth.Principal
				role   string
				inside string
				want   int
			}{
				{"a client, what its token does not name", hr(t), "deckhand", w.ids["cook"], 403},
				{"a client, what its token names, into an administrative role", hr(t), "quay", w.ids["deckhand"], 403},
				{"a client that names nothing", hrWithout(t), "cook", w.ids["deckhand"], 403},
				{"a User Administrator", w.session("uma"), "cook", w.ids["deckhand"], 403},
				{"a client, Global Administrator", hr(t), "cook", "global-administrator", 400},
				{"a client, a custom administrative role that its token names", hr(t), "cook", w.ids["harbour"], 400},
				{"a Global Administrator, an administrative role", w.session("gus"), "cook", auth.Auditor, 400},
				{"the operator, an administrative role", operator(), "harbour", w.ids["quay"], 400},
				{"the operator, a circle", operator(), "deckhand", "mate", 400},
				{"the operator, itself", operator(), "deckhand", "deckhand", 400},
				{"a client, what its token names", hr(t), "cook", w.ids["deckhand"], 200},
				{"a Global Administrator", w.session("gus"), "harbour", "cook", 200},
			} {
				if got := put(c.by, c.role, c.inside); got != c.want {
					t.Errorf("%s: %d, want %d", c.what, got, c.want)
				}
			}
			if got := status(w.remove(operator(), "Role", w.ids["deckhand"])); got != 409 {
				t.Errorf("a role that others contain is deleted: %d", got)
			}
			if err := w.patch(operator(), "Role", w.ids["mate"], `{"op":"replace","path":"contains","value":["cook"]}`); err != nil {
				t.Fatal(err)
			}
			holds("eve", "cook", "deckhand", "mate")

			// A store that was written past the provider, with a circle besides.
			err := w.store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
				r, err := auth.ReadRole(tx, w.ids["deckhand"])
				if err != nil {
					return err
				}
				r.Contains = []string{auth.GlobalAdministrator, w.ids["harbour"], w.ids["mate"]}
				if err := auth.PutRole(tx, r); err != nil {
					return err
				}
				return tx.Audit(storage.AuditEntry{At: w.now(), Actor: "operator", Action: "role.patch", Type: "Role", ID: r.ID})
			})
			if err != nil {
				t.Fatal(err)
			}
			holds("eve", "cook", "deckhand", "mate")
			if p := w.session("eve"); p.Permissions != 0 {
				t.Errorf("by a damaged store, eve may %v", p.Permissions.Strings())
			}
		})
	}
}

// TestContainsAtOnce: of two writes that would make a circle together, one is refused.
func TestContainsAtOnce(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			for range 10 {
				var g errgroup.Group
				var got [2]int
				for i, pair := range [][2]string{{"cook", "deckhand"}, {"deckhand", "cook"}} {
					g.Go(func() error {
						got[i] = status(w.patch(operator(), "Role", w.ids[pair[0]], `{"op":"add","path":"contains","value":["`+pair[1]+`"]}`))
						return nil
					})
				}
				_ = g.Wait()
				if slices.Sort(got[:]); got != [2]int{200, 400} {
					t.Errorf("statuses %v", got)
				}
				for _, r := range []string{"cook", "deckhand"} {
					if err := w.patch(operator(), "Role", w.ids[r], `{"op":"remove","path":"contains"}`); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}
