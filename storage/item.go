package storage

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Item is a small record that is no SCIM resource: the credential of a user, a
// session, a policy. What its Data means is the business of the package that
// made the kind; a backend keeps it as it is.
type Item struct {
	Kind string
	ID   string // unique among the items of a kind in a tenant
	// Keys are what Items finds it by, beside its id, a few short strings, none
	// of them empty. Reads return them sorted, each once.
	Keys []string
	// Version is 1 when the item is new and one more with every PutItem.
	Version int64
	// Expires is when the item may vanish by itself, or zero; in whole
	// milliseconds, as all times. It does not vanish on the dot: whoever reads it
	// compares. An item that expires is no part of a dump.
	Expires time.Time
	Data    []byte // JSON on one line
}

// Prepare is for backends, before they store an item: it brings Keys into the
// form in which they are read, and refuses what could not be found or dumped.
func (i *Item) Prepare() error {
	i.Keys = slices.Compact(slices.Sorted(slices.Values(i.Keys)))
	switch {
	case i.Kind == "" || i.ID == "" || slices.Contains(i.Keys, ""):
		return errors.New("an item needs a kind and an id, and has no empty key")
	case !jsontext.Value(i.Data).IsValid() || bytes.ContainsRune(i.Data, '\n'):
		return errors.New("the data of an item has to be JSON on one line")
	}
	return nil
}

// PrepareNotes is Prepare for the items of NoteItems, which become new ones.
func PrepareNotes(notes []*Item) error {
	for _, i := range notes {
		if i.Expires.IsZero() {
			return errors.New("a note has to expire")
		}
		if err := i.Prepare(); err != nil {
			return err
		}
		i.Version = 1
	}
	return nil
}

// ByID is for backends: it returns items, all of one kind, by their ids.
func ByID(list []*Item) map[string]*Item {
	by := make(map[string]*Item, len(list))
	for _, i := range list {
		by[i.ID] = i
	}
	return by
}

// Items reads items.
type Items interface {
	// Item returns an item, or ErrNotFound.
	Item(ctx context.Context, tenant TenantID, kind, id string) (*Item, error)
	// Items returns the items of a kind that have a key, in the order of their
	// ids; all of the kind if key is empty.
	Items(ctx context.Context, tenant TenantID, kind, key string) ([]*Item, error)
	// ItemsByID returns those of the items of a kind with these ids that there are,
	// by id. It is one question to the store: ask for a few hundred at a time.
	ItemsByID(ctx context.Context, tenant TenantID, kind string, ids ...string) (map[string]*Item, error)
	// ExtendItem moves the time at which an item expires to a later one. It does
	// nothing to one that never expires or is not there, and brings nothing
	// forward. It is no change in the sense of the audit trail, and leaves the
	// version alone.
	ExtendItem(ctx context.Context, tenant TenantID, kind, id string, expires time.Time) error
	// NoteItems stores new items, each of which expires; one that there is stays as it
	// is. Those before an error may be there. It is no change in the sense of the audit
	// trail, and so for what is no part of the directory: what was asked of it.
	NoteItems(ctx context.Context, tenant TenantID, notes []*Item) error
	// ForgetItems removes those of the items of a kind with these ids that there are and
	// that expire, as if they had. It is one question to the store: name a few hundred at
	// a time. It is no change in the sense of the audit trail.
	ForgetItems(ctx context.Context, tenant TenantID, kind string, ids ...string) error
	// SweepItems removes items of all tenants that expired before a time, and
	// returns how many, those that were removed before an error too. It is no
	// change in the sense of the audit trail.
	SweepItems(ctx context.Context, before time.Time) (int, error)
}

// ItemWriter is the part of Tx that is about items.
type ItemWriter interface {
	// Item is Items.Item inside the transaction. Whoever relies on the answer
	// writes the item too, or holds a Guard: another write may change it at the
	// same time.
	Item(kind, id string) (*Item, error)
	// Items is Items.Items inside the transaction; the same holds for it.
	Items(kind, key string) ([]*Item, error)
	// PutItem stores next, with the version after that of prev, in the place of
	// prev, which is another value with the same kind and id, or as a new item if
	// prev is nil. It fails with ErrConflict unless what is stored has prev's version, or there
	// is none; not if prev is what Item returned in the same write. next.Version
	// is set, and next.Keys are as reads return them. A version says nothing
	// beyond DeleteItem: what is made anew begins at 1 again.
	PutItem(prev, next *Item) error
	// DeleteItem removes an item. It fails with ErrConflict unless what is stored
	// has prev's version.
	DeleteItem(prev *Item) error
	// Guard makes writes of the tenant that call it with the same name come one
	// after the other: the later one sees all that the earlier one did, even in
	// what it read before.
	Guard(name string) error
}
