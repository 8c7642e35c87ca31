package scim

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/mux"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
)

// /Me (RFC 7644 §3.11) is the resource of whoever asks. A person may read their own and
// change of it what says how they are called and reached; for anything else they need
// what others would need. Provisioning clients have no resource.

var errNoSelf = &Error{Status: http.StatusNotFound, Detail: "this client is no resource of the directory: /Me is for people who signed in"}

// onMe turns a route for one resource into the one for the resource of whoever asks.
func (h *Handler) onMe(serve serveTypeFunc) serveFunc {
	return func(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
		if by.Kind != auth.User {
			return errNoSelf
		}
		set, err := h.provider.types(r.Context(), by.Tenant)
		if err != nil {
			return err
		}
		return serve(w, mux.SetURLVars(r, map[string]string{"id": by.ID}), by, set.Type(auth.PrincipalUser))
	}
}

// ownAttributes are what people may change of themselves without a permission: how they
// are called and reached, and in which language. What they sign in with, what is said
// of their work, and what decides about what they may do is not among them.
var ownAttributes = []string{"name", "displayName", "nickName", "profileUrl", "preferredLanguage", "locale", "timezone", "phoneNumbers", "ims", "photos", "addresses"}

// self reports whether somebody acts on the own resource.
func self(by auth.Principal, t *schemas.ResourceType, id string) bool {
	return by.Kind == auth.User && by.Level >= auth.Password && id == by.ID && t.Name == auth.PrincipalUser
}

// allowOn is allow for one resource, which may be that of the principal.
func (p *Provider) allowOn(by auth.Principal, a auth.Act, t *schemas.ResourceType, id string) error {
	if (a == auth.Read || a == auth.Update) && self(by, t, id) {
		return nil
	}
	return p.allow(by, a, t)
}

// allowOwn refuses a change of the own resource for which it takes a permission. What it
// lets pass has no effect on what anybody may do.
func (u *update) allowOwn() error {
	if u.by.May(auth.Update, permitted(u.t)) || !self(u.by, u.t, u.prev.ID) {
		return nil
	}
	for _, path := range u.changed {
		name, _, _ := strings.Cut(path, ".")
		if name, _, _ = strings.Cut(name, "["); !slices.Contains(ownAttributes, name) {
			return &Error{Status: http.StatusForbidden, Detail: path + ": cannot be changed without the permission to change users; of oneself one may change " + strings.Join(ownAttributes, ", ")}
		}
	}
	if u.by.Level < auth.MFA && len(u.standing.Held(u.by.ID, u.p.now())) > 0 {
		return &auth.LevelError{}
	}
	u.own = true
	return nil
}
