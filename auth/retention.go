package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/storage"
)

// policyKind is the kind of the items that hold the policies of a tenant, each under
// its name.
const policyKind = "policy"

// retentionPolicy is the name of the policy that Retention is.
const retentionPolicy = "retention"

// Retention says how long a tenant keeps what is of no use any more.
type Retention struct {
	// DeletedDays is for how many days deleted users, groups, roles and assignments can
	// be restored. Then they are purged.
	DeletedDays int `json:"deletedDays"`
}

// maxDeletedDays is ten years.
const maxDeletedDays = 3650

// defaultRetention is the Retention of a tenant that never chose another.
func defaultRetention() Retention { return Retention{DeletedDays: 30} }

// Due returns when something is purged that was deleted at a time.
func (r Retention) Due(deleted time.Time) time.Time {
	return deleted.Add(time.Duration(r.DeletedDays) * day)
}

// Cutoff returns the time before which something was deleted that is due now.
func (r Retention) Cutoff(now time.Time) time.Time {
	return now.Add(-time.Duration(r.DeletedDays) * day)
}

// Validate checks a Retention. The error is a *InvalidError.
func (r Retention) Validate() error {
	if r.DeletedDays < 1 || r.DeletedDays > maxDeletedDays {
		return &InvalidError{"deletedDays", fmt.Sprintf("a number of days from 1 to %d", maxDeletedDays)}
	}
	return nil
}

// FindRetention returns the Retention of a tenant.
func FindRetention(ctx context.Context, items storage.Items, tenant storage.TenantID) (Retention, error) {
	return retentionFrom(items.Item(ctx, tenant, policyKind, retentionPolicy))
}

// retentionFrom fails where it is not sure: what is purged too soon does not come back.
func retentionFrom(i *storage.Item, err error) (r Retention, _ error) {
	if errors.Is(err, storage.ErrNotFound) {
		return defaultRetention(), nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(i.Data, &r, json.RejectUnknownMembers(true)); err != nil || r.Validate() != nil {
		return r, errors.New("the policy for retention cannot be read by this version")
	}
	return r, nil
}

// PutRetention sets the Retention of the tenant of whoever asks. The error is a
// *InvalidError if it is not valid.
func (a *Authenticator) PutRetention(ctx context.Context, by Principal, next Retention) error {
	if err := next.Validate(); err != nil {
		return err
	}
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("a policy cannot be written: %w", err)
	}
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		item, err := tx.Item(policyKind, retentionPolicy)
		prev, rerr := retentionFrom(item, err)
		if rerr != nil {
			return rerr
		}
		if err := tx.PutItem(item, &storage.Item{Kind: policyKind, ID: retentionPolicy, Data: data}); err != nil {
			return err
		}
		e := by.Entry(ctx, a.Now(), "policy.replace", "Policy", retentionPolicy)
		e.Attributes = []string{"deletedDays"}
		e.Changes = []storage.Change{storage.ChangeOf("deletedDays", prev.DeletedDays, next.DeletedDays)}
		return tx.Audit(e)
	})
}
