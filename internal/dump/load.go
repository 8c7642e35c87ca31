package dump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// How much is written at a time: so little that others get their turn and that no
// database finds a transaction too large, so much that a commit is worth it.
const (
	portionRecords = 500 // a record of members counts as many as it has
	portionBytes   = 4 << 20
)

// Loader loads dumps into a store.
type Loader struct {
	Store   storage.Store
	Schemas *schemas.Set
	// Tenant is what is loaded into; the tenant of the dump, if empty.
	Tenant storage.TenantID
	Now    func() time.Time
	// Accept is asked about each record of a dump with this header before it is loaded, and
	// its error ends the load; it may be nil.
	Accept func(Header, storage.Record) error
	// Alter is Restorer.Alter.
	Alter func(storage.TenantID, *storage.Record) (keep bool, err error)

	entry   func(at time.Time) storage.AuditEntry // in the place of tenant.load
	seen    func(storage.Record)
	terms   string // of what Alter does; a load goes on with the same only
	portion int    // in the place of portionRecords, if not 0
}

// Result says what came of a load.
type Result struct {
	Header Header
	Tenant storage.TenantID
	Counts Counts // of the whole dump
	// Resumed is how many records were in the store already.
	Resumed int64
}

// Load loads a dump. It writes portion by portion, and an error leaves the
// portions before it in the store, if there are any, in a tenant that nobody can use; loading the
// same dump again goes on there. Only when the trailer has been read and is right
// is the load complete, which is when the tenant's clients can sign in and when
// the audit entry tenant.load is recorded.
func (l *Loader) Load(ctx context.Context, in io.Reader) (Result, error) {
	r, err := NewReader(in, l.Schemas, l.Tenant)
	if err != nil {
		return Result{}, err
	}
	s := newSession(l, r)
	err = s.run(ctx)
	return Result{Header: r.Header, Tenant: r.tenant, Counts: r.Counts, Resumed: s.resumed}, err
}

// Verify reads a dump to its end, as Load would, and writes nothing. accept is
// Loader.Accept.
func Verify(ctx context.Context, in io.Reader, set *schemas.Set, accept func(Header, storage.Record) error) (Result, error) {
	r, err := NewReader(in, set, "")
	if err != nil {
		return Result{}, err
	}
	for err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		var rec storage.Record
		if rec, err = r.Next(); err == nil && accept != nil {
			err = accept(r.Header, rec)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return Result{Header: r.Header, Tenant: r.tenant, Counts: r.Counts}, err
}

// session is one run of Load.
type session struct {
	*Loader
	reader  *Reader
	limit   int
	resumed int64

	mark   *storage.LoadMark // what the store holds; nil before the first portion
	start  *storage.LoadMark // what a load begins with
	list   []*storage.Record // what comes next
	lines  []int             // where each of list stands
	weight int
	bytes  int
}

func newSession(l *Loader, r *Reader) *session {
	s := &session{Loader: l, reader: r, limit: portionRecords}
	if l.portion > 0 {
		s.limit = l.portion
	}
	if l.seen == nil {
		l.seen = func(storage.Record) {}
	}
	if l.entry == nil {
		l.entry = func(at time.Time) storage.AuditEntry {
			return storage.AuditEntry{At: at, Actor: "operator", Action: "tenant.load", Type: "Tenant", ID: string(r.tenant)}
		}
	}
	return s
}

func (s *session) run(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	for {
		// Asked here too, because reading does not ask.
		if ctx.Err() != nil {
			return errInterrupted
		}
		rec, err := s.reader.Next()
		if errors.Is(err, io.EOF) {
			return s.write(ctx, nil)
		}
		if err != nil {
			return err
		}
		s.seen(rec)
		if s.Accept != nil {
			if err := s.Accept(s.reader.Header, rec); err != nil {
				return err
			}
		}
		keep := true
		if s.Alter != nil {
			if keep, err = s.Alter(s.reader.tenant, &rec); err != nil {
				return err
			}
		}
		if keep {
			s.take(rec)
		}
		if s.weight >= s.limit || s.bytes >= portionBytes {
			if err := s.write(ctx, s.at()); err != nil {
				if ctx.Err() != nil {
					return errInterrupted
				}
				return err
			}
		}
	}
}

var errInterrupted = errors.New("what is there stays, and the same command with the same file goes on")

// begin begins a load, or finds out where an earlier one has got to and reads up
// to there.
func (s *session) begin(ctx context.Context) (err error) {
	if s.mark, err = s.Store.LoadMark(ctx, s.reader.tenant); err != nil {
		return err
	}
	if s.mark == nil {
		s.start = s.at()
		return nil
	}
	other := fmt.Errorf("tenant %q holds a part of another dump (%s): load that one to its end, or use a new store", s.reader.tenant, dumpOf(s.mark))
	switch {
	case dumpOf(s.mark) != s.reader.Header.Dump:
		return other
	case s.mark.Dump != s.at().Dump:
		return ErrOtherTerms
	}
	for range s.mark.Records {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := s.reader.Next()
		if errors.Is(err, io.EOF) {
			return other
		}
		if err != nil {
			return err
		}
		s.seen(rec)
	}
	if !bytes.Equal(s.reader.Mark().Digest, s.mark.Digest) {
		return s.reader.wrong("the lines so far to be those that were loaded: the dump has been altered since")
	}
	s.resumed = s.mark.Records
	return nil
}

// at is how far the dump has been read.
func (s *session) at() *storage.LoadMark {
	m := s.reader.Mark()
	m.Dump += s.terms
	return m
}

// take adds a record to the next portion, with what the store searches it by.
func (s *session) take(rec storage.Record) {
	s.weight++
	s.bytes += len(s.reader.buf)
	if w := rec.Resource; w != nil {
		w.Name = storage.NameOf(s.reader.attrs)
		w.Index = s.Store.NewIndex(s.reader.tenant, s.reader.typ, s.reader.attrs)
	}
	if m := rec.Members; m != nil {
		s.weight += len(m.Members)
	}
	s.list = append(s.list, &rec)
	s.lines = append(s.lines, s.reader.Line())
}

// write loads a portion and moves the mark in one step. Without a next mark the
// load is complete.
func (s *session) write(ctx context.Context, next *storage.LoadMark) error {
	err := s.Store.Write(ctx, s.reader.tenant, func(tx storage.Tx) error {
		mark := s.mark
		if mark == nil {
			// With the first portion: where that cannot be loaded the tenant stays as it is, and
			// so does one with anything in it.
			mark = s.start
			if err := tx.SetLoad(nil, mark); err != nil {
				return err
			}
		}
		for i, r := range s.list {
			if err := tx.Load(r); err != nil {
				return explain(err, s.lines[i])
			}
		}
		if err := tx.SetLoad(mark, next); err != nil || next != nil {
			return err
		}
		return tx.Audit(s.entry(storage.Milli(s.Now())))
	})
	switch {
	case errors.Is(err, storage.ErrNotEmpty):
		return fmt.Errorf("%w: tenant %q has resources, clients or audit entries, and a dump can only be loaded where there are none", err, s.reader.tenant)
	case errors.Is(err, storage.ErrConflict):
		return fmt.Errorf("somebody else is loading tenant %q", s.reader.tenant)
	case err != nil:
		return err
	}
	s.mark = next
	clear(s.list)
	s.list, s.lines, s.weight, s.bytes = s.list[:0], s.lines[:0], 0, 0
	return nil
}

// explain says which line a store refuses, if that is what err is about.
func explain(err error, line int) error {
	if e, ok := errors.AsType[*storage.UniqueError](err); ok {
		return &LineError{Line: line, Expected: "a value of " + e.Attr + " that nothing before it has", Err: err}
	}
	if e, ok := errors.AsType[*storage.UnknownMemberError](err); ok {
		return &LineError{Line: line, Expected: fmt.Sprintf("members that the dump has as resources, unlike member %d", e.Index)}
	}
	if errors.Is(err, storage.ErrNotFound) {
		return &LineError{Line: line, Expected: "a group or client that the dump has"}
	}
	return err
}
