package api

import (
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
)

// TestQueryInOrder: of several parameters that are wrong the same one is named, always.
func TestQueryInOrder(t *testing.T) {
	t.Parallel()
	for range 20 {
		_, err := auditQuery(httptest.NewRequest("GET", "/audit?until=tomorrow&since=yesterday&limit=0", nil), auditParameters)
		if p, ok := errors.AsType[*Problem](err); !ok || !strings.HasPrefix(p.Detail, "since: ") {
			t.Fatalf("auditQuery = %#v", err)
		}
	}
}

// TestAfterOfNoPage: what no page has as its next is no place in the audit trail.
func TestAfterOfNoPage(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"-1", "1.5", "x", "9223372036854775808"} {
		_, err := auditQuery(httptest.NewRequest("GET", "/audit?after="+after, nil), auditParameters)
		if p, ok := errors.AsType[*Problem](err); !ok || !strings.HasPrefix(p.Detail, "after: ") {
			t.Errorf("after=%s: %v", after, err)
		}
	}
}

// TestUnknownParameters: no route passes over a parameter that it does not have. Who asks for
// one session to be ended, in the query, must not end all.
func TestUnknownParameters(t *testing.T) {
	t.Parallel()
	a := &API{}
	for i, r := range slices.Concat(a.AuthRoutes(), a.AdminRoutes()) {
		if err := unknownParameter(r); err == nil {
			t.Errorf("route %d, %s %s, takes any parameter", i, r.Method, r.Path)
		}
	}
}

// unknownParameter returns the problem of a route with a parameter that no route has, or nil
// if it gets as far as its handler.
func unknownParameter(r scim.Route) (problem error) {
	defer func() { _ = recover() }() // the handlers have nothing to work on
	err := r.Serve(httptest.NewRecorder(), httptest.NewRequest(r.Method, "/?unheard=of", nil), auth.Principal{})
	if p, ok := errors.AsType[*Problem](err); ok && p.Type == TypeInvalid && strings.HasPrefix(p.Detail, "expected ") {
		return p
	}
	return nil
}
