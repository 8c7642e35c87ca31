package bench

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

// serveRaw answers every request with the same bytes and returns where.
func serveRaw(t *testing.T, response string, hangUp bool) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					if line != "\r\n" {
						continue
					}
					if _, err := io.WriteString(c, response); err != nil || hangUp {
						return
					}
				}
			}()
		}
	}()
	return &Server{URL: "http://" + l.Addr().String() + "/scim/v2"}
}

func TestConnReads(t *testing.T) {
	long := strings.Repeat("x", 3*readBuffer)
	for _, c := range []struct {
		name, response string
		status         int
		body           string
	}{
		{"with a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"},
		{"in lower case", "HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello", 200, "hello"},
		{"empty", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, ""},
		{"without a body", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""},
		{"longer than the buffer", "HTTP/1.1 200 OK\r\nContent-Length: 49152\r\n\r\n" + long, 200, long},
		{"in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", 200, "hello"},
		{"in chunks with a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nC000\r\n" + long + "\r\n0\r\nA: b\r\n\r\n", 200, long},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := dial(t.Context(), serveRaw(t, c.response, false))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for range 2 { // what one answer leaves unread would spoil the next
				conn.path = []byte("/Users")
				if err := conn.do("GET", nil); err != nil {
					t.Fatal(err)
				}
				if conn.status != c.status || string(conn.body) != c.body {
					t.Errorf("got %d and %d bytes, want %d and %d bytes", conn.status, len(conn.body), c.status, len(c.body))
				}
			}
		})
	}
}

func TestConnRefuses(t *testing.T) {
	for _, c := range []struct{ name, response, want string }{
		{"nothing", "", "unexpected EOF"},
		{"not HTTP", "SSH-2.0-OpenSSH\r\n\r\n", "not the beginning"},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "unexpected EOF"},
		{"half of the chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "unexpected EOF"},
		{"a chunk that is longer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", "longer than it says"},
		{"a chunk without a size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "not the size"},
		{"a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"},
		{"no length at all", "HTTP/1.1 200 OK\r\n\r\nhello", "without a length"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := dial(t.Context(), serveRaw(t, c.response, true))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.path = []byte("/Users")
			if err := conn.do("GET", nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("do = %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestExpect(t *testing.T) {
	c := &conn{method: "GET", path: []byte("/Users"), status: 200}
	c.body = []byte(`{"totalResults":12,"Resources":[{"id":"a"}],"itemsPerPage": 1}`)
	c.location = []byte("http://127.0.0.1/scim/v2/Users/a")
	if err := c.expect(200, `"id":"a"`, `"totalResults":12`); err != nil {
		t.Errorf("expect: %v", err)
	}
	if err := c.expect(201); err == nil {
		t.Error("expect(201): no error")
	}
	if err := c.expect(200, `"id":"b"`); err == nil {
		t.Error(`expect(200, "id":"b"): no error`)
	}
	for name, want := range map[string]int{"totalResults": 12, "itemsPerPage": 1} {
		if got, err := c.number(name); got != want || err != nil {
			t.Errorf("number(%s) = %d, %v, want %d", name, got, err, want)
		}
	}
	if _, err := c.number("startIndex"); err == nil {
		t.Error("number(startIndex): no error")
	}
	if id, err := c.madeID(); id != "a" || err != nil {
		t.Errorf("madeID() = %s, %v", id, err)
	}
	c.location = nil
	if _, err := c.madeID(); err == nil {
		t.Error("madeID without a Location: no error")
	}
}
