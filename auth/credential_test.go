package auth_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

func openStore(t *testing.T) storage.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "roster.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func write(t *testing.T, s storage.Store, fn func(storage.Tx) error) error {
	t.Helper()
	return s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		return errors.Join(fn(tx), tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test"}))
	})
}

// stored returns the data of a user's credential.
func stored(t *testing.T, s storage.Store, user string) string {
	t.Helper()
	i, err := s.Item(t.Context(), storage.DefaultTenant, "credential", user)
	if err != nil {
		t.Fatal(err)
	}
	return string(i.Data)
}

func TestCredential(t *testing.T) {
	s := openStore(t)
	noon := time.Date(2026, 3, 1, 12, 0, 0, 987_000_000, time.UTC)
	c, err := auth.FindCredential(t.Context(), s, storage.DefaultTenant, "ana")
	if err != nil || c.PasswordHash != "" {
		t.Fatalf("FindCredential of one without: got %+v, %v", c, err)
	}
	c.PasswordHash, c.PasswordSet, c.Temporary, c.PasswordExpires = "$1", noon, true, noon.Add(time.Hour)
	if err := write(t, s, func(tx storage.Tx) error { return auth.SaveCredential(tx, "ana", c) }); err != nil {
		t.Fatal(err)
	}
	if got, want := stored(t, s, "ana"), `{"passwordHash":"$1","passwordSet":"2026-03-01T12:00:00.987Z","temporary":true,"passwordExpires":"2026-03-01T13:00:00.987Z"}`; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
	got, err := auth.FindCredential(t.Context(), s, storage.DefaultTenant, "ana")
	if err != nil || got.PasswordHash != "$1" || !got.PasswordSet.Equal(noon) || !got.Temporary || !got.PasswordExpires.Equal(noon.Add(time.Hour)) {
		t.Errorf("FindCredential: got %+v, %v, want %+v", got, err, c)
	}
	late := *got
	if err := write(t, s, func(tx storage.Tx) error {
		c, err := auth.ReadCredential(tx, "ana")
		if err != nil {
			return err
		}
		c.SetPassword("$2", noon)
		return auth.SaveCredential(tx, "ana", c)
	}); err != nil {
		t.Fatal(err)
	}
	if got, want := stored(t, s, "ana"), `{"passwordHash":"$2","passwordSet":"2026-03-01T12:00:00.987Z"}`; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
	for name, c := range map[string]*auth.Credential{"that was read before": &late, "of one who has none": {}} {
		if err := write(t, s, func(tx storage.Tx) error { return auth.SaveCredential(tx, "ana", c) }); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("SaveCredential of one %s: got %v, want ErrConflict", name, err)
		}
	}
	got.SetPassword("", noon)
	if got.PasswordHash != "" || !got.PasswordSet.IsZero() || got.Temporary {
		t.Errorf("without a password: %+v", got)
	}
}

// TestCredentialKeepsTheUnknown: while processes of two versions serve, the older
// one does not take from a credential what it does not know.
func TestCredentialKeepsTheUnknown(t *testing.T) {
	s := openStore(t)
	err := write(t, s, func(tx storage.Tx) error {
		return tx.PutItem(nil, &storage.Item{Kind: "credential", ID: "ana", Data: []byte(`{"passwordHash":"$1","later":{"secret":[1]}}`)})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := write(t, s, func(tx storage.Tx) error {
		c, err := auth.ReadCredential(tx, "ana")
		if err != nil {
			return err
		}
		c.SetPassword("", time.Time{})
		return auth.SaveCredential(tx, "ana", c)
	}); err != nil {
		t.Fatal(err)
	}
	if got, want := stored(t, s, "ana"), `{"later":{"secret":[1]}}`; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
}

// TestDamagedCredential: what cannot be read is nobody's, and its error quotes
// nothing.
func TestDamagedCredential(t *testing.T) {
	s := openStore(t)
	err := write(t, s, func(tx storage.Tx) error {
		return tx.PutItem(nil, &storage.Item{Kind: "credential", ID: "ana", Data: []byte(`{"passwordHash":["swordfish"]}`)})
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := auth.FindCredential(t.Context(), s, storage.DefaultTenant, "ana")
	if c != nil || err == nil || err.Error() != "the stored credential is damaged" {
		t.Errorf("FindCredential: got %+v, %v", c, err)
	}
}
