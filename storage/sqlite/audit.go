package sqlite

import (
	"bytes"
	"context"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// end is where the audit trail of a tenant ends, and the chain that goes on there.
type end struct {
	seq   int64
	hash  []byte
	chain string // "" when a new one begins
	n     int64
}

// end returns the end of a tenant's trail in this transaction. The chain goes on
// as long as nobody but this process adds to the trail. A server that has just
// started, and one that finds entries of a command beside it, begin a new one,
// which takes up the hash of the entry before it.
func (b *batch) end(tenant string) (end, error) {
	if e, ok := b.ends[tenant]; ok {
		return e, nil
	}
	var e end
	err := query(b.conn, `SELECT seq, hash FROM audit WHERE tenant = ? ORDER BY seq DESC LIMIT 1`, func(st *sqlite.Stmt) error {
		e.seq, e.hash = st.ColumnInt64(0), columnBytes(st, 1)
		return nil
	}, tenant)
	left, known := b.left[tenant]
	switch {
	case err != nil || !known:
		return e, err
	case left.seq == e.seq && bytes.Equal(left.hash, e.hash):
		return left, nil
	}
	there := false
	err = query(b.conn, `SELECT hash FROM audit WHERE tenant = ? AND seq = ?`, func(st *sqlite.Stmt) error {
		there = bytes.Equal(columnBytes(st, 0), left.hash)
		return nil
	}, tenant, left.seq)
	if err == nil && !there {
		// What follows is tied to what is gone, so that verifying says so for ever.
		e.hash = left.hash
		b.store.opt.Log.Error("the audit trail has been changed: an entry that this process wrote is gone", "tenant", tenant, "seq", left.seq)
	}
	return e, err
}

// leave notes the ends that this transaction made, once it is durable.
func (b *batch) leave() {
	for tenant, e := range b.ends {
		if e.chain != "" {
			b.left[tenant] = e
		}
	}
}

// Audit implements storage.Tx.
func (t *tx) Audit(e storage.AuditEntry) error {
	t.check()
	err := t.audit(e)
	t.fail(err)
	t.audited = t.audited || err == nil
	return err
}

func (t *tx) audit(e storage.AuditEntry) error {
	if err := e.Check(); err != nil {
		return err
	}
	last, err := t.batch.end(t.tenant)
	if err != nil {
		return err
	}
	if last.chain == "" {
		last.chain, last.n = storage.NewChain(true), 0
	}
	e.Seq, e.Chain, e.N = last.seq+1, last.chain, last.n+1
	e.Hash = e.Sum(last.hash)
	t.batch.pending.entries = append(t.batch.pending.entries, pendingEntry{e, t.tenant})
	t.batch.ends[t.tenant] = end{e.Seq, e.Hash, e.Chain, e.N}
	return nil
}

// loadAudit stores an entry with its number and chain. What is recorded after it
// begins a chain of its own: the one it is of may go on elsewhere.
func (t *tx) loadAudit(e storage.AuditEntry) error {
	last, err := t.batch.end(t.tenant)
	if err != nil {
		return err
	}
	if e.Seq <= last.seq {
		return &storage.UniqueError{Attr: "seq"}
	}
	t.batch.ends[t.tenant] = end{seq: e.Seq, hash: e.Hash}
	t.batch.pending.entries = append(t.batch.pending.entries, pendingEntry{e, t.tenant})
	return nil
}

const auditColumns = `seq, at, request_id, actor, action, type, id, version, attributes, origin, level, changes, chain, n, hash`

// scanAudit reads an entry. What is as in the one before it shares its memory.
func scanAudit(st *sqlite.Stmt, before *storage.AuditEntry) storage.AuditEntry {
	e := storage.AuditEntry{
		Seq: st.ColumnInt64(0), At: columnTime(st, 1), RequestID: st.ColumnText(2), Actor: textAgain(st, 3, before.Actor), Action: textAgain(st, 4, before.Action),
		Type: textAgain(st, 5, before.Type), ID: st.ColumnText(6), Version: st.ColumnInt64(7), From: textAgain(st, 9, before.From), Level: textAgain(st, 10, before.Level),
		Chain: textAgain(st, 12, before.Chain), N: st.ColumnInt64(13), Hash: columnBytes(st, 14),
	}
	if paths := st.ColumnText(8); paths != "" {
		e.Attributes = strings.Split(paths, " ")
	}
	if !st.ColumnIsNull(11) {
		e.Changes = storage.ParseChanges(columnBytes(st, 11))
	}
	return e
}

// AuditEntries implements storage.Audit.
func (s *Store) AuditEntries(ctx context.Context, tenant storage.TenantID, after int64, limit int) ([]storage.AuditEntry, error) {
	return s.auditTrail(ctx, tenant, after, limit, "")
}

// Events implements storage.Outbox.
func (s *Store) Events(ctx context.Context, tenant storage.TenantID, after int64, limit int) ([]storage.AuditEntry, error) {
	return s.auditTrail(ctx, tenant, after, limit, " AND version > 0")
}

func (s *Store) auditTrail(ctx context.Context, tenant storage.TenantID, after int64, limit int, which string) (list []storage.AuditEntry, err error) {
	before := new(storage.AuditEntry)
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT `+auditColumns+` FROM audit WHERE tenant = ? AND seq > ?`+which+` ORDER BY seq LIMIT 0 + ?`, func(st *sqlite.Stmt) error {
			list = append(list, scanAudit(st, before))
			before = &list[len(list)-1]
			return nil
		}, string(tenant), after, limit)
	})
	return list, err
}
