package dump

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/roster-id/roster/storage"
)

// Writer writes the dump of a tenant.
type Writer struct {
	Store   storage.Dumper
	Product string // the version of Roster
	Now     time.Time
}

// Write writes a tenant to w and returns what there is of it. It fails with
// storage.ErrNotFound, before anything is written, if there is no such tenant.
// A dump whose Write failed has no trailer and cannot be loaded.
func (d *Writer) Write(ctx context.Context, tenant storage.TenantID, w io.Writer) (Counts, error) {
	var counts Counts
	id, err := uuid.NewV7()
	if err != nil {
		return counts, err
	}
	hash := sha256.New()
	out := bufio.NewWriterSize(w, 256<<10)
	put := func(line []byte) error {
		hash.Write(line)
		_, err := out.Write(line)
		return err
	}
	var buf []byte
	begun := false
	for r, err := range d.Store.Dump(ctx, tenant) {
		if err != nil {
			return counts, err
		}
		if !begun {
			begun = true
			head := Header{formatName, formatVersion, id.String(), string(tenant), d.Now.UTC().Truncate(time.Second), d.Product}
			if buf, err = appendLine(buf[:0], "header", head, nil); err != nil {
				return counts, err
			}
			if err := put(append(buf, '\n')); err != nil {
				return counts, err
			}
		}
		if buf, err = appendRecord(buf[:0], r); err != nil {
			return counts, err
		}
		buf = append(buf, '\n')
		if err := put(buf); err != nil {
			return counts, err
		}
		counts.add(r)
	}
	if buf, err = appendLine(buf[:0], endName, trailer{counts, hex.EncodeToString(hash.Sum(nil))}, nil); err != nil {
		return counts, err
	}
	if err := put(append(buf, '\n')); err != nil {
		return counts, err
	}
	if err := out.Flush(); err != nil {
		return counts, fmt.Errorf("write the dump: %w", err)
	}
	return counts, nil
}
