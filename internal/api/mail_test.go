package api_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// refusing is a Sender that refuses whatever is for an address that begins with
// "no", until it is told otherwise.
type refusing struct {
	mail.Outbox
	mu     sync.Mutex
	lenity bool
}

func (r *refusing) Send(ctx context.Context, l *mail.Letter) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.HasPrefix(l.To, "no") && !r.lenity {
		return &mail.SendError{Reason: mail.ReasonRefused, Code: 550, Permanent: true}
	}
	return r.Outbox.Send(ctx, l)
}

// queue puts an invitation into the queue.
func (w *world) queue(t *testing.T, to string, expires time.Time) {
	t.Helper()
	err := w.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		m := mail.Message{Kind: mail.Invitation, To: to, Fields: map[string]string{
			"inviter": "Ana", "message": "zqxmessage", "link": "https://roster.example.com/#zqxlink", "expires": expires.Format(time.RFC3339), "organisation": "",
		}}
		if err := w.Mail.Put(tx, storage.DefaultTenant, m, w.now()); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: w.now(), Actor: "operator", Action: "cause", Type: "Test"})
	})
	if err != nil {
		t.Fatal(err)
	}
}

type mailList struct {
	Enabled  bool
	Total    int
	Messages []struct {
		ID, Kind, To, State, Reason string
		Code, Attempts              int
		Next                        time.Time
	}
}

// TestMail: an administrator sees what could not be sent, without what it says, has it tried
// again, and discards it.
func TestMail(t *testing.T) {
	t.Parallel()
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sender := &refusing{}
			w := begin(t, testserver.Options{Open: open, Sender: sender})
			admin := w.person(t, "admin", auth.GlobalAdministrator)
			in := w.mfa(t, admin)
			until := w.now().Add(24 * time.Hour)
			// The last one shows that the others have been tried.
			for _, to := range []string{"no1@example.com", "no2@example.com", "ana@example.com"} {
				w.queue(t, to, until)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if got := sender.Letters(ctx, 1); len(got) != 1 || got[0].To != "ana@example.com" {
				t.Fatalf("sent: %+v", got)
			}
			var list mailList
			settled(t, func() bool {
				r := w.get(t, "/admin/v1/mail", in.Token)
				list = must[mailList](t, r, 200)
				if strings.Contains(r.Body, "zqx") {
					t.Errorf("the list has what messages say: %s", r.Body)
				}
				return list.Total == 2 && list.Messages[0].State == mail.StateDead && list.Messages[1].State == mail.StateDead
			})
			for n, m := range list.Messages {
				if want := fmt.Sprintf("no%d@example.com", 2-n); m.To != want || m.Kind != "invitation" || m.Reason != "refused" || m.Code != 550 || m.Attempts != 1 || !m.Next.IsZero() || !list.Enabled {
					t.Errorf("%+v, want that of %s", m, want)
				}
			}
			sender.mu.Lock()
			sender.lenity = true
			sender.mu.Unlock()
			path := func(n int) string { return "/admin/v1/mail/" + list.Messages[n].ID }
			must[struct{}](t, w.post(t, path(0)+"/retry", in.Token, nil), 204)
			if got := sender.Letters(ctx, 2); len(got) != 2 || got[1].To != "no2@example.com" || got[1].ID != list.Messages[0].ID {
				t.Errorf("sent: %+v", got)
			}
			must[struct{}](t, w.send(t, "DELETE", path(1), "", "Authorization", "Bearer "+in.Token), 204)
			for _, r := range []testserver.Response{
				w.post(t, path(1)+"/retry", in.Token, nil), w.send(t, "DELETE", path(1), "", "Authorization", "Bearer "+in.Token),
			} {
				if r.Status != 404 {
					t.Errorf("what was discarded: %d %s", r.Status, r.Body)
				}
			}
			settled(t, func() bool { return must[mailList](t, w.get(t, "/admin/v1/mail", in.Token), 200).Total == 0 })

			entries, err := w.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				if e.Action == "mail.retry" || e.Action == "mail.discard" {
					line := fmt.Sprintf("%s by %s at %s of %s %s:", e.Action, e.Actor, e.Level, e.Type, e.ID)
					for _, c := range e.Changes {
						line += fmt.Sprintf(" %s %s->%s", c.Path, c.Before, c.After)
					}
					got = append(got, line)
				}
				if text := fmt.Sprintf("%+v", e); strings.HasPrefix(e.Action, "mail.") && (strings.Contains(text, "zqx") || strings.Contains(text, "@example.com")) {
					t.Errorf("the trail has what is in mail: %s", text)
				}
			}
			want := []string{
				"mail.retry by user:" + admin.id + " at mfa of Mail " + list.Messages[0].ID + `: state "dead"->"waiting"`,
				"mail.discard by user:" + admin.id + " at mfa of Mail " + list.Messages[1].ID + `: state "dead"->`,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestMailExpired: what has expired cannot be sent again.
func TestMailExpired(t *testing.T) {
	onStoresWith(t, testserver.Options{Sender: &refusing{}}, func(t *testing.T, w *world) {
		in := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator))
		w.queue(t, "no@example.com", w.now().Add(time.Minute))
		var list mailList
		settled(t, func() bool {
			list = must[mailList](t, w.get(t, "/admin/v1/mail", in.Token), 200)
			return list.Total == 1 && list.Messages[0].State == mail.StateDead
		})
		w.advance(time.Minute)
		if r := w.post(t, "/admin/v1/mail/"+list.Messages[0].ID+"/retry", in.Token, nil); r.Status != 409 || !strings.Contains(r.Body, mail.ErrExpired.Error()) {
			t.Errorf("%d %s", r.Status, r.Body)
		}
	})
}

// TestNoMail: a server that sends no mail says so.
func TestNoMail(t *testing.T) {
	onStoresWith(t, testserver.Options{NoMail: true}, func(t *testing.T, w *world) {
		in := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator))
		if list := must[mailList](t, w.get(t, "/admin/v1/mail", in.Token), 200); list.Enabled || list.Total != 0 {
			t.Errorf("%+v", list)
		}
		if r := w.post(t, "/admin/v1/mail/"+nobody+"/retry", in.Token, nil); r.Status != 409 || !strings.Contains(r.Body, mail.ErrDisabled.Error()) {
			t.Errorf("%d %s", r.Status, r.Body)
		}
	})
}
