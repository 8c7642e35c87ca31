package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/mail"
)

// MailList is the mail of a tenant that has not been sent.
type MailList struct {
	Enabled  bool   `json:"enabled"` // this server sends mail
	Total    int    `json:"total"`
	Messages []Mail `json:"messages"` // the newest ones, at most 500
}

// Mail is a message that has not been sent, without what it says.
type Mail struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`
	To       string    `json:"to,omitempty"`
	State    string    `json:"state"`
	Queued   time.Time `json:"queued"`
	Next     time.Time `json:"next,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`
	Attempts int       `json:"attempts"`
	Reason   string    `json:"reason,omitempty"`
	Code     int       `json:"code,omitempty"`
}

func (a *API) mail(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, total, err := a.Mail.List(r.Context(), by.Tenant)
	if err != nil {
		return err
	}
	out := MailList{Enabled: a.Mail.Enabled(), Total: total, Messages: make([]Mail, len(list))}
	for i, m := range list {
		out.Messages[i] = Mail{
			ID: m.ID, Kind: string(m.Kind), To: m.To, State: m.State, Queued: m.Queued, Next: m.Next, Expires: m.Expires,
			Attempts: m.Attempts, Reason: string(m.Reason), Code: m.Code,
		}
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) retryMail(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Mail.Retry(r.Context(), by.Tenant, pathID(r), by.Entry(r.Context(), a.Now(), "mail.retry", "Mail", pathID(r))); err != nil {
		return mailProblem(err)
	}
	return done(w)
}

func (a *API) discardMail(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Mail.Discard(r.Context(), by.Tenant, pathID(r), by.Entry(r.Context(), a.Now(), "mail.discard", "Mail", pathID(r))); err != nil {
		return err
	}
	return done(w)
}

func mailProblem(err error) error {
	for _, known := range []error{mail.ErrSending, mail.ErrExpired} {
		if errors.Is(err, known) {
			return conflict("The message cannot be sent again", known.Error())
		}
	}
	return err
}
