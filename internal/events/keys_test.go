package events

import (
	"crypto/ed25519"
	"encoding/base64"
	"path/filepath"
	"slices"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// TestRotation: when the key file has a new key, feeds are sealed by it, and tokens signed
// by what comes of it; those signed before can be checked still, and nothing else that the
// key file signs is taken for a token.
func TestRotation(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "roster.keys")
	keys := ringOf(t, file)
	s := &Feeds{keys: keys}
	check := func(token string) error {
		_, err := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"})).Parse(token, func(tok *jwt.Token) (any, error) {
			for _, k := range s.Keys().Keys {
				if k.ID == tok.Header["kid"] {
					x, err := base64.RawURLEncoding.DecodeString(k.X)
					return ed25519.PublicKey(x), err
				}
			}
			return nil, jwt.ErrTokenUnverifiable
		})
		return err
	}
	before, err := s.sign(&claims{ID: "a.1"})
	if err != nil {
		t.Fatal(err)
	}
	f := &Feed{ID: "a", URL: "https://example.com/", secrets: secrets{Key: newSecret(), Token: "t"}}
	old, err := f.item(keys, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auth.AddKey(file); err != nil {
		t.Fatal(err)
	}
	next, err := Sealed.Reseal(keys, "acme", old)
	if err != nil || slices.Equal(next.Keys, old.Keys) {
		t.Fatalf("%v: the keys are %q, %q before", err, next.Keys, old.Keys)
	}
	for tenant, good := range map[storage.TenantID]bool{"acme": true, "other": false} {
		got, err := readFeed(keys, tenant, next)
		if (err == nil) != good || good && (got.URL != f.URL || got.secrets.Key != f.secrets.Key || got.secrets.Token != "t") {
			t.Errorf("read in %s: %+v, %v", tenant, got, err)
		}
	}
	after, err := s.sign(&claims{ID: "a.1"})
	if err != nil || after == before {
		t.Errorf("signed by the former key, or not at all: %v", err)
	}
	for _, token := range []string{before, after} {
		if err := check(token); err != nil {
			t.Error(err)
		}
		if err := check(token[:len(token)-4] + "AAAA"); err == nil {
			t.Error("a forged token is good")
		}
	}
	if n := len(s.Keys().Keys); n != 2 {
		t.Errorf("%d keys", n)
	}
	for _, k := range keys.PublicKeys() {
		if slices.ContainsFunc(keys.EventKeys(), func(e ed25519.PublicKey) bool { return e.Equal(k) }) {
			t.Error("tokens are signed by a key that signs other things")
		}
	}
}

// TestTellsOfAsync: whether a feed is told of the end of requests is known without its
// secrets: requests come to an end where the key file lacks the key that they need.
func TestTellsOfAsync(t *testing.T) {
	s := open(t, ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db"))
	tells := func() bool {
		t.Helper()
		ok, err := s.TellsOfAsync(t.Context(), storage.DefaultTenant)
		if err != nil {
			t.Error(err)
		}
		return ok
	}
	if tells() {
		t.Error("no feed is told")
	}
	if err := s.store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		return s.begin(tx, &Feed{ID: "sp", Delivery: Push, URL: "https://sp.example.com/"})
	}); err != nil {
		t.Fatal(err)
	}
	if !tells() {
		t.Error("a feed is told")
	}
	s.keys = ringOf(t, filepath.Join(t.TempDir(), "other.keys"))
	if !tells() {
		t.Error("a feed is told, and its secrets cannot be read")
	}
}
