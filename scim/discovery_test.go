package scim_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// TestDiscoveryByScope: what a client is told that there is, it may use.
func TestDiscoveryByScope(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	for _, test := range []struct {
		scope               string
		roles, entitlements any      // whether they are supported, nil where nothing is said
		delta               []string // the types with a delta query
	}{
		{"users", nil, nil, nil},
		{"roles:read", true, false, nil},
		{"entitlements:read", false, true, nil},
		{"events:read", nil, nil, nil},
	} {
		t.Run(test.scope, func(t *testing.T) {
			r := s.Do(t, "GET", "/ServiceProviderConfig", "", "Authorization", "Bearer "+s.Client(t, test.scope, "", test.scope))
			var config struct {
				RolesAndEntitlements struct{ Roles, Entitlements struct{ Supported any } }
				DeltaQuery           struct{ SupportedResources []string }
			}
			if err := json.Unmarshal([]byte(r.Body), &config); err != nil {
				t.Fatal(err)
			}
			if got := config.RolesAndEntitlements; got.Roles.Supported != test.roles || got.Entitlements.Supported != test.entitlements {
				t.Errorf("what is supported: %v, want %v, %v", got, test.roles, test.entitlements)
			}
			if diff := cmp.Diff(test.delta, config.DeltaQuery.SupportedResources); diff != "" {
				t.Errorf("types with a delta query (-want +got):\n%s", diff)
			}
		})
	}
	r := s.Do(t, "GET", "/ServiceProviderConfig", "", "Authorization", "Bearer "+s.Client(t, "both", "", "users:read", "events:read"))
	if want := `"supportedResources":["User"]`; !strings.Contains(r.Body, want) {
		t.Errorf("without %s: %s", want, r.Body)
	}
}
