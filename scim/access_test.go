package scim_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// TestGrantsElsewhere: what one process gives, another one knows of with its next
// write, however warm its memory.
func TestGrantsElsewhere(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here := newWorld(t, open(t))
			there := *here
			there.p = &scim.Provider{Store: here.store, Schemas: here.p.Schemas, Hasher: here.p.Hasher, Now: here.p.Now}
			by := hr(t)
			touch := func(what, typ, id, ops string, want int) {
				t.Helper()
				// Each address is another: what changes nothing is nobody's business.
				ops = strings.ReplaceAll(ops, "mine@", strings.ReplaceAll(what, " ", ".")+"@")
				if s := status(there.patch(by, typ, here.ids[id], ops)); s != want {
					t.Errorf("%s: %d, want %d", what, s, want)
				}
			}
			mail, rename := emailSyntaxes["path"], `{"op":"replace","path":"displayName","value":"x"}`
			join := func(name string) string {
				return `{"op":"add","path":"members","value":[` + here.members(name) + `]}`
			}
			touch("nobody special", "User", "eve", mail, 200)
			here.assign("eve invites", auth.GuestInviter, "eve", "")
			touch("somebody who was given a role", "User", "eve", mail, 403)
			touch("a member with a role", "Group", "shore", join("eve"), 403)
			if err := here.remove(operator(), "RoleAssignment", here.ids["eve invites"]); err != nil {
				t.Fatal(err)
			}
			touch("somebody from whom a role was taken", "User", "eve", mail, 200)
			here.assign("shore invites", auth.GuestInviter, "shore", "")
			touch("a group that was given a role", "Group", "shore", rename, 403)
			touch("a member of it", "User", "bob", mail, 403)
			touch("a new member of it", "Group", "shore", join("eve"), 403)
			if err := here.patch(operator(), "Group", here.ids["shore"], join("deck")+`,`+`{"op":"remove","path":"members[value eq \"`+here.ids["bob"]+`\"]"}`); err != nil {
				t.Fatal(err)
			}
			touch("one who left it", "User", "bob", mail, 200)
			touch("a group that came into it", "Group", "deck", join("eve"), 403)
			// A role that comes to an end by itself protects until then.
			here.assign("late", auth.GuestInviter, "eve", `,"endDate":"2999-01-01T00:00:00Z"`)
			touch("somebody with a role for a while", "User", "eve", mail, 403)
			there.p.Now = func() time.Time { return time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC) }
			touch("somebody whose role has ended", "User", "eve", mail, 200)
		})
	}
}

// TestTakenMeanwhile: what a session knows of its user may be half a second old. Whoever
// lost a role or was blocked in that time does not undo it, nor gives anything away.
func TestTakenMeanwhile(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			gus, adam := w.session("gus"), w.session("adam")
			if err := errors.Join(w.remove(w.session("gia"), "RoleAssignment", w.ids["gus is GA"]),
				w.patch(w.session("gia"), "Group", w.ids["admins"], `{"op":"remove","path":"members"}`)); err != nil {
				t.Fatal(err)
			}
			take := func(what string, err error) {
				t.Helper()
				if s := status(err); s != 403 {
					t.Errorf("%s: %d, want 403", what, s)
				}
			}
			_, err := w.post(gus, "RoleAssignment", assignmentBody(auth.GlobalAdministrator, w.ids["gus"], ""))
			take("taking the role back", err)
			_, err = w.post(gus, "RoleAssignment", assignmentBody(auth.Auditor, w.ids["eve"], ""))
			take("giving another", err)
			take("taking somebody else's", w.remove(gus, "RoleAssignment", w.ids["uma is UA"]))
			take("joining a group with a role", w.patch(gus, "Group", w.ids["admins"], `{"op":"add","path":"members","value":[`+w.members("gus")+`]}`))
			take("a role of one's own", w.put(gus, "Role", w.ids["harbour"], `{"value":"harbour","`+schemas.RosterRoleURI+`":{"kind":"administrative","permissions":["audit.read","users.purge"]}}`))
			take("blocking an administrator", w.patch(gus, "User", w.ids["gia"], `{"op":"replace","path":"active","value":false}`))
			take("without the group", w.patch(adam, "Group", w.ids["deck"], `{"op":"add","path":"members","value":[`+w.members("bob")+`]}`))

			uma := w.session("uma")
			gia := w.session("gia")
			w.assign("eve is GA", auth.GlobalAdministrator, "eve", "")
			w.credential("eve")
			if err := errors.Join(w.patch(w.session("eve"), "User", w.ids["gia"], `{"op":"replace","path":"active","value":false}`),
				w.patch(w.session("eve"), "User", w.ids["uma"], `{"op":"replace","path":"active","value":false}`)); err != nil {
				t.Fatal(err)
			}
			take("being active again", w.patch(gia, "User", w.ids["gia"], `{"op":"replace","path":"active","value":true}`))
			take("giving a role while blocked", w.patch(uma, "Group", w.ids["deck"], `{"op":"add","path":"members","value":[`+w.members("bob")+`]}`))
			if err := w.remove(w.session("eve"), "User", w.ids["gia"]); err != nil {
				t.Fatal(err)
			}
			_, err = w.p.Restore(t.Context(), gia, w.typ("User"), w.ids["gia"], scim.Restoration{})
			take("being there again", err)
		})
	}
}

// TestGrantWhileWriting: a role that is given while a client keeps changing its holder
// is either after a change or before it, and then that is refused.
func TestGrantWhileWriting(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			by, eve := hr(t), w.ids["eve"]
			var wg, busy sync.WaitGroup
			given := make(chan struct{})
			for i := range 4 {
				busy.Add(1)
				wg.Go(func() {
					for n := 0; ; n++ {
						if n == 3 {
							busy.Done()
						}
						after := false
						select {
						case <-given:
							after = true
						default:
						}
						err := w.patch(by, "User", eve, `{"op":"replace","path":"emails","value":[{"value":"`+string(rune('a'+i))+string(rune('a'+n%26))+`@x.example"}]}`)
						s := status(err)
						if after {
							if s != 403 {
								t.Errorf("after the role was given: %d", s)
							}
							return
						}
						if s != 200 && s != 403 && s != 503 {
							t.Errorf("%d %v", s, err)
						}
					}
				})
			}
			busy.Wait()
			w.assign("eve invites", auth.GuestInviter, "eve", "")
			close(given)
			wg.Wait()
		})
	}
}

// TestSessionsEnd: who is blocked or deleted, or whose password is written over SCIM,
// is signed out in the same step (S13); others are not.
func TestSessionsEnd(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			by := hr(t)
			signIn := func(names ...string) {
				t.Helper()
				err := w.store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
					for _, n := range names {
						for _, suffix := range []string{"1", "2"} {
							i := &storage.Item{Kind: auth.SessionKind, ID: n + suffix + time.Now().String(), Keys: []string{w.ids[n]}, Data: []byte(`{}`), Expires: time.Now().Add(time.Hour).Truncate(time.Millisecond)}
							if err := tx.PutItem(nil, i); err != nil {
								return err
							}
						}
					}
					return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test"})
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			want := func(what, name string, n int) {
				t.Helper()
				list, err := w.store.Items(t.Context(), storage.DefaultTenant, auth.SessionKind, w.ids[name])
				if err != nil || len(list) != n {
					t.Errorf("%s: %s has %d sessions, %v; want %d", what, name, len(list), err, n)
				}
			}
			do := func(what string, err error) {
				t.Helper()
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			signIn("eve", "bob", "uma")
			do("a title", w.patch(by, "User", w.ids["eve"], `{"op":"add","path":"title","value":"Mate"}`))
			do("active as before", w.patch(by, "User", w.ids["eve"], `{"op":"replace","path":"active","value":true}`))
			want("a title", "eve", 2)
			do("block", w.patch(by, "User", w.ids["eve"], `{"op":"replace","path":"active","value":"False"}`))
			want("block", "eve", 0)
			want("block of eve", "bob", 2)
			do("unblock", w.patch(by, "User", w.ids["eve"], `{"op":"replace","path":"active","value":true}`))
			want("unblock", "eve", 0)
			do("a password", w.patch(by, "User", w.ids["bob"], `{"op":"replace","path":"password","value":"correct horse battery"}`))
			want("a password by somebody else", "bob", 0)
			signIn("bob")
			do("a password by PUT", w.put(by, "User", w.ids["bob"], `{"userName":"bob","password":"another one of them"}`))
			want("a password by PUT", "bob", 0)
			if err := w.patch(w.session("gus"), "User", w.ids["uma"], `{"op":"replace","path":"password","value":"correct horse battery"}`); status(err) != 403 {
				t.Errorf("a password by a person: %v, want 403", err)
			}
			want("a password by a person", "uma", 2)
			signIn("eve")
			do("delete", w.remove(by, "User", w.ids["eve"]))
			want("delete", "eve", 0)
			entries, err := w.store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			ended := 0
			for _, e := range entries {
				if e.Action == "session.end" && e.Actor == "client:hr" {
					ended++
				}
			}
			if ended != 4 {
				t.Errorf("%d entries say that sessions ended, want 4", ended)
			}
		})
	}
}

// TestWhoDeletesWhom: a Global Administrator deletes anyone but the last of its kind,
// a User Administrator those who hold no administrative role (B6).
func TestWhoDeletesWhom(t *testing.T) {
	w := newWorld(t, sqliteStore(t))
	uma, gus := w.session("uma"), w.session("gus")
	for _, test := range []struct {
		by   auth.Principal
		name string
		want int
	}{
		{uma, "gus", 403}, {uma, "eli", 403}, {uma, "adam", 403}, {uma, "nia", 403}, {uma, "uma", 403}, {uma, "bob", 200},
		{w.session("eve"), "bob", 403}, {w.session("eli"), "bob", 403},
		{gus, "adam", 200}, {gus, "eli", 200}, {gus, "gia", 200}, {gus, "gus", 409}, {operator(), "gus", 409},
	} {
		if s := status(w.remove(test.by, "User", w.ids[test.name])); s != test.want {
			t.Errorf("%s deletes %s: %d, want %d", test.by.Name, test.name, s, test.want)
		}
	}
	// What was given to those who are gone is gone.
	for _, name := range []string{"eli is eligible", "gia is GA"} {
		if _, err := w.store.Get(t.Context(), storage.DefaultTenant, "RoleAssignment", w.ids[name]); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := w.store.Item(t.Context(), storage.DefaultTenant, "grant", w.ids[name]); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("the grant of %s: %v", name, err)
		}
	}
	// The level of the session counts, not only the permissions.
	low := gus
	low.Level = auth.Password
	if s := status(w.patch(low, "User", w.ids["eve"], emailSyntaxes["path"])); s != 403 {
		t.Errorf("after the password only: %d", s)
	}
}

// TestPathDecides: an id in a body decides nothing (V04).
func TestPathDecides(t *testing.T) {
	w := newWorld(t, sqliteStore(t))
	by, before := hr(t), w.guarded()
	gus := w.ids["gus"]
	if err := w.put(by, "User", w.ids["eve"], `{"id":"`+gus+`","userName":"eve","title":"Mate"}`); err != nil {
		t.Error(err)
	}
	for _, ops := range []string{`{"op":"replace","path":"id","value":"` + gus + `"}`, `{"op":"replace","value":{"id":"` + gus + `","title":"x"}}`} {
		if s := status(w.patch(by, "User", w.ids["eve"], ops)); s != 400 && s != 200 {
			t.Errorf("%s: %d", ops, s)
		}
	}
	id, err := w.post(by, "User", `{"id":"`+gus+`","userName":"new"}`)
	if err != nil || id == gus {
		t.Errorf("POST = %s, %v", id, err)
	}
	a, err := w.post(by, "RoleAssignment", `{"id":"`+w.ids["gus is GA"]+`","role":{"value":"`+w.ids["deckhand"]+`"},"principal":{"value":"`+w.ids["eve"]+`"}}`)
	if err != nil || a == w.ids["gus is GA"] {
		t.Errorf("POST = %s, %v", a, err)
	}
	if w.guarded() != before {
		t.Error("an administrator is other than before")
	}
}

// TestClientPrincipals: a client holds business roles only, until it is revoked.
func TestClientPrincipals(t *testing.T) {
	w := newWorld(t, sqliteStore(t))
	err := w.store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		return errors.Join(tx.CreateClient(&storage.Client{ID: "c1", Name: "payroll", Scopes: []string{"users"}, Created: time.Now()}),
			tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "client.create"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		role, principal, more string
		want                  int
	}{
		{w.ids["deckhand"], "c1", "", 200}, {w.ids["deckhand"], "c1", "", 409}, {w.ids["cook"], "c2", "", 400}, {w.ids["cook"], "c1", `,"kind":"eligible"`, 400},
		{auth.Auditor, "c1", "", 400}, {w.ids["harbour"], "c1", "", 400},
	} {
		if _, err := w.post(operator(), "RoleAssignment", assignmentBody(test.role, test.principal, test.more)); status(err) != test.want {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// TestRolesByPeople: a role's permissions grow only by what its author has.
func TestRolesByPeople(t *testing.T) {
	w := newWorld(t, sqliteStore(t))
	w.create("pia", "User", `{"userName":"pia"}`)
	w.assign("pia is PRA", auth.PrivilegedRoleAdministrator, "pia", "")
	pia, gus := w.session("pia"), w.session("gus")
	role := func(list ...string) string {
		return `{"value":"mine","` + schemas.RosterRoleURI + `":{"kind":"administrative","permissions":["` + strings.Join(list, `","`) + `"]}}`
	}
	if _, err := w.post(pia, "Role", role("users.delete")); status(err) != 403 {
		t.Errorf("a role of more than its author has: %v", err)
	}
	id, err := w.post(pia, "Role", role("users.read", "roles.assign.administrative"))
	if err != nil {
		t.Fatal(err)
	}
	grow := `{"op":"add","path":"` + schemas.RosterRoleURI + `:permissions","value":["users.delete"]}`
	if s := status(w.patch(pia, "Role", id, grow)); s != 403 {
		t.Errorf("a role grows beyond its author: %d", s)
	}
	if err := w.patch(gus, "Role", id, grow); err != nil {
		t.Error(err)
	}
	r, err := auth.FindRole(t.Context(), w.store, storage.DefaultTenant, id)
	if err != nil || !slices.Equal(r.Permissions.Strings(), []string{"users.read", "users.delete", "roles.assign.administrative"}) {
		t.Errorf("FindRole = %+v, %v", r, err)
	}
	if err := w.patch(pia, "Role", id, `{"op":"replace","path":"display","value":"Ours"}`); err != nil {
		t.Errorf("a role of more than somebody has may be renamed: %v", err)
	}
	// Whoever may give roles does not touch Global Administrators.
	_, err = w.post(pia, "RoleAssignment", assignmentBody(id, w.ids["gus"], ""))
	if status(err) != 403 {
		t.Errorf("a role for a Global Administrator: %v", err)
	}
	if _, err = w.post(pia, "RoleAssignment", assignmentBody(auth.GlobalAdministrator, w.ids["pia"], "")); status(err) != 403 {
		t.Errorf("Global Administrator for oneself: %v", err)
	}
	a, err := w.post(pia, "RoleAssignment", assignmentBody(id, w.ids["eve"], ""))
	if err != nil {
		t.Error(err)
	}
	// A role goes with what was given of it.
	if err := w.remove(gus, "Role", id); err != nil {
		t.Error(err)
	}
	if _, err := w.store.Get(t.Context(), storage.DefaultTenant, "RoleAssignment", a); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the assignment of a role that is gone: %v", err)
	}
	if err := w.patch(hr(t), "User", w.ids["eve"], emailSyntaxes["path"]); err != nil {
		t.Errorf("who held a role that is gone: %v", err)
	}
}
