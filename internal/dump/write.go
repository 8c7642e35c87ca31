package dump

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Writer writes the dump of a tenant.
type Writer struct {
	Store   storage.Dumper
	Schemas *schemas.Set // that are built in
	Product string       // the version of Roster
	Now     time.Time
}

// Write writes a tenant to w and returns what there is of it. It fails with
// storage.ErrNotFound, before anything is written, if there is no such tenant.
// A dump whose Write failed has no trailer and cannot be loaded.
func (d *Writer) Write(ctx context.Context, tenant storage.TenantID, w io.Writer) (Counts, error) {
	out := bufio.NewWriterSize(w, 256<<10)
	var s *section
	for r, err := range d.Store.Dump(ctx, tenant) {
		if err == nil && s == nil {
			s, err = beginSection(out, d.Schemas, tenant, d.Product, d.Now)
		}
		if err == nil {
			err = s.put(r)
		}
		if err != nil {
			return s.counted(), err
		}
	}
	if _, err := s.end(); err != nil {
		return s.counts, err
	}
	if err := out.Flush(); err != nil {
		return s.counts, fmt.Errorf("write the dump: %w", err)
	}
	return s.counts, nil
}

// section is the dump of one tenant while it is written.
type section struct {
	out    *bufio.Writer
	tenant storage.TenantID
	id     string
	hash   hash.Hash
	counts Counts
	buf    []byte
	like   *Reader // that is asked what it would take
}

// beginSection writes the header of a dump.
func beginSection(out *bufio.Writer, set *schemas.Set, tenant storage.TenantID, product string, now time.Time) (*section, error) {
	s := &section{out: out, tenant: tenant, id: storage.NewID(), hash: sha256.New(), like: &Reader{schemas: set}}
	head := Header{formatName, formatVersion, s.id, string(tenant), now.UTC().Truncate(time.Second), product}
	var err error
	if s.buf, err = appendLine(s.buf, "header", head, nil); err != nil {
		return nil, err
	}
	return s, s.line()
}

// line writes what is in buf, and hashes it.
func (s *section) line() error {
	s.buf = append(s.buf, '\n')
	s.hash.Write(s.buf)
	_, err := s.out.Write(s.buf)
	return err
}

// put writes a record. It refuses one that is damaged in the store, or what is written
// would be found to be worth nothing when it is needed.
func (s *section) put(r storage.Record) (err error) {
	const damaged = "%s %q is damaged in the store, and nothing could be made of what has it; roster verify tells what else is"
	if i := r.Item; i != nil && new(*i).Prepare() != nil {
		return fmt.Errorf(damaged, "the item "+i.Kind, i.ID)
	}
	if err := s.like.check(r); err != nil {
		switch {
		case r.Resource != nil:
			return fmt.Errorf(damaged, r.Resource.Type, r.Resource.ID)
		case r.Item != nil:
			return fmt.Errorf(damaged, "the "+r.Item.Kind, r.Item.ID)
		}
		return fmt.Errorf(damaged, "the schemas of tenant", s.tenant)
	}
	if s.buf, err = appendRecord(s.buf[:0], r); err != nil {
		return err
	}
	s.counts.add(r)
	return s.line()
}

func (s *section) counted() Counts {
	if s == nil {
		return Counts{}
	}
	return s.counts
}

// end writes the trailer, and returns the line.
func (s *section) end() (line []byte, err error) {
	if s.buf, err = appendLine(s.buf[:0], endName, trailer{s.counts, hex.EncodeToString(s.hash.Sum(nil))}, nil); err != nil {
		return nil, err
	}
	err = s.line()
	return s.buf, err
}
