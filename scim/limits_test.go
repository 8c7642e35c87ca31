package scim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// userOfSize returns a user whose JSON is exactly this many bytes, nearly all of
// them in an attribute that nobody knows.
func userOfSize(name string, size int) string {
	head := `{"schemas":["` + schemas.UserURI + `"],"userName":"` + name + `","shoeSize":"`
	return head + strings.Repeat("a", size-len(head)-2) + `"}`
}

// TestBodySize: a body of 1 MiB is read, one byte more is 413, whether its length
// is told beforehand or not.
func TestBodySize(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	for _, test := range []struct {
		name    string
		size    int
		chunked bool
		want    int
	}{
		{"least", scim.MaxBody - 1, false, 201},
		{"exactly", scim.MaxBody, false, 201},
		{"more", scim.MaxBody + 1, false, 413},
		{"much-more", 8 * scim.MaxBody, false, 413},
		{"exactly-chunked", scim.MaxBody, true, 201},
		{"more-chunked", scim.MaxBody + 1, true, 413},
		{"much-more-chunked", 3 * scim.MaxBody, true, 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			var body io.Reader = strings.NewReader(userOfSize(test.name, test.size))
			if test.chunked {
				body = struct{ io.Reader }{body} // hides the length
			}
			req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/Users", body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+s.Token)
			resp, err := s.HTTP.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.want {
				t.Errorf("a body of %d bytes: got %d %s, want %d", test.size, resp.StatusCode, text, test.want)
			}
			if test.want == 413 && !strings.Contains(string(text), fmt.Sprint(scim.MaxBody)) {
				t.Errorf("the error does not tell the limit: %s", text)
			}
		})
	}
}

// TestBytesThatAreNoJSON: what encoding/json would let pass, and what cannot be
// written in a script.
func TestBytesThatAreNoJSON(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	user := func(name string) string {
		return `{"schemas":["` + schemas.UserURI + `"],"userName":"` + name + `"}`
	}
	for name, body := range map[string]string{
		"a byte order mark":          "\ufeff" + user("bo"),
		"UTF-16":                     "{\x00}\x00",
		"a byte that is not UTF-8":   user("b\xff"),
		"half a character":           user("b\xc3"),
		"a surrogate in UTF-8":       user("b\xed\xa0\x80"),
		"an overlong character":      user("b\xc0\xaf"),
		"not UTF-8 in a name":        `{"schemas":["` + schemas.UserURI + `"],"userName":"bo","sh` + "\xff" + `":1}`,
		"a control character":        user("b\n"),
		"the character zero":         user("b\x00"),
		"the zero escape":            user(`b\u0000`),
		"half a surrogate pair":      user(`b\ud83d`),
		"a second value":             user("bo") + user("cy"),
		"a bracket after the value":  user("bo") + "]",
		"a comma after the value":    user("bo") + ",",
		"a comment":                  user("bo") + "// done",
		"NaN":                        `{"schemas":["` + schemas.UserURI + `"],"userName":"bo","shoeSize":NaN}`,
		"a number with a plus":       `{"schemas":["` + schemas.UserURI + `"],"userName":"bo","shoeSize":+1}`,
		"a name twice":               `{"schemas":["` + schemas.UserURI + `"],"userName":"bo","userName":"bo"}`,
		"a name in two cases":        `{"schemas":["` + schemas.UserURI + `"],"userName":"bo","username":"cy"}`,
		"an unknown name in two":     `{"schemas":["` + schemas.UserURI + `"],"userName":"bo","x":1,"X":2}`,
		"a name escaped":             `{"schemas":["` + schemas.UserURI + `"],"userName":"bo","\u0075serName":"cy"}`,
		"a name twice among many":    manyNames("N7"),
		"a sub-attribute twice":      `{"schemas":["` + schemas.UserURI + `"],"userName":"bo","name":{"givenName":"a","GIVENNAME":"b"}}`,
		"twice in an unknown object": `{"schemas":["` + schemas.UserURI + `"],"userName":"bo","x":[{"y":1,"Y":2}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := s.Do(t, "POST", "/Users", body)
			if r.Status != 400 || !strings.Contains(r.Body, `"scimType":"invalidSyntax"`) {
				t.Errorf("got %d %s, want 400 invalidSyntax", r.Status, r.Body)
			}
		})
	}
	if r := s.Do(t, "GET", "/Users?count=0", ""); !strings.Contains(r.Body, `"totalResults":0`) {
		t.Errorf("something was created: %s", r.Body)
	}
	if r := s.Do(t, "POST", "/Users", manyNames("M7")+" \r\n\t"); r.Status != 201 {
		t.Errorf("many names, none of them twice: %d %s", r.Status, r.Body)
	}
}

// manyNames is a user with so many attributes that they are not compared one by
// one any more, and one called extra.
func manyNames(extra string) string {
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, `,"n%d":0`, i)
	}
	return `{"schemas":["` + schemas.UserURI + `"],"userName":"many"` + b.String() + `,"` + extra + `":1}`
}

// TestUnfinishedBody: a client that goes away in the middle of its body has
// created nothing.
func TestUnfinishedBody(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	for _, length := range []int64{500, -1} {
		r, w := io.Pipe()
		go func() {
			_, _ = io.WriteString(w, `{"schemas":["`+schemas.UserURI+`"],"userName":"half"`)
			w.CloseWithError(errors.New("gone"))
		}()
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/Users", r)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		req.Header.Set("Authorization", "Bearer "+s.Token)
		if resp, err := s.HTTP.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode < 400 {
				t.Errorf("half a body of length %d: %s", length, resp.Status)
			}
		}
	}
	if r := s.Do(t, "GET", "/Users?count=0", ""); !strings.Contains(r.Body, `"totalResults":0`) {
		t.Errorf("something was created: %s", r.Body)
	}
}

// TestURLLength: 8 KiB are accepted, one byte more is 414.
func TestURLLength(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	const limit = 8 << 10
	path := "/Users?x="
	for extra, want := range map[int]int{0: 200, 1: 414} {
		fill := limit + extra - len(testserver.Base+path)
		if r := s.Do(t, "GET", path+strings.Repeat("a", fill), ""); r.Status != want {
			t.Errorf("a URL of %d bytes: got %d, want %d", limit+extra, r.Status, want)
		}
	}
}

// TestCountLimits: no page is longer than the configuration says, and it is that
// long when asked.
func TestCountLimits(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	s.Users(t, scim.MaxCount+1)
	for count, want := range map[string]int{"": scim.DefaultCount, "499": 499, "500": 500, "501": 500, "999999": 500} {
		for _, filter := range []string{"", `userName sw "u"`} {
			q := url.Values{}
			if count != "" {
				q.Set("count", count)
			}
			if filter != "" {
				q.Set("filter", filter)
			}
			r := s.Do(t, "GET", "/Users?"+q.Encode(), "")
			if got := strings.Count(r.Body, `"userName"`); got != want || !strings.Contains(r.Body, fmt.Sprintf(`"itemsPerPage":%d}`, want)) {
				t.Errorf("GET /Users?%s: %d users, want %d", q.Encode(), got, want)
			}
			if !strings.Contains(r.Body, `"totalResults":501`) {
				t.Errorf("GET /Users?%s: not all are counted", q.Encode())
			}
		}
	}
}

// TestBodiesInMemory: bodies of requests under way take 64 MiB and no more; who
// comes then waits for room, is told to come again when there is none, and finds
// room when the others are gone.
func TestBodiesInMemory(t *testing.T) {
	t.Parallel()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := scim.NewHandler(&scim.Provider{Schemas: set, Now: time.Now}, func(*http.Request) string { return "" })
		var create scim.Route
		for _, r := range h.Routes() {
			if r.Method == "POST" && r.Path == "/Users" {
				create = r
			}
		}
		by := auth.Principal{Kind: auth.Operator, Tenant: "default"}
		send := func(body io.Reader) error {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			req := httptest.NewRequestWithContext(ctx, "POST", "/Users", body)
			return create.Serve(httptest.NewRecorder(), req, by)
		}
		status := func(err error) int {
			w := httptest.NewRecorder()
			return scim.WriteError(w, httptest.NewRequest("POST", "/Users", nil), err).Status
		}

		var slow []*io.PipeWriter
		ended := make(chan error)
		for range 64 {
			r, w := io.Pipe()
			slow = append(slow, w)
			go func() { ended <- send(r) }()
		}
		synctest.Wait() // all 64 have their megabyte and wait for its first byte
		err := send(strings.NewReader("x"))
		if got := status(err); got != 503 {
			t.Errorf("with 64 MiB of bodies under way: got %d (%v), want 503", got, err)
		}
		w := httptest.NewRecorder()
		if scim.WriteError(w, httptest.NewRequest("POST", "/", nil), err); w.Header().Get("Retry-After") == "" {
			t.Error("the 503 does not say when to come again")
		}

		waiting := make(chan error)
		go func() { waiting <- send(strings.NewReader("x")) }()
		synctest.Wait()
		slow[0].CloseWithError(io.ErrUnexpectedEOF)
		if got := status(<-ended); got != 400 {
			t.Errorf("a body that ends early: got %d, want 400", got)
		}
		if got := status(<-waiting); got != 400 {
			t.Errorf("one that waited for room, with a body that is no JSON: got %d, want 400", got)
		}
		for _, w := range slow[1:] {
			w.CloseWithError(io.ErrUnexpectedEOF)
			<-ended
		}
		for range 64 {
			if got := status(send(strings.NewReader("x"))); got != 400 {
				t.Errorf("when all is over: got %d, want 400", got)
			}
		}
	})
}
