package dump

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/storage"
)

// twoTenants is a store with two tenants, and its backup.
func twoTenants(t testing.TB, users int) (storage.Store, []byte) {
	t.Helper()
	s := filled(t, users)
	err := s.Write(t.Context(), "acme", func(tx storage.Tx) error {
		return errors.Join(tx.CreateTenant("Acme", someday), tx.CreateClient(&storage.Client{ID: "c2", Name: secret, Scopes: []string{}, Created: someday}),
			tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "tenant.create", Type: "Tenant", ID: "acme"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, backedUp(t, s)
}

func backedUp(t testing.TB, s storage.Dumper) []byte {
	t.Helper()
	var b bytes.Buffer
	w := &BackupWriter{Store: s, Schemas: set, Kind: "sqlite", Product: "test", Now: func() time.Time { return someday }}
	if _, err := w.Write(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restore(ctx context.Context, to storage.Store, file []byte, in io.Reader, portion int) error {
	b, err := VerifyBackup(ctx, bytes.NewReader(file), set, nil)
	if err != nil {
		return err
	}
	r := &Restorer{Store: to, Schemas: set, Now: time.Now, AtOnce: portion}
	return r.Restore(ctx, in, b)
}

// essence is what a backup says of a store, without what each one has of its own, and
// without the entries of restores.
func essence(file []byte) (list []string) {
	for line := range strings.Lines(string(file)) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, `{"`), `"`)
		if name != backupLine && name != manifestLine && name != "header" && name != endName && !strings.Contains(line, restoreAction) {
			list = append(list, line)
		}
	}
	return list
}

// TestRestoreWhole: a store that is made of a backup is like the one that it was made of,
// in all tenants, and the chains of the trail go on.
func TestRestoreWhole(t *testing.T) {
	from, file := twoTenants(t, 520)
	b, err := VerifyBackup(t.Context(), bytes.NewReader(file), set, nil)
	if err != nil || len(b.Parts) != 2 || b.Parts[0].Tenant != "acme" || b.Parts[1].Records.Resources != 521 || b.Parts[0].Records.Clients+b.Parts[1].Records.Clients != 2 {
		t.Fatalf("VerifyBackup: %+v, %v", b, err)
	}
	to := openStore(t)
	if err := restore(t.Context(), to, file, bytes.NewReader(file), 0); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(essence(file), essence(backedUp(t, to))); d != "" {
		t.Errorf("the backup of what was restored (-before +after):\n%s", d)
	}
	for _, tenant := range []storage.TenantID{"acme", storage.DefaultTenant} {
		before, err := audit.Verify(t.Context(), from, tenant, nil)
		after, err2 := audit.Verify(t.Context(), to, tenant, nil)
		if err := errors.Join(err, err2); err != nil || !after.OK() || after.Entries != before.Entries+1 {
			t.Errorf("the trail of %s: %+v, %v; before, %+v", tenant, after, err, before)
		}
	}
	if err := restore(t.Context(), to, file, bytes.NewReader(file), 0); !errors.Is(err, ErrRestored) {
		t.Errorf("a second time: %v, want ErrRestored", err)
	}
}

// TestRestoreRefuses: a store with anything in it is left as it is.
func TestRestoreRefuses(t *testing.T) {
	_, file := twoTenants(t, 2)
	other := openStore(t)
	err := other.Write(t.Context(), "globex", func(tx storage.Tx) error {
		return errors.Join(tx.CreateTenant("Globex", someday), tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "tenant.create"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]storage.Store{"users": filled(t, 2), "another tenant": other} {
		before := essence(backedUp(t, to))
		if err := restore(t.Context(), to, file, bytes.NewReader(file), 0); !errors.Is(err, ErrHasData) {
			t.Errorf("%s: got %v, want ErrHasData", name, err)
		}
		if d := cmp.Diff(before, essence(backedUp(t, to))); d != "" {
			t.Errorf("%s changed:\n%s", name, d)
		}
	}
}

// TestBackupCutOff: a backup that ends early is refused wherever it ends, and so is one
// with something behind its end or with a tenant missing.
func TestBackupCutOff(t *testing.T) {
	_, file := twoTenants(t, 3)
	verify := func(b []byte) error {
		_, err := VerifyBackup(t.Context(), bytes.NewReader(b), set, nil)
		return err
	}
	refused := func(what string, b []byte) {
		t.Helper()
		err := verify(b)
		if _, ok := errors.AsType[*LineError](err); !ok || strings.Contains(err.Error(), secret) {
			t.Fatalf("%s: got %v, want a LineError", what, err)
		}
	}
	for end := 0; end < len(file); end += 11 {
		refused("cut off", file[:end])
	}
	refused("followed by more", append(bytes.Clone(file), "{}\n"...))
	lines := bytes.SplitAfter(file, []byte("\n"))
	first := 1
	for i, l := range lines {
		if bytes.HasPrefix(l, []byte(`{"end"`)) {
			refused("without a tenant", append(append([]byte{}, lines[0]...), bytes.Join(lines[i+1:], nil)...))
			first = i
			break
		}
	}
	swapped := append([][]byte{lines[0]}, lines[first+1:len(lines)-2]...)
	swapped = append(append(swapped, lines[1:first+1]...), lines[len(lines)-2:]...)
	refused("with tenants in another order", bytes.Join(swapped, nil))
	for i := 0; i < len(file); i += 23 {
		b := bytes.Clone(file)
		if b[i] ^= 1; verify(b) == nil {
			t.Fatalf("byte %d was altered, and the backup taken", i)
		}
	}
	refused("a dump", dumped(t, filled(t, 2)))
}

// TestRestoreResumed: a restore that breaks off anywhere goes on, and a part of another
// backup is left alone.
func TestRestoreResumed(t *testing.T) {
	_, file := twoTenants(t, 40)
	_, another := twoTenants(t, 2)
	to := openStore(t)
	broken, tries := errors.New("the disk is gone"), 0
	for step := len(file) / 9; ; tries++ {
		in := io.Reader(bytes.NewReader(file))
		if end := step * (tries + 1); end < len(file) {
			in = io.MultiReader(bytes.NewReader(file[:end]), readerFunc(func([]byte) (int, error) { return 0, broken }))
		}
		err := restore(t.Context(), to, file, in, 7)
		// One that broke off behind the last tenant was complete.
		if err == nil || tries > 5 && errors.Is(err, ErrRestored) {
			break
		}
		if !errors.Is(err, broken) {
			t.Fatalf("after %d: %v", tries, err)
		}
		if err := restore(t.Context(), to, another, bytes.NewReader(another), 7); tries > 0 && !errors.Is(err, ErrHasData) {
			t.Fatalf("another backup after %d: %v, want ErrHasData", tries, err)
		}
	}
	if tries < 5 {
		t.Errorf("it broke off %d times only", tries)
	}
	if d := cmp.Diff(essence(file), essence(backedUp(t, to))); d != "" {
		t.Errorf("what was restored in parts (-before +after):\n%s", d)
	}
}

// TestRestoreOtherTerms: an interrupted restore does not go on in another way, neither in
// the midst of a tenant nor behind one that is complete: the tokens that are there would
// not be as they were asked for.
func TestRestoreOtherTerms(t *testing.T) {
	_, file := twoTenants(t, 40)
	b, err := VerifyBackup(t.Context(), bytes.NewReader(file), set, nil)
	if err != nil {
		t.Fatal(err)
	}
	to := openStore(t)
	broken := errors.New("the disk is gone")
	begin := func(tokens string, end int) error {
		r := &Restorer{Store: to, Schemas: set, Now: time.Now, AtOnce: 2, Changes: []storage.Change{{Path: "tokens", After: []byte(tokens)}}}
		in := io.MultiReader(bytes.NewReader(file[:end]), readerFunc(func([]byte) (int, error) { return 0, broken }))
		if end == len(file) {
			in = bytes.NewReader(file)
		}
		return r.Restore(t.Context(), in, b)
	}
	// In the midst of the first tenant, and behind it.
	for _, end := range []int{bytes.Index(file, []byte(`{"audit":`)), len(file) / 2} {
		if err := begin(`"kept"`, end); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		if err := begin(`"ended"`, len(file)); !errors.Is(err, ErrOtherTerms) {
			t.Errorf("in another way after %d bytes: %v, want ErrOtherTerms", end, err)
		}
	}
	if err := begin(`"kept"`, len(file)); err != nil {
		t.Fatal(err)
	}
	if err := begin(`"ended"`, len(file)); !errors.Is(err, ErrOtherTerms) {
		t.Errorf("in another way when it is complete: %v, want ErrOtherTerms", err)
	}
	if d := cmp.Diff(essence(file), essence(backedUp(t, to))); d != "" {
		t.Errorf("what was restored in parts (-before +after):\n%s", d)
	}
}

// spoilt is a store in which a record is not what was written.
type spoilt struct {
	storage.Dumper
	spoil func(*storage.Record)
}

func (s spoilt) DumpAll(ctx context.Context) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for r, err := range s.Dumper.DumpAll(ctx) {
			if s.spoil(&r); !yield(r, err) {
				return
			}
		}
	}
}

// TestBackupOfDamage: a store with a record that no restore would take has no backup, so
// that it is found out before one is needed.
func TestBackupOfDamage(t *testing.T) {
	s := filled(t, 20)
	users, items := 0, 0
	for name, spoil := range map[string]func(*storage.Record){
		"a document that is cut off": func(r *storage.Record) {
			if w := r.Resource; w != nil && w.Type == "User" {
				if users++; users == 10 {
					w.Doc = w.Doc[:len(w.Doc)-1]
				}
			}
		},
		"a document of somebody else": func(r *storage.Record) {
			if w := r.Resource; w != nil && w.Type == "User" {
				if users++; users == 10 {
					w.ID = "0" + w.ID
				}
			}
		},
		"an item that is cut off": func(r *storage.Record) {
			if i := r.Item; i != nil {
				if items++; items == 1 {
					i.Data = i.Data[1:]
				}
			}
		},
	} {
		users, items = 0, 0
		var b bytes.Buffer
		w := &BackupWriter{Store: spoilt{s, spoil}, Schemas: set, Now: time.Now}
		_, err := w.Write(t.Context(), &b)
		if err == nil || !strings.Contains(err.Error(), "is damaged in the store") || strings.Contains(err.Error(), secret) || users < 10 && items < 1 {
			t.Errorf("%s: %v, after %d users and %d items", name, err, users, items)
		}
	}
}
