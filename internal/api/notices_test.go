package api_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/access"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// letters are the mails that were put into writes on one server, and what it counted.
type letters struct {
	mu      sync.Mutex
	list    []string
	full    error
	overdue int // reviews
}

// onStoresTold is onStores for servers that tell letters of their own.
func onStoresTold(t *testing.T, test func(*testing.T, *world, *letters)) {
	t.Helper()
	t.Parallel()
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			post := &letters{}
			test(t, begin(t, testserver.Options{Open: open, Access: func(d *access.Desk) { d.Tell, d.Overdue = post.tell, post.count }}), post)
		})
	}
}

func (l *letters) count(overdue int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.overdue = overdue
}

// tell notes a mail beside the write, and in it as an item, so that a write that fails
// leaves none.
func (l *letters) tell(tx storage.ItemWriter, _ storage.TenantID, m mail.Message, _ time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full != nil {
		return l.full
	}
	text := fmt.Sprintf("%s to %s (%s) %v", m.Kind, m.To, m.Language, m.Fields)
	l.list = append(l.list, text)
	return tx.PutItem(nil, &storage.Item{Kind: "letter", ID: fmt.Sprintf("%03d", len(l.list)), Data: []byte(fmt.Sprintf("%q", text))})
}

// sent returns the mails that became durable, sorted, and forgets them.
func (l *letters) sent(t *testing.T, w *world) (list []string) {
	t.Helper()
	items, err := w.Store.Items(t.Context(), storage.DefaultTenant, "letter", "")
	if err != nil {
		t.Fatal(err)
	}
	err = w.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		list = nil
		for _, i := range items {
			list = append(list, string(i.Data[1:len(i.Data)-1]))
			if err := tx.DeleteItem(i); err != nil {
				return err
			}
		}
		return tx.Audit(storage.AuditEntry{At: w.now(), Actor: "operator", Action: "x"})
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// reach gives somebody an address, a name and a language.
func (w *world) reach(t *testing.T, p *person, name, language string) {
	t.Helper()
	must[any](t, w.scim(t, w.Token, "PUT", "/Users/"+p.id, fmt.Sprintf(`{"schemas":[%q],"userName":%q,"displayName":%q,"preferredLanguage":%q,
		"emails":[{"value":"other@x.example"},{"value":"%s@x.example","primary":true}]}`, schemas.UserURI, p.name, name, language, p.name)), 200)
}

// TestRequestLetters: who may give a role is told that it is asked for, and who asked is
// told of the decision, if and only if it is written.
func TestRequestLetters(t *testing.T) {
	onStoresTold(t, func(t *testing.T, w *world, post *letters) {
		admin, helper, silent, bo := w.person(t, "admin"), w.person(t, "helper"), w.person(t, "silent"), w.person(t, "bo")
		w.reach(t, admin, "Ada Min", "sv")
		w.reach(t, helper, "Hal Per", "")
		w.reach(t, bo, "Bo Ek", "sv-FI")
		w.grant(t, storage.DefaultTenant, admin.id, auth.GlobalAdministrator)
		w.grant(t, storage.DefaultTenant, helper.id, auth.UserAdministrator)
		w.grant(t, storage.DefaultTenant, silent.id, auth.GlobalAdministrator) // has no address
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		role := w.create(t, boss.Token, "/Roles", `{"value":"deckhand","display":"Deckhand"}`)
		in := w.signIn(t, bo)
		post.full = errors.New("no more")
		if r := w.post(t, "/auth/v1/roles/requests", in.Token, object{"role": role, "reason": "summer"}); r.Status != 500 {
			t.Errorf("nobody can be told: %d %s", r.Status, r.Body)
		}
		post.full = nil
		if got := w.ownRequests(t, in.Token); len(got) != 0 {
			t.Errorf("a request that nobody could be told of: %+v", got)
		}
		asked := w.ask(t, in.Token, object{"role": role, "reason": "summer"})
		if r := w.post(t, "/auth/v1/roles/requests", in.Token, object{"role": role, "reason": "again"}); r.Status != 409 {
			t.Errorf("asked twice: %d", r.Status)
		}
		want := []string{
			"role-request to admin@x.example (sv) map[reason:summer requester:Bo Ek role:Deckhand]",
			"role-request to helper@x.example () map[reason:summer requester:Bo Ek role:Deckhand]",
		}
		if diff := cmp.Diff(want, post.sent(t, w)); diff != "" {
			t.Errorf("after the request (-want +got):\n%s", diff)
		}
		must[any](t, w.decide(t, asked.ID, boss.Token, "approve", "welcome"), 200)
		asked = w.ask(t, in.Token, object{"role": auth.Auditor, "reason": "y"})
		post.sent(t, w)
		must[any](t, w.decide(t, asked.ID, boss.Token, "deny", "no"), 200)
		if diff := cmp.Diff([]string{"role-decided to bo@x.example (sv-FI) map[decider:Ada Min decision:refused reason:no role:Auditor]"}, post.sent(t, w)); diff != "" {
			t.Errorf("after the denial (-want +got):\n%s", diff)
		}
	})
}

// TestReminders: reviewers are reminded before a review is due and again after each
// interval, once however many processes there are, until they have nothing left or it is
// closed; when it is overdue, who began it is told too, and the count says so.
func TestReminders(t *testing.T) {
	shows(t, "B5")
	onStoresTold(t, func(t *testing.T, w *world, post *letters) {
		admin, ana, bo, cy := w.person(t, "admin"), w.person(t, "ana"), w.person(t, "bo"), w.person(t, "cy")
		for _, p := range []*person{admin, ana, bo, cy} {
			w.reach(t, p, p.name, "")
		}
		for _, p := range []*person{admin, ana, bo, cy} {
			w.grant(t, storage.DefaultTenant, p.id, auth.GlobalAdministrator)
		}
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		role := w.create(t, boss.Token, "/Roles", `{"value":"crew"}`)
		assignment := w.assign(t, boss.Token, w.Users(t, 1)[0], role, "")
		w.assign(t, boss.Token, cy.id, role, "")
		due := w.now().Add(10 * 24 * time.Hour)
		made := w.review(t, boss.Token, object{"title": "Crew", "roles": []string{role}, "reviewers": []string{ana.id, bo.id}, "due": due, "remindDays": 3})
		other := *w.Access // in another process
		look := func() []string {
			t.Helper()
			var wg sync.WaitGroup
			for _, d := range []*access.Desk{w.Access, &other, w.Access, &other} {
				wg.Go(func() {
					if err := d.Look(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			return post.sent(t, w)
		}
		text := func(name string) string {
			return "review-reminder to " + name + "@x.example () map[due:" + due.Format(time.RFC3339) + " title:Crew]"
		}
		expect := func(when string, days int, count int, want ...string) {
			t.Helper()
			w.advance(time.Duration(days) * 24 * time.Hour)
			if diff := cmp.Diff(want, look()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
			post.mu.Lock()
			defer post.mu.Unlock()
			if post.overdue != count {
				t.Errorf("%s: %d are overdue, want %d", when, post.overdue, count)
			}
		}
		expect("at once", 0, 0)
		expect("four days before", 6, 0)
		expect("three days before", 1, 0, text("ana"), text("bo"))
		expect("two days before", 1, 0)
		entries, err := w.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		sent := slices.DeleteFunc(entries, func(e storage.AuditEntry) bool { return e.Action != "review.remind" })
		if len(sent) != 1 || sent[0].Actor != storage.SystemActor {
			t.Errorf("the audit trail tells of the reminder: %+v", sent)
		}
		expect("a day late, and four after the last", 3, 1, text("admin"), text("ana"), text("bo"))
		if got := must[review](t, w.get(t, "/admin/v1/reviews/"+made.ID, w.mfa(t, admin).Token), 200); !got.Overdue {
			t.Errorf("a day late: %+v", got)
		}
		in := w.stepUp(t, ana, w.mfa(t, ana))
		must[any](t, w.judge(t, in.Token, made.ID, assignment, "confirm", ""), 200)
		expect("one is decided about", 3, 1, text("admin"), text("ana"), text("bo"))
		in = w.mfa(t, ana)
		for _, x := range w.reviewed(t, in.Token, made.ID) {
			must[any](t, w.judge(t, in.Token, made.ID, x.Assignment, "confirm", ""), 200)
		}
		expect("all are decided about", 3, 1, text("admin"))
		expect("by a clock that is ahead", 40, 1, text("admin"))
		expect("which is right again", -37, 1, text("admin"))
		expect("a day later", 1, 1)
		expect("three days later", 2, 1, text("admin"))
		boss = w.mfa(t, admin)
		boss = w.stepUp(t, admin, boss)
		must[any](t, w.post(t, "/admin/v1/reviews/"+made.ID+"/close", boss.Token, object{}), 200)
		expect("closed", 9, 0)
	})
}

// TestReminderFails: a reminder that fails keeps no other from being sent.
func TestReminderFails(t *testing.T) {
	onStoresTold(t, func(t *testing.T, w *world, post *letters) {
		admin, ana := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "ana")
		w.reach(t, ana, "ana", "")
		w.grant(t, storage.DefaultTenant, ana.id, auth.GlobalAdministrator)
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		role := w.create(t, boss.Token, "/Roles", `{"value":"crew"}`)
		w.assign(t, boss.Token, w.Users(t, 1)[0], role, "")
		for _, title := range []string{"Deck", "Crew"} {
			w.review(t, boss.Token, object{"title": title, "roles": []string{role}, "reviewers": []string{ana.id}, "due": w.now().Add(24 * time.Hour), "remindDays": 3})
		}
		post.sent(t, w)
		failing := *w.Access
		failing.Tell = func(tx storage.ItemWriter, tenant storage.TenantID, m mail.Message, now time.Time) error {
			if m.Fields["title"] == "Deck" {
				return errors.New("it cannot be told")
			}
			return post.tell(tx, tenant, m, now)
		}
		if err := failing.Look(t.Context()); err == nil {
			t.Error("nothing failed")
		}
		if list := post.sent(t, w); len(list) != 1 || !strings.Contains(list[0], "title:Crew") {
			t.Errorf("sent: %v", list)
		}
	})
}

// TestRequestMail: what is told goes out as mail, and an address that is none keeps nobody
// from asking.
func TestRequestMail(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	bad, admin, bo := w.person(t, "bad"), w.person(t, "admin"), w.person(t, "bo")
	w.reach(t, admin, "Ada Min", "sv-SE")
	must[any](t, w.scim(t, w.Token, "PUT", "/Users/"+bad.id, fmt.Sprintf(`{"schemas":[%q],"userName":"bad","emails":[{"value":"not an address"}]}`, schemas.UserURI)), 200)
	w.grant(t, storage.DefaultTenant, admin.id, auth.GlobalAdministrator)
	w.grant(t, storage.DefaultTenant, bad.id, auth.GlobalAdministrator)
	desk := *w.Access
	desk.Tell = access.Post(w.Mail, "https://roster.example", slog.New(slog.DiscardHandler))
	by := auth.Principal{Kind: auth.User, Tenant: storage.DefaultTenant, ID: bo.id, Name: "bo"}
	if _, err := desk.Ask(t.Context(), by, auth.Auditor, "the audit", 0, time.Time{}); err != nil {
		t.Fatal(err)
	}
	letters := w.Outbox.Letters(t.Context(), 1)
	if len(letters) != 1 {
		t.Errorf("%d letters, want 1", len(letters))
	}
	if access.Post(nil, "https://roster.example", nil) != nil || access.Post(w.Mail, "", nil) != nil {
		t.Error("without mail, or an address of the server, somebody is told")
	}
}

// TestReminderMail: a reminder of a review, and what was decided about a request, arrive as
// mail, each in the language of who reads it (B5).
func TestReminderMail(t *testing.T) {
	shows(t, "B5")
	t.Parallel()
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var post atomic.Pointer[letterWriter]
			w := begin(t, testserver.Options{Open: open, Access: func(d *access.Desk) {
				d.Tell = func(tx storage.ItemWriter, tenant storage.TenantID, m mail.Message, now time.Time) error {
					return (*post.Load())(tx, tenant, m, now)
				}
			}})
			write := letterWriter(access.Post(w.Mail, "https://roster.example", slog.New(slog.DiscardHandler)))
			post.Store(&write)
			admin, ana, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "ana"), w.person(t, "bo")
			w.reach(t, ana, "Ana Ek", "sv-SE")
			w.reach(t, bo, "Bo Ek", "en")
			w.grant(t, storage.DefaultTenant, ana.id, auth.GlobalAdministrator)
			boss := w.stepUp(t, admin, w.mfa(t, admin))
			role := w.create(t, boss.Token, "/Roles", `{"value":"crew","display":"Crew"}`)
			w.assign(t, boss.Token, w.Users(t, 1)[0], role, "")
			w.review(t, boss.Token, object{"title": "Crew of June", "roles": []string{role}, "reviewers": []string{ana.id}, "due": w.now().Add(48 * time.Hour), "remindDays": 7})
			if err := w.Access.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			asked := w.ask(t, w.signIn(t, bo).Token, object{"role": role, "reason": "summer"})
			boss = w.stepUp(t, admin, boss)
			must[any](t, w.decide(t, asked.ID, boss.Token, "approve", "welcome"), 200)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			got := map[string]bool{}
			for _, l := range w.Outbox.Letters(ctx, 3) {
				line := l.To + " " + l.Language
				for _, text := range []string{"Crew of June", "summer", "welcome"} {
					if strings.Contains(l.Text, text) && strings.Contains(l.HTML, text) {
						line += " " + text
					}
				}
				got[line] = true
			}
			want := map[string]bool{"ana@x.example sv Crew of June": true, "ana@x.example sv summer": true, "bo@x.example en welcome": true}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the letters (-want +got):\n%s", diff)
			}
		})
	}
}

type letterWriter func(storage.ItemWriter, storage.TenantID, mail.Message, time.Time) error
