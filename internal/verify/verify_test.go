package verify

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
	"github.com/roster-id/roster/storage/sqlite"
)

var someday = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type store interface {
	storage.Store
	storage.Checker
}

func keyRing(t *testing.T) *auth.KeyRing {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roster.keys")
	if err := auth.CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	k, err := auth.LoadKeyRing(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const (
	ana  = "01a20000-0000-7000-8000-000000000001"
	gone = "01a20000-0000-7000-8000-000000000002"
)

func put(t *testing.T, s store, items ...*storage.Item) {
	t.Helper()
	err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		for _, i := range items {
			prev, err := tx.Item(i.Kind, i.ID)
			if errors.Is(err, storage.ErrNotFound) {
				prev, err = nil, nil
			}
			if err == nil {
				err = tx.PutItem(prev, i)
			}
			if err != nil {
				return err
			}
		}
		return tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "test"})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func item(kind, id, data string, keys ...string) *storage.Item {
	return &storage.Item{Kind: kind, ID: id, Data: []byte(data), Keys: keys}
}

// TestFindings: what only those know who wrote it is found, on both stores.
func TestFindings(t *testing.T) {
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	database := mongotest.Start(t)
	stores := map[string]func(t *testing.T) store{
		"SQLite": func(t *testing.T) store {
			s, err := sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"MongoDB": func(t *testing.T) store {
			s, err := mongo.Open(t.Context(), database.URI(database.NewDatabase(t)), mongo.Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	}
	factor := func(k *auth.KeyRing, owner string) string {
		c := auth.Credential{TOTP: &auth.Factor{Sealed: k.Seal([]byte("twenty bytes of a key"), string(storage.DefaultTenant), "totp", owner)}}
		return jsonOf(t, c)
	}
	for name, test := range map[string]struct {
		damage func(*testing.T, store, *auth.KeyRing)
		kind   storage.FlawKind
		id     string
	}{
		"nothing": {func(*testing.T, store, *auth.KeyRing) {}, "", ""},
		"a factor of another key file": {func(t *testing.T, s store, _ *auth.KeyRing) {
			put(t, s, item("credential", ana, factor(keyRing(t), ana)))
		}, storage.FlawSealed, ana},
		"a factor of another user": {func(t *testing.T, s store, k *auth.KeyRing) { put(t, s, item("credential", ana, factor(k, gone))) }, storage.FlawSealed, ana},
		"a canary of another key file": {func(t *testing.T, s store, _ *auth.KeyRing) {
			other := keyRing(t)
			put(t, s, item("keyring", "canary", jsonOf(t, map[string]any{"sealed": other.Seal([]byte("canary"), string(storage.DefaultTenant), "keyring")})))
		}, storage.FlawSealed, "canary"},
		"mail of another key file": {func(t *testing.T, s store, _ *auth.KeyRing) {
			put(t, s, item(mail.SealedKind, "m1", `{"kind":"test","sealed":"AAAAAQ=="}`, "v1/07"))
		}, storage.FlawSealed, "m1"},
		"a credential that is damaged": {func(t *testing.T, s store, _ *auth.KeyRing) { put(t, s, item("credential", ana, `[]`)) }, storage.FlawDocument, ana},
		"a credential of nobody": {func(t *testing.T, s store, _ *auth.KeyRing) {
			put(t, s, item("credential", strings.Replace(ana, "1", "9", 1), `{"passwordHash":"x"}`))
		}, storage.FlawReference, strings.Replace(ana, "1", "9", 1)},
		"a grant to nobody": {func(t *testing.T, s store, _ *auth.KeyRing) {
			put(t, s, item("grant", "g2", `{"role":"`+auth.Auditor+`","principal":"nobody","type":"User"}`))
		}, storage.FlawReference, "g2"},
		"a grant to no client": {func(t *testing.T, s store, _ *auth.KeyRing) {
			put(t, s, item("grant", "g2", `{"role":"`+auth.Auditor+`","principal":"nobody","type":"Client"}`))
		}, storage.FlawReference, "g2"},
		"a grant of no role": {func(t *testing.T, s store, _ *auth.KeyRing) {
			put(t, s, item("grant", "g2", `{"role":"none","principal":"`+ana+`","type":"User"}`))
		}, storage.FlawReference, "g2"},
		"the state of no invitation": {func(t *testing.T, s store, _ *auth.KeyRing) {
			put(t, s, item("invitation", "i1", `{"link":"x","address":"y","inviter":"operator","expires":"2026-03-01T12:00:00Z"}`))
		}, storage.FlawReference, "i1"},
		"a schema that is damaged": {func(t *testing.T, s store, _ *auth.KeyRing) { put(t, s, item(storage.SchemaKind, "x", `[]`)) }, storage.FlawDocument, ""},
		"a tenant loaded in part": {func(t *testing.T, s store, _ *auth.KeyRing) {
			err := s.Write(t.Context(), "acme", func(tx storage.Tx) error {
				return tx.SetLoad(nil, &storage.LoadMark{Dump: "d", Digest: []byte("x")})
			})
			if err == nil {
				err = s.Write(t.Context(), "acme", func(tx storage.Tx) error {
					return tx.Load(&storage.Record{Tenant: &storage.Tenant{ID: "acme", Name: "Acme", Created: someday}})
				})
			}
			if err != nil {
				t.Fatal(err)
			}
		}, storage.FlawLoading, ""},
		"a checkpoint of another key": {func(t *testing.T, s store, _ *auth.KeyRing) {
			c := audit.Checkpoint{Tenant: storage.DefaultTenant, At: someday, Seq: 1, Count: 1}
			c.Sign(keyRing(t).Signer())
			put(t, s, item(audit.ItemKind, audit.ItemID, jsonOf(t, c)))
		}, storage.FlawAudit, ""},
		"a checkpoint of entries that are gone": {func(t *testing.T, s store, k *auth.KeyRing) {
			c := audit.Checkpoint{Tenant: storage.DefaultTenant, At: someday, Seq: 100, Count: 100}
			c.Sign(k.Signer())
			put(t, s, item(audit.ItemKind, audit.ItemID, jsonOf(t, c)))
		}, storage.FlawAudit, ""},
	} {
		for kind, open := range stores {
			t.Run(name+" on "+kind, func(t *testing.T) {
				t.Parallel()
				s, keys := open(t), keyRing(t)
				defer s.Close()
				user := func(id, name string) *storage.Resource {
					rt := set.Type("User")
					attrs := map[string]any{"id": id, "userName": name}
					return &storage.Resource{Type: "User", ID: id, Version: 1, Created: someday, LastModified: someday, Name: name, Doc: rt.Document(attrs),
						Index: s.NewIndex(storage.DefaultTenant, rt, attrs)}
				}
				deleted := user(gone, "bob")
				entry := storage.AuditEntry{At: someday, Actor: "operator", Action: "test"}
				err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
					return errors.Join(tx.Create(user(ana, "ana")), tx.Create(deleted), keys.MeetCanary(tx, storage.DefaultTenant),
						tx.CreateClient(&storage.Client{ID: "c1", Name: "idp", Scopes: []string{}, Created: someday}), tx.Audit(entry))
				})
				if err == nil {
					err = s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
						return errors.Join(tx.Delete(deleted, someday), tx.Advance(), tx.Audit(entry))
					})
				}
				if err != nil {
					t.Fatal(err)
				}
				put(t, s, item("credential", ana, factor(keys, ana)), item("credential", gone, factor(keys, gone)),
					item("credential", "nobody-07", `{}`), // attempts at names that nobody has
					item("grant", "g1", `{"role":"`+auth.Auditor+`","principal":"c1","type":"Client"}`))
				test.damage(t, s, keys)
				var found []storage.Flaw
				v := &Verifier{Store: s, Schemas: set, Keys: keys, Now: func() time.Time { return someday }, Found: func(f storage.Flaw) { found = append(found, f) }}
				report, err := v.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if test.kind == "" {
					if len(found) > 0 || report.Resources != 2 || report.Items != 5 || report.Entries != 3 {
						t.Errorf("found %v, %+v; want nothing in 2 resources, 5 items and 3 entries", found, report)
					}
					return
				}
				if len(found) == 0 || slices.ContainsFunc(found, func(f storage.Flaw) bool { return f.Kind != test.kind || test.id != "" && f.ID != test.id }) {
					t.Errorf("found %v, want %s %s", found, test.kind, test.id)
				}
			})
		}
	}
}

// away answers no look for a resource.
type away struct{ store }

func (away) Get(context.Context, storage.TenantID, string, string) (*storage.Resource, error) {
	return nil, storage.ErrUnavailable
}

// TestAway: what a store does not answer is no flaw in it.
func TestAway(t *testing.T) {
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, item("credential", gone, `{"passwordHash":"x"}`))
	v := &Verifier{Store: away{s}, Schemas: set, Now: func() time.Time { return someday }, Found: func(f storage.Flaw) { t.Errorf("found %v", f) }}
	if _, err := v.Run(t.Context()); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
