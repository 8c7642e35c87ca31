package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	mediaSCIM = "application/scim+json"
	// answerWithin bounds a request, so that a server that hangs ends the run.
	answerWithin = 60 * time.Second
	readBuffer   = 16 << 10
)

// conn is one keep-alive connection. It speaks just the HTTP/1.1 that a Go
// server answers with, because a general client costs about as much as the
// request it measures. What it returns is valid until the next request.
type conn struct {
	net.Conn
	stop    func() bool // ends the watch over the context
	base    string      // "/scim/v2": stands before every path
	headers string      // the fixed part of each request
	in      *bufio.Reader
	out     []byte

	method string
	path   []byte

	status   int
	location []byte
	body     []byte
	took     time.Duration // from the first byte written to the last one read
	done     time.Time
}

// dial opens a connection to a server. It breaks when ctx ends.
func dial(ctx context.Context, s *Server) (*conn, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	var d interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = &net.Dialer{}
	port := "80"
	if u.Scheme == "https" {
		// HTTP/1.1 is all the client speaks, and it is what the baseline gets.
		d, port = &tls.Dialer{Config: &tls.Config{NextProtos: []string{"http/1.1"}}}, "443"
	}
	if p := u.Port(); p != "" {
		port = p
	}
	nc, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	c := &conn{
		Conn: nc, base: strings.TrimSuffix(u.EscapedPath(), "/"), in: bufio.NewReaderSize(nc, readBuffer),
		headers: " HTTP/1.1\r\nHost: " + u.Host + "\r\nUser-Agent: roster-bench\r\n",
	}
	if s.Token != "" {
		c.headers += "Authorization: Bearer " + s.Token + "\r\n"
	}
	c.stop = context.AfterFunc(ctx, func() { nc.Close() })
	return c, nil
}

func (c *conn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// do sends a request for c.path and reads the answer.
func (c *conn) do(method string, body []byte) error {
	c.method = method
	c.out = append(append(c.out[:0], method...), ' ')
	c.out = append(append(c.out, c.base...), c.path...)
	c.out = append(c.out, c.headers...)
	if body != nil {
		c.out = append(c.out, "Content-Type: "+mediaSCIM+"\r\nContent-Length: "...)
		c.out = append(strconv.AppendInt(c.out, int64(len(body)), 10), "\r\n"...)
	}
	c.out = append(append(c.out, "\r\n"...), body...)
	start := time.Now()
	if err := c.SetDeadline(start.Add(answerWithin)); err != nil {
		return err
	}
	_, err := c.Write(c.out)
	if err == nil {
		err = c.read()
	}
	c.done = time.Now()
	c.took = c.done.Sub(start)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, c.path, err)
	}
	return nil
}

// read reads one response.
func (c *conn) read() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return fmt.Errorf("%q is not the beginning of an HTTP/1.1 response", line)
	}
	if c.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return fmt.Errorf("%q has no status", line)
	}
	length, chunked := -1, false
	c.location = c.location[:0]
	for {
		if line, err = c.line(); err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch len(name) { // lengths differ, and comparing them costs next to nothing
		case len("Content-Length"):
			if bytes.EqualFold(name, []byte("Content-Length")) {
				if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
					return fmt.Errorf("Content-Length %q", value)
				}
			}
		case len("Transfer-Encoding"):
			chunked = chunked || bytes.EqualFold(name, []byte("Transfer-Encoding")) && bytes.EqualFold(value, []byte("chunked"))
		case len("Location"):
			if bytes.EqualFold(name, []byte("Location")) {
				c.location = append(c.location, value...)
			}
		}
	}
	c.body = c.body[:0]
	switch {
	case c.status == 204 || c.status == 304:
		return nil
	case chunked:
		return c.chunks()
	case length >= 0:
		return c.take(length)
	}
	return errors.New("a response without a length")
}

func (c *conn) line() ([]byte, error) {
	l, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, unexpected(err)
	}
	return bytes.TrimRight(l, "\r\n"), nil
}

// take appends the next n bytes to the body.
func (c *conn) take(n int) error {
	at := len(c.body)
	if cap(c.body) < at+n {
		c.body = append(make([]byte, 0, 2*(at+n)), c.body...)
	}
	c.body = c.body[:at+n]
	_, err := io.ReadFull(c.in, c.body[at:])
	return unexpected(err)
}

func (c *conn) chunks() error {
	for {
		l, err := c.line()
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(l, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 31)
		if err != nil {
			return fmt.Errorf("%q is not the size of a chunk", l)
		}
		if n == 0 {
			for { // trailers
				if l, err = c.line(); err != nil || len(l) == 0 {
					return err
				}
			}
		}
		if err := c.take(int(n)); err != nil {
			return err
		}
		if l, err = c.line(); err != nil || len(l) > 0 {
			return errors.Join(err, errors.New("a chunk is longer than it says"))
		}
	}
}

// unexpected is for places where a response may not end.
func unexpected(err error) error {
	if err == io.EOF { //nolint:errorlint // bufio returns it bare
		return io.ErrUnexpectedEOF
	}
	return err
}

// wrong is the error for an answer that is not the right one.
func (c *conn) wrong(format string, args ...any) error {
	body := c.body
	if len(body) > 300 {
		body = body[:300]
	}
	return fmt.Errorf("%s %s: %s; the answer was %d %s", c.method, c.path, fmt.Sprintf(format, args...), c.status, body)
}

// expect fails unless the answer has this status and contains each of parts.
func (c *conn) expect(status int, parts ...string) error {
	if c.status != status {
		return c.wrong("expected status %d", status)
	}
	for _, p := range parts {
		// The parts are near the beginning, or at the end of a list.
		if !bytes.Contains(c.body, []byte(p)) {
			return c.wrong("expected %s", p)
		}
	}
	return nil
}

// madeID returns the id of the resource that the answer says was made.
func (c *conn) madeID() (string, error) {
	i := bytes.LastIndexByte(c.location, '/')
	if i < 0 || i == len(c.location)-1 {
		return "", c.wrong("expected a Location")
	}
	return string(c.location[i+1:]), nil
}

// number returns the last number called name in the answer: that of a list
// stands outside of its resources.
func (c *conn) number(name string) (int, error) {
	name = `"` + name + `":`
	i := bytes.LastIndex(c.body, []byte(name))
	if i < 0 {
		return 0, c.wrong("expected %s", name)
	}
	digits := bytes.TrimLeft(c.body[i+len(name):], " ")
	end := 0
	for end < len(digits) && '0' <= digits[end] && digits[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(string(digits[:end]))
	if err != nil {
		return 0, c.wrong("expected %s and a number", name)
	}
	return n, nil
}
