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
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// The kinds of the items of reviews: a Review under its id, with openKey while it is open,
// and each Reviewed under its review and assignment, with the review's id as key.
const (
	reviewKind   = "review"
	reviewedKind = "review-item"
	openKey      = "open"
)

const (
	// MaxReviewed is how many assignments a review has at most: people look at each.
	MaxReviewed = 1000
	// MaxReviewers is how many reviewers a review has at most.
	MaxReviewers = 20
	// MaxRemindDays is the longest interval of reminders.
	MaxRemindDays = 90

	maxTitle       = 200 // bytes
	maxReviewRoles = 50
	longestReview  = 366 * 24 * time.Hour
)

// Verdict is what a reviewer says of an assignment, or what becomes of those about which
// nobody says anything.
type Verdict string

// The verdicts.
const (
	Confirm Verdict = "confirm"
	Revoke  Verdict = "revoke"
	Keep    Verdict = "keep"
)

// What became of a reviewed assignment, beside nothing yet.
const (
	OutcomeKept    = "kept"
	OutcomeRevoked = "revoked"
	OutcomeGone    = "gone"    // it was gone already
	OutcomeRefused = "refused" // it was to be revoked when the review was closed, and that was not permitted
)

// Review asks reviewers whether role assignments are still right. It holds those that
// there were when it began.
type Review struct {
	ID    string `json:"-"`
	Title string `json:"title"`
	// Administrative says that all administrative roles were asked for; Roles are the ids
	// of those that somebody held, or that were named.
	Administrative bool      `json:"administrative,omitzero"`
	Roles          []string  `json:"roles"`
	Due            time.Time `json:"due"`
	Reviewers      []string  `json:"reviewers"`
	OnNoDecision   Verdict   `json:"onNoDecision"` // Keep or Revoke
	// RemindDays is the interval of reminders, which begin so long before Due; 0 for none.
	RemindDays int       `json:"remindDays,omitzero"`
	Created    time.Time `json:"created"`
	CreatedBy  string    `json:"createdBy"`
	Reminded   time.Time `json:"reminded,omitzero"`
	// Closed is when no more could be decided, and Applied what became of those that
	// nobody had decided about.
	Closed   time.Time `json:"closed,omitzero"`
	ClosedBy string    `json:"closedBy,omitzero"`
	Applied  Verdict   `json:"applied,omitzero"`
	// Counts is set when the review is closed; before, Desk counts.
	Counts *Progress `json:"counts,omitzero"`

	item *storage.Item
}

// Overdue reports whether a review should have been closed by now.
func (r *Review) Overdue(now time.Time) bool { return r.Closed.IsZero() && now.After(r.Due) }

func reviewFrom(i *storage.Item) (*Review, error) {
	r := &Review{ID: i.ID, item: i}
	return r, decode(i, r)
}

// Progress counts the assignments of a review.
type Progress struct {
	Total     int `json:"total"`
	Confirmed int `json:"confirmed"`
	Revoked   int `json:"revoked"`
	Undecided int `json:"undecided"`
}

// Reviewed is an assignment in a review, as it was when the review began, and what was
// decided about it.
type Reviewed struct {
	Assignment string    `json:"assignment"`
	Role       string    `json:"role"`
	Principal  string    `json:"principal"`
	Type       string    `json:"type"`
	Eligible   bool      `json:"eligible,omitzero"`
	Start      time.Time `json:"start,omitzero"`
	End        time.Time `json:"end,omitzero"`
	Given      time.Time `json:"given,omitzero"`

	Decision Verdict   `json:"decision,omitzero"` // Confirm, Revoke, or empty
	Reason   string    `json:"reason,omitzero"`
	By       string    `json:"by,omitzero"`
	At       time.Time `json:"at,omitzero"`
	Outcome  string    `json:"outcome,omitzero"`

	item *storage.Item
}

func reviewedFrom(i *storage.Item) (*Reviewed, error) {
	r := &Reviewed{item: i}
	return r, decode(i, r)
}

func reviewedID(review, assignment string) string { return review + "/" + assignment }

func putReviewed(tx storage.ItemWriter, review string, x *Reviewed) error {
	return put(tx, x.item, reviewedKind, reviewedID(review, x.Assignment), x, time.Time{}, review)
}

// Begin makes a review of the assignments that there are of its roles, or of all
// administrative ones. Whoever begins it has to be entitled to take all of these roles,
// and so have its reviewers, after activating their own if they have to. The error is an
// *auth.InvalidError, an *auth.DeniedError or storage.ErrNotFound.
func (d *Desk) Begin(ctx context.Context, by auth.Principal, r *Review) error {
	now := d.now()
	r.Title, r.OnNoDecision = strings.TrimSpace(r.Title), cmp.Or(r.OnNoDecision, Keep)
	if err := r.check(now); err != nil {
		return err
	}
	roles, err := d.scope(ctx, by, r)
	if err != nil {
		return err
	}
	if err := d.checkReviewers(ctx, by.Tenant, r.Reviewers, roles); err != nil {
		return err
	}
	list, err := d.assignments(ctx, by.Tenant, roles, now)
	if err != nil {
		return err
	}
	r.ID, r.Created, r.CreatedBy, r.Due = storage.NewID(), now, by.ID, storage.Milli(r.Due)
	return d.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := putReview(tx, r); err != nil {
			return err
		}
		for _, x := range list {
			if err := putReviewed(tx, r.ID, x); err != nil {
				return err
			}
		}
		return record(ctx, tx, by, now, "review.create", "Review", r.ID, storage.ChangeOf("title", nil, r.Title), storage.ChangeOf("roles", nil, r.Roles), storage.ChangeOf("due", nil, r.Due),
			storage.ChangeOf("reviewers", nil, r.Reviewers), storage.ChangeOf("onNoDecision", nil, r.OnNoDecision), storage.ChangeOf("assignments", nil, len(list)))
	})
}

func (r *Review) check(now time.Time) error {
	invalid := func(member, expected string) error { return &auth.InvalidError{Member: member, Expected: expected} }
	slices.Sort(r.Reviewers)
	r.Reviewers = slices.Compact(r.Reviewers)
	slices.Sort(r.Roles)
	r.Roles = slices.Compact(r.Roles)
	switch {
	case r.Title == "" || len(r.Title) > maxTitle:
		return invalid("title", fmt.Sprintf("a title of at most %d bytes", maxTitle))
	case !r.Due.After(now) || r.Due.Sub(now) > longestReview:
		return invalid("due", "a time to come, within a year")
	case len(r.Reviewers) == 0 || len(r.Reviewers) > MaxReviewers:
		return invalid("reviewers", fmt.Sprintf("at least 1 and at most %d", MaxReviewers))
	case r.OnNoDecision != Keep && r.OnNoDecision != Revoke:
		return invalid("onNoDecision", "keep or revoke")
	case r.RemindDays < 0 || r.RemindDays > MaxRemindDays:
		return invalid("remindDays", fmt.Sprintf("at least 0 and at most %d", MaxRemindDays))
	case r.Administrative == (len(r.Roles) > 0):
		return invalid("roles", "some roles, or administrative")
	case len(r.Roles) > maxReviewRoles:
		return invalid("roles", fmt.Sprintf("at most %d", maxReviewRoles))
	}
	return nil
}

// scope returns the roles of a review, which by has to be entitled to take.
func (d *Desk) scope(ctx context.Context, by auth.Principal, r *Review) (roles []*auth.Role, err error) {
	if r.Administrative {
		if roles, err = d.holdings().AdministrativeRoles(ctx, by.Tenant); err != nil {
			return nil, err
		}
		for _, role := range roles {
			r.Roles = append(r.Roles, role.ID)
		}
	} else {
		for i, id := range r.Roles {
			role, err := auth.FindRole(ctx, d.Store, by.Tenant, id)
			if errors.Is(err, storage.ErrNotFound) {
				return nil, &auth.InvalidError{Member: fmt.Sprintf("roles[%d]", i), Expected: "the id of a role"}
			}
			if err != nil {
				return nil, err
			}
			roles = append(roles, role)
		}
	}
	for _, role := range roles {
		if err := by.MayGive(role); err != nil {
			return nil, errNotEntitled
		}
	}
	return roles, nil
}

var errNotEntitled = &auth.DeniedError{Msg: "it takes the right to take all roles of the review"}

// checkReviewers refuses reviewers who could not take what they review.
func (d *Desk) checkReviewers(ctx context.Context, tenant storage.TenantID, reviewers []string, roles []*auth.Role) error {
	for _, role := range roles {
		able, err := d.holdings().Approvers(ctx, tenant, role)
		if err != nil {
			return err
		}
		for i, id := range reviewers {
			if !slices.Contains(able, id) {
				return &auth.InvalidError{Member: fmt.Sprintf("reviewers[%d]", i), Expected: "a user who may take all roles of the review"}
			}
		}
	}
	return nil
}

// assignments returns those of roles that have not ended.
func (d *Desk) assignments(ctx context.Context, tenant storage.TenantID, roles []*auth.Role, now time.Time) ([]*Reviewed, error) {
	var list []*Reviewed
	for _, role := range roles {
		grants, err := auth.FindGrantsOf(ctx, d.Store, tenant, role.ID)
		if err != nil {
			return nil, err
		}
		for _, g := range grants {
			if g.Ended(now) {
				continue
			}
			if len(list) == MaxReviewed {
				return nil, &auth.InvalidError{Member: "roles", Expected: fmt.Sprintf("roles with at most %d assignments together", MaxReviewed)}
			}
			list = append(list, &Reviewed{Assignment: g.ID, Role: g.Role, Principal: g.Principal, Type: g.PrincipalType, Eligible: g.Eligible, Start: g.Start, End: g.End})
		}
	}
	if len(list) == 0 {
		return nil, &auth.InvalidError{Member: "roles", Expected: "roles that somebody holds"}
	}
	for _, x := range list {
		made, err := d.Store.Get(ctx, tenant, auth.AssignmentType, x.Assignment)
		switch {
		case err == nil:
			x.Given = made.Created
		case !errors.Is(err, storage.ErrNotFound):
			return nil, err
		}
	}
	return list, nil
}

func putReview(tx storage.ItemWriter, r *Review) error {
	var keys []string
	if r.Closed.IsZero() {
		keys = []string{openKey}
	}
	return put(tx, r.item, reviewKind, r.ID, r, time.Time{}, keys...)
}

// Reviews returns all reviews of a tenant, the newest first, and how far each is.
func (d *Desk) Reviews(ctx context.Context, tenant storage.TenantID) ([]*Review, error) {
	items, err := d.Store.Items(ctx, tenant, reviewKind, "")
	list, err := all(items, err, reviewFrom)
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		if err := d.count(ctx, tenant, r); err != nil {
			return nil, err
		}
	}
	slices.Reverse(list) // ids are in the order of time
	return list, nil
}

// Find returns a review and how far it is.
func (d *Desk) Find(ctx context.Context, tenant storage.TenantID, id string) (*Review, error) {
	i, err := d.Store.Item(ctx, tenant, reviewKind, id)
	r, err := one(i, err, reviewFrom)
	if err != nil {
		return nil, err
	}
	return r, d.count(ctx, tenant, r)
}

// Assignments returns what a review is about, in the order in which it was given.
func (d *Desk) Assignments(ctx context.Context, tenant storage.TenantID, review string) ([]*Reviewed, error) {
	items, err := d.Store.Items(ctx, tenant, reviewedKind, review)
	return all(items, err, reviewedFrom)
}

func (d *Desk) count(ctx context.Context, tenant storage.TenantID, r *Review) error {
	if r.Counts != nil {
		return nil
	}
	list, err := d.Assignments(ctx, tenant, r.ID)
	r.Counts = progress(list)
	return err
}

func progress(list []*Reviewed) *Progress {
	p := &Progress{Total: len(list)}
	for _, x := range list {
		switch x.Decision {
		case Confirm:
			p.Confirmed++
		case Revoke:
			p.Revoked++
		default:
			p.Undecided++
		}
	}
	return p
}

// Judge is a reviewer's decision about an assignment. To revoke is to take the role in the
// name of by, at once, with all that it takes. Nobody decides about what they hold
// themselves. The error is an *auth.DeniedError, an *auth.LevelError, ErrConflict,
// storage.ErrNotFound, an *auth.InvalidError, or one of scim.Provider.
func (d *Desk) Judge(ctx context.Context, by auth.Principal, review, assignment string, verdict Verdict, reason string) (*Reviewed, error) {
	now := d.now()
	reason, err := reasonOf(reason, verdict == Revoke)
	switch {
	case err != nil:
		return nil, err
	case verdict != Confirm && verdict != Revoke:
		return nil, &auth.InvalidError{Member: "decision", Expected: "confirm or revoke"}
	}
	groups, err := d.groups(ctx, by)
	if err != nil {
		return nil, err
	}
	j := judgement{d: d, ctx: ctx, by: by, now: now, review: review, assignment: assignment, groups: groups, verdict: verdict, reason: reason}
	if verdict == Confirm {
		err = d.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error { return j.write(tx, OutcomeKept) })
	} else {
		err = j.revoke()
	}
	if err != nil {
		return nil, err
	}
	return j.done, nil
}

// groups returns the groups that by is in, directly or through others.
func (d *Desk) groups(ctx context.Context, by auth.Principal) (map[string]bool, error) {
	groups, err := d.Store.Groups(ctx, by.Tenant, by.ID)
	in := map[string]bool{}
	for _, g := range groups[by.ID] {
		in[g.Group] = true
	}
	return in, err
}

// own reports whether somebody who is in groups has a role by an assignment.
func (x *Reviewed) own(by auth.Principal, groups map[string]bool) bool {
	return x.Principal == by.ID || groups[x.Principal]
}

// judgement is a decision about an assignment under way.
type judgement struct {
	d                  *Desk
	ctx                context.Context // of one decision
	by                 auth.Principal
	now                time.Time
	review, assignment string
	groups             map[string]bool // that by is in
	verdict            Verdict
	reason             string
	closing            bool // by need be no reviewer
	done               *Reviewed
}

// guard makes decisions about a review and its end come one after the other.
func guard(tx storage.Tx, review string) error { return tx.Guard("review/" + review) }

// read returns the assignment if by may decide about it now.
func (j *judgement) read(tx storage.Tx) (*Reviewed, error) {
	if err := guard(tx, j.review); err != nil {
		return nil, err
	}
	i, err := tx.Item(reviewKind, j.review)
	r, err := one(i, err, reviewFrom)
	if err != nil {
		return nil, err
	}
	if !j.closing && !slices.Contains(r.Reviewers, j.by.ID) {
		return nil, &auth.DeniedError{Msg: "only reviewers decide in a review"}
	}
	i, err = tx.Item(reviewedKind, reviewedID(j.review, j.assignment))
	x, err := one(i, err, reviewedFrom)
	switch {
	case err != nil:
		return nil, err
	case x.own(j.by, j.groups):
		return nil, &auth.DeniedError{Msg: "somebody else has to decide about a role that one holds oneself"}
	case !r.Closed.IsZero():
		return nil, conflict("the review is closed")
	case x.Decision == Revoke:
		return nil, conflict("it is revoked already")
	case j.closing && x.Decision != "":
		return nil, conflict("it is decided about")
	}
	return x, nil
}

// write notes the decision.
func (j *judgement) write(tx storage.Tx, outcome string) error {
	x, err := j.read(tx)
	if err != nil {
		return err
	}
	if outcome == OutcomeKept {
		if _, err := auth.ReadGrant(tx, x.Assignment); errors.Is(err, storage.ErrNotFound) {
			return conflict("the assignment is gone")
		} else if err != nil {
			return err
		}
	}
	var before any
	if x.Decision != "" {
		before = x.Decision
	}
	x.Decision, x.Reason, x.By, x.At, x.Outcome = j.verdict, j.reason, j.by.ID, j.now, outcome
	if err := putReviewed(tx, j.review, x); err != nil {
		return err
	}
	j.done = x
	values := []storage.Change{storage.ChangeOf("assignment", nil, x.Assignment), storage.ChangeOf("principal", nil, x.Principal), storage.ChangeOf("role", nil, x.Role),
		storage.ChangeOf("decision", before, x.Decision), storage.ChangeOf("reason", nil, x.Reason), storage.ChangeOf("outcome", nil, outcome)}
	return record(j.ctx, tx, j.by, j.now, "review.decide", "Review", j.review, values...)
}

// revoke takes the role and notes the decision in one step.
func (j *judgement) revoke() error {
	// First whether by may decide at all, or the answer would be the Provider's.
	err := j.d.Store.Write(j.ctx, j.by.Tenant, func(tx storage.Tx) error { _, err := j.read(tx); return err })
	if err != nil {
		return err
	}
	t := j.d.Schemas.Type(auth.AssignmentType)
	err = j.d.Provider.DeleteWith(j.ctx, j.by, t, j.assignment, scim.Precondition{}, func(tx storage.Tx) error { return j.write(tx, OutcomeRevoked) })
	if !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	// It went, perhaps with its principal. Then it must not come back with it.
	return j.d.Provider.ForgoWith(j.ctx, j.by, j.assignment, func(tx storage.Tx, taken bool) error {
		if _, err := auth.ReadGrant(tx, j.assignment); !errors.Is(err, storage.ErrNotFound) {
			return cmp.Or(err, storage.ErrConflict)
		}
		if taken {
			return j.write(tx, OutcomeRevoked)
		}
		return j.write(tx, OutcomeGone)
	})
}

// Close ends a review. What nobody has decided about is kept, or revoked in the name of
// by, as the review says; keep overrules that. by has to be entitled to take the roles of
// the review. What by may not take, holds, or would leave nobody as Global Administrator
// stays and is noted. When Close fails half-way, closing it again goes on.
func (d *Desk) Close(ctx context.Context, by auth.Principal, id string, keep bool) (*Review, error) {
	r, err := d.Find(ctx, by.Tenant, id)
	if err != nil {
		return nil, err
	}
	if !r.Closed.IsZero() {
		return nil, conflict("the review is closed")
	}
	for _, role := range r.Roles {
		found, err := auth.FindRole(ctx, d.Store, by.Tenant, role)
		if errors.Is(err, storage.ErrNotFound) {
			continue // and its assignments with it
		}
		if err != nil {
			return nil, err
		}
		if err := by.MayGive(found); err != nil {
			return nil, errNotEntitled
		}
	}
	applied := r.OnNoDecision
	if keep {
		applied = Keep
	}
	refused := map[string]bool{}
	if applied == Revoke {
		if refused, err = d.revokeRest(ctx, by, id); err != nil {
			return nil, err
		}
	}
	now := d.now()
	err = d.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := guard(tx, id); err != nil {
			return err
		}
		i, err := tx.Item(reviewKind, id)
		if r, err = one(i, err, reviewFrom); err != nil {
			return err
		}
		if !r.Closed.IsZero() {
			return conflict("the review is closed")
		}
		items, err := tx.Items(reviewedKind, id)
		list, err := all(items, err, reviewedFrom)
		if err != nil {
			return err
		}
		for _, x := range list {
			if refused[x.Assignment] && x.Decision == "" {
				x.Outcome = OutcomeRefused
				if err := putReviewed(tx, id, x); err != nil {
					return err
				}
			}
		}
		r.Closed, r.ClosedBy, r.Applied, r.Counts = now, by.ID, applied, progress(list)
		if err := putReview(tx, r); err != nil {
			return err
		}
		return record(ctx, tx, by, now, "review.close", "Review", id, storage.ChangeOf("applied", nil, applied), storage.ChangeOf("result", nil, r.Counts), storage.ChangeOf("refused", nil, len(refused)))
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// revokeRest revokes what nobody has decided about, and returns what stays because that
// is not permitted.
func (d *Desk) revokeRest(ctx context.Context, by auth.Principal, id string) (map[string]bool, error) {
	list, err := d.Assignments(ctx, by.Tenant, id)
	if err != nil {
		return nil, err
	}
	groups, err := d.groups(ctx, by)
	if err != nil {
		return nil, err
	}
	refused := map[string]bool{}
	for _, x := range list {
		if x.Decision != "" {
			continue
		}
		j := judgement{d: d, ctx: ctx, by: by, now: d.now(), review: id, assignment: x.Assignment, groups: groups, verdict: Revoke, closing: true}
		err := j.revoke()
		_, denied := errors.AsType[*auth.DeniedError](err)
		switch {
		case err == nil || errors.Is(err, ErrConflict): // somebody has decided meanwhile
		case denied || errors.Is(err, auth.ErrLastAdministrator):
			refused[x.Assignment] = true
		default:
			return nil, err
		}
	}
	return refused, nil
}
