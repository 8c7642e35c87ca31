package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// TestOutcomes makes every outcome happen that signing in, passcodes, stepping up and
// lockouts can have over HTTP, and finds it in /metrics, and no other beside it.
// Outcomes that take a fault at a certain moment are left out: a user blocked between
// the two writes of a passcode.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{Server: trusting})
	admin := w.person(t, "admin", auth.GlobalAdministrator)
	freshly := func() string { return w.mfa(t, admin).Token }
	enrolled := func(name string) *person {
		p := w.person(t, name)
		w.enrol(t, p)
		return p
	}
	signIn := func(p *person, more object) testserver.Response {
		if more["passcode"] == nil { // or else time has gone by for that
			w.advance(time.Minute)
		}
		body := object{"name": p.name, "password": p.password}
		maps.Copy(body, more)
		return w.post(t, "/auth/v1/sign-in", "", body)
	}
	wrong := func(p *person) object { return object{"passcode": wrongCode(w.code(t, p))} }
	session := func(p *person) string { return must[signedIn](t, signIn(p, nil), 200).Token }
	full := func(p *person) string {
		return must[signedIn](t, signIn(p, object{"passcode": w.code(t, p)}), 200).Token
	}
	give := func(path, token, code string) { w.post(t, path, token, object{"code": code}) }
	const passcode, recovery, stepUp, check = "/auth/v1/passcode", "/auth/v1/recovery-code", "/auth/v1/step-up", "/auth/v1/totp/check"
	// credential changes what is stored of somebody, past everything.
	credential := func(p *person, fn func(*auth.Credential)) {
		err := w.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
			c, err := auth.ReadCredential(tx, p.id)
			if err != nil {
				return err
			}
			fn(c)
			if err := auth.SaveCredential(tx, p.id, c); err != nil {
				return err
			}
			return tx.Audit(storage.AuditEntry{At: w.now(), Actor: "operator", Action: "test"})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	lastStep := func(ahead int64) func(*auth.Credential) {
		return func(c *auth.Credential) { c.TOTP.LastStep = w.now().Unix()/30 + ahead }
	}
	broken := func(c *auth.Credential) { c.TOTP.Sealed[len(c.TOTP.Sealed)-1] ^= 1 }
	disabled := func(c *auth.Credential) { c.Throttle.FactorDisabled = true }
	locked := func(c *auth.Credential) {
		c.Throttle.Known.LockedUntil = w.now().Add(10 * time.Minute)
		c.Throttle.Lane, c.Throttle.Inside = c.Throttle.Known, c.Throttle.Known
	}

	const signIns, passcodes, stepUps, lockouts = "roster_signin_total", "roster_passcode_total", "roster_stepup_total", "roster_lockouts_total"
	seen := map[string]map[string]bool{signIns: {}, passcodes: {}, stepUps: {}, lockouts: {}}
	for _, c := range []struct {
		metric, outcome string
		times           int
		do              func() func()
	}{
		{signIns, "ok", 1, func() func() { p := w.person(t, "s1"); return func() { signIn(p, nil) } }},
		{signIns, "wrong", 2, func() func() {
			p := enrolled("s2")
			return func() { signIn(p, object{"password": "wrong"}); signIn(p, wrong(p)) }
		}},
		{signIns, "unknown", 1, func() func() { return func() { signIn(&person{name: "nobody", password: "x"}, nil) } }},
		{signIns, "blocked", 1, func() func() {
			p := w.person(t, "s3")
			w.Do(t, "PATCH", "/Users/"+p.id, patching(`{"op":"replace","path":"active","value":false}`))
			return func() { signIn(p, nil) }
		}},
		{signIns, "forbidden", 1, func() func() {
			p := w.person(t, "s4", auth.GuestInviter)
			must[any](t, w.post(t, "/admin/v1/rules", freshly(), object{"name": "x", "state": "on", "when": object{"roles": []string{auth.GuestInviter}}, "then": "block"}), 201)
			return func() { signIn(p, nil) }
		}},
		{signIns, "locked", 1, func() func() {
			p := enrolled("s5")
			return func() { credential(p, locked); signIn(p, nil) }
		}},
		{signIns, "expired", 1, func() func() {
			p := w.person(t, "s6")
			p.password = must[struct{ Password string }](t, w.post(t, "/admin/v1/users/"+p.id+"/password-reset", freshly(), nil), 200).Password
			session(p)
			return func() { signIn(p, nil) }
		}},
		{signIns, "replayed", 1, func() func() {
			p := enrolled("s7")
			code := w.code(t, p)
			w.post(t, "/auth/v1/sign-in", "", object{"name": p.name, "password": p.password, "passcode": code})
			return func() {
				w.post(t, "/auth/v1/sign-in", "", object{"name": p.name, "password": p.password, "passcode": code})
			}
		}},
		{signIns, "poisoned", 1, func() func() {
			p := enrolled("s8")
			return func() { code := w.code(t, p); credential(p, lastStep(100)); signIn(p, object{"passcode": code}) }
		}},
		{signIns, "disabled", 1, func() func() {
			p := enrolled("s9")
			credential(p, disabled)
			return func() { signIn(p, object{"passcode": w.code(t, p)}) }
		}},
		{signIns, "error", 1, func() func() {
			p := enrolled("s10")
			credential(p, broken)
			return func() { signIn(p, object{"passcode": w.code(t, p)}) }
		}},
		{passcodes, "ok", 3, func() func() {
			p := enrolled("p1")
			one, two := session(p), session(p)
			return func() {
				in := must[signedIn](t, w.post(t, passcode, one, object{"code": w.code(t, p)}), 200)
				give(check, in.Token, w.code(t, p))
				give(recovery, two, p.recovery[0])
			}
		}},
		{passcodes, "wrong", 3, func() func() {
			p := enrolled("p2")
			token := session(p)
			return func() {
				for _, path := range []string{passcode, recovery, check} {
					give(path, token, wrongCode(w.code(t, p)))
				}
			}
		}},
		{passcodes, "replayed", 1, func() func() {
			p := enrolled("p3")
			token, code := session(p), w.code(t, p)
			in := must[signedIn](t, w.post(t, passcode, token, object{"code": code}), 200)
			return func() { give(check, in.Token, code) }
		}},
		{passcodes, "poisoned", 1, func() func() {
			p := enrolled("p4")
			token := session(p)
			return func() { code := w.code(t, p); credential(p, lastStep(100)); give(passcode, token, code) }
		}},
		{passcodes, "locked", 1, func() func() {
			p := enrolled("p5")
			token := session(p)
			return func() { credential(p, locked); give(passcode, token, w.code(t, p)) }
		}},
		{passcodes, "disabled", 2, func() func() {
			p := enrolled("p6")
			token := session(p)
			credential(p, disabled)
			return func() { give(passcode, token, w.code(t, p)); give(recovery, token, p.recovery[0]) }
		}},
		{passcodes, "error", 1, func() func() {
			p := enrolled("p7")
			token := session(p)
			credential(p, broken)
			return func() { give(passcode, token, w.code(t, p)) }
		}},
		{passcodes, "ended", 1, func() func() {
			p := enrolled("p8")
			token, code := session(p), w.code(t, p)
			w.get(t, "/auth/v1/session", token) // so that this process knows it, for half a second
			w.Do(t, "DELETE", "/Users/"+p.id, "")
			return func() { give(passcode, token, code) }
		}},
		{stepUps, "ok", 1, func() func() {
			p := enrolled("u1")
			token := full(p)
			return func() { give(stepUp, token, w.code(t, p)) }
		}},
		{stepUps, "wrong", 1, func() func() {
			p := enrolled("u2")
			token := full(p)
			return func() { give(stepUp, token, wrongCode(w.code(t, p))) }
		}},
		{stepUps, "replayed", 1, func() func() {
			p := enrolled("u3")
			code := w.code(t, p)
			in := must[signedIn](t, w.post(t, "/auth/v1/sign-in", "", object{"name": p.name, "password": p.password, "passcode": code}), 200)
			return func() { give(stepUp, in.Token, code) }
		}},
		{stepUps, "poisoned", 1, func() func() {
			p := enrolled("u4")
			token := full(p)
			return func() { code := w.code(t, p); credential(p, lastStep(100)); give(stepUp, token, code) }
		}},
		{stepUps, "locked", 1, func() func() {
			p := enrolled("u5")
			token := full(p)
			return func() { credential(p, locked); give(stepUp, token, w.code(t, p)) }
		}},
		{stepUps, "disabled", 1, func() func() {
			p := enrolled("u6")
			token := full(p)
			credential(p, disabled)
			return func() { give(stepUp, token, w.code(t, p)) }
		}},
		{stepUps, "error", 1, func() func() {
			p := enrolled("u7")
			token := full(p)
			credential(p, broken)
			return func() { give(stepUp, token, w.code(t, p)) }
		}},
		{stepUps, "ended", 1, func() func() {
			p := enrolled("u8")
			token := full(p)
			code := w.code(t, p)
			w.get(t, "/auth/v1/session", token)
			w.Do(t, "DELETE", "/Users/"+p.id, "")
			return func() { give(stepUp, token, code) }
		}},
		{lockouts, "locked", 1, func() func() {
			p := w.person(t, "l1")
			return func() {
				for range 5 {
					signIn(p, object{"password": "wrong"})
				}
			}
		}},
		{lockouts, "disabled", 1, func() func() {
			p := enrolled("l2")
			credential(p, func(c *auth.Credential) { c.Throttle.FactorFailures = 19 })
			return func() { signIn(p, wrong(p)) }
		}},
	} {
		do := c.do()
		before := w.metric(t, c.metric)
		do()
		got := w.metric(t, c.metric)
		want := maps.Clone(before)
		want[c.outcome] += c.times
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", c.metric, c.outcome, diff)
		}
		seen[c.metric][c.outcome] = true
	}

	// More at once than wait for a hash: those beyond are told to come again. A machine with much
	// else to do may let them in one after the other.
	p := w.person(t, "many")
	busy := 0
	before := w.metric(t, signIns)["busy"]
	text, _ := json.Marshal(object{"name": p.name, "password": "wrong"})
	for try := 0; try < 20 && busy == 0; try++ {
		var wait sync.WaitGroup
		var mu sync.Mutex
		for n := range 80 {
			wait.Go(func() {
				r, err := w.Page(t.Context(), "POST", "/auth/v1/sign-in", string(text), "Content-Type", "application/json", "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", n))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if r.Status == http.StatusServiceUnavailable && r.Header.Get("Retry-After") != "" {
					busy++
				}
			})
		}
		wait.Wait()
	}
	if got := w.metric(t, signIns)["busy"] - before; got != busy || got == 0 {
		t.Errorf("%d counted as busy, %d were told so", got, busy)
	}
	for metric, least := range map[string]int{signIns: 11, passcodes: 8, stepUps: 8, lockouts: 2} {
		if len(seen[metric]) != least {
			t.Errorf("%s: %d outcomes, want %d", metric, len(seen[metric]), least)
		}
	}
}

// wrongCode returns another code than one.
func wrongCode(code string) string { return code[1:] + string('0'+(code[0]-'0'+1)%10) }

// metric returns a counter by its outcome, as /metrics tells it.
func (w *world) metric(t *testing.T, name string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^`+name+`(?:\{outcome="(\w+)"\})? (\S+)$`).FindAllStringSubmatch(w.Metrics(t), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		counts[m[1]] = n
	}
	return counts
}

// TestEmergencyUse: a sign-in to an account for emergencies is in the log, in the
// metrics and in the audit trail, beside that it was a sign-in; one to another account,
// and one that fails, is not.
func TestEmergencyUse(t *testing.T) {
	shows(t, "B9")
	t.Parallel()
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log testserver.Log
			emergencyUse(t, begin(t, testserver.Options{Open: open, Log: log.Logger()}), &log)
		})
	}
}

func emergencyUse(t *testing.T, w *world, log *testserver.Log) {
	admin, spare := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "spare", auth.GlobalAdministrator)
	in := w.mfa(t, admin)
	w.mfa(t, spare)
	in = w.stepUp(t, admin, in)
	must[any](t, w.send(t, "PUT", "/admin/v1/users/"+spare.id+"/emergency", `{"emergency":true}`, "Content-Type", "application/json", "Authorization", "Bearer "+in.Token), 204)
	used := func() (logged, metric, audit int) {
		logged = strings.Count(log.String(), `"msg":"somebody signed in to an account for emergencies","tenant":"default","user":"`+spare.id+`"`)
		metric = w.metric(t, "roster_emergency_signin_total")[""]
		entries, err := w.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Action == "emergency.use" && e.ID == spare.id && e.Actor == "user:"+spare.id && e.From == "127.0.0.1" && e.Level == "mfa" {
				audit++
			}
		}
		return logged, metric, audit
	}
	w.mfa(t, admin)
	w.advance(time.Minute)
	w.post(t, "/auth/v1/sign-in", "", object{"name": spare.name, "password": "wrong"})
	if l, m, a := used(); l != 0 || m != 0 || a != 0 {
		t.Errorf("before: %d in the log, %d counted, %d in the trail", l, m, a)
	}
	w.mfa(t, spare)
	if l, m, a := used(); l != 1 || m != 1 || a != 1 {
		t.Errorf("%d in the log, %d counted, %d in the trail; want one each", l, m, a)
	}
}
