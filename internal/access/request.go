package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Requests are items of the kind auth.RequestKind under their ids, and have waitingKey
// while they wait. They vanish some time after they are decided about or too old for it.
const waitingKey = "waiting"

const (
	// RequestWaits is how long a request waits for somebody to decide.
	RequestWaits = 14 * 24 * time.Hour
	// RequestShown is for how long after that a request is kept, decided about or not.
	RequestShown = 30 * 24 * time.Hour
	// MaxHours is the longest time that a role can be asked for in hours.
	MaxHours = 366 * 24
	// requestsADay bounds how often somebody asks, for each request is mail to others.
	requestsADay = 10
)

// RequestState is what has become of a request.
type RequestState string

// The states of a request.
const (
	Waiting   RequestState = "waiting"
	Approved  RequestState = "approved"
	Denied    RequestState = "denied"
	Withdrawn RequestState = "withdrawn"
	Expired   RequestState = "expired"
)

// Request is a role that a user has asked for.
type Request struct {
	ID     string `json:"-"`
	User   string `json:"user"`
	Role   string `json:"role"`
	Reason string `json:"reason"`
	// Hours is for how long from the approval on, Until to which time; neither for good.
	Hours int64        `json:"hours,omitzero"`
	Until time.Time    `json:"until,omitzero"`
	Asked time.Time    `json:"asked"`
	State RequestState `json:"state"`
	// Of the decision.
	By         string    `json:"by,omitzero"` // the id of a user
	At         time.Time `json:"at,omitzero"`
	Why        string    `json:"why,omitzero"`
	Assignment string    `json:"assignment,omitzero"` // the id of the role assignment that came of it

	item *storage.Item
}

func requestFrom(i *storage.Item) (*Request, error) {
	r := &Request{ID: i.ID, item: i}
	return r, decode(i, r)
}

// lapse makes a request that nobody has decided about in time an expired one.
func (r *Request) lapse(now time.Time) *Request {
	if r.State == Waiting && !now.Before(r.Asked.Add(RequestWaits)) {
		r.State = Expired
	}
	return r
}

// Ask is a request for a role by whoever calls, for good, for some hours, or until a
// time. The error is an *auth.InvalidError, storage.ErrNotFound if there is no such role,
// or ErrConflict.
func (d *Desk) Ask(ctx context.Context, by auth.Principal, role, reason string, hours int64, until time.Time) (*Request, error) {
	now := d.now()
	reason, err := reasonOf(reason, true)
	switch {
	case err != nil:
		return nil, err
	case by.Kind != auth.User || by.ID == "":
		return nil, auth.ErrNotPermitted
	case hours < 0 || hours > MaxHours:
		return nil, &auth.InvalidError{Member: "hours", Expected: fmt.Sprintf("at least 1 and at most %d", MaxHours)}
	case hours > 0 && !until.IsZero():
		return nil, &auth.InvalidError{Member: "until", Expected: "hours or until, or neither"}
	case !until.IsZero() && !until.After(now):
		return nil, &auth.InvalidError{Member: "until", Expected: "a time to come"}
	}
	asked, err := auth.FindRole(ctx, d.Store, by.Tenant, role)
	if err != nil {
		return nil, err
	}
	r := &Request{ID: storage.NewID(), User: by.ID, Role: asked.ID, Reason: reason, Hours: hours, Until: until.Truncate(time.Millisecond), Asked: now, State: Waiting}
	tell, err := d.toApprovers(ctx, by, asked, r)
	if err != nil {
		return nil, err
	}
	err = d.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := tx.Guard("requests/" + by.ID); err != nil {
			return err
		}
		if err := mayAsk(tx, r, now); err != nil {
			return err
		}
		if err := putRequest(tx, r); err != nil {
			return err
		}
		if err := tell(tx); err != nil {
			return err
		}
		return record(ctx, tx, by, now, "role.request", auth.RoleType, r.Role, r.told(nil)...)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// mayAsk refuses a request for what somebody has or waits for, and too many.
func mayAsk(tx storage.Tx, r *Request, now time.Time) error {
	items, err := tx.Items(auth.RequestKind, "user/"+r.User)
	own, err := all(items, err, requestFrom)
	if err != nil {
		return err
	}
	today := 0
	for _, o := range own {
		if o.lapse(now).State == Waiting && o.Role == r.Role {
			return conflict("a request for this role waits already")
		}
		if now.Sub(o.Asked) < 24*time.Hour {
			today++
		}
	}
	if today >= requestsADay {
		return conflict(fmt.Sprintf("nobody asks more than %d times a day", requestsADay))
	}
	grants, err := auth.GrantsTo(tx, r.User)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(grants, func(g *auth.Grant) bool { return g.Role == r.Role && !g.Eligible && g.End.IsZero() }) {
		return conflict("this role is given to you already")
	}
	return nil
}

func putRequest(tx storage.ItemWriter, r *Request) error {
	keys := []string{"user/" + r.User}
	expires := r.Asked.Add(RequestWaits + RequestShown)
	if r.State == Waiting {
		keys = append(keys, waitingKey)
	}
	return put(tx, r.item, auth.RequestKind, r.ID, r, expires, keys...)
}

// told are the values of a request in an audit entry.
func (r *Request) told(before *RequestState) []storage.Change {
	list := []storage.Change{storage.ChangeOf("request", nil, r.ID), storage.ChangeOf("user", nil, r.User)}
	if before == nil {
		list = append(list, storage.ChangeOf("reason", nil, r.Reason), storage.ChangeOf("state", nil, r.State))
		if r.Hours > 0 {
			list = append(list, storage.ChangeOf("hours", nil, r.Hours))
		}
		if !r.Until.IsZero() {
			list = append(list, storage.ChangeOf("until", nil, r.Until))
		}
		return list
	}
	list = append(list, storage.ChangeOf("state", *before, r.State))
	if r.Why != "" {
		list = append(list, storage.ChangeOf("reason", nil, r.Why))
	}
	if r.Assignment != "" {
		list = append(list, storage.ChangeOf("assignment", nil, r.Assignment))
	}
	return list
}

// Own returns the requests of a user, the newest first.
func (d *Desk) Own(ctx context.Context, tenant storage.TenantID, user string) ([]*Request, error) {
	items, err := d.Store.Items(ctx, tenant, auth.RequestKind, "user/"+user)
	return d.requests(items, err)
}

// WaitingFor returns the requests that wait for a decision and that by may decide about:
// those of others who are there, for roles that by may give; the newest first.
func (d *Desk) WaitingFor(ctx context.Context, by auth.Principal) ([]*Request, error) {
	items, err := d.Store.Items(ctx, by.Tenant, auth.RequestKind, waitingKey)
	list, err := d.requests(items, err)
	if err != nil {
		return nil, err
	}
	users := make([]string, len(list))
	for i, r := range list {
		users[i] = r.User
	}
	there, err := d.Store.Names(ctx, by.Tenant, auth.PrincipalUser, users...)
	if err != nil {
		return nil, err
	}
	may := d.gives(ctx, by)
	kept := list[:0]
	for _, r := range list {
		if _, ok := there[r.User]; !ok || r.State != Waiting || r.User == by.ID {
			continue
		}
		ok, err := may(r.Role)
		if err != nil {
			return nil, err
		}
		if ok {
			kept = append(kept, r)
		}
	}
	return kept, nil
}

// gives returns a function that reports whether by may give a role.
func (d *Desk) gives(ctx context.Context, by auth.Principal) func(role string) (bool, error) {
	known := map[string]bool{}
	return func(role string) (bool, error) {
		may, ok := known[role]
		if ok {
			return may, nil
		}
		r, err := auth.FindRole(ctx, d.Store, by.Tenant, role)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return false, err
		}
		known[role] = err == nil && by.MayGive(r) == nil
		return known[role], nil
	}
}

// WaitingActivations returns the activations of others that wait to be approved and that
// by may approve.
func (d *Desk) WaitingActivations(ctx context.Context, by auth.Principal) ([]*auth.Activation, error) {
	now := d.now()
	list, err := auth.Activations(ctx, d.Store, by.Tenant, "", now)
	if err != nil {
		return nil, err
	}
	may := d.gives(ctx, by)
	kept := list[:0]
	for _, a := range list {
		if !a.Pending(now) || a.Principal == by.ID {
			continue
		}
		ok, err := may(a.Role)
		if err != nil {
			return nil, err
		}
		if ok {
			kept = append(kept, a)
		}
	}
	return kept, nil
}

func (d *Desk) requests(items []*storage.Item, err error) ([]*Request, error) {
	list, err := all(items, err, requestFrom)
	for _, r := range list {
		r.lapse(d.now())
	}
	slices.SortFunc(list, func(a, b *Request) int { return cmp.Or(b.Asked.Compare(a.Asked), strings.Compare(b.ID, a.ID)) })
	return list, err
}

// Withdraw takes back a request that whoever calls has made and that waits.
func (d *Desk) Withdraw(ctx context.Context, by auth.Principal, id string) error {
	now := d.now()
	return d.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		r, err := waiting(tx, id, now, func(r *Request) error {
			if r.User != by.ID {
				return storage.ErrNotFound // whether others have asked is not for everybody
			}
			return nil
		})
		if err != nil {
			return err
		}
		return d.settle(ctx, tx, by, r, Withdrawn, "", "", now)
	})
}

// Decide approves a request, which gives the role in the name of by with all that it
// takes, or denies it. by has to be somebody else, who may give the role. Who has asked is
// told. The error is an *auth.DeniedError, an *auth.LevelError, ErrConflict,
// storage.ErrNotFound, or one of scim.Provider.
func (d *Desk) Decide(ctx context.Context, by auth.Principal, id string, approve bool, reason string) (*Request, error) {
	now := d.now()
	reason, err := reasonOf(reason, !approve)
	if err != nil {
		return nil, err
	}
	var r *Request
	read := func(tx storage.Tx) (err error) {
		r, err = waiting(tx, id, now, func(r *Request) error { return mayDecide(tx, by, r) })
		return err
	}
	if !approve {
		err := d.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
			if err := read(tx); err != nil {
				return err
			}
			return d.settle(ctx, tx, by, r, Denied, reason, "", now)
		})
		if err != nil {
			return nil, err
		}
		return r, nil
	}
	item, err := d.Store.Item(ctx, by.Tenant, auth.RequestKind, id)
	asked, err := one(item, err, requestFrom)
	if err != nil {
		return nil, err
	}
	body := map[string]any{
		"schemas": []any{schemas.RoleAssignmentURI}, "role": map[string]any{"value": asked.Role},
		"principal": map[string]any{"value": asked.User, "type": auth.PrincipalUser}, "reason": asked.Reason,
	}
	end := asked.Until
	if asked.Hours > 0 {
		end = now.Add(time.Duration(asked.Hours) * time.Hour)
	}
	// The request is looked at in the write that gives the role, so that of several
	// decisions one counts. First outside too, or somebody who may not decide would learn
	// from the Provider's answer instead.
	start := now
	err = d.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := read(tx); err != nil {
			return err
		}
		if _, err := tx.Get(auth.PrincipalUser, asked.User); errors.Is(err, storage.ErrNotFound) {
			return conflict("who has asked is deleted")
		} else if err != nil {
			return err
		}
		grants, err := auth.GrantsTo(tx, asked.User)
		start = heldUntil(grants, asked.Role, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	switch {
	case end.IsZero():
	case !end.After(now):
		return nil, conflict("the time is over that the role was asked for")
	case !end.After(start):
		return nil, conflict("the role is given for this time already")
	default:
		body["endDate"] = stamp(end)
	}
	if start.After(now) {
		body["startDate"] = start.UTC().Format(time.RFC3339Nano)
	}
	_, err = d.Provider.CreateWith(ctx, by, d.Schemas.Type(auth.AssignmentType), body, func(tx storage.Tx, made *storage.Resource) error {
		if err := read(tx); err != nil {
			return err
		}
		return d.settle(ctx, tx, by, r, Approved, reason, made.ID, now)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// heldUntil returns until when a role is given without a gap that ends by itself, or now.
func heldUntil(grants []*auth.Grant, role string, now time.Time) time.Time {
	until := now
	for {
		i := slices.IndexFunc(grants, func(g *auth.Grant) bool {
			return g.Role == role && !g.Eligible && !g.Start.After(until) && g.End.After(until)
		})
		if i < 0 {
			return until
		}
		until = grants[i].End
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func mayDecide(tx storage.Tx, by auth.Principal, r *Request) error {
	role, err := auth.ReadRole(tx, r.Role)
	if err != nil {
		return err
	}
	if err := by.MayGive(role); err != nil {
		return err
	}
	if r.User == by.ID {
		return &auth.DeniedError{Msg: "somebody else has to decide about one's own request"}
	}
	return nil
}

// waiting reads a request that waits and that may be decided about.
func waiting(tx storage.Tx, id string, now time.Time, may func(*Request) error) (*Request, error) {
	i, err := tx.Item(auth.RequestKind, id)
	r, err := one(i, err, requestFrom)
	if err != nil {
		return nil, err
	}
	if err := may(r); err != nil {
		return nil, err
	}
	if r.lapse(now).State != Waiting {
		return nil, conflict("the request does not wait any more")
	}
	return r, nil
}

// settle ends a request.
func (d *Desk) settle(ctx context.Context, tx storage.Tx, by auth.Principal, r *Request, state RequestState, why, assignment string, now time.Time) error {
	before := r.State
	r.State, r.By, r.At, r.Why, r.Assignment = state, by.ID, now, why, assignment
	if err := putRequest(tx, r); err != nil {
		return err
	}
	if state != Withdrawn {
		if err := d.toRequester(tx, by, r, now); err != nil {
			return err
		}
	}
	return record(ctx, tx, by, now, "role.request."+actions[state], auth.RoleType, r.Role, r.told(&before)...)
}

var actions = map[RequestState]string{Approved: "approve", Denied: "deny", Withdrawn: "withdraw"}
