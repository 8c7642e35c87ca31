package scim

import (
	"net/http"
	"strconv"
	"sync"
)

// flushAt is how much of a response is held back: enough that nearly all go out
// in one piece with their length, little enough that a list of anything needs
// no more.
const flushAt = 64 << 10

// stream collects a response body and sends it in portions.
type stream struct {
	w      http.ResponseWriter
	status int
	buf    []byte
	sent   bool
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, flushAt+(16<<10)); return &b }}

func newStream(w http.ResponseWriter, status int) *stream {
	return &stream{w: w, status: status, buf: (*buffers.Get().(*[]byte))[:0]}
}

// room sends what has been collected when it is enough. Once something is
// sent an error cannot become an error response any more.
func (s *stream) room() error {
	if len(s.buf) < flushAt {
		return nil
	}
	return s.send()
}

func (s *stream) send() error {
	if !s.sent {
		s.sent = true
		s.w.WriteHeader(s.status)
	}
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

// close sends the rest.
func (s *stream) close() error {
	if !s.sent {
		s.w.Header().Set("Content-Length", strconv.Itoa(len(s.buf)))
	}
	err := s.send()
	s.release()
	return err
}

func (s *stream) release() {
	if cap(s.buf) <= 4*flushAt {
		b := s.buf[:0]
		buffers.Put(&b)
	}
	s.buf = nil
}

// fail ends a response that cannot be completed. Before anything was sent the
// error becomes the response, without what described the resource; afterwards the
// server cuts the connection, so that half a body is never taken for a whole one
// (see Route.Serve).
func (s *stream) fail(err error) error {
	s.release()
	if !s.sent {
		for _, name := range []string{"ETag", "Location", "Content-Location"} {
			s.w.Header().Del(name)
		}
	}
	return err
}
