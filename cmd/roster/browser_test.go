package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/pquerna/otp/totp"
)

// browser starts Debian's chromium. Where there is none the test is skipped, and says
// so loudly.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("SKIPPED: NO BROWSER. Install chromium to test the pages.")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Flag("lang", "en"))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // chromium has none for root
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 4*patience)
	t.Cleanup(cancel)
	return ctx
}

// see runs actions in a browser. If one fails, the screen is kept where
// ROSTER_TEST_SCREENSHOTS says.
func see(t *testing.T, ctx context.Context, name string, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	err := chromedp.Do(ctx, actions...)
	if dir := os.Getenv("ROSTER_TEST_SCREENSHOTS"); dir != "" {
		if png, e := chromedp.Run(ctx, chromedp.FullScreenshot(100)); e == nil {
			_ = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
		}
	}
	if err != nil {
		text, _ := chromedp.Run(ctx, chromedp.Text("main"))
		t.Fatalf("%s: %v; the page reads:\n%s", name, err, text)
	}
}

// read returns what an action finds.
func read[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// people is a program that somebody uses to sign in.
type people struct {
	*process
	t     *testing.T
	token string
}

// ask sends a request to the API and decodes the answer, which must have a status.
func (p *people) ask(status int, method, path, body string, into any) {
	p.t.Helper()
	base := strings.TrimSuffix(p.scim, basePath)
	r, err := http.NewRequest(method, base+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	res, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	var got bytes.Buffer
	_, _ = got.ReadFrom(res.Body)
	if res.StatusCode != status {
		p.t.Fatalf("%s %s: %s, want %d: %s", method, path, res.Status, status, &got)
	}
	if into != nil {
		if err := json.Unmarshal(got.Bytes(), into); err != nil {
			p.t.Fatalf("%s %s: %v in %s", method, path, err, &got)
		}
	}
}

// passcode returns a passcode that was not used before, which may take until the
// next one is shown.
func passcode(t *testing.T, secret string, after string) string {
	t.Helper()
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		// The code of the next step is accepted as well, so there is one at once
		// after the current one was used.
		for _, ahead := range []time.Duration{0, 30 * time.Second} {
			code, err := totp.GenerateCode(strings.ReplaceAll(secret, " ", ""), time.Now().Add(ahead))
			if err != nil {
				t.Fatal(err)
			}
			if code > "" && code != after {
				return code
			}
		}
	}
	t.Fatal("no new passcode")
	return ""
}

// TestSetup goes the way of whoever installs Roster: a link, a page, a password, an
// authenticator app; then signs in and looks after the directory.
func TestSetup(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	s := serveStore(t, store)
	base := strings.TrimSuffix(s.scim, basePath)
	link := strings.TrimSpace(roster(t, "setup", "--store", store, "--public-url", base))
	ctx := browser(t)

	const password = "nine small otters in a boat"
	see(t, ctx, "setup-account", chromedp.Navigate(link),
		chromedp.WaitVisible(`#account`),
		chromedp.SendKeys(`[name=userName]`, "ana@example.com"),
		chromedp.SendKeys(`[name=password]`, password),
		chromedp.SendKeys(`[name=repeat]`, password+"!"),
		chromedp.Click(`#account button`),
		chromedp.WaitVisible(`#error`))
	// The account is made, and what comes after it gets no answer the first time.
	read(t, ctx, chromedp.Evaluate[bool](`{
		const ask = window.fetch;
		window.fetch = (path, how) => {
			if (!path.endsWith("/totp")) return ask(path, how);
			window.fetch = ask;
			return Promise.reject(new TypeError("no network"));
		};
		true
	}`))
	see(t, ctx, "setup-unanswered",
		chromedp.SetValue(`[name=repeat]`, password),
		chromedp.Click(`#account button`),
		chromedp.WaitVisible(`//p[@id="error"][contains(., "did not answer")]`))
	see(t, ctx, "setup-enrol",
		chromedp.Click(`#account button`),
		chromedp.WaitVisible(`#enrol`))
	secret := read(t, ctx, chromedp.Text(`#secret`))
	first := passcode(t, secret, "")
	see(t, ctx, "setup-done",
		chromedp.SendKeys(`[name=code]`, first),
		chromedp.Click(`#enrol button`),
		chromedp.WaitVisible(`#done`))
	lead := read(t, ctx, chromedp.Text(`#lead`))
	codes := read(t, ctx, chromedp.Evaluate[[]string](`[...document.querySelectorAll("#codes li")].map(e => e.textContent)`))
	if len(codes) != 10 || !strings.HasPrefix(lead, "Done") {
		t.Errorf("the page shows %d recovery codes and says %q; want 10", len(codes), lead)
	}

	see(t, ctx, "setup-again", chromedp.Navigate("about:blank"), chromedp.Navigate(link),
		chromedp.WaitVisible(`#error`))
	if bad := read(t, ctx, chromedp.Text(`#error`)); !strings.Contains(bad, "not good") {
		t.Errorf("the link used again: the page says %q", bad)
	}

	// The account is that of a Global Administrator: it can make a client.
	p := &people{process: s, t: t}
	var in struct{ Token, Level string }
	p.ask(200, "POST", "/auth/v1/sign-in", fmt.Sprintf(`{"name":"ana@example.com","password":%q,"passcode":%q}`, password, passcode(t, secret, first)), &in)
	if in.Level != "mfa" {
		t.Fatalf("signed in at level %q, want mfa", in.Level)
	}
	p.token = in.Token
	var made struct{ Token string }
	p.ask(201, "POST", "/admin/v1/clients", `{"name":"idp","scopes":["users","groups"]}`, &made)
	if err := s.expect(201, "POST", "/Users", made.Token, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"bo@example.com"}`); err != nil {
		t.Error(err)
	}
}

// TestInvitationPage: an invitee sees who invites them, to the letter, chooses a password
// and, as an administrator, enrols an authenticator app.
func TestInvitationPage(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	s := serveStore(t, store)
	base := strings.TrimSuffix(s.scim, basePath)
	ctx := browser(t)
	_, secret, _ := strings.Cut(strings.TrimSpace(roster(t, "setup", "--store", store, "--public-url", base)), "#")
	p := &people{process: s, t: t}
	const password = "nine small otters in a boat"
	var in struct{ Token, Secret string }
	p.ask(200, "POST", "/auth/v1/setup", fmt.Sprintf(`{"link":%q,"userName":"<b>ana</b>","password":%q}`, secret, password), &in)
	p.token = in.Token
	p.ask(200, "POST", "/auth/v1/totp", `{}`, &in)
	p.ask(200, "POST", "/auth/v1/totp/confirm", fmt.Sprintf(`{"code":%q}`, passcode(t, in.Secret, "")), &in)
	p.token = in.Token
	var invited struct{ Link string }
	p.ask(201, "POST", "/admin/v1/invitations",
		`{"invitation":{"email":"bo@example.org","name":{"givenName":"Bo"},"roles":[{"value":"00000000-0000-7000-8000-00000000000a"}]}}`, &invited)
	if !strings.HasPrefix(invited.Link, base+"/invitation#") {
		t.Fatal("the link leads elsewhere")
	}
	see(t, ctx, "invitation", chromedp.Navigate(invited.Link), chromedp.WaitVisible(`#account`))
	lead := read(t, ctx, chromedp.Text(`#lead`))
	names := read(t, ctx, chromedp.Evaluate[[]string](`["userName", "givenName"].map(n => document.getElementById("account").elements[n].value)`))
	if !strings.Contains(lead, "<b>ana</b> invites you") || !slices.Equal(names, []string{"bo@example.org", "Bo"}) {
		t.Errorf("the page says %q, and %q", lead, names)
	}
	see(t, ctx, "invitation-enrol",
		chromedp.SetValue(`[name=userName]`, "bo"),
		chromedp.SendKeys(`[name=password]`, password), chromedp.SendKeys(`[name=repeat]`, password),
		chromedp.Click(`#account button`), chromedp.WaitVisible(`#enrol`))
	app := read(t, ctx, chromedp.Text(`#secret`))
	see(t, ctx, "invitation-done",
		chromedp.SendKeys(`[name=code]`, passcode(t, app, "")), chromedp.Click(`#enrol button`), chromedp.WaitVisible(`#done`))
	see(t, ctx, "invitation-again", chromedp.Navigate("about:blank"), chromedp.Navigate(invited.Link), chromedp.WaitVisible(`#error`))
	if bad := read(t, ctx, chromedp.Text(`#error`)); !strings.Contains(bad, "not good") {
		t.Errorf("the link used again: the page says %q", bad)
	}
}
