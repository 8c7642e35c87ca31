package sqlite

import (
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// An insertion adds rows to a table, many with each statement: the cursors stay
// where they are from one row to the next, which for neighbours is most of the work.
// Of a statement that fails, rows may be left (OR FAIL): whoever runs it takes back the
// transaction or the savepoint in any case, and SQLite need not keep what pages were like.
type insertion struct {
	texts   []string // of the statements that add rows, rows/8, … 1
	rows    int
	columns int
}

func newInsertion(into, row string, rows int) insertion {
	n := insertion{rows: rows, columns: strings.Count(row, "?")}
	for ; rows > 0; rows /= 8 {
		n.texts = append(n.texts, into+" VALUES "+strings.Repeat(", "+row, rows)[2:])
	}
	return n
}

// run inserts count rows. bind gives the i-th of them to the parameters from at on.
func (n *insertion) run(c *sqlite.Conn, count int, bind func(st *sqlite.Stmt, at, i int)) error {
	rows, texts := n.rows, n.texts
	for from := 0; from < count; from += rows {
		for count-from < rows {
			rows, texts = rows/8, texts[1:]
		}
		st, err := c.Prepare(texts[0])
		if err != nil {
			return err
		}
		for i := range rows {
			bind(st, 1+n.columns*i, from+i)
		}
		if err := run(st); err != nil {
			return err
		}
	}
	return nil
}

var (
	insertUnique    = newInsertion(`INSERT OR FAIL INTO unique_key (h, n)`, `(?, ?)`, 64)
	insertLookup    = newInsertion(`INSERT OR FAIL INTO lookup (h, n)`, `(?, ?)`, 64)
	insertResources = newInsertion(`INSERT OR FAIL INTO resource (n, tenant, type, id, version, created, modified, name, keys, doc, shadow)`,
		`(?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?)`, 8)
	insertEntries = newInsertion(`INSERT OR FAIL INTO audit (seq, tenant, at, request_id, actor, action, type, id, version, attributes, origin, level, changes, chain, n, hash)`,
		`(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, 8)
)

// pending is what a batch has to insert and nobody has asked for yet: new resources
// and audit entries, which most writes consist of. They go to the database together,
// before the next statement of any job that could see them (tx.conn, tx.settle), or the commit.
type pending struct {
	resources []pendingResource
	entries   []pendingEntry
	// What stands before these is of jobs that are done.
	resourceMark, entryMark int
	doc                     []byte // of one resource, to be bound
	changes                 []byte // of one entry, to be bound
}

type pendingResource struct {
	storage.Resource
	tenant string
	index  *index
}

type pendingEntry struct {
	storage.AuditEntry
	tenant string
}

// begin marks where the next job begins.
func (p *pending) begin() { p.resourceMark, p.entryMark = len(p.resources), len(p.entries) }

// undo forgets what the job has added.
func (p *pending) undo() {
	p.truncate(p.resourceMark, p.entryMark)
}

// own reports whether some of it is of the job under way.
func (p *pending) own() bool {
	return len(p.resources) > p.resourceMark || len(p.entries) > p.entryMark
}

func (p *pending) clear() {
	p.truncate(0, 0)
	p.begin()
}

func (p *pending) truncate(resources, entries int) {
	clear(p.resources[resources:])
	clear(p.entries[entries:])
	p.resources, p.entries = p.resources[:resources], p.entries[:entries]
}

// flush inserts it all. After an error the transaction is to be rolled back.
func (p *pending) flush(c *sqlite.Conn) error {
	if len(p.resources)+len(p.entries) == 0 {
		return nil
	}
	if c.AutocommitEnabled() { // whatever came now would be kept by itself
		return errGivenUp
	}
	err := insertResources.run(c, len(p.resources), func(st *sqlite.Stmt, at, i int) {
		r := &p.resources[i]
		st.BindInt64(at, r.Ref)
		st.BindText(at+1, r.tenant)
		st.BindText(at+2, r.Type)
		st.BindText(at+3, r.ID)
		st.BindInt64(at+4, r.Version)
		bindTime(st, at+5, r.Created)
		bindTime(st, at+6, r.LastModified)
		st.BindText(at+7, r.Name)
		st.BindBytes(at+8, r.index.packed)
		p.doc = shortDoc(p.doc[:0], r.Doc, r.ID)
		st.BindBytes(at+9, p.doc)
		st.BindBytes(at+10, r.index.shadow)
	})
	if err != nil {
		return err
	}
	err = insertEntries.run(c, len(p.entries), func(st *sqlite.Stmt, at, i int) {
		e := &p.entries[i]
		st.BindInt64(at, e.Seq)
		st.BindText(at+1, e.tenant)
		bindTime(st, at+2, e.At)
		st.BindText(at+3, e.RequestID)
		st.BindText(at+4, e.Actor)
		st.BindText(at+5, e.Action)
		st.BindText(at+6, e.Type)
		st.BindText(at+7, e.ID)
		st.BindInt64(at+8, e.Version)
		st.BindText(at+9, strings.Join(e.Attributes, " "))
		st.BindText(at+10, e.From)
		st.BindText(at+11, e.Level)
		if len(e.Changes) > 0 {
			p.changes = storage.AppendChanges(p.changes[:0], e.Changes)
			st.BindBytes(at+12, p.changes)
		} else {
			st.BindNull(at + 12)
		}
		st.BindText(at+13, e.Chain)
		st.BindInt64(at+14, e.N)
		st.BindBytes(at+15, e.Hash)
	})
	if err == nil {
		p.clear()
	}
	return err
}
