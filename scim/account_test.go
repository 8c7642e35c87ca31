package scim_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// account is one with groups and roles of the world by name.
func (w *world) account(name string, groups, roles []string) scim.Account {
	a := scim.Account{User: body(`{"schemas":["` + schemas.UserURI + `"],"userName":"` + name + `"}`)}
	for _, g := range groups {
		a.Groups = append(a.Groups, w.id(g))
	}
	for _, r := range roles {
		a.Roles = append(a.Roles, scim.AccountRole{Role: w.id(r)})
	}
	return a
}

// id is that of a name, or the name itself.
func (w *world) id(name string) string {
	if id, ok := w.ids[name]; ok {
		return id
	}
	return name
}

// trail are the actions in the audit trail after a number, with their types and ids.
func (w *world) trail(after int64) (list []string, last int64) {
	w.t.Helper()
	entries, err := w.store.Events(w.t.Context(), storage.DefaultTenant, after, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	last = after
	for _, e := range entries {
		list, last = append(list, e.Action), e.Seq
	}
	return list, last
}

func TestCreateAccount(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			ctx := t.Context()
			_, before := w.trail(0)
			start := w.now().Add(time.Hour).UTC().Truncate(time.Millisecond)
			a := w.account("ivy", []string{"shore", "deck"}, []string{"cook"})
			a.Roles = append(a.Roles, scim.AccountRole{Role: auth.UserAdministrator, Eligible: true, Approval: true, Start: start, End: start.Add(time.Hour), Reason: "holidays"})
			a.Write = func(tx storage.Tx, user *storage.Resource, now time.Time) error {
				c := &auth.Credential{}
				c.SetPassword("hash", now)
				return auth.SaveCredential(tx, user.ID, c)
			}
			user, err := w.p.CreateAccount(ctx, w.session("gus"), a)
			if err != nil {
				t.Fatal(err)
			}
			actions, _ := w.trail(before)
			if diff := cmp.Diff([]string{"user.create", "group.patch", "group.patch", "roleassignment.create", "roleassignment.create"}, actions); diff != "" {
				t.Errorf("the audit trail (-want +got):\n%s", diff)
			}
			groups, err := w.store.Groups(ctx, storage.DefaultTenant, user.ID)
			if err != nil {
				t.Fatal(err)
			}
			names := map[string]bool{}
			for _, g := range groups[user.ID] {
				names[g.Display] = g.Direct
			}
			if diff := cmp.Diff(map[string]bool{"shore": true, "deck": true}, names); diff != "" || !user.InGroups {
				t.Errorf("its groups (-want +got):\n%s", diff)
			}
			page, err := w.p.Query(ctx, operator(), w.typ("RoleAssignment"), storage.Query{Type: "RoleAssignment", StartIndex: 1, Count: 100})
			if err != nil {
				t.Fatal(err)
			}
			var docs string
			for part, err := page.Next(ctx); len(part) > 0; part, err = page.Next(ctx) {
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range part {
					if strings.Contains(string(r.Doc), user.ID) {
						docs += string(r.Doc)
					}
				}
			}
			for _, want := range []string{`"holidays"`, `"eligible"`, `"approvalRequired":true`, start.Format(time.RFC3339Nano), `"assignedBy":"user:` + w.ids["gus"] + `"`, w.ids["cook"]} {
				if !strings.Contains(docs, want) {
					t.Errorf("the assignments are %s, without %s", docs, want)
				}
			}
			roles, err := auth.EffectiveRoles(ctx, w.store, storage.DefaultTenant, user.ID, w.now())
			if err != nil {
				t.Fatal(err)
			}
			var held []string
			for _, r := range roles {
				held = append(held, r.Value)
			}
			if got := strings.Join(held, " "); got != "cook deckhand" && got != "deckhand cook" {
				t.Errorf("its roles are %s", got)
			}
			if c, err := auth.FindCredential(ctx, w.store, storage.DefaultTenant, user.ID); err != nil || c.PasswordHash != "hash" {
				t.Errorf("its credential: %+v, %v", c, err)
			}
		})
	}
}

// What cannot be made whole leaves nothing behind, and says what was wrong.
func TestCreateAccountNothing(t *testing.T) {
	later := time.Now().Add(time.Hour)
	broken := errors.New("broken")
	many := strings.Fields(strings.Repeat("x ", scim.MaxAccountGroups+1))
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			table := []struct {
				name   string
				change func(*scim.Account)
				want   string
			}{
				{"an unknown group", func(a *scim.Account) { a.Groups = []string{w.ids["shore"], w.ids["crew"], w.ids["bob"]} }, "groups[2]: no group has this id"},
				{"what is no id", func(a *scim.Account) { a.Groups = []string{"x"} }, "groups[0]: no group has this id"},
				{"a group twice", func(a *scim.Account) { a.Groups = []string{w.ids["shore"], w.ids["shore"]} }, "groups[1]: is there twice"},
				{"too many groups", func(a *scim.Account) { a.Groups = many }, "groups: expected at most 100"},
				{"too many roles", func(a *scim.Account) { a.Roles = make([]scim.AccountRole, scim.MaxAccountRoles+1) }, "roles: expected at most 100"},
				{"an unknown role", func(a *scim.Account) { a.Roles = []scim.AccountRole{{Role: w.ids["bob"]}} }, "roles[0].value: no role has this id"},
				{"no role", func(a *scim.Account) { a.Roles = []scim.AccountRole{{Role: w.ids["cook"]}, {}} }, "roles[1].value: is required"},
				{"a role twice", func(a *scim.Account) {
					a.Roles = []scim.AccountRole{{Role: w.ids["cook"]}, {Role: w.ids["cook"], End: later}}
				},
					"roles[1]: the principal is given this role for this time already"},
				{"a role that ends before", func(a *scim.Account) {
					a.Roles = []scim.AccountRole{{Role: w.ids["cook"], Start: later, End: later.Add(-time.Minute)}}
				},
					"roles[0].endDate: is before the role begins to be held"},
				{"approval of nothing", func(a *scim.Account) { a.Roles = []scim.AccountRole{{Role: w.ids["cook"], Approval: true}} }, "roles[0].approvalRequired: only an eligible role is made active"},
				{"a taken name", func(a *scim.Account) { a.User = body(`{"schemas":["` + schemas.UserURI + `"],"userName":"Bob"}`) }, "userName is already in use"},
				{"no name", func(a *scim.Account) { a.User = body(`{"schemas":["` + schemas.UserURI + `"]}`) }, "userName: is required"},
				{"a write that fails", func(a *scim.Account) {
					a.Write = func(storage.Tx, *storage.Resource, time.Time) error { return broken }
				}, "internal error"},
			}
			for _, c := range table {
				a := w.account("ivy", []string{"shore"}, []string{"cook"})
				c.change(&a)
				before := everything(t, w.store)
				_, err := w.p.CreateAccount(t.Context(), w.session("gus"), a)
				if err == nil || scim.ErrorFor(err).Detail != c.want {
					t.Errorf("%s: %v, want %s", c.name, err, c.want)
				}
				if diff := cmp.Diff(before, everything(t, w.store)); diff != "" {
					t.Errorf("%s: something was left behind:\n%s", c.name, diff)
				}
			}
		})
	}
}

// An account takes what its parts would take one after the other, whoever asks.
func TestCreateAccountLikeItsParts(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			w.create("privy", "User", `{"userName":"privy"}`)
			w.assign("privy is PRA", auth.PrivilegedRoleAdministrator, "privy", "")
			stale := w.session("gus")
			stale.PasscodeAt = w.now().Add(-time.Hour)
			low := w.session("gus")
			low.Level = auth.Password
			callers := map[string]auth.Principal{"gus": w.session("gus"), "uma": w.session("uma"), "privy": w.session("privy"), "bob": w.session("bob"), "hr": hr(t),
				"hr without roles": hrWithout(t), "a stale passcode": stale, "no passcode": low, "operator": operator(), "nobody": {}}
			with := []struct{ groups, roles []string }{
				{nil, nil}, {[]string{"shore"}, nil}, {[]string{"deck"}, nil}, {[]string{"admins"}, nil}, {[]string{"mid"}, nil}, {[]string{"top", "shore"}, nil}, {[]string{"shore", "crew"}, nil},
				{nil, []string{"cook"}}, {nil, []string{"deckhand"}}, {nil, []string{"harbour"}}, {nil, []string{auth.UserAdministrator}}, {nil, []string{auth.GlobalAdministrator}},
				{[]string{"admins"}, []string{"cook"}}, {[]string{"deck"}, []string{"deckhand", "harbour"}},
			}
			n, allowed := 0, 0
			for who, by := range callers {
				for _, c := range with {
					n++
					_, whole := w.p.CreateAccount(t.Context(), by, w.account(fmt.Sprintf("whole%d", n), c.groups, c.roles))
					parts := w.inParts(by, fmt.Sprintf("parts%d", n), c.groups, c.roles)
					if status(whole) != status(parts) {
						t.Errorf("%s, groups %v, roles %v: %v, in parts %v", who, c.groups, c.roles, whole, parts)
					}
					if whole == nil {
						allowed++
					}
				}
			}
			if allowed == 0 || allowed == n {
				t.Errorf("%d of %d were allowed", allowed, n)
			}
		})
	}
}

// inParts makes an account by one request after the other.
func (w *world) inParts(by auth.Principal, name string, groups, roles []string) error {
	id, err := w.post(by, "User", `{"userName":"`+name+`"}`)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if err := w.patch(by, "Group", w.id(g), `{"op":"add","path":"members","value":[{"value":"`+id+`"}]}`); err != nil {
			return err
		}
	}
	for _, r := range roles {
		if _, err := w.post(by, "RoleAssignment", assignmentBody(w.id(r), id, "")); err != nil {
			return err
		}
	}
	return nil
}

// Many at once, into the same groups.
func TestCreateAccountsAtOnce(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			const each = 16
			var wg sync.WaitGroup
			errs := make([]error, 2*each)
			by := w.session("gus")
			for i := range errs {
				wg.Go(func() {
					groups := []string{"shore", "deck"}
					if i%2 == 1 {
						groups = []string{"deck", "shore"}
					}
					// Each name is asked for twice.
					_, errs[i] = w.p.CreateAccount(t.Context(), by, w.account(fmt.Sprintf("ivy%d", i/2), groups, []string{"cook"}))
				})
			}
			wg.Wait()
			made := 0
			for _, err := range errs {
				switch {
				case err == nil:
					made++
				case status(err) != 409:
					t.Error(err)
				}
			}
			if made != each {
				t.Errorf("%d accounts were made, want %d", made, each)
			}
			for group, want := range map[string]int{"shore": each + 1, "deck": each} {
				n, err := w.store.CountMembers(t.Context(), storage.DefaultTenant, w.ids[group], 1000)
				if err != nil || n != want {
					t.Errorf("%s has %d members (%v), want %d", group, n, err, want)
				}
			}
		})
	}
}

// Whoever is made an administrator is protected from then on, by a group as by a role.
func TestCreateAccountProtects(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			for i, with := range []struct{ groups, roles []string }{{[]string{"shore", "admins"}, nil}, {[]string{"mid"}, nil}, {nil, []string{"harbour"}}} {
				if err := w.patch(hr(t), "User", w.ids["bob"], `{"op":"replace","path":"title","value":"`+fmt.Sprint(i)+`"}`); err != nil { // the standing is known
					t.Fatal(err)
				}
				user, err := w.p.CreateAccount(t.Context(), w.session("gus"), w.account(fmt.Sprintf("ivy%d", i), with.groups, with.roles))
				if err != nil {
					t.Fatal(err)
				}
				if err := w.patch(hr(t), "User", user.ID, `{"op":"replace","path":"title","value":"x"}`); status(err) != 403 {
					t.Errorf("%v: a client may change them: %v", with, err)
				}
			}
		})
	}
}
