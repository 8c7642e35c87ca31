package scim_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/roster-id/roster/schemas"
)

// manager is the manager of a user as it is stored.
func (w *invitations) manager(id string) string {
	w.t.Helper()
	ext, _ := w.attrs("User", id)[schemas.EnterpriseUserURI].(map[string]any)
	m, _ := ext["manager"].(map[string]any)
	value, _ := m["value"].(string)
	return value
}

// TestManagerOfAnInvitee: whom an invitation names as manager has to be there when it is
// sent, and is left out when they are gone by the time it is accepted.
func TestManagerOfAnInvitee(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		more := func(manager string) string {
			return fmt.Sprintf(`,%q:{"manager":{"value":%q}}`, schemas.EnterpriseUserURI, manager)
		}
		_, _, err := w.p.Invite(t.Context(), w.session("gus"), body(`{"email":"ada@out.example"`+more(w.ids["crew"])+`}`))
		if status(err) != 400 || !strings.Contains(err.Error(), "manager.value") || strings.Contains(err.Error(), w.ids["crew"]) {
			t.Errorf("a group as the manager: %v", err)
		}
		_, kept := w.invite(w.session("gus"), "ada@out.example", more(w.ids["eve"]))
		_, gone := w.invite(w.session("gus"), "ben@out.example", more(w.ids["bob"]))
		if err := w.remove(operator(), "User", w.ids["bob"]); err != nil {
			t.Fatal(err)
		}
		ada, err := w.accept(kept, "ada")
		if err != nil {
			t.Fatal(err)
		}
		ben, err := w.accept(gone, "ben")
		if err != nil {
			t.Fatal(err)
		}
		if got := w.manager(ada.ID); got != w.ids["eve"] {
			t.Errorf("the manager of ada is %q, want eve", got)
		}
		if got := w.attrs("User", ben.ID); got[schemas.EnterpriseUserURI] != nil || len(got["schemas"].([]any)) != 1 {
			t.Errorf("ben is %v", got)
		}
	})
}
