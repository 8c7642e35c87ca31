package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

var memberPromises = []promise{
	{"AddMembers adds users and groups and says how many were new", addMembers},
	{"a member without Display is shown by its name as it is now, a given Display stays", addMembersDisplay},
	{"AddMembers tells which member does not exist", addMembersUnknown},
	{"RemoveMembers removes members and says how many were", removeMembers},
	{"SetMembers makes the given members the members and counts rows", setMembers},
	{"SetMembers works again after it failed", setMembersFails},
	{"EachMember sees the direct members", eachMember},
	{"MembersAmong sees those direct members that it is asked for, and no others", membersAmong},
	{"Members of a large group come once each and in the same order again", manyMembers},
	{"Members that stay are there once while others come and go", movingMembers},
	{"Members behind one are those that come after it, whether it is a member or not", membersBehind},
	{"Members stops when the caller does, and holds nothing then", stopMembers},
	{"CountMembers counts up to the limit", countMembers},
	{"members and groups come in the order of ids, whatever was first", orderOfIDs},
	{"what is no group has no members", noGroup},
	{"groups that a resource has of its own are compared as what it has", ownGroups},
	{"Groups returns direct and indirect groups, and what is both is direct", nestedGroups},
	{"Groups names a group as it is called now", groupsDisplay},
	{"Groups answers for many ids and leaves out those without groups", manyGroups},
	{"Ancestors are the groups above a group, deleted ones left out", ancestors},
	{"what does not exist is in no group, for a write either", aboveNothing},
	{"cycles of groups end", cycles},
	{"a group may be a member of itself and still be deleted", selfMember},
	{"InGroups is true for a direct member of a group, and false for what never was one", inGroups},
	{"a deleted member is nowhere among the members", deletedMember},
	{"a deleted group is nowhere among the groups", deletedGroup},
	{"groups that lose a deleted member get a new version and its time", groupsOfDeleted},
	{"MemberOf finds the groups that a deletion changes", memberOf},
	{"SetMembers neither counts nor keeps deleted members", setMembersDeleted},
	{"a write of one tenant sees no memberships of another, whatever it was read by", foreignMemberships},
}

// tryMembers is try for what counts rows.
func (d *directory) tryMembers(fn func(storage.Tx) (int, error)) (n int, err error) {
	err = d.try(func(tx storage.Tx) (err error) {
		n, err = fn(tx)
		return err
	})
	return n, err
}

// wantCount checks the answer of AddMembers, RemoveMembers or SetMembers.
func (d *directory) wantCount(what string, want int, fn func(storage.Tx) (int, error)) {
	d.t.Helper()
	if n, err := d.tryMembers(fn); err != nil || n != want {
		d.t.Errorf("%s: got %d, %v, want %d", what, n, err, want)
	}
}

func addMembers(_ *testing.T, d *directory) {
	ana, bob, sub := d.addUser("ana"), d.addUser("bob"), d.addGroup("Sub")
	g := d.addGroup("Staff")
	d.wantMembers(g)
	d.wantCount("two", 2, func(tx storage.Tx) (int, error) { return tx.AddMembers(g, asMembers(ana, sub)) })
	d.wantMembers(g, ana, sub)
	d.wantCount("one of them again and one more", 1, func(tx storage.Tx) (int, error) { return tx.AddMembers(g, asMembers(ana, bob)) })
	d.wantCount("all again", 0, func(tx storage.Tx) (int, error) { return tx.AddMembers(g, asMembers(bob, ana, sub)) })
	d.wantCount("none", 0, func(tx storage.Tx) (int, error) { return tx.AddMembers(g, nil) })
	d.wantMembers(g, ana, bob, sub)
	carl := d.addUser("carl")
	d.wantCount("one twice", 1, func(tx storage.Tx) (int, error) { return tx.AddMembers(g, asMembers(carl, carl)) })
	d.wantMembers(g, ana, bob, sub, carl)
	d.wantMembers(sub)
	d.wantFound(d.group, `members.value eq "`+ana.ID+`"`, g)
	d.wantFound(d.user, `groups.value eq "`+g.ID+`"`, ana, bob, carl)
	d.wantFound(d.user, `groups.value eq ""`)
	d.wantFound(d.user, `groups.value eq "" or userName eq "ana"`, ana)
	d.wantFound(d.user, `not (groups.value eq "") and userName sw "a"`, ana)
	d.wantFound(d.group, `members.value eq ""`)
}

// ownGroups: an invitation has the groups that somebody will be in, and is in none.
func ownGroups(t *testing.T, d *directory) {
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	invitation := set.Type("Invitation")
	ana := d.addUser("ana")
	g, other := d.addGroup("Crew", ana), d.addGroup("Other")
	invited := d.add(invitation, `{"email":"bo@example.com","groups":[{"value":"`+other.ID+`"},{"value":"`+g.ID+`"}]}`)
	d.add(invitation, `{"email":"cy@example.com"}`)
	for _, f := range []string{
		`groups.value eq "` + g.ID + `"`, `groups[value eq "` + g.ID + `"]`, `groups eq "` + g.ID + `" and email pr`,
		`groups.value eq "` + g.ID + `" and groups.value eq "` + other.ID + `"`, `groups.value sw "` + g.ID + `"`,
	} {
		d.wantFound(invitation, f, invited)
	}
	d.wantFound(invitation, `groups.value eq "`+storage.NewID()+`"`)
	d.wantFound(d.user, `groups.value eq "`+g.ID+`"`, ana)
}

func addMembersDisplay(t *testing.T, d *directory) {
	ana := d.add(d.user, `{"userName":"ana","displayName":"Ana Ng"}`)
	bob, carl, sub := d.addUser("bob"), d.addUser("carl"), d.addGroup("Sub")
	g := d.addGroup("Staff", ana, bob, sub)
	d.do(func(tx storage.Tx) error {
		// Type is not the caller's to say.
		_, err := tx.AddMembers(g, []storage.Member{{Value: carl.ID, Display: "C. " + awkward, Type: "Group"}, {Value: bob.ID, Display: "Robert"}})
		return err
	})
	want := []storage.Member{
		{Value: ana.ID, Type: "User", Display: "Ana Ng"}, {Value: bob.ID, Type: "User", Display: "bob"},
		{Value: carl.ID, Type: "User", Display: "C. " + awkward}, {Value: sub.ID, Type: "Group", Display: "Sub"},
	}
	if diff := cmp.Diff(byValue(want), d.members(g)); diff != "" {
		t.Errorf("Members (-want +got):\n%s", diff)
	}
	d.replace(bob, `{"userName":"bob","displayName":"Bob"}`)
	want[1].Display = "Bob"
	if diff := cmp.Diff(byValue(want), d.members(g)); diff != "" {
		t.Errorf("Members after a new name (-want +got):\n%s", diff)
	}
	d.wantFound(d.group, `members.display eq "bob"`, g)
	d.wantFound(d.group, `members[type eq "Group" and display eq "sub"]`, g)
	d.wantFound(d.group, `members[type eq "Group" and display eq "carl"]`)
	d.wantFound(d.group, `members.display eq "robert"`)
}

// byValue puts members into the order in which a group shows them.
func byValue(list []storage.Member) []storage.Member {
	slices.SortFunc(list, func(a, b storage.Member) int { return strings.Compare(a.Value, b.Value) })
	return list
}

func addMembersUnknown(t *testing.T, d *directory) {
	ana, gone, device := d.addUser("ana"), d.addUser("gone"), d.add(d.device, `{}`)
	d.remove(gone)
	g := d.addGroup("Staff")
	for name, id := range map[string]string{"nobody": storage.NewID(), "somebody deleted": gone.ID, "neither user nor group": device.ID, "nothing": ""} {
		for _, set := range []bool{false, true} {
			members := []storage.Member{{Value: ana.ID}, {Value: id}, {Value: storage.NewID()}}
			_, err := d.tryMembers(func(tx storage.Tx) (int, error) {
				if set {
					return tx.SetMembers(g, members)
				}
				return tx.AddMembers(g, members)
			})
			if e, ok := errors.AsType[*storage.UnknownMemberError](err); !ok || e.Index != 1 {
				t.Errorf("%s, set %v: got %v, want an UnknownMemberError for 1", name, set, err)
			}
		}
	}
	d.wantMembers(g)
}

func removeMembers(_ *testing.T, d *directory) {
	ana, bob, carl, other := d.addUser("ana"), d.addUser("bob"), d.addUser("carl"), d.addUser("other")
	g, h := d.addGroup("Staff", ana, bob, carl), d.addGroup("Others", ana, other)
	d.wantCount("no member", 0, func(tx storage.Tx) (int, error) {
		return tx.RemoveMembers(g, []string{other.ID, storage.NewID(), "", g.ID})
	})
	d.wantCount("two and others", 2, func(tx storage.Tx) (int, error) {
		return tx.RemoveMembers(g, []string{ana.ID, storage.NewID(), bob.ID, ana.ID, other.ID})
	})
	d.wantMembers(g, carl)
	d.wantMembers(h, ana, other)
	d.wantGroups(ana, direct(h))
	d.wantCount("again", 0, func(tx storage.Tx) (int, error) { return tx.RemoveMembers(g, idsOf(ana, bob)) })
	d.addMembers(g, ana)
	d.wantMembers(g, ana, carl)
}

func setMembers(t *testing.T, d *directory) {
	ana, bob, carl := d.addUser("ana"), d.addUser("bob"), d.addUser("carl")
	g, h := d.addGroup("Staff"), d.addGroup("Others", ana, bob, carl)
	set := func(want int, members ...*storage.Resource) {
		t.Helper()
		d.wantCount(fmt.Sprintf("to %d members", len(members)), want, func(tx storage.Tx) (int, error) {
			return tx.SetMembers(g, asMembers(members...))
		})
		d.wantMembers(g, members...)
		d.wantMembers(h, ana, bob, carl)
	}
	set(0)
	set(2, ana, bob)
	set(0, bob, ana)
	set(3, bob, carl, h)
	set(2, h)
	set(1)
	set(0)
	set(1, carl)
	d.wantCount("the same twice over", 0, func(tx storage.Tx) (int, error) { return tx.SetMembers(g, asMembers(carl, carl)) })
	// Who stays keeps the display, who comes has the given one.
	d.do(func(tx storage.Tx) error {
		_, err := tx.SetMembers(g, []storage.Member{{Value: carl.ID, Display: "Karl"}, {Value: ana.ID, Display: "A."}})
		return err
	})
	want := []storage.Member{{Value: carl.ID, Type: "User", Display: "carl"}, {Value: ana.ID, Type: "User", Display: "A."}}
	if diff := cmp.Diff(byValue(want), d.members(g)); diff != "" {
		t.Errorf("Members (-want +got):\n%s", diff)
	}
}

func setMembersFails(t *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	g := d.addGroup("Staff", ana)
	for range 3 {
		_, err := d.tryMembers(func(tx storage.Tx) (int, error) {
			n, err := tx.SetMembers(g, asMembers(bob))
			return n, errors.Join(err, errTest)
		})
		wantError(t, "SetMembers", err, errTest)
		d.wantMembers(g, ana)
		d.wantCount("another group", 0, func(tx storage.Tx) (int, error) { return tx.SetMembers(g, asMembers(ana)) })
	}
	// Twice in one write: the first must not leak into the second.
	h := d.addGroup("Others")
	d.wantCount("two groups", 1, func(tx storage.Tx) (int, error) {
		_, err := tx.SetMembers(g, asMembers(ana, bob))
		n, err2 := tx.SetMembers(h, asMembers(bob))
		return n, errors.Join(err, err2)
	})
	d.wantMembers(g, ana, bob)
	d.wantMembers(h, bob)
}

func eachMember(t *testing.T, d *directory) {
	ana, sub := d.addUser("ana"), d.addGroup("Sub", d.addUser("bob"))
	g := d.addGroup("Staff", ana, sub)
	var got []storage.Member
	d.do(func(tx storage.Tx) error {
		got = nil
		return tx.EachMember(g, func(m storage.Member) error {
			got = append(got, m)
			return nil
		})
	})
	want := []storage.Member{{Value: ana.ID, Type: "User", Display: "ana"}, {Value: sub.ID, Type: "Group", Display: "Sub"}}
	if diff := cmp.Diff(byValue(want), got); diff != "" {
		t.Errorf("EachMember (-want +got):\n%s", diff)
	}
}

func membersAmong(t *testing.T, d *directory) {
	ana, bob, carl, gone := d.addUser("ana"), d.addUser("bob"), d.addUser("carl"), d.addUser("gone")
	inner := d.addUser("inner")
	sub := d.addGroup("Sub", inner)
	g := d.addGroup("Staff", bob, gone, sub)
	d.addGroup("Others", carl)
	d.remove(gone)
	want := []storage.Member{
		{Value: ana.ID, Type: "User", Display: "A."}, {Value: bob.ID, Type: "User", Display: "bob"}, {Value: sub.ID, Type: "Group", Display: "Sub"},
	}
	ask := append(idsOf(bob, ana, carl, gone, inner, sub, g, bob), "", storage.NewID())
	var got, none, left []storage.Member
	d.do(func(tx storage.Tx) (err error) {
		if _, err = tx.AddMembers(g, []storage.Member{{Value: ana.ID, Display: "A."}}); err != nil {
			return err
		}
		if got, err = tx.MembersAmong(g, ask); err != nil {
			return err
		}
		none, err = tx.MembersAmong(g, nil)
		return err
	})
	if diff := cmp.Diff(byValue(want), byValue(got)); diff != "" || len(none) > 0 {
		t.Errorf("MembersAmong (-want +got):\n%s%d of none", diff, len(none))
	}
	d.remove(g)
	d.do(func(tx storage.Tx) (err error) {
		left, err = tx.MembersAmong(g, ask)
		return err
	})
	if len(left) > 0 {
		t.Errorf("a deleted group has %d members", len(left))
	}
}

// crowd stores n users and returns them.
func (d *directory) crowd(n int) []*storage.Resource {
	d.t.Helper()
	list := make([]*storage.Resource, n)
	for i := range list {
		list[i] = d.draft(d.user, fmt.Sprintf(`{"userName":"crowd%05d"}`, i))
	}
	for portion := range slices.Chunk(list, 500) {
		d.do(func(tx storage.Tx) error {
			for _, r := range portion {
				if err := tx.Create(r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return list
}

func manyMembers(t *testing.T, d *directory) {
	raced.Skip(t)
	const n = 5000
	users := d.crowd(n)
	g := d.addGroup("Everybody", users...)
	d.wantMembers(g, users...)
	first, second := d.members(g), d.members(g)
	if !slices.Equal(first, second) {
		t.Error("Members came in another order the second time")
	}
	d.wantFound(d.group, `members.value eq "`+users[n-1].ID+`"`, g)
	d.wantCount("all again", 0, func(tx storage.Tx) (int, error) { return tx.SetMembers(g, asMembers(users...)) })
	d.wantCount("half of them", n/2, func(tx storage.Tx) (int, error) { return tx.SetMembers(g, asMembers(users[n/2:]...)) })
	d.wantMembers(g, users[n/2:]...)
}

func membersBehind(t *testing.T, d *directory) {
	users := d.crowd(40)
	ids := idsOf(users...)
	slices.Sort(ids)
	g := d.addGroup("Some", slices.DeleteFunc(slices.Clone(users), func(r *storage.Resource) bool { return r.ID == ids[7] })...)
	for _, at := range []int{0, 7, 8, 38, 39} {
		var got []string
		for m, err := range d.Members(t.Context(), d.tenant, g.ID, ids[at]) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m.Value)
		}
		want := slices.DeleteFunc(slices.Clone(ids[at+1:]), func(id string) bool { return id == ids[7] })
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("behind %d of 40 (-want +got):\n%s", at, diff)
		}
	}
}

func movingMembers(t *testing.T, d *directory) {
	raced.Skip(t)
	users := d.crowd(2600)
	stay, come, leave := users[:2400], users[2400:2500], users[2500:]
	g := d.addGroup("Everybody", append(slices.Clone(leave[:50]), append(slices.Clone(stay), leave[50:]...)...)...)
	seen := map[string]int{}
	i := 0
	for m, err := range d.Members(t.Context(), d.tenant, g.ID, "") {
		if err != nil {
			t.Fatal(err)
		}
		seen[m.Value]++
		if i%25 == 0 && i/25 < 50 {
			n := i / 25
			d.do(func(tx storage.Tx) error {
				_, err := tx.AddMembers(g, asMembers(come[2*n], come[2*n+1]))
				_, err2 := tx.RemoveMembers(g, idsOf(leave[n], leave[99-n]))
				return errors.Join(err, err2)
			})
		}
		i++
	}
	for _, u := range stay {
		if seen[u.ID] != 1 {
			t.Fatalf("%s came %d times, want once", u.Name, seen[u.ID])
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Fatalf("%s came %d times", id, n)
		}
	}
	d.wantMembers(g, append(slices.Clone(stay), come...)...)
}

func stopMembers(t *testing.T, d *directory) {
	users := d.crowd(3)
	g := d.addGroup("Staff", users...)
	for range 100 { // more than any pool has connections
		n := 0
		for _, err := range d.Members(t.Context(), d.tenant, g.ID, "") {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 2 {
				break
			}
		}
		if n != 2 {
			t.Fatalf("saw %d members, want 2", n)
		}
	}
	d.wantMembers(g, users...)
}

func countMembers(t *testing.T, d *directory) {
	gone := d.addUser("gone")
	g := d.addGroup("Staff", append(d.crowd(6), d.addGroup("Sub"), gone)...)
	d.remove(gone)
	d.remove(d.addUser("another"))
	for limit, want := range map[int]int{0: 0, 1: 1, 6: 6, 7: 7, 8: 7, all: 7} {
		if n, err := d.CountMembers(t.Context(), d.tenant, g.ID, limit); err != nil || n != want {
			t.Errorf("CountMembers up to %d: got %d, %v, want %d", limit, n, err, want)
		}
	}
}

func orderOfIDs(t *testing.T, d *directory) {
	list := make([]*storage.Resource, 6)
	for i := range list {
		rt, body := d.user, fmt.Sprintf(`{"userName":"u%d"}`, i)
		if i%2 == 1 {
			rt, body = d.group, fmt.Sprintf(`{"displayName":"g%d"}`, i)
		}
		list[i] = d.draft(rt, body)
	}
	for _, r := range slices.Backward(list) {
		d.do(func(tx storage.Tx) error { return tx.Create(r) })
	}
	g := d.addGroup("Staff")
	for _, i := range []int{3, 5, 0, 1, 4, 2} {
		d.addMembers(g, list[i])
	}
	d.wantMembers(g, list...)
	d.do(func(tx storage.Tx) error {
		var got []string
		err := tx.EachMember(g, func(m storage.Member) error { got = append(got, m.Value); return nil })
		if want := idsOf(list...); !slices.Equal(got, want) {
			t.Errorf("EachMember: got %q, want %q", got, want)
		}
		return err
	})
	ana := d.addUser("ana")
	for _, i := range []int{5, 1, 3} {
		d.addMembers(list[i], ana)
	}
	d.addMembers(list[1], list[3])
	above := d.withID(d.draft(d.group, `{"displayName":"Above"}`), list[0].ID[:35]+"!")
	d.do(func(tx storage.Tx) error { return tx.Create(above) })
	d.addMembers(above, list[5], list[1])
	d.wantGroups(ana, direct(list[1]), direct(list[3]), direct(list[5]), indirect(g), indirect(above))
	d.do(func(tx storage.Tx) error {
		groups, err := tx.MemberOf(ana)
		if got, want := idsOf(groups...), idsOf(list[1], list[3], list[5]); !slices.Equal(got, want) {
			t.Errorf("MemberOf: got %q, want %q", got, want)
		}
		return err
	})
}

func noGroup(t *testing.T, d *directory) {
	ana := d.addUser("ana")
	d.addGroup("Staff", ana)
	for _, id := range []string{ana.ID, storage.NewID(), ""} {
		for m, err := range d.Members(t.Context(), d.tenant, id, "") {
			t.Errorf("Members of %q: got %v, %v", id, m, err)
		}
		if n, err := d.CountMembers(t.Context(), d.tenant, id, all); err != nil || n != 0 {
			t.Errorf("CountMembers of %q: got %d, %v", id, n, err)
		}
	}
}

func nestedGroups(_ *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	team := d.addGroup("Team", ana)
	unit := d.addGroup("Unit", team, bob)
	firm := d.addGroup("Firm", unit)
	both := d.addGroup("Both", ana, unit)
	d.addGroup("Empty")
	d.wantGroups(ana, direct(team), direct(both), indirect(unit), indirect(firm))
	d.wantGroups(bob, direct(unit), indirect(firm), indirect(both))
	d.wantGroups(team, direct(unit), indirect(firm), indirect(both))
	d.wantGroups(unit, direct(firm), direct(both))
	d.wantGroups(firm)
	d.wantFound(d.user, `groups.value eq "`+firm.ID+`"`, ana, bob)
	d.wantFound(d.user, `groups[value eq "`+both.ID+`" and type eq "direct"]`, ana)
	d.wantFound(d.user, `groups[value eq "`+both.ID+`" and type eq "indirect"]`, bob)
	d.wantFound(d.group, `members.value eq "`+ana.ID+`"`, team, both)
	d.do(func(tx storage.Tx) error {
		_, err := tx.RemoveMembers(unit, idsOf(team))
		return err
	})
	d.wantGroups(ana, direct(team), direct(both))
	d.wantFound(d.user, `groups.value eq "`+firm.ID+`"`, bob)
}

func groupsDisplay(_ *testing.T, d *directory) {
	ana := d.addUser("ana")
	g := d.addGroup("Staff", ana)
	next := d.replace(g, `{"displayName":"Personnel"}`)
	d.wantGroups(ana, direct(next))
	d.wantFound(d.user, `groups.display eq "PERSONNEL"`, ana)
	d.wantFound(d.user, `groups.display eq "staff"`)
}

func manyGroups(t *testing.T, d *directory) {
	ana, bob, carl := d.addUser("ana"), d.addUser("bob"), d.addUser("carl")
	g := d.addGroup("Staff", ana, bob)
	h := d.addGroup("Board", bob)
	got, err := d.Groups(t.Context(), d.tenant, ana.ID, bob.ID, carl.ID, storage.NewID(), g.ID)
	want := map[string][]storage.Membership{ana.ID: {direct(g)}, bob.ID: inOrder([]storage.Membership{direct(g), direct(h)})}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Groups: %v (-want +got):\n%s", err, diff)
	}
	if none, err := d.Groups(t.Context(), d.tenant); err != nil || len(none) != 0 {
		t.Errorf("Groups of nobody: got %v, %v", none, err)
	}
}

// wantAncestors checks what Ancestors says in a write, whatever the order.
func (d *directory) wantAncestors(g *storage.Resource, want ...*storage.Resource) {
	d.t.Helper()
	var got []string
	d.do(func(tx storage.Tx) (err error) {
		got, err = tx.Ancestors(g)
		return err
	})
	if diff := cmp.Diff(idsOf(want...), got, anyOrder, cmpopts.EquateEmpty()); diff != "" {
		d.t.Errorf("Ancestors of %s (-want +got):\n%s", g.Name, diff)
	}
}

func ancestors(t *testing.T, d *directory) {
	team := d.addGroup("Team", d.addUser("ana"))
	d.wantAncestors(team)
	unit := d.addGroup("Unit", team, d.addGroup("Sister"))
	firm, club := d.addGroup("Firm", unit), d.addGroup("Club", team, unit)
	d.addGroup("Empty")
	d.wantAncestors(team, unit, firm, club)
	d.wantAncestors(unit, firm, club)
	d.wantAncestors(firm)
	// A write sees what it has done so far.
	var got []string
	err := d.try(func(tx storage.Tx) error {
		got = nil
		top := d.draft(d.group, `{"displayName":"Top"}`)
		if err := tx.Create(top); err != nil {
			return err
		}
		_, err := tx.AddMembers(top, asMembers(firm))
		_, err2 := tx.RemoveMembers(club, idsOf(unit))
		list, err3 := tx.Ancestors(unit)
		for _, id := range list {
			if id == top.ID {
				id = "top"
			}
			got = append(got, id)
		}
		return errors.Join(err, err2, err3, errTest)
	})
	wantError(t, "Write", err, errTest)
	if diff := cmp.Diff([]string{firm.ID, "top"}, got, anyOrder); diff != "" {
		t.Errorf("Ancestors in the middle of a write (-want +got):\n%s", diff)
	}
	d.remove(unit)
	d.wantAncestors(team, club)
	d.addMembers(team, club)
	d.wantAncestors(team, team, club)
}

func aboveNothing(t *testing.T, d *directory) {
	ana, sub := d.addUser("ana"), d.addGroup("Sub")
	d.addGroup("Staff", ana, sub)
	heldUser, heldGroup := d.hold(ana), d.hold(sub)
	d.remove(ana)
	d.remove(sub)
	for what, r := range map[string]*storage.Resource{"deleted": heldGroup, "unknown": {Type: "Group", ID: storage.NewID()}} {
		var ids []string
		d.do(func(tx storage.Tx) (err error) {
			ids, err = tx.Ancestors(r)
			return err
		})
		if len(ids) > 0 {
			t.Errorf("Ancestors of a group that is %s: got %q", what, ids)
		}
	}
	for what, r := range map[string]*storage.Resource{"deleted": heldUser, "unknown": {Type: "User", ID: storage.NewID()}} {
		var groups []*storage.Resource
		d.do(func(tx storage.Tx) (err error) {
			groups, err = tx.MemberOf(r)
			return err
		})
		if len(groups) > 0 {
			t.Errorf("MemberOf of a user that is %s: got %q", what, idsOf(groups...))
		}
	}
}

func cycles(_ *testing.T, d *directory) {
	ana := d.addUser("ana")
	a := d.addGroup("A", ana)
	b := d.addGroup("B", a)
	c := d.addGroup("C", b)
	d.addMembers(a, c)
	d.wantGroups(ana, direct(a), indirect(b), indirect(c))
	d.wantGroups(a, direct(b), indirect(c), indirect(a))
	d.wantFound(d.user, `groups.value eq "`+c.ID+`"`, ana)
	d.wantFound(d.user, `groups[display eq "b"]`, ana)
	d.remove(b)
	d.wantGroups(ana, direct(a))
	d.wantGroups(c, direct(a))
	d.wantMembers(c)
	d.wantFound(d.user, `groups.value eq "`+c.ID+`"`)
}

func selfMember(_ *testing.T, d *directory) {
	g := d.addGroup("Staff", d.addUser("ana"))
	d.addMembers(g, g)
	d.wantGroups(g, direct(g))
	d.remove(g)
	d.wantGone(g)
	d.addGroup("Staff")
}

func inGroups(t *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	sub := d.addGroup("Sub", ana)
	g := d.addGroup("Staff", sub)
	check := func(when string, want bool, resources ...*storage.Resource) {
		t.Helper()
		for _, r := range resources {
			if got := d.hold(r); got.InGroups != want {
				t.Errorf("%s: Get %s: InGroups is %v", when, r.Name, got.InGroups)
			}
			list, _, err := d.query(storage.Query{Type: r.Type, Filter: d.parse(d.typeOf(r), `id eq "`+r.ID+`"`), StartIndex: 1, Count: 1})
			if err != nil || len(list) != 1 || list[0].InGroups != want {
				t.Errorf("%s: Query for %s: got %+v, %v, want InGroups %v", when, r.Name, list, err, want)
			}
			d.do(func(tx storage.Tx) error {
				if got, err := tx.Get(r.Type, r.ID); err != nil || got.InGroups != want {
					t.Errorf("%s: Tx.Get %s: got %+v, %v, want InGroups %v", when, r.Name, got, err, want)
				}
				return nil
			})
		}
	}
	check("first", true, ana, sub)
	check("first", false, bob, g)
	d.remove(sub)
	check("after the group was deleted", false, bob, g)
	d.wantGroups(ana)
	d.addMembers(g, ana)
	check("in another group", true, ana)
	d.do(func(tx storage.Tx) error {
		_, err := tx.RemoveMembers(g, idsOf(ana))
		return err
	})
	d.wantGroups(ana)
}

func deletedMember(t *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	sub := d.addGroup("Sub", bob)
	g := d.addGroup("Staff", ana, bob, sub)
	d.remove(ana)
	d.remove(sub)
	d.wantMembers(g, bob)
	d.do(func(tx storage.Tx) error {
		return tx.EachMember(g, func(m storage.Member) error {
			if m.Value != bob.ID {
				t.Errorf("EachMember: got %+v", m)
			}
			return nil
		})
	})
	if got, err := d.Groups(t.Context(), d.tenant, ana.ID, sub.ID); err != nil || len(got) != 0 {
		t.Errorf("Groups of what is deleted: got %v, %v", got, err)
	}
	for _, f := range []string{`members.value eq "` + ana.ID + `"`, `members[value eq "` + ana.ID + `"]`, `members.value co "` + ana.ID + `"`,
		`members.display eq "ana"`, `members.type eq "Group"`, `members[not (value eq "` + bob.ID + `")]`} {
		d.wantFound(d.group, f)
	}
	d.wantFound(d.group, `members pr`, g)
	d.wantCount("removing what is deleted", 0, func(tx storage.Tx) (int, error) { return tx.RemoveMembers(g, idsOf(ana, sub)) })
	d.remove(bob)
	d.wantMembers(g)
	d.wantFound(d.group, `members pr`)
	d.wantFound(d.group, `not (members pr)`, g)
	// Somebody new with an old name is somebody else.
	d.addUser("ana")
	d.wantMembers(g)
}

func deletedGroup(t *testing.T, d *directory) {
	ana := d.addUser("ana")
	sub := d.addGroup("Sub", ana)
	g := d.addGroup("Staff", sub)
	other := d.addGroup("Other", ana)
	d.remove(sub)
	d.wantGroups(ana, direct(other))
	d.wantMembers(g)
	for m, err := range d.Members(t.Context(), d.tenant, sub.ID, "") {
		t.Errorf("Members of a deleted group: got %v, %v", m, err)
	}
	if n, err := d.CountMembers(t.Context(), d.tenant, sub.ID, all); err != nil || n != 0 {
		t.Errorf("CountMembers of a deleted group: got %d, %v", n, err)
	}
	for _, f := range []string{`groups.value eq "` + sub.ID + `"`, `groups.value eq "` + g.ID + `"`, `groups.display eq "Sub"`, `groups.type eq "indirect"`} {
		d.wantFound(d.user, f)
	}
	d.wantFound(d.group, `members.value eq "`+ana.ID+`"`, other)
	d.wantFound(d.user, `groups pr`, ana)
	d.remove(other)
	d.wantFound(d.user, `groups pr`)
	// A new group of the old name begins empty.
	again := d.addGroup("Sub")
	d.wantMembers(again)
	d.wantGroups(ana)
}

func groupsOfDeleted(t *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	g, h, other, gone := d.addGroup("G", ana, bob), d.addGroup("H", ana), d.addGroup("Other", bob), d.addGroup("Gone", ana)
	parent := d.addGroup("Parent", g)
	d.remove(gone)
	at := d.remove(ana)
	for r, moved := range map[*storage.Resource]bool{g: true, h: true, other: false, parent: false, bob: false} {
		want := *r
		if moved {
			want.Version, want.LastModified = r.Version+1, at
		}
		d.wantStored(&want)
	}
	d.wantFound(d.group, `meta.lastModified ge "`+at.Format("2006-01-02T15:04:05.000Z07:00")+`"`, g, h)
	d.wantFound(d.group, `meta.version eq "W/\"2\""`, g, h)
	// Whoever read a group before may not write over it.
	wantError(t, "Update", d.try(func(tx storage.Tx) error {
		return tx.Update(g, d.revise(d.group, g, `{"displayName":"G2"}`))
	}), storage.ErrConflict)
}

func memberOf(t *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	g, h := d.addGroup("G", ana, bob), d.addGroup("H", ana)
	gone, parent := d.addGroup("Gone", ana), d.addGroup("Parent", g)
	d.remove(gone)
	want := func(r *storage.Resource, groups ...*storage.Resource) {
		t.Helper()
		held := d.hold(r)
		d.do(func(tx storage.Tx) error {
			got, err := tx.MemberOf(held)
			if err != nil {
				return err
			}
			var ids, wanted []string
			for _, g := range got {
				ids = append(ids, g.ID)
				now, err := tx.Get("Group", g.ID)
				if err != nil {
					return err
				}
				if g.Type != "Group" || g.Version != now.Version || !g.LastModified.Equal(now.LastModified) || !g.Created.Equal(now.Created) {
					t.Errorf("MemberOf(%s): %+v, which is stored as %+v", r.Name, g, now)
				}
			}
			for _, g := range groups {
				wanted = append(wanted, g.ID)
			}
			slices.Sort(wanted)
			if !slices.Equal(ids, wanted) {
				t.Errorf("MemberOf(%s): %v, want %v", r.Name, ids, wanted)
			}
			return nil
		})
	}
	want(ana, g, h)
	want(bob, g)
	want(g, parent)
	want(parent)
	// It sees what the write has done so far, and a deletion changes those groups.
	d.do(func(tx storage.Tx) error {
		if _, err := tx.RemoveMembers(h, []string{ana.ID}); err != nil {
			return err
		}
		held, err := tx.Get("User", ana.ID)
		if err != nil {
			return err
		}
		got, err := tx.MemberOf(held)
		if err != nil || len(got) != 1 || got[0].ID != g.ID {
			t.Errorf("MemberOf after a removal: %v, %v, want G", got, err)
		}
		return nil
	})
	before := d.hold(g).Version
	d.remove(ana)
	if after := d.hold(g).Version; after != before+1 {
		t.Errorf("the deletion made version %d of G into %d", before, after)
	}
}

func setMembersDeleted(_ *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	g, h := d.addGroup("G", ana, bob), d.addGroup("H", ana)
	d.remove(ana)
	d.wantCount("the same without the deleted one", 0, func(tx storage.Tx) (int, error) { return tx.SetMembers(g, asMembers(bob)) })
	d.wantCount("nobody, where the deleted one was", 0, func(tx storage.Tx) (int, error) { return tx.SetMembers(h, nil) })
	d.wantMembers(g, bob)
	d.wantMembers(h)
	d.wantCount("nobody", 1, func(tx storage.Tx) (int, error) { return tx.SetMembers(g, nil) })
	// In a larger group, among few and among many who are deleted; what was there comes back
	// in other groups only.
	crowd := d.crowd(9)
	g = d.addGroup("Large", crowd...)
	for _, n := range []int{1, 5} {
		other := d.addGroup(fmt.Sprintf("Other %d", n), crowd...)
		gone := crowd[:n]
		crowd = crowd[n:]
		var hidden []*storage.WholeResource
		for _, r := range gone {
			hidden = append(hidden, d.removed(r))
		}
		d.wantCount("those who are left", 0, func(tx storage.Tx) (int, error) { return tx.SetMembers(g, asMembers(crowd...)) })
		for _, w := range hidden {
			d.restored(w)
		}
		d.wantMembers(g, crowd...)
		d.wantMembers(other, append(slices.Clone(gone), crowd...)...)
	}
}

func foreignMemberships(t *testing.T, d *directory) {
	ana, inner := d.addUser("ana"), d.addGroup("Inner")
	outer := d.addGroup("Outer", inner, ana)
	ana, inner, outer = d.hold(ana), d.hold(inner), d.hold(outer)
	d.in(acme).do(func(tx storage.Tx) error {
		groups, err := tx.MemberOf(ana)
		above, err2 := tx.Ancestors(inner)
		members := 0
		err3 := tx.EachMember(outer, func(storage.Member) error { members++; return nil })
		among, err4 := tx.MembersAmong(outer, idsOf(ana, inner))
		if len(groups)+len(above)+members+len(among) > 0 {
			t.Errorf("groups of the user: %d, above the group: %d, members: %d and %d; want none", len(groups), len(above), members, len(among))
		}
		return errors.Join(err, err2, err3, err4)
	})
}
