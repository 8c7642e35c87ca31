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

// answering makes the next request of the page to a path of /auth/v1 get an answer that
// the server does not give at once.
func answering(path, answer string) chromedp.Action[chromedp.Void] {
	js := fmt.Sprintf(`{ const real = fetch; window.fetch = (path, init) => {
		if (path !== "/auth/v1%s") return real(path, init);
		window.fetch = real;
		return %s;
	}; } ({})`, path, answer)
	return chromedp.Evaluate[chromedp.Void](js)
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
	// Another link in the same tab is looked at; one that was cut off says so.
	see(t, ctx, "setup-cut", chromedp.Navigate(base+"/setup"), chromedp.WaitVisible(`#error`))
	if bad := read(t, ctx, chromedp.Text(`#error`)); !strings.Contains(bad, "incomplete") {
		t.Errorf("without the fragment: the page says %q", bad)
	}
	see(t, ctx, "setup-account", chromedp.Navigate(link),
		chromedp.WaitVisible(`#account`),
		chromedp.SendKeys(`[name=userName]`, "ana@example.com"),
		chromedp.SendKeys(`[name=password]`, password),
		chromedp.SendKeys(`[name=repeat]`, password+"!"),
		chromedp.Click(`#account button`),
		chromedp.WaitVisible(`#error`))
	if focus := read(t, ctx, chromedp.Evaluate[string](`document.activeElement.tagName`)); focus != "BUTTON" {
		t.Errorf("after an error the focus is on %s, want the button that was pressed", focus)
	}
	// The link is used up when the enrolment begins, so that has to be possible again.
	see(t, ctx, "setup-interrupted",
		answering("/totp", `Promise.reject(new TypeError("no network"))`),
		chromedp.SetValue(`[name=repeat]`, password),
		chromedp.Click(`#account button`),
		chromedp.WaitVisible(`#error`))
	see(t, ctx, "setup-enrol",
		chromedp.Click(`#account button`),
		chromedp.WaitVisible(`#enrol`))
	secret := read(t, ctx, chromedp.Text(`#secret`))
	const asks = `!dispatchEvent(new Event("beforeunload", {cancelable: true}))`
	if !read(t, ctx, chromedp.Evaluate[bool](asks)) {
		t.Error("the page can be left by accident before anybody can sign in")
	}
	see(t, ctx, "setup-late",
		answering("/totp/confirm", `new Response('{"title":"No enrolment has begun"}', {status: 409})`),
		chromedp.SendKeys(`[name=code]`, passcode(t, secret, "")),
		chromedp.Click(`#enrol button`),
		chromedp.WaitVisible(`#error`))
	late := secret
	if secret = read(t, ctx, chromedp.Text(`#secret`)); secret == late {
		t.Error("an enrolment that took too long was not begun anew")
	}
	first := passcode(t, secret, "")
	see(t, ctx, "setup-done",
		chromedp.SendKeys(`[name=code]`, first[:3]+" "+first[3:]+" "), // as some apps show it
		chromedp.Click(`#enrol button`),
		chromedp.WaitVisible(`#done`))
	if read(t, ctx, chromedp.Evaluate[bool](asks)) {
		t.Error("the page does not want to be left when all is done")
	}
	lead := read(t, ctx, chromedp.Text(`#lead`))
	codes := read(t, ctx, chromedp.Evaluate[[]string](`[...document.querySelectorAll("#codes li")].map(e => e.textContent)`))
	if len(codes) != 10 || !strings.HasPrefix(lead, "Done") {
		t.Errorf("the page shows %d recovery codes and says %q; want 10", len(codes), lead)
	}

	see(t, ctx, "setup-again", chromedp.Navigate("about:blank"), chromedp.Navigate(link),
		chromedp.WaitVisible(`#error`))
	if bad := read(t, ctx, chromedp.Text(`#error`)); !strings.Contains(bad, "not valid") {
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
	const password = "nine small otters in a boat"
	p := enter(t, s, roster(t, "setup", "--store", store, "--public-url", base), `"userName":"<b>ana</b>","password":`+quote(password))
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
	if bad := read(t, ctx, chromedp.Text(`#error`)); !strings.Contains(bad, "not valid") {
		t.Errorf("the link used again: the page says %q", bad)
	}
}

// TestInvitationPageInSwedish: the page speaks the language of whoever follows the link, errors included,
// fits a telephone, and changes no name that the invitee left as it was.
func TestInvitationPageInSwedish(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	s := serveStore(t, store)
	base := strings.TrimSuffix(s.scim, basePath)
	ctx := browser(t)
	const password = "nine small otters in a boat"
	p := enter(t, s, roster(t, "setup", "--store", store, "--public-url", base), `"userName":"ana","password":`+quote(password))
	var in struct{ User string }
	p.ask(200, "GET", "/auth/v1/session", "", &in)
	p.ask(200, "PATCH", basePath+"/Users/"+in.User, fmt.Sprintf(
		`{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"add","path":"displayName","value":%q},`+
			`{"op":"add","path":"preferredLanguage","value":"sv"}]}`, strings.Repeat("A", 150)), nil)
	var invited struct{ Link string }
	p.ask(201, "POST", "/admin/v1/invitations", `{"invitation":{"email":"bo@example.org","preferredLanguage":"sv-SE, en;q=0.5",`+
		`"name":{"formatted":"Dr. Bo Ek","givenName":"Bo","familyName":"Ek"}}}`, &invited)

	see(t, ctx, "swedish", chromedp.EmulateViewport(390, 700), chromedp.Navigate(invited.Link), chromedp.WaitVisible(`#account`))
	if lead := read(t, ctx, chromedp.Text(`#lead`)); !strings.Contains(lead, "bjuder in dig") {
		t.Errorf("the page says %q, want it in Swedish", lead)
	}
	if lang := read(t, ctx, chromedp.Evaluate[string](`document.documentElement.lang`)); lang != "sv" {
		t.Errorf("the page is said to be in %q", lang)
	}
	if wide := read(t, ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth`)); wide > 390 {
		t.Errorf("with a long name the page is %d pixels wide, on a screen of 390", wide)
	}
	for _, e := range []struct{ name, password, want string }{
		{"bo", "short", "Lösenordet är för kort: minst 8 tecken."},
		{"ana", password, "Det finns redan ett konto"},
	} {
		see(t, ctx, "swedish-"+e.name, chromedp.SetValue(`[name=userName]`, e.name),
			chromedp.SetValue(`[name=password]`, e.password), chromedp.SetValue(`[name=repeat]`, e.password),
			chromedp.Click(`#account button`), chromedp.WaitVisible(`#error`))
		if bad := read(t, ctx, chromedp.Text(`#error`)); !strings.HasPrefix(bad, e.want) {
			t.Errorf("the page says %q, want %q", bad, e.want)
		}
		if !read(t, ctx, chromedp.Evaluate[bool](`(({top, bottom}) => top >= 0 && bottom <= innerHeight)(document.getElementById("error").getBoundingClientRect())`)) {
			t.Errorf("%q is out of sight", e.want)
		}
	}
	see(t, ctx, "swedish-done", chromedp.SetValue(`[name=userName]`, "bo"), chromedp.Click(`#account button`), chromedp.WaitNotVisible(`#account`))
	if lead := read(t, ctx, chromedp.Text(`#lead`)); lead != "Klart. Du kan logga in." {
		t.Errorf("the page says %q", lead)
	}
	var found struct {
		Resources []struct{ Name struct{ Formatted string } }
	}
	p.ask(200, "GET", basePath+`/Users?filter=userName%20eq%20%22bo%22`, "", &found)
	if len(found.Resources) != 1 || found.Resources[0].Name.Formatted != "Dr. Bo Ek" {
		t.Errorf("accepted without a change: %+v, want the name as the inviter wrote it", found)
	}

	recovery := strings.TrimSpace(roster(t, "recover", "ana", "--store", store, "--public-url", base))
	see(t, ctx, "swedish-recovery", chromedp.Navigate(recovery), chromedp.WaitVisible(`#account`))
	if lead := read(t, ctx, chromedp.Text(`#lead`)); !strings.HasPrefix(lead, "Välj ett nytt lösenord") {
		t.Errorf("to somebody who reads Swedish the page says %q", lead)
	}
}
