package scim_test

import (
	"net/http"
	"testing"

	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// TestOtherVersions: a request for another version of the protocol is refused, and not
// answered with this one.
func TestOtherVersions(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	for base, want := range map[string]int{testserver.Base: 200, "/scim/v1": 404, "/scim/v3": 404} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.Root+base+"/Users", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.Token)
		resp, err := s.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s/Users: %d, want %d", base, resp.StatusCode, want)
		}
	}
}
