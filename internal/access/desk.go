package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// Desk is where roles are asked for and reviewed. Set the fields before the first call;
// all methods are safe for concurrent use.
type Desk struct {
	Store    storage.Store
	Provider *scim.Provider
	Schemas  *schemas.Set
	Now      func() time.Time
	Log      *slog.Logger // nil for none
	// Overdue is told how many reviews are overdue; it may be nil.
	Overdue func(reviews int)
	// Tell puts mail into a write, without the link and the organisation that all of it
	// has; nil if there is no mail. See Post.
	Tell func(tx storage.ItemWriter, tenant storage.TenantID, m mail.Message, now time.Time) error
}

// maxReason bounds a reason, in bytes.
const maxReason = 500

// ErrConflict says: what was asked for does not fit what there is.
var ErrConflict = errors.New("this is not possible now")

// conflict is an ErrConflict in words of its own.
type conflict string

func (c conflict) Error() string { return string(c) }

func (c conflict) Is(target error) bool { return target == ErrConflict } //nolint:errorlint // one of its own

// now is in whole milliseconds, as stored.
func (d *Desk) now() time.Time { return storage.Milli(d.Now()) }

func (d *Desk) holdings() auth.Holdings { return auth.Holdings{Store: d.Store, Now: d.Now} }

func reasonOf(s string, required bool) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" && required || len(s) > maxReason {
		return "", &auth.InvalidError{Member: "reason", Expected: fmt.Sprintf("a reason of at most %d bytes", maxReason)}
	}
	return s, nil
}

// record writes the audit entry of what by did.
func record(ctx context.Context, tx storage.Tx, by auth.Principal, now time.Time, action, typ, id string, changes ...storage.Change) error {
	e := by.Entry(ctx, now, action, typ, id)
	e.Changes = changes
	return tx.Audit(e)
}

// put stores v as an item in the place of prev.
func put(tx storage.ItemWriter, prev *storage.Item, kind, id string, v any, expires time.Time, keys ...string) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.PutItem(prev, &storage.Item{Kind: kind, ID: id, Keys: keys, Expires: expires, Data: data})
}

var errDamaged = errors.New("a stored request or review is damaged")

// decode reads what an item holds.
func decode(i *storage.Item, into any) error {
	if json.Unmarshal(i.Data, into) != nil {
		return errDamaged
	}
	return nil
}

// all reads what a store returned, each item by from.
func all[T any](items []*storage.Item, err error, from func(*storage.Item) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	list := make([]T, len(items))
	for n, i := range items {
		if list[n], err = from(i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// one is all for one item.
func one[T any](i *storage.Item, err error, from func(*storage.Item) (T, error)) (v T, _ error) {
	if err != nil {
		return v, err
	}
	return from(i)
}
