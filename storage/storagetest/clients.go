package storagetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/storage"
)

var clientPromises = []promise{
	{"a client and its tokens come back as they were stored", createClient},
	{"the name of a client is unique in its tenant", clientName},
	{"ListClients returns clients by name, revoked ones too", listClients},
	{"Token of an unknown id is ErrNotFound", unknownToken},
	{"UpdateClient changes name, scopes, profile, references and networks and nothing else", updateClient},
	{"UpdateClient fails when the client is not as it was, or its new name is taken", updateClientConflict},
	{"of two that update a client at once one does", updateClientRace},
	{"RevokeClient ends a client and all its tokens", revokeClient},
	{"RevokeClient of an unknown or a revoked client is ErrNotFound", revokeTwice},
	{"the name of a revoked client is free", revokedName},
	{"RevokeClient does not extend a token that ended before", revokeNeverExtends},
	{"ExpireToken brings the end of one token forward and never extends it", expireToken},
	{"ExpireToken of an unknown token is ErrNotFound", expireUnknown},
	{"Tokens are those of one client, as the write sees them", tokensInWrite},
	{"TokenUsed notes the last use to the minute and needs no audit entry", tokenUsed},
}

// staleness is how old an answer of Token may be.
const staleness = time.Second / 2

// token returns a token and its client as they are once every older answer has
// gone stale. While waiting for what it should be it asks again.
func (d *directory) token(id string, settled func(*storage.Token, *storage.Client) bool) (*storage.Token, *storage.Client) {
	d.t.Helper()
	for deadline := time.Now().Add(2 * staleness); ; time.Sleep(20 * time.Millisecond) {
		last := time.Now().After(deadline) // it is asked once more after that, however long the last answer took
		k, c, err := d.Token(d.t.Context(), id)
		if err != nil {
			d.t.Fatalf("Token %s: %v", id, err)
		}
		if settled(k, c) || last {
			return k, c
		}
	}
}

func newClient(d *directory, id, name string) *storage.Client {
	return &storage.Client{
		ID: id, Tenant: d.tenant, Name: name, Scopes: []string{"users", "groups:read"}, Profile: "entra", References: "late",
		Networks: []string{"192.0.2.0/24", "2001:db8::/32"}, Rate: 50, Burst: 100, Created: d.now(),
	}
}

func newToken(d *directory, id, client string) *storage.Token {
	return &storage.Token{ID: id, Client: client, Hash: []byte("\x00\xff" + id), Created: d.now(), Expires: birth.Add(90 * 24 * time.Hour)}
}

func (d *directory) store(c *storage.Client, tokens ...*storage.Token) {
	d.t.Helper()
	d.do(func(tx storage.Tx) error {
		err := tx.CreateClient(c)
		for _, k := range tokens {
			err = errors.Join(err, tx.CreateToken(k))
		}
		return err
	})
}

func (d *directory) clients() []*storage.Client {
	d.t.Helper()
	list, err := d.ListClients(d.t.Context(), d.tenant)
	if err != nil {
		d.t.Fatalf("ListClients: %v", err)
	}
	return list
}

// wantClients checks ListClients; the order of a client's tokens is open.
func (d *directory) wantClients(want ...*storage.Client) {
	d.t.Helper()
	byID := cmpopts.SortSlices(func(a, b *storage.Token) bool { return a.ID < b.ID })
	if diff := cmp.Diff(want, d.clients(), byID, cmpopts.EquateEmpty()); diff != "" {
		d.t.Errorf("ListClients (-want +got):\n%s", diff)
	}
}

func createClient(t *testing.T, d *directory) {
	c, bare := newClient(d, "c1", "Entra "+awkward), &storage.Client{ID: "c2", Tenant: d.tenant, Name: "Bare", Created: d.now()}
	k, k2 := newToken(d, "k1", "c1"), newToken(d, "k2", "c1")
	d.store(c, k, k2)
	d.store(bare)
	gotToken, gotClient := d.token("k1", func(*storage.Token, *storage.Client) bool { return true })
	if diff := cmp.Diff(k, gotToken); diff != "" {
		t.Errorf("Token (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(c, gotClient, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Token's client (-want +got):\n%s", diff)
	}
	c.Tokens = []*storage.Token{k, k2}
	d.wantClients(bare, c)
}

func clientName(t *testing.T, d *directory) {
	d.store(newClient(d, "c1", "Entra"))
	wantUnique(t, "CreateClient", d.try(func(tx storage.Tx) error { return tx.CreateClient(newClient(d, "c2", "Entra")) }), "name")
	d.store(newClient(d, "c3", "Okta"))
	if list := d.clients(); len(list) != 2 {
		t.Errorf("got %d clients, want 2", len(list))
	}
}

func listClients(_ *testing.T, d *directory) {
	d.wantClients()
	b, a, c := newClient(d, "1", "b"), newClient(d, "2", "a"), newClient(d, "3", "c")
	for _, cl := range []*storage.Client{b, a, c} {
		d.store(cl)
	}
	at := d.now()
	d.do(func(tx storage.Tx) error { return tx.RevokeClient("1", at) })
	b.Revoked = at
	d.wantClients(a, b, c)
}

func unknownToken(t *testing.T, d *directory) {
	d.store(newClient(d, "c1", "Entra"), newToken(d, "k1", "c1"))
	for _, id := range []string{"k2", "K1", "", "c1"} {
		k, c, err := d.Token(t.Context(), id)
		if !errors.Is(err, storage.ErrNotFound) || k != nil || c != nil {
			t.Errorf("Token %q: got %v, %v, %v, want ErrNotFound", id, k, c, err)
		}
	}
}

func updateClient(t *testing.T, d *directory) {
	prev, k := newClient(d, "c1", "Entra"), newToken(d, "k1", "c1")
	other := newClient(d, "c2", "Okta")
	d.store(prev, k)
	d.store(other)
	next := *prev
	next.Name, next.Scopes, next.Profile, next.References, next.Networks = "Entra "+awkward, []string{"users:read"}, "", "", nil
	next.Rate, next.Burst = 0, 0
	d.do(func(tx storage.Tx) error { return tx.UpdateClient(prev, &next) })
	_, got := d.token("k1", func(_ *storage.Token, c *storage.Client) bool { return c.Name == next.Name })
	if diff := cmp.Diff(&next, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Token's client (-want +got):\n%s", diff)
	}
	// Several in one write, and the names that this frees.
	third := next
	third.Name, third.Networks, third.Rate, third.Burst = "Third", []string{"192.0.2.0/24"}, 7, 9
	otherNext := *other
	otherNext.Name = next.Name
	c3, c4 := newClient(d, "c3", "Entra"), newClient(d, "c4", "Okta")
	d.do(func(tx storage.Tx) error {
		return errors.Join(tx.UpdateClient(&next, &third), tx.UpdateClient(other, &otherNext), tx.CreateClient(c3), tx.CreateClient(c4))
	})
	third.Tokens = []*storage.Token{k}
	d.wantClients(c3, &otherNext, c4, &third)
}

func updateClientConflict(t *testing.T, d *directory) {
	prev, other, revoked := newClient(d, "c1", "Entra"), newClient(d, "c2", "Okta"), newClient(d, "c3", "Old")
	for _, c := range []*storage.Client{prev, other, revoked} {
		d.store(c)
	}
	at := d.now()
	d.do(func(tx storage.Tx) error { return tx.RevokeClient("c3", at) })
	revoked.Revoked = at
	change := func(c *storage.Client, fn func(*storage.Client)) *storage.Client {
		next := *c
		fn(&next)
		return &next
	}
	rename := func(c *storage.Client) { c.Name = "New" }
	wantUnique(t, "UpdateClient", d.try(func(tx storage.Tx) error {
		return tx.UpdateClient(prev, change(prev, func(c *storage.Client) { c.Name = "Okta" }))
	}), "name")
	for name, was := range map[string]*storage.Client{
		"of another name":     change(prev, func(c *storage.Client) { c.Name = "Entre" }),
		"of other scopes":     change(prev, func(c *storage.Client) { c.Scopes = []string{"groups:read", "users"} }),
		"of another profile":  change(prev, func(c *storage.Client) { c.Profile = "" }),
		"of other references": change(prev, func(c *storage.Client) { c.References = "" }),
		"of other networks":   change(prev, func(c *storage.Client) { c.Networks = c.Networks[:1] }),
		"of another rate":     change(prev, func(c *storage.Client) { c.Rate = 0 }),
		"of another burst":    change(prev, func(c *storage.Client) { c.Burst = 51 }),
		"that was revoked":    revoked,
		"that nobody has":     newClient(d, "c4", "Nobody"),
		"of another tenant":   newClient(d.in(acme), "c9", "Theirs"),
	} {
		wantError(t, "UpdateClient of one "+name, d.try(func(tx storage.Tx) error { return tx.UpdateClient(was, change(was, rename)) }), storage.ErrConflict)
	}
	d.wantClients(prev, other, revoked)
	d.store(newClient(d, "c5", "New")) // nothing of what failed has taken the name
}

func updateClientRace(t *testing.T, d *directory) {
	prev := newClient(d, "c1", "Entra")
	d.store(prev)
	var (
		done atomic.Int32
		wait sync.WaitGroup
	)
	for n := range 8 {
		wait.Go(func() {
			next := *prev
			next.Scopes = []string{fmt.Sprintf("roles:assign:r%d", n)}
			err := d.Write(t.Context(), d.tenant, func(tx storage.Tx) error {
				return errors.Join(tx.UpdateClient(prev, &next), tx.Audit(storage.AuditEntry{At: birth, Actor: "operator", Action: "test"}))
			})
			switch {
			case err == nil:
				done.Add(1)
			case !errors.Is(err, storage.ErrConflict):
				t.Errorf("UpdateClient: %v, want ErrConflict", err)
			}
		})
	}
	wait.Wait()
	if n := done.Load(); n != 1 {
		t.Errorf("%d of 8 updated the client, want 1", n)
	}
}

func revokeClient(t *testing.T, d *directory) {
	d.store(newClient(d, "c1", "Entra"), newToken(d, "k1", "c1"), newToken(d, "k2", "c1"))
	d.store(newClient(d, "c2", "Okta"), newToken(d, "k3", "c2"))
	at := d.now()
	d.do(func(tx storage.Tx) error { return tx.RevokeClient("c1", at) })
	for _, id := range []string{"k1", "k2"} {
		k, c := d.token(id, func(k *storage.Token, _ *storage.Client) bool { return !k.Expires.After(at) })
		if k.Expires.After(at) || !c.Revoked.Equal(at) {
			t.Errorf("%s ends at %v, its client was revoked at %v; want both by %v", id, k.Expires, c.Revoked, at)
		}
	}
	k, c := d.token("k3", func(*storage.Token, *storage.Client) bool { return true })
	if !k.Expires.After(at) || !c.Revoked.IsZero() {
		t.Errorf("another client's token ends at %v, revoked %v", k.Expires, c.Revoked)
	}
}

func revokeTwice(t *testing.T, d *directory) {
	d.store(newClient(d, "c1", "Entra"))
	at := d.now()
	d.do(func(tx storage.Tx) error { return tx.RevokeClient("c1", at) })
	for _, id := range []string{"c1", "c2", ""} {
		wantError(t, "RevokeClient "+id, d.try(func(tx storage.Tx) error { return tx.RevokeClient(id, d.now()) }), storage.ErrNotFound)
	}
	if list := d.clients(); len(list) != 1 || !list[0].Revoked.Equal(at) {
		t.Errorf("got %+v, want one client revoked at %v", list, at)
	}
}

func revokedName(t *testing.T, d *directory) {
	for _, id := range []string{"c1", "c2", "c3"} {
		d.store(newClient(d, id, "Entra"))
		d.do(func(tx storage.Tx) error { return tx.RevokeClient(id, d.now()) })
	}
	d.store(newClient(d, "c4", "Entra"), newToken(d, "k4", "c4"))
	wantUnique(t, "CreateClient", d.try(func(tx storage.Tx) error { return tx.CreateClient(newClient(d, "c5", "Entra")) }), "name")
	if k, c := d.token("k4", func(*storage.Token, *storage.Client) bool { return true }); c.ID != "c4" || !c.Revoked.IsZero() || k.Client != "c4" {
		t.Errorf("the new client is %+v", c)
	}
	// Revoking and naming anew also go together in one write.
	d.do(func(tx storage.Tx) error {
		return errors.Join(tx.RevokeClient("c4", d.now()), tx.CreateClient(newClient(d, "c6", "Entra")))
	})
}

func revokeNeverExtends(t *testing.T, d *directory) {
	k := newToken(d, "k1", "c1")
	k.Expires = birth.Add(-time.Hour)
	d.store(newClient(d, "c1", "Entra"), k)
	d.do(func(tx storage.Tx) error { return tx.RevokeClient("c1", d.now()) })
	if got, _ := d.token("k1", func(_ *storage.Token, c *storage.Client) bool { return !c.Revoked.IsZero() }); !got.Expires.Equal(k.Expires) {
		t.Errorf("the token ends at %v, want %v as before", got.Expires, k.Expires)
	}
}

func expireToken(t *testing.T, d *directory) {
	k, other := newToken(d, "k1", "c1"), newToken(d, "k2", "c1")
	d.store(newClient(d, "c1", "Entra"), k, other)
	for _, step := range []struct{ at, want time.Time }{
		{k.Expires.Add(time.Hour), k.Expires},
		{birth.Add(2 * time.Hour), birth.Add(2 * time.Hour)},
		{birth.Add(3 * time.Hour), birth.Add(2 * time.Hour)},
		{birth.Add(-time.Hour), birth.Add(-time.Hour)},
		{birth, birth.Add(-time.Hour)},
	} {
		d.do(func(tx storage.Tx) error { return tx.ExpireToken("k1", step.at) })
		got, c := d.token("k1", func(k *storage.Token, _ *storage.Client) bool { return k.Expires.Equal(step.want) })
		if !got.Expires.Equal(step.want) || !c.Revoked.IsZero() {
			t.Errorf("after ExpireToken at %v the token ends at %v, want %v", step.at, got.Expires, step.want)
		}
	}
	if got, _ := d.token("k2", func(*storage.Token, *storage.Client) bool { return true }); !got.Expires.Equal(other.Expires) {
		t.Errorf("the other token ends at %v, want %v as before", got.Expires, other.Expires)
	}
}

func expireUnknown(t *testing.T, d *directory) {
	d.store(newClient(d, "c1", "Entra"))
	for _, id := range []string{"k1", "c1", ""} {
		wantError(t, "ExpireToken "+id, d.try(func(tx storage.Tx) error { return tx.ExpireToken(id, d.now()) }), storage.ErrNotFound)
	}
}

func tokensInWrite(t *testing.T, d *directory) {
	k1, k2, other := newToken(d, "k9", "c1"), newToken(d, "k1", "c1"), newToken(d, "k3", "c2")
	k1.Expires = birth.Add(-time.Hour) // over
	d.store(newClient(d, "c1", "Entra"), k1, k2)
	d.store(newClient(d, "c2", "Okta"), other)
	err := d.try(func(tx storage.Tx) error {
		check := func(when, client string, want ...*storage.Token) {
			t.Helper()
			got, err := tx.Tokens(client)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("%s: Tokens of %s: %v (-want +got):\n%s", when, client, err, diff)
			}
		}
		check("at first", "c1", k1, k2)
		check("at first", "c2", other)
		check("at first", "nobody")
		k4, ended := newToken(d, "k4", "c1"), *k2
		ended.Expires = d.now()
		err := errors.Join(tx.CreateToken(k4), tx.ExpireToken("k1", ended.Expires))
		check("afterwards", "c1", k1, &ended, k4)
		return errors.Join(err, errTest)
	})
	wantError(t, "Write", err, errTest)
	d.in(acme).do(func(tx storage.Tx) error {
		if got, err := tx.Tokens("c1"); err != nil || len(got) != 0 {
			t.Errorf("Tokens of another tenant's client: got %v, %v", got, err)
		}
		return nil
	})
}

func tokenUsed(t *testing.T, d *directory) {
	d.store(newClient(d, "c1", "Entra"), newToken(d, "k1", "c1"), newToken(d, "k2", "c1"))
	before := d.state()
	if k, _ := d.token("k1", func(*storage.Token, *storage.Client) bool { return true }); !k.LastUsed.IsZero() {
		t.Errorf("a new token was last used at %v", k.LastUsed)
	}
	first, second := birth.Add(10*time.Minute), birth.Add(30*time.Minute)
	// An earlier use may be noted late; it is not the last one then.
	for _, step := range []struct{ at, want time.Time }{{first, first}, {second, second}, {first, second}} {
		if err := d.TokenUsed(t.Context(), d.tenant, "k1", step.at); err != nil {
			t.Fatalf("TokenUsed: %v", err)
		}
		close := func(k *storage.Token, _ *storage.Client) bool { return k.LastUsed.Sub(step.want).Abs() <= time.Minute }
		if k, c := d.token("k1", close); !close(k, c) {
			t.Errorf("TokenUsed at %v: last used at %v, want %v", step.at, k.LastUsed, step.want)
		}
	}
	if err := d.TokenUsed(t.Context(), d.tenant, "nobody's", second); err != nil {
		t.Errorf("TokenUsed of an unknown token: %v", err)
	}
	if k, _ := d.token("k2", func(*storage.Token, *storage.Client) bool { return true }); !k.LastUsed.IsZero() {
		t.Errorf("another token was last used at %v", k.LastUsed)
	}
	unused := cmpopts.IgnoreFields(storage.Token{}, "LastUsed")
	if diff := cmp.Diff(before, d.state(), unused); diff != "" {
		t.Errorf("TokenUsed changed more (-before +after):\n%s", diff)
	}
}
