package api_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// world is a server whose clock the test moves.
type world struct {
	*testserver.Server
	clock      atomic.Int64 // Unix milliseconds
	feedPerson *person      // who signs in with mfaAgain
}

func begin(t *testing.T, opt testserver.Options) *world {
	t.Helper()
	w := &world{}
	w.clock.Store(time.Now().Truncate(30 * time.Second).UnixMilli())
	opt.Now = w.now
	w.Server = testserver.Start(t, opt)
	kind := "SQLite"
	if _, ok := w.Store.(*mongo.Store); ok {
		kind = "MongoDB"
	}
	ranOn(t, kind)
	return w
}

func (w *world) now() time.Time          { return time.UnixMilli(w.clock.Load()).UTC() }
func (w *world) advance(d time.Duration) { w.clock.Add(d.Milliseconds()) }

// person is somebody with a password, and perhaps a passcode app.
type person struct {
	tenant             storage.TenantID // "" for the default one
	id, name, password string
	secret             string
	recovery           []string
}

const goodPassword = "correct horse battery staple"

// person makes somebody, who holds roles for good.
func (w *world) person(t *testing.T, name string, roles ...string) *person {
	t.Helper()
	return w.personOf(t, "", w.Token, name, roles...)
}

// personOf is person for the tenant of a client with a token.
func (w *world) personOf(t *testing.T, tenant storage.TenantID, token, name string, roles ...string) *person {
	t.Helper()
	p := w.pushed(t, token, name)
	p.tenant = tenant
	w.own(t, cmp.Or(tenant, storage.DefaultTenant), p.id)
	for _, role := range roles {
		w.grant(t, cmp.Or(tenant, storage.DefaultTenant), p.id, role)
	}
	return p
}

// pushed makes somebody whose password came over SCIM and is nobody's own.
func (w *world) pushed(t *testing.T, token, name string) *person {
	t.Helper()
	p := &person{name: name, password: goodPassword}
	r := w.Do(t, "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":%q,"password":%q}`, schemas.UserURI, name, p.password), "Authorization", "Bearer "+token)
	var created struct{ ID string }
	if err := json.Unmarshal([]byte(r.Body), &created); err != nil || r.Status != 201 {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	p.id = created.ID
	return p
}

// own makes the password of a user one that they chose themselves.
func (w *world) own(t *testing.T, tenant storage.TenantID, user string) {
	t.Helper()
	err := w.Store.Write(t.Context(), tenant, func(tx storage.Tx) error {
		c, err := auth.ReadCredential(tx, user)
		if err != nil {
			return err
		}
		c.Pushed = false
		if err := auth.SaveCredential(tx, user, c); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: w.now(), Actor: "operator", Action: "password.own", Type: "User", ID: user})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// grant gives somebody a role, past all decisions.
func (w *world) grant(t *testing.T, tenant storage.TenantID, user, role string) {
	t.Helper()
	err := w.Store.Write(t.Context(), tenant, func(tx storage.Tx) error {
		g := &auth.Grant{ID: uuid.NewString(), Role: role, Principal: user, PrincipalType: auth.PrincipalUser}
		if err := auth.PutGrant(tx, nil, g, auth.BuiltInRole(role)); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: w.now(), Actor: "operator", Action: "roleassignment.create", Type: "RoleAssignment", ID: g.ID})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// signedIn is the answer to what begins or raises a session.
type signedIn struct {
	Token, Session, User, Level string
	Missing                     []string
	RecoveryCodes               []string
}

// post sends JSON with a session's token, or none.
func (w *world) post(t *testing.T, path, token string, body any) testserver.Response {
	t.Helper()
	header := []string{}
	if token != "" {
		header = append(header, "Authorization", "Bearer "+token)
	}
	text := ""
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
		header = append(header, "Content-Type", "application/json")
	}
	return w.send(t, "POST", path, text, header...)
}

func (w *world) get(t *testing.T, path, token string) testserver.Response {
	t.Helper()
	return w.send(t, "GET", path, "", "Authorization", "Bearer "+token)
}

func (w *world) send(t *testing.T, method, path, body string, header ...string) testserver.Response {
	t.Helper()
	r, err := w.Page(t.Context(), method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// must reads the answer to something that has to work.
func must[T any](t *testing.T, r testserver.Response, status int) (v T) {
	t.Helper()
	if r.Status != status {
		t.Fatalf("%d %s, want %d", r.Status, r.Body, status)
	}
	if r.Body != "" {
		if err := json.Unmarshal([]byte(r.Body), &v); err != nil {
			t.Fatalf("%v: %s", err, r.Body)
		}
	}
	return v
}

type object = map[string]any

// signIn signs in with the password alone. The address has as many attempts as it
// likes, for a minute goes by before each.
func (w *world) signIn(t *testing.T, p *person) signedIn {
	t.Helper()
	w.advance(time.Minute)
	return must[signedIn](t, w.post(t, "/auth/v1/sign-in", "", object{"tenant": p.tenant, "name": p.name, "password": p.password}), 200)
}

// code returns a passcode that has not been used.
func (w *world) code(t *testing.T, p *person) string {
	t.Helper()
	w.advance(30 * time.Second)
	code, err := totp.GenerateCode(p.secret, w.now())
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// enrol gives somebody a passcode app and returns the session of level MFA that
// comes of it.
func (w *world) enrol(t *testing.T, p *person) signedIn {
	t.Helper()
	in := w.signIn(t, p)
	e := must[struct{ Secret, URI, QR string }](t, w.post(t, "/auth/v1/totp", in.Token, object{}), 200)
	if !strings.HasPrefix(e.URI, "otpauth://totp/") || !strings.HasPrefix(e.QR, "data:image/png;base64,") {
		t.Errorf("the enrolment is %s", e.URI)
	}
	p.secret = e.Secret
	out := must[signedIn](t, w.post(t, "/auth/v1/totp/confirm", in.Token, object{"code": w.code(t, p)}), 200)
	if out.Level != "mfa" || len(out.RecoveryCodes) != 10 {
		t.Fatalf("after the enrolment: %+v", out)
	}
	p.recovery = out.RecoveryCodes
	return out
}

// mfa signs in with password and passcode.
func (w *world) mfa(t *testing.T, p *person) signedIn {
	t.Helper()
	if p.secret == "" {
		return w.enrol(t, p)
	}
	w.advance(time.Minute)
	out := must[signedIn](t, w.post(t, "/auth/v1/sign-in", "", object{"tenant": p.tenant, "name": p.name, "password": p.password, "passcode": w.code(t, p)}), 200)
	if out.Level != "mfa" {
		t.Fatalf("with a passcode: %+v", out)
	}
	return out
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func trusting(o *server.Options) { o.TrustedProxies = loopback }

// patience ends tests that would hang: longer than a message can wait in the queue that
// was not there yet when it was looked for.
const patience = 2 * time.Minute

// settled waits until something holds that is done beside requests.
func settled(t *testing.T, fn func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if fn() {
			return
		}
	}
	t.Fatal("it did not happen")
}

const patchURI = patch.MessageURI

// patching is a PATCH of these operations.
func patching(operations string) string {
	return `{"schemas":["` + patchURI + `"],"Operations":[` + operations + `]}`
}

// stores opens a new store of each kind.
func stores(t *testing.T) map[string]func(testing.TB) storage.Store {
	t.Helper()
	database := mongotest.Start(t)
	return map[string]func(testing.TB) storage.Store{
		"sqlite": nil, // what is opened if nobody says
		"mongo": func(t testing.TB) storage.Store {
			t.Helper()
			s, err := mongo.Open(t.Context(), database.URI(database.NewDatabase(t)), mongo.Options{QueryTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	}
}

// onStores runs a test beside others, on a server with a new store of each kind.
func onStores(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	onStoresWith(t, testserver.Options{}, test)
}

// onStoresWith is onStores for a server that is set up in another way.
func onStoresWith(t *testing.T, opt testserver.Options, test func(*testing.T, *world)) {
	t.Helper()
	t.Parallel()
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt := opt
			opt.Open = open
			test(t, begin(t, opt))
		})
	}
}
