package scim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// A User from a store in a temporary folder. internal/server puts a mux, a gate
// and much else before the routes; here they are called as they stand.
func ExampleNewHandler() {
	dir, err := os.MkdirTemp("", "roster")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	store, err := sqlite.Open(context.Background(), dir, sqlite.Options{})
	if err != nil {
		panic(err)
	}
	defer store.Close()
	set, err := schemas.Load()
	if err != nil {
		panic(err)
	}
	provider := &scim.Provider{Store: store, Schemas: set, Hasher: auth.NewHasher(), Now: time.Now}
	handler := scim.NewHandler(provider, func(*http.Request) string { return "https://roster.example/scim/v2" })

	by := auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
	for _, route := range handler.Routes() {
		if route.Method == "POST" && route.Path == "/Users" {
			body := strings.NewReader(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ana"}`)
			w := httptest.NewRecorder()
			if err := route.Serve(w, httptest.NewRequest("POST", "/Users", body), by); err != nil {
				panic(err)
			}
			var user struct {
				UserName string
				Active   bool
			}
			if err := json.Unmarshal(w.Body.Bytes(), &user); err != nil {
				panic(err)
			}
			fmt.Println(w.Code, user.UserName, user.Active)
		}
	}
	// Output: 201 ana true
}
