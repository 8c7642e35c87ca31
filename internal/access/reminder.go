package access

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/storage"
)

const (
	// lookEvery is how often reviews are looked at, more or less: processes that were
	// started together are not to look together.
	lookEvery = 5 * time.Minute
	lookTime  = time.Minute
)

// Run reminds reviewers, and counts the reviews that are overdue, until ctx ends. Several
// processes may do so on one store: each reminder is sent once.
func (d *Desk) Run(ctx context.Context) error {
	for wait := time.Duration(0); ; wait = lookEvery/2 + rand.N(lookEvery) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		look, cancel := context.WithTimeout(ctx, lookTime)
		if err := d.Look(look); err != nil && ctx.Err() == nil {
			d.log().Warn("reviews could not be looked at; the next time will do it", "error", err)
		}
		cancel()
	}
}

func (d *Desk) log() *slog.Logger {
	if d.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return d.Log
}

// Look does once what Run does all the time.
func (d *Desk) Look(ctx context.Context) error {
	tenants, err := d.Store.ListTenants(ctx)
	if err != nil {
		return err
	}
	overdue := 0
	var failed error
	for _, t := range tenants {
		items, err := d.Store.Items(ctx, t.ID, reviewKind, openKey)
		list, err := all(items, err, reviewFrom)
		if err != nil {
			return err
		}
		for _, r := range list {
			if r.Overdue(d.now()) {
				overdue++
			}
			// One that fails keeps none of the others.
			failed = errors.Join(failed, d.remind(ctx, t.ID, r))
		}
	}
	if d.Overdue != nil {
		d.Overdue(overdue)
	}
	return failed
}

// reminds reports whether it is time for a reminder.
func (r *Review) reminds(now time.Time) bool {
	days := time.Duration(r.RemindDays) * 24 * time.Hour
	if r.RemindDays == 0 || !r.Closed.IsZero() || now.Before(r.Due.Add(-days)) {
		return false
	}
	return r.Reminded.IsZero() || storage.Due(r.Reminded.Add(days), now, days)
}

// remind sends the reminder that is due, if no other process has. Reviewers are told who
// have something left to decide, and when the review is overdue, who began it.
func (d *Desk) remind(ctx context.Context, tenant storage.TenantID, r *Review) error {
	now := d.now()
	if d.Tell == nil || !r.reminds(now) {
		return nil
	}
	list, err := d.Assignments(ctx, tenant, r.ID)
	if err != nil {
		return err
	}
	var people []*person
	for _, id := range append(slices.Clone(r.Reviewers), r.CreatedBy) {
		if slices.ContainsFunc(people, func(p *person) bool { return p.id == id }) {
			continue
		}
		reviewer := auth.Principal{Kind: auth.User, Tenant: tenant, ID: id}
		groups, err := d.groups(ctx, reviewer)
		if err != nil {
			return err
		}
		left := slices.Contains(r.Reviewers, id) && slices.ContainsFunc(list, func(x *Reviewed) bool { return x.Decision == "" && !x.own(reviewer, groups) })
		if !left && (!r.Overdue(now) || id != r.CreatedBy) {
			continue
		}
		p, err := d.person(ctx, tenant, id)
		if err != nil {
			return err
		}
		if p != nil && p.active {
			people = append(people, p)
		}
	}
	err = d.Store.Write(ctx, tenant, func(tx storage.Tx) error {
		next := *r
		next.Reminded = now
		// Whoever writes first has sent it: r.item is as it was read.
		if err := putReview(tx, &next); err != nil {
			return err
		}
		for _, p := range people {
			if err := d.tell(tx, tenant, p, mail.ReviewReminder, map[string]string{"title": r.Title, "due": r.Due.UTC().Format(time.RFC3339)}, now); err != nil {
				return err
			}
		}
		return record(ctx, tx, auth.System(tenant), now, "review.remind", "Review", r.ID, storage.ChangeOf("reminded", nil, len(people)))
	})
	if errors.Is(err, storage.ErrConflict) {
		return nil
	}
	return err
}
