package api

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
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
