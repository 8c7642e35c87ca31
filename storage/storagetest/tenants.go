package storagetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/storage"
)

var tenantPromises = []promise{
	{"tenants with the same ids and keys do not meet", sameKeys},
	{"no method shows one tenant to another", tenantsApart},
	{"no write of one tenant changes another", tenantsWriteApart},
	{"an index made for one tenant is refused in another", indexOfAnother},
	{"CreateTenant and RenameTenant show in ListTenants", createTenant},
	{"CreateTenant of a tenant that there is fails and undoes the write", createTenantTwice},
	{"of writes that create a tenant at once, one does", createTenantRace},
}

// tenants returns what ListTenants does.
func (d *directory) tenants() (list []storage.Tenant) {
	d.t.Helper()
	all, err := d.ListTenants(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	for _, t := range all {
		if t.ID != storage.DefaultTenant {
			list = append(list, *t)
		}
	}
	if len(list) != len(all)-1 {
		d.t.Errorf("of %d tenants, %d are not the default one", len(all), len(list))
	}
	return list
}

func createTenant(t *testing.T, d *directory) {
	at := d.now()
	b := d.in(acme)
	before := d.state()
	b.do(func(tx storage.Tx) error {
		return errors.Join(tx.CreateTenant("Acme", at), tx.PutItem(nil, newItem("note", "1")))
	})
	if diff := cmp.Diff([]storage.Tenant{{ID: acme, Name: "Acme", Created: at}}, d.tenants()); diff != "" {
		t.Errorf("after CreateTenant (-want +got):\n%s", diff)
	}
	b.do(func(tx storage.Tx) error { return tx.RenameTenant("Acme & Sons") })
	if diff := cmp.Diff([]storage.Tenant{{ID: acme, Name: "Acme & Sons", Created: at}}, d.tenants()); diff != "" {
		t.Errorf("after RenameTenant (-want +got):\n%s", diff)
	}
	wantError(t, "RenameTenant of no tenant", d.in("nobody").try(func(tx storage.Tx) error { return tx.RenameTenant("x") }), storage.ErrNotFound)
	for name, fn := range map[string]func(storage.Tx) error{
		"CreateTenant": func(tx storage.Tx) error { return tx.CreateTenant("x", at) },
		"RenameTenant": func(tx storage.Tx) error { return tx.RenameTenant("x") },
	} {
		tenant := acme
		if name == "CreateTenant" {
			tenant = "other"
		}
		wantError(t, name+" without an audit entry", d.Write(t.Context(), tenant, fn), storage.ErrUnaudited)
	}
	if diff := cmp.Diff(before, d.state()); diff != "" {
		t.Errorf("the default tenant has changed:\n%s", diff)
	}
}

func createTenantTwice(t *testing.T, d *directory) {
	b, at := d.in(acme), d.now()
	b.do(func(tx storage.Tx) error { return tx.CreateTenant("Acme", at) })
	for _, tenant := range []storage.TenantID{acme, storage.DefaultTenant} {
		err := d.in(tenant).try(func(tx storage.Tx) error {
			return errors.Join(tx.PutItem(nil, newItem("note", "1")), tx.CreateTenant("Other", at))
		})
		if e, ok := errors.AsType[*storage.UniqueError](err); !ok || e.Attr != "id" {
			t.Errorf("CreateTenant of %s again: got %v", tenant, err)
		}
		d.in(tenant).wantNoItem("note", "1")
	}
	if diff := cmp.Diff([]storage.Tenant{{ID: acme, Name: "Acme", Created: at}}, d.tenants()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func createTenantRace(t *testing.T, d *directory) {
	b := d.in(acme)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			errs[i] = b.try(func(tx storage.Tx) error {
				return errors.Join(tx.CreateTenant(fmt.Sprint("Acme ", i), d.now()), tx.PutItem(nil, newItem("note", fmt.Sprint(i))))
			})
		})
	}
	wg.Wait()
	won := -1
	for i, err := range errs {
		if err == nil && won >= 0 {
			t.Errorf("%d and %d created it", won, i)
		}
		if err == nil {
			won = i
		} else if _, ok := errors.AsType[*storage.UniqueError](err); !ok {
			t.Errorf("%d: got %v", i, err)
		}
	}
	if won < 0 {
		t.Fatal("nobody created it")
	}
	b.wantItems("note", "", fmt.Sprint(won))
	if list := d.tenants(); len(list) != 1 || list[0].Name != fmt.Sprint("Acme ", won) {
		t.Errorf("%d created it; got %+v", won, list)
	}
}

func indexOfAnother(t *testing.T, d *directory) {
	r := d.draft(d.user, `{"userName":"ana"}`)
	if err := d.in(acme).try(func(tx storage.Tx) error { return tx.Create(r) }); err == nil {
		t.Error("Create in acme took an index made for the default tenant")
	}
	stored := d.in(acme).addUser("ana")
	next := d.revise(d.user, stored, `{"userName":"bob"}`)
	if err := d.in(acme).try(func(tx storage.Tx) error { return tx.Update(stored, next) }); err == nil {
		t.Error("Update in acme took an index made for the default tenant")
	}
}

const acme storage.TenantID = "acme"

func sameKeys(t *testing.T, d *directory) {
	a, b := d, d.in(acme)
	const body = `{"userName":"ana","externalId":"1","displayName":"Ana","emails":[{"value":"a@x.example"}],"title":"of `
	ua, ga := a.draft(a.user, body+`default"}`), a.draft(a.group, `{"displayName":"Staff"}`)
	ub := b.withID(b.draft(b.user, body+`acme"}`), ua.ID)
	gb := b.withID(b.draft(b.group, `{"displayName":"Staff"}`), ga.ID)
	for _, c := range []struct {
		d    *directory
		u, g *storage.Resource
	}{{a, ua, ga}, {b, ub, gb}} {
		c.d.do(func(tx storage.Tx) error {
			err := errors.Join(tx.Create(c.u), tx.Create(c.g), tx.PutItem(nil, newItem("note", "1", "of "+string(c.d.tenant), "both")))
			_, err2 := tx.AddMembers(c.g, []storage.Member{{Value: c.u.ID, Display: "in " + string(c.d.tenant)}})
			return errors.Join(err, err2, tx.CreateClient(newClient(c.d, "c1", "idp")),
				tx.CreateToken(newToken(c.d, "k-"+string(c.d.tenant), "c1")))
		})
	}
	for _, c := range []struct {
		d    *directory
		u, g *storage.Resource
	}{{a, ua, ga}, {b, ub, gb}} {
		c.d.wantStored(c.u)
		for _, f := range []string{`userName eq "ana"`, `externalId eq "1"`, `displayName eq "ana"`, `emails.value eq "a@x.example"`,
			`groups.value eq "` + ga.ID + `"`, `id eq "` + ua.ID + `"`} {
			list, total, err := c.d.query(storage.Query{Type: "User", Filter: c.d.parse(c.d.user, f), StartIndex: 1, Count: all})
			if err != nil || total != 1 || len(list) != 1 || !cmp.Equal(c.u, list[0], sameResource) {
				t.Errorf("%s: %s: got %d %+v, %v, want this tenant's", c.d.tenant, f, total, list, err)
			}
		}
		c.d.wantItem(newItem("note", "1", "both", "of "+string(c.d.tenant)), 1)
		c.d.wantItems("note", "both", "1")
		if m := c.d.members(c.g); len(m) != 1 || m[0].Display != "in "+string(c.d.tenant) {
			t.Errorf("%s: Members: got %+v", c.d.tenant, m)
		}
		if _, cl := c.d.token("k-"+string(c.d.tenant), func(*storage.Token, *storage.Client) bool { return true }); cl.Tenant != c.d.tenant {
			t.Errorf("%s: the token's client is of %s", c.d.tenant, cl.Tenant)
		}
	}
	// What one loses the other keeps.
	b.remove(ub)
	b.wantGone(ub)
	b.wantMembers(gb)
	a.wantStored(ua)
	a.wantMembers(ga, ua)
	a.wantFound(a.user, `userName eq "ana"`, ua)
	a.wantFound(a.user, `groups.value eq "`+ga.ID+`"`, ua)
	b.do(func(tx storage.Tx) error { return tx.RevokeClient("c1", d.now()) })
	if k, cl := a.token("k-default", func(*storage.Token, *storage.Client) bool { return true }); !cl.Revoked.IsZero() || !k.Expires.After(birth.Add(time.Hour)) {
		t.Errorf("revoking acme's client revoked the other: %+v", cl)
	}
}

func tenantsApart(t *testing.T, d *directory) {
	a, b := d, d.in(acme)
	s := setScene(a)
	empty := b.state()
	if n := len(empty.Users) + len(empty.Groups) + len(empty.Clients) + len(empty.Audit) + len(empty.Events) + empty.UserTotal + empty.GroupTotal; n != 0 {
		t.Errorf("the other tenant sees %+v", empty)
	}
	for _, r := range []*storage.Resource{s.user, s.group} {
		b.wantGone(r)
		b.wantMembers(r)
		b.wantGroups(r)
	}
	for _, f := range []string{`userName eq "ana"`, `externalId eq "1"`, `emails.value eq "ana@x.example"`, `groups.value eq "` + s.group.ID + `"`,
		`meta.lastModified gt "2020-01-01T00:00:00Z"`, `groups pr`, `userName sw "a"`} {
		b.wantFound(b.user, f)
	}
	b.wantFound(b.group, `members.value eq "`+s.user.ID+`"`)
	b.wantFound(b.group, `displayName eq "Staff"`)
	b.wantItems("note", "")
	b.wantItems("note", "both")
	b.do(func(tx storage.Tx) error {
		if _, err := tx.Get("User", s.user.ID); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Tx.Get: got %v, want ErrNotFound", err)
		}
		return nil
	})
	// A second tenant's own things leave the first as it was.
	before := a.state()
	sb := setScene(b)
	if diff := cmp.Diff(before, a.state()); diff != "" {
		t.Errorf("the first tenant changed (-before +after):\n%s", diff)
	}
	b.wantGroups(sb.user, direct(sb.group))
	a.wantGroups(s.user, direct(s.group))
}

func tenantsWriteApart(t *testing.T, d *directory) {
	a, b := d, d.in(acme)
	s, sb := setScene(a), setScene(b)
	u, gone := a.hold(s.user), a.hold(s.gone)
	gb := b.hold(sb.group)
	a.put(nil, newItem("note", "2"))
	note := a.item("note", "2")
	ends := newItem("note", "3")
	ends.Expires = birth.Add(time.Minute)
	a.put(nil, ends)
	before := a.state()
	for name, fn := range map[string]func(storage.Tx) error{
		"Update":             func(tx storage.Tx) error { return tx.Update(u, d.revise(d.user, u, `{"userName":"stolen"}`)) },
		"Update without Doc": func(tx storage.Tx) error { return tx.Update(u, d.touch(u)) },
		"Delete":             func(tx storage.Tx) error { return tx.Delete(gone, d.now()) },
		"AddMembers":         func(tx storage.Tx) error { _, err := tx.AddMembers(gb, asMembers(s.user)); return err },
		"SetMembers":         func(tx storage.Tx) error { _, err := tx.SetMembers(gb, asMembers(sb.user, s.user)); return err },
		"RevokeClient":       func(tx storage.Tx) error { return tx.RevokeClient(s.client.ID, d.now()) },
		"ExpireToken":        func(tx storage.Tx) error { return tx.ExpireToken(s.token.ID, d.now()) },
		"PutItem":            func(tx storage.Tx) error { return tx.PutItem(note, newItem("note", "2")) },
		"DeleteItem":         func(tx storage.Tx) error { return tx.DeleteItem(note) },
		"Item":               func(tx storage.Tx) error { _, err := tx.Item("note", "2"); return err },
	} {
		if err := b.try(fn); err == nil {
			t.Errorf("%s of another tenant's: got no error", name)
		}
	}
	if n, err := b.tryMembers(func(tx storage.Tx) (int, error) { return tx.RemoveMembers(gb, idsOf(s.user)) }); err != nil || n != 0 {
		t.Errorf("RemoveMembers of another tenant's: got %d, %v, want 0", n, err)
	}
	for _, id := range []string{"2", "3"} {
		if err := b.ExtendItem(t.Context(), b.tenant, "note", id, birth.Add(time.Hour)); err != nil {
			t.Errorf("ExtendItem: %v", err)
		}
		if err := b.ForgetItems(t.Context(), b.tenant, "note", id); err != nil {
			t.Errorf("ForgetItems: %v", err)
		}
	}
	if got := a.item("note", "3"); !got.Expires.Equal(birth.Add(time.Minute)) {
		t.Errorf("an item of the first tenant expires at %s", got.Expires)
	}
	if err := b.TokenUsed(t.Context(), b.tenant, s.token.ID, birth); err != nil {
		t.Errorf("TokenUsed: %v", err)
	}
	if diff := cmp.Diff(before, a.state()); diff != "" {
		t.Errorf("the first tenant changed (-before +after):\n%s", diff)
	}
	b.wantMembers(sb.group, sb.user, sb.gone)
}
