package api_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/internal/backup"
	"github.com/roster-id/roster/internal/dump"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// backedUp writes a backup of the world's store.
func (w *world) backedUp(t *testing.T) []byte {
	t.Helper()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := (&dump.BackupWriter{Store: w.Store, Schemas: set, Product: "test", Now: w.now}).Write(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// restored makes a world on a new store of a kind, with the same clock and key file.
func (w *world) restored(t *testing.T, file []byte, open func(testing.TB) storage.Store, policy *backup.Policy) *world {
	t.Helper()
	if open == nil {
		open = func(t testing.TB) storage.Store {
			s, err := sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{QueryTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := dump.VerifyBackup(t.Context(), bytes.NewReader(file), set, nil)
	if err != nil {
		t.Fatal(err)
	}
	policy.At = w.now()
	next := &world{}
	next.clock.Store(w.clock.Load())
	next.Server = testserver.Start(t, testserver.Options{
		Now: next.now, KeyFile: w.KeyFile, ClientName: "after", NoMail: true,
		Open: func(t testing.TB) storage.Store {
			s := open(t)
			r := &dump.Restorer{Store: s, Schemas: set, Now: w.now, Alter: policy.Alter, Changes: policy.Changes(whole)}
			if err := r.Restore(t.Context(), bytes.NewReader(file), whole); err != nil {
				t.Fatal(err)
			}
			return s
		},
	})
	return next
}

// TestRestore: what is in a backup is in the store that is made of it, of either kind, and
// nothing that could have been used or revoked since the backup lets anybody in (E4).
func TestRestore(t *testing.T) {
	shows(t, "E4")
	t.Parallel()
	kinds := stores(t)
	for from, open := range kinds {
		for to, openTo := range kinds {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				w := begin(t, testserver.Options{Open: open, NoMail: true})
				bossPerson := w.person(t, "boss", auth.GlobalAdministrator)
				boss := w.stepUp(t, bossPerson, w.mfa(t, bossPerson))
				tom := w.person(t, "tom")
				temporary := must[struct{ Password string }](t, w.post(t, "/admin/v1/users/"+tom.id+"/password-reset", boss.Token, nil), 200)
				w.person(t, "third")
				link := linkSecret(t, w.invite(t, boss.Token, object{"schemas": []string{schemas.InvitationURI}, "email": "ada@out.example"}))
				page := must[struct{ NextCursor string }](t, w.scim(t, w.Token, "GET", "/Users?cursor&count=1", ""), 200)
				cursor := "/Users?count=1&cursor=" + url.QueryEscape(page.NextCursor)
				must[object](t, w.scim(t, w.Token, "GET", cursor, ""), 200)
				delta := must[struct{ Value string }](t, w.scim(t, w.Token, "GET", "/Users/.deltaToken", ""), 200).Value
				delta = `{"schemas":["` + scim.DeltaRequestURI + `"],"deltaToken":"` + delta + `"}`
				must[object](t, w.scim(t, w.Token, "POST", "/Users/.delta", delta), 200)
				code := w.code(t, bossPerson)
				signIn := object{"name": bossPerson.name, "password": bossPerson.password, "passcode": code}
				file := w.backedUp(t)
				if bytes.Contains(file, []byte(boss.Token)) || bytes.Contains(file, []byte(bossPerson.secret)) {
					t.Error("the backup has a secret in the clear")
				}
				// What comes after it.
				must[signedIn](t, w.post(t, "/auth/v1/sign-in", "", signIn), 200)

				r := w.restored(t, file, openTo, &backup.Policy{})
				for name, answer := range map[string]testserver.Response{
					"a session":                           r.get(t, "/auth/v1/session", boss.Token),
					"a token of a client":                 r.scim(t, w.Token, "GET", "/Users", ""),
					"a passcode used after the backup":    r.post(t, "/auth/v1/sign-in", "", signIn),
					"a passcode of the moment, unused":    r.post(t, "/auth/v1/sign-in", "", object{"name": bossPerson.name, "password": bossPerson.password, "passcode": w.code(t, bossPerson)}),
					"a recovery code":                     r.post(t, "/auth/v1/sign-in", "", object{"name": bossPerson.name, "password": bossPerson.password, "recoveryCode": bossPerson.recovery[0]}),
					"a temporary password":                r.post(t, "/auth/v1/sign-in", "", object{"name": tom.name, "password": temporary.Password}),
					"the link of an invitation":           r.post(t, "/auth/v1/invitations/accept", "", object{"link": link, "password": goodPassword}),
					"a look at the link of an invitation": r.post(t, "/auth/v1/invitations/look", "", object{"link": link}),
				} {
					if answer.Status != 401 {
						t.Errorf("%s: %d %s, want 401", name, answer.Status, answer.Body)
					}
				}
				r.advance(2 * time.Minute)
				again := r.mfa(t, bossPerson) // the password and the app are what they were
				// Everybody is there, and the invitation can be sent anew.
				users := must[struct{ TotalResults int }](t, r.scim(t, again.Token, "GET", "/Users", ""), 200)
				if users.TotalResults != 3 {
					t.Errorf("%d users, want 3", users.TotalResults)
				}
				trail := r.allEntries(t)
				at := slices.IndexFunc(trail, func(e storage.AuditEntry) bool { return e.Action == "store.restore" })
				if before := w.allEntries(t); at < 0 || at > len(before) || trail[at].Actor != "operator" {
					t.Errorf("the entry of the restore stands at %d of %d", at, len(trail))
				}
				if report, err := audit.Verify(t.Context(), r.Store, storage.DefaultTenant, nil); err != nil || !report.OK() {
					t.Errorf("the trail: %+v, %v", report, err)
				}

				// An operator who knows that no token was revoked keeps them; cursors end.
				kept := w.restored(t, file, openTo, &backup.Policy{KeepTokens: true})
				must[object](t, kept.scim(t, w.Token, "GET", "/Users", ""), 200)
				if a := kept.scim(t, w.Token, "GET", cursor, ""); a.Status != 400 || !strings.Contains(a.Body, "invalidCursor") {
					t.Errorf("a cursor of before: %d %s, want 400 invalidCursor", a.Status, a.Body)
				}
				if a := kept.scim(t, w.Token, "POST", "/Users/.delta", delta); a.Status != 400 || !strings.Contains(a.Body, "invalidCursor") {
					t.Errorf("a delta token of before: %d %s, want 400 invalidCursor", a.Status, a.Body)
				}
				// One who knows which were revoked names them.
				id, _, _ := strings.Cut(strings.TrimPrefix(w.Token, "roster_"), "_")
				listed := w.restored(t, file, openTo, &backup.Policy{Listed: map[string]bool{id: true}})
				if a := listed.scim(t, w.Token, "GET", "/Users", ""); a.Status != 401 {
					t.Errorf("a token that was named: %d, want 401", a.Status)
				}
				others := w.restored(t, file, openTo, &backup.Policy{Listed: map[string]bool{"another": true}})
				must[json.RawMessage](t, others.scim(t, w.Token, "GET", "/Users", ""), 200)
			})
		}
	}
}

// TestRestoreEndsLinks: a link that one tenant may have cut since the backup leads nowhere
// after a restore; both make a new one.
func TestRestoreEndsLinks(t *testing.T) {
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		person := w.person(t, "boss", auth.GlobalAdministrator)
		boss := w.stepUp(t, person, w.mfa(t, person))
		w.founded(t, boss)
		file := w.backedUp(t)
		r := w.restored(t, file, nil, &backup.Policy{})
		r.advance(2 * time.Minute)
		again := r.mfa(t, person)
		if got := must[struct{ Links []accountLink }](t, r.get(t, "/auth/v1/account-links", again.Token), 200); len(got.Links) != 0 {
			t.Errorf("links that are there after a restore: %+v", got)
		}
		if a := r.post(t, "/auth/v1/tenants/acme/session", again.Token, nil); a.Status != 404 {
			t.Errorf("a move by a link of the backup: %d %s", a.Status, a.Body)
		}
	})
}
