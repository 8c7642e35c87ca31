package scim_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// late is a client whose order of arrival is not guaranteed.
func late(t testing.TB) auth.Principal {
	p := hr(t)
	p.ID, p.References = "late", auth.ReferencesLate
	return p
}

// must posts what has to be accepted, and returns its id.
func (w *invitations) must(by auth.Principal, typ, text string) string {
	w.t.Helper()
	id, err := w.post(by, typ, text)
	if err != nil {
		w.t.Fatalf("POST %s %s: %v", typ, text, err)
	}
	return id
}

// membersOf are the members of a group.
func (w *invitations) membersOf(group string) []string {
	w.t.Helper()
	list := []string{}
	for m, err := range w.store.Members(w.t.Context(), storage.DefaultTenant, group, "") {
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, m.Value)
	}
	return list
}

func (w *invitations) wantManager(what, id, want string) {
	w.t.Helper()
	if got := w.manager(id); got != want {
		w.t.Errorf("%s: the manager is %q, want %q", what, got, want)
	}
}

func (w *invitations) wantMembers(what, group string, want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.membersOf(group); !slices.Equal(got, want) {
		w.t.Errorf("%s: the members are %q, want %q", what, got, want)
	}
}

// waiting is how many references wait.
func (w *invitations) waiting() int {
	w.t.Helper()
	list, err := w.store.Items(w.t.Context(), storage.DefaultTenant, "reference", "")
	if err != nil {
		w.t.Fatal(err)
	}
	return len(list)
}

func (w *invitations) wantWaiting(what string, want int) {
	w.t.Helper()
	if got := w.waiting(); got != want {
		w.t.Errorf("%s: %d references wait, want %d", what, got, want)
	}
}

func groupOf(name string, members ...string) string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = fmt.Sprintf(`{"value":%q}`, m)
	}
	return fmt.Sprintf(`{"displayName":%q,"members":[%s]}`, name, strings.Join(list, ","))
}

func userCalled(name, externalID string) string {
	return fmt.Sprintf(`{"userName":%q,"externalId":%q}`, name, externalID)
}

// TestLateManager: a manager who is named before they are there becomes one when such a
// client writes them, with a version and an audit entry.
func TestLateManager(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		if _, err := w.post(hr(t), "User", withManager("strict", "E-1")); status(err) != 400 {
			t.Errorf("without the setting: %v", err)
		}
		hand := w.must(late(t), "User", withManager("hand", "E-1"))
		byName := w.must(late(t), "User", withManager("by name", "BOSS"))
		other := w.must(late(t), "User", withManager("other", "e-1"))
		w.wantManager("at first", hand, "E-1")
		w.must(hr(t), "User", userCalled("not this", "E-1x"))
		w.wantManager("of another name", hand, "E-1")
		boss := w.must(late(t), "User", userCalled("boss", "E-1"))
		w.wantManager("by externalId", hand, boss)
		w.wantManager("by userName", byName, boss)
		w.wantManager("externalId is exact", other, "e-1")
		list := w.entriesOf(hand)
		if e := list[len(list)-1]; e.Action != "user.patch" || e.Version != 2 || e.Actor != "client:late" || !slices.Equal(e.Attributes, []string{schemas.EnterpriseUserURI + ":manager"}) {
			t.Errorf("the audit entry is %+v", e)
		}
		w.wantWaiting("afterwards", 1)
		// At once, when they are there.
		now := w.must(late(t), "User", withManager("now", "E-1"))
		w.wantManager("who was there", now, boss)
		if err := w.put(late(t), "User", now, withManager("now", "Boss")); err != nil {
			t.Error(err)
		}
		w.wantManager("the same by another name", now, boss)
		own := w.must(late(t), "User", fmt.Sprintf(`{"userName":"own","externalId":"E-9",%q:{"manager":{"value":"E-9"}}}`, schemas.EnterpriseUserURI))
		w.wantManager("their own", own, own)
		w.wantWaiting("in the end", 1)
	})
}

// TestLateManagerEnds: the reference ends when the user gets another manager, or is deleted.
func TestLateManagerEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		ids := map[string]string{}
		for _, name := range []string{"kept", "changed", "without", "by others", "deleted"} {
			ids[name] = w.must(late(t), "User", withManager(name, "E-1"))
		}
		w.wantWaiting("at first", 5)
		ops := func(by auth.Principal, name, ops string) {
			t.Helper()
			if err := w.patch(by, "User", ids[name], ops); err != nil {
				t.Fatal(err)
			}
		}
		ops(late(t), "kept", `{"op":"replace","path":"title","value":"Mate"}`)
		ops(hr(t), "kept", `{"op":"replace","path":"title","value":"First mate"}`)
		ops(late(t), "changed", `{"op":"replace","path":"manager","value":{"value":"E-2"}}`)
		ops(late(t), "without", `{"op":"remove","path":"manager"}`)
		ops(hr(t), "by others", `{"op":"replace","path":"manager","value":{"value":"`+w.ids["eve"]+`"}}`)
		if err := w.remove(hr(t), "User", ids["deleted"]); err != nil {
			t.Fatal(err)
		}
		w.wantWaiting("while they wait", 3) // that of another client's change is seen to be over later
		boss := w.must(late(t), "User", userCalled("boss", "E-1"))
		w.wantManager("kept", ids["kept"], boss)
		w.wantManager("changed", ids["changed"], "E-2")
		w.wantManager("without", ids["without"], "")
		w.wantManager("by others", ids["by others"], w.ids["eve"])
		w.wantWaiting("in the end", 1)
	})
}

// TestLateMembers: members who are not there are not shown, and join when they come.
func TestLateMembers(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		if _, err := w.post(hr(t), "Group", groupOf("strict", "E-1")); status(err) != 400 {
			t.Errorf("without the setting: %v", err)
		}
		if _, err := w.post(late(t), "GroupMembership", fmt.Sprintf(`{"group":{"value":%q},"member":{"value":"E-1"}}`, w.ids["crew"])); status(err) != 400 {
			t.Errorf("as a membership: %v", err)
		}
		group := w.must(late(t), "Group", groupOf("boat", w.ids["bob"], "E-1", "E-2", "G-1", "E-1"))
		w.wantMembers("at first", group, w.ids["bob"])
		w.wantWaiting("at first", 3)
		before := w.entriesOf(group)
		for range 2 { // the same again
			if err := w.put(late(t), "Group", group, groupOf("boat", w.ids["bob"], "E-2", "E-1", "G-1")); err != nil {
				t.Fatal(err)
			}
		}
		if after := w.entriesOf(group); len(after) != len(before) {
			t.Errorf("the same again is recorded: %+v", after[len(before):])
		}
		w.wantWaiting("the same again", 3)
		one := w.must(late(t), "User", userCalled("one", "E-1"))
		two := w.must(late(t), "User", userCalled("E-2", ""+"x"))
		inner := w.must(late(t), "Group", `{"displayName":"inner","externalId":"G-1"}`)
		w.wantMembers("then", group, w.ids["bob"], one, two, inner)
		w.wantWaiting("then", 0)
		list := w.entriesOf(group)
		if e := list[len(list)-1]; e.Action != "group.patch" || e.Version != 4 || e.Actor != "client:late" || !slices.Equal(e.Attributes, []string{"members"}) {
			t.Errorf("the audit entry is %+v", e)
		}
		r, err := w.store.Get(t.Context(), storage.DefaultTenant, "Group", group)
		if err != nil || r.Version != 4 {
			t.Errorf("the group is %+v, %v", r, err)
		}
		if err := w.put(late(t), "Group", group, groupOf("boat", "E-1", one)); err != nil {
			t.Fatal(err)
		}
		w.wantMembers("by names and ids", group, one)
		if err := w.patch(late(t), "Group", group, `{"op":"remove","path":"members[value eq \"E-1\"]"}`); err != nil {
			t.Fatal(err)
		}
		w.wantMembers("removed by name", group)
	})
}

// TestLateMembersEnd: a member who is waited for is removed as one who is there.
func TestLateMembersEnd(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		for name, c := range map[string]struct {
			by   auth.Principal
			ops  string
			want int
		}{
			"by a filter":            {late(t), `{"op":"remove","path":"members[value eq \"E-1\"]"}`, 1},
			"by another's filter":    {hr(t), `{"op":"remove","path":"members[value eq \"E-1\"]"}`, 1},
			"by a part":              {late(t), `{"op":"remove","path":"members[value sw \"E-\"]"}`, 0},
			"in a list":              {late(t), `{"op":"remove","path":"members","value":[{"value":"E-2"},{"value":"E-1"}]}`, 0},
			"all":                    {hr(t), `{"op":"remove","path":"members"}`, 0},
			"by a replace":           {late(t), `{"op":"replace","path":"members","value":[{"value":"E-2"}]}`, 1},
			"not by an add":          {late(t), `{"op":"add","path":"members","value":[{"value":"E-1"},{"value":"E-3"}]}`, 3},
			"first added, then not":  {late(t), `{"op":"add","path":"members","value":[{"value":"E-3"}]},{"op":"remove","path":"members[value eq \"E-3\"]"}`, 2},
			"not by another's title": {hr(t), `{"op":"replace","path":"displayName","value":"` + name() + `"}`, 2},
		} {
			id := w.must(late(t), "Group", groupOf(name, "E-1", "E-2"))
			if err := w.patch(c.by, "Group", id, c.ops); err != nil {
				t.Fatal(name, err)
			}
			w.wantWaiting(name, c.want)
			if err := w.remove(hr(t), "Group", id); err != nil {
				t.Fatal(name, err)
			}
			w.wantWaiting(name+", deleted", 0)
		}
		strict := late(t)
		strict.Profile = auth.ProfileStrict
		id := w.must(strict, "Group", fmt.Sprintf(`{"schemas":[%q],"displayName":"of a strict one","members":[{"value":"E-1"}]}`, schemas.GroupURI))
		for i, want := range []int{200, 400} {
			if err := w.patch(strict, "Group", id, `{"op":"remove","path":"members[value eq \"E-1\"]"}`); status(err) != want {
				t.Errorf("removal %d: %v", i, err)
			}
		}
	})
}

func name() string { return fmt.Sprint("n", rand.Int64()) }

// TestLateAge: a reference that has waited for too long is nothing any more, and can be
// made anew.
func TestLateAge(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		group, old := w.must(late(t), "Group", groupOf("boat", "E-1")), w.must(late(t), "Group", groupOf("ship", "E-1"))
		w.clock = w.clock.Add(31 * 24 * time.Hour)
		if err := w.patch(late(t), "Group", group, `{"op":"add","path":"members","value":[{"value":"E-1"}]}`); err != nil {
			t.Fatal(err)
		}
		one := w.must(late(t), "User", userCalled("one", "E-1"))
		w.wantMembers("made anew", group, one)
		w.wantMembers("too old", old)
		if _, err := w.store.SweepItems(t.Context(), w.clock); err != nil {
			t.Fatal(err)
		}
		w.wantWaiting("after the sweep", 0)
	})
}

// TestLateRestored: what waits for a user who was deleted is resolved when they are restored.
func TestLateRestored(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		w.create("boss", "User", userCalled("boss", "E-1"))
		if err := w.remove(hr(t), "User", w.ids["boss"]); err != nil {
			t.Fatal(err)
		}
		byName, byID := w.must(late(t), "User", withManager("hand", "E-1")), w.must(late(t), "User", withManager("foot", w.ids["boss"]))
		group := w.must(late(t), "Group", groupOf("boat", "E-1"))
		if err := w.restore(w.session("gus"), "User", "boss", scim.Restoration{}); err != nil {
			t.Fatal(err)
		}
		w.wantManager("by name", byName, w.ids["boss"])
		w.wantManager("by id", byID, w.ids["boss"])
		w.wantMembers("of the group", group, w.ids["boss"])
	})
}

// TestLateChanged: a change that gives a user the name resolves what waits for it; a
// client without the setting resolves nothing.
func TestLateChanged(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		hand := w.must(late(t), "User", withManager("hand", "E-1"))
		group := w.must(late(t), "Group", groupOf("boat", "E-1"))
		boss := w.must(hr(t), "User", userCalled("boss", "E-1"))
		w.wantManager("by another client", hand, "E-1")
		if err := w.patch(late(t), "User", boss, `{"op":"replace","path":"title","value":"Boss"}`); err != nil {
			t.Fatal(err)
		}
		w.wantManager("by a change", hand, boss)
		w.wantMembers("by a change", group, boss)
		foot := w.must(late(t), "User", withManager("foot", "E-2"))
		if err := w.patch(late(t), "User", boss, `{"op":"replace","path":"externalId","value":"E-2"}`); err != nil {
			t.Fatal(err)
		}
		w.wantManager("by another name", foot, boss)
	})
}

// TestLateRoles: nobody comes by a role by way of a reference that the client could not
// have given.
func TestLateRoles(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		add := `{"op":"add","path":"members","value":[{"value":"E-1"}]}`
		for _, group := range []string{"admins", "mid", "top"} {
			if err := w.patch(late(t), "Group", w.ids[group], add); status(err) != 403 {
				t.Errorf("a member of %s who is to come: %v", group, err)
			}
		}
		if err := w.patch(late(t), "Group", w.ids["deck"], add); err != nil {
			t.Errorf("who gives deckhand: %v", err)
		}
		// Nor when the group got the role after the reference.
		boat := w.must(late(t), "Group", groupOf("boat", "E-2"))
		w.ids["boat"] = boat
		w.assign("boat is UA", auth.UserAdministrator, "boat", "")
		deckhand, two := w.must(late(t), "User", userCalled("one", "E-1")), w.must(late(t), "User", userCalled("two", "E-2"))
		w.wantMembers("who are deckhands", w.ids["deck"], deckhand)
		w.wantMembers("who would be administrators", boat)
		w.wantWaiting("for somebody who may", 1)
		if err := w.patch(late(t), "User", two, `{"op":"replace","path":"title","value":"Mate"}`); err != nil {
			t.Error(err)
		}
		w.wantMembers("still", boat)
	})
}

// TestLateRace: of a reference and what it names one comes first, and neither is lost.
func TestLateRace(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		for round := range 20 {
			name := fmt.Sprint("E-", round)
			var wg sync.WaitGroup
			var hand, group, boss string
			var errs [3]error
			wg.Go(func() { hand, errs[0] = w.post(late(t), "User", withManager(fmt.Sprint("hand", round), name)) })
			wg.Go(func() { group, errs[1] = w.post(late(t), "Group", groupOf(fmt.Sprint("boat", round), name)) })
			wg.Go(func() { boss, errs[2] = w.post(late(t), "User", userCalled(fmt.Sprint("boss", round), name)) })
			wg.Wait()
			for _, err := range errs {
				if err != nil {
					t.Fatal(err)
				}
			}
			w.wantManager(name, hand, boss)
			w.wantMembers(name, group, boss)
		}
		w.wantWaiting("in the end", 0)
	})
}

// TestAnyOrder is the promise: a set of users with managers and of groups with members
// comes to the same, whatever the order in which they arrive, in one piece or changed later.
func TestAnyOrder(t *testing.T) {
	raced.Skip(t)
	const users, groups = 8, 4
	type arrival struct {
		typ, name   string
		text, later string // of a PUT that follows at any time; "" for none
	}
	onBoth(t, func(t *testing.T, w *invitations) {
		rounds := 8
		for round := range rounds {
			rnd := rand.New(rand.NewPCG(7, uint64(round)))
			// Each round has names of its own, and is done in two orders.
			result := func(n int, order []int, set []arrival) (state map[string]string) {
				t.Helper()
				fill := func(s string) string { return strings.ReplaceAll(s, "#", fmt.Sprintf("%d.%d", round, n)) }
				ids, label := map[string]string{}, map[string]string{}
				for _, i := range order {
					a := set[i]
					if ids[a.name] == "" {
						ids[a.name] = w.must(late(t), a.typ, fill(a.text))
						label[ids[a.name]] = a.name
						continue
					}
					if err := w.put(late(t), a.typ, ids[a.name], fill(a.later)); err != nil {
						t.Fatal(err)
					}
				}
				state = map[string]string{}
				for name, id := range ids {
					if strings.HasPrefix(name, "u") {
						if m := w.manager(id); label[m] != "" {
							state[name] = label[m]
						} else {
							state[name] = strings.ReplaceAll(m, fmt.Sprintf("%d.%d", round, n), "#")
						}
						continue
					}
					var members []string
					for _, m := range w.membersOf(id) {
						members = append(members, label[m])
					}
					slices.Sort(members)
					state[name] = strings.Join(members, " ")
				}
				return state
			}
			var set []arrival
			ref := func(kind string, n int) string {
				if kind == "u" && rnd.IntN(2) == 0 {
					return fmt.Sprintf("NAME%d-#", n) // by userName
				}
				return fmt.Sprintf("%s%d-#", kind, n)
			}
			for i := range users {
				body := func() string {
					if rnd.IntN(5) == 0 {
						return fmt.Sprintf(`{"userName":"name%d-#","externalId":"u%d-#"}`, i, i)
					}
					return fmt.Sprintf(`{"userName":"name%d-#","externalId":"u%d-#",%q:{"manager":{"value":%q}}}`, i, i, schemas.EnterpriseUserURI, ref("u", rnd.IntN(users+1)))
				}
				set = append(set, arrival{typ: "User", name: fmt.Sprint("u", i), text: body(), later: body()})
			}
			for i := range groups {
				body := func() string {
					var list []string
					for range rnd.IntN(5) {
						list = append(list, fmt.Sprintf(`{"value":%q}`, ref("u", rnd.IntN(users+1))))
					}
					if i > 0 && rnd.IntN(2) == 0 {
						list = append(list, fmt.Sprintf(`{"value":%q}`, ref("g", rnd.IntN(i))))
					}
					return fmt.Sprintf(`{"displayName":"g%d-#","externalId":"g%d-#","members":[%s]}`, i, i, strings.Join(list, ","))
				}
				set = append(set, arrival{typ: "Group", name: fmt.Sprint("g", i), text: body(), later: body()})
			}
			var order []int
			for i := range set {
				order = append(order, i)
				if rnd.IntN(3) == 0 {
					order = append(order, i) // and its PUT
				}
			}
			want := result(0, order, set)
			for n := 1; n <= 3; n++ {
				rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
				if diff := cmp.Diff(want, result(n, order, set)); diff != "" {
					t.Fatalf("round %d, order %v (-first order +this one):\n%s", round, order, diff)
				}
			}
		}
	})
}

// TestLateBounds: what waits is bounded, for a request, a group and a tenant, and the
// error names the offender without its value.
func TestLateBounds(t *testing.T) {
	t.Parallel()
	w := newInvitations(t, sqliteStore)
	many := func(from, n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprint("E-", from+i))
		}
		return names
	}
	if _, err := w.post(late(t), "Group", groupOf("too many", many(0, scim.MaxWaiting+1)...)); status(err) != 400 {
		t.Errorf("a request with too many: %v", err)
	}
	group := w.must(late(t), "Group", groupOf("boat", many(0, scim.MaxWaiting)...))
	add := `{"op":"add","path":"members","value":[{"value":"` + w.ids["bob"] + `"},{"value":"E-one-more"}]}`
	if err := w.patch(late(t), "Group", group, add); status(err) != 400 || !strings.Contains(err.Error(), "members[1].value") || strings.Contains(err.Error(), "one-more") {
		t.Errorf("a group with too many: %v", err)
	}
	w.wantMembers("refused", group)
	w.wantWaiting("of one group", scim.MaxWaiting)
	if err := w.remove(hr(t), "Group", group); err != nil {
		t.Fatal(err)
	}
	// So many wait for one name, and are resolved in one write.
	w.must(late(t), "User", withManager("first", "E-1"))
	list, err := w.store.Items(t.Context(), storage.DefaultTenant, "reference", "")
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	err = w.store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		for n := range scim.MaxWaiting - 1 {
			i := *list[0]
			i.ID, i.Data = fmt.Sprint("x", n), []byte(fmt.Sprintf(`{"type":"User","from":"x%d","name":"E-1"}`, n))
			if err := tx.PutItem(nil, &i); err != nil {
				return err
			}
		}
		return tx.Audit(storage.AuditEntry{At: w.clock, Actor: "operator", Action: "test"})
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.post(late(t), "User", withManager("last", "E-1"))
	if status(err) != 400 || !strings.Contains(err.Error(), "manager.value") || strings.Contains(err.Error(), "E-1") {
		t.Errorf("too many of a tenant: %v", err)
	}
	boss := w.must(late(t), "User", userCalled("boss", "E-1"))
	w.wantManager("the first", list[0].ID, boss)
	w.wantWaiting("all of them", 0)
}

// TestLateBulk: in Bulk, and in Bulk that is carried out later, too.
func TestLateBulk(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLater(t, open)
			token := l.Issue(t, &storage.Client{Tenant: storage.DefaultTenant, Name: "late", Scopes: []string{"users", "groups"}, References: auth.ReferencesLate})
			post := func(typ, id, more string) string {
				return fmt.Sprintf(`{"method":"POST","path":"/%s","bulkId":%q,"data":{"schemas":[%q],"externalId":%q,%s}}`, typ, id,
					map[string]string{"Users": schemas.UserURI, "Groups": schemas.GroupURI}[typ], id, more)
			}
			manager := func(value string) string {
				return fmt.Sprintf(`,%q:{"manager":{"value":%q}}`, schemas.EnterpriseUserURI, value)
			}
			operations := func(n string) []string {
				return []string{
					post("Groups", "g"+n, `"displayName":"g`+n+`","members":[{"value":"a`+n+`"},{"value":"b`+n+`"},{"value":"bulkId:c`+n+`"}]`),
					post("Users", "a"+n, `"userName":"ua`+n+`"`+manager("b"+n)),
					post("Users", "b"+n, `"userName":"ub`+n+`"`+manager("UC"+n)),
					post("Users", "c"+n, `"userName":"uc`+n+`"`+manager("bulkId:a"+n)),
				}
			}
			check := func(n string, locations []string) {
				t.Helper()
				ids := map[string]string{}
				for i, kind := range []string{"g", "a", "b", "c"} {
					ids[kind] = locations[i][strings.LastIndexByte(locations[i], '/')+1:]
				}
				for of, want := range map[string]string{"a": "b", "b": "c", "c": "a"} {
					r, err := l.Store.Get(t.Context(), storage.DefaultTenant, "User", ids[of])
					if err != nil {
						t.Fatalf("%s%s: %v", of, n, err)
					}
					if !strings.Contains(string(r.Doc), `"manager":{"value":"`+ids[want]+`"}`) {
						t.Errorf("%s%s: %s, want the manager %s", of, n, r.Doc, ids[want])
					}
				}
				count, err := l.Store.CountMembers(t.Context(), storage.DefaultTenant, ids["g"], 10)
				if count != 3 || err != nil {
					t.Errorf("g%s has %d members, %v", n, count, err)
				}
			}
			a, r := bulk(t, l.Server, token, operations("1")...)
			var locations []string
			for _, o := range a.Operations {
				if o.Status != "201" {
					t.Fatal(r.Body)
				}
				locations = append(locations, o.Location)
			}
			check("1", locations)

			// Later, by processes that end after each of the writes in turn.
			for n := 0; ; n++ {
				name := fmt.Sprint(n + 2)
				sent := l.send(token, operations(name)...)
				if sent.Status != 202 {
					t.Fatal(sent.Body)
				}
				l.store.made = true
				l.store.left.Store(int64(n))
				l.store.dying.Store(true)
				l.process().Round(t.Context())
				l.store.dying.Store(false)
				ended := l.store.left.Load() > 0
				for range 3 { // by others, when the lease has run out
					l.clock.Add((3 * time.Minute).Milliseconds())
					l.process().Round(t.Context())
				}
				result := l.Do(t, "GET", "/Bulk/"+sent.Header.Get("Set-Txn"), "", "Authorization", "Bearer "+token)
				if err := json.Unmarshal([]byte(result.Body), &a); err != nil {
					t.Fatal(result.Status, result.Body)
				}
				locations = nil
				for _, o := range a.Operations {
					locations = append(locations, o.Location)
				}
				if check(name, locations); ended || t.Failed() {
					break
				}
			}
		})
	}
}

// TestLateAgain: a reference that is waited for no more, because of its age or because who
// refers was deleted and restored, is waited for again when it is sent again.
func TestLateAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		// deleted, restored, sent again
		w.ids["hand"] = w.must(late(t), "User", withManager("hand", "E-1"))
		if err := w.remove(hr(t), "User", w.ids["hand"]); err != nil {
			t.Fatal(err)
		}
		if err := w.restore(w.session("gus"), "User", "hand", scim.Restoration{}); err != nil {
			t.Fatal(err)
		}
		w.wantWaiting("restored", 0)
		if err := w.put(late(t), "User", w.ids["hand"], withManager("hand", "E-1")); err != nil {
			t.Fatal(err)
		}
		w.wantWaiting("sent again after restore", 1)
		if err := w.put(late(t), "User", w.ids["hand"], strings.Replace(withManager("hand", "E-1"), "Yard", "Dock", 1)); err != nil {
			t.Fatal(err)
		}
		w.wantWaiting("sent again with another department", 1)
		boss := w.must(late(t), "User", userCalled("boss", "E-1"))
		w.wantManager("after restore", w.ids["hand"], boss)
		// too old, sent again
		foot := w.must(late(t), "User", withManager("foot", "E-2"))
		w.clock = w.clock.Add(31 * 24 * time.Hour)
		if err := w.put(late(t), "User", foot, withManager("foot", "E-2")); err != nil {
			t.Fatal(err)
		}
		chief := w.must(late(t), "User", userCalled("chief", "E-2"))
		w.wantManager("sent again after 31 days", foot, chief)
		// the group, sent again the same after 31 days by PUT
		g := w.must(late(t), "Group", groupOf("g", "E-3"))
		w.clock = w.clock.Add(31 * 24 * time.Hour)
		if err := w.put(late(t), "Group", g, groupOf("g", "E-3")); err != nil {
			t.Fatal(err)
		}
		three := w.must(late(t), "User", userCalled("three", "E-3"))
		w.wantMembers("group again", g, three)
	})
}
