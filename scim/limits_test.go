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
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// userOfSize returns a user whose JSON is exactly this many bytes, nearly all of
// them in an attribute that nobody knows.
func userOfSize(name string, size int) string {
	head := `{"schemas":["` + schemas.UserURI + `"],"userName":"` + name + `","shoeSize":"`
	return head + strings.Repeat("a", size-len(head)-2) + `"}`
}

// TestLimitsAreOfWhatIsKept: what is never kept of a resource is no part of it, however much
// else there is.
func TestLimitsAreOfWhatIsKept(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	if err := s.Provider.Define(t.Context(), operator(), schemas.CustomSchema{
		ResourceType: &schemas.TypeDefinition{Name: "Thing", Endpoint: "/Things"},
		Schema: schemas.SchemaDefinition{ID: thingURN, Attributes: []schemas.AttributeDefinition{
			{Name: "note"}, {Name: "displayName", Returned: "never"}, {Name: "codes", MultiValued: true, Mutability: "writeOnly", Returned: "never"},
			{Name: "locks", Type: "complex", MultiValued: true, SubAttributes: []schemas.SubAttributeDefinition{{Name: "hint"}, {Name: "code", Returned: "never"}}},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	list := func(value string, n int) string { return "[" + strings.Repeat(value+",", n-1) + value + "]" }
	for what, want := range map[string]int{
		`"displayName":"` + strings.Repeat("x", scim.MaxKey+1) + `"`:   201,
		`"codes":` + list(`"x"`, scim.MaxValues+1):                     201,
		`"locks":` + list(`{"code":"x"}`, scim.MaxValues+1):            201,
		`"locks":` + list(`{"hint":"x"}`, scim.MaxValues):              201,
		`"locks":` + list(`{"hint":"x","code":"x"}`, scim.MaxValues+1): 400,
	} {
		for _, note := range []int{1, 2 * scim.MaxKey} {
			r, err := s.Try(t.Context(), "POST", "/Things", `{"schemas":["`+thingURN+`"],"note":"`+strings.Repeat("n", note)+`",`+what+`}`)
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != want {
				t.Errorf("%.40s… beside %d bytes: %d %.200s", what, note, r.Status, r.Body)
			}
		}
	}
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
	for count, want := range map[string]int{"": 1000, "999": 999, "1000": 1000, "1001": 1000, "999999": 1000} {
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
			if !strings.Contains(r.Body, `"totalResults":1001`) {
				t.Errorf("GET /Users?%s: not all are counted", q.Encode())
			}
		}
	}
}

// uploads are POST requests to a handler without a server, so that time is the
// test's own.
type uploads struct {
	create scim.Route
}

func newUploads(t *testing.T) uploads {
	t.Helper()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	h := scim.NewHandler(&scim.Provider{Schemas: set, Now: time.Now}, func(*http.Request) string { return "" })
	for _, r := range h.Routes() {
		if r.Method == "POST" && r.Path == "/Users" {
			return uploads{r}
		}
	}
	t.Fatal("no route creates users")
	return uploads{}
}

// send posts a body, of unknown length unless size is given, and returns the
// status. Bodies in these tests are no JSON, so the best there is is 400.
func (u uploads) send(t *testing.T, client string, body io.Reader, size ...int64) int {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, "POST", "/Users", body)
	for _, n := range size {
		req.ContentLength = n
	}
	by := auth.Principal{Kind: auth.Client, Tenant: "default", ID: client, Scopes: usersAndGroups()}
	w := httptest.NewRecorder()
	e := scim.WriteError(w, req, u.create.Serve(httptest.NewRecorder(), req, by))
	if e.Status == 503 && w.Header().Get("Retry-After") == "" {
		t.Error("the 503 does not say when to come again")
	}
	return e.Status
}

// begin starts an upload that has sent the first n bytes and nothing since. end
// ends it, early, and returns its status.
func (u uploads) begin(t *testing.T, client string, n int, size ...int64) (end func() int) {
	r, w := io.Pipe()
	status := make(chan int, 1)
	go func() { status <- u.send(t, client, r, size...) }()
	go func() { _, _ = w.Write(make([]byte, n)) }()
	synctest.Wait()
	return func() int {
		w.CloseWithError(io.ErrUnexpectedEOF)
		return <-status
	}
}

// TestSlowUploads: what a client announces and does not send keeps nobody waiting,
// however many connections do that.
func TestSlowUploads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUploads(t)
		var ends []func() int
		for range 500 {
			ends = append(ends, u.begin(t, "slow", 1, scim.MaxBody), u.begin(t, "slow", 1))
		}
		for _, client := range []string{"slow", "other"} {
			start := time.Now()
			if got := u.send(t, client, strings.NewReader(strings.Repeat("x", scim.MaxBody))); got != 400 || time.Since(start) > 0 {
				t.Errorf("a megabyte of the client %s: %d after %s, want 400 at once", client, got, time.Since(start))
			}
		}
		for _, end := range ends {
			if got := end(); got != 400 {
				t.Errorf("a body that ends early: got %d, want 400", got)
			}
		}
	})
}

// TestBodiesInMemory: bodies under way take 64 MiB and no more, those of one
// client 16 MiB; who comes then waits for room, is told to come again when there
// is none, and finds room when the others are gone.
func TestBodiesInMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUploads(t)
		const most = scim.MaxBody - 1
		small := func() io.Reader { return strings.NewReader("x") }
		var ends []func() int
		for i := range 64 {
			client := fmt.Sprint("c", i/16)
			ends = append(ends, u.begin(t, client, most, scim.MaxBody))
			if i == 15 {
				if got := u.send(t, "c0", small()); got != 503 {
					t.Errorf("a client with 16 MiB of bodies under way: got %d, want 503", got)
				}
				if got := u.send(t, "c1", small()); got != 400 {
					t.Errorf("another client: got %d, want 400", got)
				}
			}
		}
		start := time.Now()
		if got := u.send(t, "other", small()); got != 503 {
			t.Errorf("with 64 MiB of bodies under way: got %d, want 503", got)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("refused after %s, want 5 s", took)
		}
		waiting := make(chan int)
		go func() { waiting <- u.send(t, "other", small()) }()
		synctest.Wait()
		if got := ends[0](); got != 400 {
			t.Errorf("a body that ends early: got %d, want 400", got)
		}
		if got := <-waiting; got != 400 {
			t.Errorf("one that waited for room: got %d, want 400", got)
		}
		for _, end := range ends[1:] {
			end()
		}
		for range 64 {
			if got := u.send(t, "other", strings.NewReader(strings.Repeat("x", scim.MaxBody))); got != 400 {
				t.Errorf("when all is over: got %d, want 400", got)
			}
		}
	})
}

// TestSlowReadersHoldNoBody: the room of a body is free as soon as the change is
// made, not when the answer has been read.
func TestSlowReadersHoldNoBody(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	h := scim.NewHandler(s.Provider, func(*http.Request) string { return "" })
	var create scim.Route
	for _, r := range h.Routes() {
		if r.Method == "POST" && r.Path == "/Users" {
			create = r
		}
	}
	by := auth.Principal{Kind: auth.Client, Tenant: storage.DefaultTenant, ID: "c", Scopes: usersAndGroups()}
	send := func(i int, w http.ResponseWriter) error {
		body := strings.NewReader(userOfSize(fmt.Sprint("u", i), scim.MaxBody))
		return create.Serve(w, httptest.NewRequestWithContext(t.Context(), "POST", "/Users", body), by)
	}
	read := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 20 {
		answering, ended := make(chan struct{}), make(chan struct{})
		wg.Go(func() {
			defer close(ended)
			if err := send(i, &slowReader{ResponseRecorder: httptest.NewRecorder(), begun: answering, read: read}); err != nil {
				t.Errorf("request %d: %v", i, err) // it has waited for the readers of the others
			}
		})
		select {
		case <-answering:
		case <-ended:
		}
	}
	close(read)
	wg.Wait()
}

// slowReader is a client that begins to read its answer when read is closed.
type slowReader struct {
	*httptest.ResponseRecorder
	begun, read chan struct{}
}

func (s *slowReader) Write(b []byte) (int, error) {
	close(s.begun)
	<-s.read
	return s.ResponseRecorder.Write(b)
}

func usersAndGroups() auth.Scopes {
	s, err := auth.ParseScopes([]string{"users", "groups"})
	if err != nil {
		panic(err)
	}
	return s
}
