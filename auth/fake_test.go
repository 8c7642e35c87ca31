package auth

import (
	"context"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

// clients is a storage.Clients in memory that counts what it is asked.
type clients struct {
	mu      sync.Mutex
	tokens  map[string]*storage.Token
	clients map[string]*storage.Client
	lookups int
	used    map[string][]time.Time
	err     error
	// answered, if set, is called between finding an answer and giving it.
	answered func()
}

func newClients() *clients {
	return &clients{tokens: map[string]*storage.Token{}, clients: map[string]*storage.Client{}, used: map[string][]time.Time{}}
}

func (c *clients) Token(_ context.Context, id string) (*storage.Token, *storage.Client, error) {
	c.mu.Lock()
	c.lookups++
	err, token := c.err, c.tokens[id]
	var t storage.Token
	var cl storage.Client
	if token != nil {
		t, cl = *token, *c.clients[token.Client]
	}
	c.mu.Unlock()
	if c.answered != nil {
		c.answered()
	}
	switch {
	case err != nil:
		return nil, nil, err
	case token == nil:
		return nil, nil, storage.ErrNotFound
	}
	return &t, &cl, nil
}

func (c *clients) ListClients(context.Context, storage.TenantID) ([]*storage.Client, error) {
	return nil, nil
}

func (c *clients) TokenUsed(_ context.Context, _ storage.TenantID, id string, at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.used[id] = append(c.used[id], at)
	return nil
}

// change runs fn while nobody reads.
func (c *clients) change(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

func (c *clients) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lookups
}

func (c *clients) uses(id string) []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used[id]
}

// issue gives a client a token. The client is added if need be.
func (c *clients) issue(t testing.TB, client storage.Client, created time.Time, lifetime time.Duration) (string, *storage.Token) {
	t.Helper()
	text, token, err := NewToken(rand.Reader, client.ID, created, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	c.change(func() {
		c.tokens[token.ID] = token
		if c.clients[client.ID] == nil {
			c.clients[client.ID] = &client
		}
	})
	return text.Reveal(), token
}

func okta() storage.Client {
	return storage.Client{ID: "c1", Tenant: "default", Name: "okta", Scopes: []string{"users", "groups:read"}, Profile: "okta"}
}
