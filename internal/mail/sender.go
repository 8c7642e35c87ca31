package mail

import (
	"cmp"
	"context"
	"fmt"
	"io"
	stdmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"

	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
)

// Sender hands letters on. Its error is a *SendError where it knows more than that it
// failed.
type Sender interface {
	Send(ctx context.Context, l *Letter) error
}

// Reason is why a message was not sent.
type Reason string

// The reasons.
const (
	ReasonRefused     Reason = "refused"     // by a server, for good
	ReasonDeferred    Reason = "deferred"    // by a server, for now
	ReasonUnreachable Reason = "unreachable" // there was no connection to the server
	ReasonTLS         Reason = "tls"         // the connection could not be made safe
	ReasonSignIn      Reason = "sign-in"     // the server did not accept the user name and password
	ReasonCut         Reason = "cut"         // the connection ended on the way
	ReasonAddress     Reason = "address"     // the server cannot send to such an address
	ReasonExpired     Reason = "expired"     // the message lost its sense before it could be sent
	ReasonSealed      Reason = "sealed"      // the key that the message was sealed with is not there
	ReasonFailed      Reason = "failed"      // something else
)

// SendError says why a letter was not sent. Its text has nothing of the letter; what
// the server said, which may, is in Detail.
type SendError struct {
	Reason Reason
	Code   int // the reply code of SMTP, or 0
	// Permanent: it makes no sense to try again.
	Permanent bool
	// Relay: any other letter would fare the same.
	Relay bool
	// Detail is for whoever sends a test; it may hold the address.
	Detail string
}

func (e *SendError) Error() string {
	if e.Code == 0 {
		return "mail was not sent: " + string(e.Reason)
	}
	return fmt.Sprintf("mail was not sent: %s (%d)", e.Reason, e.Code)
}

// ParseFrom reads the address that mail comes from: roster@example.com or Roster
// <roster@example.com>.
func ParseFrom(s string) (*stdmail.Address, error) {
	a, err := stdmail.ParseAddress(s)
	if err != nil || checkAddress(a.Address) != nil || a.Name != oneLine(a.Name) {
		return nil, &FieldError{"from", "is no address; write it like roster@example.com or Roster <roster@example.com>"}
	}
	return a, nil
}

// compose makes a message of a letter.
func compose(from *stdmail.Address, l *Letter) (*gomail.Msg, error) {
	to, err := asciiDomain(l.To)
	if err != nil {
		return nil, &SendError{Reason: ReasonAddress, Permanent: true, Detail: "the domain of the address is none"}
	}
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithEncoding(gomail.EncodingQP))
	m.FromMailAddress(from)
	m.ToMailAddress(&stdmail.Address{Address: to})
	m.Subject(l.Subject)
	_, domain, _ := strings.Cut(from.Address, "@")
	m.SetMessageIDWithValue(l.ID + "@" + domain)
	m.SetDateWithValue(l.Date.UTC())
	// Or out-of-office replies come back (RFC 3834).
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetGenHeader("Content-Language", l.Language)
	m.SetBodyString(gomail.TypeTextPlain, l.Text)
	m.AddAlternativeString(gomail.TypeTextHTML, l.HTML)
	return m, nil
}

// asciiDomain writes the domain of an address as every server understands it.
func asciiDomain(address string) (string, error) {
	i := strings.LastIndexByte(address, '@')
	domain, err := idna.Lookup.ToASCII(address[i+1:])
	return address[:i+1] + domain, err
}

// Folder is a Sender that writes each letter into a file of its own.
type Folder struct {
	Path string
	From *stdmail.Address
}

// Send writes <id>.eml, for its owner only.
func (f *Folder) Send(_ context.Context, l *Letter) error {
	m, err := compose(f.From, l)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.Path, 0o700); err != nil {
		return err
	}
	// In one step, for who watches the folder.
	file, err := os.CreateTemp(f.Path, ".mail-*")
	if err != nil {
		return err
	}
	_, err = m.WriteTo(file)
	err = cmp.Or(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(f.Path, l.ID+".eml"))
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// Stream is a Sender that writes letters one after the other.
type Stream struct {
	W    io.Writer
	From *stdmail.Address

	mu sync.Mutex
}

// Send writes a letter and an empty line.
func (s *Stream) Send(_ context.Context, l *Letter) error {
	m, err := compose(s.From, l)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := m.WriteTo(s.W); err != nil {
		return err
	}
	_, err = io.WriteString(s.W, "\r\n")
	return err
}

// Outbox is a Sender that keeps letters, for tests.
type Outbox struct {
	mu      sync.Mutex
	letters []Letter
	changed chan struct{}
}

// Send keeps a letter.
func (o *Outbox) Send(_ context.Context, l *Letter) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.letters = append(o.letters, *l)
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return nil
}

// Letters returns what has been sent, waiting for at least n letters until ctx ends.
func (o *Outbox) Letters(ctx context.Context, n int) []Letter {
	for {
		o.mu.Lock()
		list := append([]Letter(nil), o.letters...)
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		if len(list) >= n {
			return list
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return list
		}
	}
}
