package access

import (
	"cmp"
	"context"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/storage"
)

// toApprovers finds who is told of a request, and returns what puts the mail to them into
// a write.
func (d *Desk) toApprovers(ctx context.Context, by auth.Principal, role *auth.Role, r *Request) (func(storage.ItemWriter) error, error) {
	if d.Tell == nil {
		return func(storage.ItemWriter) error { return nil }, nil
	}
	list, _, err := d.approvers(ctx, by.Tenant, role, by.ID)
	if err != nil {
		return nil, err
	}
	asks, err := d.person(ctx, by.Tenant, by.ID)
	if err != nil {
		return nil, err
	}
	if asks == nil {
		return nil, storage.ErrNotFound
	}
	return func(tx storage.ItemWriter) error {
		for _, p := range list {
			err := d.tell(tx, by.Tenant, p, mail.RoleRequest, map[string]string{"requester": asks.called(), "role": role.Name(), "reason": r.Reason}, r.Asked)
			if err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// toRequester tells who has asked of the decision, and who decided only by a name that is
// no user name.
func (d *Desk) toRequester(tx storage.Tx, by auth.Principal, r *Request, now time.Time) error {
	if d.Tell == nil {
		return nil
	}
	asked, err := personIn(tx, r.User)
	if err != nil || asked == nil {
		return err
	}
	decider, err := personIn(tx, by.ID)
	if err != nil {
		return err
	}
	role, err := auth.ReadRole(tx, r.Role)
	if err != nil {
		return err
	}
	fields := map[string]string{"role": role.Name(), "decision": mail.Refused, "decider": "Roster", "reason": r.Why}
	if r.State == Approved {
		fields["decision"] = mail.Approved
	}
	if decider != nil {
		fields["decider"] = cmp.Or(decider.shown(), fields["decider"])
	}
	return d.tell(tx, by.Tenant, asked, mail.RoleDecided, fields, now)
}

// tell puts mail to somebody into a write. Who has no address is not told.
func (d *Desk) tell(tx storage.ItemWriter, tenant storage.TenantID, to *person, kind mail.Kind, fields map[string]string, now time.Time) error {
	if d.Tell == nil || to.email == "" {
		return nil
	}
	return d.Tell(tx, tenant, mail.Message{Kind: kind, To: to.email, Language: to.language, Fields: fields}, now)
}
