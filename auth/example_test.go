package auth_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// oneClient is a store with one client and one token in it.
type oneClient struct {
	storage.Clients
	token  *storage.Token
	client *storage.Client
}

func (s oneClient) Token(_ context.Context, id string) (*storage.Token, *storage.Client, error) {
	if id != s.token.ID {
		return nil, nil, storage.ErrNotFound
	}
	return s.token, s.client, nil
}

// A client gets a token, sends it, and is recognised.
func ExampleVerifier() {
	client := &storage.Client{ID: "c1", Tenant: storage.DefaultTenant, Name: "okta", Scopes: []string{"users", "groups:read"}}
	text, token, err := auth.NewToken(rand.Reader, client.ID, time.Now(), auth.DefaultTokenLifetime)
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier := auth.NewVerifier(oneClient{token: token, client: client}, time.Now)

	r := httptest.NewRequest("GET", "/scim/v2/Users", nil)
	r.Header.Set("Authorization", "Bearer "+text.Reveal())
	by, err := verifier.Verify(r.Context(), r, netip.MustParseAddr("192.0.2.1"))
	fmt.Println(by.Actor(), by.Scopes, err)
	fmt.Println(by.May(auth.Write, "User"), by.May(auth.Write, "Group"))

	r.Header.Set("Authorization", "Bearer "+token.ID)
	_, err = verifier.Verify(r.Context(), r, netip.MustParseAddr("192.0.2.1"))
	fmt.Println(err)
	// Output:
	// client:c1 groups:read,users <nil>
	// true false
	// the credentials were not accepted
}
