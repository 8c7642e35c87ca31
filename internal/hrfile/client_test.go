package hrfile

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestPatience: an import goes on at the rate that its client has, however low, and ends
// where a server has no room for it or lets nothing through.
func TestPatience(t *testing.T) {
	for _, test := range []struct {
		status int
		until  time.Duration // from when on the server takes requests
		gives  bool          // up
		most   time.Duration
	}{
		{http.StatusTooManyRequests, time.Minute, false, 2 * time.Minute},
		{http.StatusTooManyRequests, time.Hour, true, 15 * time.Minute},
		{http.StatusServiceUnavailable, 2 * time.Second, false, 5 * time.Second},
		{http.StatusServiceUnavailable, time.Hour, true, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, err := NewClient("https://roster.example", "token")
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			c.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
				res := &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{}, Body: http.NoBody, Request: r}
				if time.Since(began) < test.until {
					res.StatusCode, res.Status = test.status, http.StatusText(test.status)
					res.Header.Set("Retry-After", "1")
				}
				return res, nil
			})
			err = c.do(t.Context(), http.MethodGet, "/Users", nil, nil)
			gave := err != nil && strings.Contains(err.Error(), http.StatusText(test.status))
			if took := time.Since(began); gave != test.gives || took > test.most {
				t.Errorf("%d for %s: %v after %s", test.status, test.until, err, took)
			}
		})
	}
}

// TestTokenStays: the token goes to the server that it is for, wherever that points to.
func TestTokenStays(t *testing.T) {
	c, err := NewClient("https://roster.example", "token")
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	c.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Host)
		h := http.Header{"Location": {"https://files.roster.example/scim/v2/Users"}} // to which net/http would send it, too
		return &http.Response{StatusCode: http.StatusTemporaryRedirect, Status: "307 Temporary Redirect", Header: h, Body: http.NoBody, Request: r}, nil
	})
	if err := c.do(t.Context(), http.MethodGet, "/Users", nil, nil); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("a redirect: %v", err)
	}
	if len(asked) != 1 {
		t.Errorf("asked %q", asked)
	}
}
