package scim

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// CursorLifetime is how long a cursor is good (RFC 9865 §4: cursorTimeout).
const CursorLifetime = 10 * time.Minute

// The scimTypes of RFC 9865 §2.1.
const (
	InvalidCursor ErrorType = "invalidCursor"
	ExpiredCursor ErrorType = "expiredCursor"
	InvalidCount  ErrorType = "invalidCount"
)

var (
	errInvalidCursor = &Error{Status: 400, Type: InvalidCursor, Detail: "cursor: it is not one of this client for this query: begin again without a value"}
	errExpiredCursor = &Error{Status: 400, Type: ExpiredCursor, Detail: fmt.Sprintf("cursor: it is older than %s: begin again without a value", CursorLifetime)}
	errInvalidCount  = &Error{Status: 400, Type: InvalidCount, Detail: "count: it has to be the same on every page of a walk, and an integer"}
	errTwoPlaces     = &Error{Status: 400, Type: InvalidCursor, Detail: "a page begins at a cursor or at startIndex, not at both"}
)

// place is where a walk stands: what is inside a cursor.
type place struct {
	Type    string  `json:"t,omitzero"` // in a walk over several types, the one that it has come to
	Text    string  `json:"s,omitzero"` // the value of a storage.Mark, by its Go type
	Int     int64   `json:"i,omitzero"`
	Float   float64 `json:"f,omitzero"`
	Bool    bool    `json:"b,omitzero"`
	Kind    string  `json:"k,omitzero"`
	ID      string  `json:"id,omitzero"`
	Count   int     `json:"n"`
	Total   int     `json:"all"` // as it was counted for the first page
	Expires int64   `json:"x"`   // Unix seconds
}

// at puts a mark into a place.
func (p *place) at(m *storage.Mark) {
	p.ID = m.ID
	switch v := m.Value.(type) {
	case string:
		p.Kind, p.Text = "s", v
	case int64:
		p.Kind, p.Int = "i", v
	case float64:
		p.Kind, p.Float = "f", v
	case bool:
		p.Kind, p.Bool = "b", v
	}
}

// mark takes it out again; nil if the walk stands before the first resource of a type.
func (p *place) mark() *storage.Mark {
	if p.ID == "" {
		return nil
	}
	m := &storage.Mark{ID: p.ID}
	switch p.Kind {
	case "s":
		m.Value = p.Text
	case "i":
		m.Value = p.Int
	case "f":
		m.Value = p.Float
	case "b":
		m.Value = p.Bool
	}
	return m
}

// cursors seals the places of walks, so that nobody makes one up, and opens those that
// any process on the same store has sealed.
type cursors struct {
	store storage.Store
	now   func() time.Time

	mu   sync.Mutex
	seal cipher.AEAD
}

// cursorKeyKind is the kind of the one item of a store that holds the key of cursors.
// It protects nothing that is in the store, from which it may be read.
const cursorKeyKind = "cursor-key"

type cursorKey struct {
	Key []byte `json:"key"`
}

// sealer returns the AEAD of cursors; whoever needs it first in a store makes the key.
func (c *cursors) sealer(ctx context.Context) (cipher.AEAD, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seal != nil {
		return c.seal, nil
	}
	item, err := c.store.Item(ctx, storage.DefaultTenant, cursorKeyKind, cursorKeyKind)
	if errors.Is(err, storage.ErrNotFound) {
		if err = c.makeKey(ctx); err == nil || errors.Is(err, storage.ErrConflict) {
			item, err = c.store.Item(ctx, storage.DefaultTenant, cursorKeyKind, cursorKeyKind)
		}
	}
	if err != nil {
		return nil, err
	}
	var k cursorKey
	if err := json.Unmarshal(item.Data, &k); err != nil {
		return nil, errors.New("the stored key of cursors is damaged")
	}
	block, err := aes.NewCipher(k.Key)
	if err != nil {
		return nil, errors.New("the stored key of cursors is damaged")
	}
	c.seal, err = cipher.NewGCMWithRandomNonce(block)
	return c.seal, err
}

func (c *cursors) makeKey(ctx context.Context) error {
	k := cursorKey{Key: make([]byte, 32)}
	if _, err := rand.Read(k.Key); err != nil {
		return err
	}
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	by := auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
	return c.store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := tx.PutItem(nil, &storage.Item{Kind: cursorKeyKind, ID: cursorKeyKind, Data: data}); err != nil {
			return err
		}
		return tx.Audit(by.Entry(ctx, storage.Milli(c.now()), "cursor.key", "Tenant", string(by.Tenant)))
	})
}

// close makes the cursor of a place. bound is what it is good for.
func (c *cursors) close(ctx context.Context, p place, bound []byte) (string, error) {
	p.Expires = c.now().Add(CursorLifetime).Unix()
	return c.sealed(ctx, p, bound)
}

func (c *cursors) sealed(ctx context.Context, p place, bound []byte) (string, error) {
	seal, err := c.sealer(ctx)
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(seal.Seal(nil, nil, plain, bound)), nil //nolint:gosec // the AEAD makes the nonce itself
}

// open reads a cursor that was made for the same client, query and count.
func (c *cursors) open(ctx context.Context, text string, count int, bound []byte) (*place, error) {
	p, err := c.unsealed(ctx, text, bound)
	if err == nil && p.Count != count {
		return nil, errInvalidCount
	}
	return p, err
}

func (c *cursors) unsealed(ctx context.Context, text string, bound []byte) (*place, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || base64.RawURLEncoding.EncodeToString(sealed) != text { // not as it was given out
		return nil, errInvalidCursor
	}
	seal, err := c.sealer(ctx)
	if err != nil {
		return nil, err
	}
	plain, err := seal.Open(nil, nil, sealed, bound)
	if err != nil {
		return nil, errInvalidCursor
	}
	var p place
	switch err := json.Unmarshal(plain, &p); {
	case err != nil:
		return nil, errInvalidCursor
	case c.now().Unix() > p.Expires:
		return nil, errExpiredCursor
	}
	return &p, nil
}

// bound is what a cursor is tied to: the tenant, who asks with which token or session,
// where, and for what.
func (s SearchRequest) bound(by auth.Principal, endpoint string) []byte {
	return []byte(strings.Join([]string{string(by.Tenant), by.Actor(), by.Token, by.Session, endpoint, s.Filter, s.SortBy, strings.ToLower(s.SortOrder)}, "\x00"))
}
