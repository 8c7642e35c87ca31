package bench

import (
	"strings"
	"testing"
)

// The baseline answers with the bytes it was given, and stores what it is sent.
func TestServeBaseline(t *testing.T) {
	user, page := `{"id":"u","userName":"ana"}`, `{"Resources":[]}`
	s, err := (&inProcess{t: t}).Baseline(t.Context(), []byte(user), []byte(page), 300)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	c, err := dial(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	do := func(method, path string, body []byte, status int, want string) {
		t.Helper()
		c.path = []byte(path)
		if err := c.do(method, body); err != nil {
			t.Fatal(err)
		}
		if c.status != status || !strings.Contains(string(c.body), want) {
			t.Errorf("%s %s = %d %s, want %d %s", method, path, c.status, c.body, status, want)
		}
	}
	do("GET", "/fixed", nil, 200, user)
	do("GET", "/page", nil, 200, page)
	do("GET", "/row/"+rowID(0), nil, 200, user)
	do("GET", "/row/"+rowID(299), nil, 200, user)
	do("GET", "/row/"+rowID(300), nil, 404, "no such resource")
	do("POST", "/row", []byte(`{"userName":"bo"}`), 201, "bo")
	do("GET", string(c.location), nil, 200, `{"userName":"bo"}`)
}
