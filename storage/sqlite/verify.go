package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Check implements storage.Checker: one read transaction on a connection of its own.
func (s *Store) Check(ctx context.Context, opt storage.CheckOptions) error {
	err := s.apart(ctx, func(c *sqlite.Conn) error {
		// Keys are looked up all over the tables. A page takes twice its size in memory, and
		// beyond this a larger cache was no faster.
		if err := exec(c, "PRAGMA cache_size = -16000"); err != nil {
			return err
		}
		k := &check{conn: c, opt: opt, fresh: map[uniqueKey]int64{}}
		for _, part := range []func() error{k.file, k.resources, k.reserved, k.tallies, k.memberships, k.tokens, k.items} {
			if err := part(); err != nil {
				return err
			}
		}
		return nil
	})
	return s.explain(err)
}

type check struct {
	conn *sqlite.Conn
	opt  storage.CheckOptions

	merged         [keyParts]int64     // rows up to here have their keys of a part in the tables
	fresh          map[uniqueKey]int64 // unique keys of later rows
	unique, lookup int64               // how many keys there should be in the tables
	flawed         bool                // something was found
}

func (k *check) found(kind storage.FlawKind, tenant, typ, id, what string) {
	k.flawed = true
	k.opt.Found(storage.Flaw{Kind: kind, Tenant: storage.TenantID(tenant), Type: typ, ID: id, What: what})
}

// file asks SQLite: pages, and its own indexes against the tables.
func (k *check) file() error {
	err := query(k.conn, "PRAGMA integrity_check(20)", func(st *sqlite.Stmt) error {
		if st.ColumnText(0) != "ok" {
			k.found(storage.FlawFile, "", "", "", "SQLite says: "+st.ColumnText(0)) // of tables, indexes and rows by name, and no values
		}
		return nil
	})
	if isDamage(err) {
		k.found(storage.FlawFile, "", "", "", "the file is damaged")
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	return err
}

// resources compares each row with what its document says.
func (k *check) resources() error {
	var err error
	if k.merged, err = mergedRows(k.conn); err != nil {
		return err
	}
	return query(k.conn, `SELECT n, tenant, type, id, name, keys, doc, shadow, deleted IS NULL FROM resource ORDER BY n`, func(st *sqlite.Stmt) error {
		k.opt.Resource()
		n, tenant, typ, id := st.ColumnInt64(0), st.ColumnText(1), st.ColumnText(2), st.ColumnText(3)
		set, err := k.opt.Types(storage.TenantID(tenant))
		if err != nil {
			return err
		}
		t := set.Type(typ)
		if t == nil {
			k.found(storage.FlawDocument, tenant, typ, id, "there is no such resource type")
			return nil
		}
		attrs, err := t.Parse(appendDoc(nil, st, 6, id))
		if err != nil || attrs["id"] != id {
			k.found(storage.FlawDocument, tenant, typ, id, "the document cannot be read, or is another one's")
			return nil //nolint:nilerr // it is what was looked for
		}
		if !st.ColumnBool(8) {
			return nil
		}
		return k.row(st, n, tenant, t, id, attrs, unpackKeys(columnBytes(st, 5)))
	})
}

func (k *check) row(st *sqlite.Stmt, n int64, tenant string, t *schemas.ResourceType, id string, attrs map[string]any, is rowKeys) error {
	if st.ColumnText(4) != storage.NameOf(attrs) {
		k.found(storage.FlawIndex, tenant, t.Name, id, "it is called something else than its document says")
	}
	if k.opt.Searchable(storage.TenantID(tenant), t) {
		j := newJSONB()
		unique, equal := storage.Derive(t, attrs, j)
		want := hashKeys(tenant, t.Name, unique, equal)
		if !slices.Equal(want.unique, is.unique) || !slices.Equal(want.lookup, is.lookup) {
			k.found(storage.FlawIndex, tenant, t.Name, id, "its keys are not those of its document")
		}
		if !bytes.Equal(j.bytes(), columnBytes(st, 7)) {
			k.found(storage.FlawIndex, tenant, t.Name, id, "it is searched by something else than its document says")
		}
	}
	for _, u := range is.unique {
		owner := int64(0)
		err := query(k.conn, `SELECT n FROM unique_key WHERE h = ?`, func(st *sqlite.Stmt) error { owner = st.ColumnInt64(0); return nil }, u[:])
		if err != nil {
			return err
		}
		if n > k.merged[u.part()] {
			if owner == 0 {
				owner = k.fresh[u]
			}
			if owner == 0 {
				owner = n
			}
			k.fresh[u] = n
		} else {
			k.unique++
		}
		switch owner {
		case n:
		case 0:
			k.found(storage.FlawUnique, tenant, t.Name, id, "a unique value of it is not reserved")
		default:
			if err := k.contested(owner, u, tenant, t.Name, id); err != nil {
				return err
			}
		}
	}
	for _, l := range is.lookup {
		if n > k.merged[l.part()] {
			continue
		}
		k.lookup++
		there := false
		if err := query(k.conn, `SELECT 1 FROM lookup WHERE h = ? AND n = ?`, func(*sqlite.Stmt) error { there = true; return nil }, int64(l), n); err != nil {
			return err
		}
		if !there {
			k.found(storage.FlawIndex, tenant, t.Name, id, "it is not found by a value of it")
		}
	}
	return nil
}

// contested is for a key that another row holds.
func (k *check) contested(owner int64, u uniqueKey, tenant, typ, id string) error {
	other := ""
	err := query(k.conn, `SELECT id, keys FROM resource WHERE n = ? AND deleted IS NULL`, func(st *sqlite.Stmt) error {
		if slices.Contains(unpackKeys(columnBytes(st, 1)).unique, u) {
			other = st.ColumnText(0)
		}
		return nil
	}, owner)
	if err != nil {
		return err
	}
	if other != "" {
		k.found(storage.FlawDuplicate, tenant, typ, id, "it has a unique value that "+other+" has, too")
	} else {
		k.found(storage.FlawUnique, tenant, typ, id, "a unique value of it is reserved for what has it not")
	}
	return nil
}

// reserved looks for keys that no row has, and for those of rows that are not merged: to merge
// these would fail, and every write with it. Where each row has found its own, and there
// are no more of them, there are none.
func (k *check) reserved() error {
	for _, table := range []struct {
		name string
		want int64
		has  func(rowKeys, []byte, int64) (part int, ok bool)
		what string
		kind storage.FlawKind
	}{
		{"unique_key", k.unique, func(r rowKeys, h []byte, _ int64) (int, bool) {
			if len(h) != len(uniqueKey{}) {
				return 0, false
			}
			return uniqueKey(h).part(), slices.Contains(r.unique, uniqueKey(h))
		}, "a unique value is reserved for it that it has not", storage.FlawUnique},
		{"lookup", k.lookup, func(r rowKeys, _ []byte, h int64) (int, bool) {
			return lookupKey(h).part(), slices.Contains(r.lookup, lookupKey(h))
		}, "it is found by a value that it has not", storage.FlawIndex},
	} {
		have := int64(0)
		if err := query(k.conn, `SELECT count(*) FROM `+table.name, func(st *sqlite.Stmt) error { have = st.ColumnInt64(0); return nil }); err != nil {
			return err
		}
		if have == table.want && !k.flawed {
			continue
		}
		err := query(k.conn, `SELECT t.h, t.n, r.tenant, r.type, r.id, r.keys, r.deleted IS NULL FROM `+table.name+` t LEFT JOIN resource r ON r.n = t.n`, func(st *sqlite.Stmt) error {
			live := !st.ColumnIsNull(4) && st.ColumnBool(6)
			var h []byte
			if st.ColumnType(0) == sqlite.TypeBlob {
				h = columnBytes(st, 0)
			}
			n := st.ColumnInt64(1)
			switch part, has := table.has(unpackKeys(columnBytes(st, 5)), h, st.ColumnInt64(0)); {
			case !live || !has:
				typ, id := st.ColumnText(3), st.ColumnText(4)
				if st.ColumnIsNull(4) {
					typ, id = "row", fmt.Sprint(n)
				}
				k.found(table.kind, st.ColumnText(2), typ, id, table.what)
			case n > k.merged[part]:
				k.found(table.kind, st.ColumnText(2), st.ColumnText(3), st.ColumnText(4), "a key of it is in the table "+table.name+" before it is merged")
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tallies counts the resources in each run.
func (k *check) tallies() error {
	return query(k.conn, `SELECT t.tenant, t.type, t.lo, t.live,
		(SELECT count(*) FROM resource r WHERE r.tenant = t.tenant AND r.type = t.type AND r.deleted IS NULL AND r.id >= t.lo AND r.id < coalesce(
			(SELECT min(u.lo) FROM tally u WHERE u.tenant = t.tenant AND u.type = t.type AND u.lo > t.lo), char(0x10FFFF)))
		FROM (SELECT tenant, type, lo, live FROM tally UNION ALL
			SELECT DISTINCT r.tenant, r.type, '', 0 FROM tenant n CROSS JOIN resource r ON r.tenant = n.id AND r.deleted IS NULL
				WHERE NOT EXISTS (SELECT 1 FROM tally x WHERE x.tenant = r.tenant AND x.type = r.type)) t`, func(st *sqlite.Stmt) error {
		if st.ColumnInt64(3) != st.ColumnInt64(4) {
			k.found(storage.FlawCount, st.ColumnText(0), st.ColumnText(1), "", fmt.Sprintf("%d are counted from one id to another, and there are %d", st.ColumnInt64(3), st.ColumnInt64(4)))
		}
		return nil
	})
}

func (k *check) memberships() error {
	return query(k.conn, `SELECT g.tenant, g.id, m.grp, m.id, g.n IS NULL, r.n IS NULL, g.type IS NOT 'Group' OR r.id IS NOT m.id OR r.tenant IS NOT g.tenant
		FROM membership m LEFT JOIN resource g ON g.n = m.grp LEFT JOIN resource r ON r.n = m.member
		WHERE g.n IS NULL OR r.n IS NULL OR g.type IS NOT 'Group' OR r.id IS NOT m.id OR r.tenant IS NOT g.tenant`, func(st *sqlite.Stmt) error {
		group, what := st.ColumnText(1), "its member "+st.ColumnText(3)+" is another one"
		if st.ColumnBool(4) {
			group = fmt.Sprint("row ", st.ColumnInt64(2))
		}
		switch {
		case st.ColumnBool(4):
			what = "the group of the member " + st.ColumnText(3) + " is not there"
		case st.ColumnBool(5):
			what = "its member " + st.ColumnText(3) + " is not there"
		}
		k.found(storage.FlawOrphan, st.ColumnText(0), "Group", group, what)
		return nil
	})
}

func (k *check) tokens() error {
	return query(k.conn, `SELECT k.tenant, k.id FROM token k LEFT JOIN client c ON c.tenant = k.tenant AND c.id = k.client WHERE c.id IS NULL`, func(st *sqlite.Stmt) error {
		k.found(storage.FlawOrphan, st.ColumnText(0), "token", st.ColumnText(1), "its client is not there")
		return nil
	})
}

func (k *check) items() error {
	err := query(k.conn, `SELECT DISTINCT f.tenant, f.kind, f.id FROM item_key f LEFT JOIN item i ON i.tenant = f.tenant AND i.kind = f.kind AND i.id = f.id
		WHERE i.id IS NULL`, func(st *sqlite.Stmt) error {
		k.found(storage.FlawIndex, st.ColumnText(0), st.ColumnText(1), st.ColumnText(2), "a key leads to an item that is not there")
		return nil
	})
	if err != nil {
		return err
	}
	p := storage.ItemPortions{Give: k.opt.Item}
	err = query(k.conn, `SELECT `+itemColumns+`, i.kind, i.tenant FROM item i`, func(st *sqlite.Stmt) error {
		i, err := scanItem(st, st.ColumnText(5))
		if err != nil {
			return err
		}
		return p.Add(storage.TenantID(st.ColumnText(6)), i)
	})
	if err != nil {
		return err
	}
	return p.End()
}
