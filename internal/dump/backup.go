package dump

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// A backup is the dumps of all tenants of a store as of one moment, one behind the
// other, between a line that says what follows and a manifest: which dumps these are,
// and the SHA-256 of the first line, the last line of each dump (which has the SHA-256
// of that one) and the manifest's own list.
const (
	backupName    = "roster-backup"
	backupVersion = 1

	backupLine   = "backup"
	manifestLine = "manifest"
)

// BackupHeader is the first line of a backup.
type BackupHeader struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Backup  string    `json:"backup"` // an id of its own
	Created time.Time `json:"created"`
	Product string    `json:"product"`
	Store   string    `json:"store"` // the kind of store that it is of
}

// Part is the dump of a tenant in a backup.
type Part struct {
	Tenant  storage.TenantID `json:"tenant"`
	Dump    string           `json:"dump"`
	Records Counts           `json:"records"`
	// LastAudit is the number of its last audit entry, 0 if there is none.
	LastAudit int64 `json:"lastAudit"`
}

type manifest struct {
	Tenants []Part `json:"tenants"`
	SHA256  string `json:"sha256"`
}

// Backup is what a backup holds.
type Backup struct {
	Header BackupHeader
	Parts  []Part
}

// BackupWriter writes backups.
type BackupWriter struct {
	Store   storage.Dumper
	Schemas *schemas.Set // that are built in
	Kind    string       // of the store
	Product string
	Now     func() time.Time
}

// Write writes all tenants to w. A backup whose Write failed has no manifest and is not
// restored.
func (b *BackupWriter) Write(ctx context.Context, w io.Writer) (*Backup, error) {
	out, sum := bufio.NewWriterSize(w, 256<<10), sha256.New()
	now := b.Now()
	done := &Backup{Header: BackupHeader{backupName, backupVersion, storage.NewID(), storage.Milli(now), b.Product, b.Kind}}
	buf, err := appendLine(nil, backupLine, done.Header, nil)
	if err != nil {
		return nil, err
	}
	buf = append(buf, '\n')
	sum.Write(buf)
	if _, err := out.Write(buf); err != nil {
		return nil, err
	}
	var s *section
	var part Part
	end := func() error {
		if s == nil {
			return nil
		}
		line, err := s.end()
		sum.Write(line)
		part.Dump, part.Records = s.id, s.counts
		done.Parts = append(done.Parts, part)
		return err
	}
	for r, err := range b.Store.DumpAll(ctx) {
		if err == nil && r.Tenant != nil {
			if err = end(); err == nil {
				part = Part{Tenant: r.Tenant.ID}
				s, err = beginSection(out, b.Schemas, r.Tenant.ID, b.Product, now)
			}
		}
		if err == nil {
			err = s.put(r)
		}
		if err != nil {
			return nil, err
		}
		if r.Audit != nil {
			part.LastAudit = r.Audit.Seq
		}
	}
	if err := end(); err != nil {
		return nil, err
	}
	m := manifest{Tenants: done.Parts}
	if m.SHA256, err = m.sum(sum); err != nil {
		return nil, err
	}
	if buf, err = appendLine(buf[:0], manifestLine, m, nil); err != nil {
		return nil, err
	}
	if _, err := out.Write(append(buf, '\n')); err != nil {
		return nil, err
	}
	if err := out.Flush(); err != nil {
		return nil, fmt.Errorf("write the backup: %w", err)
	}
	return done, nil
}

// sum adds the list of the manifest to what has been hashed.
func (m *manifest) sum(h hash.Hash) (string, error) {
	line, err := appendLine(nil, manifestLine, manifest{Tenants: m.Tenants}, nil)
	h.Write(line)
	return hex.EncodeToString(h.Sum(nil)), err
}

// BackupReader reads a backup dump by dump.
type BackupReader struct {
	Header BackupHeader

	schemas *schemas.Set
	in      *bufio.Reader
	sum     hash.Hash
	line    int
	parts   []Part
	part    *Reader // the dump that is read
	last    int64   // its last audit entry
}

const expectedBackup = `the first line of a backup, {"backup":{"format":"` + backupName + `", …}}`

// NewBackupReader reads the first line of a backup.
func NewBackupReader(in io.Reader, set *schemas.Set) (*BackupReader, error) {
	b := &BackupReader{schemas: set, in: bufio.NewReaderSize(in, 256<<10), sum: sha256.New()}
	r := b.reader()
	name, value, err := r.next()
	if errors.Is(err, io.EOF) {
		r.line++
		err = r.wrong("a backup, not an empty file")
	}
	if err != nil {
		return nil, err
	}
	var probe struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	switch {
	case name == "header":
		return nil, r.wrong(expectedBackup + "; this is the dump of a tenant, which roster load takes")
	case name != backupLine || !probeHeader(value, &probe) || probe.Format != backupName:
		return nil, r.wrong(expectedBackup)
	case probe.Version != backupVersion:
		return nil, r.wrong(fmt.Sprintf("version %d of the format, which is what this roster reads; another version of roster made this backup", backupVersion))
	case !decode(value, &b.Header) || b.Header.Backup == "" || b.Header.Created.IsZero():
		return nil, r.wrong("a first line with format, version, backup, created, product and store")
	}
	b.sum.Write(r.buf)
	b.line = r.line
	return b, nil
}

// reader returns one that reads on where the backup has got to.
func (b *BackupReader) reader() *Reader {
	return &Reader{schemas: b.schemas, in: b.in, hash: sha256.New(), line: b.line, part: true}
}

// Next returns the reader of the next dump, which has to be read to its end first; or
// nil when the manifest has been read and all is as it says.
func (b *BackupReader) Next() (*Reader, error) {
	if b.part != nil {
		b.parts = append(b.parts, Part{Tenant: b.part.tenant, Dump: b.part.Header.Dump, Records: b.part.Counts, LastAudit: b.last})
		b.sum.Write(b.part.buf)
		b.line, b.part, b.last = b.part.line, nil, 0
	}
	r := b.reader()
	name, value, err := r.next()
	if errors.Is(err, io.EOF) {
		r.line++
		err = r.wrong("another dump, or the manifest: the backup is cut off here")
	}
	if err != nil {
		return nil, err
	}
	if name == manifestLine {
		return nil, b.end(r, value)
	}
	if err := r.begin(name, value, ""); err != nil {
		return nil, err
	}
	b.part = r
	return r, nil
}

func (b *BackupReader) end(r *Reader, value []byte) error {
	var m manifest
	if !decode(value, &m) || len(m.SHA256) != 2*sha256.Size {
		return r.wrong("a manifest: tenants, and sha256 in hexadecimal")
	}
	is := manifest{Tenants: b.parts}
	sum, err := is.sum(b.sum)
	if err != nil {
		return err
	}
	if sum != m.SHA256 || !slices.Equal(m.Tenants, b.parts) {
		return r.wrong("the manifest of the dumps before it: the backup has been altered")
	}
	if _, _, err := r.next(); !errors.Is(err, io.EOF) {
		return r.wrong("nothing behind the manifest")
	}
	return nil
}

// Read reads the dump that Next returned to its end.
func (b *BackupReader) Read(ctx context.Context, accept func(storage.TenantID, storage.Record) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := b.part.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if rec.Audit != nil {
			b.last = rec.Audit.Seq
		}
		if accept != nil {
			if err := accept(b.part.tenant, rec); err != nil {
				return err
			}
		}
	}
}

// VerifyBackup reads a backup to its end and writes nothing. accept, if set, sees each
// record, and its error ends it.
func VerifyBackup(ctx context.Context, in io.Reader, set *schemas.Set, accept func(storage.TenantID, storage.Record) error) (*Backup, error) {
	b, err := NewBackupReader(in, set)
	if err != nil {
		return nil, err
	}
	for {
		part, err := b.Next()
		if err != nil {
			return nil, err
		}
		if part == nil {
			return &Backup{Header: b.Header, Parts: b.parts}, nil
		}
		if err := b.Read(ctx, accept); err != nil {
			return nil, err
		}
	}
}
