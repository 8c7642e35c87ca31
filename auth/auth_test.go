package auth

import (
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/google/uuid"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// allEvents and allOutcomes are all that Observe can be told.
var (
	allEvents = []string{
		eventSignIn, eventPasscode, eventRecovery, eventStepUp, eventCheck, eventEnrol, eventConfirm, eventPassword, eventSetup, eventMove,
		eventEmergency, eventLockout,
	}
	allOutcomes = []outcome{accepted, wrong, unknown, blocked, forbidden, locked, expired, replayed, poisoned, disabled, ended, early, busy, failed}
)

// directory is a store with people who sign in, a clock, and an Authenticator.
type directory struct {
	*Authenticator
	t     testing.TB
	clock *clock
	path  string // of the database

	mu       sync.Mutex
	observed []string // "event outcome"
	hashes   int
}

// clock is a time that the test sets.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

var loadSchemas = sync.OnceValue(func() *schemas.Set {
	set, err := schemas.Load()
	if err != nil {
		panic(err)
	}
	return set
})

// newDirectory makes one in a new embedded store.
func newDirectory(t testing.TB) *directory {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roster.db")
	store, err := sqlite.Open(t.Context(), path, sqlite.Options{QueryTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	d := directoryOn(t, store)
	d.path = path
	return d
}

func directoryOn(t testing.TB, store storage.Store) *directory {
	t.Helper()
	file := filepath.Join(t.TempDir(), "roster.keys")
	if err := CreateKeyFile(file); err != nil {
		t.Fatal(err)
	}
	keys, err := LoadKeyRing(file)
	if err != nil {
		t.Fatal(err)
	}
	d := &directory{t: t, clock: &clock{at: time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)}}
	d.Authenticator = d.another(store, keys)
	return d
}

// another makes an Authenticator as another process has it.
func (d *directory) another(store storage.Store, keys *KeyRing) *Authenticator {
	h := NewHasher()
	h.admitted = make(chan struct{}, 1000)
	h.others = argon2id.Params{Memory: 8, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}
	h.administrators = argon2id.Params{Memory: 16, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}
	h.worked = func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.hashes++
	}
	return &Authenticator{
		Store: store, Schemas: loadSchemas(), Hasher: h, Keys: keys, Now: d.clock.now, Policy: DefaultPolicy(),
		Observe: func(event, came string) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.observed = append(d.observed, event+" "+came)
			if !slices.Contains(allEvents, event) || !slices.Contains(allOutcomes, outcome(came)) {
				d.t.Errorf("observed %s %s, which is not in the vocabulary", event, came)
			}
		},
	}
}

var operator = Principal{Kind: Operator, Tenant: storage.DefaultTenant}

const goodPassword = "correct horse battery"

// add makes a user with goodPassword and returns the id.
func (d *directory) add(name string, administrator bool) string {
	d.t.Helper()
	id := uuid.Must(uuid.NewV7()).String()
	users := d.Schemas.Type("User")
	attrs := map[string]any{
		"schemas": []any{schemas.UserURI}, "id": id, "userName": name, "active": true,
		"emails": []any{map[string]any{"value": name + "@mail.example"}},
		"name":   map[string]any{"givenName": "Anastasia", "familyName": "Lindqvist"},

		schemas.RosterUserURI: map[string]any{"signInBy": "email"},
	}
	now := storage.Milli(d.clock.now())
	r := &storage.Resource{Type: "User", ID: id, Version: 1, Created: now, LastModified: now, Name: name, Doc: users.Document(attrs), Index: d.Store.NewIndex(storage.DefaultTenant, users, attrs)}
	hash, err := d.Hasher.hash(d.t.Context(), goodPassword, administrator)
	if err != nil {
		d.t.Fatal(err)
	}
	d.write(func(tx storage.Tx) error {
		if err := tx.Create(r); err != nil {
			return err
		}
		var c Credential
		c.SetPassword(hash, now)
		return SaveCredential(tx, id, &c)
	})
	if administrator {
		d.promote(id)
	}
	return id
}

// edit changes the attributes of a user.
func (d *directory) edit(id string, change func(attrs map[string]any)) {
	d.t.Helper()
	users := d.Schemas.Type("User")
	d.write(func(tx storage.Tx) error {
		prev, err := tx.Get("User", id)
		if err != nil {
			return err
		}
		attrs, err := users.Parse(prev.Doc)
		if err != nil {
			return err
		}
		change(attrs)
		next := *prev
		next.Version++
		next.Doc, next.Index = users.Document(attrs), d.Store.NewIndex(storage.DefaultTenant, users, attrs)
		return tx.Update(prev, &next)
	})
}

// promote makes a user a Global Administrator, and demote takes that back.
func (d *directory) promote(id string) {
	d.t.Helper()
	d.write(func(tx storage.Tx) error {
		g := &Grant{ID: uuid.Must(uuid.NewV7()).String(), Role: GlobalAdministrator, Principal: id, PrincipalType: PrincipalUser}
		return PutGrant(tx, nil, g, BuiltInRole(GlobalAdministrator))
	})
}

func (d *directory) demote(id string) {
	d.t.Helper()
	d.write(func(tx storage.Tx) error {
		list, err := GrantsTo(tx, id)
		for _, g := range list {
			err = errors.Join(err, DropGrant(tx, g, BuiltInRole(g.Role)))
		}
		return err
	})
}

// write makes a change that is audited as a test's.
func (d *directory) write(fn func(storage.Tx) error) {
	d.t.Helper()
	err := d.Store.Write(d.t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: storage.Milli(d.clock.now()), Actor: "operator", Action: "test", Type: "User", ID: "x"})
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// setActive blocks or unblocks a user and leaves sessions alone.
func (d *directory) setActive(id string, active bool) {
	d.t.Helper()
	d.edit(id, func(attrs map[string]any) { attrs["active"] = active })
}

func (d *directory) credential(user string) *Credential {
	d.t.Helper()
	c, err := FindCredential(d.t.Context(), d.Store, storage.DefaultTenant, user)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

var here = netip.MustParseAddr("192.0.2.7")

// give signs in with what is given: a password, and perhaps a passcode.
func (d *directory) give(name, password string, passcode ...string) (*SignInResult, error) {
	r := SignInRequest{Tenant: storage.DefaultTenant, Name: name, Password: Secret(password), From: here, Agent: "test"}
	if len(passcode) > 0 {
		r.Passcode = Secret(passcode[0])
	}
	return d.SignIn(d.t.Context(), r)
}

// enter signs in and returns the principal.
func (d *directory) enter(name string, passcode ...string) Principal {
	d.t.Helper()
	res, err := d.give(name, goodPassword, passcode...)
	if err != nil {
		d.t.Fatalf("sign in %s: %v", name, err)
	}
	return d.who(res.Token)
}

func (d *directory) who(token Secret) Principal {
	d.t.Helper()
	p, err := d.VerifySession(d.t.Context(), token.Reveal(), here)
	if err != nil {
		d.t.Fatalf("VerifySession: %v", err)
	}
	return p
}

// device is an authenticator app with recovery codes beside it.
type device struct {
	d      *directory
	secret string // base32
	codes  []Secret
}

// enrol gives a user a device, and returns the session in which that was done.
func (d *directory) enrol(name string) (*device, Principal) {
	d.t.Helper()
	p := d.enter(name)
	e, err := d.Enrol(d.t.Context(), p, "")
	if err != nil {
		d.t.Fatalf("Enrol: %v", err)
	}
	dev := &device{d: d, secret: e.Secret.Reveal()}
	res, err := d.ConfirmEnrolment(d.t.Context(), p, Secret(dev.code()))
	if err != nil {
		d.t.Fatalf("ConfirmEnrolment: %v", err)
	}
	dev.codes = res.RecoveryCodes
	return dev, d.who(res.Token)
}

// code returns the passcode of now.
func (dev *device) code() string { return dev.at(0) }

// at returns the passcode of a step from now.
func (dev *device) at(steps int64) string {
	code, err := hotp.GenerateCodeCustom(dev.secret, uint64(step(dev.d.clock.now())+steps), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		panic(err)
	}
	return code
}

// wrong returns a passcode that is none at the time.
func (dev *device) wrong() string {
	for n := 0; ; n++ {
		code := fmt.Sprintf("%06d", n)
		if code != dev.at(-1) && code != dev.at(0) && code != dev.at(1) {
			return code
		}
	}
}

// next waits until there is another passcode.
func (dev *device) next() string {
	dev.d.clock.advance(totpPeriod * time.Second)
	return dev.code()
}

func (dev *device) raw() []byte {
	b, err := base32.StdEncoding.DecodeString(dev.secret)
	if err != nil {
		panic(err)
	}
	return b
}

func (d *directory) seen(event, outcome string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.observed {
		if o == event+" "+outcome {
			n++
		}
	}
	return n
}

// actions returns what was audited, without the entries of the test.
func (d *directory) actions() (list []string) {
	d.t.Helper()
	entries, err := d.Store.AuditEntries(d.t.Context(), storage.DefaultTenant, 0, 10_000)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Action != "test" {
			list = append(list, e.Action)
		}
	}
	return list
}

func refused(err error) bool {
	_, ok := errors.AsType[*RefusedError](err)
	return ok
}

func lines(s []string) string { return strings.Join(s, "\n") }

func drop(tx storage.Tx, user string) error {
	_, err := DropSessions(tx, user)
	return err
}
