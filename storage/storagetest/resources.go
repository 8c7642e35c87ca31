package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

var resourcePromises = []promise{
	{"the store answers Ping", ping},
	{"a new store has the default tenant", defaultTenant},
	{"Get returns what Create stored: bytes, version, times to the millisecond", createGet},
	{"Get of an unknown id or of another type is ErrNotFound", getUnknown},

	{"Names says what the resources that exist are called", names},

	{"Update puts next in the place of prev", update},
	{"Update with Doc nil changes only version and lastModified", updateWithoutDoc},
	{"Update is ErrConflict unless prev's version is the stored one", updateStale},
	{"Update of a deleted resource is ErrConflict", updateDeleted},

	{"Delete hides a resource from every reader", deleteHides},
	{"Delete is ErrConflict unless prev's version is the stored one", deleteStale},
	{"a Delete that fails changes nothing, even if the write goes on", deleteStaleGoesOn},
	{"a second Delete is ErrConflict, and reading before it ErrNotFound", deleteTwice},

	{"a unique value is taken once, and UniqueError names its path", unique},
	{"unique values are compared folded, in NFKC and trimmed", uniqueForms},
	{"unique values with caseExact are compared as they are, trimmed", uniqueExact},
	{"unique values too long for an index are told apart by all of them", uniqueLong},
	{"each element of a multi-valued attribute is a unique value", uniqueElements},
	{"the addresses that a user signs in by are unique among user names", uniqueAddresses},
	{"a resource is not in its own way", uniqueOwn},
	{"an Update to a taken value is a UniqueError", uniqueUpdate},
	{"an Update frees the old value at once", uniqueUpdateFrees},
	{"a Delete frees unique values at once", uniqueDeleteFrees},

	{"a write sees what it has done so far", seesItself},
	{"of a write whose fn fails nothing remains", failureLeavesNothing},
	{"of a write whose context is over nothing remains", overLeavesNothing},
	{"a panic fails only the write it happens in", panicFailsAlone},
	{"a panic in the middle of reading fails only the write it happens in", panicWhileReading},
	{"errors of fn come back as they are", errorsComeBack},
}

var errTest = errors.New("an error of fn")

func ping(t *testing.T, d *directory) {
	if err := d.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
}

func defaultTenant(t *testing.T, d *directory) {
	list, err := d.ListTenants(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != storage.DefaultTenant || list[0].Created.IsZero() {
		t.Errorf("ListTenants: got %+v, %v, want the default tenant", list, err)
	}
}

// awkward is text that a careless store would change.
const awkward = "\"\\/ \b\f\n\r\t \x01\x7f <>& ' % _ $ . é e\u0301 İı ß ＡＢ ﬁ 😀 \u2028 \uffff \U0010ffff "

func createGet(t *testing.T, d *directory) {
	for _, body := range []string{
		`{"userName":"small"}`,
		`{"userName":"rich@example.com","displayName":"Rich","externalId":"0042","active":false,
			"name":{"givenName":` + quote(awkward) + `,"familyName":"` + strings.Repeat("é", 500) + `"},
			"emails":[{"value":"a@example.com","type":"work","primary":true},{"value":"b@example.com"}],
			"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"R&D","manager":{"value":"x"}}}`,
		`{"userName":"large","nickName":"` + strings.Repeat("0123456789abcdef", 40_000) + `"}`,
	} {
		r := d.draft(d.user, body)
		r.Version = 7
		r.Created = r.Created.In(time.FixedZone("", 5*3600)).Add(123456 * time.Nanosecond)
		want := *r
		want.Created = r.Created.Truncate(time.Millisecond)
		d.do(func(tx storage.Tx) error { return tx.Create(r) })
		d.wantStored(&want)
		list, _, err := d.query(storage.Query{Type: "User", Filter: d.parse(d.user, `id eq "`+r.ID+`"`), StartIndex: 1, Count: 1})
		if diff := cmp.Diff([]*storage.Resource{&want}, list, sameResource); err != nil || diff != "" {
			t.Errorf("Query: %v (-want +got):\n%s", err, diff)
		}
		got, err := d.Get(t.Context(), d.tenant, "User", r.ID)
		if err != nil || got.Index != nil || got.Created.Location() != time.UTC || got.LastModified.Location() != time.UTC {
			t.Errorf("Get %s: got %+v, %v, want times in UTC and no index", r.Name, got, err)
		}
	}
}

func getUnknown(t *testing.T, d *directory) {
	u := d.addUser("ana")
	for _, k := range [][2]string{{"User", storage.NewID()}, {"Group", u.ID}, {"Device", u.ID}, {"user", u.ID}, {"User", strings.ToUpper(u.ID)}, {"User", ""}} {
		if got, err := d.Get(t.Context(), d.tenant, k[0], k[1]); !errors.Is(err, storage.ErrNotFound) || got != nil {
			t.Errorf("Get %q %q: got %+v, %v, want ErrNotFound", k[0], k[1], got, err)
		}
		d.do(func(tx storage.Tx) error {
			if _, err := tx.Get(k[0], k[1]); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("Tx.Get %q %q: got %v, want ErrNotFound", k[0], k[1], err)
			}
			return nil
		})
	}
}

func names(t *testing.T, d *directory) {
	ana, bob := d.add(d.user, `{"userName":"ana","displayName":"Ana Ng"}`), d.addUser("bob")
	gone, g := d.addUser("gone"), d.addGroup("Staff")
	d.remove(gone)
	check := func(d *directory, typ string, want map[string]string, ids ...string) {
		t.Helper()
		got, err := d.Names(t.Context(), d.tenant, typ, ids...)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("Names: %v (-want +got):\n%s", err, diff)
		}
	}
	check(d, "User", map[string]string{ana.ID: "Ana Ng", bob.ID: "bob"}, ana.ID, gone.ID, storage.NewID(), bob.ID, g.ID, "", ana.ID)
	check(d, "Group", map[string]string{g.ID: "Staff"}, ana.ID, g.ID)
	check(d, "User", nil)
	check(d.in(acme), "User", nil, ana.ID)
	d.replace(ana, `{"userName":"ana"}`)
	check(d, "User", map[string]string{ana.ID: "ana"}, ana.ID)
}

func update(_ *testing.T, d *directory) {
	u := d.add(d.user, `{"userName":"ana","displayName":"Ana","externalId":"1","title":"old","emails":[{"value":"ana@old.example"}]}`)
	other := d.add(d.user, `{"userName":"bob","displayName":"Bob","externalId":"2","title":"old","emails":[{"value":"bob@old.example"}]}`)
	next := d.replace(u, `{"userName":"anna","displayName":"Anna","externalId":"3","title":"new","emails":[{"value":"ana@new.example"}]}`)
	d.wantStored(next)
	d.wantStored(other)
	for _, f := range []string{`userName eq "anna"`, `displayName eq "Anna"`, `externalId eq "3"`, `title eq "new"`, `emails.value eq "ana@new.example"`, `meta.version eq "W/\"2\""`} {
		d.wantFound(d.user, f, next)
	}
	for _, f := range []string{`userName eq "ana"`, `displayName eq "Ana"`, `externalId eq "1"`, `emails.value eq "ana@old.example"`} {
		d.wantFound(d.user, f)
	}
	d.wantFound(d.user, `title eq "old"`, other)
	d.wantFound(d.user, `meta.lastModified ge "`+next.LastModified.Format(time.RFC3339Nano)+`"`, next)
}

func updateWithoutDoc(t *testing.T, d *directory) {
	u := d.add(d.user, `{"userName":"ana","displayName":"Ana","externalId":"1","title":"x"}`)
	next := d.touch(u)
	d.do(func(tx storage.Tx) error { return tx.Update(d.hold(u), next) })
	want := *u
	want.Version, want.LastModified = 2, next.LastModified
	d.wantStored(&want)
	for _, f := range []string{`userName eq "ana"`, `displayName eq "Ana"`, `externalId eq "1"`, `title eq "x"`} {
		d.wantFound(d.user, f, u)
	}
	wantUnique(t, "Create of the same name", d.try(func(tx storage.Tx) error {
		return tx.Create(d.draft(d.user, `{"userName":"ana"}`))
	}), "userName")
}

func updateStale(t *testing.T, d *directory) {
	u := d.add(d.user, `{"userName":"ana","title":"1"}`)
	stale := d.hold(u)
	now := d.replace(u, `{"userName":"anna","title":"2"}`)
	wantError(t, "Update", d.try(func(tx storage.Tx) error {
		return tx.Update(stale, d.revise(d.user, stale, `{"userName":"mine","title":"3"}`))
	}), storage.ErrConflict)
	wantError(t, "Update with Doc nil", d.try(func(tx storage.Tx) error { return tx.Update(stale, d.touch(stale)) }), storage.ErrConflict)
	d.wantStored(now)

	// The write may go on after the error, and then nothing of the Update is in it.
	var err error
	d.do(func(tx storage.Tx) error {
		err = tx.Update(stale, d.revise(d.user, stale, `{"userName":"mine","title":"3"}`))
		return nil
	})
	wantError(t, "Update", err, storage.ErrConflict)
	d.wantStored(now)
	d.wantFound(d.user, `userName eq "anna" and title eq "2"`, u)
	d.addUser("mine")
	d.addUser("ana")
}

func updateDeleted(t *testing.T, d *directory) {
	u := d.addUser("ana")
	held := d.hold(u)
	d.remove(u)
	wantError(t, "Update", d.try(func(tx storage.Tx) error {
		return tx.Update(held, d.revise(d.user, held, `{"userName":"ana2"}`))
	}), storage.ErrConflict)
	wantError(t, "Update with Doc nil", d.try(func(tx storage.Tx) error { return tx.Update(held, d.touch(held)) }), storage.ErrConflict)
	d.wantGone(u)
}

func deleteHides(t *testing.T, d *directory) {
	u := d.add(d.user, `{"userName":"ana","displayName":"Ana","externalId":"1","emails":[{"value":"a@x.example","type":"work"}]}`)
	stays := d.add(d.user, `{"userName":"bob","displayName":"Ana","externalId":"1","emails":[{"value":"a@x.example","type":"work"}]}`)
	g := d.addGroup("Staff", u, stays)
	d.remove(u)
	d.wantGone(u)
	d.wantFound(d.user, `userName eq "ana"`)
	for _, f := range []string{
		`externalId eq "1"`, `displayName eq "ana"`, `emails.value eq "a@x.example"`, `emails[type eq "work"]`, `displayName co "n"`,
		`groups.value eq "` + g.ID + `"`, `groups pr`, `meta.lastModified gt "2020-01-01T00:00:00Z"`, `meta.created pr`, `not (title pr)`,
	} {
		d.wantFound(d.user, f, stays)
	}
	for _, q := range []storage.Query{{}, {Descending: true}, {SortBy: d.user.Top("userName")}, {Filter: d.parse(d.user, "id pr")}} {
		q.Type, q.StartIndex, q.Count = "User", 1, all
		if ids, total := d.page(q); total != 1 || len(ids) != 1 || ids[0] != stays.ID {
			t.Errorf("Query %+v: got %d, %q, want the one that stays", q, total, ids)
		}
	}
}

func deleteStale(t *testing.T, d *directory) {
	u := d.addUser("ana")
	g := d.addGroup("Staff", u)
	stale := d.hold(u)
	now := d.replace(u, `{"userName":"ana","title":"x"}`)
	held := d.hold(g)
	wantError(t, "Delete", d.try(func(tx storage.Tx) error { return tx.Delete(stale, d.now()) }), storage.ErrConflict)
	d.wantStored(now)
	d.wantStored(held)
	d.wantMembers(g, u)
	d.wantFound(d.user, `userName eq "ana"`, u)
	wantUnique(t, "Create of the same name", d.try(func(tx storage.Tx) error {
		return tx.Create(d.draft(d.user, `{"userName":"ana"}`))
	}), "userName")
}

func deleteStaleGoesOn(t *testing.T, d *directory) {
	u := d.addUser("ana")
	g := d.addGroup("Staff", u)
	stale := d.hold(u)
	now := d.replace(u, `{"userName":"ana","title":"x"}`)
	held := d.hold(g)
	var err error
	d.do(func(tx storage.Tx) error {
		err = tx.Delete(stale, d.now())
		return nil
	})
	wantError(t, "Delete", err, storage.ErrConflict)
	d.wantStored(now)
	d.wantStored(held)
	if _, total := d.page(storage.Query{Type: "User", StartIndex: 1}); total != 1 {
		t.Errorf("TotalResults is %d, want 1", total)
	}
}

func deleteTwice(t *testing.T, d *directory) {
	u := d.addUser("ana")
	g := d.addGroup("Staff", u)
	held := d.hold(u)
	d.remove(u)
	before := d.hold(g)
	wantError(t, "second Delete", d.try(func(tx storage.Tx) error { return tx.Delete(held, d.now()) }), storage.ErrConflict)
	wantError(t, "second Delete after reading", d.try(func(tx storage.Tx) error {
		_, err := tx.Get("User", u.ID)
		return err
	}), storage.ErrNotFound)
	wantError(t, "Remains", d.try(func(tx storage.Tx) error { return tx.Remains("User", u.ID) }), storage.ErrNotFound)
	d.do(func(tx storage.Tx) error { return tx.Remains("Group", g.ID) })
	wantError(t, "Remains as another type", d.try(func(tx storage.Tx) error { return tx.Remains("User", g.ID) }), storage.ErrNotFound)
	d.wantStored(before)
	if _, total := d.page(storage.Query{Type: "User", StartIndex: 1}); total != 0 {
		t.Errorf("TotalResults is %d, want 0", total)
	}
}

func unique(t *testing.T, d *directory) {
	ana := d.addUser("ana")
	wantUnique(t, "second user", d.try(func(tx storage.Tx) error {
		return tx.Create(d.draft(d.user, `{"userName":"ana"}`))
	}), "userName")
	staff := d.addGroup("Staff")
	wantUnique(t, "second group", d.try(func(tx storage.Tx) error {
		return tx.Create(d.draft(d.group, `{"displayName":"Staff"}`))
	}), "displayName")
	d.wantFound(d.user, `userName pr`, ana)
	d.wantFound(d.group, `displayName pr`, staff)

	// Types are apart, and so are attributes that are not unique.
	d.addGroup("ana")
	d.add(d.user, `{"userName":"Staff","displayName":"ana"}`)
	d.add(d.user, `{"userName":"carl","displayName":"ana"}`)
}

func uniqueForms(t *testing.T, d *directory) {
	for i, pair := range [][2]string{
		{"Ana", "aNA"}, {"ＡＬＩＣＥ", "alice"}, {"straße", "STRASSE"}, {"ﬁnn", "FINN"}, {"e\u0301mile", "Émile"},
		{"bob", "  bob\t"}, {"\u00a0carl\u3000", "CARL"}, {"σίσυφος", "ΣΊΣΥΦΟΣ"}, {"İzmir", "i\u0307zmir"}, {"\u212a2", "k2"},
		{"o'brien%_", "O'BRIEN%_"},
	} {
		u := d.addUser(pair[0])
		wantUnique(t, fmt.Sprintf("%q beside %q", pair[1], pair[0]), d.try(func(tx storage.Tx) error {
			return tx.Create(d.draft(d.user, `{"userName":`+quote(pair[1])+`}`))
		}), "userName")
		if i%2 == 0 {
			d.remove(u)
			d.addUser(pair[1])
		}
	}
	for _, different := range []string{"ıstanbul", "istanbul", "İstanbul", "emile2", "émile2", "o'brien_%", "a.b", "a b"} {
		d.addUser(different)
	}
}

func uniqueExact(t *testing.T, d *directory) {
	d.add(d.device, `{"asset":"X-1"}`)
	wantUnique(t, "the same", d.try(func(tx storage.Tx) error { return tx.Create(d.draft(d.device, `{"asset":" X-1 "}`)) }), "asset")
	d.add(d.device, `{"asset":"x-1"}`)
	d.add(d.device, `{"asset":"Ｘ-1"}`)
}

func uniqueLong(t *testing.T, d *directory) {
	long := strings.Repeat("héllo wörld ", 40)
	d.addUser(long + "1")
	d.addUser(long + "2")
	d.addUser(long)
	wantUnique(t, "a long name again", d.try(func(tx storage.Tx) error {
		return tx.Create(d.draft(d.user, `{"userName":`+quote(strings.ToUpper(long)+"2")+`}`))
	}), "userName")
}

func uniqueElements(t *testing.T, d *directory) {
	a := d.add(d.device, `{"serials":["1","2"]}`)
	wantUnique(t, "one in common", d.try(func(tx storage.Tx) error { return tx.Create(d.draft(d.device, `{"serials":["3","2"]}`)) }), "serials")
	b := d.add(d.device, `{"serials":["3","4"]}`)
	a = d.replace(a, `{"serials":["1","5"]}`)
	b = d.replace(b, `{"serials":["3","2","4"]}`)
	wantUnique(t, "one in common after an Update", d.try(func(tx storage.Tx) error {
		return tx.Update(d.hold(a), d.revise(d.device, a, `{"serials":["4"]}`))
	}), "serials")
	// Of several the first is named, whoever was there first.
	for _, held := range [][]string{{`{"asset":"A"}`, `{"serials":["A"]}`}, {`{"serials":["B"]}`, `{"asset":"B"}`}} {
		for _, text := range held {
			d.add(d.device, text)
		}
	}
	for _, both := range []string{`{"asset":"A","serials":["A"]}`, `{"asset":"B","serials":["B"]}`} {
		wantUnique(t, "two that are taken", d.try(func(tx storage.Tx) error { return tx.Create(d.draft(d.device, both)) }), "asset")
		wantUnique(t, "two that are taken after an Update", d.try(func(tx storage.Tx) error {
			return tx.Update(d.hold(b), d.revise(d.device, b, both))
		}), "asset")
	}
}

func uniqueAddresses(t *testing.T, d *directory) {
	by := func(name, how string, addresses ...string) string {
		list := ""
		for i, a := range addresses {
			list += map[bool]string{true: "", false: ","}[i == 0] + `{"value":` + quote(a) + `}`
		}
		return `{"userName":` + quote(name) + `,"emails":[` + list + `],` + quote(schemas.RosterUserURI) + `:{"signInBy":` + quote(how) + `}}`
	}
	taken := func(what, text string) {
		t.Helper()
		wantUnique(t, what, d.try(func(tx storage.Tx) error { return tx.Create(d.draft(d.user, text)) }), "userName")
	}
	ana := d.add(d.user, by("ana", "email", "ana@x", " Ana@Y ", "ana"))
	bob := d.add(d.user, by("bob", "userName", "ana@x", "bob@x"))
	taken("a user called what is signed in by", `{"userName":"ANA@X"}`)
	taken("a user called the other address", `{"userName":"ana@y"}`)
	taken("a user who signs in by it too", by("cid", "email", "cid@x", "ana@y"))
	taken("a user who signs in by what another one is called", by("cid", "email", "bob"))
	d.add(d.user, `{"userName":"bob@x"}`) // which bob does not sign in by
	wantUnique(t, "Update to it", d.try(func(tx storage.Tx) error {
		return tx.Update(d.hold(bob), d.revise(d.user, bob, by("bob", "email", "ana@x")))
	}), "userName")
	d.wantFound(d.user, `userName eq "ana@x"`)
	d.wantFound(d.user, `userName eq "ana"`, ana)
	d.wantFound(d.user, `emails.value eq "ana@x"`, ana, bob)

	// What is given up is free.
	ana = d.replace(ana, by("ana", "email", "ana@y"))
	bob = d.replace(bob, by("bob", "email", "ana@x"))
	d.replace(ana, by("ana", "userName", "ana@y"))
	d.addUser("ana@y")
	d.remove(bob)
	d.addUser("ana@x")
}

func uniqueOwn(_ *testing.T, d *directory) {
	u := d.addUser("ana")
	u = d.replace(u, `{"userName":"ana","title":"x"}`)
	u = d.replace(u, `{"userName":" ANA "}`)
	d.wantFound(d.user, `userName eq " ana "`, u)
	d.wantFound(d.user, `userName eq "ana"`)
	d.replace(u, `{"userName":"ana"}`)
	d.wantFound(d.user, `userName eq "ana"`, u)
	twice := d.add(d.device, `{"serials":["1","1","2"]}`)
	d.replace(twice, `{"serials":["2","2","3","3"]}`)
	d.add(d.device, `{"serials":["1"]}`)
}

func uniqueUpdate(t *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	wantUnique(t, "Update", d.try(func(tx storage.Tx) error {
		return tx.Update(d.hold(bob), d.revise(d.user, bob, `{"userName":"ANA","title":"x"}`))
	}), "userName")
	d.wantStored(ana)
	d.wantStored(bob)
	d.wantFound(d.user, `userName eq "bob"`, bob)
}

func uniqueUpdateFrees(_ *testing.T, d *directory) {
	ana, bob := d.addUser("ana"), d.addUser("bob")
	d.replace(ana, `{"userName":"carl"}`)
	bob = d.replace(bob, `{"userName":"ana"}`)
	d.wantFound(d.user, `userName eq "ana"`, bob)
	d.addUser("bob")
	// Within one write, two may swap names by way of a third.
	a, b := d.hold(ana), d.hold(bob)
	d.do(func(tx storage.Tx) error {
		tmp := d.revise(d.user, a, `{"userName":"tmp"}`)
		return errors.Join(
			tx.Update(a, tmp),
			tx.Update(b, d.revise(d.user, b, `{"userName":"carl"}`)),
			tx.Update(tmp, d.revise(d.user, tmp, `{"userName":"ana"}`)))
	})
	d.wantFound(d.user, `userName eq "ana"`, ana)
	d.wantFound(d.user, `userName eq "carl"`, bob)
}

func uniqueDeleteFrees(_ *testing.T, d *directory) {
	ana := d.addUser("ana")
	held, again := d.hold(ana), d.draft(d.user, `{"userName":"ana"}`)
	d.do(func(tx storage.Tx) error { return errors.Join(tx.Delete(held, d.now()), tx.Create(again)) })
	d.wantFound(d.user, `userName eq "ana"`, again)
	for range 3 {
		d.remove(again)
		again = d.addUser("ana")
	}
	d.wantFound(d.user, `userName eq "ana"`, again)
	s := d.add(d.device, `{"asset":"1","serials":["a","b"]}`)
	d.remove(s)
	d.add(d.device, `{"asset":"1","serials":["b","a"]}`)
}

func seesItself(t *testing.T, d *directory) {
	u, g := d.draft(d.user, `{"userName":"ana","title":"1"}`), d.draft(d.group, `{"displayName":"Staff"}`)
	next := d.revise(d.user, u, `{"userName":"anna","title":"2"}`)
	var seen []string
	err := d.try(func(tx storage.Tx) error {
		seen = nil
		see := func(what string, err error) { seen = append(seen, fmt.Sprintf("%s: %v", what, err)) }
		see("create", errors.Join(tx.Create(u), tx.Create(g)))
		got, err := tx.Get("User", u.ID)
		see("get", err)
		if diff := cmp.Diff(u, got, sameResource); diff != "" {
			see("what was created is different:\n"+diff, nil)
		}
		n, err := tx.AddMembers(g, asMembers(u))
		see(fmt.Sprint("add ", n), err)
		see("each", tx.EachMember(g, func(m storage.Member) error {
			see("member "+m.Display, nil)
			return nil
		}))
		see("update", tx.Update(u, next))
		got, err = tx.Get("User", u.ID)
		see(fmt.Sprintf("get version %d", got.Version), err)
		see("stale update", tx.Update(u, next))
		see("second ana", tx.Create(d.draft(d.user, `{"userName":"ana"}`)))
		see("delete", tx.Delete(next, d.now()))
		_, err = tx.Get("User", u.ID)
		see("get", err)
		see("each", tx.EachMember(g, func(m storage.Member) error {
			see("member "+m.Display, nil)
			return nil
		}))
		_, err = tx.AddMembers(g, asMembers(u))
		see("add", err)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"create: <nil>", "get: <nil>", "add 1: <nil>", "member ana: <nil>", "each: <nil>", "update: <nil>", "get version 2: <nil>",
		"stale update: changed meanwhile", "second ana: <nil>", "delete: <nil>", "get: not found", "each: <nil>", "add: member 0 does not exist"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// everything is a write with one change of each kind, on what setUp returned.
func everything(d *directory, s *scene) func(storage.Tx) error {
	at := d.now()
	user := d.draft(d.user, `{"userName":"new","externalId":"new","emails":[{"value":"new@x.example"}]}`)
	group := d.draft(d.group, `{"displayName":"New"}`)
	client := &storage.Client{ID: "new", Name: "new", Created: at}
	u, g, gone := d.hold(s.user), d.hold(s.group), d.hold(s.gone)
	note, session := d.item("note", "1"), d.item("session", "1")
	return func(tx storage.Tx) error {
		steps := []func() error{
			func() error { return tx.Create(user) },
			func() error { return tx.Create(group) },
			func() error { _, err := tx.AddMembers(g, asMembers(user, group)); return err },
			func() error { _, err := tx.RemoveMembers(g, idsOf(s.user)); return err },
			func() error { _, err := tx.SetMembers(group, asMembers(user, s.user)); return err },
			func() error { return tx.Update(g, d.touch(g)) },
			func() error {
				return tx.Update(u, d.revise(d.user, u, `{"userName":"renamed","externalId":"renamed"}`))
			},
			func() error { return tx.PutItem(nil, newItem("note", "new", "both")) },
			func() error { return tx.PutItem(note, newItem("note", "1", "changed")) },
			func() error { return tx.DeleteItem(session) },
			func() error { return tx.Delete(gone, at) },
			func() error { return tx.CreateClient(client) },
			func() error {
				return tx.CreateToken(&storage.Token{ID: "new", Client: "new", Hash: []byte{1}, Created: at, Expires: at.Add(time.Hour)})
			},
			func() error { return tx.ExpireToken(s.token.ID, at) },
			func() error {
				return tx.UpdateClient(s.client, &storage.Client{ID: s.client.ID, Name: "renamed", Scopes: []string{"groups"}})
			},
			func() error { return tx.RevokeClient(s.client.ID, at) },
			func() error { return tx.Audit(storage.AuditEntry{At: at, Actor: "operator", Action: "new"}) },
			func() error {
				return tx.Audit(storage.AuditEntry{At: at, Actor: "operator", Action: "new", Type: "User", ID: user.ID, Version: 1})
			},
		}
		for i, step := range steps {
			if err := step(); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
		}
		return nil
	}
}

// scene is a small directory in a known state.
type scene struct {
	user, gone, group *storage.Resource
	client            *storage.Client
	token             *storage.Token
}

func setScene(d *directory) *scene {
	d.t.Helper()
	s := &scene{
		user:   d.add(d.user, `{"userName":"ana","externalId":"1","emails":[{"value":"ana@x.example"}]}`),
		gone:   d.addUser("gone"),
		client: &storage.Client{ID: "c1-" + string(d.tenant), Name: "idp", Scopes: []string{"users"}, Created: d.now()},
	}
	s.token = &storage.Token{ID: "t1-" + string(d.tenant), Client: s.client.ID, Hash: []byte{9}, Created: d.now(), Expires: birth.Add(24 * time.Hour)}
	s.group = d.addGroup("Staff", s.user, s.gone)
	session := newItem("session", "1", "both")
	session.Expires = birth.Add(time.Hour)
	d.do(func(tx storage.Tx) error {
		return errors.Join(tx.PutItem(nil, newItem("note", "1", "both", string(d.tenant))), tx.PutItem(nil, session), tx.CreateClient(s.client), tx.CreateToken(s.token),
			tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: "create", Type: "User", ID: s.user.ID, Version: 1}))
	})
	return s
}

// state is all that can be read of a tenant.
type state struct {
	Users, Groups           []*storage.Resource
	UserTotal, GroupTotal   int
	Members                 map[string][]storage.Member
	Items                   []*storage.Item // of the kinds that tests use
	Clients                 []*storage.Client
	Audit                   []storage.AuditEntry
	Events                  []storage.AuditEntry
	FoundUsers, FoundGroups []string
}

func (d *directory) state() state {
	d.t.Helper()
	s := state{Members: map[string][]storage.Member{}}
	var err error
	check := func(what string, err error) {
		if err != nil {
			d.t.Helper()
			d.t.Fatalf("%s: %v", what, err)
		}
	}
	s.Users, s.UserTotal, err = d.query(storage.Query{Type: "User", StartIndex: 1, Count: all})
	check("users", err)
	s.Groups, s.GroupTotal, err = d.query(storage.Query{Type: "Group", StartIndex: 1, Count: all})
	check("groups", err)
	for _, g := range s.Groups {
		s.Members[g.ID] = d.members(g)
	}
	for _, kind := range []string{"note", "session"} {
		s.Items = append(s.Items, d.items(kind, "")...)
	}
	s.Clients, err = d.ListClients(d.t.Context(), d.tenant)
	check("clients", err)
	s.Audit, err = d.AuditEntries(d.t.Context(), d.tenant, 0, all)
	check("audit", err)
	s.Events, err = d.Events(d.t.Context(), d.tenant, 0, all)
	check("events", err)
	for _, f := range []string{`externalId pr`, `emails.value ew "@x.example"`, `groups pr`, `title pr`} {
		s.FoundUsers = append(append(s.FoundUsers, f), d.find(d.user, f)...)
	}
	for _, f := range []string{`displayName pr`, `members pr`} {
		s.FoundGroups = append(append(s.FoundGroups, f), d.find(d.group, f)...)
	}
	return s
}

func failureLeavesNothing(t *testing.T, d *directory) {
	s := setScene(d)
	before := d.state()
	change := everything(d, s)
	err := d.try(func(tx storage.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		return errTest
	})
	wantError(t, "Write", err, errTest)
	if diff := cmp.Diff(before, d.state()); diff != "" {
		t.Errorf("the failed write left something (-before +after):\n%s", diff)
	}
	if _, _, err := d.Token(t.Context(), "new"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Token of the failed write: got %v, want ErrNotFound", err)
	}
	// The same write succeeds when nothing fails, so the state can tell.
	d.do(everything(d, s))
	if diff := cmp.Diff(before, d.state()); diff == "" {
		t.Error("the write that succeeded left nothing")
	}
}

func overLeavesNothing(t *testing.T, d *directory) {
	s := setScene(d)
	before, change := d.state(), everything(d, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "Write", d.Write(ctx, d.tenant, change), storage.ErrUnavailable)
	if diff := cmp.Diff(before, d.state()); diff != "" {
		t.Errorf("the write left something (-before +after):\n%s", diff)
	}
}

func panicFailsAlone(t *testing.T, d *directory) {
	s := setScene(d)
	before, change := d.state(), everything(d, s)
	done := make(chan error)
	const others = 8
	for i := range others {
		r := d.draft(d.device, fmt.Sprintf(`{"asset":"%d"}`, i))
		go func() { done <- d.try(func(tx storage.Tx) error { return tx.Create(r) }) }()
	}
	err := d.try(func(tx storage.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		panic("a bug in fn")
	})
	if err == nil || strings.Contains(err.Error(), "step") {
		t.Errorf("Write whose fn panics: got %v, want an error that says so", err)
	}
	for range others {
		if err := <-done; err != nil {
			t.Errorf("a write beside one that panics: %v", err)
		}
	}
	after := d.state()
	after.Audit = after.Audit[:max(0, len(after.Audit)-others)]
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the write that panicked left something (-before +after):\n%s", diff)
	}
	if _, total := d.page(storage.Query{Type: "Device", StartIndex: 1}); total != others {
		t.Errorf("got %d devices, want %d", total, others)
	}
}

func panicWhileReading(t *testing.T, d *directory) {
	g := d.addGroup("Staff", d.addUser("ana"), d.addUser("bob"))
	for range 3 {
		err := d.try(func(tx storage.Tx) error {
			return tx.EachMember(g, func(storage.Member) error { panic("a bug in fn") })
		})
		if err == nil {
			t.Error("Write whose fn panics: got no error")
		}
		wantError(t, "EachMember", d.try(func(tx storage.Tx) error {
			return tx.EachMember(g, func(storage.Member) error { return errTest })
		}), errTest)
	}
	n := 0
	d.do(func(tx storage.Tx) error { return tx.EachMember(g, func(storage.Member) error { n++; return nil }) })
	if n != 2 {
		t.Errorf("EachMember saw %d, want 2", n)
	}
	d.addUser("carl")
}

func errorsComeBack(t *testing.T, d *directory) {
	own := &fnError{}
	err := d.try(func(storage.Tx) error { return fmt.Errorf("while testing: %w", errors.Join(own, errTest)) })
	if got, ok := errors.AsType[*fnError](err); !ok || got != own || !errors.Is(err, errTest) {
		t.Errorf("got %v, want the error of fn", err)
	}
}

// fnError is a type of error no store knows.
type fnError struct{}

func (*fnError) Error() string { return "an error of fn's own" }
