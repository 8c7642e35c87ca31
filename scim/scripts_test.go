package scim_test

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestScripts plays every script in testdata. Each has a server of its own. When all
// were played, docs/conformance.md has to be what they show.
func TestScripts(t *testing.T) {
	played := played{passed: map[string]bool{}}
	t.Cleanup(func() { played.check(t) })
	scimtest.Run(t, os.DirFS("testdata"), func(t *testing.T) *scimtest.Runner {
		t.Parallel()
		played.watch(t)
		r := testserver.Start(t, testserver.Options{}).Runner(t)
		r.Check = wellFormed
		return r
	})
}

// TestScriptsOnMongoDB plays them on the other store, whose answers are to be the
// same to the byte.
func TestScriptsOnMongoDB(t *testing.T) {
	database := mongotest.Start(t)
	scimtest.Run(t, os.DirFS("testdata"), func(t *testing.T) *scimtest.Runner {
		t.Parallel()
		r := testserver.Start(t, testserver.Options{Open: func(t testing.TB) storage.Store {
			s, err := mongo.Open(t.Context(), database.URI(database.NewDatabase(t)), mongo.Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}}).Runner(t)
		r.Check = wellFormed
		return r
	})
}

// wellFormed is what every response has to be, whatever the script is about.
func wellFormed(x *scimtest.Exchange) error {
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := x.Header.Get(name); got != want {
			return fmt.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if x.Header.Get("X-Request-Id") == "" {
		return fmt.Errorf("there is no X-Request-Id")
	}
	if len(x.Body) == 0 {
		return nil
	}
	body, ok := x.JSON.(map[string]any)
	if !ok {
		return fmt.Errorf("the body is no JSON object")
	}
	if ct := x.Header.Get("Content-Type"); ct != "application/scim+json" && ct != "application/json" {
		return fmt.Errorf("Content-Type: %q", ct)
	}
	if err := noneEmpty("$", body); err != nil {
		return err
	}
	uri := fmt.Sprint(body["schemas"].([]any)[0])
	switch {
	case x.Status >= 400:
		return wellFormedError(x.Status, uri, body)
	case uri == scim.ListResponseURI:
		return wellFormedList(body, strings.Contains(x.URL, "cursor") || x.Method == "POST")
	}
	meta, _ := body["meta"].(map[string]any)
	if meta == nil {
		return nil // not asked for
	}
	if l, ok := meta["location"]; ok && l != x.Header.Get("Location") {
		return fmt.Errorf("meta.location is %s, Location %s", l, x.Header.Get("Location"))
	}
	if v, ok := meta["version"]; ok && v != x.Header.Get("ETag") {
		return fmt.Errorf("meta.version is %s, ETag %s", v, x.Header.Get("ETag"))
	}
	return nil
}

// wellFormedError checks RFC 7644 §3.12.
func wellFormedError(status int, uri string, body map[string]any) error {
	detail, _ := body["detail"].(string)
	switch {
	case uri != scim.ErrorURI:
		return fmt.Errorf("an error with the schema %s", uri)
	case body["status"] != fmt.Sprint(status):
		return fmt.Errorf("an error of status %d says %#v", status, body["status"])
	case detail == "":
		return fmt.Errorf("an error without detail")
	}
	return nil
}

// wellFormedList checks RFC 7644 §3.4.2, or RFC 9865 where a list may be by cursor.
func wellFormedList(body map[string]any, byCursor bool) error {
	_, indexed := body["startIndex"]
	_, more := body["nextCursor"]
	switch {
	case indexed && more:
		return fmt.Errorf("a list with startIndex and nextCursor")
	case byCursor && !indexed:
		body = maps.Clone(body)
		body["startIndex"] = body["totalResults"]
	}
	for _, name := range []string{"totalResults", "startIndex", "itemsPerPage"} {
		if n, ok := body[name].(interface{ Int64() (int64, error) }); !ok {
			return fmt.Errorf("a list without %s", name)
		} else if _, err := n.Int64(); err != nil {
			return fmt.Errorf("%s is no integer: %v", name, n)
		}
	}
	list, ok := body["Resources"].([]any)
	if !ok {
		return fmt.Errorf("Resources is no list")
	}
	if got := fmt.Sprint(body["itemsPerPage"]); got != fmt.Sprint(len(list)) {
		return fmt.Errorf("itemsPerPage is %s of %d", got, len(list))
	}
	return nil
}

// noneEmpty looks for what has no place in any response: null, an object without
// members, and a password. (A list may be empty: an extension may be required of
// no type.)
func noneEmpty(at string, v any) error {
	switch v := v.(type) {
	case nil:
		return fmt.Errorf("%s is null", at)
	case map[string]any:
		if len(v) == 0 {
			return fmt.Errorf("%s is an empty object", at)
		}
		for name, e := range v {
			if strings.EqualFold(name, "password") {
				return fmt.Errorf("%s has a password", at)
			}
			if err := noneEmpty(at+"."+name, e); err != nil {
				return err
			}
		}
	case []any:
		for _, e := range v {
			if err := noneEmpty(at+"[]", e); err != nil {
				return err
			}
		}
	}
	return nil
}
