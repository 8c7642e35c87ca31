package api

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// DeletedResource is a user or group that was deleted and can be restored.
type DeletedResource struct {
	ID          string    `json:"id"`
	UserName    string    `json:"userName,omitempty"` // of a user
	DisplayName string    `json:"displayName,omitempty"`
	DeletedAt   time.Time `json:"deletedAt"`
	DeletedBy   string    `json:"deletedBy,omitempty"` // as in the audit trail; absent if not known
	PurgeAt     time.Time `json:"purgeAt"`
	// DaysLeft is how many days that is from now, begun ones included.
	DaysLeft int `json:"daysLeft"`
}

// DeletedList is a page of deleted resources, those deleted last first.
type DeletedList struct {
	Deleted []DeletedResource `json:"deleted"`
	Total   int               `json:"total"` // of all that are deleted, whatever was searched for
	// Next is the "after" of the next page, if there is more. A search looks at a
	// bounded number of resources, so a page may be short or empty and have one.
	Next string `json:"next,omitempty"`
}

// DeletedDetail is a deleted resource with what would come back with it.
type DeletedDetail struct {
	DeletedResource
	Groups []GroupReference `json:"groups"`
	Roles  []RoleReference  `json:"roles"`
}

// GroupReference is a group for people to recognise.
type GroupReference struct {
	ID      string `json:"id"`
	Display string `json:"display"`
}

// RoleReference is a role for people to recognise, and how somebody comes to it.
type RoleReference struct {
	ID             string `json:"id"`
	Display        string `json:"display"`
	Administrative bool   `json:"administrative"`
	Through        string `json:"through,omitempty"` // the id of a group
}

// RestoreRequest is the body of POST /deleted-users/{id}/restore.
type RestoreRequest struct {
	UserName string   `json:"userName,omitempty"` // another one than before
	SignIn   string   `json:"signIn,omitempty"`   // "userName": by that alone, whatever it was
	Without  []string `json:"without,omitempty"`  // "roles", "groups"
}

// GroupRestoreRequest is the body of POST /deleted-groups/{id}/restore.
type GroupRestoreRequest struct {
	DisplayName string   `json:"displayName,omitempty"` // another one than before
	Without     []string `json:"without,omitempty"`     // "roles", "groups"
}

// Restored is a resource that is there again.
type Restored struct {
	ID      string `json:"id"`
	Name    string `json:"name"` // the display name, or user name
	Version int64  `json:"version"`
}

// Holder is who has a name.
type Holder struct {
	ID      string `json:"id"`
	Display string `json:"display"`
}

var deletedParameters = []string{"name", "after", "limit"}

// How many deleted resources a page has.
const (
	deletedLimit    = 50
	maxDeletedLimit = 200
)

// ofType makes a handler for resources of a type.
func (a *API) ofType(name string, serve func(http.ResponseWriter, *http.Request, auth.Principal, *schemas.ResourceType) error) func(http.ResponseWriter, *http.Request, auth.Principal) error {
	return func(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
		return serve(w, r, by, a.Schemas.Type(name))
	}
}

func (a *API) deletedList(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	q, err := deletedQuery(r)
	if err != nil {
		return err
	}
	page, err := a.Directory.ListDeleted(r.Context(), by, t, q)
	if err != nil {
		return err
	}
	out := DeletedList{Deleted: make([]DeletedResource, len(page.Deleted)), Total: page.Total}
	for i, d := range page.Deleted {
		out.Deleted[i] = deletedResource(&d, a.Now())
	}
	if !page.Next.At.IsZero() {
		out.Next = placeText(page.Next)
	}
	return respond(w, http.StatusOK, out)
}

func deletedResource(d *scim.Deleted, now time.Time) DeletedResource {
	const day = 24 * time.Hour
	return DeletedResource{
		ID: d.ID, UserName: d.UserName, DisplayName: d.DisplayName, DeletedAt: d.Deleted.UTC(), DeletedBy: d.By, PurgeAt: d.Due.UTC(),
		DaysLeft: max(0, int((d.Due.Sub(now)+day-1)/day)),
	}
}

func (a *API) deletedDetail(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	d, err := a.Directory.GetDeleted(r.Context(), by, t, pathID(r))
	if err != nil {
		return err
	}
	out := DeletedDetail{DeletedResource: deletedResource(&d.Deleted, a.Now()), Groups: []GroupReference{}, Roles: []RoleReference{}}
	for _, g := range d.Groups {
		out.Groups = append(out.Groups, GroupReference{ID: g.Group, Display: g.Display})
	}
	for _, x := range d.Roles {
		out.Roles = append(out.Roles, RoleReference{ID: x.Role.ID, Display: x.Role.Name(), Administrative: x.Role.Administrative, Through: x.Group})
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) restoreUser(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body RestoreRequest
	if err := read(r, &body); err != nil {
		return err
	}
	if body.SignIn != "" && body.SignIn != "userName" {
		return invalid("signIn: expected userName")
	}
	return a.restore(w, r, by, auth.PrincipalUser, body.Without, scim.Restoration{Name: body.UserName, ByUserName: body.SignIn != ""})
}

func (a *API) restoreGroup(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body GroupRestoreRequest
	if err := read(r, &body); err != nil {
		return err
	}
	return a.restore(w, r, by, auth.PrincipalGroup, body.Without, scim.Restoration{Name: body.DisplayName})
}

func (a *API) restore(w http.ResponseWriter, r *http.Request, by auth.Principal, typ string, without []string, how scim.Restoration) error {
	for i, s := range without {
		if s != "roles" && s != "groups" {
			return invalid("without[" + strconv.Itoa(i) + "]: expected roles or groups")
		}
	}
	how.WithoutRoles, how.WithoutGroups = slices.Contains(without, "roles"), slices.Contains(without, "groups")
	res, err := a.Directory.Restore(r.Context(), by, a.Schemas.Type(typ), pathID(r), how)
	if err != nil {
		return restoreProblem(by, err)
	}
	a.Auth.InvalidateUser(res.ID)
	return respond(w, http.StatusOK, Restored{ID: res.ID, Name: res.Name, Version: res.Version})
}

// restoreProblem says what is in the way, and how to restore all the same.
func restoreProblem(by auth.Principal, err error) error {
	if e, ok := errors.AsType[*scim.TakenError](err); ok {
		p := &Problem{
			Type: TypeNameTaken, Title: "The name is somebody else's by now", Status: http.StatusConflict, Attribute: e.Attr,
			Detail: e.Attr + " is in use: give another one to restore under, or rename whoever has it",
		}
		switch e.Attr {
		case "userName", "displayName":
		case "emails":
			p.Detail = "an address to sign in by, in emails, is what somebody else signs in by: change it there, or restore with \"signIn\": \"userName\""
		default:
			p.Detail = e.Attr + " is what somebody else has by now: change it there"
		}
		if e.ID != "" {
			p.Holder = &Holder{ID: e.ID, Display: e.Name}
		}
		return p
	}
	if e, ok := errors.AsType[*scim.ReturningRoleError](err); ok {
		what, without := "a role that was given", "roles"
		if by.May(auth.Read, auth.RoleType) {
			what = "the role " + e.Role.Name()
		}
		if e.Group != "" {
			what, without = what+", by a group,", "groups"
		}
		p := notPermitted(what + " would come back, and you may not give it; \"without\": [\"" + without + "\"] leaves it out")
		p.repeats = true // the name of a role belongs into no log either
		return p
	}
	return err
}

func (a *API) purge(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	if err := a.Directory.Purge(r.Context(), by, t, pathID(r)); err != nil {
		return err
	}
	return done(w)
}

func deletedQuery(r *http.Request) (q scim.DeletedQuery, err error) {
	values, err := parameters(r, deletedParameters...)
	if err != nil {
		return q, err
	}
	q.Name = values.Get("name")
	if s := values.Get("after"); s != "" {
		if q.After, err = placeFrom(s); err != nil {
			return q, invalid("after: expected the next of a page")
		}
	}
	q.Limit, err = number(values, "limit", deletedLimit, 1, maxDeletedLimit)
	return q, err
}

// placeText writes a place for clients to send back. It says nothing that the page
// before it did not.
func placeText(p storage.DeletedPlace) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.At.UnixMilli(), 10) + " " + p.ID))
}

func placeFrom(s string) (p storage.DeletedPlace, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return p, err
	}
	at, id, _ := strings.Cut(string(b), " ")
	ms, err := strconv.ParseInt(at, 10, 64)
	if err == nil && ms <= 0 {
		err = errors.New("no time")
	}
	return storage.DeletedPlace{At: time.UnixMilli(ms).UTC(), ID: id}, err
}
