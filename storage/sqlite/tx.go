package sqlite

import (
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// tx is a storage.Tx: one job of a batch.
type tx struct {
	batch   *batch
	tenant  string
	wrote   bool // anything
	changed bool // something other than audit and outbox
	audited bool
	failed  error // of what was not recorded or inserted: the write cannot succeed
	over    bool
}

// errGuest keeps a second process from changing resources beside a server, which
// knows the newest keys from its own writes only.
var errGuest = errors.New("resources can only be changed through the running server")

// errGivenUp: SQLite rolled the whole transaction back, as it does on a full disk.
var errGivenUp = fmt.Errorf("%w: SQLite gave the transaction up", storage.ErrUnavailable)

// resourceColumns are what portion.take reads.
const resourceColumns = `r.n, r.id, r.version, r.created, r.modified, r.doc`

const (
	getColumns = `SELECT ` + resourceColumns + `,
	EXISTS (SELECT 1 FROM membership m JOIN resource g ON g.n = m.grp AND g.deleted IS NULL WHERE m.member = r.n)`
	getFrom     = ` FROM resource r WHERE r.tenant = ? AND r.type = ? AND r.id = ? AND r.deleted IS NULL`
	getResource = getColumns + `, 0` + getFrom
	getToChange = getColumns + `, (SELECT e.n FROM epoch e WHERE e.tenant = r.tenant)` + getFrom
)

// scan reads resourceColumns except the document.
func scan(st *sqlite.Stmt, r *storage.Resource) {
	r.Ref, r.Version = st.ColumnInt64(0), st.ColumnInt64(2)
	r.Created, r.LastModified = columnTime(st, 3), columnTime(st, 4)
}

// get runs getResource or getToChange.
func get(c *sqlite.Conn, sql, tenant, typ, id string) (*storage.Resource, error) {
	st, err := c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	st.BindText(1, tenant)
	st.BindText(2, typ)
	st.BindText(3, id)
	ok, err := st.Step()
	if err != nil || !ok {
		if rerr := st.Reset(); err == nil {
			err = rerr
		}
		if err == nil {
			err = storage.ErrNotFound
		}
		return nil, err
	}
	r := &storage.Resource{Type: typ, ID: id, Doc: appendDoc(nil, st, 5, id), InGroups: st.ColumnBool(6), Epoch: st.ColumnInt64(7)}
	scan(st, r)
	return r, st.Reset()
}

// check panics when the write is over.
func (t *tx) check() {
	if t.over {
		panic("storage.Tx used after Write returned")
	}
}

// conn is the connection for a statement, which may ask for resources that are pending:
// they are inserted first.
func (t *tx) conn() *sqlite.Conn {
	t.check()
	if len(t.batch.pending.resources) > 0 {
		t.settle()
	}
	return t.batch.conn
}

// settle inserts all that is pending, audit entries as well, for which no other
// statement of a write asks.
func (t *tx) settle() {
	p := &t.batch.pending
	t.wrote = t.wrote || p.own()
	if err := p.flush(t.batch.conn); err != nil {
		t.wrote = true
		t.fail(err)
	}
}

// fail keeps the first reason why the write cannot succeed, whatever comes of it.
func (t *tx) fail(err error) {
	if err != nil && t.failed == nil {
		t.failed = err
	}
}

func (t *tx) exec(sql string, args ...any) error {
	c := t.conn()
	if c.AutocommitEnabled() { // whatever came now would be kept by itself
		return errGivenUp
	}
	err := exec(c, sql, args...)
	t.wrote = t.wrote || err != nil || c.Changes() > 0
	return err
}

// change is exec for what needs an audit entry.
func (t *tx) change(sql string, args ...any) error {
	err := t.exec(sql, args...)
	t.changed = t.changed || err == nil && t.conn().Changes() > 0
	return err
}

func (t *tx) Get(typ, id string) (*storage.Resource, error) {
	return get(t.conn(), getToChange, t.tenant, typ, id)
}

func (t *tx) Advance() error {
	return t.change(`INSERT INTO epoch (tenant, n) VALUES (?, 1) ON CONFLICT (tenant) DO UPDATE SET n = n + 1`, t.tenant)
}

func (t *tx) Create(r *storage.Resource) error {
	t.check()
	if t.batch.store.guest {
		return errGuest
	}
	// The keys come first: when a name is taken, nothing has been written yet.
	n, err := t.batch.nextRow()
	if err != nil {
		return err
	}
	r.Ref = n
	x, err := t.index(r)
	if err != nil {
		return err
	}
	if err := t.reindex(n, rowKeys{}, x.keys, x.unique); err != nil {
		return err
	}
	t.batch.keys.note(keyChange{which: kindRow, n: n})
	t.batch.tally.add(t.tenant, r.Type, r.ID, +1)
	t.changed = true
	t.batch.pending.resources = append(t.batch.pending.resources, pendingResource{*r, t.tenant, x})
	return nil
}

// index returns the index of a resource to be written. One made for another
// tenant has the keys of that tenant.
func (t *tx) index(r *storage.Resource) (*index, error) {
	x, ok := r.Index.(*index)
	if !ok || x.tenant != t.tenant {
		return nil, fmt.Errorf("the index of %s %s was not made for this store and tenant", r.Type, r.ID)
	}
	return x, nil
}

func (t *tx) Update(prev, next *storage.Resource) error {
	if t.batch.store.guest {
		return errGuest
	}
	next.Ref = prev.Ref
	if next.Doc == nil {
		err := t.change(`UPDATE resource SET version = ?, modified = ? WHERE n = ? AND tenant = ? AND version = ? AND deleted IS NULL`,
			next.Version, next.LastModified, prev.Ref, t.tenant, prev.Version)
		if err == nil && t.conn().Changes() == 0 {
			err = storage.ErrConflict
		}
		return err
	}
	from, version, err := t.stored(prev.Ref)
	if err != nil {
		return err
	}
	if version != prev.Version {
		return storage.ErrConflict
	}
	to, err := t.index(next)
	if err != nil {
		return err
	}
	if err := t.reindex(prev.Ref, from, to.keys, to.unique); err != nil {
		return err
	}
	return t.change(`UPDATE resource SET version = ?, modified = ?, name = ?, keys = ?, doc = CAST(? AS TEXT), shadow = ? WHERE n = ?`,
		next.Version, next.LastModified, next.Name, to.packed, shortDoc(nil, next.Doc, next.ID), to.shadow, prev.Ref)
}

func (t *tx) Delete(prev *storage.Resource, at time.Time) error {
	if t.batch.store.guest {
		return errGuest
	}
	from, version, err := t.stored(prev.Ref)
	if err != nil {
		return err
	}
	if version != prev.Version {
		return storage.ErrConflict
	}
	if err := t.change(`UPDATE resource SET deleted = ? WHERE n = ?`, at, prev.Ref); err != nil {
		return err
	}
	// The memberships stay, hidden with the resource; the groups have changed
	// all the same, other than a deleted group that is in itself.
	if err := t.moveGroups(prev.Ref, at); err != nil {
		return err
	}
	t.batch.tally.add(t.tenant, prev.Type, prev.ID, -1)
	return t.reindex(prev.Ref, from, rowKeys{}, nil)
}
