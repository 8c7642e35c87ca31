package scim_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestScripts plays every script in testdata. Each has a server of its own. When all
// were played, docs/conformance.md has to be what they show.
func TestScripts(t *testing.T) {
	played := played{passed: map[string]bool{}}
	t.Cleanup(func() { played.check(t) })
	scimtest.Run(t, os.DirFS("testdata"), func(t *testing.T) *scimtest.Runner {
		t.Parallel()
		played.watch(t)
		r := runner(t, testserver.Options{})
		r.Check = wellFormed
		return r
	})
}

// TestScriptsOnMongoDB plays them on the other store, whose answers are to be those
// of the embedded one to the byte, but for what is new each time.
func TestScriptsOnMongoDB(t *testing.T) {
	raced.Skip(t)
	database := mongotest.Start(t)
	scimtest.Run(t, os.DirFS("testdata"), func(t *testing.T) *scimtest.Runner {
		t.Parallel()
		want := playEmbedded(t)
		r := runner(t, testserver.Options{Open: func(t testing.TB) storage.Store {
			s, err := mongo.Open(t.Context(), database.URI(database.NewDatabase(t)), mongo.Options{QueryTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}})
		renew := newRenewed()
		r.Check = func(x *scimtest.Exchange) error {
			if len(want) == 0 {
				return errors.New("the embedded store had no such answer")
			}
			diff := cmp.Diff(want[0], renew.text(r.URL, x))
			want = want[1:]
			if diff != "" {
				return fmt.Errorf("the answer differs (-SQLite +MongoDB):\n%s", diff)
			}
			return wellFormed(x)
		}
		return r
	})
}

// runner starts the server of the script that t plays, with the schemas that a file beside
// the script defines, if there is one.
func runner(t *testing.T, opt testserver.Options) *scimtest.Runner {
	t.Helper()
	s := testserver.Start(t, opt)
	_, name, _ := strings.Cut(t.Name(), "/")
	text, err := os.ReadFile("testdata/" + name + ".json")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.Runner(t)
	case err != nil:
		t.Fatal(err)
	}
	var definitions []schemas.CustomSchema
	if err := json.Unmarshal(text, &definitions); err != nil {
		t.Fatal(err)
	}
	if err := s.Provider.Define(t.Context(), operator(), definitions...); err != nil {
		t.Fatal(err)
	}
	return s.Runner(t)
}

// playEmbedded plays the script of a test on the embedded store and returns the
// answers.
func playEmbedded(t *testing.T) (answers []string) {
	t.Helper()
	_, name, _ := strings.Cut(t.Name(), "/")
	name += ".txt"
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	script, err := scimtest.Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	r, renew := runner(t, testserver.Options{}), newRenewed()
	r.Check = func(x *scimtest.Exchange) error {
		answers = append(answers, renew.text(r.URL, x))
		return nil
	}
	if err := r.Play(t.Context(), script); err != nil {
		t.Errorf("on the embedded store: %v", err)
	}
	return answers
}

// renewed gives what is new each time a script is played a name that is not: ids, and
// sums of ids in versions, by the order in which they come up.
type renewed map[string]string

func newRenewed() renewed { return renewed{} }

func (n renewed) name(s string) string {
	if n[s] == "" {
		n[s] = fmt.Sprintf("new-%d", len(n)+1)
	}
	return n[s]
}

var (
	isID     = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	isSum    = regexp.MustCompile(`W/\\?"[0-9]+\.[0-9a-f]{1,8}`)
	isTime   = regexp.MustCompile(`20[2-9][0-9]-[0-9]{2}-[0-9]{2}T[0-9:.]+Z`)
	isCursor = regexp.MustCompile(`"(nextCursor|previousCursor)":"[^"]+"`)
)

// text is all of an answer.
func (n renewed) text(url string, x *scimtest.Exchange) string {
	h := x.Header.Clone()
	for _, name := range []string{"Date", "X-Request-Id", "Content-Length"} { // times are not all of a length
		h.Del(name)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", x.Status)
	_ = h.Write(&b) // a builder takes all
	b.Write(x.Body)
	text := strings.ReplaceAll(b.String(), url, "")
	text = isID.ReplaceAllStringFunc(text, n.name)
	text = isSum.ReplaceAllStringFunc(text, func(version string) string {
		number, sum, _ := strings.Cut(version, ".")
		return number + "." + n.name(sum)
	})
	return isCursor.ReplaceAllString(isTime.ReplaceAllString(text, "time"), `"$1":"cursor"`)
}

// wellFormed is what every response has to be, whatever the script is about.
func wellFormed(x *scimtest.Exchange) error {
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := x.Header.Get(name); got != want {
			return fmt.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if x.Header.Get("X-Request-Id") == "" {
		return fmt.Errorf("there is no X-Request-Id")
	}
	if len(x.Body) == 0 {
		return nil
	}
	body, ok := x.JSON.(map[string]any)
	if !ok {
		return fmt.Errorf("the body is no JSON object")
	}
	if ct := x.Header.Get("Content-Type"); ct != "application/scim+json" && ct != "application/json" {
		return fmt.Errorf("Content-Type: %q", ct)
	}
	if err := noneEmpty("$", body); err != nil {
		return err
	}
	uri := fmt.Sprint(body["schemas"].([]any)[0])
	switch {
	case x.Status >= 400:
		return wellFormedError(x.Status, uri, body)
	case uri == scim.ListResponseURI:
		return wellFormedList(body, strings.Contains(x.URL, "cursor") || x.Method == "POST")
	}
	meta, _ := body["meta"].(map[string]any)
	if meta == nil {
		return nil // not asked for
	}
	if l, ok := meta["location"]; ok && l != x.Header.Get("Location") {
		return fmt.Errorf("meta.location is %s, Location %s", l, x.Header.Get("Location"))
	}
	if v, ok := meta["version"]; ok && v != x.Header.Get("ETag") {
		return fmt.Errorf("meta.version is %s, ETag %s", v, x.Header.Get("ETag"))
	}
	return nil
}

// wellFormedError checks RFC 7644 §3.12.
func wellFormedError(status int, uri string, body map[string]any) error {
	detail, _ := body["detail"].(string)
	switch {
	case uri != scim.ErrorURI:
		return fmt.Errorf("an error with the schema %s", uri)
	case body["status"] != fmt.Sprint(status):
		return fmt.Errorf("an error of status %d says %#v", status, body["status"])
	case detail == "":
		return fmt.Errorf("an error without detail")
	}
	return nil
}

// wellFormedList checks RFC 7644 §3.4.2, or RFC 9865 where a list may be by cursor.
func wellFormedList(body map[string]any, byCursor bool) error {
	_, indexed := body["startIndex"]
	_, more := body["nextCursor"]
	switch {
	case indexed && more:
		return fmt.Errorf("a list with startIndex and nextCursor")
	case byCursor && !indexed:
		body = maps.Clone(body)
		body["startIndex"] = body["totalResults"]
	}
	for _, name := range []string{"totalResults", "startIndex", "itemsPerPage"} {
		if n, ok := body[name].(interface{ Int64() (int64, error) }); !ok {
			return fmt.Errorf("a list without %s", name)
		} else if _, err := n.Int64(); err != nil {
			return fmt.Errorf("%s is no integer: %v", name, n)
		}
	}
	list, ok := body["Resources"].([]any)
	if !ok {
		return fmt.Errorf("Resources is no list")
	}
	if got := fmt.Sprint(body["itemsPerPage"]); got != fmt.Sprint(len(list)) {
		return fmt.Errorf("itemsPerPage is %s of %d", got, len(list))
	}
	return nil
}

// noneEmpty looks for what has no place in any response: null, an object without
// members, and a password. (A list may be empty: an extension may be required of
// no type.)
func noneEmpty(at string, v any) error {
	switch v := v.(type) {
	case nil:
		return fmt.Errorf("%s is null", at)
	case map[string]any:
		if len(v) == 0 {
			return fmt.Errorf("%s is an empty object", at)
		}
		for name, e := range v {
			if strings.EqualFold(name, "password") {
				return fmt.Errorf("%s has a password", at)
			}
			if err := noneEmpty(at+"."+name, e); err != nil {
				return err
			}
		}
	case []any:
		for _, e := range v {
			if err := noneEmpty(at+"[]", e); err != nil {
				return err
			}
		}
	}
	return nil
}
