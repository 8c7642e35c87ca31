package scim

import (
	"context"
	"errors"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// Inviting, beside what the protocol has words for: who invites may have to hand the
// link over, send it again, or withdraw it.

// Invite is Create for an invitation. Where no mail is set up, it returns the secret
// of the link as well, which is for the inviter to hand over, and is kept nowhere.
func (p *Provider) Invite(ctx context.Context, by auth.Principal, body any) (*storage.Resource, auth.Secret, error) {
	t := p.Schemas.Type(invitationType)
	var secret auth.Secret
	r, err := p.create(ctx, by, t, body, extra{handed: &secret})
	return r, secret, p.observe(t, "create", err)
}

// SendAgain makes a new link for an invitation that nobody has accepted, good for as
// long as a first one, and ends the one before. Whoever does so is the inviter from
// then on, and must be entitled to all that it promises. It returns what Invite does.
func (p *Provider) SendAgain(ctx context.Context, by auth.Principal, id string) (*storage.Resource, auth.Secret, error) {
	var secret auth.Secret
	r, err := p.sendAgain(ctx, by, id, &secret)
	return r, secret, p.observe(p.Schemas.Type(invitationType), "patch", err)
}

func (p *Provider) sendAgain(ctx context.Context, by auth.Principal, id string, handed *auth.Secret) (*storage.Resource, error) {
	t := p.Schemas.Type(invitationType)
	if err := p.allow(by, auth.Update, t); err != nil {
		return nil, err
	}
	if !ours(id) {
		return nil, storage.ErrNotFound
	}
	read, err := p.Store.Get(ctx, by.Tenant, t.Name, id)
	if err != nil {
		return nil, err
	}
	attrs, err := parseStored(t, read)
	if err != nil {
		return nil, err
	}
	email, _ := attrs["email"].(string) // it cannot change
	if attrs["status"] == statusPending {
		userName, _ := attrs["userName"].(string)
		if err := p.hasNoAccount(ctx, by.Tenant, email, userName); err != nil {
			return nil, err
		}
	}
	organisation, err := p.Organisation(ctx, by.Tenant)
	if err != nil {
		return nil, err
	}
	if by.Name, err = p.called(ctx, by); err != nil {
		return nil, err
	}
	var sent *storage.Resource
	err = p.withStanding(ctx, by, func(s *auth.Standing) error {
		return p.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
			d := p.decide(ctx, tx, by, s, p.now())
			r, prev, err := d.waiting(id)
			if err != nil {
				return err
			}
			attrs, err := parseStored(t, r)
			if err != nil {
				return err
			}
			in, err := invitedIn(attrs)
			if err != nil {
				return err
			}
			if err := d.invites(in); err != nil {
				return err
			}
			link, secret, err := auth.NewInvitation(by, id, email, p.stamp(by, attrs, d.now))
			if err != nil {
				return err
			}
			if err := d.alone(link); err != nil {
				return err
			}
			if err := auth.PutInvitation(tx, prev, link); err != nil {
				return err
			}
			if err := d.send(attrs, organisation, secret, link.Expires, handed); err != nil {
				return err
			}
			sent, err = d.rewrite(r, "send", d.now, func(attrs map[string]any) { p.stamp(by, attrs, d.now) })
			return err
		})
	})
	return sent, err
}

// Withdraw ends the link of an invitation that nobody has accepted, which stays to be
// looked at. It takes what taking away takes that the invitation promises.
func (p *Provider) Withdraw(ctx context.Context, by auth.Principal, id string) error {
	t := p.Schemas.Type(invitationType)
	return p.observe(t, "patch", p.withdraw(ctx, by, id))
}

func (p *Provider) withdraw(ctx context.Context, by auth.Principal, id string) error {
	t := p.Schemas.Type(invitationType)
	if err := p.allow(by, auth.Update, t); err != nil {
		return err
	}
	if !ours(id) {
		return storage.ErrNotFound
	}
	return p.withStanding(ctx, by, func(s *auth.Standing) error {
		return p.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
			d := p.decide(ctx, tx, by, s, p.now())
			r, _, err := d.waiting(id)
			if err != nil {
				return err
			}
			attrs, err := parseStored(t, r)
			if err != nil {
				return err
			}
			if err := d.withdraws(id, attrs); err != nil {
				return err
			}
			_, err = d.rewrite(r, "revoke", d.now, func(attrs map[string]any) {
				attrs["status"], attrs["statusReason"] = statusRevoked, withdrawn
			})
			return err
		})
	})
}

// waiting reads an invitation that nobody has accepted, and its link.
func (d *decision) waiting(id string) (*storage.Resource, *auth.Invitation, error) {
	r, err := d.tx.Get(invitationType, id)
	if err != nil {
		return nil, nil, err
	}
	if err := d.holds(r); err != nil {
		return nil, nil, err
	}
	link, err := auth.ReadInvitation(d.tx, id)
	if errors.Is(err, storage.ErrNotFound) {
		err = errEnded
	}
	return r, link, err
}
