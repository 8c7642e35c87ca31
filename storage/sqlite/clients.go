package sqlite

import (
	"context"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

const tokenColumns = `k.id, k.client, k.hash, k.created, k.expires, k.last_used`

func scanToken(st *sqlite.Stmt) *storage.Token {
	return &storage.Token{
		ID: st.ColumnText(0), Client: st.ColumnText(1), Hash: columnBytes(st, 2),
		Created: columnTime(st, 3), Expires: columnTime(st, 4), LastUsed: columnTime(st, 5),
	}
}

const clientColumns = `c.tenant, c.id, c.name, c.scopes, c.profile, c.networks, c.created, c.revoked, c.refers, c.rate, c.burst`

func scanClient(st *sqlite.Stmt, from int) *storage.Client {
	return &storage.Client{
		Tenant: storage.TenantID(st.ColumnText(from)), ID: st.ColumnText(from + 1), Name: st.ColumnText(from + 2),
		Scopes: strings.Fields(st.ColumnText(from + 3)), Profile: st.ColumnText(from + 4), Networks: strings.Fields(st.ColumnText(from + 5)),
		Created: columnTime(st, from+6), Revoked: columnTime(st, from+7), References: st.ColumnText(from + 8),
		Rate: st.ColumnInt(from + 9), Burst: st.ColumnInt(from + 10),
	}
}

// Token implements storage.Clients.
func (s *Store) Token(ctx context.Context, id string) (k *storage.Token, cl *storage.Client, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT `+tokenColumns+`, `+clientColumns+` FROM token k
			JOIN client c ON c.tenant = k.tenant AND c.id = k.client
			WHERE k.id = ? AND NOT EXISTS (SELECT 1 FROM load l WHERE l.tenant = k.tenant)`, func(st *sqlite.Stmt) error {
			k, cl = scanToken(st), scanClient(st, 6)
			return nil
		}, id)
	})
	if err == nil && k == nil {
		err = storage.ErrNotFound
	}
	return k, cl, err
}

// ListClients implements storage.Clients.
func (s *Store) ListClients(ctx context.Context, tenant storage.TenantID) ([]*storage.Client, error) {
	var list []*storage.Client
	err := s.snapshot(ctx, func(c *sqlite.Conn) error {
		byID := map[string]*storage.Client{}
		err := query(c, `SELECT `+clientColumns+` FROM client c WHERE c.tenant = ? ORDER BY c.name, c.id`, func(st *sqlite.Stmt) error {
			cl := scanClient(st, 0)
			list, byID[cl.ID] = append(list, cl), cl
			return nil
		}, string(tenant))
		if err != nil {
			return err
		}
		return query(c, `SELECT `+tokenColumns+` FROM token k WHERE k.tenant = ? ORDER BY k.created, k.id`, func(st *sqlite.Stmt) error {
			k := scanToken(st)
			if cl := byID[k.Client]; cl != nil {
				cl.Tokens = append(cl.Tokens, k)
			}
			return nil
		}, string(tenant))
	})
	return list, err
}

// TokenUsed implements storage.Clients.
func (s *Store) TokenUsed(ctx context.Context, tenant storage.TenantID, id string, at time.Time) error {
	return s.Write(ctx, tenant, func(t storage.Tx) error {
		return t.(*tx).exec(`UPDATE token SET last_used = max(coalesce(last_used, 0), ?) WHERE tenant = ? AND id = ?`, at, string(tenant), id)
	})
}

func (t *tx) CreateClient(c *storage.Client) error {
	if err := t.usable(); err != nil {
		return err
	}
	err := t.change(`INSERT INTO client (tenant, id, name, scopes, profile, refers, networks, created, rate, burst) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		t.tenant, c.ID, c.Name, strings.Join(c.Scopes, " "), c.Profile, c.References, strings.Join(c.Networks, " "), c.Created, c.Rate, c.Burst)
	if sqlite.ErrCode(err) == sqlite.ResultConstraintUnique {
		return &storage.UniqueError{Attr: "name"}
	}
	return err
}

func (t *tx) UpdateClient(prev, next *storage.Client) error {
	if err := t.usable(); err != nil {
		return err
	}
	err := t.change(`UPDATE client SET name = ?, scopes = ?, profile = ?, refers = ?, networks = ?, rate = ?, burst = ?
		WHERE tenant = ? AND id = ? AND revoked IS NULL AND name = ? AND scopes = ? AND profile = ? AND refers = ? AND networks = ? AND rate = ? AND burst = ?`,
		next.Name, strings.Join(next.Scopes, " "), next.Profile, next.References, strings.Join(next.Networks, " "), next.Rate, next.Burst,
		t.tenant, prev.ID, prev.Name, strings.Join(prev.Scopes, " "), prev.Profile, prev.References, strings.Join(prev.Networks, " "), prev.Rate, prev.Burst)
	switch {
	case sqlite.ErrCode(err) == sqlite.ResultConstraintUnique:
		return &storage.UniqueError{Attr: "name"}
	case err == nil && t.conn().Changes() == 0:
		return storage.ErrConflict
	}
	return err
}

func (t *tx) RevokeClient(id string, at time.Time) error {
	if err := t.usable(); err != nil {
		return err
	}
	if err := t.change(`UPDATE client SET revoked = ? WHERE tenant = ? AND id = ? AND revoked IS NULL`, at, t.tenant, id); err != nil {
		return err
	}
	if t.conn().Changes() == 0 {
		return storage.ErrNotFound
	}
	return t.exec(`UPDATE token SET expires = min(expires, ?) WHERE tenant = ? AND client = ?`, at, t.tenant, id)
}

// Tokens implements storage.Tx. There is one writer at a time, here and in every
// other process, so nothing that it returns changes before the write is over.
func (t *tx) Tokens(client string) (list []*storage.Token, err error) {
	err = query(t.conn(), `SELECT `+tokenColumns+` FROM token k WHERE k.tenant = ? AND k.client = ? ORDER BY k.created, k.id`,
		func(st *sqlite.Stmt) error {
			list = append(list, scanToken(st))
			return nil
		}, t.tenant, client)
	return list, err
}

func (t *tx) CreateToken(k *storage.Token) error {
	if err := t.usable(); err != nil {
		return err
	}
	return t.change(`INSERT INTO token (id, tenant, client, hash, created, expires) VALUES (?, ?, ?, ?, ?, ?)`,
		k.ID, t.tenant, k.Client, k.Hash, k.Created, k.Expires)
}

func (t *tx) ExpireToken(id string, at time.Time) error {
	if err := t.usable(); err != nil {
		return err
	}
	if err := t.change(`UPDATE token SET expires = min(expires, ?) WHERE tenant = ? AND id = ?`, at, t.tenant, id); err != nil {
		return err
	}
	if t.conn().Changes() == 0 {
		return storage.ErrNotFound
	}
	return nil
}
