package dump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Restorer makes a store of a backup.
type Restorer struct {
	Store   storage.Store
	Schemas *schemas.Set
	Now     func() time.Time
	// Alter is asked what becomes of each record: it may change the record, and leaves it
	// out by returning false. It may be nil.
	Alter func(storage.TenantID, *storage.Record) (keep bool, err error)
	// Changes are what the audit entry of the restore tells, beside the id of the backup:
	// what Alter does among it, which is the same when an interrupted restore goes on.
	Changes []storage.Change
	// AtOnce is how many records are written at a time; 0 for what any store bears.
	AtOnce int
}

// restoreAction is that of the audit entry behind those of the backup.
const restoreAction = "store.restore"

// ErrHasData is returned when a store that is to be restored is not empty.
var ErrHasData = errors.New("the store has data, and a backup is restored into a new one only")

// ErrOtherTerms is returned when an interrupted restore is to go on in another way than
// it began: what is there already would not be as it was asked for.
var ErrOtherTerms = errors.New("the restore was begun with another choice of --keep-tokens or --revoked: make the same, or restore into a new store")

// ErrRestored is returned when a store holds the whole backup already.
var ErrRestored = errors.New("the store holds this backup already")

// Restore loads a backup that VerifyBackup has found to be whole, which is wanted, into
// a store that holds nothing, or a part of the same backup: an interrupted restore goes
// on. Each tenant can be used when it is complete, and has the audit entry store.restore
// then.
func (r *Restorer) Restore(ctx context.Context, in io.Reader, want *Backup) error {
	done, err := r.state(ctx, want)
	if err != nil {
		return err
	}
	b, err := NewBackupReader(in, r.Schemas)
	if err != nil {
		return err
	}
	if b.Header != want.Header {
		return errors.New("the backup has changed since it was checked")
	}
	for {
		part, err := b.Next()
		if err != nil || part == nil {
			return err
		}
		if done[part.tenant] {
			if err := b.Read(ctx, nil); err != nil {
				return err
			}
			continue
		}
		l := &Loader{Store: r.Store, Schemas: r.Schemas, Now: r.Now, portion: r.AtOnce}
		l.Alter, l.terms = r.Alter, r.terms()
		l.entry = func(at time.Time) storage.AuditEntry {
			return storage.AuditEntry{At: at, Actor: "operator", Action: restoreAction, Type: "Tenant", ID: string(part.tenant),
				Changes: r.changes(want)}
		}
		l.seen = func(rec storage.Record) {
			if rec.Audit != nil {
				b.last = rec.Audit.Seq
			}
		}
		if err := newSession(l, part).run(ctx); err != nil {
			return fmt.Errorf("tenant %q: %w", part.tenant, err)
		}
	}
}

func idOf(b *Backup) storage.Change {
	return storage.ChangeOf("backup", nil, b.Header.Backup)
}

func (r *Restorer) changes(b *Backup) []storage.Change {
	return append([]storage.Change{idOf(b)}, r.Changes...)
}

// dumpOf is the id of the dump that is loaded, without terms.
func dumpOf(m *storage.LoadMark) string {
	id, _, _ := strings.Cut(m.Dump, " ")
	return id
}

// terms are Changes as a text.
func (r *Restorer) terms() (s string) {
	for _, c := range r.Changes {
		s += " " + c.Path + string(c.After)
	}
	return s
}

// state returns the tenants that are complete, or ErrHasData or ErrOtherTerms.
func (r *Restorer) state(ctx context.Context, want *Backup) (map[storage.TenantID]bool, error) {
	parts := make(map[storage.TenantID]Part)
	for _, p := range want.Parts {
		parts[p.Tenant] = p
	}
	tenants, err := r.Store.ListTenants(ctx)
	if err != nil {
		return nil, err
	}
	done := make(map[storage.TenantID]bool)
	for _, t := range tenants {
		p, known := parts[t.ID]
		mark, err := r.Store.LoadMark(ctx, t.ID)
		if err != nil {
			return nil, err
		}
		if mark != nil {
			if !known || dumpOf(mark) != p.Dump {
				return nil, ErrHasData
			}
			continue
		}
		first, err := r.Store.AuditEntries(ctx, t.ID, 0, 1)
		if err != nil {
			return nil, err
		}
		if len(first) == 0 { // nothing was ever done in it
			if !known && t.ID != storage.DefaultTenant {
				return nil, ErrHasData
			}
			continue
		}
		after, err := r.Store.AuditEntries(ctx, t.ID, p.LastAudit, 1)
		if err != nil {
			return nil, err
		}
		id := idOf(want)
		if !known || len(after) == 0 || after[0].Action != restoreAction || len(after[0].Changes) == 0 || !bytes.Equal(after[0].Changes[0].After, id.After) {
			return nil, ErrHasData
		}
		if !slices.EqualFunc(after[0].Changes, r.changes(want), func(a, b storage.Change) bool { return a.Path == b.Path && bytes.Equal(a.After, b.After) }) {
			return nil, ErrOtherTerms
		}
		done[t.ID] = true
	}
	if len(done) == len(parts) {
		return nil, ErrRestored
	}
	return done, nil
}
