package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/roster-id/roster/storage"
)

var anywhere = netip.MustParseAddr("192.0.2.1")

// reasons collects what a Verifier's Refused is told.
type reasons struct {
	mu   sync.Mutex
	list []Reason
}

func (r *reasons) add(reason Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, reason)
}

func (r *reasons) take() []Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return list
}

func newTestVerifier(c *clients) (*Verifier, *reasons) {
	v, r := NewVerifier(c, time.Now), &reasons{}
	v.Refused = r.add
	return v, r
}

// wantRefused checks that a verification failed for a reason, that the reason
// was counted once, and that nothing but the reason tells it from others.
func wantRefused(t *testing.T, what string, p Principal, err error, counted *reasons, want Reason) {
	t.Helper()
	refused, ok := errors.AsType[*RefusedError](err)
	switch {
	case !ok || refused.Reason != want || !reflect.DeepEqual(p, Principal{}):
		t.Errorf("%s: got %+v, %v; want it refused as %s", what, p, err, want)
	case err.Error() != (&RefusedError{}).Error():
		t.Errorf("%s: the error reads %q", what, err)
	}
	if got := counted.take(); !slices.Equal(got, []Reason{want}) {
		t.Errorf("%s: counted as %q; want %q", what, got, want)
	}
}

func TestVerify(t *testing.T) {
	store := newClients()
	text, token := store.issue(t, okta(), time.Now(), time.Hour)
	v, counted := newTestVerifier(store)

	r := httptest.NewRequest("GET", "/scim/v2/Users", nil)
	r.Header.Set("Authorization", "Bearer "+text)
	got, err := v.Verify(t.Context(), r, anywhere)
	scopes, _ := ParseScopes([]string{"users", "groups:read"})
	want := Principal{Kind: Client, Tenant: "default", ID: "c1", Name: "okta", Scopes: scopes, Profile: "okta", Token: token.ID}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Verify = %+v, %v; want %+v", got, err, want)
	}
	if got := counted.take(); got != nil {
		t.Errorf("counted %q; want nothing", got)
	}
}

// TestAuthorizationHeader tries what may stand in the header (RFC 6750 §2.1),
// with the store empty and with a token in it.
func TestAuthorizationHeader(t *testing.T) {
	full := newClients()
	text, token := full.issue(t, okta(), time.Now(), time.Hour)
	const accepted = Reason("")
	for _, test := range []struct {
		name   string
		values []string
		want   Reason
	}{
		{"none", nil, Missing},
		{"no values", []string{}, Missing},
		{"empty", []string{""}, Missing},
		{"scheme only", []string{"Bearer"}, Malformed},
		{"scheme and space", []string{"Bearer "}, Malformed},
		{"scheme and spaces", []string{"Bearer   "}, Malformed},
		{"token", []string{"Bearer " + text}, accepted},
		{"lower-case scheme", []string{"bearer " + text}, accepted},
		{"upper-case scheme", []string{"BEARER " + text}, accepted},
		{"mixed-case scheme", []string{"bEaReR " + text}, accepted},
		{"no scheme", []string{text}, Malformed},
		{"other scheme", []string{"Basic " + text}, Scheme},
		{"longer scheme", []string{"Bearers " + text}, Scheme},
		{"no space", []string{"Bearer" + text}, Malformed},
		{"tab", []string{"Bearer\t" + text}, Malformed},
		{"two spaces", []string{"Bearer  " + text}, accepted},
		{"leading space", []string{" Bearer " + text}, Scheme},
		{"trailing space", []string{"Bearer " + text + " "}, Malformed},
		{"colon", []string{"Bearer: " + text}, Scheme},
		{"twice the scheme", []string{"Bearer Bearer " + text}, Malformed},
		{"quoted", []string{`Bearer "` + text + `"`}, Malformed},
		{"padded", []string{"Bearer " + text + "="}, Malformed},
		{"parameter", []string{"Bearer token=" + text}, Malformed},
		{"two headers", []string{"Bearer " + text, "Bearer " + text}, Malformed},
		{"two headers, one empty", []string{"Bearer " + text, ""}, Malformed},
		{"two headers, one Basic", []string{"Basic eDp5", "Bearer " + text}, Malformed},
		{"list", []string{"Bearer " + text + ", Bearer " + text}, Malformed},
		{"list of tokens", []string{"Bearer " + text + "," + text}, Malformed},
		{"comma", []string{"Bearer " + text + ","}, Malformed},
		{"NUL", []string{"Bearer \x00"}, Malformed},
		{"NUL behind", []string{"Bearer " + text + "\x00"}, Malformed},
		{"NUL inside", []string{"Bearer " + text[:30] + "\x00" + text[31:]}, Malformed},
		{"look-alike scheme", []string{"Веаrer " + text}, Scheme},
		{"8 kB", []string{"Bearer " + strings.Repeat("a", 8<<10)}, Malformed},
		{"8 kB of spaces", []string{strings.Repeat(" ", 8<<10)}, Scheme},
		{"8 kB behind", []string{"Bearer " + text + strings.Repeat("a", 8<<10)}, Malformed},
		{"public id", []string{"Bearer " + token.ID}, Malformed},
		{"null", []string{"Bearer null"}, Malformed},
		{"undefined", []string{"Bearer undefined"}, Malformed},
	} {
		for name, store := range map[string]*clients{"full": full, "empty": newClients()} {
			v, counted := newTestVerifier(store)
			r := httptest.NewRequest("GET", "/", nil)
			if test.values != nil {
				r.Header["Authorization"] = test.values
			}
			before := store.count()
			p, err := v.Verify(t.Context(), r, anywhere)
			what := fmt.Sprintf("%s, %s store", test.name, name)
			switch {
			case test.want == accepted && name == "empty":
				wantRefused(t, what, p, err, counted, Unknown)
			case test.want == accepted:
				if err != nil || p.ID != "c1" {
					t.Errorf("%s: Verify = %+v, %v; want client c1", what, p, err)
				}
			default:
				wantRefused(t, what, p, err, counted, test.want)
				if n := store.count() - before; n != 0 {
					t.Errorf("%s: the store was asked %d times; want 0", what, n)
				}
			}
		}
	}
}

// TestTokenThatIsNotWhole: it is refused in the same way whether or not the right one has
// just been used, and the store is not asked.
func TestTokenThatIsNotWhole(t *testing.T) {
	store := newClients()
	text, _ := store.issue(t, okta(), time.Now(), time.Hour)
	v, counted := newTestVerifier(store)
	last := "0"
	if strings.HasSuffix(text, last) {
		last = "1"
	}
	damaged := text[:len(text)-1] + last
	for _, what := range []string{"before", "after"} {
		before := store.count()
		p, err := v.VerifyToken(t.Context(), damaged, anywhere)
		wantRefused(t, what, p, err, counted, Malformed)
		if n := store.count() - before; n != 0 {
			t.Errorf("%s: the store was asked %d times", what, n)
		}
		if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTokenInQuery: RFC 6750 §2.3 is not offered, and a request that tries it is
// told so even when its header is good.
func TestTokenInQuery(t *testing.T) {
	store := newClients()
	text, _ := store.issue(t, okta(), time.Now(), time.Hour)
	v, counted := newTestVerifier(store)
	for query, refused := range map[string]bool{
		"access_token=" + text:               true,
		"access_token":                       true,
		"a=b&access_token=x":                 true,
		"access%5Ftoken=x":                   true,
		"%61ccess_token=x":                   true,
		"Access_Token=x":                     true,
		"filter=%zz&access_token=x":          true,
		"":                                   false,
		"count=1":                            false,
		"filter=title+eq+%22access_token%22": false,
		"filter=access_token":                false,
		"access_tokens=x":                    false,
		"%zz=1":                              false,
	} {
		for _, header := range []string{"", "Bearer " + text} {
			r := &http.Request{Method: "GET", URL: httptest.NewRequest("GET", "/", nil).URL, Header: http.Header{}}
			r.URL.RawQuery = query
			if header != "" {
				r.Header.Set("Authorization", header)
			}
			p, err := v.Verify(t.Context(), r, anywhere)
			switch {
			case refused:
				if !errors.Is(err, ErrInvalidRequest) || !reflect.DeepEqual(p, Principal{}) {
					t.Errorf("?%s: Verify = %+v, %v; want ErrInvalidRequest", query, p, err)
				}
				if got := counted.take(); !slices.Equal(got, []Reason{Malformed}) {
					t.Errorf("?%s: counted as %q", query, got)
				}
			case header == "":
				wantRefused(t, "?"+query, p, err, counted, Missing)
			case err != nil:
				t.Errorf("?%s: %v", query, err)
			}
		}
	}
}

// TestTokenInBody: RFC 6750 §2.2 is not offered.
func TestTokenInBody(t *testing.T) {
	store := newClients()
	text, _ := store.issue(t, okta(), time.Now(), time.Hour)
	v, counted := newTestVerifier(store)
	r := httptest.NewRequest("POST", "/", strings.NewReader("access_token="+text))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	p, err := v.Verify(t.Context(), r, anywhere)
	wantRefused(t, "form", p, err, counted, Missing)
}

// TestAlmostTokens changes a valid token in every way that loses, adds or turns
// over a character.
func TestAlmostTokens(t *testing.T) {
	store := newClients()
	text, token := store.issue(t, okta(), time.Now(), time.Hour)
	almost := map[string]bool{text + text: true, token.ID: true, "roster_" + token.ID: true}
	for i := range len(text) {
		almost[text[:i]] = true
		if i > 0 {
			almost[text[i:]] = true
		}
		if c := rune(text[i]); unicode.IsLetter(c) {
			flipped := string(c ^ 0x20)
			almost[text[:i]+flipped+text[i+1:]] = true
		}
		almost[text[:i]+text[i+1:]] = true
		almost[text[:i]+"x"+text[i:]] = true
	}
	for c := range 128 {
		almost[text+string(rune(c))] = true
		almost[string(rune(c))+text] = true
	}
	for _, pad := range []string{"==", "===", "%00", "%20", "\r\n", ".", "/"} {
		almost[text+pad] = true
	}
	delete(almost, text)

	v, counted := newTestVerifier(store)
	for s := range almost {
		p, err := v.VerifyToken(t.Context(), s, anywhere)
		wantRefused(t, s, p, err, counted, Malformed)
	}
	if n := store.count(); n != 0 {
		t.Errorf("the store was asked %d times; want 0", n)
	}
	if len(almost) < 400 {
		t.Errorf("tried %d texts only", len(almost))
	}
	if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
		t.Errorf("the token itself: %v", err)
	}
}

// TestForgedChecksum recomputes the checksum, which needs no secret, so that
// only the hash is left to tell.
func TestForgedChecksum(t *testing.T) {
	store := newClients()
	text, _ := store.issue(t, okta(), time.Now(), time.Hour)
	v, counted := newTestVerifier(store)
	for i := 20; i < 63; i++ {
		c := "x"
		if text[i] == 'x' {
			c = "y"
		}
		p, err := v.VerifyToken(t.Context(), withChecksum(text[:i]+c+text[i+1:63]), anywhere)
		wantRefused(t, fmt.Sprintf("digit %d changed", i), p, err, counted, Unknown)
	}
	// The right secret under another token's id.
	other, _ := store.issue(t, okta(), time.Now(), time.Hour)
	p, err := v.VerifyToken(t.Context(), withChecksum(other[:20]+text[20:63]), anywhere)
	wantRefused(t, "another's id", p, err, counted, Unknown)
}

func TestUnknownTokensAreNotRemembered(t *testing.T) {
	store := newClients()
	v, counted := newTestVerifier(store)
	for range 1000 {
		p, err := v.VerifyToken(t.Context(), newTestToken(t), anywhere)
		wantRefused(t, "never issued", p, err, counted, Unknown)
	}
	if n := len(v.cached); n != 0 {
		t.Errorf("%d entries are cached; want 0", n)
	}
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newClients()
		text, _ := store.issue(t, okta(), time.Now(), time.Hour)
		v, counted := newTestVerifier(store)

		time.Sleep(time.Hour - time.Nanosecond)
		if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
			t.Errorf("just before it expires: %v", err)
		}
		// The cache is warm, and still each request is held against the clock.
		before := store.count()
		time.Sleep(time.Nanosecond)
		p, err := v.VerifyToken(t.Context(), text, anywhere)
		wantRefused(t, "at the moment it expires", p, err, counted, Expired)
		if n := store.count(); n != before {
			t.Errorf("the store was asked; want the cached answer")
		}
		time.Sleep(time.Second)
		p, err = v.VerifyToken(t.Context(), text, anywhere)
		wantRefused(t, "a second later", p, err, counted, Expired)
	})
}

func TestTokenWithoutExpiry(t *testing.T) {
	store := newClients()
	text, token := store.issue(t, okta(), time.Now(), time.Hour)
	token.Expires = time.Time{}
	v, counted := newTestVerifier(store)
	p, err := v.VerifyToken(t.Context(), text, anywhere)
	wantRefused(t, "no expiry", p, err, counted, Expired)
}

func TestRevocation(t *testing.T) {
	t.Run("elsewhere", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := newClients()
			text, _ := store.issue(t, okta(), time.Now(), time.Hour)
			v, counted := newTestVerifier(store)
			if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
				t.Fatal(err)
			}
			store.change(func() { store.clients["c1"].Revoked = time.Now() })
			time.Sleep(cacheFor)
			p, err := v.VerifyToken(t.Context(), text, anywhere)
			wantRefused(t, "half a second later", p, err, counted, Revoked)
		})
	})
	for name, invalidate := range map[string]func(*Verifier, *storage.Token){
		"token":  func(v *Verifier, token *storage.Token) { v.Invalidate(token.ID) },
		"client": func(v *Verifier, token *storage.Token) { v.InvalidateClient(token.Client) },
	} {
		t.Run("here, by "+name, func(t *testing.T) {
			store := newClients()
			text, token := store.issue(t, okta(), time.Now(), time.Hour)
			v, counted := newTestVerifier(store)
			if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
				t.Fatal(err)
			}
			store.change(func() { store.clients["c1"].Revoked = time.Now() })
			invalidate(v, token)
			p, err := v.VerifyToken(t.Context(), text, anywhere)
			wantRefused(t, "at once", p, err, counted, Revoked)
		})
	}
	t.Run("while the store answers", func(t *testing.T) {
		store := newClients()
		text, token := store.issue(t, okta(), time.Now(), time.Hour)
		v, counted := newTestVerifier(store)
		store.answered = func() {
			store.answered = nil
			store.change(func() { store.clients["c1"].Revoked = time.Now() })
			v.Invalidate(token.ID)
		}
		// This request was there first and may pass; its answer must not be kept.
		if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
			t.Fatal(err)
		}
		p, err := v.VerifyToken(t.Context(), text, anywhere)
		wantRefused(t, "the next request", p, err, counted, Revoked)
	})
	t.Run("leaves others alone", func(t *testing.T) {
		store := newClients()
		text, _ := store.issue(t, okta(), time.Now(), time.Hour)
		v, _ := newTestVerifier(store)
		for range 3 {
			if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
				t.Fatal(err)
			}
			v.Invalidate("another")
			v.InvalidateClient("another")
		}
		if n := store.count(); n != 1 {
			t.Errorf("the store was asked %d times; want 1", n)
		}
	})
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newClients()
		text, _ := store.issue(t, okta(), time.Now(), time.Hour)
		v, _ := newTestVerifier(store)
		for i, step := range []struct {
			wait time.Duration
			want int
		}{{0, 1}, {0, 1}, {cacheFor - 1, 1}, {1, 2}, {cacheFor / 2, 2}, {cacheFor / 2, 3}} {
			time.Sleep(step.wait)
			if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
				t.Fatal(err)
			}
			if got := store.count(); got != step.want {
				t.Errorf("step %d: the store was asked %d times; want %d", i, got, step.want)
			}
		}
	})
}

// TestCacheAfterTheClockWentBack: an entry that seems to come from the future
// would otherwise stay for as long as the clock was wrong.
func TestCacheAfterTheClockWentBack(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	store := newClients()
	text, _ := store.issue(t, okta(), now.Add(-2*time.Hour), 24*time.Hour)
	v := NewVerifier(store, func() time.Time { return now })
	for want := 1; want <= 2; want++ {
		if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
			t.Fatal(err)
		}
		if got := store.count(); !reflect.DeepEqual(got, want) {
			t.Errorf("the store was asked %d times; want %d", got, want)
		}
		now = now.Add(-time.Hour)
	}
}

func TestCacheIsBounded(t *testing.T) {
	store := newClients()
	v, _ := newTestVerifier(store)
	for range cacheSize {
		var id tokenID
		_, _ = rand.Read(id[:])
		v.cached[id] = &cachedToken{asked: time.Now()}
	}
	for range 100 {
		text, _ := store.issue(t, okta(), time.Now(), time.Hour)
		for range 2 {
			if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(v.cached); n > cacheSize {
			t.Fatalf("%d entries are cached; want at most %d", n, cacheSize)
		}
	}
}

func TestNetworks(t *testing.T) {
	for _, test := range []struct {
		networks []string
		remote   string
		want     bool
	}{
		{nil, "203.0.113.9", true},
		{nil, "", true},
		{[]string{"192.0.2.0/24"}, "192.0.2.77", true},
		{[]string{"192.0.2.0/24"}, "192.0.3.1", false},
		{[]string{"192.0.2.0/24"}, "", false}, // an address nobody knows
		{[]string{"192.0.2.0/24", "2001:db8::/32"}, "2001:db8::1", true},
		{[]string{"192.0.2.0/24", "2001:db8::/32"}, "2001:db9::1", false},
		{[]string{"192.0.2.0/24"}, "::ffff:192.0.2.77", true}, // as dual-stack sockets say it
		{[]string{"fe80::/10"}, "fe80::1%eth0", true},
		{[]string{"192.0.2.7"}, "192.0.2.7", true},
		{[]string{"192.0.2.7"}, "192.0.2.8", false},
		{[]string{"garbage"}, "192.0.2.7", false},
		{[]string{"garbage", "192.0.2.0/24"}, "192.0.2.7", true},
		{[]string{"0.0.0.0/0"}, "2001:db8::1", false},
	} {
		store := newClients()
		client := okta()
		client.Networks = test.networks
		text, _ := store.issue(t, client, time.Now(), time.Hour)
		v, counted := newTestVerifier(store)
		var remote netip.Addr
		if test.remote != "" {
			remote = netip.MustParseAddr(test.remote)
		}
		p, err := v.VerifyToken(t.Context(), text, remote)
		what := fmt.Sprintf("%q from %q", test.networks, test.remote)
		if !test.want {
			wantRefused(t, what, p, err, counted, Network)
		} else if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestParseNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.77/24":       "192.0.2.0/24",
		"192.0.2.7":           "192.0.2.7/32",
		"2001:db8::1/32":      "2001:db8::/32",
		"2001:db8::1":         "2001:db8::1/128",
		"::ffff:192.0.2.7":    "192.0.2.7/32",
		"::ffff:192.0.2.0/96": "",
		"fe80::1%eth0":        "",
		"192.0.2.0/33":        "",
		"example.com":         "",
		"":                    "",
	} {
		got, err := ParseNetwork(in)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("ParseNetwork(%q) = %v, %v; want %q", in, got, err, want)
		}
	}
}

// TestStoreFailure: nobody is let in when the store cannot be asked, and the
// caller can tell that from a refusal.
func TestStoreFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newClients()
		text, _ := store.issue(t, okta(), time.Now(), time.Hour)
		v, counted := newTestVerifier(store)
		if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
			t.Fatal(err)
		}
		store.change(func() { store.err = fmt.Errorf("disk: %w", storage.ErrUnavailable) })
		time.Sleep(cacheFor)
		p, err := v.VerifyToken(t.Context(), text, anywhere)
		if !errors.Is(err, storage.ErrUnavailable) || !reflect.DeepEqual(p, Principal{}) {
			t.Errorf("VerifyToken = %+v, %v; want ErrUnavailable", p, err)
		}
		if strings.Contains(err.Error(), text[20:63]) || strings.Contains(err.Error(), text[7:19]) {
			t.Errorf("the error tells the token: %v", err)
		}
		if got := counted.take(); got != nil {
			t.Errorf("counted as %q; want nothing, for it is no refusal", got)
		}
	})
}

func TestDamagedTokens(t *testing.T) {
	for name, damage := range map[string]func(*storage.Token, *storage.Client){
		"no hash":            func(k *storage.Token, _ *storage.Client) { k.Hash = nil },
		"short hash":         func(k *storage.Token, _ *storage.Client) { k.Hash = k.Hash[:31] },
		"no tenant":          func(_ *storage.Token, c *storage.Client) { c.Tenant = "" },
		"no client id":       func(k *storage.Token, c *storage.Client) { c.ID = "" },
		"of another client":  func(k *storage.Token, c *storage.Client) { c.ID = "c2" },
		"without a token id": func(k *storage.Token, _ *storage.Client) { k.ID = "" },
	} {
		store := newClients()
		text, token := store.issue(t, okta(), time.Now(), time.Hour)
		damage(token, store.clients["c1"])
		v, _ := newTestVerifier(store)
		p, err := v.VerifyToken(t.Context(), text, anywhere)
		if err == nil || !reflect.DeepEqual(p, Principal{}) {
			t.Errorf("%s: VerifyToken = %+v, %v; want an error", name, p, err)
		}
	}
}

// TestScopesOfANewerVersion: what this version does not know permits nothing and
// does no harm.
func TestScopesOfANewerVersion(t *testing.T) {
	store := newClients()
	client := okta()
	client.Scopes = []string{"users:read", "devices", "bulk:all"}
	text, _ := store.issue(t, client, time.Now(), time.Hour)
	v, _ := newTestVerifier(store)
	p, err := v.VerifyToken(t.Context(), text, anywhere)
	if err != nil || p.Scopes.String() != "users:read" || p.May(Write, "User") || p.May(Read, "Device") {
		t.Errorf("VerifyToken = %+v, %v; want users:read", p, err)
	}
}

func TestLastUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newClients()
		text, token := store.issue(t, okta(), time.Now(), time.Hour)
		v, counted := newTestVerifier(store)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- v.Run(ctx) }()

		began := time.Now()
		use := func() {
			t.Helper()
			if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		want := func(offsets ...time.Duration) {
			t.Helper()
			got := store.uses(token.ID)
			var at []time.Duration
			for _, u := range got {
				at = append(at, u.Sub(began))
			}
			if !slices.Equal(at, offsets) {
				t.Errorf("noted at %v; want %v", at, offsets)
			}
		}
		use()
		want(0)
		for range 59 { // through many cached answers
			time.Sleep(time.Second)
			use()
		}
		want(0)
		time.Sleep(time.Second)
		use()
		want(0, time.Minute)

		// A refused request is no use.
		time.Sleep(2 * time.Minute)
		_, _ = v.VerifyToken(t.Context(), withChecksum(text[:20]+strings.Repeat("x", 43)), anywhere)
		store.change(func() { store.clients["c1"].Revoked = time.Now() })
		time.Sleep(cacheFor)
		_, _ = v.VerifyToken(t.Context(), text, anywhere)
		synctest.Wait()
		want(0, time.Minute)
		counted.take()

		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v; want nil", err)
		}
	})
}

// TestLastUseIsReadFromTheStore: a process that did not see the last use does
// not note it again.
func TestLastUseIsReadFromTheStore(t *testing.T) {
	store := newClients()
	text, token := store.issue(t, okta(), time.Now(), time.Hour)
	token.LastUsed = time.Now().Add(-30 * time.Second)
	v, _ := newTestVerifier(store)
	if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
		t.Fatal(err)
	}
	if n := len(v.uses); n != 0 {
		t.Errorf("%d uses wait; want 0", n)
	}
}

// TestLastUseNeverHoldsUpRequests: nobody drains the queue, and nothing is lost
// but the note, which comes with a later use.
func TestLastUseNeverHoldsUpRequests(t *testing.T) {
	store := newClients()
	v, _ := newTestVerifier(store)
	var last string
	for range noteQueue + 10 {
		last, _ = store.issue(t, okta(), time.Now(), time.Hour)
		if _, err := v.VerifyToken(t.Context(), last, anywhere); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(v.uses); n != noteQueue {
		t.Errorf("%d uses wait; want %d", n, noteQueue)
	}
	for len(v.uses) > 0 {
		<-v.uses
	}
	if _, err := v.VerifyToken(t.Context(), last, anywhere); err != nil {
		t.Fatal(err)
	}
	if n := len(v.uses); n != 1 {
		t.Errorf("%d uses wait; want the one that was dropped before", n)
	}
}

func TestLastUseFailureIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newClients()
		text, token := store.issue(t, okta(), time.Now(), time.Hour)
		v, _ := newTestVerifier(store)
		var log bytes.Buffer
		v.Log = slog.New(slog.NewTextHandler(&log, nil))
		if _, err := v.VerifyToken(t.Context(), text, anywhere); err != nil {
			t.Fatal(err)
		}
		store.change(func() { store.err = storage.ErrUnavailable })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- v.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v; want nil", err)
		}
		if s := log.String(); !strings.Contains(s, "token_id="+token.ID) || strings.Contains(s, text[20:]) {
			t.Errorf("the log says %q", s)
		}
	})
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	store := newClients()
	var texts []string
	for i := range 8 {
		client := okta()
		client.ID = fmt.Sprintf("c%d", i)
		text, _ := store.issue(t, client, time.Now(), time.Hour)
		texts = append(texts, text)
	}
	v, _ := newTestVerifier(store)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = v.Run(ctx) })
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 500 {
				who := (i + n) % len(texts)
				p, err := v.VerifyToken(ctx, texts[who], anywhere)
				if want := fmt.Sprintf("c%d", who); err != nil || p.ID != want {
					t.Errorf("VerifyToken = %+v, %v; want client %s", p, err, want)
					return
				}
				switch n % 50 {
				case 0:
					v.Invalidate(p.Token)
				case 25:
					v.InvalidateClient(p.ID)
				}
			}
		})
	}
	wg.Wait()
	cancel()
	running.Wait()
}

// BenchmarkVerify is the price that every request pays.
func BenchmarkVerify(b *testing.B) {
	store := newClients()
	text, _ := store.issue(b, okta(), time.Now(), time.Hour)
	v := NewVerifier(store, time.Now)
	r := httptest.NewRequest("GET", "/scim/v2/Users?count=10", nil)
	r.Header.Set("Authorization", "Bearer "+text)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(ctx, r, anywhere); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefuse is what a guess costs us.
func BenchmarkRefuse(b *testing.B) {
	v := NewVerifier(newClients(), time.Now)
	text := newTestToken(b)
	r := httptest.NewRequest("GET", "/scim/v2/Users", nil)
	r.Header.Set("Authorization", "Bearer "+text[:69]+"!")
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(ctx, r, anywhere); err == nil {
			b.Fatal("accepted")
		}
	}
}
