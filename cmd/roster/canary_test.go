package main

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
)

// canary is a text that must not get out, with characters that every way of
// writing it down writes differently.
func canary(what string) string { return `Cañ"ary <` + what + `>&` + rand.Text() }

// traces returns the ways in which a text could stand somewhere, by name.
func traces(text string) map[string]string {
	quoted, _ := json.Marshal(text) // a string can be marshalled
	t := map[string]string{
		"as it is": text, "in JSON": strings.Trim(string(quoted), `"`), "quoted": strings.Trim(strconv.Quote(text), `"`),
		"in ASCII": strings.Trim(strconv.QuoteToASCII(text), `"`), "in hex": hex.EncodeToString([]byte(text)),
		"in a query": url.QueryEscape(text), "in a path": url.PathEscape(text),
	}
	// In base64 a text looks different at each of three places in a longer one.
	// What its neighbours have a say in is left away.
	for before := range 3 {
		from, to := (before*8+5)/6, (before+len(text))*8/6
		for name, encoding := range map[string]*base64.Encoding{"in base64": base64.RawStdEncoding, "in base64url": base64.RawURLEncoding} {
			t[fmt.Sprintf("%s after %d", name, before)] = encoding.EncodeToString(append(make([]byte, before), text...))[from:to]
		}
	}
	return t
}

// TestCanaries puts secrets and personal data into every place a client can put
// them, causes an error of each kind, and then looks for them where they do not
// belong. The server logs all it can.
func TestCanaries(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "store")
	first := rosterToken(t, "client", "create", "--store", store+"/", "--name", "okta", "--scopes", "users,groups")
	s := serveTLS(t, store, "--log-level", "debug", "--demo")
	second := rosterToken(t, "client", "rotate", "--store", store, "okta")
	readOnly := rosterToken(t, "client", "create", "--store", store, "--name", "reader", "--scopes", "users:read")
	elsewhere := rosterToken(t, "client", "create", "--store", store, "--name", "elsewhere", "--scopes", "users", "--network", "192.0.2.1")
	gone := rosterToken(t, "client", "create", "--store", store, "--name", "gone", "--scopes", "users")
	roster(t, "client", "revoke", "--store", store, "gone")
	demo := regexp.MustCompile(auth.TokenPattern).FindString(s.printed(s.stdout))
	if demo == "" {
		t.Fatalf("no token in the demo's greeting:\n%s", s.printed(s.stdout))
	}
	unknown, _, err := auth.NewToken(rand.Reader, "nobody", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}

	// What must not get out, by what it is. Of values that only work without
	// special characters a plain text is used.
	passwords := map[string]string{
		"the password": canary("password"), "the password of a PUT": canary("PUT"), "the password of a PATCH": canary("PATCH"),
		"a password too long": canary("long") + strings.Repeat("x", 128), "a basic password": canary("basic"),
	}
	tokens := map[string]string{
		"the old token": first, "the new token": second, "the reader's token": readOnly, "the token from elsewhere": elsewhere,
		"the revoked token": gone, "the demo's token": demo, "a token never issued": unknown.Reveal(),
	}
	personal := map[string]string{
		"the user's name": canary("name"), "a name in a filter": canary("filter"), "a name without quotes": "canaryname" + rand.Text(),
		"a name in a path": "canarypath" + rand.Text(), "a value of the wrong type": canary("type"), "a value in a PATCH": canary("patch"),
		"a body that is not JSON": canary("no JSON"), "a header": "canaryheader" + rand.Text(), "a method": "CANARY" + rand.Text(),
	}
	secrets := map[string]string{}
	maps.Copy(secrets, passwords)
	for what, token := range tokens {
		secrets[what] = secretOf(token)
	}
	everything := maps.Clone(secrets)
	maps.Copy(everything, personal)

	name, inFilter, noQuotes, inPath := personal["the user's name"], personal["a name in a filter"], personal["a name without quotes"], personal["a name in a path"]
	wrong, inPatch, notJSON, header := personal["a value of the wrong type"], personal["a value in a PATCH"], personal["a body that is not JSON"], personal["a header"]
	secret := passwords["the password"]
	user := func(extra string) string {
		return fmt.Sprintf(`{"schemas":[%q],"userName":%s%s}`, schemas.UserURI, quote(name), extra)
	}
	password := func(text string) string { return `,"password":` + quote(text) }
	patchOf := func(op string) string {
		return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` + op + `]}`
	}
	query := func(name, value string) string { return "/Users?" + name + "=" + url.QueryEscape(value) }

	// The user that the other requests are about.
	res, body, err := s.do("POST", "/Users", second, user(password(secret)))
	if err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("POST answered %v, %s, %v", res, body, err)
	}
	var created struct{ ID string }
	if err := json.Unmarshal([]byte(body), &created); err != nil {
		t.Fatal(err)
	}
	id := "/Users/" + created.ID

	good, bad := map[string]string{"the answer to POST": body}, map[string]string{}
	for _, r := range []struct {
		status             int
		method, url, token string
		body               string
		header             []string
	}{
		{200, "GET", id, first, "", nil},
		{200, "GET", id, demo, "", nil},
		{200, "PUT", id, second, user(password(passwords["the password of a PUT"])), nil},
		{200, "PATCH", id, second, patchOf(`{"op":"replace","path":"password","value":` + quote(passwords["the password of a PATCH"]) + `}`), nil},
		{200, "GET", query("filter", `userName eq `+quote(name)), second, "", nil},
		{200, "GET", query("filter", `displayName co `+quote(inFilter)), second, "", nil},
		{200, "GET", "/Groups", second, "", []string{"User-Agent", header, "Cookie", "session=" + header, "Referer", "http://" + header}},

		// Who is calling?
		{401, "GET", "/Users", "", "", nil},
		{401, "GET", "/Users", unknown.Reveal(), "", nil},
		{401, "GET", "/Users", first[:len(first)-8], "", nil},
		{401, "GET", "/Users", gone, "", nil},
		{401, "GET", "/Users", elsewhere, "", nil},
		{401, "GET", "/Users", "", "", []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("ana:"+passwords["a basic password"]))}},
		{400, "GET", query("access_token", second), "", "", nil},
		{403, "POST", "/Users", readOnly, user(password(secret)), nil},

		// What is meant?
		{404, "GET", "/Users/" + inPath, second, "", nil},
		{404, "GET", "/" + inPath, second, "", nil},
		{404, "DELETE", "/Users/" + inPath, second, "", nil},
		{405, "DELETE", query("filter", inFilter), second, "", nil},
		{405, personal["a method"], "/Users", second, "", nil},
		{400, "GET", "/Users/..%2f" + inPath, second, "", nil},
		{400, "GET", query("filter", `userName eq `+noQuotes), second, "", nil},
		{400, "GET", query("filter", `userName is `+quote(inFilter)), second, "", nil},
		{400, "GET", query("filter", `emails[type eq `+quote(inFilter)), second, "", nil},
		{400, "GET", query("filter", quote(inFilter)), second, "", nil},
		{400, "GET", query("filter", `active gt `+quote(inFilter)), second, "", nil},
		{400, "GET", query("filter", `meta.created gt `+quote(inFilter)), second, "", nil},
		{400, "GET", query("filter", `password eq `+quote(secret)), second, "", nil},
		{400, "GET", query("sortBy", noQuotes), second, "", nil},
		{400, "GET", query("sortOrder", inFilter), second, "", nil},
		{400, "GET", query("startIndex", inFilter), second, "", nil},
		{400, "GET", "/Users?filter=%zz" + noQuotes, second, "", nil},

		// What is in the body?
		{400, "POST", "/Users", second, notJSON, nil},
		{400, "POST", "/Users", second, `{"password":` + quote(secret) + `,` + notJSON, nil},
		{400, "POST", "/Users", second, `{"` + noQuotes + `":1,"` + noQuotes + `":2}`, nil},
		{400, "POST", "/Users", second, `{"password":` + quote(secret) + `,"PASSWORD":` + quote(secret) + `}`, nil},
		{400, "POST", "/Users", second, user(`,"active":` + quote(wrong)), nil},
		{400, "POST", "/Users", second, user(`,"password":{"value":` + quote(secret) + `}`), nil},
		{400, "POST", "/Users", second, user(`,"profileUrl":` + quote(wrong) + `,"emails":` + quote(wrong)), nil},
		{400, "POST", "/Users", second, user(password(passwords["a password too long"])), nil},
		{409, "POST", "/Users", second, user(password(secret)), nil},
		{415, "POST", "/Users", second, user(""), []string{"Content-Type", "text/" + header}},
		{412, "PUT", id, second, user(""), []string{"If-Match", `W/"` + header + `"`}},
		{400, "PATCH", id, second, patchOf(`{"op":"remove","path":` + quote(`emails[value eq `+quote(inPatch)+`].value.x`) + `}`), nil},
		{400, "PATCH", id, second, patchOf(`{"op":"replace","path":` + quote(`emails[value eq `+quote(inPatch)+` or type eq "x"].value`) + `,"value":"x"}`), nil},
		{400, "PATCH", id, second, patchOf(`{"op":"replace","path":"meta.created","value":` + quote(inPatch) + `}`), nil},
		{400, "PATCH", id, second, patchOf(`{"op":"replace","path":"active","value":` + quote(inPatch) + `}`), nil},
		{400, "PATCH", id, second, patchOf(`{"op":` + quote(inPatch) + `,"path":"active"}`), nil},
		{400, "PATCH", id, second, patchOf(`{"op":"add","path":"password","value":{"value":` + quote(secret) + `}}`), nil},
		{400, "POST", "/Groups", second, `{"schemas":["` + schemas.GroupURI + `"],"displayName":"x","members":[{"value":` + quote(wrong) + `}]}`, nil},
		{413, "POST", "/Users", second, user(`,"title":"` + strings.Repeat("x", 1<<20) + `"` + password(secret)), []string{"Expect", "100-continue"}},
		{414, "GET", query("filter", inFilter+strings.Repeat("x", 8<<10)), second, "", nil},
	} {
		res, body, err := s.do(r.method, r.url, r.token, r.body, r.header...)
		short, _, _ := strings.Cut(r.url, "?")
		what := r.method + " " + short
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if res.StatusCode != r.status {
			t.Errorf("%s answered %s; want %d: %s", what, res.Status, r.status, body)
		}
		where := fmt.Sprintf("the answer %s to %s", body, what)
		if res.StatusCode >= 400 {
			bad[where] = body
		} else {
			good[where] = body
		}
	}
	sayNonsense(t, s, "GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\n"+header+"\r\n\r\n")
	sayNonsense(t, s, header+"\r\n\r\n")
	sayNonsense(t, s, "GET /scim/v2/Users HTTP/1.1\r\nHost: "+header+"/\r\n\r\n")

	_, metrics, err := s.do("GET", s.ops+"/metrics", "", "")
	if err != nil {
		t.Fatal(err)
	}
	lookForSeries(t, metrics)
	running := files(t, store)
	if err := s.end(syscall.SIGINT); err != nil {
		t.Error(err)
	}

	bad["standard output"] = strings.ReplaceAll(s.printed(s.stdout), demo, "") // that is what the demo is for
	bad["the log"] = s.printed(s.stderr)
	bad["the metrics"] = metrics
	lookFor(t, everything, bad)
	lookFor(t, secrets, good)
	if !strings.Contains(bad["the log"], `"level":"DEBUG"`) {
		t.Error("the log has no line of level debug, so nothing was put to the test there")
	}

	for where, content := range files(t, store) {
		running[where+" afterwards"] = content
	}
	lookFor(t, secrets, running)
	for what, token := range tokens {
		secret := secretOf(token)
		for where, content := range running {
			for i := 0; i+12 <= len(secret); i++ {
				if strings.Contains(content, secret[i:i+12]) {
					t.Errorf("a part of %s stands in %s", what, where)
					break
				}
			}
		}
	}
}

// lookFor looks for each text, in all its forms, in each place.
func lookFor(t *testing.T, texts, places map[string]string) {
	t.Helper()
	for what, text := range texts {
		forms := traces(text)
		for where, content := range places {
			for how, form := range forms {
				if strings.Contains(content, form) {
					t.Errorf("%s stands %s in %s", what, how, where)
					break
				}
			}
		}
	}
}

// secretOf returns the part of a token that is secret.
func secretOf(token string) string { return strings.Split(token, "_")[2] }

func quote(s string) string {
	b, _ := json.Marshal(s) // a string can be marshalled
	return string(b)
}

// sayNonsense sends something that is not quite HTTP, with TLS and without, and
// waits until the server has had enough.
func sayNonsense(t *testing.T, s *process, text string) {
	t.Helper()
	plain, err := net.Dial("tcp", hostOf(s.scim))
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := tls.Dial("tcp", hostOf(s.scim), s.client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{plain, encrypted} {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, text); err != nil {
			t.Error(err)
		}
		if answer, _ := io.ReadAll(c); len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.") {
			t.Errorf("nonsense was answered %q", answer)
		}
		_ = c.Close() // the server did, too
	}
}

// files returns what is in the files of a store.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	content := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		content[e.Name()] = string(b)
	}
	if len(content["roster.db"]) == 0 {
		t.Fatalf("there is no store in %s", dir)
	}
	return content
}

// lookForSeries looks for what the documentation promises operators.
func lookForSeries(t *testing.T, metrics string) {
	t.Helper()
	for _, series := range []string{
		`roster_http_requests_total{method="POST",route="/scim/v2/Users",status="201"} 1`,
		`roster_http_requests_total{method="GET",route="/scim/v2/Users/{id}",status="404"} 1`,
		`roster_http_requests_total{method="GET",route="/scim/v2/{type}",status="404"} 1`,
		`roster_http_requests_total{method="other",route="/scim/v2/Users",status="405"} 1`,
		`roster_http_request_duration_seconds_bucket{method="GET",route="/scim/v2/Users",le="0.001"} `,
		`roster_http_request_duration_seconds_count{method="PATCH",route="/scim/v2/Users/{id}"} `,
		`roster_provisioning_operations_total{operation="create",outcome="ok",resource_type="User"} 1`,
		`roster_provisioning_operations_total{operation="create",outcome="uniqueness",resource_type="User"} 1`,
		`roster_provisioning_operations_total{operation="get",outcome="notFound",resource_type="User"} 1`,
		`roster_provisioning_operations_total{operation="patch",outcome="ok",resource_type="User"} 1`,
		`roster_provisioning_operations_total{operation="replace",outcome="preconditionFailed",resource_type="User"} 1`,
		`roster_provisioning_operations_total{operation="query",outcome="ok",resource_type="Group"} 1`,
		`roster_store_commits_total{store="sqlite"} `,
		`roster_store_commit_writes_bucket{le="1"} `,
		`roster_store_commit_duration_seconds_count `,
		`roster_tokens_refused_total{reason="missing"} 1`,
		`roster_tokens_refused_total{reason="malformed"} `,
		`roster_tokens_refused_total{reason="unknown"} 1`,
		`roster_tokens_refused_total{reason="revoked"} 1`,
		`roster_tokens_refused_total{reason="network"} 1`,
		`go_goroutines `,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(metrics, "\n"+series) {
			t.Errorf("/metrics has no series %s", series)
		}
	}
}
