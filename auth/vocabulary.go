package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/storage"
)

// vocabularyPolicy is the name of the policy that Vocabulary is.
const vocabularyPolicy = "vocabulary"

// Vocabulary says which words a user's attributes may have.
type Vocabulary struct {
	// Roles: only the business roles of the tenant, by value or id, in roles.
	Roles bool `json:"roles"`
	// Entitlements: only the entitlements of the tenant, by value or id, in entitlements.
	Entitlements bool `json:"entitlements"`
}

// FindVocabulary returns the Vocabulary of a tenant; the zero one if it never chose
// another.
func FindVocabulary(ctx context.Context, items storage.Items, tenant storage.TenantID) (Vocabulary, error) {
	return vocabularyFrom(items.Item(ctx, tenant, policyKind, vocabularyPolicy))
}

func vocabularyFrom(i *storage.Item, err error) (v Vocabulary, _ error) {
	if errors.Is(err, storage.ErrNotFound) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(i.Data, &v, json.RejectUnknownMembers(true)); err != nil {
		return v, errors.New("the policy for the words in roles and entitlements cannot be read by this version")
	}
	return v, nil
}

// PutVocabulary sets the Vocabulary of the tenant of whoever asks.
func (a *Authenticator) PutVocabulary(ctx context.Context, by Principal, next Vocabulary) error {
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("a policy cannot be written: %w", err)
	}
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		item, err := tx.Item(policyKind, vocabularyPolicy)
		prev, rerr := vocabularyFrom(item, err)
		if rerr != nil {
			return rerr
		}
		if err := tx.PutItem(item, &storage.Item{Kind: policyKind, ID: vocabularyPolicy, Data: data}); err != nil {
			return err
		}
		e := by.Entry(ctx, a.Now(), "policy.replace", "Policy", vocabularyPolicy)
		for _, c := range []struct {
			name     string
			was, now bool
		}{{"roles", prev.Roles, next.Roles}, {"entitlements", prev.Entitlements, next.Entitlements}} {
			if c.was != c.now {
				e.Attributes = append(e.Attributes, c.name)
				e.Changes = append(e.Changes, storage.ChangeOf(c.name, c.was, c.now))
			}
		}
		return tx.Audit(e)
	})
}
