package api

import (
	"strings"
	"testing"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
)

// TestTypesOfProblems: what is refused by what this surface shares with SCIM has the type that
// docs/api.md gives its status.
func TestTypesOfProblems(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  *scim.Error
		want string
	}{
		{&scim.Error{Status: 400, Detail: "x: is wrong"}, TypeInvalid},
		{&scim.Error{Status: 403, Detail: "people choose their own"}, TypeNotPermitted},
		{&scim.Error{Status: 404, Detail: "no such resource"}, blank},
		{&scim.Error{Status: 409, Detail: "it was revoked"}, TypeConflict},
		{scim.ErrAccountExists, TypeConflict},
		{&scim.Error{Status: 503, Detail: "come again", RetryAfter: 2}, blank},
	} {
		if p := problemFor(c.err); p.Type != c.want || p.Status != c.err.Status || p.Title == "" || c.want != blank && p.Detail != c.err.Detail || p.retryAfter != c.err.RetryAfter {
			t.Errorf("%d %s: %+v, want the type %s", c.err.Status, c.err.Detail, p, c.want)
		}
	}
	for _, err := range []error{auth.ErrPasswordEmpty, auth.ErrPasswordTooLong} {
		if p := problemFor(err); p.Type != TypePassword || p.Status != 400 || !strings.Contains(p.Detail, "expected") {
			t.Errorf("%v: %+v, want the type %s", err, p, TypePassword)
		}
	}
}
