package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// Dump implements storage.Dumper: one read transaction on a connection of its own,
// since a dump takes minutes and the readers belong to requests. For as long as
// it lasts SQLite's log is not begun anew, so the log grows by what is written.
func (s *Store) Dump(ctx context.Context, tenant storage.TenantID) iter.Seq2[storage.Record, error] {
	return s.records(ctx, func(*sqlite.Conn) ([]string, error) { return []string{string(tenant)}, nil })
}

// DumpAll implements storage.Dumper, as Dump does.
func (s *Store) DumpAll(ctx context.Context) iter.Seq2[storage.Record, error] {
	return s.records(ctx, tenantIDs)
}

func tenantIDs(c *sqlite.Conn) (ids []string, err error) {
	err = query(c, `SELECT id FROM tenant ORDER BY id`, func(st *sqlite.Stmt) error {
		ids = append(ids, st.ColumnText(0))
		return nil
	})
	return ids, err
}

// records yields the tenants that which names.
func (s *Store) records(ctx context.Context, which func(*sqlite.Conn) ([]string, error)) iter.Seq2[storage.Record, error] {
	return storage.Records(func(give func(storage.Record) error) error {
		err := s.dump(ctx, which, func(r storage.Record) error {
			select {
			case <-s.closing:
				return errClosed
			default:
				return give(r)
			}
		})
		if ctx.Err() != nil && err != nil {
			err = fmt.Errorf("%w: the dump was interrupted", storage.ErrUnavailable)
		}
		return s.explain(err)
	})
}

func (s *Store) dump(ctx context.Context, which func(*sqlite.Conn) ([]string, error), give func(storage.Record) error) error {
	return s.apart(ctx, func(c *sqlite.Conn) error {
		tenants, err := which(c)
		if err != nil {
			return err
		}
		for _, tenant := range tenants {
			for _, part := range []func(*sqlite.Conn, string, func(storage.Record) error) error{
				dumpTenant, dumpSchemas, dumpClients, dumpTokens, dumpResources, dumpMembers, dumpItems, dumpAudit,
			} {
				if err := part(c, tenant, give); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// apart runs fn in one read transaction on a connection of its own.
func (s *Store) apart(ctx context.Context, fn func(*sqlite.Conn) error) error {
	c, err := openConn(s.path, reader)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetInterrupt(ctx.Done())
	if err := exec(c, "BEGIN"); err != nil {
		return err
	}
	return fn(c)
}

func dumpTenant(c *sqlite.Conn, tenant string, give func(storage.Record) error) error {
	found := false
	err := query(c, `SELECT name, created FROM tenant WHERE id = ?`, func(st *sqlite.Stmt) error {
		found = true
		return give(storage.Record{Tenant: &storage.Tenant{ID: storage.TenantID(tenant), Name: st.ColumnText(0), Created: columnTime(st, 1)}})
	}, tenant)
	if err == nil && !found {
		err = storage.ErrNotFound
	}
	return err
}

func dumpClients(c *sqlite.Conn, tenant string, give func(storage.Record) error) error {
	return query(c, `SELECT `+clientColumns+` FROM client c WHERE c.tenant = ? ORDER BY c.id`, func(st *sqlite.Stmt) error {
		return give(storage.Record{Client: scanClient(st, 0)})
	}, tenant)
}

func dumpTokens(c *sqlite.Conn, tenant string, give func(storage.Record) error) error {
	return query(c, `SELECT `+tokenColumns+` FROM token k WHERE k.tenant = ? ORDER BY k.client, k.id`, func(st *sqlite.Stmt) error {
		return give(storage.Record{Token: scanToken(st)})
	}, tenant)
}

func dumpResources(c *sqlite.Conn, tenant string, give func(storage.Record) error) error {
	return query(c, `SELECT `+resourceColumns+`, r.type, r.deleted FROM resource r WHERE r.tenant = ? ORDER BY r.n`,
		func(st *sqlite.Stmt) error {
			w := &storage.WholeResource{Deleted: columnTime(st, 7)}
			scan(st, &w.Resource)
			w.ID, w.Type, w.Ref = st.ColumnText(1), st.ColumnText(6), 0
			w.Doc = appendDoc(nil, st, 5, w.ID)
			return give(storage.Record{Resource: w})
		}, tenant)
}

// dumpMembers walks the table in its own order; CROSS JOIN keeps the planner from
// looking for a better one and sorting.
func dumpMembers(c *sqlite.Conn, tenant string, give func(storage.Record) error) error {
	p := storage.Portions{Give: give}
	err := query(c, `SELECT g.id, m.id, m.display FROM membership m CROSS JOIN resource g ON g.n = m.grp
		WHERE g.tenant = ? ORDER BY m.grp, m.id`, func(st *sqlite.Stmt) error {
		return p.Add(st.ColumnText(0), storage.Member{Value: st.ColumnText(1), Display: st.ColumnText(2)})
	}, tenant)
	if err != nil {
		return err
	}
	return p.End()
}

func dumpSchemas(c *sqlite.Conn, tenant string, give func(storage.Record) error) error {
	return dumpItemsWhere(c, `i.kind = ?`, tenant, give)
}

func dumpItems(c *sqlite.Conn, tenant string, give func(storage.Record) error) error {
	return dumpItemsWhere(c, `i.kind <> ?`, tenant, give)
}

// dumpItemsWhere dumps those that a condition on storage.SchemaKind selects.
func dumpItemsWhere(c *sqlite.Conn, condition, tenant string, give func(storage.Record) error) error {
	return query(c, `SELECT `+itemColumns+`, i.kind FROM item i WHERE i.tenant = ? AND `+condition+` AND i.expires IS NULL ORDER BY i.kind, i.id`, func(st *sqlite.Stmt) error {
		i, err := scanItem(st, st.ColumnText(5))
		if err != nil {
			return err
		}
		return give(storage.Record{Item: i})
	}, tenant, storage.SchemaKind)
}

func dumpAudit(c *sqlite.Conn, tenant string, give func(storage.Record) error) error {
	var before storage.AuditEntry
	return query(c, `SELECT `+auditColumns+` FROM audit WHERE tenant = ? ORDER BY seq`, func(st *sqlite.Stmt) error {
		e := scanAudit(st, &before)
		before = e
		return give(storage.Record{Audit: &e})
	}, tenant)
}

// LoadMark implements storage.Loader.
func (s *Store) LoadMark(ctx context.Context, tenant storage.TenantID) (m *storage.LoadMark, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		m, err = loadMark(c, string(tenant))
		return err
	})
	return m, err
}

func loadMark(c *sqlite.Conn, tenant string) (m *storage.LoadMark, err error) {
	err = query(c, `SELECT dump, records, digest FROM load WHERE tenant = ?`, func(st *sqlite.Stmt) error {
		m = &storage.LoadMark{Dump: st.ColumnText(0), Records: st.ColumnInt64(1), Digest: columnBytes(st, 2)}
		return nil
	}, tenant)
	return m, err
}

// SetLoad implements storage.Tx. There is one writer, so what it finds holds until
// the write is over.
func (t *tx) SetLoad(prev, next *storage.LoadMark) error {
	if t.batch.store.guest {
		return errGuest
	}
	switch {
	case prev == nil && next == nil:
		return errors.New("a load that has not begun cannot be completed")
	case prev == nil:
		full := false
		t.settle()
		err := query(t.conn(), `SELECT EXISTS (SELECT 1 FROM resource WHERE tenant = ?1 AND deleted IS NULL)
			OR EXISTS (SELECT 1 FROM resource WHERE tenant = ?1 AND deleted IS NOT NULL)
			OR EXISTS (SELECT 1 FROM client WHERE tenant = ?1) OR EXISTS (SELECT 1 FROM audit WHERE tenant = ?1)`, func(st *sqlite.Stmt) error {
			full = st.ColumnBool(0)
			return nil
		}, t.tenant)
		if err != nil {
			return err
		}
		err = t.exec(`INSERT OR IGNORE INTO load (tenant, dump, records, digest) VALUES (?, ?, ?, ?)`, t.tenant, next.Dump, next.Records, next.Digest)
		switch {
		case err != nil:
			return err
		case t.conn().Changes() == 0:
			return storage.ErrConflict
		case full:
			return storage.ErrNotEmpty
		}
		return nil
	case next == nil:
		if err := t.change(`DELETE FROM load WHERE tenant = ? AND dump = ? AND records = ? AND digest = ?`,
			t.tenant, prev.Dump, prev.Records, prev.Digest); err != nil {
			return err
		}
	default:
		if err := t.exec(`UPDATE load SET dump = ?, records = ?, digest = ? WHERE tenant = ? AND dump = ? AND records = ? AND digest = ?`,
			next.Dump, next.Records, next.Digest, t.tenant, prev.Dump, prev.Records, prev.Digest); err != nil {
			return err
		}
	}
	if t.conn().Changes() == 0 {
		return storage.ErrConflict
	}
	if next == nil {
		return t.Advance()
	}
	return nil
}

// usable fails with ErrLoading while the tenant is being loaded.
func (t *tx) usable() error {
	m, err := loadMark(t.conn(), t.tenant)
	if err == nil && m != nil {
		err = storage.ErrLoading
	}
	return err
}

// Load implements storage.Tx.
func (t *tx) Load(r *storage.Record) error {
	if t.batch.store.guest {
		return errGuest
	}
	if m, err := loadMark(t.conn(), t.tenant); err != nil {
		return err
	} else if m == nil {
		return errors.New("no load of this tenant has begun")
	}
	switch {
	case r.Tenant != nil:
		return t.exec(`INSERT INTO tenant (id, name, created) VALUES (?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, created = excluded.created`, t.tenant, r.Tenant.Name, r.Tenant.Created)
	case r.Client != nil:
		return t.loadClient(r.Client)
	case r.Token != nil:
		return t.loadToken(r.Token)
	case r.Resource != nil:
		return t.loadResource(r.Resource)
	case r.Members != nil:
		return t.loadMembers(r.Members)
	case r.Item != nil:
		return t.loadItem(r.Item)
	case r.Audit != nil:
		return t.loadAudit(*r.Audit)
	}
	return errors.New("an empty record")
}

// taken turns a constraint that failed into what callers tell apart.
func taken(err error, primary, unique string) error {
	switch sqlite.ErrCode(err) {
	case sqlite.ResultConstraintPrimaryKey, sqlite.ResultConstraintRowID:
		return &storage.UniqueError{Attr: primary}
	case sqlite.ResultConstraintUnique:
		return &storage.UniqueError{Attr: unique}
	}
	return err
}

func (t *tx) loadClient(c *storage.Client) error {
	err := t.exec(`INSERT INTO client (tenant, id, name, scopes, profile, refers, networks, created, revoked, rate, burst) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		t.tenant, c.ID, c.Name, strings.Join(c.Scopes, " "), c.Profile, c.References, strings.Join(c.Networks, " "), c.Created, c.Revoked, c.Rate, c.Burst)
	return taken(err, "id", "name")
}

func (t *tx) loadToken(k *storage.Token) error {
	known := false
	err := query(t.conn(), `SELECT 1 FROM client WHERE tenant = ? AND id = ?`, func(*sqlite.Stmt) error { known = true; return nil }, t.tenant, k.Client)
	if err == nil && !known {
		err = storage.ErrNotFound
	}
	if err != nil {
		return err
	}
	err = t.exec(`INSERT INTO token (id, tenant, client, hash, created, expires, last_used) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		k.ID, t.tenant, k.Client, k.Hash, k.Created, k.Expires, k.LastUsed)
	return taken(err, "id", "id")
}

// loadResource is Create for a resource that has a past.
func (t *tx) loadResource(w *storage.WholeResource) error {
	if n, err := t.findAny(w.ID, memberTypes...); err != nil {
		return err
	} else if n != 0 {
		return &storage.UniqueError{Attr: "id"}
	}
	x, err := t.index(&w.Resource)
	if err != nil {
		return err
	}
	n, err := t.batch.nextRow()
	if err != nil {
		return err
	}
	w.Ref = n
	if w.Deleted.IsZero() {
		if err := t.reindex(n, rowKeys{}, x.keys, x.unique); err != nil {
			return err
		}
		t.batch.tally.add(t.tenant, w.Type, w.ID, +1)
	}
	t.batch.keys.note(keyChange{which: kindRow, n: n})
	err = t.exec(`INSERT INTO resource (n, tenant, type, id, version, created, modified, deleted, name, keys, doc, shadow)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?)`,
		n, t.tenant, w.Type, w.ID, w.Version, w.Created, w.LastModified, w.Deleted, w.Name, x.packed, shortDoc(nil, w.Doc, w.ID), x.shadow)
	return taken(err, "id", "id")
}

// findAny returns the row number of a resource of one of the types, deleted or
// not, or 0.
func (t *tx) findAny(id string, types ...string) (n int64, err error) {
	row := func(st *sqlite.Stmt) error {
		if slices.Contains(types, st.ColumnText(1)) {
			n = st.ColumnInt64(0)
		}
		return nil
	}
	for _, typ := range types {
		err := query(t.conn(), `SELECT n, type FROM resource WHERE tenant = ? AND type = ? AND id = ? AND deleted IS NULL`, row, t.tenant, typ, id)
		if err != nil || n != 0 {
			return n, err
		}
	}
	err = query(t.conn(), `SELECT n, type FROM resource INDEXED BY resource_hidden WHERE tenant = ? AND id = ? AND deleted IS NOT NULL`, row, t.tenant, id)
	return n, err
}

func (t *tx) loadMembers(l *storage.GroupMembers) error {
	group, err := t.findAny(l.Group, "Group")
	if err == nil && group == 0 {
		err = storage.ErrNotFound
	}
	if err != nil {
		return err
	}
	for i, m := range l.Members {
		n, err := t.findAny(m.Value, memberTypes...)
		if err == nil && n == 0 {
			err = &storage.UnknownMemberError{Index: i}
		}
		if err != nil {
			return err
		}
		err = t.exec(`INSERT INTO membership (grp, id, member, display) VALUES (?, ?, ?, ?)`, group, m.Value, n, m.Display)
		if err != nil {
			return taken(err, "members.value", "members.value")
		}
	}
	return nil
}

func (t *tx) loadItem(i *storage.Item) error {
	if err := i.Prepare(); err != nil {
		return err
	}
	err := t.exec(`INSERT INTO item (tenant, kind, id, version, data) VALUES (?, ?, ?, ?, ?)`, t.tenant, i.Kind, i.ID, i.Version, i.Data)
	if err != nil {
		return taken(err, "id", "id")
	}
	return t.insertKeys(i)
}
