package scim

import (
	"testing"

	"github.com/roster-id/roster/auth"
)

// TestBound: a cursor is good for nothing that differs in any way from what it was made
// for (S36).
func TestBound(t *testing.T) {
	by := auth.Principal{Kind: auth.Client, Tenant: "acme", ID: "hr", Token: "t1"}
	person := auth.Principal{Kind: auth.User, Tenant: "acme", ID: "hr", Session: "s1"}
	q := SearchRequest{Filter: "title pr", SortBy: "userName", SortOrder: "ascending"}
	seen := map[string]string{}
	add := func(name string, by auth.Principal, endpoint string, q SearchRequest) {
		t.Helper()
		b := string(q.bound(by, endpoint))
		if other, twice := seen[b]; twice {
			t.Errorf("%s and %s are bound alike", name, other)
		}
		seen[b] = name
	}
	add("one", by, "/Users", q)
	for name, change := range map[string]func(*auth.Principal){
		"another tenant": func(p *auth.Principal) { p.Tenant = "other" },
		"another client": func(p *auth.Principal) { p.ID = "crm" },
		"another token":  func(p *auth.Principal) { p.Token = "t2" },
	} {
		other := by
		change(&other)
		add(name, other, "/Users", q)
	}
	add("a person", person, "/Users", q)
	other := person
	other.Session = "s2"
	add("another session", other, "/Users", q)
	add("another endpoint", by, "/Groups", q)
	for name, change := range map[string]func(*SearchRequest){
		"another filter": func(q *SearchRequest) { q.Filter = "title eq \"x\"" },
		"no filter":      func(q *SearchRequest) { q.Filter = "" },
		"another order":  func(q *SearchRequest) { q.SortBy = "title" },
		"turned round":   func(q *SearchRequest) { q.SortOrder = "descending" },
		"other borders":  func(q *SearchRequest) { q.Filter, q.SortBy = "title pruserName", "" },
	} {
		other := q
		change(&other)
		add(name, by, "/Users", other)
	}
}
