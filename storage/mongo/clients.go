package mongo

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/roster-id/roster/storage"
)

func clientFrom(raw bson.Raw) *storage.Client {
	return &storage.Client{
		ID: text(raw, fResource), Tenant: storage.TenantID(text(raw, fTenant)), Name: text(raw, fName), Scopes: texts(raw, fScopes),
		Profile: text(raw, fProfile), References: text(raw, fRefers), Networks: texts(raw, fNetworks), Created: moment(raw, fBegan), Revoked: moment(raw, fRevoked),
		Rate: int(number(raw, fRate)), Burst: int(number(raw, fBurst)),
	}
}

func tokenFrom(raw bson.Raw) *storage.Token {
	return &storage.Token{
		ID: text(raw, fID), Client: text(raw, fClient), Hash: data(raw, fHash),
		Created: moment(raw, fBegan), Expires: moment(raw, fExpires), LastUsed: moment(raw, fUsed),
	}
}

// Token implements storage.Clients. A client is never deleted, so the two reads
// need not see the same state: the second one sees a newer one.
func (s *Store) Token(ctx context.Context, id string) (*storage.Token, *storage.Client, error) {
	raw, err := s.db.Collection(tokens).FindOne(ctx, d(fID, id)).Raw()
	if err != nil {
		return nil, nil, found(err)
	}
	k := tokenFrom(raw)
	var c *storage.Client
	loading, tenant := false, text(raw, fTenant)
	err = s.each(ctx, clients, byIDs(tenant, bson.A{key(tenant, k.Client), markID(tenant)}), func(raw bson.Raw) error {
		if isMark(raw) {
			loading = true
		} else {
			c = clientFrom(raw)
		}
		return nil
	}, look())
	if err == nil && (loading || c == nil) {
		err = storage.ErrNotFound
	}
	if err != nil {
		return nil, nil, explain(err)
	}
	return k, c, nil
}

// found is explain for reads of one document.
func found(err error) error {
	if errors.Is(err, mongo.ErrNoDocuments) {
		return storage.ErrNotFound
	}
	return explain(err)
}

// ListClients implements storage.Clients.
func (s *Store) ListClients(ctx context.Context, tenant storage.TenantID) ([]*storage.Client, error) {
	var list []*storage.Client
	err := s.snapshot(ctx, func(ctx context.Context) error {
		list = nil
		byID := map[string]*storage.Client{}
		err := s.each(ctx, clients, d(fTenant, string(tenant)), func(raw bson.Raw) error {
			if isMark(raw) {
				return nil
			}
			c := clientFrom(raw)
			list, byID[c.ID] = append(list, c), c
			return nil
		}, look().sort(d(fName, 1, fID, 1)))
		if err != nil {
			return err
		}
		return s.each(ctx, tokens, d(fTenant, string(tenant)), func(raw bson.Raw) error {
			k := tokenFrom(raw)
			if c := byID[k.Client]; c != nil {
				c.Tokens = append(c.Tokens, k)
			}
			return nil
		}, look().sort(d(fBegan, 1, fID, 1)))
	})
	return list, explain(err)
}

// TokenUsed implements storage.Clients.
func (s *Store) TokenUsed(ctx context.Context, tenant storage.TenantID, id string, at time.Time) error {
	_, err := s.db.Collection(tokens).UpdateOne(ctx, d(fID, id, fTenant, string(tenant)), d("$max", d(fUsed, at.UnixMilli())))
	return explain(err)
}

// Clients are few and change rarely, so what concerns them is carried out at
// once.

func (t *tx) CreateClient(c *storage.Client) error {
	if err := t.settled(); err != nil {
		return err
	}
	if err := t.takeName(c.ID, c.Name); err != nil {
		return err
	}
	t.changed = true
	return t.do(func(ctx context.Context) error {
		_, err := t.store.db.Collection(clients).InsertOne(ctx, clientDocument(t.tenant, c))
		return err
	})
}

// takeName makes a name a client's own.
func (t *tx) takeName(client, called string) error {
	name := clientName(t.tenant, called)
	if err := t.absent(keys, byID(t.tenant, name), "name"); err != nil {
		return err
	}
	return t.insert(keys, append(byID(t.tenant, name), bson.E{Key: fOwner, Value: client}))
}

func (t *tx) UpdateClient(prev, next *storage.Client) error {
	if err := t.settled(); err != nil {
		return err
	}
	// Looked at first, for without transactions a name that was taken stays so.
	filter := append(byID(t.tenant, key(t.tenant, prev.ID)), d(fRevoked, int64(0), fName, prev.Name, fScopes, notNull(prev.Scopes),
		fProfile, prev.Profile, fRefers, perhaps(prev.References), fNetworks, notNull(prev.Networks),
		fRate, amount(prev.Rate), fBurst, amount(prev.Burst))...)
	there, err := t.exists(clients, filter)
	switch {
	case err != nil:
		return err
	case !there:
		return storage.ErrConflict
	}
	renamed := next.Name != prev.Name
	if renamed {
		if err := t.takeName(prev.ID, next.Name); err != nil {
			return err
		}
	}
	n, err := t.update(clients, filter, d("$set", d(fName, next.Name, fScopes, notNull(next.Scopes), fProfile, next.Profile, fRefers, next.References, fNetworks, notNull(next.Networks),
		fRate, next.Rate, fBurst, next.Burst)))
	switch {
	case err != nil:
		return err
	case n == 0:
		return storage.ErrConflict
	case renamed:
		t.add(ofKeys, disown(t.tenant, clientName(t.tenant, prev.Name), prev.ID))
	}
	return nil
}

// perhaps selects a text, or documents without it if it is empty.
func perhaps(s string) any {
	if s == "" {
		return d("$in", bson.A{"", nil})
	}
	return s
}

// amount is perhaps for a number.
func amount(n int) any {
	if n == 0 {
		return d("$in", bson.A{0, nil})
	}
	return n
}

func clientDocument(tenant string, c *storage.Client) bson.D {
	return d(fID, key(tenant, c.ID), fTenant, tenant, fResource, c.ID, fName, c.Name, fScopes, notNull(c.Scopes), fProfile, c.Profile, fRefers, c.References,
		fNetworks, notNull(c.Networks), fRate, c.Rate, fBurst, c.Burst, fBegan, millis(c.Created), fRevoked, millis(c.Revoked))
}

func tokenDocument(tenant string, k *storage.Token) bson.D {
	return d(fID, k.ID, fTenant, tenant, fClient, k.Client, fHash, bson.Binary{Data: k.Hash},
		fBegan, millis(k.Created), fExpires, millis(k.Expires), fUsed, millis(k.LastUsed))
}

// taken is the error of an insert whose key was free a moment ago: the write
// begins again and finds it taken.
func taken(err error) error {
	if mongo.IsDuplicateKeyError(err) {
		return errAgain
	}
	return err
}

// notNull keeps an empty list from being stored as null.
func notNull(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// update runs one update and returns how many documents it found.
func (t *tx) update(collection string, filter, update bson.D) (n int64, err error) {
	err = t.do(func(ctx context.Context) error {
		r, err := t.store.db.Collection(collection).UpdateMany(ctx, filter, update)
		if err == nil {
			n = r.MatchedCount
		}
		return err
	})
	t.changed = t.changed || n > 0
	return n, err
}

func (t *tx) RevokeClient(id string, at time.Time) error {
	if err := t.settled(); err != nil {
		return err
	}
	var raw bson.Raw
	err := t.do(func(ctx context.Context) (err error) {
		raw, err = t.store.db.Collection(clients).FindOneAndUpdate(ctx, append(byID(t.tenant, key(t.tenant, id)), bson.E{Key: fRevoked, Value: int64(0)}), d("$set", d(fRevoked, at.UnixMilli()))).Raw()
		return err
	})
	if errors.Is(err, mongo.ErrNoDocuments) {
		return storage.ErrNotFound
	}
	if err != nil {
		return err
	}
	t.changed = true
	t.add(ofKeys, disown(t.tenant, clientName(t.tenant, text(raw, fName)), id))
	if err := t.flush(); err != nil {
		return err
	}
	_, err = t.update(tokens, d(fTenant, t.tenant, fClient, id), d("$min", d(fExpires, at.UnixMilli())))
	return err
}

// Tokens implements storage.Tx. Whoever asks writes to the client too, so that
// two who do so at once meet.
func (t *tx) Tokens(client string) (list []*storage.Token, err error) {
	err = t.meeting(key("!client", client), func(ctx context.Context) error {
		_, err := t.store.db.Collection(clients).UpdateOne(ctx, byID(t.tenant, key(t.tenant, client)), d("$inc", d(fMeeting, int64(1))))
		if err != nil {
			return err
		}
		return t.store.each(ctx, tokens, d(fTenant, t.tenant, fClient, client), func(raw bson.Raw) error {
			list = append(list, tokenFrom(raw))
			return nil
		}, look().sort(d(fBegan, 1, fID, 1)))
	})
	return list, err
}

func (t *tx) CreateToken(k *storage.Token) error {
	if err := t.usable(); err != nil {
		return err
	}
	t.changed = true
	return t.do(func(ctx context.Context) error {
		_, err := t.store.db.Collection(tokens).InsertOne(ctx, tokenDocument(t.tenant, k))
		return err
	})
}

func (t *tx) ExpireToken(id string, at time.Time) error {
	if err := t.usable(); err != nil {
		return err
	}
	n, err := t.update(tokens, d(fID, id, fTenant, t.tenant), d("$min", d(fExpires, at.UnixMilli())))
	if err == nil && n == 0 {
		err = storage.ErrNotFound
	}
	return err
}
