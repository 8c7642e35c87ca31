package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// AccountRequest is the body of POST /users.
type AccountRequest struct {
	User   json.RawMessage `json:"user"` // a User of SCIM
	Groups []string        `json:"groups,omitempty"`
	Roles  []AccountRole   `json:"roles,omitempty"`
	// SignIn is "userName" or "email".
	SignIn string `json:"signIn,omitempty"`
	// Password is "generate", unless said otherwise, or "none".
	Password string `json:"password,omitempty"`
}

// AccountRole is a role that an account is given, in the words of a RoleAssignment.
type AccountRole struct {
	Value            string    `json:"value"`          // the id of the role
	Kind             string    `json:"kind,omitempty"` // "active", unless said otherwise, or "eligible"
	ApprovalRequired bool      `json:"approvalRequired,omitempty"`
	StartDate        time.Time `json:"startDate,omitzero"`
	EndDate          time.Time `json:"endDate,omitzero"`
	Reason           string    `json:"reason,omitempty"`
}

// Account is a new account with what its owner needs to know to sign in.
type Account struct {
	ID          string   `json:"id"`
	UserName    string   `json:"userName"`
	Location    string   `json:"location"`
	Active      bool     `json:"active"`
	SignInNames []string `json:"signInNames"`        // what its owner may sign in by, the user name first
	Password    string   `json:"password,omitempty"` // shown once, and good for choosing another one
	// Expires is when the password does; absent if it does not.
	Expires time.Time `json:"expires,omitzero"`
}

func (a *API) createAccount(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body AccountRequest
	if err := read(r, &body); err != nil {
		return err
	}
	account, err := body.account()
	if err != nil {
		return err
	}
	var temporary auth.Temporary
	switch body.Password {
	case "none":
	case "", "generate":
		// No cost makes 130 random bits harder to guess.
		t, err := a.Auth.NewTemporary(r.Context(), false)
		if err != nil {
			return err
		}
		account.Write = func(tx storage.Tx, user *storage.Resource, now time.Time) error {
			temporary = *t
			return a.Auth.PutTemporary(r.Context(), tx, by, user.ID, &temporary, now)
		}
	default:
		return invalid("password: expected generate or none")
	}
	user, err := a.Directory.CreateAccount(r.Context(), by, account)
	if err != nil {
		return err
	}
	attrs, err := a.Schemas.Type(auth.PrincipalUser).Parse(user.Doc)
	if err != nil {
		return err
	}
	out := Account{ID: user.ID, Location: "/scim/v2/Users/" + user.ID, Password: temporary.Password.Reveal(), Expires: temporary.Expires.UTC()}
	out.UserName, _ = attrs["userName"].(string)
	out.Active, _ = attrs["active"].(bool)
	out.SignInNames = []string{out.UserName}
	for _, address := range schemas.SignInAddresses(attrs) {
		if strings.TrimSpace(schemas.Fold(address)) != schemas.Fold(out.UserName) { // a user name may be one of the addresses
			out.SignInNames = append(out.SignInNames, address)
		}
	}
	w.Header().Set("Location", out.Location)
	return respond(w, http.StatusCreated, out)
}

// account is what the request asks for.
func (b *AccountRequest) account() (scim.Account, error) {
	user, err := b.user()
	if err != nil {
		return scim.Account{}, err
	}
	out := scim.Account{User: user, Groups: b.Groups}
	for i, r := range b.Roles {
		role := scim.AccountRole{Role: r.Value, Approval: r.ApprovalRequired, Start: r.StartDate, End: r.EndDate, Reason: r.Reason}
		switch r.Kind {
		case "", "active":
		case "eligible":
			role.Eligible = true
		default:
			return scim.Account{}, invalid(scim.RolePath(i) + ".kind: expected active or eligible")
		}
		out.Roles = append(out.Roles, role)
	}
	return out, nil
}

var errNoUser = invalid("user: expected an object")

// user is the User of the request, with what SignIn says of it.
func (b *AccountRequest) user() (map[string]any, error) {
	if len(b.User) == 0 {
		return nil, errNoUser
	}
	tree, err := schemas.Decode(b.User, limits)
	user, ok := tree.(map[string]any)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errNoUser
	}
	trimUserName(user)
	switch {
	case b.SignIn == "":
		return user, nil
	case b.SignIn != "userName" && b.SignIn != schemas.SignInByEmail:
		return nil, invalid("signIn: expected userName or email")
	}
	if _, there := schemas.Field(user, schemas.RosterUserURI); !there {
		user[schemas.RosterUserURI] = map[string]any{}
	}
	value, _ := schemas.Field(user, schemas.RosterUserURI)
	ext, ok := value.(map[string]any)
	if !ok {
		return nil, invalid("user." + schemas.RosterUserURI + ": expected an object")
	}
	if _, there := schemas.Field(ext, "signInBy"); there {
		return nil, invalid("signIn: user says it too")
	}
	ext["signInBy"] = b.SignIn
	if b.SignIn != schemas.SignInByEmail {
		return user, nil
	}
	address := firstAddress(user)
	if address == "" {
		return nil, invalid("user.emails: expected an address to sign in by")
	}
	if _, there := schemas.Field(user, "userName"); !there {
		user["userName"] = address
	}
	return user, nil
}

// trimUserName takes white space from the ends of the user name of a User: people do not
// see it where they copy a name, and would have to type it whenever they sign in.
func trimUserName(user map[string]any) {
	for key, v := range user {
		if name, ok := v.(string); ok && strings.EqualFold(key, "userName") {
			user[key] = strings.TrimSpace(name)
		}
	}
}

// firstAddress returns the primary address of a User, or the first one, or "".
func firstAddress(user map[string]any) (first string) {
	value, _ := schemas.Field(user, "emails")
	list, _ := value.([]any)
	for _, e := range list {
		v, _ := schemas.Field(e, "value")
		address, _ := v.(string)
		address = strings.TrimSpace(address)
		if primary, _ := schemas.Field(e, "primary"); primary == true && address != "" {
			return address
		}
		if first == "" {
			first = address
		}
	}
	return first
}
