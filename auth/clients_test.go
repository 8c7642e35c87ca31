package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

func TestEndings(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	token := func(id string, created, used, expires time.Duration) *storage.Token {
		k := &storage.Token{ID: id, Created: now.Add(created), Expires: now.Add(expires)}
		if used != 0 {
			k.LastUsed = now.Add(used)
		}
		return k
	}
	for _, test := range []struct {
		name    string
		tokens  []*storage.Token
		overlap time.Duration
		want    string
	}{
		{"none", nil, day, ""},
		{"one", []*storage.Token{token("a", -day, -1, 9*day)}, day, "a+24h0m0s"},
		{"no overlap", []*storage.Token{token("a", -day, -1, 9*day)}, 0, "a+0s"},
		{"ends sooner anyway", []*storage.Token{token("a", -day, -1, time.Hour)}, day, "a+1h0m0s"},
		{"expired", []*storage.Token{token("a", -day, -1, 0)}, day, ""},
		{"used and never used", []*storage.Token{token("a", -2*day, -1, 9*day), token("b", -day, 0, 9*day)}, day, "a+24h0m0s b+0s"},
		{"both used", []*storage.Token{token("a", -2*day, -2, 9*day), token("b", -day, -1, 9*day)}, day, "b+24h0m0s a+0s"},
		{"neither used", []*storage.Token{token("a", -2*day, 0, 9*day), token("b", -day, 0, 9*day)}, day, "b+24h0m0s a+0s"},
		{"three", []*storage.Token{token("a", -3, 0, day), token("b", -2, 0, day), token("c", -1, 0, day)}, time.Hour, "c+1h0m0s b+0s a+0s"},
	} {
		var got []string
		for _, e := range endings(test.tokens, now, test.overlap) {
			got = append(got, fmt.Sprintf("%s+%v", e.Token, e.At.Sub(now)))
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s: endings = %q; want %q", test.name, s, test.want)
		}
	}
}

// TestClientAsItIsKept: what is said of a client and its tokens when they are made is
// what is said later, to the millisecond.
func TestClientAsItIsKept(t *testing.T) {
	m := &ClientManager{Store: openStore(t), Now: func() time.Time { return time.Unix(1772366400, 123456789) }}
	same := func(what string, made *NewClient) {
		t.Helper()
		kept, err := m.Find(t.Context(), operator, made.Client.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range kept.Tokens {
			if k.ID == made.Token.ID && made.Client.Created.Equal(kept.Created) && k.Created.Equal(made.Token.Created) && k.Expires.Equal(made.Token.Expires) {
				return
			}
		}
		t.Errorf("%s: %+v and %+v; later %+v", what, made.Client, made.Token, kept)
	}
	const lifetime = time.Hour + 987654321
	made, err := m.Create(t.Context(), operator, &storage.Client{Name: "hr", Scopes: []string{"users"}}, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	same("made", made)
	if made, err = m.Rotate(t.Context(), operator, made.Client.ID, time.Minute, lifetime); err != nil {
		t.Fatal(err)
	}
	same("rotated", made)
}

// before is a store in which something else is written first, once.
type before struct {
	storage.Store
	first func()
}

func (b *before) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	if first := b.first; first != nil {
		b.first = nil
		first()
	}
	return b.Store.Write(ctx, tenant, fn)
}

// TestRotateMeetsChange: nobody gets a token of a client that may do more than they may
// by the time it is made, or that has been revoked by then.
func TestRotateMeetsChange(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(m *ClientManager, id string) error
		want   error
	}{
		{"more scopes", func(m *ClientManager, id string) error {
			_, err := m.Update(t.Context(), operator, id, ClientChange{Scopes: &[]string{"users"}})
			return err
		}, ErrNotPermitted},
		{"revoked", func(m *ClientManager, id string) error { return m.Revoke(t.Context(), operator, id) }, ErrRevoked},
	} {
		d := newDirectory(t)
		few := Principal{Kind: User, Tenant: storage.DefaultTenant, ID: d.add("ana", true), Level: MFA, Permissions: NewPermissions(PermissionClientsWrite, PermissionUsersRead)}
		m := &ClientManager{Store: d.Store, Now: d.clock.now}
		made, err := m.Create(t.Context(), operator, &storage.Client{Name: "hr", Scopes: []string{"users:read"}}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		id := made.Client.ID
		meets := &ClientManager{Now: d.clock.now, Store: &before{Store: d.Store, first: func() {
			if err := test.change(m, id); err != nil {
				t.Error(err)
			}
		}}}
		if got, err := meets.Rotate(t.Context(), few, id, time.Minute, time.Hour); !errors.Is(err, test.want) {
			t.Errorf("%s: Rotate = %+v, %v; want %v", test.name, got, err, test.want)
		}
		if c, err := m.Find(t.Context(), operator, id); err != nil || len(c.Tokens) != 1 {
			t.Errorf("%s: %d tokens, %v; want 1", test.name, len(c.Tokens), err)
		}
	}
}
